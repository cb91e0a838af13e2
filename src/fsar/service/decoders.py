"""Decoding in processes that may fail: each has limits, and one that crashes or takes too long is replaced."""

import json
import os
import re
import signal
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import LifoQueue
from threading import Event, Lock, Timer
from typing import Any

import numpy as np

from fsar.service.limits import Limits
from fsar.service.worker import serve
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError, VideoPath, as_path
from fsar.video.picture import Frames
from fsar.video.sampling import Times

LONGEST = 2**24
"""Characters of an answer; the times of the longest video need less."""


class Decoders:
    """Processes that decode, each one video at a time.

    They are forks of one process that has imported everything, itself a fork of this one. So this must be made before
    this process has threads; and to replace a process takes milliseconds.

    Args:
        count: of processes.
        limits: of time and memory.
    """

    def __init__(self, count: int, limits: Limits):
        self._parent = _Parent(limits)
        self._free: LifoQueue[_Process] = LifoQueue()
        self.replaced = 0
        """Processes that crashed or were killed."""
        for _ in range(count):
            self._free.put(_Process(self._parent, limits.decode_seconds))

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Let a process do something (see `fsar.service.worker.answer`); wait for a free one first.

        Returns:
            The result.

        Raises:
            VideoError: the video was refused, or broke the process.
            OSError: the frame cache cannot be written.
        """
        process = self._free.get()
        try:
            answer = process.ask(request)
        finally:
            if process.ended:
                self.replaced += 1
                process = _Process(self._parent, process.seconds)
            self._free.put(process)
        if "failed" in answer:
            raise OSError(answer["failed"])
        if "refused" in answer:
            raise VideoError(Path(request["video"]), str(answer["refused"]))
        return answer["result"]

    def close(self) -> None:
        """End all processes."""
        self._parent.close()


class _Parent:
    """The process that forks the decoding ones, and kills them: as their parent, it knows which ones live."""

    def __init__(self, limits: Limits):
        self._lock = Lock()
        self._ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            try:
                os.setsid()  # Ctrl-C is for the service, which lets the processes finish
                _fork_on_demand(theirs, asdict(limits))
            finally:
                os._exit(0)
        theirs.close()

    def fork(self) -> tuple[int, socket.socket]:
        """Make a process; give its number and a connection to it."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            socket.send_fds(self._ours, [b"fork"], [theirs.fileno()])
            return int(self._ours.recv(32)), ours

    def kill(self, pid: int) -> None:
        """End a process."""
        with self._lock:
            self._ours.send(b"%d" % pid)
            self._ours.recv(32)

    def close(self) -> None:
        """End all processes."""
        self._ours.close()
        os.waitpid(self._pid, 0)


def _fork_on_demand(connection: socket.socket, limits: Mapping[str, Any]) -> None:
    """Fork and kill as the service asks; end with it."""
    children = set()
    while True:
        message, passed, _, _ = socket.recv_fds(connection, 32, 1)
        if not message:
            break
        if passed:
            pid = os.fork()
            if pid == 0:
                connection.close()
                try:
                    serve(socket.socket(fileno=passed[0]), limits)
                finally:
                    os._exit(0)
            os.close(passed[0])
            children.add(pid)
        else:
            pid = int(message)
            _end(pid)
            children.discard(pid)
        connection.send(b"%d" % pid)
    for pid in children:
        _end(pid)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)  # it has not been waited for, so the number is still its own
    os.waitpid(pid, 0)


class _Process:
    """A process that runs `fsar.service.worker.serve`."""

    def __init__(self, parent: _Parent, seconds: float):
        self._parent, self.seconds = parent, seconds
        self.ended = False
        self.pid, connection = parent.fork()
        with connection:
            self._lines = connection.makefile("rw", encoding="ascii")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and wait for its answer; a process that gives none is killed."""
        late = Event()
        timer = Timer(self.seconds, self._stop, [late])
        timer.start()
        try:
            self._lines.write(json.dumps(request) + "\n")
            self._lines.flush()
            answer = json.loads(self._lines.readline(LONGEST))
            return answer if isinstance(answer, dict) else {}
        except (OSError, ValueError):  # it has crashed
            timer.cancel()
            self._stop(None)
            if late.is_set():
                return {"refused": f"decoding it takes more than {self.seconds:g} s; shrink or cut it"}
            return {"refused": "decoding it broke the decoder; the file is broken, or needs too much memory"}
        finally:
            timer.cancel()

    def _stop(self, late: Event | None) -> None:
        if late is not None:
            late.set()
        if not self.ended:
            self.ended = True
            self._parent.kill(self.pid)


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
        return self.decoders.ask(asked)


def _hexadecimal(name: object) -> str:
    """Refuse anything that is no hash: the process may have been taken over by what it decoded."""
    if not isinstance(name, str) or not re.fullmatch("[0-9a-f]{32}", name):
        raise ValueError("the decoding process gave a wrong answer; send another video")
    return name
