"""The exported page in Chromium, whose camera shows a file."""

from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from fsar.export.bundle import WEB
from tests.export.conftest import Exported, moving
from tests.studio.conftest import Camera, browser, camera  # noqa: F401 - fixtures

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason="the extra `export` is not installed")

PREDICT = """([count, height, width, channels, text]) => {
  const all = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), size = height * width * channels;
  const frame = (_, i) => ({ height, width, channels, pixels: all.subarray(i * size, (i + 1) * size) });
  return recogniser.predict([...Array(count)].map(frame));
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def address(exported: Exported) -> Iterator[str]:
    if not (exported.folder / "index.html").is_file():
        pytest.skip(f"no onnxruntime-web in {WEB}; `make web` fetches it with npm")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=exported.folder))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_the_page_answers_as_the_recogniser(address: str, browser: Any, camera: Camera, exported: Exported) -> None:  # noqa: F811
    """First frames from here, then the camera; nothing comes from elsewhere."""
    camera.show(np.tile(moving(0, 48, 4, frames=10), (3, 1, 1, 1)))
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.get_by_text("Knows right, left.").wait_for()
    for clip in (moving(2, 45, 7, frames=20), moving(46, 2, 8, frames=10, height=97, width=131)):
        found = page.evaluate(PREDICT, [*clip.shape, b64encode(clip.tobytes()).decode()])
        expected = exported.recognizer.predict(clip)
        assert found["action"] == expected.action
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    page.get_by_role("button", name="Turn the camera on").click()
    page.get_by_role("meter").first.wait_for()
    assert page.get_by_role("meter").count() == 3
    assert page.locator("#best").inner_text() in ("right", "left", "unknown")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Turn the camera off").click()
    page.get_by_role("button", name="Turn the camera on").wait_for()
    assert complaints == []
    assert [url for url in asked if not url.startswith((address, f"blob:{address}", "data:"))] == []
    context.close()
