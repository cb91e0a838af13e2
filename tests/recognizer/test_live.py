"""Live: events agree with the timeline of the file, come in time, and memory does not grow."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsar import Recognizer
from fsar.recognizer.contract import Contract
from fsar.recognizer.judgement import Judgement
from fsar.recognizer.live import Event, LiveSpotter, batch_of
from fsar.recognizer.timeline import WindowScores, spot
from fsar.recognizer.windows import Window, Windows
from fsar.video.camera import Connection, SourceError
from fsar.video.picture import Frames
from fsar.video.play import Newest
from fsar.video.writing import write_video
from tests.recognizer.conftest import moving
from tests.video.test_camera import BLACK, FakeClock

CONTRACT = Contract((0.8,), 10.0)


def stream(times: int = 1) -> Frames:
    """Stillness, right, stillness, left, stillness; 0.8 s each."""
    parts = [moving(0, 0), moving(0, 48), moving(48, 48), moving(48, 0), moving(0, 0)]
    return np.concatenate(parts * times)


def spotter_of(recognizer: Recognizer, agree: int = 3) -> LiveSpotter:
    return LiveSpotter(lambda: recognizer.windows(CONTRACT, batch_of(CONTRACT)), CONTRACT, agree=agree, name="x")


def events_of(spotter: LiveSpotter, frames: Frames, begin: int = 0) -> list[Event]:
    return [event for i, frame in enumerate(frames, begin) for event in spotter.add(i / 10, frame)]


def test_actions_begin_and_end_as_in_the_timeline_of_the_file(small: Recognizer) -> None:
    frames = stream()
    spotter = spotter_of(small)
    events = events_of(spotter, frames)
    events += spotter.cut(len(frames) / 10)
    told = [(event.kind, event.segment.action) for event in events if event.kind != "withdrawn"]
    expected = [(kind, action) for action in ("right", "left") for kind in ("begin", "end", "final")]
    assert sorted(told) == sorted(expected)
    ends = [event.segment for event in events if event.kind == "final"]
    windows = small.windows(CONTRACT, 1)
    found = [window for i, frame in enumerate(frames) for window in windows.add(i / 10, frame)]
    found += windows.finish(len(frames) / 10)
    offline = spot(WindowScores.of("x", len(frames) / 10, ["right", "left"], found, {}))
    assert [each.action for each in offline] == ["right", "left"]
    assert all(one.iou(other) > 0.7 for one, other in zip(ends, offline, strict=True))
    for event in events:  # begin and end are told soon, and what is final after one more window
        late = event.time - event.segment.end
        assert late <= (0.8 + 0.6 if event.kind == "final" else 0.9)


def test_fewer_answers_that_must_agree_are_faster(small: Recognizer) -> None:
    begins = []
    for agree in (1, 3):
        events = events_of(spotter_of(small, agree), stream())
        begins.append(next(event.time for event in events if event.kind == "begin"))
    assert begins[0] < begins[1]
    with pytest.raises(ValueError, match="from 1 on"):
        spotter_of(small, 0)


def test_black_pictures_show_nothing(small: Recognizer) -> None:
    spotter = spotter_of(small)
    assert not events_of(spotter, np.zeros((60, 64, 64, 3), np.uint8)) and not spotter.cut(6.0)


class Played(Windows):
    """Windows whose answers are given."""

    def __init__(self, answers: dict[int, dict[str, float]], windows: Windows):
        self.__dict__.update(windows.__dict__)
        self.answers, self.count = answers, 0

    def add(self, time: float, frame: Any) -> Iterator[Window]:
        self.count += 1
        known = {"right": 0.0, "left": 0.0} | self.answers.get(self.count, {})
        yield Window(round(time - 0.8, 3), time, Judgement("", known, 0.0, None))

    def finish(self, end: float) -> Iterator[Window]:
        return iter(())


def test_an_action_that_goes_on_for_long_is_one(small: Recognizer) -> None:
    answers = {i: {"right": 0.9} for i in range(10, 400)}
    spotter = LiveSpotter(lambda: Played(answers, small.windows(CONTRACT, 1)), CONTRACT)
    events = events_of(spotter, np.zeros((450, 1, 1, 3), np.uint8))
    assert [event.kind for event in events] == ["begin", "end", "final"]
    assert events[1].segment.start < 1 and events[1].segment.end == pytest.approx(40, abs=1)
    assert len(spotter._recent) < 50


def test_an_end_does_not_wait_for_the_longest_window(small: Recognizer) -> None:
    contract = Contract((0.8, 6.0), 10.0)
    answers = {i: {"right": p} for i, p in zip(range(29, 34), (0.6, 0.9, 0.95, 0.9, 0.6), strict=True)}
    spotter = LiveSpotter(lambda: Played(answers, small.windows(contract, 1)), contract)
    events = events_of(spotter, np.zeros((120, 1, 1, 3), np.uint8))
    assert [event.kind for event in events] == ["begin", "end", "final"]
    assert events[1].time - events[1].segment.end <= 0.6
    assert events[2].time - events[2].segment.end == pytest.approx(6.0, abs=0.2)


def test_memory_stays_flat_and_nothing_is_told_twice(small: Recognizer) -> None:
    """Two minutes; the long version is `benchmarks/live.py soak`."""
    answers = {i: {"left": 0.9} for i in range(1300) if i % 40 in (19, 20, 21)}
    answers |= {i: {"right": 0.9} for i in range(1300) if i % 40 in (0, 1, 2)}
    spotter = LiveSpotter(lambda: Played(answers, small.windows(CONTRACT, 1)), CONTRACT, agree=1)
    most, ends = 0, 0
    for i in range(1200):
        ends += sum(event.kind == "final" for event in spotter.add(i / 10, BLACK))
        most = max(most, len(spotter._recent), len(spotter._told))
    assert most <= 4 * 0.8 * 10 + 2 and 58 <= ends <= 60


def test_what_turns_out_to_be_another_action_is_withdrawn(small: Recognizer) -> None:
    answers = {10: {"left": 0.6}, 11: {"left": 0.6}, 12: {"left": 0.5, "right": 0.45}}
    answers |= {i: {"right": 0.99} for i in range(13, 17)}
    spotter = LiveSpotter(lambda: Played(answers, small.windows(CONTRACT, 1)), CONTRACT, agree=1)
    events = events_of(spotter, np.zeros((60, 1, 1, 3), np.uint8))
    assert [(event.kind, event.segment.action) for event in events] == [
        ("begin", "left"),
        ("begin", "right"),
        ("end", "right"),
        ("withdrawn", "left"),
        ("final", "right"),
    ]


# ----------------------------------------------------------------------- from a source


@pytest.fixture
def no_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture waits until the one before it is taken, however slow the machine is."""
    put = Newest.put

    def patient(self: Newest, item: object) -> None:
        while self._items:
            time.sleep(1e-3)
        put(self, item)

    monkeypatch.setattr(Newest, "put", patient)


