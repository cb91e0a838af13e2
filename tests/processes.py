"""`fsar` in a process of its own: with limits, or with a signal at a known moment. Nothing here waits for a clock."""

import ctypes
import faulthandler
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from itertools import count
from pathlib import Path
from threading import Timer
from typing import IO, NoReturn, TypeAlias

import torch

from fsar import cli
from fsar.video.processes import fork

ROOT = Path(__file__).parent.parent
Words = tuple[str | Path | int, ...]
Run: TypeAlias = "subprocess.CompletedProcess[str]"

TERMINAL = 2
"""Where pytest itself prints, which captures what tests print; `conftest.py` sets it."""
HANGS = 1000.0
"""Seconds after which a process is asked to print where it stands; later, pytest ends the test (pyproject.toml)."""


def as_a_user(*words: str | Path | int, **more: object) -> Run:
    """Run `python -m fsar.cli`. It imports everything again, which takes seconds: `forked` does not.

    Args:
        words: after `fsar`.
        more: arguments of `subprocess.run`.
    """
    command = [sys.executable, "-m", "fsar.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]


def forked(*words: str | Path | int, before: Callable[[], object] | None = None) -> Run:
    """Run `fsar` in a fork of this process, which has imported everything.

    Args:
        words: after `fsar`.
        before: called in the new process first, to set a limit or to expect a signal.
    """
    run = _Fork(words, before)
    return run.ended(waited(run.pid))


def waited(pid: int) -> int:
    """Wait for the end of a process that `begin` has begun; if it hangs, it prints where.

    Returns:
        Its status, as `os.waitpid` gives it.
    """
    asking = Timer(HANGS, os.kill, (pid, signal.SIGUSR2))
    asking.daemon = True
    asking.start()
    try:
        return os.waitpid(pid, 0)[1]
    finally:
        asking.cancel()


def forked_together(*words: str | Path | int, processes: int = 2) -> list[Run]:
    """Run one `fsar` command as several processes that train together, each a fork; if one fails, the others stop.

    Args:
        words: after `fsar`, as each process gets them.
        processes: how many.
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [address | {"LOCAL_RANK": str(rank), "NODE_RANK": "0"} for rank in range(processes)]
    runs = [_Fork(words, partial(os.environ.update, rank)) for rank in ranks]
    running, ended = {run.pid: run for run in runs}, {}
    while running:
        pid, status = os.wait()
        if pid not in running:  # of something else in this process
            continue
        run = running.pop(pid)
        ended[run] = run.ended(status)
        if status:
            for other in running:
                os.kill(other, signal.SIGKILL)
    return [ended[run] for run in runs]


def free_port() -> int:
    """A port of this machine at which nobody listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def child(function: Callable[[], object]) -> int:
    """Call a function in a fork of this process, which then ends: with status 0, if the function returned.

    Returns:
        The number of the process, for `waited`.
    """
    pid = fork()
    if pid == 0:
        code = 1
        try:
            begin(TERMINAL)
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:  # whatever happens, no fork goes on as a second test process
            os._exit(code)
    return pid


def started(*words: str | Path | int, before: str = "") -> "_Started":
    """Start `fsar` as a new program, which ends with this process.

    For services: a fork of this process, whose libraries run threads, sometimes crashed at its end. Wait for it with
    `waited(found.pid)`, then see `found.ended`.

    Args:
        words: after `fsar`.
        before: Python that it runs first, with the names of this file.
    """
    return _New(words, before)


class _Started:
    """A process that runs `fsar`, and what it prints."""

    pid: int

    def __init__(self, words: Words):
        self.words = words
        self.printed = [tempfile.TemporaryFile() for _ in ("out", "err")]  # noqa: SIM115 - `ended` closes them

    def ended(self, status: int) -> Run:
        """What it left, once it has been waited for."""
        printed = []
        for file in self.printed:
            with file:
                file.seek(0)
                printed.append(file.read().decode())
        return subprocess.CompletedProcess(self.words, os.waitstatus_to_exitcode(status), *printed)


class _New(_Started):
    """A new program."""

    def __init__(self, words: Words, before: str):
        super().__init__(words)
        out, err = self.printed
        code = f"from tests.processes import *; begin({TERMINAL})\n{before}\nsys.exit(cli.main(sys.argv[1:]))"
        command = [sys.executable, "-X", "faulthandler", "-c", code, *map(str, words)]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            command, stdout=out, stderr=err, env=os.environ | {"PYTHONPATH": paths}, pass_fds=[TERMINAL]
        )
        self.pid = self._process.pid


def begin(terminal: int) -> None:
    """End this process when its parent ends, whose connections it may hold; print where it stands at SIGUSR2.

    A fork makes PyTorch's pool of threads anew here: two of its threads that need one at once would crash.

    Args:
        terminal: number of an open file.
    """
    torch.set_num_threads(1)
    faulthandler.register(signal.SIGUSR2, file=terminal)
    with suppress(AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class _Fork(_Started):
    """A fork of this process."""

    def __init__(self, words: Words, before: Callable[[], object] | None):
        super().__init__(words)
        _import_what_verbs_import()
        self.pid = fork()
        if self.pid == 0:
            _run_and_exit(words, before, *self.printed)


@cache
def _import_what_verbs_import() -> None:
    """Import it in this process, so that each fork has it already."""
    for module in ("recognizer", "report.demo", "reproduce", "text.describe"):
        import_module(f"fsar.{module}")


def _run_and_exit(words: Words, before: Callable[[], object] | None, out: IO[bytes], err: IO[bytes]) -> NoReturn:
    code: object = 1
    try:
        begin(TERMINAL)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", encoding="utf-8", errors="strict") for fd in (1, 2))
        faulthandler.enable(sys.stderr)  # a crash in a library says where, in what the fork printed
        if before is not None:
            before()
        code = cli.main([os.fspath(word) if isinstance(word, Path) else str(word) for word in words])
    except SystemExit as stopped:
        code = stopped.code
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # whatever happens, no fork goes on as a second test process
            os._exit(code if isinstance(code, int) else 1)


def limited(size: int) -> Callable[[], None]:
    """A disk on which no file grows beyond `size` bytes: for `before`."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return limit


def signal_at(event: str, pattern: str, times: int, number: int = signal.SIGKILL) -> Callable[[], None]:
    """A signal when something happens for the n-th time: for `before`.

    Args:
        event: an audit event of Python, as `open` or `os.rename`; the signal comes just before it.
        pattern: regular expression that the event's arguments must match, as a path.
        times: n.
        number: the signal.
    """

    def expect() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background would ignore it
        seen = count(1)

        def hook(name: str, arguments: tuple[object, ...]) -> None:
            if name == event and re.search(pattern, str(arguments)) and next(seen) == times:
                os.kill(os.getpid(), number)

        sys.addaudithook(hook)

    return expect
