"""Progress bars with rate and remaining time, and threads that work ahead."""

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
    """If Ctrl-C interrupts tqdm's constructor, `__del__` would fail; ignore that."""

    def __del__(self) -> None:
        with suppress(AttributeError):
            super().__del__()


def progress_bar(items: Iterable[Item], what: str, unit: str, total: int, show: bool = True) -> "tqdm[Item]":
    """Show progress on stderr: a bar in a terminal, a line every 30 s in a file.

    Args:
        items: to iterate over.
        what: name of the work.
        unit: name of an item.
        total: number of items.
        show: False hides it.

    Returns:
        An iterable of the same items.
    """
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return _Bar(items, what, total, unit=unit, disable=not show, mininterval=interval, maxinterval=interval)


def ahead(function: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """Map in threads, a few items ahead of the reader; results come in order.

    Args:
        function: runs in a thread.
        items: its arguments.
        workers: threads.

    Raises:
        Exception: the exception of `function`, when its item is next.

    Example:
        >>> list(ahead(len, ["a", "bb", "ccc"], workers=2))
        [1, 2, 3]
    """
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
