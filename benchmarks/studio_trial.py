"""A new user's way through the page: from nothing to a recogniser of three gestures, with steps and seconds counted.

    python benchmarks/studio_trial.py [--backbone lite0] [--pictures DIR]

Starts `fsar studio` on an empty folder and opens the page in the system's Chromium, whose camera shows a square that
crosses the picture to the right, to the left, or down, again and again. A step is one thing that a person does: a
click, a text, a hold of the button. Only what the page shows is used: labels and buttons by their words. Needs
`pip install 'fsar[studio]' playwright`.
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLIPS = 3  # of each gesture
HELD = 2200  # milliseconds
EMPTY = """video => {
  const canvas = document.createElement("canvas");
  canvas.width = 16, canvas.height = 12;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 16, 12);
  return Math.max(...context.getImageData(0, 0, 16, 12).data.filter((_, i) => i % 4 === 0)) < 80;
}"""
"""Whether the camera shows nothing."""


def moving(way: str) -> np.ndarray:
    """A square crosses the picture one way, after a second of nothing; uint8 [frame, height, width, rgb], 24 frames."""
    shown = np.full((24, 184, 224, 3), 40, np.uint8)
    for frame, share in zip(shown[10:], np.linspace(0, 1, 14), strict=True):
        down, across = int(152 * share), int(192 * share)
        y, x = {"right": (76, across), "left": (76, 192 - across), "down": (down, 96)}[way]
        frame[y : y + 32, x : x + 32] = (250, 200, 60)
    return shown[:, 32:152, 32:192]


def show(path: Path, frames: np.ndarray) -> None:
    """Write the file that the browser's camera shows from the next time on that it is turned on."""
    import av

    head = f"YUV4MPEG2 W{frames.shape[2]} H{frames.shape[1]} F10:1 Ip A1:1 C420jpeg\n".encode()
    planes = (av.VideoFrame.from_ndarray(frame, format="rgb24").to_ndarray(format="yuv420p") for frame in frames)
    path.write_bytes(head + b"".join(b"FRAME\n" + plane.tobytes() for plane in planes))


class Person:
    """Does one thing after the other, and counts.

    Args:
        page: of the browser.
        pictures: folder for screenshots; None for none.
    """

    def __init__(self, page: Any, pictures: Path | None):
        self.page, self.pictures, self.steps, self.begun = page, pictures, 0, time.perf_counter()

    def do(self, what: str, work: Callable[[], object]) -> None:
        """Do one step, and say it."""
        work()
        self.steps += 1
        print(f"{self.steps:3} {time.perf_counter() - self.begun:6.1f} s  {what}", flush=True)

    def press(self, words: str) -> None:
        """Press the first button with these words."""
        self.do(f"press {words!r}", lambda: self.page.get_by_role("button", name=words).first.click())

    def write(self, label: str, text: str) -> None:
        """Write a text into a field."""
        self.do(f"write {text!r} at {label!r}", lambda: self.page.get_by_label(label).fill(text))

    def hold(self, words: str) -> None:
        """Hold a button for a while, from the moment before the gesture begins."""

        def held() -> None:
            preview = self.page.locator("#camera").element_handle()
            for empty in (False, True):
                while self.page.evaluate(EMPTY, preview) is not empty:
                    self.page.wait_for_timeout(40)
            self.page.get_by_role("button", name=words).hover()
            self.page.mouse.down()
            self.page.wait_for_timeout(HELD)
            self.page.mouse.up()

        self.do(f"hold {words!r}", held)

    def look(self, name: str) -> None:
        """Keep a screenshot; this is no step."""
        if self.pictures is not None:
            self.page.screenshot(path=self.pictures / f"trial-{name}.png", full_page=True)


def trial(person: Person, camera: Path) -> None:
    """From nothing to answers."""
    page = person.page
    person.look("1-empty")
    person.write("Name of the new recogniser", "gestures")
    person.press("Create")
    page.get_by_role("heading", name="Collect").wait_for()
    for way in ("right", "left", "down"):
        show(camera, moving(way))
        person.press("Turn the camera on")
        person.write("Action that the next clips show", way)
        page.locator("#record:enabled").wait_for()
        for number in range(1, CLIPS + 1):
            person.hold("Hold to record, or press for a countdown")
            page.get_by_role("heading", name=f"{way} ({number})").wait_for()
        person.press("Turn the camera off")  # only so that the camera can show the next gesture
    person.look("2-collected")
    person.press("Check the examples")
    page.locator("#next").wait_for()
    print("    next:", page.locator("#next").inner_text())
    for way in ("left", "right", "down"):
        show(camera, moving(way))
        person.press("Watch the camera live")
        page.locator("#live-best", has_text=re.compile(f"^{way},")).wait_for()
        print(f"    the page names {way!r} after {time.perf_counter() - person.begun:.1f} s")
        person.look(f"3-live-{way}")
        person.press("Turn the camera off")


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="lite0")
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        camera = Path(folder) / "camera.y4m"
        show(camera, moving("right"))
        server = started(Path(folder), port, options.backbone)
        try:
            browser = browser_with(playwright, camera)
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.set_default_timeout(60_000)
            open_when_ready(page, f"http://127.0.0.1:{port}/")
            person = Person(page, options.pictures)
            trial(person, camera)
            seconds = time.perf_counter() - person.begun
            print(f"{person.steps} steps, {seconds:.0f} s, of which {3 * CLIPS * HELD / 1000:.0f} s are recording")
            browser.close()
        finally:
            server.terminate()
            server.wait()


def started(folder: Path, port: int, backbone: str) -> "subprocess.Popen[str]":
    """Start `fsar studio`, and wait until it says its address."""
    begun = time.perf_counter()
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "fsar.cli", "studio", f"{folder}/projects", "--no-browser"),
            *("--port", str(port), "--backbone", backbone),
        ],
        env=os.environ | {"FSAR_CACHE": f"{folder}/cache"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    while not (line := server.stderr.readline()).startswith("fsar:"):
        if server.poll() is not None:
            raise SystemExit(f"fsar studio ended: {line}")
    print(f"fsar studio is there after {time.perf_counter() - begun:.1f} s")
    return server


def browser_with(playwright: Any, camera: Path) -> Any:
    """Start the system's Chromium with a camera that shows a file."""
    browsers = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return playwright.chromium.launch(
        executable_path=next(filter(None, browsers), None),
        args=[
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={camera}",
        ],
    )


def open_when_ready(page: Any, address: str) -> None:
    """Open the page as soon as the service listens."""
    while True:
        try:
            page.goto(address)
            return
        except Exception:  # it does not listen yet
            time.sleep(0.2)


if __name__ == "__main__":
    main()
