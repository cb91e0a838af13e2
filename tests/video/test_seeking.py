"""Frames had by seeking are those that decoding all gives, one by one; what is not safe is not sought."""

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer

from fsar.video import decode, index, read_frames, stream_frames
from fsar.video.container import opened
from fsar.video.index import Index
from fsar.video.scan import scan
from fsar.video.walk import packets_of
from tests.video.test_odd_files import overwrite, packets
from tests.video.test_reading import encode

FRAMES = 48


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Seek in short videos as in long ones, in a cache of the test's own."""
    monkeypatch.setattr(index, "_FEW_FRAMES", 0)
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))


def moving(count: int = FRAMES) -> np.ndarray:
    """A textured square that moves over texture: no two frames are alike, and each is predicted from others."""
    rng = np.random.default_rng(0)
    ground, square = rng.integers(0, 120, (48, 64, 3)), rng.integers(120, 255, (16, 16, 3))
    frames = np.stack([np.roll(ground, i // 2, 1) for i in range(count)]).astype(np.uint8)
    for i, frame in enumerate(frames):
        x, y = 3 * i % 48, 5 * i % 32
        frame[y : y + 16, x : x + 16] = square
    return frames


H264, HEVC = {"g": "8", "bf": "2"}, "keyint=8:min-keyint=8:log-level=none:bframes=2"
FILES: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264, closed groups": ("a.mp4", "libx264", H264),
    "h264, open groups": ("a.mp4", "libx264", H264 | {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}),
    "h264, no B-frames": ("a.mov", "libx264", {"g": "8", "bf": "0"}),
    "h264 in matroska": ("a.mkv", "libx264", H264 | {"x264-params": "open-gop=1"}),
    "h264 in flv": ("a.flv", "libx264", H264),
    "h264 in a transport stream": ("a.ts", "libx264", H264),
    "h264, open, transport stream": ("a.ts", "libx264", H264 | {"x264-params": "open-gop=1"}),
    "hevc, closed groups": ("a.mp4", "libx265", {"x265-params": HEVC + ":open-gop=0"}),
    "hevc, open groups": ("a.mp4", "libx265", {"x265-params": HEVC + ":open-gop=1"}),
    "vp8": ("a.webm", "libvpx", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "8"}),
    "vp9": ("a.webm", "libvpx-vp9", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "8"}),
    "vp9 in mp4": ("a.mp4", "libvpx-vp9", {"g": "8", "lag-in-frames": "8", "cpu-used": "8"}),
    "av1": ("a.mp4", "libsvtav1", {"g": "8", "preset": "12"}),
    "mpeg-4": ("a.mp4", "mpeg4", {"g": "8", "bf": "2"}),
    "mpeg-2": ("a.mp4", "mpeg2video", {"g": "8", "bf": "2"}),
    "only key frames": ("a.mkv", "mjpeg", {}),
}


def made(path: Path, codec: str, options: dict[str, str], times: Sequence[int] | None = None) -> Path:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return encode(path, moving(), codec, pix_fmt, fps=25, times=times, options=options)


