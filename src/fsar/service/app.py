"""The routes of the service. A video is the body of its request, as it is: no forms, no names of files."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fsar.service.docs import EXAMPLES, FILE, VIDEO, docs_page
from fsar.service.house import House, router
from fsar.service.limits import Refused
from fsar.service.long import live_routes, start_timeline, task_routes
from fsar.service.metrics import Measured
from fsar.service.project import Project
from fsar.service.projects import Projects
from fsar.service.security import Guard
from fsar.service.timeline import timeline
from fsar.video.paths import VideoError

_log = logging.getLogger("fsar.service")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


Nearest = Annotated[int, Query(ge=0, le=20)]
Seconds = Annotated[float | None, Query(ge=0)]


def build_app(house: House, guard: Guard) -> FastAPI:
    """Make the application.

    Args:
        house: what the routes work on; it is closed at the end.
        guard: checks every request.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        house.close()

    async def guarded(request: Request) -> None:
        guard.check(request, request.scope["route"].path in app.state.public)

    app = FastAPI(
        title="fsar",
        summary="Name the action in a video from a few examples.",
        lifespan=life,
        dependencies=[Depends(guarded)],
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.public = {"/v1/health", "/docs"}  # routes that need no token
    app.add_middleware(Measured, house=house)
    _add_errors(app, house)
    _add_state(app, house)
    app.include_router(_recognizers(house))
    app.include_router(_answers(house))
    app.include_router(live_routes(house))
    app.include_router(task_routes(house))
    app.include_router(_examples(house))
    return app


def _add_errors(app: FastAPI, house: House) -> None:
    """Every error is a JSON object with `detail`; none tells a path of the server."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return JSONResponse({"detail": error.message}, error.status, error.headers)

    @app.exception_handler(ValueError)
    async def wrong(_: Request, error: ValueError) -> Response:
        text = error.reason if isinstance(error, VideoError) else str(error)
        return JSONResponse({"detail": text.replace(f"{house.projects.root}{os.sep}", "")}, 422)

    @app.exception_handler(OSError)
    async def broken(_: Request, error: OSError) -> Response:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if cause.errno in FULL or os.strerror(errno.ENOSPC) in str(error):
            return JSONResponse({"detail": "the disk is full; nothing was changed. Make room, then ask again"}, 507)
        _log.error("%s", error)
        return JSONResponse({"detail": "the service could not read or write its files; its log says why"}, 500)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:  # the traceback is in the log
        return JSONResponse({"detail": "something went wrong in the service; its log says what"}, 500)


def _add_state(app: FastAPI, house: House) -> None:
    """How the service does, and what it can."""

    @app.get("/v1/health", tags=["service"], responses=EXAMPLES["health"])
    async def health() -> dict[str, Any]:
        """Tell that the service runs, how busy it is, and how full its disk is."""
        disk = await asyncio.to_thread(house.projects.disk)
        return {"status": "ok", "in_work": house.jobs.taken, "places": house.jobs.places, "disk": disk}

    @app.get("/metrics", tags=["service"], response_class=Response)
    async def metrics(request: Request) -> Response:
        """Counts and times in the format of Prometheus."""
        text = await asyncio.to_thread(generate_latest, request.app.state.registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))


def _recognizers(house: House) -> APIRouter:
    """Recognisers as a whole."""
    jobs, projects = house.jobs, house.projects
    routes = router(house, "/v1/recognizers", "recognisers")

    @routes.get("", responses=EXAMPLES["list"])
    async def list_all() -> list[str]:
        """List the recognisers."""
        return await jobs.run(projects.names)

    @routes.put("/{name}", status_code=201, responses=EXAMPLES["created"])
    async def create(name: str, backbone: str | None = None) -> dict[str, Any]:
        """Make an empty recogniser."""
        return await jobs.run(lambda: projects.create(name, backbone).describe(), change=True)

    @routes.get("/{name}", responses=EXAMPLES["described"])
    async def describe(name: str) -> dict[str, Any]:
        """Tell the actions, their examples, and what to expect of answers."""
        return await jobs.run(lambda: projects.get(name).describe())

    @routes.delete("/{name}", status_code=204)
    async def delete(name: str) -> None:
        """Delete a recogniser and its clips."""
        await jobs.run(projects.delete, name, change=True)

    @routes.get("/{name}/file", response_class=Response)
    async def file(name: str) -> Response:
        """Download the recogniser's file, for `fsar recognize --model`."""
        content = await jobs.run(lambda: projects.get(name).file.read_bytes())
        headers = {"Content-Disposition": "attachment; filename=recognizer.fsar"}
        return Response(content, media_type="application/octet-stream", headers=headers)

    @routes.post("/{name}/file", status_code=201, openapi_extra=FILE, responses=EXAMPLES["created"])
    async def take(name: str, request: Request) -> dict[str, Any]:
        """Make a recogniser of a file that was downloaded or that `fsar recognize --save` wrote."""
        async with house.uploads.received(request, "recognizer") as upload:
            return await jobs.run(lambda: projects.take(name, upload.path).describe(), change=True)

    @routes.get("/{name}/check", responses=EXAMPLES["check"])
    async def check(name: str) -> dict[str, Any]:
        """Look for faults of the examples: copies, mislabelled ones, actions that collide; and what would help."""
        return await jobs.run(lambda: projects.get(name).check())

    @routes.post("/{name}/undo")
    async def undo(name: str, state: str | None = None) -> dict[str, Any]:
        """Take the last change of examples back; with the `state` that was described, only if it is still so."""
        return await jobs.run(_changed, projects, name, Project.undo, state, change=True)

    return routes


def _answers(house: House) -> APIRouter:
    """What recognisers say of videos."""
    jobs, projects = house.jobs, house.projects
    routes = router(house, "/v1/recognizers", "answers")

    @routes.post("/{name}/predict", openapi_extra=VIDEO, responses=EXAMPLES["answer"])
    async def predict(name: str, request: Request, nearest: Nearest = 0, pairs: bool = False) -> dict[str, Any]:
        """Name the action in a video, the body of the request; with the `nearest` examples, if they are asked for.

        With `pairs`, each frame that was taken of the video comes beside the most similar one of the nearest example.
        """
        project = await jobs.run(projects.get, name)
        async with house.uploads.received(request) as upload:
            return await jobs.run(project.predict, upload, nearest, pairs)

    @routes.post("/{name}/timeline", openapi_extra=VIDEO, responses=EXAMPLES["timeline"])
    async def timeline_of(name: str, request: Request, task: bool = False) -> dict[str, Any]:
        """Tell when which action happens in a long video, the body of the request.

        With `task`, the response comes at once and names a task, whose result this will be.
        """
        project = await jobs.run(projects.get, name)
        async with house.uploads.received(request) as upload:
            if task:
                return start_timeline(house, project, upload)
            return await jobs.run(lambda: timeline(project.recognizer, upload.path, house.hidden))

    return routes


def _examples(house: House) -> APIRouter:
    """Changes of examples. A change is on the disk before its response is sent."""
    jobs, projects = house.jobs, house.projects
    routes = router(house, "/v1/recognizers/{name}/actions/{action}", "examples")

    @routes.post("/examples", openapi_extra=VIDEO, responses=EXAMPLES["enrolled"])
    async def enroll(
        name: str, action: str, request: Request, start: Seconds = None, end: Seconds = None
    ) -> dict[str, Any]:
        """Make a video an example of an action, known or new; `background` takes clips that show no action.

        With `start` and `end`, only this part of the video, in seconds.
        """
        project = await jobs.run(projects.get, name)
        async with house.uploads.received(request) as upload:
            return await jobs.run(project.enroll, action, upload, start, end, change=True)

    @routes.post("/correct", openapi_extra=VIDEO, responses=EXAMPLES["corrected"])
    async def correct(name: str, action: str, request: Request) -> dict[str, Any]:
        """Say what a video shows: it becomes an example of this action, and of no other one."""
        project = await jobs.run(projects.get, name)
        async with house.uploads.received(request) as upload:
            return await jobs.run(project.correct, action, upload, change=True)

    @routes.delete("")
    async def forget(name: str, action: str) -> dict[str, Any]:
        """Forget an action with all its examples."""
        return await jobs.run(_changed, projects, name, Project.remove, action, change=True)

    @routes.get("/examples/{clip:path}", response_class=FileResponse)
    async def download(name: str, action: str, clip: str) -> FileResponse:
        """Download the video of an example."""
        path = await jobs.run(lambda: projects.get(name).clip(action, clip))
        return FileResponse(path, headers={"X-Content-Type-Options": "nosniff"})

    @routes.get("/previews/{clip:path}", response_class=FileResponse)
    async def preview(name: str, action: str, clip: str) -> FileResponse:
        """Download a small version of an example, as H.264, which every browser plays."""
        path = await jobs.run(lambda: projects.get(name).preview(action, clip, house.previews))
        return FileResponse(path, media_type="video/mp4", headers={"X-Content-Type-Options": "nosniff"})

    @routes.delete("/examples/{clip:path}")
    async def remove(name: str, action: str, clip: str) -> dict[str, Any]:
        """Remove an example."""
        return await jobs.run(_changed, projects, name, Project.remove, action, clip, change=True)

    @routes.patch("/examples/{clip:path}")
    async def change(
        name: str, action: str, clip: str, to: str | None = None, start: Seconds = None, end: Seconds = None
    ) -> dict[str, Any]:
        """Make an example one of another action, `to`; or keep its part from `start` to `end` only, in seconds."""
        if to is not None and start is None and end is None:
            return await jobs.run(_changed, projects, name, Project.move, action, clip, to, change=True)
        if to is None and start is not None and end is not None:
            return await jobs.run(_changed, projects, name, Project.trim, action, clip, start, end, change=True)
        raise Refused(422, "give either `to`, another action, or `start` and `end` of the part to keep")

    return routes


def _changed(projects: Projects, name: str, change: Callable[..., None], *arguments: object) -> dict[str, Any]:
    """Change a project, and tell what is in it now."""
    project = projects.get(name)
    change(project, *arguments)
    return project.describe()
