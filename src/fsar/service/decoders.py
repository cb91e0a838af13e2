"""Decoding for the service, in processes that may fail (`fsar.video.processes`)."""

import os
import re
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fsar.service.limits import Limits
from fsar.service.worker import answer
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoPath, as_path
from fsar.video.picture import Frames
from fsar.video.processes import Processes
from fsar.video.sampling import Times


class Decoders(Processes):
    """Processes that decode, each one video at a time; they do what `fsar.service.worker.answer` says.

    This must be made before this process has threads, since the processes are forks of one that is a fork of this one.

    Args:
        count: of processes.
        limits: of time and memory.
    """

    def __init__(self, count: int, limits: Limits):
        work = partial(answer, limits=asdict(limits))
        super().__init__(count, work, limits.decode_seconds, limits.decode_mb * 2**20)


@dataclass(frozen=True)
class DecodedApart(FrameCache):
    """A frame cache that lets other processes decode. It only hashes files, and opens arrays."""

    decoders: Decoders | None = None

    def identity(self, video: VideoPath, start: float | None = None, end: float | None = None) -> str:
        """Return the name of a video's frames, as `FrameCache.identity` does."""
        return _hexadecimal(self._ask("identity", video, start, end))

    def read(self, video: VideoPath, start: float | None = None, end: float | None = None) -> Frames:
        """Read the frames of a video, as `FrameCache.read` does."""
        key = _hexadecimal(self._ask("frames", video, start, end))
        return np.load(self.root / key[:2] / f"{key}.npy", mmap_mode="r", allow_pickle=False)

    def times(self, video: VideoPath, start: float | None = None, end: float | None = None) -> Times | None:
        """Return the start of each frame, as `FrameCache.times` does."""
        times = self._ask("times", video, start, end)
        return None if times is None else np.array(times, np.float64)

    def damaged(self, video: VideoPath) -> int:
        """Count what is damaged, as `FrameCache.damaged` does."""
        return int(self._ask("damaged", video, None, None))

    def copy(self, video: VideoPath, to: Path, side: int, start: float | None = None, end: float | None = None) -> None:
        """Write a video, or a segment of it, so that every browser plays it; whole or not at all.

        Args:
            video: a file.
            to: of the copy, `.mp4`.
            side: pixels of its short side, at most.
            start: of the segment, in seconds.
            end: of the segment, in seconds.

        Raises:
            VideoError: it cannot be decoded, or the segment is beyond its end.
        """
        self._ask("copy", video, start, end, to=os.fspath(to), side=side)

    def _ask(self, do: str, video: VideoPath, start: float | None, end: float | None, **more: object) -> Any:
        assert self.decoders is not None
        cache = {"folder": os.fspath(self.root), "frames": self.frames, "sampling": self.sampling}
        asked = {"do": do, "video": os.fspath(as_path(video)), "start": start, "end": end, **cache, **more}
        return self.decoders.ask(asked)["result"]


def _hexadecimal(name: object) -> str:
    """Refuse anything that is no hash: the process may have been taken over by what it decoded."""
    if not isinstance(name, str) or not re.fullmatch("[0-9a-f]{32}", name):
        raise ValueError("the decoding process gave a wrong answer; send another video")
    return name