def test_a_file_gives_segments(small: Recognizer, tmp_path: Path, no_drops: None) -> None:
    write_video(tmp_path / "a.mp4", stream(), 10.0)
    events = list(small.events(tmp_path / "a.mp4", CONTRACT, clock=FakeClock()))
    ends = [event.segment for event in events if event.kind == "final"]
    assert [each.action for each in ends] == ["right", "left"]
    assert str(next(event for event in events if event.kind == "end")).endswith("ended")
    assert "begins" in str(events[0])


def test_a_file_shorter_than_a_window_is_a_window(small: Recognizer, tmp_path: Path, no_drops: None) -> None:
    write_video(tmp_path / "a.mp4", moving(0, 48), 10.0)
    assert [each.action for each in small.watch(tmp_path / "a.mp4", Contract((1.2,), 10.0))] == ["right"]


def test_the_first_answer_comes_before_the_first_picture(small: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds in a new process, and the first action of a file would be lost meanwhile."""
    done: list[str] = []
    finish = Windows.finish

    def noted(self: Windows, end: float) -> Iterator[Window]:
        yield from finish(self, end)
        done.append("answered")

    class Source:
        name = "one"

        @contextmanager
        def open(self) -> Iterator[Connection]:
            done.append("opened")
            yield Connection(iter([(0.0, lambda: BLACK)]), has_end=True)

    monkeypatch.setattr(Windows, "finish", noted)
    list(small.events(Source(), CONTRACT, clock=FakeClock()))
    assert done == ["answered", "opened", "answered"]


class Two:
    """A source whose connection breaks in the middle of an action."""

    name = "two"

    def __init__(self, clock: FakeClock):
        self.parts, self.clock = [stream()[:12], np.concatenate([stream(), *[moving(0, 0)] * 2])], clock

    @contextmanager
    def open(self) -> Iterator[Connection]:
        if not self.parts:
            raise KeyboardInterrupt
        yield Connection(self._pictures(self.parts.pop(0)), has_end=False)

    def _pictures(self, frames: Frames) -> Iterator[Any]:
        for i, frame in enumerate(frames):
            self.clock.time += 0.1
            yield i / 10, partial(lambda frame: frame, frame)
        raise SourceError(self.name, "no picture for 10 s")


def test_no_window_lies_on_two_sides_of_a_break(small: Recognizer, no_drops: None) -> None:
    said: list[str] = []
    events: list[Event] = []
    clock = FakeClock()
    with pytest.raises(KeyboardInterrupt):
        for event in small.events(Two(clock), CONTRACT, tell=said.append, clock=clock):
            events.append(event)
    assert said[:2] == ["two: no picture for 10 s; connecting again in 1 s", "two: connected again"]
    last = [event.segment for event in events if event.kind == "final"][-1]
    assert last.action == "left" and last.start > 2
    assert all(one.time <= other.time for one, other in pairwise(events))