def every_frame(path: Path) -> np.ndarray:
    """Decode a file from start to end by PyAV alone."""
    with av.open(os.fspath(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def index_of_file(path: Path) -> Index:
    with opened(path) as container:
        return scan(path, container)


@pytest.mark.parametrize("kind", FILES)
def test_seeking_gives_the_frames_of_decoding_all(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, codec, options = FILES[kind]
    path = made(tmp_path / name, codec, options)
    whole = every_frame(path)
    found = index_of_file(path)
    assert found.seekable and found.frames == len(whole) == FRAMES
    assert len(found.keys) >= FRAMES // 8 - 1
    for refused in ("from_start", "check"):
        monkeypatch.setattr(decode, refused, None)  # whatever decodes the file whole fails
    with opened(path) as container:
        for number, picture in decode.by_seeking(container, found, range(FRAMES)):
            np.testing.assert_array_equal(picture.to_ndarray(format="rgb24"), whole[number])
        for number in (FRAMES - 1, 0, 17, 16, 31, 7, 8, 9):  # any order, each from a new start
            ((_, picture),) = decode.by_seeking(container, found, [number])
            np.testing.assert_array_equal(picture.to_ndarray(format="rgb24"), whole[number])
    np.testing.assert_array_equal(read_frames(path, 5), whole[[4, 14, 24, 33, 43]])
    np.testing.assert_array_equal(read_frames(path, 5), whole[[4, 14, 24, 33, 43]])  # by the index that is kept


def test_seeking_follows_a_rate_that_varies(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).integers(1, 400, FRAMES)).tolist()
    for name in ("a.mp4", "a.mkv"):
        path = made(tmp_path / name, "libx264", H264, times)
        whole, found = every_frame(path), index_of_file(path)
        assert found.seekable and len(whole) == FRAMES
        with opened(path) as container:
            for number, picture in decode.by_seeking(container, found, range(FRAMES)):
                np.testing.assert_array_equal(picture.to_ndarray(format="rgb24"), whole[number])


def test_only_groups_with_wanted_frames_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.mp4", "libx264", {"g": "8", "bf": "0", "sc_threshold": "0"})
    seen = []
    from_key = decode._from_key

    def counted(*arguments: object) -> object:
        for picture in from_key(*arguments):  # type: ignore[arg-type]
            seen.append(picture.pts)
            yield picture

    monkeypatch.setattr(decode, "_from_key", counted)
    read_frames(path, 2)  # frames 12 and 36, of the groups that begin at 8 and 32
    assert len(seen) == 5 + 5


def test_a_segment_is_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.mp4", "libx264", H264)
    whole = every_frame(path)
    monkeypatch.setattr(decode, "from_start", None)
    np.testing.assert_array_equal(read_frames(path, None, start=1.0, end=1.4), whole[25:35])
    assert len(list(stream_frames(path, 48, start=1.0, end=1.4))) == 10


def test_an_mp4s_tables_tell_what_its_packets_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counted(container: InputContainer, *streams: av.VideoStream) -> Iterator[av.Packet]:
        for packet in packets_of(container, *streams):
            read.append(packet)
            yield packet

    monkeypatch.setattr("fsar.video.scan.packets_of", counted)
    varying = np.cumsum(np.random.default_rng(0).integers(1, 400, FRAMES)).tolist()
    for kind in ("h264, open groups", "hevc, open groups", "av1", "mpeg-4"):
        name, codec, options = FILES[kind]
        for times in (None, varying):
            path = made(tmp_path / f"{codec}{name}", codec, options, times)
            found, packets = [], []
            for by_tables in (True, False):
                read.clear()
                with opened(path) as container:
                    found.append(scan(path, container, by_tables))
                packets.append(len(read))
            assert packets[0] < FRAMES / 2 < FRAMES <= packets[1]
            for of_tables, of_packets in zip(vars(found[0]).values(), vars(found[1]).values(), strict=True):
                np.testing.assert_equal(of_tables, of_packets)


def test_an_edit_list_that_leaves_packets_out(tmp_path: Path) -> None:
    """Frames that an editor cut away are in the file and are not shown."""
    path = made(tmp_path / "a.mp4", "libx264", {"g": "8", "bf": "0"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4
    content[at + 12 : at + 16] = (10 * 512).to_bytes(4, "big")  # media time: ten frames later
    path.write_bytes(content)
    whole = every_frame(path)
    assert len(whole) < FRAMES
    np.testing.assert_array_equal(read_frames(path, None), whole)
    assert index_of_file(path).frames == len(whole)


# --------------------------------------------------------------------------- what is not as the index says


def test_a_file_without_times_is_decoded_from_its_start(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h264", "libx264", H264)
    assert not index_of_file(path).seekable
    np.testing.assert_array_equal(read_frames(path, 5), every_frame(path)[[4, 14, 24, 33, 43]])


def test_keys_that_are_no_key_frames_are_noticed(tmp_path: Path) -> None:
    """With gradual refresh, some frames are marked as key frames, and pictures before them are needed all the same."""
    path = made(tmp_path / "a.mp4", "libx264", {"g": "8", "bf": "0", "intra-refresh": "1"})
    np.testing.assert_array_equal(read_frames(path, 5), every_frame(path)[[4, 14, 24, 33, 43]])


@pytest.mark.parametrize("damaged", [13, 24, 40])
def test_damage_changes_a_result_only_where_it_lies(tmp_path: Path, damaged: int) -> None:
    """And the result does not depend on what was read before."""
    path = overwrite(made(tmp_path / "a.mp4", "libx264", {"g": "8", "bf": "0"}), [damaged])
    first = {count: read_frames(path, count) for count in (2, 6)}
    again = {count: read_frames(path, count) for count in (6, 2)}
    for count, frames in first.items():
        np.testing.assert_array_equal(frames, again[count])


def test_a_long_file_that_is_damaged_is_decoded_whole(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mkv", "libx264", {"g": "8", "bf": "0"})
    overwrite(path, [17])
    pictures = []
    with av.open(os.fspath(path)) as container:
        for packet in container.demux(video=0):
            try:
                pictures += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.FFmpegError:
                continue
    assert len(pictures) == FRAMES - 1
    assert len(packets(path)) == FRAMES
    np.testing.assert_array_equal(read_frames(path, 4), np.stack(pictures)[[5, 17, 29, 41]])


def test_a_decoder_that_is_set_up_anew_midway_is_not_sought(tmp_path: Path) -> None:
    """Recordings of calls: the size changes, and the decoder's setup lies in the packets before the change."""
    parts = [made(tmp_path / f"{i}.ts", "libx264", H264) for i in range(2)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    whole = every_frame(path)
    np.testing.assert_array_equal(read_frames(path, 6), whole[[8, 24, 40, 56, 72, 88]])
    assert Fraction(len(whole)) == 2 * FRAMES
