"""Video -> frames: probe it, choose frames, decode those frames.

A video is a file that FFmpeg or Pillow reads (mp4, avi, webm, mkv, mov, gif, webp, ...) or a folder of JPEG/PNG
frames, whose names, with numbers by value, give their order.

- Frame i is the i-th picture that decoding the file gives, whatever the frame rate does. Packets that cannot be
  decoded are left out and counted (`VideoInfo.damaged`); a video with too many of them is refused.
- Frames come as a player shows them: turned and mirrored, with square pixels, of the size of the first one. Of
  interlaced frames the upper field is kept and its missing lines are interpolated.
- Of several streams the one of default disposition is read, then the one of most frames, then the largest.
- Only the file itself is opened: no playlist, no URL, no device.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fsar.video.paths import VideoError, VideoPath, as_path, display, readable
from fsar.video.picture import Frame, Frames, even_frame, full_frame, small_frame
from fsar.video.sampling import SAMPLINGS, Indices, frame_indices, shown_at
from fsar.video.sources import Choose, Facts, Take, source_of
from fsar.video.stills import frame_files
from fsar.video.writing import write_video

__all__ = [
    "SAMPLINGS",
    "Frame",
    "Frames",
    "Indices",
    "VideoError",
    "VideoInfo",
    "VideoPath",
    "as_path",
    "display",
    "frame_files",
    "frame_indices",
    "probe",
    "read_frames",
    "read_frames_at",
    "readable",
    "stream_frames",
    "write_video",
]

_TOLERANCE = 0.5  # seconds by which a segment may end after its video: sound may be longer than the pictures
_ROUNDING = 0.0005  # seconds; times in tables are rounded to milliseconds


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` finds. Width and height are as shown: turned, and with square pixels."""

    frames: int
    """Frames that decoding gives."""
    fps: float | None
    """Average frames per second; None for a folder of frames."""
    duration: float | None
    """Seconds; None for a folder of frames."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    rotation: int
    """Degrees counter-clockwise by which the stored picture is turned to be shown, after any mirroring."""
    mirrored: bool = False
    """Whether the stored picture is mirrored left to right to be shown."""
    interlaced: bool = False
    """Whether two moments share a stored picture; frames show one of them."""
    damaged: int = 0
    """Packets and pictures that are lost or decode with errors. Of a long video, only those that can be told without
    decoding all of it."""


def probe(path: VideoPath, start: float | None = None, end: float | None = None) -> VideoInfo:
    """Count a video's frames and measure it.

    A short video is decoded whole at first, which finds all its damage. Of a long one the packets are counted and
    the first frame is decoded. Both are remembered in the cache.

    Args:
        path: a video file, or a folder of frames.
        start: of a segment, in seconds after the video's begin; None is the begin.
        end: of a segment, in seconds; None is the video's end. Frames and duration are then those of the segment.

    Raises:
        VideoError: it cannot be read as a video, or the segment lies beyond its end.
        ValueError: `path` is no path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(Path(folder) / "a.mp4", np.zeros((20, 48, 64, 3), np.uint8), fps=10)
        ...     info = probe(Path(folder) / "a.mp4")
        >>> info.frames, info.duration, info.width, info.height
        (20, 2.0, 64, 48)
    """
    video = as_path(path)
    numbers = within(video, start, end)
    facts = source_of(video).facts()
    shown = numbers(facts)
    width, height = facts.look.shown_size
    turn = facts.look.turn
    duration = None if facts.times is None else float(facts.times[-1])
    if duration is not None and (start is not None or end is not None):
        first, last = _span(video, start, end, duration)
        duration = last - first
    damaged, interlaced = facts.damaged, facts.interlaced
    return VideoInfo(len(shown), facts.fps, duration, width, height, turn.rotation, turn.mirrored, interlaced, damaged)


def read_frames(
    path: VideoPath,
    count: int | None = 8,
    sampling: str = "tsn",
    rng: np.random.Generator | None = None,
    start: float | None = None,
    end: float | None = None,
    short_side: int | None = None,
) -> Frames:
    """Decode the frames that `frame_indices` chooses, or all of them if `count` is None.

    Args:
        path: a video file, or a folder of frames.
        count: frames to take, T; None takes all.
        sampling: how to choose them (see `frame_indices`).
        rng: draws the frames at random, if the sampling has a random form.
        start: of a segment, in seconds after the video's begin; None is the begin.
        end: of a segment, in seconds; None is the video's end. A frame belongs to the segment if it begins at
            `start` or later and before `end`; if no frame does, the one shown at `start` is taken.
        short_side: shrink each frame, as it is decoded, to a short side of at most so many pixels; None keeps the
            size.

    Returns:
        uint8 [frame, height, width, rgb], as a player shows them.

    Raises:
        VideoError: it cannot be read, is cut short, holds no frames, or the segment lies beyond its end.
        ValueError: `path` is no path, or there is no such sampling.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(Path(folder) / "a.mp4", np.zeros((20, 48, 64, 3), np.uint8), fps=10)
        ...     read_frames(Path(folder) / "a.mp4", 4, "time").shape
        (4, 48, 64, 3)
    """
    video = as_path(path)
    choose = chosen_by(video, count, sampling, rng, start, end)
    return source_of(video).read(choose, _taking(short_side))


def read_frames_at(path: VideoPath, times: Sequence[float], short_side: int | None = None) -> Frames:
    """Decode the frames that are shown at given times.

    Args:
        path: a video file.
        times: seconds after the video's begin [frame], in any order.
        short_side: as for `read_frames`.

    Returns:
        uint8 [frame, height, width, rgb], one for each time.

    Raises:
        VideoError: it cannot be read, or a time lies beyond its end.
        ValueError: `path` is no path, or no time is given.

    Example:
        >>> import tempfile
        >>> frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * 20 + np.zeros((48, 64, 3), np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(Path(folder) / "a.mp4", frames, fps=10)
        ...     read_frames_at(Path(folder) / "a.mp4", [0.95, 0.25]).mean((1, 2, 3)).round(-1).tolist()
        [180.0, 40.0]
    """
    video = as_path(path)
    if not len(times):
        raise ValueError("there is no time to read a frame at; give at least one")

    def choose(facts: Facts) -> Indices:
        if facts.times is None:
            raise VideoError(video, "a folder of frames has no times; read its frames by number")
        for time in times:
            if not 0 <= time <= facts.times[-1] + _TOLERANCE:
                raise VideoError(video, f"{time:g} s lies outside of it; it lasts {facts.times[-1]:g} s")
        return shown_at(facts.times[:-1], times)

    return source_of(video).read(choose, _taking(short_side))


def stream_frames(
    path: VideoPath, short_side: int, start: float | None = None, end: float | None = None
) -> Iterator[Frame]:
    """Decode every frame in turn, one in memory at a time. Whether the file is whole, `probe` tells.

    Args:
        path: a video file, or a folder of frames.
        short_side: pixels.
        start: of a segment, in seconds, as for `read_frames`.
        end: of a segment, in seconds.

    Yields:
        uint8 [height, width, rgb], as a player shows it, shrunk to a short side of `short_side` if that is longer;
        both sides even, as H.264 wants them.

    Raises:
        VideoError: it cannot be read, holds no frames, or a folder's frames differ in size.
        ValueError: `path` is no path.
    """
    video = as_path(path)
    part = None if start is None and end is None else within(video, start, end)
    yield from source_of(video).each(partial(even_frame, short_side=short_side), part)


def chosen_by(
    path: Path,
    count: int | None,
    sampling: str,
    rng: np.random.Generator | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Choose:
    """Make what chooses frames by a sampling; asked again, it draws the same way anew. Arguments as for `read_frames`.

    Raises:
        ValueError: there is no such sampling.
    """
    if count is not None:
        frame_indices(1, count, sampling)  # a wrong setting is no fault of the video
    state = None if rng is None else rng.bit_generator.state
    numbers = within(path, start, end)

    def choose(facts: Facts) -> Indices:
        shown = numbers(facts)
        if count is None:
            return np.arange(shown.start, shown.stop)
        if rng is not None and state is not None:
            rng.bit_generator.state = state
        times = None if facts.times is None else facts.times[shown.start : shown.stop + 1]
        return shown.start + frame_indices(len(shown), count, sampling, facts.fps, rng, times)

    return choose


def _taking(short_side: int | None) -> Take:
    return full_frame if short_side is None else partial(small_frame, short_side=short_side)


def within(path: Path, start: float | None, end: float | None) -> Callable[[Facts], range]:
    """Make what tells the frames of a segment, or all frames."""
    whole = start is None and end is None
    if not whole and os.path.isdir(path):
        raise VideoError(path, "a folder of frames has no times to cut a segment at; give the video file")

    def numbers(facts: Facts) -> range:
        if whole or facts.times is None:
            return range(facts.frames)
        first, last = _span(path, start, end, float(facts.times[-1]))
        return _shown(facts.times[:-1].tolist(), first, last)

    return numbers


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
    """Numbers of the frames that begin from `start` on and before `end`; else of the one shown at `start`."""
    first, last = (bisect_left(times, time - _ROUNDING) for time in (start, end))
    return range(first, last) if first < last else range(max(0, first - 1), max(1, first))
