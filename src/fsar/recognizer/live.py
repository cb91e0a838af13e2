"""Live: an event when an action begins, and one when it is over.

The timeline of the last seconds (`fsar.recognizer.timeline`) is chosen again each time a window is answered, by the
rules that hold for files:

1. **Begin**, fast: `agree` of these timelines in a row end with the same segment. What is seen later may show that it
   was a part of a longer action. The begin of a repetition that follows at once is told with its end.
2. **End**, sure: no window that is still to come can overlap the segment, so it is that of the recorded video. This
   takes as long as the longest window, and longer if the newest windows still show the action. If the begin was not
   told, it is told now.
3. **Withdrawn**: an action began, but the timeline does not show it any more.

What lies before the last end is forgotten, so memory does not grow with the stream.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from threading import Event as Flag
from typing import Literal

import numpy as np

from fsar.backbones.fast import BATCH as LARGEST_BATCH
from fsar.datasets.segments.segment import Segment
from fsar.datasets.segments.segment import clock as clock_time
from fsar.recognizer.answer import UNKNOWN
from fsar.recognizer.contract import HOP, Contract
from fsar.recognizer.timeline import Rule, WindowScores, spot
from fsar.recognizer.windows import Window, Windows
from fsar.video.camera import Source
from fsar.video.picture import Frame
from fsar.video.play import Clock, Newest, Picture, WallClock, newest, play

AGREE = 3
"""Timelines in a row that must agree before anything is said."""
DELAY = 1 / 3
"""Seconds of a stream whose frames are encoded together; more is cheaper, less is faster."""
KEPT = 4.0
"""Answers are kept for so many times the longest window."""
_ROUNDING = 1e-3  # seconds
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
        self._begin: float | None = None  # of the first frame
        self._newest: dict[float, Window] = {}  # by length
        self._done = begin  # everything before was told
        self._recent: list[Window] = []
        self._last: Segment | None = None  # the last segment of the last timeline
        self._votes = 0
        self._first: Segment | None = None  # the first segment of the last timeline that may still change
        self._begun: list[Segment] = []  # told to begin, and not yet to end

    @property
    def newest(self) -> list[Window]:
        """The last complete window of each length: what is seen now."""
        return list(self._newest.values())

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
        self._newest |= {round(window.end - window.start, 2): window for window in new}
        return self._judge(new, time, time - self.contract.lengths[-1], np.inf) if new else []

    def cut(self, end: float) -> list[Event]:
        """End the stream, or a part of it; the next frame begins a new part.

        Args:
            end: seconds.

        Returns:
            The rest: an action that shows at the end is told, whether or not enough timelines agreed.
        """
        if self._begin is None:
            return []
        events = self._judge(list(self._windows.finish(end)), end, np.inf, end - self._begin)
        self._begin_part(end)
        return events

    def _judge(self, new: list[Window], now: float, sure: float, duration: float) -> list[Event]:
        """Choose the timeline again, and tell what changed; segments that end before `sure` cannot change."""
        self._recent += [window for window in new if window.start >= self._done - _ROUNDING]
        segments = self._timeline(duration)
        now_seen = (next((each for each in segments if _same(each, known)), known) for known in self._begun)
        self._begun = list(dict.fromkeys(now_seen))
        events = self._begins(segments, now)
        for known in [each for each in self._begun if each.end <= sure and each not in segments]:
            self._begun.remove(known)
            events.append(Event("withdrawn", known, now))
        for segment in segments:
            if segment.end <= sure and not self._goes_on(segment, now, sure):
                if segment in self._begun:
                    self._begun.remove(segment)
                else:
                    events.append(Event("begin", segment, now))
                events.append(Event("end", segment, now))
                self._done = segment.end
        oldest = max(self._done, now - KEPT * self.contract.lengths[-1])
        self._recent = [window for window in self._recent if window.start >= oldest - _ROUNDING]
        self._first = next((each for each in segments if each.end > self._done), None)
        return events

    def _begins(self, segments: list[Segment], now: float) -> list[Event]:
        """Tell the last segment, if enough timelines in a row end with it and it was not told."""
        last = segments[-1] if segments else None
        agrees = last is not None and self._last is not None and _same(last, self._last)
        self._votes, self._last = self._votes + 1 if agrees else 1, last
        if last is None or self._votes < self.agree or any(_continues(last, known) for known in self._begun):
            return []
        self._begun.append(last)
        return [Event("begin", last, now)]

    def _goes_on(self, segment: Segment, now: float, sure: float) -> bool:
        """Tell whether the newest windows still show the action, so that the segment will grow."""
        low, high = self.contract.spans.get(segment.action, (0.0, np.inf))
        shares = [
            window.shows.probabilities[segment.action]
            for window in self._recent
            if window.end > now - HOP * self.contract.lengths[-1] - _ROUNDING
            and low <= round(window.end - window.start, 2) <= high
        ]
        return sure < now and max(shares, default=0.0) >= self.rule.keep

    def _timeline(self, duration: float) -> list[Segment]:
        """Choose segments from the answers that are kept."""
        if not self._recent:
            return []
        actions = [name for name in self._recent[0].shows.probabilities if name != UNKNOWN]
        scores = WindowScores.of(self.name, duration, actions, self._recent, self.contract.spans)
        segments = spot(scores, self.rule)
        if segments and self._first is not None and _same(segments[0], self._first):
            # an action may last longer than answers are kept
            segments[0] = replace(segments[0], start=min(segments[0].start, self._first.start))
        return segments


def _same(one: Segment, other: Segment) -> bool:
    """Tell whether two segments show one action and share more than half of the shorter one."""
    shared = min(one.end, other.end) - max(one.start, other.start)
    return one.action == other.action and shared > min(one.end - one.start, other.end - other.start) / 2


def _continues(segment: Segment, known: Segment) -> bool:
    """Tell whether a segment repeats or prolongs a known one, so that its begin alone is no news."""
    return segment.action == known.action and segment.start - known.end < segment.end - segment.start


# ----------------------------------------------------------------------- from a source to events


def watch(
    windows: Callable[[int], Windows],
    contract: Contract,
    source: Source,
    rule: Rule | None = None,
    agree: int = AGREE,
    tell: Tell = lambda words: None,
    clock: Clock | None = None,
) -> Generator[Event, None, None]:
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
    """Number of frames that are encoded together: those of `DELAY`, at most the images of a batch of OpenVINO.

    Example:
        >>> batch_of(Contract(lengths=(1.0, 2.0), rate=24.0)), batch_of(Contract(lengths=(1.0, 2.0), rate=12.0))
        (8, 4)
    """
    return max(1, min(LARGEST_BATCH, round(contract.rate * DELAY)))


def _thinned(pictures: Iterator[Picture], contract: Contract) -> Iterator[Picture]:
    """Leave out the pictures that `Windows.wants` would refuse, so that they neither wait nor count as dropped."""
    last = -np.inf
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
