"""The bounded queue: so many requests at once, each with a time-out; what was begun is finished.

Every encoding is computed for its video alone, since an answer must not depend on the videos of other requests. So
requests share encoders and threads, and are not joined to batches.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from fsar.service.limits import Refused

Result = TypeVar("Result")


class Jobs:
    """Runs jobs in threads.

    Args:
        threads: that answer; as many more make changes, which may wait for each other.
        places: requests that may upload, wait or run at once.
        seconds: time that a job may wait for its turn.

    Example:
        >>> jobs = Jobs(threads=1, places=1, seconds=10)
        >>> asyncio.run(jobs.run(len, "four"))
        4
        >>> with jobs.place(), jobs.place():
        ...     pass
        Traceback (most recent call last):
        fsar.service.limits.Refused: 1 requests are in work, and no more are taken; ask again in 1 s
    """

    def __init__(self, threads: int, places: int, seconds: float):
        self._threads = {change: ThreadPoolExecutor(threads, f"fsar-{change}") for change in (False, True)}
        self._count, self.places, self._seconds = threads, places, seconds
        self.taken = 0
        self._mean = 0.1  # seconds of a job, a running mean

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places; to be called in the event loop only.

        Raises:
            Refused: all places are taken.
        """
        if self.taken >= self.places:
            wait = max(1, math.ceil(self.taken * self._mean / self._count))
            raise Refused(
                429,
                f"{self.taken} requests are in work, and no more are taken; ask again in {wait} s",
                {"Retry-After": str(wait)},
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def run(self, function: Callable[..., Result], *arguments: object, change: bool = False) -> Result:
        """Run a function in a thread.

        Args:
            function: what to run.
            arguments: for it.
            change: it changes something. Changes do not keep answers waiting.

        Returns:
            What the function returns.

        Raises:
            Refused: its turn did not come in time; it will not run.
            Exception: any of the function.
        """
        running = self._threads[change].submit(self._timed, function, arguments)
        waiting = asyncio.wrap_future(running)
        done, _ = await asyncio.wait({waiting}, timeout=self._seconds)
        if not done and running.cancel():
            message = f"its turn did not come within {self._seconds:g} s; nothing was done. Ask again later"
            raise Refused(503, message, {"Retry-After": "10"})
        return await waiting

    def close(self) -> None:
        """Finish everything that was accepted."""
        for pool in self._threads.values():
            pool.shutdown(wait=True)

    def _timed(self, function: Callable[..., Result], arguments: tuple[object, ...]) -> Result:
        begun = time.monotonic()
        try:
            return function(*arguments)
        finally:
            self._mean += 0.1 * (time.monotonic() - begun - self._mean)
