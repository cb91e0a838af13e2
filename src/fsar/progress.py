"""Progress bars with rate and remaining time, and threads that work ahead."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle, islice
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Made = TypeVar("Made")


class _Bar(tqdm):
    """If Ctrl-C interrupts tqdm's constructor, `__del__` would fail; ignore that."""

    def __del__(self) -> None:
        with suppress(AttributeError):
            super().__del__()


def progress_bar(
    items: Iterable[Item], what: str, unit: str, total: int, show: bool = True, done: int = 0
) -> "tqdm[Item]":
    """Show progress on stderr: a bar in a terminal, a line every 30 s in a file.

    Args:
        items: to iterate over.
        what: name of the work.
        unit: name of an item.
        total: number of items, with those that are done.
        show: False hides it.
        done: where the bar begins.

    Returns:
        An iterable of the same items.
    """
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return _Bar(
        items, what, total, unit=unit, disable=not show, mininterval=interval, maxinterval=interval, initial=done
    )


def one_output() -> bool:
    """Tell whether stdout and stderr are one terminal or file.

    Rows that are printed there show the progress; a bar would stand between them.
    """
    with suppress(OSError, ValueError):  # no files
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    return False


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads, and wait for them at the end.

    If nobody reads on, it does not wait. The reader's generator is then garbage, which any thread may close, also while
    that thread holds a lock that these threads need.
    """
    pool, wait = ThreadPoolExecutor(count), True
    try:
        yield pool
    except GeneratorExit:
        wait = False
        raise
    finally:
        pool.shutdown(wait)


def ahead(
    function: Callable[[Item], Made], items: Iterable[Item], workers: int, most: int | None = None
) -> Iterator[Made]:
    """Map in threads, a few items ahead of the reader; results come in order.

    Args:
        function: runs in a thread.
        items: its arguments.
        workers: threads.
        most: results that may wait for the reader; by default 2 per thread.

    Raises:
        Exception: the exception of `function`, when its item is next.

    Example:
        >>> list(ahead(len, ["a", "bb", "ccc"], workers=2))
        [1, 2, 3]
    """
    with _threads(workers) as pool:
        yield from _in_order(lambda item: pool.submit(function, item), items, most or 2 * workers)


def in_turn(functions: Sequence[Callable[[Item], Made]], items: Iterable[Item]) -> Iterator[Made]:
    """Map with several functions that take turns; results come in order.

    Args:
        functions: each runs in a thread of its own; a single one runs in the caller's.
        items: item i goes to function i modulo their number.

    Raises:
        Exception: the exception of a function, when its item is next.

    Example:
        >>> list(in_turn([len, lambda word: -len(word)], ["a", "bb", "ccc"]))
        [1, -2, 3]
    """
    if len(functions) == 1:
        yield from map(functions[0], items)
        return
    with ExitStack() as stack:
        pools = [stack.enter_context(_threads(1)) for _ in functions]
        turns = cycle(zip(pools, functions, strict=True))

        def submit(item: Item) -> "Future[Made]":
            pool, function = next(turns)
            return pool.submit(function, item)

        yield from _in_order(submit, items, 2 * len(functions))


def _in_order(submit: Callable[[Item], "Future[Made]"], items: Iterable[Item], ahead_by: int) -> Iterator[Made]:
    """Submit a few items ahead of the reader; yield the results in the order of the items."""
    rest = iter(items)
    waiting = [submit(item) for item in islice(rest, ahead_by)]
    try:
        while waiting:
            result = waiting.pop(0).result()
            with suppress(StopIteration):
                waiting.append(submit(next(rest)))
            yield result
    finally:
        for future in waiting:
            future.cancel()
