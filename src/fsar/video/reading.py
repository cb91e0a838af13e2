"""Video -> frames: probe it, choose frames, decode those frames.

A video is a file that FFmpeg or Pillow reads (mp4, avi, webm, mkv, mov, gif, webp, ...) or a folder of JPEG or PNG
frames. Frames in a folder are sorted by name, with numbers by value.

- Frame i is the i-th picture of decoding; the frame rate has no effect. Packets that cannot be decoded are left out and
  counted (`VideoInfo.damaged`). A video with too many of them is refused.
- Frames look as in a player: turned and mirrored, with square pixels, in the size of the first frame. Interlaced frames
  keep the upper field; the missing lines are interpolated.
- If there are several streams, the default one is read, or else the one with the most frames, or else the largest.
- Only the file itself is opened: no playlist, no URL, no device.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fsar.video.paths import VideoError, VideoPath, as_path
from fsar.video.picture import Frame, Frames, even_frame, full_frame, small_frame
from fsar.video.sampling import Indices, frame_indices, shown_at
from fsar.video.sources import Choose, Facts, Take, source_of

_TOLERANCE = 0.5  # seconds; a segment may end so much after the last picture, since the sound may be longer
_ROUNDING = 0.0005  # seconds; times in tables are rounded to milliseconds


@dataclass(frozen=True)
class VideoInfo:
    """The result of `probe`. Width and height are as shown: turned, and with square pixels."""

    frames: int
    """Number of frames."""
    fps: float | None
    """Average frames per second; None for a folder of frames."""
    duration: float | None
    """Seconds; None for a folder of frames."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    rotation: int
    """Degrees counter-clockwise; the stored picture is turned by them for display, after any mirroring."""
    mirrored: bool = False
    """Whether the stored picture is mirrored left to right for display."""
    interlaced: bool = False
    """Whether the video is interlaced: a stored picture has two moments; frames show one of them."""
    damaged: int = 0
    """Packets and pictures that are lost or decode with errors. For a long video, only those that can be found without
    decoding all of it."""


def probe(path: VideoPath, start: float | None = None, end: float | None = None) -> VideoInfo:
    """Count a video's frames and measure it.

    A short video is decoded completely, which finds all damage. For a long video, packets are counted, and only the
    first frame is decoded. The cache remembers the result.

    Args:
        path: a video file, or a folder of frames.
        start: of a segment, in seconds; None is the start of the video.
        end: of a segment, in seconds; None is the end of the video. Frames and duration are those of the segment.

    Raises:
        VideoError: it cannot be read as a video, or the segment is beyond its end.
        ValueError: `path` is not a path.

    Example:
        >>> import tempfile
        >>> from fsar.video.writing import write_video
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
        count: frames to sample, T; None reads all.
        sampling: how to sample them (see `frame_indices`).
        rng: draws the frames at random, if the sampling has a random form.
        start: of a segment, in seconds; None is the start of the video.
        end: of a segment, in seconds; None is the end of the video. A frame belongs to the segment if it starts at
            `start` or later, and before `end`. If there is no such frame, the one shown at `start` is read.
        short_side: shrink each frame to a short side of at most so many pixels; None keeps the size.

    Returns:
        uint8 [frame, height, width, rgb], as a player shows them.

    Raises:
        VideoError: it cannot be read, is cut short, has no frames, or the segment is beyond its end.
        ValueError: `path` is not a path, or there is no such sampling.

    Example:
        >>> import tempfile
        >>> from fsar.video.writing import write_video
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
        times: seconds from the start of the video [frame], in any order.
        short_side: as for `read_frames`.

    Returns:
        uint8 [frame, height, width, rgb], one for each time.

    Raises:
        VideoError: it cannot be read, or a time is beyond its end.
        ValueError: `path` is not a path, or no time is given.

    Example:
        >>> import tempfile
        >>> frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * 20 + np.zeros((48, 64, 3), np.uint8)
        >>> from fsar.video.writing import write_video
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
    """Decode every frame in turn, one in memory at a time. (`probe` tells whether the file is whole.)

    Args:
        path: a video file, or a folder of frames.
        short_side: pixels.
        start: of a segment, in seconds, as for `read_frames`.
        end: of a segment, in seconds.

    Yields:
        uint8 [height, width, rgb], as a player shows it, with a short side of at most `short_side`; both sides are
        even, as H.264 needs.

    Raises:
        VideoError: it cannot be read, has no frames, or the frames in a folder differ in size.
        ValueError: `path` is not a path.
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
    """Make a function that samples frames; called again, it draws the same frames.

    Args:
        path: of the video, for errors.
        count: frames to sample; None for all.
        sampling: how to sample them.
        rng: draws the frames at random, if the sampling has a random form.
        start: of a segment, in seconds.
        end: of a segment, in seconds.

    Raises:
        ValueError: no such sampling.
    """
    if count is not None:
        frame_indices(1, count, sampling)  # a wrong setting is not an error of the video
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
    """Make a function that returns the frames of a segment.

    Args:
        path: of the video, for errors.
        start: of the segment, in seconds; None is the start of the video.
        end: of the segment, in seconds; None is the end of the video.
    """
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
    """Check the start and end of a segment, for a video of so many seconds."""
    first, last = start or 0.0, seconds if end is None else end
    if first < 0 or not first < last:
        raise VideoError(path, f"a segment from {first:g} to {last:g} s; expected 0 <= start < end")
    if last > seconds + _TOLERANCE or first >= seconds:
        raise VideoError(
            path, f"the segment from {first:g} to {last:g} s lies beyond its end ({seconds:g} s); correct the segment"
        )
    return first, min(last, seconds)


def _shown(times: list[float], start: float, end: float) -> range:
    """Return the frames that start in [start, end); if there are none, the frame shown at `start`."""
    first, last = (bisect_left(times, time - _ROUNDING) for time in (start, end))
    return range(first, last) if first < last else range(max(0, first - 1), max(1, first))
