"""Decoding in processes of their own, for files that nobody has looked at: one may crash its decoder, or never end.

    parent: {"video": ..., "frames": 8, ...} -> child: decodes, writes a file of frames -> parent: maps the file

A process that takes too long is ended by the system's own alarm, so it ends even if its parent is gone, or if the
decoder never returns. Another one takes its place in milliseconds: the processes are forks of a server, which has
imported everything and does nothing else. Requests and answers are lines of JSON; nothing is unpickled.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import LifoQueue
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError, VideoPath, as_path
from fsar.video.picture import Frames

SECONDS = 60.0
"""Time for one video."""
MEMORY = 4 * 2**30
"""Bytes that decoding one video may take."""
_BROKE = "decoding it broke the decoder; the file is broken, or needs too much memory"


class Decoders:
    """Processes that decode, each one video at a time.

    Args:
        count: of processes; they start when they are needed.
        seconds: for one video; a process that takes longer is ended.
        fork: make the server a fork of this process, which costs nothing. False begins a new program, which imports
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
        if not hasattr(os, "fork"):
            raise ValueError("this system cannot fork processes, which decode one video each; use Linux, macOS or WSL")
        self._server = _Server(fork)
        self.replaced = 0
        """Processes that crashed, or were ended."""
        self._all = [_Process(self._server, number, seconds) for number in range(count)]
        self._free: LifoQueue[_Process] = LifoQueue()
        for process in reversed(self._all):
            self._free.put(process)

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for process in self._all:
            process.end()
        self._server.close()

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
        process = self._free.get()
        try:
            own = root / str(process.number)  # two processes never share a file, which is removed when it was read
            answer = process.ask({**request, "folder": os.fspath(own)})
            if "failed" in answer:
                raise OSError(answer["failed"])
            if "refused" in answer:
                self.replaced += process.pid is None
                raise VideoError(Path(request["video"]), str(answer["refused"]))
            if request["do"] != "read":
                return answer, None
            file = own / answer["key"][:2] / f"{answer['key']}.npy"
            frames = np.load(file, mmap_mode="r", allow_pickle=False)
            file.unlink()
            return answer, frames
        finally:
            self._free.put(process)


class _Server:
    """The process that forks the decoding ones, and ends them: as their parent, it knows which ones live."""

    def __init__(self, fork: bool):
        self._lock = Lock()
        self._ours, theirs = socket.socketpair()
        with theirs:
            if not fork:
                words = [sys.executable, "-m", "fsar.video.apart", str(theirs.fileno())]
                self._pid = subprocess.Popen(words, pass_fds=[theirs.fileno()], start_new_session=True).pid
                return
            self._pid = os.fork()
            if self._pid == 0:
                try:
                    self._ours.close()
                    os.setsid()  # Ctrl-C is for the parent
                    _serve(theirs)
                finally:
                    os._exit(0)

    def start(self) -> tuple[int, socket.socket]:
        """Make a process; give its number and a connection to it."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            socket.send_fds(self._ours, [b"fork"], [theirs.fileno()])
            return int(self._ours.recv(32)), ours

    def end(self, pid: int) -> int:
        """End a process; give the signal that ended it, this one or an earlier one."""
        with self._lock:
            self._ours.send(b"%d" % pid)
            return int(self._ours.recv(32))

    def close(self) -> None:
        """End the server and all processes."""
        with suppress(OSError):
            self._ours.send(b"stop")
        self._ours.close()
        os.waitpid(self._pid, 0)


def _serve(connection: socket.socket) -> None:
    """Fork and end processes as the parent asks; end with it."""
    children = set()
    while True:
        message, passed, _, _ = socket.recv_fds(connection, 32, 1)
        if message in (b"", b"stop"):
            break
        if passed:
            pid = os.fork()
            if pid == 0:
                try:
                    connection.close()
                    decode_all(socket.socket(fileno=passed[0]))
                finally:
                    os._exit(0)
            os.close(passed[0])
            children.add(pid)
            connection.send(b"%d" % pid)
        else:
            connection.send(b"%d" % _end(int(message)))
            children.discard(int(message))
    for pid in children:
        _end(pid)


def _end(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)  # it has not been waited for, so the number is still its own
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


class _Process:
    """A place for one process."""

    def __init__(self, server: _Server, number: int, seconds: float):
        self._server, self.number, self.seconds = server, number, seconds
        self.pid: int | None = None

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and wait for its answer or for the end of the process."""
        if self.pid is None:
            self.pid, connection = self._server.start()
            with connection:
                self._lines = connection.makefile("rw", encoding="ascii")
        with suppress(OSError, ValueError):
            self._lines.write(json.dumps({**request, "seconds": self.seconds}) + "\n")
            self._lines.flush()
            if line := self._lines.readline():
                return dict(json.loads(line))
        if self.end() == signal.SIGALRM:
            return {"refused": f"decoding it takes more than {self.seconds:g} s; shrink or cut it"}
        return {"refused": _BROKE}

    def end(self) -> int:
        """End the process, if there is one; give the signal that ended it."""
        if self.pid is None:
            return 0
        pid, self.pid = self.pid, None
        with suppress(OSError):
            self._lines.close()
        return self._server.end(pid)


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
        return max((seen.damaged for (name, *_), seen in self.seen.items() if name == path), default=0)

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
        return {"refused": _BROKE}
    except OSError as error:
        return {"failed": str(error)}


def decode_all(connection: socket.socket) -> None:
    """Answer until the connection ends, in the process that decodes.

    Args:
        connection: to the parent.
    """
    import resource

    import torch

    torch.set_num_threads(1)  # the threads of the process that this one is a fork of are not here
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(MEMORY)
    with connection, connection.makefile("rw", encoding="ascii") as lines:
        for line in lines:
            request = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # nobody handles it, so it ends the process
            made = answer(request)
            signal.setitimer(signal.ITIMER_REAL, 0)
            lines.write(json.dumps(made) + "\n")
            lines.flush()


def _limit_memory(more: int) -> None:
    """Allow so many bytes more than are mapped now; only Linux tells how many that are."""
    import resource

    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    import fsar.video.transforms  # noqa: F401 - once, for all forks

    _serve(socket.socket(fileno=int(sys.argv[1])))
