"""Long work: a bar with a rate and an end for everything over a few seconds, and threads that run ahead."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Made = TypeVar("Made")


class _Bar(tqdm):
    """A bar that Ctrl-C caught while it was being made lacks what closing it reads: there is nothing to close."""

    def __del__(self) -> None:
        with suppress(AttributeError):
            super().__del__()


def progress_bar(items: Iterable[Item], what: str, unit: str, total: int, show: bool = True) -> "tqdm[Item]":
    """Wrap an iterable in a bar on stderr; in a log file, where a bar is a line each time, one line per 30 s."""
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return _Bar(items, what, total, unit=unit, disable=not show, mininterval=interval, maxinterval=interval)


def ahead(function: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """Map in threads, in order, a few items ahead of the reader."""
    with ThreadPoolExecutor(workers) as pool:
        rest = iter(items)
        waiting = [pool.submit(function, item) for item in islice(rest, 2 * workers)]
        try:
            while waiting:
                result = waiting.pop(0).result()
                with suppress(StopIteration):
                    waiting.append(pool.submit(function, next(rest)))
                yield result
        finally:
            for future in waiting:
                future.cancel()
