"""One process at a time trains in a folder: a lock that names its owner.

On one machine, the operating system holds the lock, and frees it if the owner dies. Another machine with the same
folder may not see this lock. So the owner writes a sign of life at intervals, and others wait for one before they take
the lock.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, TextIO

from fsar.files import lock

LOCK = "run.lock"
SIGN_OF_LIFE = 15.0
"""Seconds between two signs of life."""
WATCH = 60.0
"""Seconds without a sign of life after which a process on another machine is dead."""


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold a folder's lock.

    Args:
        folder: made if there is none.

    Raises:
        ValueError: a living process holds the lock; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with path.open("a+", encoding="utf-8") as file:
        try:
            lock(file, wait=False)
        except BlockingIOError as error:
            raise _refusal(folder, _owner(file)) from error
        owner = _owner(file)
        if owner and owner["host"] != socket.gethostname() and _lives(path, owner):
            raise _refusal(folder, owner)
        _sign(file)
        ended = Event()
        thread = Thread(target=_show_life, args=(path, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            file.truncate(0)  # not removed: another process may have opened it already


def _sign(file: TextIO) -> None:
    file.truncate(0)
    file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    file.flush()


def _owner(file: TextIO) -> dict[str, Any]:
    """Read the owner from the lock; empty if there is none, or if a kill cut the file short."""
    file.seek(0)
    try:
        owner = dict(json.loads(file.read()))
    except (TypeError, ValueError):
        return {}
    return owner if owner.keys() >= {"host", "pid"} else {}


def _show_life(path: Path, ended: Event) -> None:
    while not ended.wait(SIGN_OF_LIFE):
        path.touch()


def _lives(path: Path, owner: dict[str, Any]) -> bool:
    """Wait for a sign of life."""
    who = f"process {owner['pid']} on {owner['host']}"
    print(f"fsar: {who} has locked {path.parent}; watching {WATCH:.0f} s for a sign of life", file=sys.stderr)  # noqa: T201
    before, end = path.stat().st_mtime_ns, time.monotonic() + WATCH
    while time.monotonic() < end:
        time.sleep(min(1.0, WATCH))
        if path.stat().st_mtime_ns != before:
            return True
    return False


def _refusal(folder: Path, owner: dict[str, Any]) -> ValueError:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return ValueError(
        f"{who} trains in {folder} already; wait for its end, or give another --out (on a cluster, start one task, and "
        f"let --devices start the others)"
    )
