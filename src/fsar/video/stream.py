"""Frames of a video with their times, one in memory at a time: only those that are wanted are converted and resized."""

from collections.abc import Callable, Iterator
from functools import partial

import av
import numpy as np

from fsar.video.paths import VideoError, VideoPath, as_path
from fsar.video.picture import Frame, Look, small_frame
from fsar.video.sources import source_of


class TimedFrames:
    """The frames of a video file or a folder of frames, each with its time.

    Args:
        path: a video file, or a folder of frames.
        short_side: largest short side, in pixels.
        fps: frames per second of a folder of frames; None for a file, which has its own times.

    Raises:
        VideoError: it cannot be read; or a folder of frames without `fps`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fsar.video import write_video
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(Path(folder) / "a.mp4", np.zeros((6, 48, 64, 3), np.uint8), fps=10)
        ...     video = TimedFrames(Path(folder) / "a.mp4", 256)
        ...     times = [round(time, 1) for time, _ in video.wanted(lambda time: time > 0.25)]
        >>> video.duration, times
        (0.6, [0.3, 0.4, 0.5])
    """

    def __init__(self, path: VideoPath, short_side: int, fps: float | None = None):
        self.path, self.short_side = as_path(path), short_side
        self._source = source_of(self.path)
        facts = self._source.facts()
        times = facts.times
        if times is None:
            if fps is None:
                raise VideoError(self.path, "a folder of frames has no times; say its frames per second with --fps")
            times = np.arange(facts.frames + 1) / fps
        self.times: np.ndarray = times
        """Start of each frame and, last, end of the video, in seconds."""

    @property
    def duration(self) -> float:
        """Seconds."""
        return float(self.times[-1])

    def wanted(self, wants: Callable[[float], bool]) -> Iterator[tuple[float, Frame]]:
        """Decode all frames, and give those that are wanted.

        Args:
            wants: is asked for each frame in turn, by its time.

        Yields:
            Time in seconds, and uint8 [height, width, rgb].

        Raises:
            VideoError: the video is broken.
        """
        resize = partial(small_frame, short_side=self.short_side)
        nothing = np.empty((0, 0, 3), np.uint8)
        numbers = iter(range(len(self.times) - 1))
        time = 0.0

        def take(picture: av.VideoFrame, look: Look) -> Frame:
            nonlocal time
            time = float(self.times[next(numbers, len(self.times) - 2)])
            return resize(picture, look) if wants(time) else nothing

        for frame in self._source.each(take):
            if frame.size:
                yield time, frame
