"""Processes that look at files of strangers: each has limits on time and memory, and one that breaks is replaced.

    parent: a request, a line of JSON -> child: does it -> parent: the answer, a line of JSON

A child is a fork of a server, which has imported everything and does nothing else; if a child ends, another one takes
its place in milliseconds. A child that takes too long is ended by the system's own alarm, also if its decoder never
returns; a child that ignores the alarm is ended by the server. Nothing is unpickled.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import LifoQueue
from threading import Lock
from types import TracebackType
from typing import Any, TypeVar

from fsar.video.paths import VideoError

LONGEST = 2**24
"""Characters of an answer; the times of the longest video need less."""
BROKE = "decoding it broke the decoder; the file is broken, or needs too much memory"

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]
"""What a child does with a request: gives a result; or `refused`, the reason; or `failed`, an error of the system."""

Own = TypeVar("Own", bound="Processes")


def fork() -> int:
    """Fork this process. What is garbage in it is never freed in the new process.

    Garbage may hold a decoder, scaler or encoder with threads. The new process has none of these threads, so that
    freeing it would wait for them for ever.

    Returns:
        As `os.fork`: 0 in the new process, and its number in this one.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        pid = os.fork()
        if pid == 0:
            gc.freeze()
        return pid
    finally:
        if enabled:
            gc.enable()


class Processes:
    """Processes that answer requests, each one at a time.

    They must be made before this process has threads, or as a `program` of their own.

    Args:
        count: of processes; each starts when it is needed.
        answer: runs in them.
        seconds: for one request; a process that takes longer is ended.
        memory: bytes that a process may take beside what it has at its start.
        program: words of Python for a server that is no fork of this process, but a program, which ends with
            `serve_at`; it imports everything again.

    Raises:
        ValueError: this system cannot fork processes.

    Example:
        >>> with Processes(1, lambda request: {"length": len(request["video"])}, seconds=30, memory=2**30) as processes:
        ...     processes.ask({"video": "a.mp4"})
        {'length': 5}
    """

    def __init__(self, count: int, answer: Answer, seconds: float, memory: int, program: Sequence[str] | None = None):
        if not hasattr(os, "fork"):
            raise ValueError("this system cannot fork processes, which decode one video each; use Linux, macOS or WSL")
        self._server = _Server(answer, memory, program)
        self.replaced = 0
        """Processes that crashed, or were ended."""
        self._all = [_Process(self._server, number, seconds) for number in range(count)]
        self._free: LifoQueue[_Process] = LifoQueue()
        for process in reversed(self._all):
            self._free.put(process)

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        self._server.close()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let a process answer; wait for a free one first.

        Args:
            request: has `video`, for messages.

        Raises:
            VideoError: the video was refused, or broke two processes.
            OSError: an error of the system.
        """
        with self._taken() as process:
            return self._answer_of(process, request)

    @contextmanager
    def _taken(self) -> "Iterator[_Process]":
        process = self._free.get()
        try:
            yield process
        finally:
            self._free.put(process)

    def _answer_of(self, process: "_Process", request: Mapping[str, Any]) -> dict[str, Any]:
        ended = process.ended
        answer = process.ask(request)
        self.replaced += process.ended - ended
        if "failed" in answer:
            raise OSError(answer["failed"])
        if "refused" in answer:
            raise VideoError(Path(request["video"]), str(answer["refused"]))
        return answer


class _Server:
    """The process that forks the children, and ends them: as their parent, it knows which ones live."""

    def __init__(self, answer: Answer, memory: int, program: Sequence[str] | None):
        self._lock = Lock()
        self._ours, theirs = socket.socketpair()
        with theirs:
            if program is not None:
                words = [sys.executable, *program, str(theirs.fileno())]
                self._pid = subprocess.Popen(words, pass_fds=[theirs.fileno()], start_new_session=True).pid
                return
            self._pid = fork()
            if self._pid == 0:
                try:
                    self._ours.close()
                    os.setsid()  # Ctrl-C is for the parent
                    _serve(theirs, answer, memory)
                finally:
                    os._exit(0)

    def start(self) -> tuple[int, socket.socket]:
        """Make a child; give its number and a connection to it."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            socket.send_fds(self._ours, [b"fork"], [theirs.fileno()])
            return int(self._ours.recv(32)), ours

    def end(self, pid: int) -> int:
        """End a child; give the signal that ended it, this one or an earlier one."""
        with self._lock:
            self._ours.send(b"%d" % pid)
            return int(self._ours.recv(32))

    def close(self) -> None:
        """End the server and all children."""
        with suppress(OSError):
            self._ours.send(b"stop")
        self._ours.close()
        os.waitpid(self._pid, 0)


