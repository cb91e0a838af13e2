"""`fsar` in a process of its own: with limits, or with a signal at a known moment. Nothing here waits for a clock."""

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import IO, NoReturn, TypeAlias

from fsar import cli

Words = tuple[str | Path | int, ...]
Run: TypeAlias = "subprocess.CompletedProcess[str]"
Event = tuple[str, str, int]


def as_a_user(*words: str | Path | int, signalled: Event | None = None, **more: object) -> Run:
    """Run `python -m fsar.cli`. It imports everything again, which takes seconds: `forked` does not.

    Args:
        words: after `fsar`.
        signalled: kill it at this event (see `signal_at`).
        more: arguments of `subprocess.run`.
    """
    start = ["-m", "fsar.cli"] if signalled is None else ["-c", _SIGNALLED, *map(str, signalled)]
    command = [sys.executable, *start, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]


_SIGNALLED = """
import sys
from fsar import cli
from tests.processes import signal_at
signal_at(sys.argv[1], sys.argv[2], int(sys.argv[3]))()
sys.exit(cli.main(sys.argv[4:]))
"""


def forked(*words: str | Path | int, before: Callable[[], object] | None = None) -> Run:
    """Run `fsar` in a fork of this process, which has imported everything.

    Args:
        words: after `fsar`.
        before: called in the new process first, to set a limit or to expect a signal.
    """
    _import_what_verbs_import()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _run_and_exit(words, before, out, err)
        _, status = os.waitpid(child, 0)
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read().decode())
    return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), *printed)


@cache
def _import_what_verbs_import() -> None:
    """Import it in this process, so that each fork has it already."""
    for module in ("recognizer", "report.demo", "reproduce", "text.describe"):
        import_module(f"fsar.{module}")


def _run_and_exit(words: Words, before: Callable[[], object] | None, out: IO[bytes], err: IO[bytes]) -> NoReturn:
    code: object = 1
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", encoding="utf-8", errors="strict") for fd in (1, 2))
        if before is not None:
            before()
        code = cli.main([os.fspath(word) if isinstance(word, Path) else str(word) for word in words])
    except SystemExit as stopped:
        code = stopped.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
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
