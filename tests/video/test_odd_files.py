"""Files as cameras, browsers and tools write them: read right, or refused with what they are."""

import os
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fsar.video import FrameCache, VideoError, probe, read_frames, read_frames_at, stream_frames
from fsar.video.paths import as_path
from tests.video.test_reading import encode, greys, index_of

WHITE_TOP_LEFT = np.zeros((48, 64, 3), np.uint8)
WHITE_TOP_LEFT[:24, :32] = 255


def rewrite(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


def with_matrix(path: Path, matrix: Sequence[float]) -> Path:
    """Write a display matrix into an mp4: a, b, c, d."""
    content = bytearray(path.read_bytes())
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    at = content.index(b"tkhd") + 44
    last = 1 << 30 if any(matrix) else 0
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, last)
    path.write_bytes(content)
    return path


def white_corner(frame: np.ndarray) -> str:
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    corners = {
        "top left": frame[:height, :width],
        "top right": frame[:height, width:],
        "bottom left": frame[height:, :width],
        "bottom right": frame[height:, width:],
    }
    return max(corners, key=lambda name: corners[name].mean())


def mux(path: Path, streams: Iterable[tuple[str, np.ndarray, int]], fps: int = 25) -> Path:
    """Write several streams of pictures, each with a codec, frames and a disposition."""
    with av.open(os.fspath(path), "w") as container:
        made = []
        for codec, frames, disposition in streams:
            stream = container.add_stream(codec, rate=fps)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            made.append((stream, frames))
        for stream, frames in made:
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return path


# --------------------------------------------------------------------------- how pictures are shown


@pytest.mark.parametrize(
    ("matrix", "corner", "mirrored"),
    [
        ((-1, 0, 0, 1), "top right", True),
        ((1, 0, 0, -1), "bottom left", True),
        ((0, 1, 1, 0), "top left", True),
        ((0, 0, 0, 0), "top left", False),
    ],
)
def test_mirrored_and_zero_matrices(tmp_path: Path, matrix: tuple[int, ...], corner: str, mirrored: bool) -> None:
    path = with_matrix(encode(tmp_path / "a.mp4", np.stack([WHITE_TOP_LEFT] * 3)), matrix)
    assert white_corner(read_frames(path, 1)[0]) == corner
    assert white_corner(next(iter(stream_frames(path, 32)))) == corner
    assert probe(path).mirrored == mirrored


def test_pixels_that_are_not_square_are_squared(tmp_path: Path) -> None:
    """A circle stays a circle."""
    down, across = np.mgrid[:144, :176]
    inside = ((across - 88) * 1.5) ** 2 + (down - 72) ** 2 < 60**2
    circle = np.where(inside[..., None], 255, 0).astype(np.uint8).repeat(3, 2)
    path = tmp_path / "a.mp4"
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(circle, format="rgb24")))
        container.mux(stream.encode())
    info = probe(path)
    assert (info.width, info.height) == (264, 144)
    bright = read_frames(path, 1)[0, ..., 0] > 128
    assert bright.any(0).sum() == pytest.approx(bright.any(1).sum(), abs=3) == pytest.approx(120, abs=3)
    assert next(iter(stream_frames(path, 72))).shape == (72, 132, 3)


