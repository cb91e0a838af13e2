"""Which frames are chosen, and that the right ones come out of every kind of video."""

import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from fsar.video.paths import VideoError
from fsar.video.reading import VideoInfo, probe, read_frames
from fsar.video.sampling import SAMPLINGS, frame_indices
from fsar.video.writing import write_video
from tests.conftest import GOLDEN


def greys(count: int = 20, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose brightness tells their index: 10 i + 20."""
    return np.stack([np.full((height, width, 3), 10 * i + 20, np.uint8) for i in range(count)])


def index_of(frames: np.ndarray) -> list[int]:
    """The indices that `greys` painted."""
    return [round((float(frame.mean()) - 20) / 10) for frame in frames]


def encode(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 10,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    sound: bool = False,
    drop: int = 0,
) -> Path:
    """Write a video as other programs might: `times` in milliseconds, `drop` packets lost at the start."""
    with av.open(os.fspath(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        voice = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        packets = []
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            packets += stream.encode(frame)
        for packet in (packets + stream.encode())[drop:]:
            container.mux(packet)
        if voice is not None:
            for start in range(0, 16000 * len(frames) // fps, 1024):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                samples.sample_rate, samples.pts, samples.time_base = 16000, start, Fraction(1, 16000)
                container.mux(voice.encode(samples))
            container.mux(voice.encode())
    return path


# --------------------------------------------------------------------------- which frames

GOLDEN_FRAMES = load_file(GOLDEN / "frame_sampling.safetensors")


@pytest.mark.parametrize(
    ("published", "sampling", "fps"),
    [
        ("taskadapter_test_0based", "tsn", None),
        ("taskadapter_test_0based", "task-adapter", None),
        ("trx_test", "trx", None),
        ("clipfsar_k100_test_fps30", "clip-fsar-interval", 30.0),
    ],
)
def test_evaluation_frames_are_those_of_the_public_codes(published: str, sampling: str, fps: float | None) -> None:
    cases = {int(key.rpartition(".n")[2]): GOLDEN_FRAMES[key] for key in GOLDEN_FRAMES if key.startswith(published)}
    assert len(cases) == 10
    for frames, expected in cases.items():
        np.testing.assert_array_equal(frame_indices(frames, 8, sampling, fps), expected, f"{frames} frames")


@settings(deadline=None, max_examples=200)
@given(
    frames=st.integers(1, 2000),
    count=st.integers(1, 64),
    sampling=st.sampled_from(sorted(SAMPLINGS)),
    fps=st.none() | st.floats(1, 240),
    seed=st.none() | st.integers(0, 100),
)
def test_indices_are_as_many_as_asked_and_in_range(
    frames: int, count: int, sampling: str, fps: float | None, seed: int | None
) -> None:
    first, second = (
        frame_indices(frames, count, sampling, fps, None if seed is None else np.random.default_rng(seed))
        for _ in range(2)
    )
    assert len(first) == count
    assert first.min() >= 0 and first.max() < frames
    np.testing.assert_array_equal(first, second)
    if sampling != "clip-fsar-interval":
        assert (np.diff(first) >= 0).all()


@settings(deadline=None, max_examples=200)
@given(frames=st.integers(1, 500), count=st.integers(1, 40), seed=st.integers(0, 100))
def test_a_training_draw_lies_within_its_segment(frames: int, count: int, seed: int) -> None:
    drawn = frame_indices(frames, count, "tsn", rng=np.random.default_rng(seed))
    segment = np.arange(count)
    assert (drawn >= segment * frames // count).all()
    assert (drawn < -(-(segment + 1) * frames // count)).all()


def test_training_draws_differ_and_reach_the_whole_segment() -> None:
    rng = np.random.default_rng(0)
    draws = np.stack([frame_indices(80, 8, "tsn", rng=rng) for _ in range(300)])
    assert [set(column) for column in draws.T] == [set(range(10 * i, 10 * i + 10)) for i in range(8)]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_short_video_repeats_frames(sampling: str) -> None:
    assert len(frame_indices(1, 8, sampling)) == 8
    assert set(frame_indices(1, 8, sampling)) == {0}
    assert frame_indices(3, 8, "tsn").tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("frames", "count", "sampling", "message"),
    [
        (0, 8, "tsn", "8 frames out of 0"),
        (9, 0, "tsn", "0 frames out of 9"),
        (9, 8, "tns", "'tns'; did you mean 'tsn'"),
    ],
)
def test_wrong_settings_say_so(frames: int, count: int, sampling: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frame_indices(frames, count, sampling)


def test_a_wrong_setting_is_not_blamed_on_the_video(small_video: Path) -> None:
    with pytest.raises(ValueError, match="unknown frame sampling") as raised:
        read_frames(small_video, 8, "tns")
    assert not isinstance(raised.value, VideoError)


# --------------------------------------------------------------------------- every container

CONTAINERS = [
    ("a.mp4", "libx264", "yuv420p"),
    ("a.m4v", "libx264", "yuv420p"),
    ("a.mov", "libx264", "yuv420p"),
    ("a.3gp", "libx264", "yuv420p"),
    ("a.mkv", "libx264", "yuv420p"),
    ("a.flv", "libx264", "yuv420p"),
    ("a.ts", "libx264", "yuv420p"),
    ("a.avi", "mpeg4", "yuv420p"),
    ("a.webm", "libvpx-vp9", "yuv420p"),
    ("vp8.webm", "libvpx", "yuv420p"),
    ("a.wmv", "wmv2", "yuv420p"),
    ("a.mpg", "mpeg2video", "yuv420p"),
    ("a.mpeg", "mpeg1video", "yuv420p"),
    ("a.gif", "gif", "rgb8"),
    ("10bit.mp4", "libx264", "yuv420p10le"),
    ("10bit-hevc.mp4", "libx265", "yuv420p10le"),
    ("lossless.mkv", "ffv1", "yuv444p"),
    ("motion-jpeg.avi", "mjpeg", "yuvj420p"),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), CONTAINERS, ids=[name for name, _, _ in CONTAINERS])
def test_the_right_frames_come_from_every_container(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = encode(tmp_path / name, greys(), codec, pix_fmt, fps=25)
    assert index_of(read_frames(path, None)) == list(range(20))
    assert index_of(read_frames(path, 8)) == [1, 3, 6, 8, 11, 13, 16, 18]
    assert read_frames(path, 8).shape == (8, 48, 64, 3)
    info = probe(path)
    assert (info.frames, info.width, info.height, info.rotation) == (20, 64, 48, 0)
    assert info.fps == pytest.approx(25)
    assert info.duration == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png"])
def test_a_folder_of_frames_is_a_video_in_natural_order(tmp_path: Path, suffix: str) -> None:
    for i, pixels in enumerate(greys(12)):
        Image.fromarray(pixels).save(tmp_path / f"frame{i}.{suffix}")
    Image.fromarray(greys()[0]).save(tmp_path / f".hidden.{suffix}")
    (tmp_path / "notes.txt").write_text("not a frame")
    assert index_of(read_frames(tmp_path, None)) == list(range(12))
    assert index_of(read_frames(tmp_path, 4)) == [1, 4, 7, 10]
    assert probe(tmp_path) == VideoInfo(12, None, None, 64, 48, 0)


def test_probe_measures(small_video: Path) -> None:
    assert probe(small_video) == VideoInfo(frames=20, fps=10.0, duration=2.0, width=64, height=48, rotation=0)


def test_fewer_frames_than_asked_repeat(tmp_path: Path) -> None:
    path = encode(tmp_path / "short.mp4", greys(3))
    assert index_of(read_frames(path, 8)) == [0, 0, 0, 1, 1, 2, 2, 2]


def test_a_random_draw_is_repeated_by_its_seed(small_video: Path) -> None:
    drawn = [index_of(read_frames(small_video, 8, rng=np.random.default_rng(seed))) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == frame_indices(20, 8, rng=np.random.default_rng(0)).tolist()


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libvpx-vp9", "yuv420p"), ("ffv1", "yuv444p"), ("libx264", "yuv444p")])
def test_odd_sizes_are_kept(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    path = encode(tmp_path / "odd.mkv", greys(5, 47, 63), codec, pix_fmt)
    assert read_frames(path, None).shape == (5, 47, 63, 3)
    assert index_of(read_frames(path, None)) == list(range(5))
    assert (probe(path).width, probe(path).height) == (63, 47)


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv", "v.webm", "v.gif"])
@pytest.mark.parametrize("start", [0, 5000], ids=["from zero", "late"])
def test_frames_are_counted_not_timed(tmp_path: Path, name: str, start: int) -> None:
    codec, pix_fmt = {"v.webm": ("libvpx-vp9", "yuv420p"), "v.gif": ("gif", "rgb8")}.get(name, ("libx264", "yuv420p"))
    times = [start + t for t in (0, 40, 90, 100, 500, 520, 1500, 1600, 1700, 4000)]
    path = encode(tmp_path / name, greys(10), codec, pix_fmt, times=times)
    assert index_of(read_frames(path, None)) == list(range(10))
    assert index_of(read_frames(path, 5)) == [1, 3, 5, 7, 9]
    assert probe(path).duration == pytest.approx(4.1, abs=0.11)


@pytest.mark.parametrize("name", ["v.mkv", "v.ts"])
def test_times_before_zero_are_read_too(tmp_path: Path, name: str) -> None:
    times = list(range(-300, 700, 100))
    path = encode(tmp_path / name, greys(10), times=times, muxer={"avoid_negative_ts": "disabled"})
    assert index_of(read_frames(path, None)) == list(range(10))
    assert probe(path).frames == 10


def test_a_picture_held_for_long_is_not_taken_for_a_cut(tmp_path: Path) -> None:
    path = encode(tmp_path / "slides.mkv", greys(2), times=[0, 30_000])
    assert index_of(read_frames(path, None)) == [0, 1]
    assert probe(path).duration == pytest.approx(30, abs=0.2)


@pytest.mark.parametrize("codec", ["libx264", "libvpx", "libvpx-vp9"])
def test_reordered_and_hidden_frames_are_counted_as_shown(tmp_path: Path, codec: str) -> None:
    options = {
        "libx264": {"g": "5", "bf": "3"},
        "libvpx": {"auto-alt-ref": "1", "lag-in-frames": "16"},
        "libvpx-vp9": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
    }[codec]
    path = encode(tmp_path / "reordered.mkv", greys(22), codec, options=options)
    assert index_of(read_frames(path, None)) == list(range(22))
    assert index_of(read_frames(path, 2)) == [5, 16]


@pytest.mark.parametrize("seed", [None, 0])
def test_packets_without_a_picture_are_not_counted(tmp_path: Path, seed: int | None) -> None:
    """A recording that starts between two key frames: the first packets cannot be decoded."""
    path = encode(tmp_path / "joined-late.mkv", greys(20), options={"g": "10", "bf": "0"}, drop=4)
    with av.open(os.fspath(path)) as container:
        packets = sum(packet.size > 0 for packet in container.demux(video=0))
    whole = index_of(read_frames(path, None))
    assert packets == 16
    assert whole == list(range(20 - len(whole), 20)) and len(whole) < packets
    first, second = (read_frames(path, 8, rng=None if seed is None else np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    drawn = frame_indices(len(whole), 8, rng=None if seed is None else np.random.default_rng(seed))
    assert index_of(first) == [whole[i] for i in drawn]


@pytest.mark.parametrize("name", ["talk.mp4", "talk.mkv"])
def test_sound_does_no_harm(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, greys(), sound=True)
    assert index_of(read_frames(path, None)) == list(range(20))
    assert probe(path).duration == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    ("matrix", "rotation", "corner"),
    [
        ((0, 1, 0, -1, 0, 0), -90, (0, -1)),  # what phones held upright write: clockwise by 90 degrees
        ((-1, 0, 0, 0, -1, 0), -180, (-1, -1)),
        ((0, -1, 0, 1, 0, 0), 90, (-1, 0)),
    ],
)
def test_phone_videos_are_turned_upright(
    tmp_path: Path, matrix: tuple[int, ...], rotation: int, corner: tuple[int, int]
) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16] = 255  # the stored picture is white in its top left corner
    path = encode(tmp_path / "phone.mp4", np.stack([picture] * 3))
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *(value << 16 for value in matrix), 0, 0, 1 << 30)
    path.write_bytes(content)
    info = probe(path)
    upright = (48, 64) if rotation % 180 else (64, 48)
    assert (info.width, info.height, info.rotation) == (*upright, rotation)
    frame = read_frames(path, 1)[0]
    assert frame.shape == (info.height, info.width, 3)
    corners = {(y, x): frame[4 if y == 0 else -4, 4 if x == 0 else -4].mean() > 128 for y in (0, -1) for x in (0, -1)}
    assert [place for place, white in corners.items() if white] == [corner]


@pytest.mark.parametrize("name", ["12:30.mp4", "file:clip.mp4", "frame%03d.mp4", "-.mp4", "Füße 你好.mp4"])
def test_odd_names_are_only_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_video: Path, name: str
) -> None:
    small_video.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert index_of(read_frames(Path(name), 4)) == [2, 7, 12, 17]


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3)).astype(np.uint8)
    for name in ("one.mp4", "two.mp4"):
        write_video(tmp_path / name, frames, 12.0)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]


def test_what_makes_an_encoder_crash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the frames are 48 pixels wide; libx265 needs 64"):
        write_video(tmp_path / "narrow.mp4", greys(width=48), 10.0, codec="libx265")
    assert not [*tmp_path.iterdir()]
