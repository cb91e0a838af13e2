"""Readers and writers of one recogniser, in threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsar import Recognizer
from fsar.recognizer.state import Once
from tests.recognizer.conftest import moving


def test_a_value_is_computed_once_for_all_threads() -> None:
    begun, go, calls = threading.Event(), threading.Event(), []

    def compute() -> int:
        calls.append(1)
        begun.set()
        go.wait()
        return 7

    once = Once(compute)
    assert once.known is None
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(once) for _ in range(4)]
        begun.wait()
        go.set()
        assert [each.result() for each in waiting] == [7] * 4
    assert len(calls) == 1 and once.known == 7


def test_a_failed_computation_is_tried_again() -> None:
    outcomes = iter([ValueError("no"), 3])

    def compute() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    once = Once(compute)
    with pytest.raises(ValueError, match="no"):
        once()
    assert once() == 3


def test_readers_never_see_half_an_edit(small: Recognizer) -> None:
    """Two editors add, move and remove; every answer is of actions that were enrolled together at one moment."""
    query, stop = moving(2, 46, 9), threading.Event()
    allowed = [{"right", "left"}, {"right", "left", "up"}, {"right", "left", "down"}, {"right", "left", "up", "down"}]

    def edit(name: str, seed: int) -> None:
        for turn in range(4):
            small.enroll(name, [moving(20, 20 + turn, seed), moving(8, 10 + turn, seed)])
            small.remove(name)

    def ask() -> int:
        answered = 0
        while not stop.is_set() or not answered:
            answer = small.predict(query)
            assert set(answer.probabilities) - {"unknown"} in allowed
            assert abs(sum(answer.probabilities.values()) - 1) < 1e-5
            answered += 1
        return answered

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(ask) for _ in range(2)]
        editors = [pool.submit(edit, "up", 1), pool.submit(edit, "down", 2)]
        try:
            for editor in editors:
                editor.result()
        finally:
            stop.set()
        assert all(reader.result() for reader in readers)
    assert small.actions == {"right": 3, "left": 3}  # no edit was lost


def test_enrolments_of_many_threads_all_count(small: Recognizer) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: small.enroll("right", moving(1, 47, 100 + seed)), range(8)))
    assert small.actions["right"] == 11
