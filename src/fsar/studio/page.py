"""Adds the page to the service's routes."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import Response

FOLDER = Path(__file__).parent
SCRIPTS = ("texts", "gallery", "answer", "live", "check", "trim", "tasks", "page")
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript") for name in SCRIPTS},
}
POLICY = {
    "Content-Security-Policy": (
        "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'; form-action 'self'"
    ),
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""Headers that keep the browser from loading anything from elsewhere."""


def add_page(app: FastAPI) -> None:
    """Serve the page at `/`.

    Args:
        app: the service. Anybody may have the files of the page without a token; they hold no secret.
    """
    app.state.public |= set(FILES)
    for path, (name, kind) in FILES.items():
        content = (FOLDER / name).read_bytes()
        app.add_api_route(path, _giver(content, kind), include_in_schema=False)


def _giver(content: bytes, kind: str):  # type: ignore[no-untyped-def]
    async def give() -> Response:
        return Response(content, media_type=kind, headers=POLICY)

    return give
