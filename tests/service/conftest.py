"""A running service, and videos for it."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

import fsar.service.app  # noqa: F401 - in this process, so that forks need not
from fsar.recognizer import Recognizer
from fsar.video.writing import write_video
from tests.processes import Run, free_port, started, waited


class Served:
    """`fsar serve` in a process of its own.

    Args:
        root: its folder.
        words: more options.
        token: that it needs and the client sends.
        before: Python that its process runs first.
        verb: `serve` or `studio`.
    """

    def __init__(
        self,
        root: Path,
        *words: object,
        token: str | None = None,
        before: str = "",
        verb: str = "serve",
    ):
        self.port, self.root = free_port(), root
        options = ["--backbone", "tiny", "--workers", "1", "--port", self.port]
        secret = f"os.environ['FSAR_TOKEN'] = {token!r}\n" if token else ""
        self._process = started(verb, root, *options, *map(str, words), before=secret + before)
        self.pid = self._process.pid
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=120)
        while not (status := os.waitpid(self.pid, os.WNOHANG))[0]:
            try:
                self.client.get("/v1/health")
                return
            except httpx.ConnectError:
                time.sleep(0.05)
        raise AssertionError(f"the service has ended: {self._process.ended(status[1]).stderr}")

    def stopped(self, number: int = signal.SIGTERM) -> Run:
        """Send a signal, wait for the end, and give what the process left."""
        os.kill(self.pid, number)
        return self.ended()

    def ended(self) -> Run:
        self.client.close()
        return self._process.ended(waited(self.pid))


def moving(start: int, end: int, frames: int = 12) -> np.ndarray:
    """A bright square that moves from one column to another, uint8 [frame, height, width, rgb]."""
    shown = np.zeros((frames, 64, 64, 3), np.uint8)
    for frame, column in zip(shown, np.linspace(start, end, frames).astype(int), strict=True):
        frame[24:40, column : column + 16] = 255
    return shown


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The content of four clips of each of two actions: right0 to right3, left0 to left3."""
    folder = tmp_path_factory.mktemp("clips")
    made = {}
    for i in range(4):
        for action, ends in (("right", (i, 48 - 2 * i)), ("left", (48 - i, 2 * i))):
            write_video(folder / "clip.mp4", moving(*ends), 10.0)
            made[f"{action}{i}"] = (folder / "clip.mp4").read_bytes()
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of an empty folder, for all tests of a file; each takes a recogniser of its own."""
    service = Served(tmp_path_factory.mktemp("served"), "--places", "4")
    yield service
    ended = service.stopped()
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, bytes]) -> Path:
    """A recogniser with two examples of each action, g.fsar, and its clips in the folder g."""
    root = tmp_path_factory.mktemp("taught")
    recognizer = Recognizer("tiny")
    for clip in ("right0", "right1", "left0", "left1"):
        path = root / "g" / clip[:-1] / f"{clip}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clips[clip])
        recognizer.enroll(path.parent.name, path)
    recognizer.fit()
    recognizer.save(root / "g.fsar")
    return root


@pytest.fixture
def gestures(served: Served, taught: Path, request: pytest.FixtureRequest) -> str:
    """The address of a recogniser of its own with two examples of each action."""
    name = request.node.name.partition("[")[0][:40]
    shutil.copytree(taught / "g", served.root / name)
    shutil.copy(taught / "g.fsar", served.root / f"{name}.fsar")
    return f"/v1/recognizers/{name}"
