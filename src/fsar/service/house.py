"""What all routes of one service share."""

import shutil
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import APIRouter, Depends

from fsar.files import lock
from fsar.recognizer import ExampleWarning
from fsar.service.decoders import Decoders
from fsar.service.jobs import Jobs
from fsar.service.limits import Limits
from fsar.service.live import Lives
from fsar.service.projects import Projects
from fsar.service.security import require_no_link
from fsar.service.tasks import Tasks
from fsar.service.uploads import Uploads


class House:
    """Everything that the routes of one service share.

    Args:
        root: folder with the recognisers and their clips.
        limits: of everything.
        backbone: of new recognisers.
        workers: decoding processes; also threads that answer.

    Raises:
        ValueError: no such folder, or another service uses it.
    """

    def __init__(self, root: Path, limits: Limits, backbone: str, workers: int):
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder; make it, or give the folder with your recognisers")
        self.decoders = Decoders(workers, limits)  # first: its processes must not hold the lock
        try:
            self.hidden = hidden = require_no_link(root / ".fsar-serve")
            hidden.mkdir(exist_ok=True)
            self.previews, uploads = (require_no_link(hidden / name) for name in ("previews", "uploads"))
            self._lock = require_no_link(hidden / "lock").open("w")
        except ValueError:
            self.decoders.close()
            raise
        try:
            lock(self._lock, wait=False)
        except BlockingIOError as error:
            self.decoders.close()
            raise ValueError(
                f"{root}: another `fsar serve` uses this folder; stop it, or give another folder"
            ) from error
        warnings.simplefilter("ignore", ExampleWarning)  # a response says it
        self.projects = Projects(root, self.decoders, limits, backbone)
        for left in (self.previews, *hidden.glob("frames-*")):
            shutil.rmtree(left, ignore_errors=True)
        self.uploads = Uploads(uploads, limits)
        self.lives = Lives(limits.lives)
        self.tasks = Tasks(limits.task_seconds, limits.tasks)
        self.jobs = Jobs(workers, limits.places, limits.wait_seconds)

    def close(self) -> None:
        """Finish what was accepted, then end the decoding processes."""
        self.tasks.close()
        self.jobs.close()
        self.decoders.close()
        self._lock.close()


def router(house: House, path: str, tag: str) -> APIRouter:
    """Routes that hold a place in the queue from the first byte of a request to its response."""

    async def placed() -> AsyncIterator[None]:
        with house.jobs.place():
            yield

    return APIRouter(prefix=path, tags=[tag], dependencies=[Depends(placed)])
