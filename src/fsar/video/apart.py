"""Decoding in processes of their own, for files that nobody has looked at: one may crash its decoder, or never end.

    parent: {"video": ..., "frames": 8, ...} -> child: decodes, writes a file of frames -> parent: maps the file

`fsar.video.processes` starts, limits and replaces the processes.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError, VideoPath, as_path
from fsar.video.picture import Frames
from fsar.video.processes import BROKE, Processes, serve_at

SECONDS = 60.0
"""Time for one video."""
MEMORY = 4 * 2**30
"""Bytes that decoding one video may take."""
PROGRAM = ("-m", "fsar.video.apart")
"""Of Python, for a server of processes that is no fork."""


class Decoders(Processes):
    """Processes that decode, each one video at a time.

    Args:
        count: of processes; they start when they are needed.
        seconds: for one video; a process that takes longer is ended.
        fork: make their server a fork of this process, which costs nothing. False begins a new program, which imports
            everything again; a process with threads that hold locks needs that.

    Raises:
        ValueError: this system cannot fork processes.

    Example:
        >>> import tempfile
        >>> from fsar.video.writing import write_video
        >>> with tempfile.TemporaryDirectory() as folder, Decoders(1, seconds=30) as decoders:
        ...     write_video(Path(folder, "a.mp4"), np.zeros((20, 64, 64, 3), np.uint8), 10.0)
        ...     ApartCache(Path(folder, "frames"), decoders=decoders).read(Path(folder, "a.mp4")).shape
        (8, 64, 64, 3)
    """

    def __init__(self, count: int, seconds: float = SECONDS, fork: bool = True):
        super().__init__(count, answer, seconds, MEMORY, None if fork else PROGRAM)

    def decode(self, request: Mapping[str, Any], root: Path) -> tuple[dict[str, Any], Frames | None]:
        """Let a free process decode.

        Args:
            request: `video`, `start`, `end`, `frames`, `sampling`; and `do`: `read`, `identity` or `times`.
            root: folder for what processes leave.

        Returns:
            The answer, and the frames if they were asked for. They have no file any more.

        Raises:
            VideoError: the video cannot be read, or broke its process.
            OSError: the folder cannot be written.
        """
        with self._taken() as process:
            own = root / str(process.number)  # two processes never share a file, which is removed when it was read
            made = self._answer_of(process, {**request, "folder": os.fspath(own)})
            if request["do"] != "read":
                return made, None
            file = own / made["key"][:2] / f"{made['key']}.npy"
            frames = np.load(file, mmap_mode="r", allow_pickle=False)
            file.unlink()
            return made, frames


class Seen(NamedTuple):
    """What is known of a video that was read."""

    identity: str
    damaged: int


@dataclass(frozen=True, eq=False)
class ApartCache(FrameCache):
    """A frame cache that lets other processes decode, and keeps no frames."""

    decoders: Decoders | None = None
    seen: dict[tuple[Path, float | None, float | None], Seen] = field(default_factory=dict)
    """What was read so far."""

    def read(self, video: VideoPath, start: float | None = None, end: float | None = None) -> Frames:
        """Read the frames of a video, as `FrameCache.read` does."""
        frames = self._ask("read", video, start, end)[1]
        assert frames is not None
        return frames

    def identity(self, video: VideoPath, start: float | None = None, end: float | None = None) -> str:
        """Return the name of a video's frames, as `FrameCache.identity` does."""
        return str(self._ask("identity", video, start, end)[0]["identity"])

    def length(self, video: VideoPath) -> float | None:
        """Return how long a video is, in seconds; None for a folder of frames.

        Args:
            video: a video file, or a folder of frames.

        Raises:
            VideoError: the video cannot be read.
        """
        answer, _ = self._ask("times", video, None, None)
        return None if answer["end"] is None else float(answer["end"])

    def damaged(self, video: VideoPath) -> int:
        """Count what is damaged in a video that was read."""
        path = Path(os.fspath(video))  # type: ignore[arg-type]
        seen = [*self.seen.items()]  # other threads add to it meanwhile
        return max((one.damaged for (name, *_), one in seen if name == path), default=0)

    def _ask(
        self, do: str, video: VideoPath, start: float | None, end: float | None
    ) -> tuple[dict[str, Any], Frames | None]:
        assert self.decoders is not None
        path = as_path(video)
        asked = {"do": do, "video": os.fspath(path), "start": start, "end": end}
        answer, frames = self.decoders.decode({**asked, "frames": self.frames, "sampling": self.sampling}, self.root)
        if do != "times":
            self.seen[path, start, end] = Seen(answer["identity"], answer["damaged"])
        return answer, frames


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a request asks, in the process that decodes.

    Args:
        request: as `Decoders.decode` sends it.

    Returns:
        `key`, `identity` and `damaged`, or `end`; or `refused`, the reason; or `failed`, an error of the system.
    """
    path, span = Path(request["video"]), (request["start"], request["end"])
    cache = FrameCache(Path(request["folder"]), request["frames"], request["sampling"])
    try:
        if request["do"] == "times":
            times = cache.times(path, *span)
            return {"end": None if times is None else float(times[-1])}
        if request["do"] == "read":
            cache.read(path, *span)
        return {
            "key": cache.key(path, *span),
            "identity": cache.identity(path, *span),
            "damaged": cache.damaged(path),
        }
    except VideoError as error:
        return {"refused": error.reason}
    except MemoryError:
        return {"refused": BROKE}
    except OSError as error:
        return {"failed": str(error)}


if __name__ == "__main__":
    import fsar.video.transforms  # noqa: F401 - once, for all forks

    serve_at(int(sys.argv[1]), answer, MEMORY)
