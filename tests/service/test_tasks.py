"""Long work can be stopped, ends at its time limit, and says what went wrong."""

from threading import Event

import pytest

from fsar.service.limits import Refused
from fsar.service.tasks import Task, Tasks, Tell


def test_a_task_is_stopped_or_too_slow_or_wrong() -> None:
    tasks, go, begun = Tasks(seconds=60, most=2), Event(), Event()
    steps = []

    def work(tell: Tell) -> dict[str, str]:
        begun.set()
        go.wait()
        steps.append(1)
        tell(0.5)
        steps.append(2)
        return {}

    name = tasks.start(work)["task"]
    begun.wait()
    wrong = tasks.start(lambda tell: {"answer": 1 // 0})["task"]
    assert tasks.describe(name)["state"] == "running" and tasks.describe(wrong)["state"] == "waiting"
    with pytest.raises(Refused, match="2 long tasks"):
        tasks.start(work)
    tasks.stop(name)
    go.set()
    tasks.close()
    assert steps == [1]
    with pytest.raises(Refused, match="it was stopped"):
        tasks.describe(name)
    late = Task(lambda tell: {"answer": tell(0.0)}, seconds=-1)
    late.run()
    assert late.state == "failed" and "took more than" in str(late.error)


def test_the_error_of_a_task_is_told() -> None:
    tasks = Tasks(seconds=60, most=2)
    name = tasks.start(lambda tell: {"answer": 1 // 0})["task"]
    with pytest.raises(ZeroDivisionError):
        while tasks.describe(name):
            pass
    tasks.close()
