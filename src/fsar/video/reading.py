"""Video file -> frames: probe it, choose frame indices, decode those frames.

A video is a file that FFmpeg reads (mp4, avi, webm, mkv, mov, gif, ...) or a folder of JPEG/PNG frames,
whose names, sorted with numbers by value, give their order. Frames are counted, not timed: index i is
the i-th frame that the file holds, whatever the frame rate does.
"""

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from fsar.files import atomic_path
from fsar.names import unknown
from fsar.video.kinds import one_sequence, visible_images

_TOLERANCE = 0.5  # seconds by which a segment may end after its video: sound may be longer than the pictures
_ROUNDING = 0.0005  # seconds; times in tables are rounded to milliseconds

Frames = UInt8[np.ndarray, "frame height width rgb=3"]
Frame = UInt8[np.ndarray, "height width rgb=3"]
Indices = Int[np.ndarray, " frame"]


class VideoError(ValueError):
    """A video that cannot be read: names the path and the reason."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{display(path)}: {reason}")
        self.path, self.reason = path, reason


def display(path: Path) -> str:
    """Give a path as printable text, also where its name is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` finds. Width and height are as shown, after rotation."""

    frames: int
    """Frames the file holds."""
    fps: float | None
    """Average frames per second; None for a folder of frames."""
    duration: float | None
    """Seconds; None for a folder of frames."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    rotation: int
    """Degrees counter-clockwise by which the stored picture is turned to be shown."""


# --------------------------------------------------------------------------- which frames


def _tsn(frames: int, count: int, fps: float | None, rng: np.random.Generator | None) -> np.ndarray:
    within = np.full(count, 0.5) if rng is None else rng.random(count)
    return ((np.arange(count) + within) * frames / count).astype(int)


def _trx(frames: int, count: int, fps: float | None, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None:
        start, end = 1, frames - 2
    else:
        pad = max(0, min(5, (frames - count) // 2))
        start, end = int(rng.integers(0, pad, endpoint=True)), int(rng.integers(frames - 1 - pad, frames))
    if end - start < count:
        start, end = 0, frames - 1
    return np.linspace(start, end, count).astype(int)


def _task_adapter(frames: int, count: int, fps: float | None, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None or frames <= count:
        return _tsn(frames, count, fps, None)
    segment = frames // count
    return np.arange(count) * segment + rng.integers(segment, size=count)


def _clip_fsar_interval(frames: int, count: int, fps: float | None, rng: np.random.Generator | None) -> np.ndarray:
    interval = 35  # frames, the SAMPLING_RATE of that code's Kinetics-100 settings
    length = count * interval * (fps or 30.0) / 12
    if length > frames:
        length = frames // count * count
    spare = frames - length + 1
    start = spare / 2 if rng is None else rng.uniform(0, spare)
    return np.linspace(start, start + length - interval, count).astype(int)


SAMPLINGS: dict[str, Callable[[int, int, float | None, np.random.Generator | None], np.ndarray]] = {
    "tsn": _tsn,
    "trx": _trx,
    "task-adapter": _task_adapter,
    "clip-fsar-interval": _clip_fsar_interval,
}


def frame_indices(
    frames: int,
    count: int = 8,
    sampling: str = "tsn",
    fps: float | None = None,
    rng: np.random.Generator | None = None,
) -> Indices:
    """Choose `count` frames of a video that has `frames`.

    `tsn` (the papers): the centre of each of `count` equal segments, or with `rng` one random frame of
    each. `trx`, `task-adapter`, `clip-fsar-interval`: as those public codes do; the last one needs
    `fps` (30 where unknown) and, as published, runs backwards on very short videos. A video shorter than
    `count` repeats frames by the same formula.

    Raises:
        ValueError: no frames, no count, or an unknown sampling.
    """
    if frames < 1 or count < 1:
        raise ValueError(f"cannot choose {count} frames out of {frames}: both must be at least 1")
    if sampling not in SAMPLINGS:
        raise ValueError(unknown(sampling, SAMPLINGS, "frame sampling"))
    return np.clip(SAMPLINGS[sampling](frames, count, fps, rng), 0, frames - 1)


# --------------------------------------------------------------------------- reading


def probe(path: Path, start: float | None = None, end: float | None = None) -> VideoInfo:
    """Count a video's frames and measure it, decoding only the first frame.

    Args:
        path: a video file, or a folder of frames.
        start: of a segment, in seconds after the video's begin; None is the begin.
        end: of a segment, in seconds; None is the video's end. Frames and duration are then those of the segment.

    Raises:
        VideoError: it cannot be read as a video, or the segment lies beyond its end.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, never raises
        _refuse_span(path, start, end)
        images = frame_files(path)
        with _reading(path), Image.open(images[0]) as first:
            width, height = first.size
        return VideoInfo(len(images), None, None, width, height, 0)
    shown, fps, duration = _count(path, start, end)
    with _opened(path) as (container, stream):
        first_frame = next(container.decode(stream), None)
        if first_frame is None:
            raise VideoError(path, "no frame could be decoded; the file is broken or cut short")
        rotation, width, height = int(first_frame.rotation), first_frame.width, first_frame.height
        if rotation % 180:
            width, height = height, width
    return VideoInfo(len(shown), fps, duration, width, height, rotation)


def read_frames(
    path: Path,
    count: int | None = 8,
    sampling: str = "tsn",
    rng: np.random.Generator | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Frames:
    """Decode the frames that `frame_indices` chooses, or all of them where `count` is None.

    Args:
        path: a video file, or a folder of frames.
        count: frames to take, T; None takes all.
        sampling: how to choose them (see `frame_indices`).
        rng: draws the frames at random, where the sampling has a random form.
        start: of a segment, in seconds after the video's begin; None is the begin.
        end: of a segment, in seconds; None is the video's end. A frame belongs to the segment if it begins at
            `start` or later and before `end`; if no frame does, the one shown at `start` is taken.

    Returns:
        uint8 [frame, height, width, rgb], turned upright.

    Raises:
        VideoError: it cannot be read, is cut short, holds no frames, or the segment lies beyond its end.
    """
    if count is not None:
        frame_indices(1, count, sampling)  # a wrong setting is no fault of the video
    choose = (lambda n, fps: np.arange(n)) if count is None else (
        lambda n, fps: frame_indices(n, count, sampling, fps, rng)
    )  # fmt: skip
    if os.path.isdir(path):  # unlike Path.is_dir, never raises
        _refuse_span(path, start, end)
        images = frame_files(path)
        return _read_images(path, [images[i] for i in choose(len(images), None)])
    shown, fps, _ = _count(path, start, end)
    state = None if rng is None else rng.bit_generator.state
    indices = shown.start + choose(len(shown), fps)
    found, decoded = _decode(path, set(indices.tolist()))
    if len(found) < len(set(indices.tolist())):
        # Some streams hold packets that give no picture: choose again among the pictures there are.
        if decoded <= shown.start:
            raise VideoError(path, "no frame could be decoded; the file is broken or cut short")
        if rng is not None and state is not None:
            rng.bit_generator.state = state
        indices = shown.start + choose(min(decoded, shown.stop) - shown.start, fps)
        found, _ = _decode(path, set(indices.tolist()))
    return _stack(path, [found[i] for i in indices.tolist()])


def stream_frames(path: Path, short_side: int, start: float | None = None, end: float | None = None) -> Iterator[Frame]:
    """Decode every frame in turn, one in memory at a time. Whether the file is whole, `probe` tells.

    Args:
        path: a video file, or a folder of frames.
        short_side: pixels.
        start: of a segment, in seconds, as for `read_frames`.
        end: of a segment, in seconds.

    Returns:
        uint8 [height, width, rgb], turned upright, shrunk to a short side of `short_side` where that is longer;
        both sides even, as H.264 wants them.

    Raises:
        VideoError: it cannot be read, holds no frames, or its frames differ in size.
    """
    size = None
    for frame in _pictures(path, start, end):
        if size not in (None, (frame.width, frame.height)):
            raise VideoError(path, "its frames differ in size; expected the frames of one video, all alike")
        size = frame.width, frame.height
        yield _shrunk(frame, short_side)
    if size is None:
        raise VideoError(path, "no frame could be decoded; the file is broken or cut short")


def write_video(path: Path, frames: Iterable[Frame], fps: float, codec: str = "libx264") -> None:
    """Encode frames to a video file; the same frames give the same file. Sizes must be even for H.264."""
    frames = iter(frames)
    first = next(frames)
    with atomic_path(path) as temporary, av.open(os.fspath(temporary), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            # x264's macroblock tree makes the file depend on what was encoded before
            stream.options = {"preset": "veryfast", "crf": "20", "x264-params": "mbtree=0"}
        stream.codec_context.thread_count = 1  # more threads cut the picture differently
        for frame in chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the system's refusal to open a video into a VideoError that says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise VideoError(path, "no such file; check the name") from error
    except PermissionError as error:
        raise VideoError(path, "no permission to read it; change its mode or owner") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a decoder raises into a VideoError with the path and the reason."""
    try:
        yield
    except VideoError:
        raise
    except (av.FFmpegError, EOFError, OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(path, f"{reason[0].lower()}{reason[1:]}; the file is broken or not a video") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    with readable(path), path.open("rb") as file:
        if not file.read(1):
            raise VideoError(path, "the file is empty; copy it again from its source")
    # FFmpeg takes names as UTF-8 only, an open file whatever its name.
    utf8 = not any(0xDC80 <= ord(c) <= 0xDCFF for c in os.fspath(path))
    with (
        open(os.devnull if utf8 else path, "rb") as file,
        _reading(path),
        av.open(os.fspath(path.absolute()) if utf8 else file) as container,  # a relative `a:b.mp4` looks like a URL
    ):
        pictures = [s for s in container.streams.video if not _is_cover(s)]
        if not pictures:
            what = "only sound" if container.streams.audio else "no video stream"
            raise VideoError(path, f"it holds {what}; a video with pictures was expected")
        pictures[0].thread_type = "AUTO"
        yield container, pictures[0]


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _count(path: Path, first: float | None = None, last: float | None = None) -> tuple[range, float | None, float]:
    """Count a file's pictures by walking over its packets: indices, frames per second and seconds.

    Of a segment from `first` to `last`, in seconds, the indices and the seconds are the segment's.
    """
    frames, end, partial = 0, 0.0, False
    times: list[float] = []
    with _opened(path) as (container, stream):
        start = (container.start_time or 0) / av.time_base
        for packet in container.demux():
            time = packet.dts if packet.pts is None else packet.pts
            if packet.size and packet.time_base is not None and time is not None:
                end = max(end, float((time + (packet.duration or 0)) * packet.time_base) - start)
            if packet.stream_index == stream.index and packet.size and not packet.is_discard:
                frames, partial = frames + 1, packet.is_corrupt
                counted = (frames - 1) / (stream.average_rate or 25)  # raw streams have no times
                times.append(float(counted if time is None else time * packet.time_base - Fraction(start)))
        if frames == 0:
            raise VideoError(path, "it holds no frames; record or export it again")
        claimed = (container.duration or 0) / av.time_base
        # some containers count from the first picture, some from zero
        if claimed - end - max(start, 0.0) > max(1.0, 0.1 * claimed):
            raise VideoError(path, f"cut short: it ends after {end:.1f} of {claimed:.1f} seconds; copy it again")
        if partial:
            raise VideoError(path, f"cut short: it ends within frame {frames}; copy it again")
        fps = float(stream.average_rate) if stream.average_rate else None
        if first is None and last is None:
            return range(frames), fps, end
        first, last = _span(path, first, last, end)
        return _shown(sorted(times), first, last), fps, last - first


def _span(path: Path, start: float | None, end: float | None, seconds: float) -> tuple[float, float]:
    """Begin and end of a segment of a video that lasts so many seconds."""
    first, last = start or 0.0, seconds if end is None else end
    if first < 0 or not first < last:
        raise VideoError(path, f"a segment from {first:g} to {last:g} s; expected 0 <= start < end")
    if last > seconds + _TOLERANCE or first >= seconds:
        raise VideoError(
            path, f"the segment from {first:g} to {last:g} s lies beyond its end ({seconds:g} s); correct the segment"
        )
    return first, min(last, seconds)


def _shown(times: list[float], start: float, end: float) -> range:
    """Indices of the frames that begin from `start` on and before `end`; else of the one shown at `start`."""
    first, last = (bisect_left(times, time - _ROUNDING) for time in (start, end))
    return range(first, last) if first < last else range(max(0, first - 1), max(1, first))


def _refuse_span(path: Path, start: float | None, end: float | None) -> None:
    if start is not None or end is not None:
        raise VideoError(path, "a folder of frames has no times to cut a segment at; give the video file")


def _decode(path: Path, wanted: set[int]) -> tuple[dict[int, np.ndarray], int]:
    """Decode from the start until every wanted index is found; also how many frames were decoded."""
    found: dict[int, np.ndarray] = {}
    decoded = 0
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            if decoded in wanted:
                upright = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
                found[decoded] = np.ascontiguousarray(upright)
            decoded += 1
            if len(found) == len(wanted):
                break
    return found, decoded


def _pictures(path: Path, start: float | None, end: float | None) -> Iterator[av.VideoFrame]:
    if os.path.isdir(path):  # unlike Path.is_dir, never raises
        _refuse_span(path, start, end)
        for file in frame_files(path):
            yield av.VideoFrame.from_ndarray(_read_images(path, [file])[0], format="rgb24")
        return
    whole = start is None and end is None
    shown = None if whole else _count(path, start, end)[0]
    with _opened(path) as (container, stream):
        yield from islice(container.decode(stream), *((shown.start, shown.stop) if shown else (None,)))


def _shrunk(frame: av.VideoFrame, short_side: int) -> Frame:
    short = min(frame.width, frame.height)
    width, height = (max(2, side * min(short, short_side) // short // 2 * 2) for side in (frame.width, frame.height))
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
    return np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90)))


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that puts frame 10 after frame 9."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def frame_files(folder: Path) -> list[Path]:
    """List the images that are a folder's frames, in order.

    Raises:
        VideoError: there is no such folder, no image in it, or images of several kinds (see `one_sequence`).
    """
    with readable(folder):
        images = visible_images(folder)
    if not images:
        raise VideoError(folder, "the folder holds no frames; expected .jpg or .png files")
    try:
        return sorted(one_sequence(images), key=_natural)
    except ValueError as error:
        raise VideoError(folder, str(error)) from error


def _read_images(folder: Path, files: list[Path]) -> Frames:
    frames = []
    for file in files:
        with _reading(file), Image.open(file) as image:
            frames.append(np.asarray(image.convert("RGB")))
    return _stack(folder, frames)


def _stack(path: Path, frames: list[np.ndarray]) -> Frames:
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        sizes = ", ".join(sorted(f"{w}x{h}" for h, w, _ in shapes))
        raise VideoError(path, f"its frames differ in size ({sizes}); expected the frames of one video, all alike")
    return np.stack(frames)
