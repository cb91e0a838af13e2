"""Long work: one request begins it, others ask how far it is; it can be stopped, and has a time limit.

One task runs at a time, so that answers do not starve. A task that is stopped changes nothing. The end of the service
stops all tasks: a task writes nothing before its last step.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Literal
from uuid import uuid4

from fsar.service.limits import Refused

KEPT = 600.0
"""Seconds for which a finished task is remembered."""

Tell = Callable[[float], None]
"""Is told the share of the work that is done; raises if the work must stop. Work calls it before it begins, too."""
Work = Callable[[Tell], Mapping[str, Any]]


class Stopped(Exception):
    """The work must stop."""


class Task:
    """One piece of long work.

    Args:
        work: what is done.
        seconds: time limit, without the time that it waits for its turn.
    """

    def __init__(self, work: Work, seconds: float):
        self._work, self._seconds = work, seconds
        self.stop = False
        self.state: Literal["waiting", "running", "done", "failed"] = "waiting"
        self.progress = 0.0
        self.result: Mapping[str, Any] | None = None
        self.error: BaseException | None = None
        self.ended: float | None = None

    def run(self) -> None:
        """Do the work."""
        begun, self.state = time.monotonic(), "running"

        def tell(share: float) -> None:
            self.progress = share
            if self.stop:
                raise Stopped("it was stopped; nothing was changed")
            if time.monotonic() - begun > self._seconds:
                raise Stopped(f"it took more than {self._seconds:g} s and was stopped; nothing was changed")

        try:
            self.result = self._work(tell)
            self.progress, self.state = 1.0, "done"
        except Exception as error:  # whoever asks is told
            self.error, self.state = error, "failed"
        self.ended = time.monotonic()


class Tasks:
    """All tasks of a service.

    Args:
        seconds: time limit of each.
        most: tasks that wait or run.

    Example:
        >>> tasks = Tasks(seconds=10, most=2)
        >>> name = tasks.start(lambda tell: {"answer": 4})["task"]
        >>> while tasks.describe(name)["state"] != "done":
        ...     time.sleep(0.01)
        >>> tasks.describe(name)["result"]
        {'answer': 4}
        >>> tasks.close()
    """

    def __init__(self, seconds: float, most: int):
        self._seconds, self._most = seconds, most
        self._pool = ThreadPoolExecutor(1, "fsar-task")
        self._tasks: dict[str, Task] = {}
        self._lock = Lock()

    def start(self, work: Work) -> dict[str, Any]:
        """Begin a task, as soon as those before it have ended.

        Returns:
            What `describe` says of a task that waits; an error of the task comes from `describe` alone.

        Raises:
            Refused: too many wait.
        """
        task, name = Task(work, self._seconds), uuid4().hex
        with self._lock:
            now = time.monotonic()
            self._tasks = {
                key: each for key, each in self._tasks.items() if each.ended is None or now - each.ended < KEPT
            }
            waiting = sum(each.ended is None for each in self._tasks.values())
            if waiting >= self._most:
                raise Refused(429, f"{waiting} long tasks wait or run, and no more are taken", {"Retry-After": "10"})
            self._tasks[name] = task
            begun = {"task": name, "state": task.state, "progress": task.progress, "result": task.result}
            self._pool.submit(task.run)
        return begun

    def describe(self, name: str) -> dict[str, Any]:
        """Tell the state of a task and its progress, from 0 to 1; at the end, its result.

        Raises:
            Refused: there is none of this name, or it was stopped.
            Exception: that of the work.
        """
        with self._lock:
            task = self._tasks.get(name)
        if task is None:
            raise Refused(404, "there is no such task, or it ended long ago")
        if isinstance(task.error, Stopped):
            raise Refused(410, str(task.error))
        if task.error is not None:
            raise task.error
        return {"task": name, "state": task.state, "progress": task.progress, "result": task.result}

    def stop(self, name: str) -> None:
        """Stop a task at its next step."""
        with self._lock:
            if name in self._tasks:
                self._tasks[name].stop = True

    def close(self) -> None:
        """Stop all tasks, and wait for them."""
        for name in list(self._tasks):
            self.stop(name)
        self._pool.shutdown(wait=True)