@pytest.mark.parametrize("sizes", [((48, 64), (96, 128)), ((96, 128), (48, 64)), ((48, 64), (64, 48))])
def test_size_changes_are_scaled_to_the_first_size(tmp_path: Path, sizes: tuple[tuple[int, int], ...]) -> None:
    parts = [encode(tmp_path / f"{i}.ts", greys(20, *size)[10 * i :][:10]) for i, size in enumerate(sizes)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = read_frames(path, None)
    assert frames.shape == (20, *sizes[0], 3)
    assert index_of(frames) == list(range(20))
    assert index_of(np.stack(list(stream_frames(path, 32)))) == list(range(20))


def test_interlaced_frames_show_one_moment(tmp_path: Path) -> None:
    """Lines of two moments alternate: bright above, dark below."""
    comb = np.zeros((48, 64, 3), np.uint8)
    comb[::2] = 200
    path = encode(tmp_path / "a.mp4", np.stack([comb] * 4), pix_fmt="yuv444p", options={"x264-params": "tff=1:qp=1"})
    assert probe(path).interlaced
    frames = read_frames(path, 2)
    assert np.abs(frames.astype(int) - 200).max() < 12
    plain = encode(tmp_path / "b.mp4", np.stack([comb] * 4), pix_fmt="yuv444p", options={"x264-params": "qp=1"})
    assert not probe(plain).interlaced and read_frames(plain, 1)[0, 1].mean() < 20


# --------------------------------------------------------------------------- which stream, which pictures


DEFAULT = int(av.stream.Disposition.default)


def test_the_film_is_read_and_not_its_thumbnail(tmp_path: Path) -> None:
    thumbnail, film, small = greys(1) + np.uint8(200), greys(12), greys(12, 32, 32)
    unmarked = mux(tmp_path / "a.mkv", [("mjpeg", thumbnail, DEFAULT), ("libx264", film, DEFAULT)])
    assert index_of(read_frames(unmarked, 4)) == [1, 4, 7, 10]
    marked = mux(tmp_path / "b.mkv", [("libx264", greys(14, 64, 64), 0), ("libx264", film, DEFAULT)])
    assert probe(marked).frames == 12
    larger = mux(tmp_path / "c.mkv", [("libx264", small, DEFAULT), ("libx264", film, DEFAULT)])
    assert probe(larger).width == 64


def not_coded(path: Path, frames: np.ndarray, skipped: set[int]) -> Path:
    """Write MPEG-4 as XviD does: packets in `skipped` say that their picture is the one before."""
    encoder = av.CodecContext.create("mpeg4", "w")
    encoder.height, encoder.width = frames.shape[1:3]
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    encoder.options = {"bf": "0", "g": "300"}
    pictures = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]
    coded = iter([bytes(packet) for picture in [*pictures, None] for packet in encoder.encode(picture)])
    nothing = b"\0\0\1\xb6" + int("0101000011001111", 2).to_bytes(2, "big") + b"\x7f\x7f"
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for i in range(len(frames) + len(skipped)):
            packet = av.Packet(nothing if i in skipped else next(coded))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 25)
            packet.is_keyframe = i == 0
            container.mux(packet)
    return path


@pytest.mark.parametrize("skipped", [{9, 10, 11}, {3}, set(range(4, 12))])
def test_packets_that_code_nothing_are_no_frames(tmp_path: Path, skipped: set[int]) -> None:
    path = not_coded(tmp_path / "a.avi", greys(20), skipped)
    assert probe(path).frames == 20 and probe(path).damaged == 0
    assert index_of(read_frames(path, 8)) == [1, 3, 6, 8, 11, 13, 16, 18]


def test_fields_that_come_alone_are_half_a_frame(tmp_path: Path) -> None:
    """In a transport stream the two fields of MPEG-2 may be two packets, and are one picture."""
    options = {"flags": "+ilme+ildct"}
    path = encode(tmp_path / "a.ts", greys(20), "mpeg2video", options=options)
    assert probe(path).frames == 20
    assert index_of(read_frames(path, 4)) == [2, 7, 12, 17]


# --------------------------------------------------------------------------- time


def test_frames_at_given_times(tmp_path: Path) -> None:
    times = [0, 40, 90, 100, 500, 520, 1500, 1600, 1700, 4000]
    path = encode(tmp_path / "a.mkv", greys(10), times=times)
    assert index_of(read_frames_at(path, [0.0, 0.05, 0.5, 3.9, 1.65, 4.0])) == [0, 1, 4, 8, 7, 9]
    assert index_of(read_frames(path, 4, "time")) == [4, 6, 8, 8]
    with pytest.raises(VideoError, match=r"9 s lies outside of it; it lasts 4\.\d* s"):
        read_frames_at(path, [1.0, 9.0])
    with pytest.raises(ValueError, match="no time to read a frame at"):
        read_frames_at(path, [])
    Image.new("RGB", (64, 48)).save(tmp_path / "1.jpg")
    path.unlink()
    with pytest.raises(VideoError, match="a folder of frames has no times"):
        read_frames_at(tmp_path, [1.0])


def test_a_duration_beyond_the_last_picture_is_no_cut(tmp_path: Path) -> None:
    """Recordings of screens and calls: the duration is that of the recording."""
    slow = encode(tmp_path / "a.wmv", greys(6), "wmv2", times=[5000 * i for i in range(6)])
    assert probe(slow).frames == 6
    long = encode(tmp_path / "a.webm", greys(20), "libvpx")
    content = bytearray(long.read_bytes())
    at = content.index(b"\x44\x89\x88") + 3
    content[at : at + 8] = struct.pack(">d", 8000.0)
    long.write_bytes(content)
    assert probe(long).frames == 20


# --------------------------------------------------------------------------- damage


