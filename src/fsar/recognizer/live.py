"""Live: an event when an action begins, and one when it ends.

The timeline of the last seconds (`fsar.recognizer.timeline`) is chosen again each time a window is answered, by the
rules that hold for files. So a live answer is that for the recorded video, as soon as it can be known:

1. **Begin.** An action begins when `agree` of these timelines in a row show it.
2. **End.** It ends when `agree` times in a row all new windows that may show it are below `Rule.keep`, or when another
   segment follows it in as many timelines.
3. **Withdrawn.** What is seen later may show that it was another action, such as a part of a longer one. If `agree`
   timelines in a row lack an action that began, it is withdrawn.

What lies before the end of the last action is forgotten, so memory does not grow with the stream.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Event as Flag
from typing import Literal

import numpy as np

from fsar.datasets.segments.segment import Segment
from fsar.datasets.segments.segment import clock as clock_time
from fsar.recognizer.answer import UNKNOWN
from fsar.recognizer.contract import HOP, Contract
from fsar.recognizer.timeline import Rule, WindowScores, spot
from fsar.recognizer.windows import Window, Windows
from fsar.video.camera import Clock, Newest, Picture, Source, WallClock, newest, play
from fsar.video.picture import Frame

AGREE = 3
"""Timelines in a row that must agree before anything is said."""
KEPT = 2.0
"""Answers are kept for so many times the longest window."""
_COUNT_EVERY = 60.0  # seconds of the stream between two reports on dropped frames

Kind = Literal["begin", "end", "withdrawn"]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Event:
    """What happened to an action.

    Example:
        >>> print(Event("end", Segment("camera 0", 62.5, 64.0, "wave", 0.9), 64.5))
        camera 0 1:02.5 to 1:04.0: wave 90%, ended
    """

    kind: Kind
    segment: Segment
    """Seconds count from the first picture of the source. At the begin, the end is that of what was seen so far."""
    time: float
    """Seconds from the first picture until the event was known."""

    def __str__(self) -> str:
        if self.kind == "begin":
            seen = self.segment
            return f"{seen.video} {clock_time(seen.start)}: {seen.action} {seen.probability:.0%}, begins"
        return f"{self.segment}, {'ended' if self.kind == 'end' else 'withdrawn'}"


class LiveSpotter:
    """Turns the frames of a stream into events.

    Args:
        windows: begins to answer the windows of a stream.
        contract: of these windows.
        rule: how segments are chosen from windows.
        agree: timelines in a row that must agree.
        name: of the source.

    Raises:
        ValueError: `agree` is not a whole number from 1 on.

    Example:
        >>> from fsar import Recognizer
        >>> noise = np.random.default_rng(0).integers(0, 256, (4, 8, 64, 64, 3), np.uint8)
        >>> recognizer = Recognizer("tiny")
        >>> recognizer.enroll("one", list(noise[:2]))
        >>> recognizer.enroll("other", list(noise[2:]))
        >>> contract = Contract(lengths=(0.8,), rate=10.0)
        >>> spotter = LiveSpotter(lambda: recognizer.windows(contract, batch=1), contract, name="noise")
        >>> events = [event for i, frame in enumerate(noise[0]) for event in spotter.add(i / 10, frame)]
        >>> events += spotter.cut(0.8)
        >>> [(event.kind, event.segment.action, event.segment.end) for event in events]
        [('begin', 'one', 0.8), ('end', 'one', 0.8)]
    """

    def __init__(
        self,
        windows: Callable[[], Windows],
        contract: Contract,
        rule: Rule | None = None,
        agree: int = AGREE,
        name: str = "",
    ):
        if agree < 1:
            raise ValueError(f"{agree} timelines must agree; expected a whole number from 1 on")
        self._new_windows, self.contract, self.agree, self.name = windows, contract, agree, name
        self.rule = rule or Rule()
        self._begin_part(0.0)

    def _begin_part(self, begin: float) -> None:
        self._windows = self._new_windows()
        self._begin: float | None = None
        self._done = begin  # what is before was told
        self._recent: list[Window] = []
        self._next: Segment | None = None  # not told yet
        self._open: Segment | None = None
        self._votes = self._quiet = self._missing = self._followed = 0

    def add(self, time: float, frame: Frame) -> list[Event]:
        """Take the next frame.

        Args:
            time: seconds from the first picture on.
            frame: uint8 [height, width, rgb], short side at most 256.

        Returns:
            What is known by now.
        """
        self._begin = time if self._begin is None else self._begin
        new = list(self._windows.add(time, frame))
        return self._judge(new, time, np.inf) if new else []

    def cut(self, end: float) -> list[Event]:
        """End the stream, or a part of it; the next frame begins a new part.

        Args:
            end: seconds.

        Returns:
            The rest: an action that shows at the end is told, whether or not enough timelines agreed.
        """
        if self._begin is None:
            return []
        new = list(self._windows.finish(end))
        events = self._judge(new, end, end - self._begin) if new else []
        for segment in self._timeline(end - self._begin):
            if self._open is None or not _same(self._open, segment):
                events += [*self._end(end), Event("begin", segment, end)]
            self._open = self._joined(segment)
        events += self._end(end)
        self._begin_part(end)
        return events

    def _judge(self, new: list[Window], now: float, duration: float) -> list[Event]:
        """Choose the timeline again, and tell what changed."""
        self._recent += new
        segments = self._timeline(duration)
        if self._open is None:
            return self._look_for_begin(segments, now)
        return self._look_for_end(segments, new, now)

    def _look_for_begin(self, segments: list[Segment], now: float) -> list[Event]:
        first = segments[0] if segments else None
        agrees = first is not None and self._next is not None and _same(self._next, first)
        self._votes = self._votes + 1 if agrees else int(first is not None)
        self._next = first
        self._forget(now - KEPT * self.contract.lengths[-1])
        if first is None or self._votes < self.agree:
            return []
        self._open = first
        self._quiet = self._missing = self._followed = 0
        return [Event("begin", first, now)]

    def _look_for_end(self, segments: list[Segment], new: list[Window], now: float) -> list[Event]:
        assert self._open is not None
        place = next((i for i, each in enumerate(segments) if _same(self._open, each)), None)
        self._missing = self._missing + 1 if place is None else 0
        if place is not None:
            self._open = self._joined(segments[place])
            self._followed = self._followed + 1 if place + 1 < len(segments) else 0
        share = self._largest(new, self._open.action)
        if share is not None:
            self._quiet = self._quiet + 1 if share < self.rule.keep else 0
        if self._missing >= self.agree:
            withdrawn = Event("withdrawn", self._open, now)
            self._open, self._votes = None, 0
            return [withdrawn]
        if max(self._quiet, self._followed) >= self.agree and now > self._open.end:
            return self._end(now)
        self._forget(now - KEPT * self.contract.lengths[-1])
        return []

    def _end(self, now: float) -> list[Event]:
        """Tell the end of the action that is going on, if there is one."""
        if self._open is None:
            return []
        ended, self._open, self._next, self._votes = self._open, None, None, 0
        self._done = ended.end
        self._forget(ended.end)
        return [Event("end", ended, now)]

    def _forget(self, before: float) -> None:
        """Drop the windows that begin before a time."""
        self._recent = [window for window in self._recent if window.start >= before - 1e-3]

    def _joined(self, segment: Segment) -> Segment:
        """Keep the begin of an action that lasts longer than the answers are kept."""
        forgotten = self._recent and self._open is not None and self._open.start < self._recent[0].start
        return replace(segment, start=self._open.start) if forgotten and self._open else segment

    def _largest(self, new: list[Window], action: str) -> float | None:
        """The largest probability of an action in windows that may show it; None if there is no such window."""
        low, high = self.contract.spans.get(action, (0.0, np.inf))
        found = [
            window.shows.probabilities[action] for window in new if low <= round(window.end - window.start, 2) <= high
        ]
        return max(found, default=None)

    def _timeline(self, duration: float) -> list[Segment]:
        """Choose segments from the answers that are kept."""
        if not self._recent:
            return []
        actions = [name for name in self._recent[0].shows.probabilities if name != UNKNOWN]
        scores = WindowScores.of(self.name, duration, actions, self._recent, self.contract.spans)
        return spot(scores, self.rule)


def _same(one: Segment, other: Segment) -> bool:
    """Tell whether two segments of one stream show one action at one time."""
    return one.action == other.action and one.start <= other.end and other.start <= one.end


# ----------------------------------------------------------------------- from a source to events


def watch(
    windows: Callable[[int], Windows],
    contract: Contract,
    source: Source,
    rule: Rule | None = None,
    agree: int = AGREE,
    tell: Tell = lambda words: None,
    clock: Clock | None = None,
) -> Iterator[Event]:
    """Give the events of a live source.

    One thread reads and decodes, and this one computes. If it is too slow, the oldest frames are dropped, so that the
    events are never late.

    Args:
        windows: begins to answer the windows of a stream; its argument says how many frames are encoded together.
        contract: of these windows.
        source: as `source_named` gives it.
        rule: how segments are chosen from windows.
        agree: timelines in a row that must agree.
        tell: is told in words when a connection is lost or found, and how many frames were dropped.
        clock: the time; by default that of the world.

    Yields:
        Events, as soon as they are known. They end with a recording; a camera has no end.

    Raises:
        SourceError: the source cannot be opened, or a recording breaks.
        ValueError: as for `LiveSpotter`.
    """
    batch = batch_of(contract)
    spotter = LiveSpotter(lambda: windows(batch), contract, rule, agree, source.name)
    stop = Flag()
    pictures = _thinned(play(source, clock or WallClock(), stop, tell), contract)
    with newest(pictures, 2 * batch, stop) as box:
        yield from _events(spotter, box, tell)


def batch_of(contract: Contract) -> int:
    """Number of frames that are encoded together: those between two windows of the shortest length.

    Example:
        >>> batch_of(Contract(lengths=(1.0, 2.0), rate=24.0))
        3
    """
    return max(1, round(contract.lengths[0] * HOP * contract.rate))


def _thinned(pictures: Iterator[Picture], contract: Contract) -> Iterator[Picture]:
    """Leave out the pictures that `Windows.wants` would refuse, so that they neither wait nor count as dropped."""
    last = -np.inf
    with closing(pictures):  # type: ignore[type-var]
        for picture in pictures:
            if picture.time >= last + 0.75 / contract.rate:
                last = picture.time
                yield picture


def _events(spotter: LiveSpotter, box: Newest[Picture], tell: Tell) -> Iterator[Event]:
    part, last, frames, counted = 0, 0.0, 0, _Counted(tell)
    for picture in box:
        if picture.part != part:  # no window may lie on two sides of a break
            yield from spotter.cut(last)
            part = picture.part
        last, frames = picture.time, frames + 1
        counted.note(last, frames, box.dropped)
        yield from spotter.add(last, picture.frame())
    yield from spotter.cut(last + 1 / spotter.contract.rate)
    counted.end(frames, box.dropped)


class _Counted:
    """Tells how many frames were dropped, once a minute if there are any."""

    def __init__(self, tell: Tell):
        self._tell, self._next, self._told = tell, _COUNT_EVERY, 0

    def note(self, time: float, frames: int, dropped: int) -> None:
        if time >= self._next:
            self._next = time + _COUNT_EVERY
            self.end(frames, dropped)

    def end(self, frames: int, dropped: int) -> None:
        if dropped > self._told:
            self._told = dropped
            self._tell(
                f"dropped {dropped} of {frames + dropped} frames so far: this machine is too slow for all of them; "
                f"a lower --rate needs less"
            )
