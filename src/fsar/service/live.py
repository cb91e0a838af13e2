"""Live answers: a page sends the newest pictures of its camera, and the response says what they show now.

Pictures come as pixels, so there is nothing to decode. Of each picture, its encoding stays in memory for as long as the
longest window; nothing is written to the disk. Nothing waits in a queue either: a page sends what is new when the last
response has come, and drops the oldest pictures if there are too many.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import UInt8

from fsar.recognizer import Recognizer
from fsar.recognizer.live import LiveSpotter, batch_of
from fsar.recognizer.windows import Window
from fsar.service.limits import Refused
from fsar.service.project import Project
from fsar.video.frame_cache import SHORT_SIDE

MOST = 32
"""Pictures in one request."""
IDLE = 30.0
"""Seconds without a request, after which a stream may be forgotten."""


class Live:
    """One stream of pictures.

    Args:
        project: answers; if its examples change, the stream begins again.

    Raises:
        ValueError: too few examples, or it is not known how long they last.
    """

    def __init__(self, project: Project):
        self.project, self.used = project, time.monotonic()
        self._lock = Lock()
        self._last = -np.inf
        self._begin(project.recognizer)

    def _begin(self, recognizer: Recognizer) -> None:
        self._enrolled, self._contract = recognizer.enrolled, recognizer.contract()
        contract, batch = self._contract, batch_of(self._contract)
        self._spotter = LiveSpotter(lambda: recognizer.windows(contract, batch), contract, name="camera")

    def wanted(self) -> dict[str, Any]:
        """Tell which pictures to send: `rate` a second, with `side` pixels as their short side, at most `most` at once;
        `seconds` is the length of the longest window.
        """
        return {"rate": self._contract.rate, "side": SHORT_SIDE, "most": MOST, "seconds": self._contract.lengths[-1]}

    def add(self, times: Sequence[float], pictures: UInt8[np.ndarray, "frame height width rgb"]) -> dict[str, Any]:
        """Take the next pictures.

        Args:
            times: of each, in seconds since any moment.
            pictures: the oldest first.

        Returns:
            What the newest window shows: `action` (None before the first window is complete) and `probabilities`;
            the `events` since the last request; and what `wanted` says.

        Raises:
            Refused: times that do not grow, or the recogniser was deleted.
        """
        with self._lock:
            self.used = time.monotonic()
            if any(late <= early for early, late in zip([self._last, *times], times, strict=False)):
                raise Refused(409, "the times of pictures must grow; begin again with a new stream")
            self._last = times[-1]
            recognizer = self.project.recognizer
            if recognizer.enrolled is not self._enrolled:
                self._begin(recognizer)
            events = [
                event
                for time_, picture in zip(times, pictures, strict=True)
                for event in self._spotter.add(time_, picture)
            ]
            told = [{"kind": event.kind, **_plain(asdict(event.segment))} for event in events]
            return self._shown() | {"events": told} | self.wanted()

    def _shown(self) -> dict[str, Any]:
        """What is seen now: of the newest windows of all lengths, the one that is surest of an action as long as it."""
        newest = self._spotter.newest
        if not newest:
            return {"action": None, "probabilities": {}}
        shows = max(newest, key=self._surest).shows
        return {"action": shows.action, "probabilities": shows.probabilities}

    def _surest(self, window: Window) -> float:
        length, spans = round(window.end - window.start, 2), self._contract.spans
        shares = window.shows.probabilities.items()
        may = (share for name, share in shares if name in spans and spans[name][0] <= length <= spans[name][1])
        return max(may, default=0.0)


def _plain(segment: dict[str, Any]) -> dict[str, Any]:
    return {key: segment[key] for key in ("action", "start", "end", "probability")}


class Lives:
    """All streams of a service.

    Args:
        most: streams at once.
    """

    def __init__(self, most: int):
        self._most = most
        self._streams: dict[str, Live] = {}
        self._lock = Lock()

    def open(self, project: Project) -> dict[str, Any]:
        """Begin a stream.

        Returns:
            Its name, `live`, and what `Live.wanted` says.

        Raises:
            Refused: there are too many.
            ValueError: as for `Live`.
        """
        stream, name = Live(project), uuid4().hex
        with self._lock:
            now = time.monotonic()
            self._streams = {key: each for key, each in self._streams.items() if now - each.used < IDLE}
            if len(self._streams) >= self._most:
                message = f"{self._most} cameras are watched already, and no more are; stop one, or try again later"
                raise Refused(429, message, {"Retry-After": "10"})
            self._streams[name] = stream
        return {"live": name, **stream.wanted()}

    def get(self, project: Project, name: str) -> Live:
        """Find a stream.

        Raises:
            Refused: there is none of this name.
        """
        with self._lock:
            stream = self._streams.get(name)
        if stream is None or stream.project is not project:
            raise Refused(404, "this stream has ended; begin a new one")
        return stream

    def close(self, name: str) -> None:
        """End a stream, if it has not ended yet."""
        with self._lock:
            self._streams.pop(name, None)
