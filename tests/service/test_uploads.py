"""Request bodies: too slow, too large, cut; and the same content from two requests at once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from fsar.service.limits import Limits, Refused
from fsar.service.uploads import Uploads

VIDEO = bytes(4) + b"ftypisom" + bytes(500)


def request(*parts: bytes, then: Callable[[], Awaitable[Any]] | None = None) -> Request:
    """A request whose body comes in parts; `then` takes the place of the last one."""
    left = list(parts)

    async def receive() -> Any:
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or then is not None}
        assert then is not None
        return await then()

    return Request({"type": "http", "headers": []}, receive)


def test_what_is_not_taken_leaves_nothing(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, Limits(upload_mb=0.001))
    hasty = Uploads(tmp_path, Limits(upload_seconds=0.05))

    async def cut() -> Any:
        return {"type": "http.disconnect"}

    async def refused(uploads: Uploads, asked: Request) -> int:
        with pytest.raises(Refused) as error:
            async with uploads.received(asked):
                pass
        return error.value.status

    async def ask() -> list[int]:
        slow = request(VIDEO, then=lambda: asyncio.sleep(600))
        wrong = (request(VIDEO, then=cut), request(VIDEO, VIDEO), request(b""), request(b"#EXTM3U" + bytes(400)))
        return [await refused(hasty, slow), *[await refused(uploads, each) for each in wrong]]

    assert asyncio.run(ask()) == [408, 400, 413, 400, 415]
    assert list(tmp_path.iterdir()) == []


def test_the_same_content_from_two_requests_stays_until_both_are_done(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, Limits())

    async def ask() -> None:
        async with uploads.received(request(VIDEO)) as one:
            async with uploads.received(request(VIDEO[:99], VIDEO[99:])) as other:
                assert one == other
            assert one.path.read_bytes() == VIDEO
        assert not one.path.exists()

    asyncio.run(ask())