def serve_at(number: int, answer: Answer, memory: int) -> None:
    """Be the server, in a program of its own.

    Args:
        number: of the open socket to the parent.
        answer: as for `Processes`.
        memory: as for `Processes`.
    """
    _serve(socket.socket(fileno=number), answer, memory)


def _serve(connection: socket.socket, answer: Answer, memory: int) -> None:
    """Fork and end children as the parent asks; end with it."""
    children: set[int] = set()
    with suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone
        _serve_until_stopped(connection, answer, memory, children)
    for pid in children:
        _end(pid)


def _serve_until_stopped(connection: socket.socket, answer: Answer, memory: int, children: set[int]) -> None:
    while True:
        message, passed, _, _ = socket.recv_fds(connection, 32, 1)
        if message in (b"", b"stop"):
            return
        if passed:
            pid = fork()
            if pid == 0:
                try:
                    connection.close()
                    _answer_all(socket.socket(fileno=passed[0]), answer, memory)
                finally:
                    os._exit(0)
            os.close(passed[0])
            children.add(pid)
            connection.send(b"%d" % pid)
        else:
            connection.send(b"%d" % _end(int(message)))
            children.discard(int(message))


def _end(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)  # it has not been waited for, so the number is still its own
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


class _Process:
    """A place for one child."""

    def __init__(self, server: _Server, number: int, seconds: float):
        self._server, self.number, self.seconds = server, number, seconds
        self.pid: int | None = None
        self.ended = 0
        """Children that ended here, or were ended."""

    def start(self) -> None:
        """Let a child take this place."""
        self.pid, connection = self._server.start()
        connection.settimeout(2 * self.seconds + 1)  # the alarm comes first, if the child has not been taken over
        with connection:
            self._lines = connection.makefile("rw", encoding="ascii")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and wait for its answer.

        A child may have been killed from outside, which says nothing about its video: another child tries once more.
        """
        for _ in range(2):
            if answer := self._answer(request):
                return answer
        return {"refused": BROKE}

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Let a child answer; nothing if it ended."""
        if self.pid is None:
            self.start()
        late = False
        try:
            self._lines.write(json.dumps({**request, "seconds": self.seconds}) + "\n")
            self._lines.flush()
            answer = json.loads(self._lines.readline(LONGEST))
            return answer if isinstance(answer, dict) and answer else {"refused": BROKE}
        except TimeoutError:
            late = True
        except (OSError, ValueError):  # it has ended
            pass
        if self._end() == signal.SIGALRM or late:
            return {"refused": f"decoding it takes more than {self.seconds:g} s; shrink or cut it"}
        return None

    def _end(self) -> int:
        """End the child; give the signal that ended it."""
        assert self.pid is not None
        pid, self.pid = self.pid, None
        self.ended += 1
        with suppress(OSError):
            self._lines.close()
        return self._server.end(pid)


def _answer_all(connection: socket.socket, answer: Answer, memory: int) -> None:
    """Answer until the connection ends, in a child."""
    import resource

    import torch

    torch.set_num_threads(1)  # the threads of the process that this one is a fork of are not here
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(memory)
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