def packets(path: Path) -> list[bytes]:
    with av.open(os.fspath(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def overwrite(path: Path, numbers: Iterable[int]) -> Path:
    """Replace the content of some packets."""
    content, coded = path.read_bytes(), packets(path)
    for number in numbers:
        content = content.replace(coded[number], b"\xff" * len(coded[number]))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.mp4", "mpeg4")]
)
def test_bad_packets_are_left_out_and_counted(tmp_path: Path, name: str, codec: str) -> None:
    options = {"g": "5", "bf": "0"} if codec != "libvpx-vp9" else {"g": "5", "lag-in-frames": "0", "cpu-used": "8"}
    path = overwrite(encode(tmp_path / name, greys(20), codec, options=options), [12])
    info = probe(path)
    assert 1 <= info.damaged <= 3 and 17 <= info.frames <= 20
    frames = read_frames(path, None)
    assert len(frames) == info.frames
    found = index_of(frames)
    assert found[:12] == list(range(12)) and found[-5:] == list(range(15, 20))
    assert read_frames(path, 8).shape == (8, 48, 64, 3)
    np.testing.assert_array_equal(read_frames(path, 8), read_frames(path, 8))
    assert len(list(stream_frames(path, 32))) == info.frames


def test_pictures_that_go_with_a_damaged_one_are_counted_too(tmp_path: Path) -> None:
    """A decoder may drop pictures without an error until its next key frame."""
    options = {"x265-params": "keyint=5:min-keyint=5:bframes=0:log-level=none"}
    path = overwrite(encode(tmp_path / "a.mp4", greys(20), "libx265", options=options), [10])
    info = probe(path)
    assert info.damaged >= 20 - info.frames >= 1


def test_too_much_damage_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", greys(20), options={"g": "5", "bf": "0"})
    overwrite(path, [*range(2, 5), *range(7, 13)])
    for read in (probe, read_frames, lambda video: list(stream_frames(video, 32))):
        with pytest.raises(VideoError, match=r"\d+ of its 20 pictures are damaged or lost; copy it again"):
            read(path)


def test_pictures_lost_with_a_part_of_the_container_are_counted(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3)).astype(np.uint8)
    options = {"g": "10", "lag-in-frames": "0", "cpu-used": "8"}
    path = encode(tmp_path / "a.webm", noise, "libvpx", options=options, muxer={"cluster_time_limit": "500"})
    content = bytearray(path.read_bytes())
    at = content.index(packets(path)[30]) - 8
    content[at : at + 2500] = np.random.default_rng(1).integers(0, 256, 2500, dtype=np.uint8).tobytes()
    path.write_bytes(content)
    info = probe(path)
    assert info.frames < 60 and info.damaged >= 60 - info.frames


# --------------------------------------------------------------------------- what a file is


