"""Progress bars: a rate and an end for everything that takes more than a few seconds."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress_bar(items: Iterable[Item], what: str, unit: str, total: int, show: bool = True) -> "tqdm[Item]":
    """Wrap an iterable in a bar on stderr; in a log file, where a bar is a line each time, one line per 30 s."""
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(items, what, total, unit=unit, disable=not show, mininterval=interval, maxinterval=interval)
