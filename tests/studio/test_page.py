"""The page as a new user meets it, in Chromium."""

import re
import shutil
from pathlib import Path
from typing import Any

import httpx

from fsar.recognizer import Recognizer
from fsar.studio.page import FILES, FOLDER
from tests.service.conftest import Served, moving
from tests.studio.conftest import PICTURES, Camera
from tests.test_readme import README

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


class Visit:
    """A tab of the browser; everything it asks for and complains of is kept."""

    def __init__(self, browser: Any, studio: Served, **options: object):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self.said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{studio.port}/")

    def said(self, said: Any) -> None:
        """Keep an error, unless a preview came too late for a clip that was removed meanwhile."""
        if said.type == "error" and "/previews/" not in said.location["url"]:
            self.complaints.append(f"{said.text} {said.location['url']}")

    def create(self, name: str) -> None:
        self.page.get_by_label("Name of the new recogniser").fill(name)
        self.page.get_by_role("button", name="Create", exact=True).first.click()
        self.page.locator("#place", has_text=f" {name}.fsar").wait_for()

    def count(self, action: str, count: int) -> None:
        """Wait until an action has so many examples."""
        self.page.get_by_role("heading", name=f"{action} ({count})").wait_for()

    def picture(self, name: str) -> None:
        PICTURES.mkdir(exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    def close(self, studio: Served) -> None:
        """Nothing came from elsewhere, and nothing went wrong."""
        home = (f"http://127.0.0.1:{studio.port}/", f"blob:http://127.0.0.1:{studio.port}/", "data:")
        assert [url for url in self.asked if not url.startswith(home)] == []
        assert self.complaints == []
        self.context.close()


def test_from_nothing_to_three_gestures(
    browser: Any, studio: Served, camera: Camera, files: dict[str, Path], tmp_path: Path
) -> None:
    """Record three actions, try, correct, check, keep; then reload the page and go on."""
    visit = Visit(browser, studio)
    page = visit.page
    visit.create("gestures")
    shown = {"right": moving(0, 48, 10), "left": moving(48, 0, 10), "down": moving(0, 48, 10).transpose(0, 2, 1, 3)}
    for action, frames in shown.items():
        camera.show(frames)
        page.get_by_role("button", name="Turn the camera on").click()
        page.get_by_label("Action that the next clips show").fill(action)
        record = page.get_by_role("button", name=re.compile("Hold to record, or"))
        page.locator("#record:enabled").wait_for()
        for number in (1, 2):
            if number == 1:  # by keyboard
                record.focus()
                page.keyboard.down(" ")
                page.wait_for_timeout(1200)
                page.keyboard.up(" ")
            else:
                record.hover()
                page.mouse.down()
                page.wait_for_timeout(1500)
                page.mouse.up()
            visit.count(action, number)
        page.get_by_role("button", name="Turn the camera off").click()
    while not page.evaluate("[...document.querySelectorAll('#gallery video')].some(each => each.readyState > 1)"):
        page.wait_for_timeout(50)  # until a preview can be played
    page.get_by_label("Or choose a video to name").set_input_files(files["left0"])
    page.locator("#best").wait_for()
    assert page.get_by_role("meter").count() == 4
    page.locator("#answer video").nth(1).wait_for()
    visit.picture("desktop")
    page.locator("#answer").get_by_role("button", name="down", exact=True).click()
    visit.count("down", 3)
    page.get_by_role("button", name="Undo").click()
    visit.count("down", 2)
    page.get_by_role("button", name="When does it happen?").click()
    page.get_by_text(re.compile("[0-9] found")).wait_for()
    page.get_by_text("Use a part of your video").click()
    page.get_by_label("to second", exact=True).fill("0.8")
    page.get_by_role("button", name="Add this part").click()
    visit.count("down", 3)
    page.get_by_role("button", name="Undo").click()
    visit.count("down", 2)
    page.get_by_role("button", name="Look for faults").click()
    page.locator("#findings li").first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the recogniser's file").click()
    assert Recognizer.load(download.value.path()).actions == {"right": 2, "left": 2, "down": 2}
    shutil.copy(download.value.path(), tmp_path / "again.fsar")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the answers (CSV)").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert rows[0] == "video,action,best,probability,unknown" and rows[1].startswith('"left0.mp4"')
    page.reload()
    visit.count("down", 2)
    page.get_by_role("button", name="Delete: Example 1 of down").click()
    visit.count("down", 1)
    page.get_by_label("Open a recogniser's file").set_input_files(tmp_path / "again.fsar")
    visit.count("down", 2)
    visit.close(studio)
    assert Recognizer.load(studio.root / "gestures.fsar").actions == {"right": 2, "left": 2, "down": 1}
    assert len(list((studio.root / "gestures" / "down").iterdir())) == 1


def test_on_a_phone(browser: Any, studio: Served, files: dict[str, Path]) -> None:
    visit = Visit(browser, studio, **PHONE)
    page = visit.page
    visit.create("phone")
    for action in ("right", "left"):
        page.get_by_label("Action that the next clips show").fill(action)
        page.get_by_label("Or choose videos, several at once").set_input_files(
            [files[f"{action}0"], files[f"{action}1"]]
        )
        visit.count(action, 2)
    move = page.get_by_label("Move to: Example 1 of right")
    move.focus()
    move.select_option("left")
    visit.count("left", 3)
    page.get_by_role("button", name="Undo").click()
    visit.count("right", 2)
    page.get_by_label("Or choose a video to name").set_input_files(files["right0"])
    page.locator("#best").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    visit.picture("phone")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, select, video, meter')]
           .filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    visit.close(studio)


def test_errors_are_shown_in_words(browser: Any, studio: Served, tmp_path: Path) -> None:
    visit = Visit(browser, studio)
    page = visit.page
    visit.create("errors")
    (tmp_path / "text.mp4").write_text("no video")
    page.get_by_label("Or choose videos, several at once").set_input_files(tmp_path / "text.mp4")
    page.get_by_text("First write which action").wait_for()
    page.get_by_label("Action that the next clips show").fill("wave")
    page.get_by_label("Or choose videos, several at once").set_input_files(tmp_path / "text.mp4")
    page.get_by_text("not a video of a known kind").wait_for()
    page.get_by_label("Name of the new recogniser").fill("!x")
    page.get_by_role("button", name="Create", exact=True).first.click()
    page.get_by_text("is no name for a recogniser").wait_for()
    visit.context.close()


def test_the_files_of_the_page(studio: Served) -> None:
    """They load nothing from elsewhere, say so to the browser, and hold no word outside of texts.js."""
    texts = (FOLDER / "texts.js").read_text()
    for path, (name, kind) in FILES.items():
        response = httpx.get(f"http://127.0.0.1:{studio.port}{path}")
        assert response.status_code == 200 and response.headers["content-type"].startswith(kind)
        assert "default-src 'self'" in response.headers["content-security-policy"]
        assert not re.search(r"https?://|@import|url\(", response.text), name
    assert "fsar studio projects/" in README  # as the fixture runs it
    page = (FOLDER / "page.html").read_text()
    for key in re.findall(r'data-(?:text|label|hint)="(\w+)"', page) + re.findall(
        r"TEXTS\.(\w+)", (FOLDER / "page.js").read_text()
    ):
        assert f"  {key}:" in texts, key
    assert re.sub(r"<title>.*</title>|<[^>]*>|\s", "", page) == ""
