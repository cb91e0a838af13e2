"""Threads that work ahead: waited for at the end, and let go where nobody reads on."""

from collections.abc import Callable, Iterator
from functools import partial
from threading import Event
from typing import Any

import pytest

from fsar.progress import ahead, in_turn

WAYS: list[Callable[..., Iterator[Any]]] = [
    partial(ahead, workers=2),
    lambda function, items: in_turn([function, function], items),
]


@pytest.mark.parametrize("way", WAYS, ids=["ahead", "in_turn"])
def test_what_is_read_no_further_waits_for_no_thread(way: Callable[..., Iterator[Any]]) -> None:
    """It may be closed as garbage while a lock is held that the threads need, for instance in an import."""
    begun, lock, ended = Event(), Event(), Event()

    def work(item: int) -> int:
        if item:
            begun.set()
            lock.wait(60)
            ended.set()
        return item

    made = way(work, range(4))
    assert next(made) == 0
    begun.wait()
    made.close()  # type: ignore[attr-defined]
    assert not ended.is_set()
    lock.set()


@pytest.mark.parametrize("way", WAYS, ids=["ahead", "in_turn"])
def test_an_error_comes_when_its_item_is_next_and_nothing_goes_on(way: Callable[..., Iterator[Any]]) -> None:
    ended = []

    def work(item: int) -> int:
        if item == 1:
            raise ValueError("item 1")
        ended.append(item)
        return item

    made = way(work, range(8))
    assert next(made) == 0
    with pytest.raises(ValueError, match="item 1"):
        next(made)
    before = list(ended)
    assert len(before) < 8 and list(made) == [] and ended == before
