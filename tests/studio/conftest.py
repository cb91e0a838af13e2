"""The page in a real browser: the system's Chromium, with a camera that shows a file.

Without Chromium or Playwright, the tests are skipped with the reason, unless FSAR_BROWSER is `required`.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fsar.video.writing import write_video
from tests.service.conftest import Served, clips, moving, taught  # noqa: F401 - two are fixtures

PICTURES = Path(__file__).parents[2] / ".screenshots"


class Camera:
    """The file that the browser's camera shows."""

    def __init__(self, path: Path):
        self.path = path
        self.show(moving(0, 40))

    def show(self, frames: np.ndarray) -> None:
        """Show frames, uint8 [frame, height, width, rgb], from the next time on that the camera is turned on."""
        import av

        head = f"YUV4MPEG2 W{frames.shape[2]} H{frames.shape[1]} F10:1 Ip A1:1 C420jpeg\n".encode()
        planes = (av.VideoFrame.from_ndarray(frame, format="rgb24").to_ndarray(format="yuv420p") for frame in frames)
        self.path.write_bytes(head + b"".join(b"FRAME\n" + plane.tobytes() for plane in planes))


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Camera:
    return Camera(tmp_path_factory.mktemp("camera") / "camera.y4m")


@pytest.fixture(scope="module")
def browser(camera: Camera) -> Iterator[object]:
    missing = None
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed"
    if path is None:
        missing = "no Chromium is installed"
    if missing:
        if os.environ.get("FSAR_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*flags, f"--use-file-for-fake-video-capture={camera.path}"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("studio") / "projects", "--no-browser", verb="studio")
    yield served
    assert served.stopped().returncode == 0


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two videos of each of two actions."""
    made = {}
    for i in range(2):
        for action, ends in (("right", (3 + i, 44 - 2 * i)), ("left", (45 - i, 2 * i))):
            made[f"{action}{i}"] = tmp_path / f"{action}{i}.mp4"
            write_video(made[f"{action}{i}"], moving(*ends), 10.0)
    return made
