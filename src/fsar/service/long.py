"""Routes of what takes long: cameras that are watched, and tasks."""

import os
from typing import Annotated, Any
from uuid import uuid4

import numpy as np
from fastapi import APIRouter, Query, Request

from fsar.service.docs import EXAMPLES, PIXELS
from fsar.service.house import House, router
from fsar.service.limits import Refused
from fsar.service.live import MOST
from fsar.service.project import Project
from fsar.service.projects import METHODS
from fsar.service.tasks import Tell
from fsar.service.timeline import timeline
from fsar.service.uploads import Upload

Side = Annotated[int, Query(ge=16, le=640, multiple_of=2)]


def live_routes(house: House) -> APIRouter:
    """What a camera shows now (see `fsar.service.live`)."""
    jobs, projects, lives = house.jobs, house.projects, house.lives
    routes = router(house, "/v1/recognizers/{name}", "live")

    @routes.post("/live", status_code=201, responses=EXAMPLES["live"])
    async def begin(name: str) -> dict[str, Any]:
        """Begin to watch a camera. The response tells its name, `live`, and which pictures to send."""
        return await jobs.run(lambda: lives.open(projects.get(name)))

    @routes.post("/live/{live}", openapi_extra=PIXELS, responses=EXAMPLES["shown"])
    async def watch(name: str, live: str, request: Request, width: Side, height: Side, times: str) -> dict[str, Any]:
        """Tell what the newest pictures of a camera show; they are not kept.

        `times` are those of the pictures in seconds, separated by commas.
        """
        try:
            seconds = [float(each) for each in times.split(",")]
        except ValueError as error:
            raise Refused(422, f"times are {times[:100]!r}; expected seconds such as 0.1,0.2") from error
        if len(seconds) > MOST or not np.isfinite(seconds).all():
            raise Refused(422, f"{len(seconds)} times came; expected at most {MOST} pictures, each with a finite time")
        stream = await jobs.run(lambda: lives.get(projects.get(name), live))
        body = await house.uploads.pixels(request, 4 * width * height * len(seconds))
        pictures = np.frombuffer(body, np.uint8).reshape(-1, height, width, 4)[..., :3]
        return await jobs.run(stream.add, seconds, pictures)

    @routes.delete("/live/{live}", status_code=204)
    async def end(name: str, live: str) -> None:
        """Stop watching a camera."""
        lives.close(live)

    @routes.post("/actions/{action}/pixels", openapi_extra=PIXELS, responses=EXAMPLES["enrolled"])
    async def keep(
        name: str, action: str, request: Request, width: Side, height: Side, fps: Annotated[float, Query(ge=1, le=60)]
    ) -> dict[str, Any]:
        """Make the last pictures of a camera an example of an action."""
        project = await jobs.run(projects.get, name)
        async with house.uploads.received(request, "pixels") as upload:
            return await jobs.run(project.enroll_pixels, action, upload, width, height, fps, change=True)

    return routes


def task_routes(house: House) -> APIRouter:
    """Long work, and how far it is (see `fsar.service.tasks`)."""
    jobs, projects, tasks = house.jobs, house.projects, house.tasks
    routes = router(house, "/v1", "tasks")

    @routes.get("/choices", responses=EXAMPLES["choices"])
    async def choices() -> dict[str, list[str]]:
        """List the methods and backbones that a recogniser can be made with."""
        return {"methods": list(METHODS), "backbones": list(projects.backbones)}

    @routes.post("/recognizers/{name}/rebuild", responses=EXAMPLES["task"])
    async def rebuild(name: str, to: str, method: str = METHODS[0], backbone: str | None = None) -> dict[str, Any]:
        """Make another recogniser, `to`, of the same clips, with another method or backbone; this is a task."""
        await jobs.run(projects.get, name)
        chosen = backbone or projects.backbone
        return tasks.start(lambda tell: projects.rebuild(name, to, method, chosen, tell))

    @routes.get("/tasks/{task}", responses=EXAMPLES["task"])
    async def progress(task: str) -> dict[str, Any]:
        """Tell how far a task is, and at the end its result; a task that failed gives its error."""
        return tasks.describe(task)

    @routes.delete("/tasks/{task}", status_code=204)
    async def stop(task: str) -> None:
        """Stop a task."""
        tasks.stop(task)

    return routes


def start_timeline(house: House, project: Project, upload: Upload) -> dict[str, Any]:
    """Begin the task that makes the timeline of an upload, and describe it.

    Raises:
        Refused: too many tasks wait.
    """
    kept = upload.path.with_name(f"task-{uuid4().hex}{upload.path.suffix}")  # the upload ends with its request
    os.link(upload.path, kept)

    def work(tell: Tell) -> dict[str, Any]:
        try:
            return timeline(project.recognizer, kept, house.hidden, tell)
        finally:
            kept.unlink()

    try:
        return house.tasks.start(work)
    except Refused:
        kept.unlink()
        raise
