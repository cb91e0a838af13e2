"""Pictures of a live source over time: at the speed of the source, with a new connection if a stream breaks.

`play` gives the pictures with their times. `Newest` hands them from the thread that reads to the one that computes: if
the latter is slow, old pictures are dropped, and the queue never grows. A picture is converted only if it is used.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Condition, Event, Thread
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from fsar.video.camera import Source, SourceError
from fsar.video.picture import Frame

LONGEST_PAUSE = 30.0
"""Seconds between two attempts to connect, at most; the first pause is 1 s, and each is twice as long as the last."""
JUMP = 5.0
"""Seconds; if the times of a stream jump by more, what follows counts as another part of it."""

Item = TypeVar("Item")
Tell = Callable[[str], None]


@runtime_checkable
class Clock(Protocol):
    """The time that sources follow; tests have one of their own."""

    def now(self) -> float:
        """Seconds since any moment."""

    def wait(self, seconds: float, stop: Event) -> None:
        """Wait, or return early if `stop` is set."""


class WallClock:
    """The time of the world."""

    def now(self) -> float:
        """Seconds since any moment."""
        return time.monotonic()

    def wait(self, seconds: float, stop: Event) -> None:
        """Wait, or return early if `stop` is set."""
        stop.wait(seconds)


class Picture(NamedTuple):
    """A picture of a live source."""

    time: float
    """Seconds since the first picture."""
    part: int
    """Number of the connection; it grows if a stream breaks or its times jump."""
    frame: Callable[[], Frame]
    """Converts and resizes: uint8 [height, width, rgb]. All pictures of a part have one size."""


def play(source: Source, clock: Clock, stop: Event, tell: Tell = lambda words: None) -> Iterator[Picture]:
    """Give the pictures of a source; connect again if a stream breaks.

    Args:
        source: as `source_named` gives it.
        clock: the time.
        stop: ends the pictures when it is set.
        tell: is told in words when the connection is lost and found.

    Yields:
        Pictures with growing times.

    Raises:
        SourceError: the source gives no picture at the first attempt, or a recording breaks.
    """
    times, pause, known = _Times(clock), 1.0, False
    while not stop.is_set():
        has_end, reason = False, "the stream ended"
        try:
            with source.open() as connection:
                has_end = connection.has_end
                for own, frame in connection.pictures:
                    if stop.is_set():
                        return
                    if times.lost:
                        tell(f"{source.name}: connected again")
                    now = times.of(own)
                    known, pause = True, 1.0
                    if has_end and now > times.now():
                        clock.wait(now - times.now(), stop)
                    yield Picture(now, times.part, frame)
            if has_end:
                return
        except SourceError as error:
            if has_end or not known:
                raise
            reason = error.reason
        if not known:
            raise SourceError(source.name, "it ended before its first picture")
        if stop.is_set():
            return
        times.lose()
        tell(f"{source.name}: {reason}; connecting again in {pause:g} s")
        clock.wait(pause, stop)
        pause = min(2 * pause, LONGEST_PAUSE)


class _Times:
    """Time of a source's pictures, by their own times while these are steady, and by the clock after a break."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._begin: float | None = None
        self._shift: float | None = None  # the stream's time minus the picture's own
        self._last = -1e-3
        self.part, self.lost = 0, False

    def now(self) -> float:
        """Seconds since the first picture."""
        if self._begin is None:
            self._begin = self._clock.now()
        return self._clock.now() - self._begin

    def lose(self) -> None:
        self.lost, self._shift = True, None

    def of(self, own: float | None) -> float:
        time = self.now() if own is None or self._shift is None else own + self._shift
        steady = self._last < time <= self._last + JUMP or self._last < 0
        if self.lost or not steady:
            time = max(self.now(), self._last + 1e-3)
            self.part += 1 if self.lost or own is not None or time > self._last + JUMP else 0
            self._shift = None
        if own is not None and self._shift is None:
            self._shift = time - own
        self.lost, self._last = False, time
        return time


class Newest(Generic[Item]):
    """Hands items from a thread that must not wait to one that may be slow: it keeps the newest items only.

    Args:
        most: number of items that are kept.

    Example:
        >>> box = Newest(2)
        >>> for item in "abcd":
        ...     box.put(item)
        >>> box.close()
        >>> list(box), box.dropped
        (['c', 'd'], 2)
    """

    def __init__(self, most: int):
        self._items: deque[Item] = deque(maxlen=most)
        self._changed = Condition()
        self._closed, self._error = False, None  # type: tuple[bool, BaseException | None]
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Add an item; drop the oldest one if there are too many."""
        with self._changed:
            self.dropped += len(self._items) == self._items.maxlen
            self._items.append(item)
            self._changed.notify()

    def close(self, error: BaseException | None = None) -> None:
        """Add no more.

        Args:
            error: what the reader raises after the last item.
        """
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
            yield item


@contextmanager
def newest(items: Iterable[Item], most: int, stop: Event) -> Iterator[Newest[Item]]:
    """Read items in a thread.

    Args:
        items: read until they end or the block is left.
        most: number of items that may wait.
        stop: is set when the block is left, so that the items can end.

    Yields:
        The newest items.
    """
    box: Newest[Item] = Newest(most)

    def read() -> None:
        try:
            for item in items:
                box.put(item)
                if stop.is_set():
                    break
            box.close()
        except BaseException as error:
            box.close(error)

    thread = Thread(target=read, name="fsar-camera", daemon=True)
    thread.start()
    try:
        yield box
    finally:
        stop.set()
        thread.join(1.0)  # a read that waits for data ends by its own time limit
