"""The queue: who waits too long is told so, and what was begun is finished."""

import asyncio
from threading import Event

import pytest

from fsar.service.jobs import Jobs
from fsar.service.limits import Refused


def test_what_waits_too_long_never_runs_and_what_runs_is_finished() -> None:
    ran, go = [], Event()

    def long() -> str:
        go.wait()
        return "finished"

    async def ask() -> None:
        jobs = Jobs(threads=1, places=9, seconds=1)
        first = asyncio.create_task(jobs.run(long))
        await asyncio.sleep(0)
        try:
            with pytest.raises(Refused, match="nothing was done") as refused:
                await jobs.run(ran.append, 1)
            assert refused.value.status == 503 and refused.value.headers["Retry-After"]
            assert await jobs.run(len, "abc", change=True) == 3  # changes have threads of their own
        finally:
            go.set()
        assert await first == "finished"
        jobs.close()

    asyncio.run(ask())
    assert ran == []