@pytest.mark.parametrize("tag", ["title", "artist"])
@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mov", "a.mkv", "a.wmv"])
def test_metadata_of_any_encoding(tmp_path: Path, name: str, tag: str) -> None:
    codec = {"a.avi": "mpeg4", "a.wmv": "wmv2"}.get(name, "libx264")
    path = tmp_path / name
    with av.open(os.fspath(path), "w") as container:
        container.metadata[tag] = "QQQQQQ"
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in greys(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    wide = name == "a.wmv"
    rewrite(path, "QQQQQQ".encode("utf-16-le" if wide else "ascii"), b"\xff\xfe\xb2\xe2\xca\xd4" * (2 if wide else 1))
    assert index_of(read_frames(path, None)) == [0, 1, 2]


PLAYLISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile '{}'\n",
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "call.sdp": "v=0\no=- 0 0 IN IP4 1.1.1.1\ns=-\nc=IN IP4 1.1.1.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_no_playlist_opens_other_files(tmp_path: Path, small_video: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(small_video.name))
    for read in (probe, read_frames):
        with pytest.raises(VideoError, match="it is a playlist, which names other files; give the video itself"):
            read(path)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", Path(os.devnull)):
        for read in (probe, FrameCache(tmp_path / "cache").read):
            with pytest.raises(VideoError, match="it is a pipe, socket or device; give a regular file"):
                read(path)


def test_what_cannot_be_decoded_says_what_it_is(tmp_path: Path) -> None:
    unknown = rewrite(encode(tmp_path / "a.mp4", greys(3)), b"avc1", b"zzz1")
    with pytest.raises(VideoError, match="no decoder for its pictures is installed; convert it"):
        probe(unknown)
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb"}
    key |= {"encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}
    protected = encode(tmp_path / "b.mp4", greys(3), muxer=key)
    with pytest.raises(VideoError, match=r"it is encrypted \(copy protection, DRM\)"):
        probe(protected)
    (tmp_path / "clips").mkdir()
    encode(tmp_path / "clips" / "a.mp4", greys(3))
    Image.new("RGB", (64, 48)).save(tmp_path / "clips" / "poster.jpg")
    with pytest.raises(VideoError, match="it is a folder of clips"):
        probe(tmp_path / "clips")


def test_animated_images(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(frame) for frame in greys(10)]
    how = {"save_all": True, "append_images": others, "lossless": True}
    first.save(tmp_path / "a.webp", duration=[100] * 9 + [1100], **how)
    info = probe(tmp_path / "a.webp")
    assert (info.frames, info.duration, info.width, info.height) == (10, 2.0, 64, 48)
    assert index_of(read_frames(tmp_path / "a.webp", None)) == list(range(10))
    assert index_of(read_frames(tmp_path / "a.webp", 2, "time")) == [5, 9]
    assert index_of(read_frames(tmp_path / "a.webp", None, start=0.3, end=0.6)) == [3, 4, 5]
    assert index_of(np.stack(list(stream_frames(tmp_path / "a.webp", 48)))) == list(range(10))
    first.save(tmp_path / "one.jpg", quality=95)
    assert index_of(read_frames(tmp_path / "one.jpg", 2)) == [0, 0]
    (tmp_path / "b.webp").write_bytes((tmp_path / "a.webp").read_bytes()[:200])
    with pytest.raises(VideoError):
        read_frames(tmp_path / "b.webp")


# --------------------------------------------------------------------------- folders of frames


def save(folder: Path, images: dict[str, Image.Image], **how: object) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        image.save(folder / name, **how)
    return folder


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        (1, "top left"),
        (2, "top right"),
        (3, "bottom right"),
        (4, "bottom left"),
        (5, "top left"),
        (6, "top right"),
        (7, "bottom right"),
        (8, "bottom left"),
    ],
)
def test_frames_are_turned_by_their_exif_orientation(tmp_path: Path, orientation: int, corner: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    folder = save(tmp_path, {f"{i}.jpg": Image.fromarray(WHITE_TOP_LEFT) for i in range(2)}, exif=exif, quality=95)
    frame = read_frames(folder, 1)[0]
    assert white_corner(frame) == corner
    assert frame.shape[:2] == ((64, 48) if orientation > 4 else (48, 64))
    assert (probe(folder).height, probe(folder).width) == frame.shape[:2]


def test_sixteen_bits_are_brought_to_eight(tmp_path: Path) -> None:
    depth = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    frame = read_frames(save(tmp_path, {"1.png": Image.fromarray(depth)}), 1)[0]
    np.testing.assert_array_equal(frame[..., 0], np.round(depth / 257).astype(np.uint8))


@pytest.mark.parametrize(
    "names",
    [
        ["0.25", "0.5", "0.75", "1.0", "10.5"],
        ["0", "0.25", "0.5", "1"],
        ["v1.1", "v1.2", "v1.9", "v1.10", "v1.11"],
        ["frame9", "frame010", "frame11"],
        ["1700000000123456788", "1700000000123456789", "1700000000123456790"],
    ],
)
def test_frames_are_sorted_by_their_numbers(tmp_path: Path, names: list[str]) -> None:
    images = {f"{name}.png": Image.fromarray(frame) for name, frame in zip(names, greys(len(names)), strict=True)}
    assert index_of(read_frames(save(tmp_path, images), None)) == list(range(len(names)))


def test_a_superscript_is_no_number(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 48))
    assert probe(save(tmp_path, {"a²1.jpg": image, "a²2.jpg": image})).frames == 2


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(20000, 9000), (9000, 8000)])
def test_an_image_too_large_to_open_is_named(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = save(tmp_path, {"1.png": Image.new("L", size)})
    with pytest.raises(VideoError, match=r"1\.png"):
        read_frames(folder)


# --------------------------------------------------------------------------- paths


class Pathlike(os.PathLike):
    def __init__(self, path: Path):
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_paths_of_every_type(small_video: Path) -> None:
    for path in (small_video, str(small_video), os.fsencode(small_video), Pathlike(small_video)):
        assert probe(path).frames == 20
        assert index_of(read_frames(path, 4)) == [2, 7, 12, 17]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "an empty path for a video"),
        ("https://host/a.mp4", "https://host/a.mp4 is a URL, and only files are read; download it"),
        (Path("https://host/a.mp4"), "is a URL"),
        (None, "got NoneType for a video; expected the path"),
        (np.zeros((8, 64, 64, 3), np.uint8), "got ndarray for a video; expected the path"),
        (7, "got int for a video"),
    ],
)
def test_what_is_no_path_says_what_was_expected(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_path(given)
