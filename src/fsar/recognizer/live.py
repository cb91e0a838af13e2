"""Live: an event when an action begins, and one when it is over.

The timeline of the last seconds (`fsar.recognizer.timeline`) is chosen again each time a window is answered, by the
rules that hold for files:

1. **Begin**, fast: `agree` of these timelines in a row end with the same segment. What is seen later may show that it
   was a part of a longer action. The begin of a repetition that follows at once is told with its end.
2. **End**, fast: `agree` timelines in a row show the segment unchanged, `WAIT` of its length has passed since, and the
   newest windows that begin after as much of it do not show the action any more.
3. **Final**, sure: no window that is still to come can change the segment, so it is that of the recorded video. This
   takes as long as the longest window, or longer among rivals. What was not told before is told now.
4. **Withdrawn** instead of final: what began, or ended, was a part of a longer action or is not seen any more.

What lies before the last final segment is forgotten, so memory does not grow with the stream.
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
from fsar.recognizer.contract import Contract
from fsar.recognizer.timeline import Rule, Spotted, WindowScores, evidence, possible, spotted
from fsar.recognizer.windows import Window, Windows
from fsar.video.camera import Source
from fsar.video.picture import Frame
from fsar.video.play import Clock, Newest, Picture, WallClock, newest, play

AGREE = 3
"""Timelines in a row that must agree before anything is said."""
DELAY = 1 / 3
"""Seconds of a stream whose frames are encoded together; more is cheaper, less is faster."""
WAIT = 0.25
"""An action is over when this share of its length has passed since, and windows that begin so late do not show it."""
KEPT = 4.0
"""Answers are kept for so many times the longest window."""
_ROUNDING = 1e-3  # seconds
_COUNT_EVERY = 60.0  # seconds of the stream between two reports on dropped frames

Kind = Literal["begin", "end", "final", "withdrawn"]
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
        return f"{self.segment}, {'ended' if self.kind == 'end' else self.kind}"


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
        [('begin', 'one', 0.8), ('end', 'one', 0.8), ('final', 'one', 0.8)]
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
        self._unchanged: dict[tuple[float, float, str], int] = {}  # segment -> timelines in a row that show it
        self._told: dict[Segment, Kind] = {}  # what was told last of each segment that is not final

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
        return self._judge(new, time) if new else []

    def cut(self, end: float) -> list[Event]:
        """End the stream, or a part of it; the next frame begins a new part.

        Args:
            end: seconds.

        Returns:
            The rest: an action that shows at the end is told, whether or not enough timelines agreed.
        """
        if self._begin is None:
            return []
        events = self._judge(list(self._windows.finish(end)), end, end - self._begin)
        self._begin_part(end)
        return events

    def _judge(self, new: list[Window], now: float, duration: float | None = None) -> list[Event]:
        """Choose the timeline again, and tell what changed; if the stream is over (`duration`), tell everything."""
        longest = self.contract.lengths[-1]
        self._recent += new
        timeline = self._timeline(now - longest, duration)
        segments = list(timeline)
        names = [(each.start, each.end, each.action) for each in segments]
        self._unchanged = {name: self._unchanged.get(name, 0) + 1 for name in names}
        told = {known: next((each for each in segments if _same(each, known)), known) for known in self._told}
        self._told = {now_seen: self._told[known] for known, now_seen in told.items()}
        events, final = self._begins(segments, now), True
        for segment in segments:
            final = final and timeline[segment].sure and (duration is not None or not self._shows_on(segment))
            if final or self._is_over(segment, now):
                events += self._ends(segment, now)
            if final:
                del self._told[segment]
                events.append(Event("final", segment, now))
                self._done = timeline[segment].until
        gone = now if duration is not None else max(self._done, now - longest)
        for known in [each for each in self._told if each.end <= gone and each not in segments]:
            del self._told[known]
            events.append(Event("withdrawn", known, now))
        oldest = max(self._done - longest / 2, now - KEPT * longest)  # those before are neighbours of later ones
        self._recent = [window for window in self._recent if window.start >= oldest]
        self._first = next((each for each in segments if timeline[each].until > self._done), None)
        return events

    def _ends(self, segment: Segment, now: float) -> list[Event]:
        """Tell that an action is over, and that it had begun, if that was not told."""
        known = self._told.get(segment)
        self._told[segment] = "end"
        before = [Event("begin", segment, now)] if known is None else []
        return [] if known == "end" else [*before, Event("end", segment, now)]

    def _begins(self, segments: list[Segment], now: float) -> list[Event]:
        """Tell the last segment, if enough timelines in a row end with it and it was not told."""
        last = segments[-1] if segments else None
        agrees = last is not None and self._last is not None and _same(last, self._last)
        self._votes, self._last = self._votes + 1 if agrees else 1, last
        if last is None or self._votes < self.agree:
            return []
        for known, kind in self._told.items():
            if _same(last, known) or (kind == "begin" and _continues(last, known)):
                return []
        self._told[last] = "begin"
        return [Event("begin", last, now)]

    def _is_over(self, segment: Segment, now: float) -> bool:
        """Tell whether an action is over, as far as can be seen: its segment does not change, and it shows no more."""
        unchanged = self._unchanged[segment.start, segment.end, segment.action]
        passed = now - segment.end >= WAIT * (segment.end - segment.start)
        return unchanged >= self.agree and passed and not self._shows_on(segment)

    def _shows_on(self, segment: Segment) -> bool:
        """Tell whether the newest windows that begin late in a segment still show its action, so that it will grow."""
        scores, way = self._scores, self._scores.actions.index(segment.action)
        late = scores.starts >= segment.start + WAIT * (segment.end - segment.start) - _ROUNDING
        late &= possible(scores, way)
        newest = [np.flatnonzero(late & (scores.lengths == length))[-1:] for length in np.unique(scores.lengths)]
        return bool((self._shown[np.concatenate(newest), way] >= self.rule.keep).any())

    def _timeline(self, known: float, duration: float | None) -> dict[Segment, Spotted]:
        """Choose segments from the answers that are kept; those to come begin at `known` or later."""
        if not self._recent:
            return {}
        actions = [name for name in self._recent[0].shows.probabilities if name != UNKNOWN]
        lasts, known = (np.inf, known) if duration is None else (duration, np.inf)
        self._scores = WindowScores.of(self.name, lasts, actions, self._recent, self.contract.spans)
        self._shown = evidence(self._scores)
        found = spotted(self._scores, self.rule, after=self._done, known=known)
        segments = {each.segment: each for each in found}
        first = next(iter(segments), None)
        if first is not None and self._first is not None and _same(first, self._first):
            # an action may last longer than answers are kept
            longer = replace(first, start=min(first.start, self._first.start))
            segments = {longer if each is first else each: found for each, found in segments.items()}
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
    _start(windows(batch), contract)
    stop = Flag()
    pictures = _thinned(play(source, clock or WallClock(), stop, tell), contract)
    with newest(pictures, 2 * batch, stop) as box:
        yield from _events(spotter, box, tell)


def _start(windows: Windows, contract: Contract) -> None:
    """Answer a little blackness: the first answer of a process takes seconds, in which pictures would be dropped."""
    for i in range(windows.batch):
        list(windows.add(i / contract.rate, np.zeros((64, 64, 3), np.uint8)))
    list(windows.finish(windows.batch / contract.rate))


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
