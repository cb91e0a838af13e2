"""Counts and times of requests, in the format of Prometheus."""

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from fsar.service.house import House


class Measured:
    """Middleware that counts requests and their time, for `/metrics`.

    Args:
        app: the application.
        house: whose state is told.
    """

    def __init__(self, app: ASGIApp, house: "House"):
        self._app = app
        self._registry = registry = CollectorRegistry()
        names = ["method", "route"]
        self._requests = Counter("fsar_requests", "Requests", [*names, "status"], registry=registry)
        self._seconds = Histogram(
            "fsar_request_seconds", "Time until the response is complete", names, registry=registry
        )
        for name, words, value in (
            ("fsar_requests_in_work", "Requests that upload, wait or run", lambda: house.jobs.taken),
            (
                "fsar_decoders_replaced",
                "Decoding processes that crashed or were killed",
                lambda: house.decoders.replaced,
            ),
            ("fsar_disk_bytes", "Size of all recognisers and clips", lambda: house.projects.disk()["used"]),
        ):
            Gauge(name, words, registry=registry).set_function(value)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"].state.registry = self._registry
        begun, status = time.monotonic(), [500]

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._requests.labels(scope["method"], route, status[0]).inc()
            self._seconds.labels(scope["method"], route).observe(time.monotonic() - begun)
