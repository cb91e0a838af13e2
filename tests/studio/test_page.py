"""The page as a new user meets it, in Chromium."""

import re
import shutil
from pathlib import Path
from typing import Any

import httpx

from fsar.recognizer import Recognizer
from fsar.studio.page import FILES, FOLDER, SCRIPTS
from tests.service.conftest import Served, moving
from tests.studio.conftest import PICTURES, Camera
from tests.test_readme import README

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


class Visit:
    """A tab of the browser; everything it asks for and complains of is kept."""

    def __init__(self, browser: Any, studio: Served, recognizer: str = "", **options: object):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self.said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{studio.port}/" + (f"#recognizer={recognizer}" if recognizer else ""))

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

    def until(self, script: str) -> Any:
        """Wait until a script gives something true; the page's policy forbids Playwright's own way."""
        for _ in range(1200):
            if found := self.page.evaluate(script):
                return found
            self.page.wait_for_timeout(50)
        raise AssertionError(f"it never came: {script}")

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
    visit.until("[...document.querySelectorAll('#gallery video')].some(each => each.readyState > 1)")
    page.get_by_label("Or choose a video to name").set_input_files(files["left0"])
    page.locator("#best").wait_for()
    assert page.get_by_role("meter").count() == 4
    page.locator("#answer video").nth(1).wait_for()
    assert page.get_by_alt_text(re.compile("Picture [1-8] of your video")).count() == 8
    assert page.get_by_alt_text(re.compile("The most similar picture of an example of (left|right|down)")).count() == 8
    page.locator("#answer video").first.scroll_into_view_if_needed()
    visit.until("[...document.querySelectorAll('#answer video')].every(each => !each.paused)")  # beside each other
    visit.picture("desktop-answer")
    page.locator("#answer").get_by_role("button", name="down", exact=True).click()
    visit.count("down", 3)
    page.get_by_text(re.compile("Clips that the others name right: [0-9] of 6 before, [0-9] of 7 now")).wait_for()
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
    page.get_by_role("button", name="Check the examples").click()
    page.locator("#findings li").first.wait_for()
    visit.picture("desktop")
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
    assert page.evaluate("document.documentElement.scrollWidth <= 360")  # nothing sticks out
    page.get_by_role("button", name="Check the examples").click()
    page.get_by_role("table").wait_for()
    _trim_by_touch(visit)
    assert page.evaluate("document.documentElement.scrollWidth <= 360")
    visit.picture("phone")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, select, video, meter')]
           .filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    visit.close(studio)


def _trim_by_touch(visit: Visit) -> None:
    """Open the bar of the first example, and move its end by a finger."""
    page = visit.page
    page.locator("#gallery figure").first.evaluate("each => each.scrollIntoView({block: 'center'})")
    visit.until("document.querySelector('#gallery video').duration || 0")
    page.get_by_role("button", name="Trim: Example 1 of right").click()
    end = page.get_by_role("slider", name="End: Example 1 of right")
    end.evaluate("each => each.scrollIntoView({block: 'center'})")
    place, before = end.bounding_box(), float(end.input_value())
    x, y = place["x"] + place["width"] - 8, place["y"] + place["height"] / 2
    finger = page.context.new_cdp_session(page)
    for kind, at in (("Start", [{"x": x, "y": y}]), ("Move", [{"x": x - place["width"] / 3, "y": y}]), ("End", [])):
        finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": at})
    assert 0.5 * before < float(end.input_value()) < 0.8 * before


def test_live_trim_and_check(
    browser: Any, studio: Served, camera: Camera, clips: dict[str, bytes], taught: Path
) -> None:
    """Answers that follow the camera; trimming by keyboard and mouse; the confusion picture."""
    shutil.copytree(taught / "g", studio.root / "live")
    shutil.copy(taught / "g.fsar", studio.root / "live.fsar")
    camera.show(moving(0, 48, 12))
    visit = Visit(browser, studio, recognizer="live")
    page = visit.page
    visit.count("right", 2)
    before = files_below(studio.root)
    page.get_by_role("button", name="Watch the camera live").click()
    best = page.locator("#live-best")
    best.filter(has_text="right,").wait_for()
    assert page.locator("#live-bars").get_by_role("meter").count() == 3
    page.get_by_role("button", name="Turn the camera off").click()
    camera.show(moving(48, 0, 12))
    page.get_by_role("button", name="Watch the camera live").click()
    best.filter(has_text="left,").wait_for()
    visit.picture("desktop-live")
    assert files_below(studio.root) == before  # nothing is kept
    page.get_by_label("What did the last seconds show?").fill("left")
    page.get_by_role("button", name="Keep them as an example").click()
    visit.count("left", 3)
    page.get_by_role("button", name="Stop watching").click()
    page.locator("#live-answer").wait_for(state="hidden")
    page.get_by_role("button", name="Turn the camera off").click()
    _trim(visit)
    page.get_by_role("button", name="What should I record next?").click()
    page.locator("#next", has_text=re.compile("more clips? of (left|right)")).wait_for()
    table = page.get_by_role("table", name="Each clip, named by all other clips")
    rows = [row.get_by_role("cell").all_inner_texts() for row in table.get_by_role("row").all()[1:]]
    assert [sum(map(int, row)) for row in rows] == [2, 3]
    page.get_by_text("Compare with another method").click()
    page.get_by_label("Method").select_option("bi-mhm")
    page.get_by_label("What looks at the pictures").select_option("tiny")
    page.get_by_role("button", name="Make it").click()
    page.get_by_text(re.compile("live bi-mhm tiny is ready.*: [0-9]+%; with live: [0-9]+%")).wait_for()
    assert page.get_by_role("progressbar").count() == 0
    page.get_by_role("button", name="What should I record next?").click()
    page.get_by_role("img", name=re.compile("Named right by the other clips: .* with 5 clips")).wait_for()
    visit.picture("desktop-check")
    visit.close(studio)


def _trim(visit: Visit) -> None:
    """The start by keyboard, the end by mouse; then undo."""
    page = visit.page
    length = "(document.querySelector('#gallery video').duration || 0)"
    page.locator("#gallery figure").first.evaluate("each => each.scrollIntoView({block: 'center'})")
    whole = visit.until(length)
    page.get_by_role("button", name="Trim: Example 1 of right").click()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    end = page.get_by_role("slider", name="End: Example 1 of right")
    end.evaluate("each => each.scrollIntoView({block: 'center'})")
    place = end.bounding_box()
    page.mouse.move(place["x"] + place["width"] - 8, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.mouse.move(place["x"] + 0.7 * place["width"], place["y"] + place["height"] / 2)
    page.mouse.up()
    visit.picture("desktop-trim")
    page.get_by_role("button", name="Keep this part: Example 1 of right").click()
    page.get_by_text("Trimmed. Undo brings").wait_for()
    part = visit.until(length)
    assert 0.3 < part < whole - 0.3
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("Trimmed. Undo brings").wait_for(state="hidden")
    visit.until(f"{length} === {whole}")


def files_below(folder: Path) -> set[str]:
    """All files that stay: the service's own ones, such as previews, left out."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if not (path.parts[0].startswith(".") and path.parts[1] != "uploads")}


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
    page.evaluate('attempt(async () => say("said meanwhile", true))')
    assert page.locator("#status").inner_text() == "said meanwhile"  # the end of the work does not take it away
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
    used = re.findall(r'data-(?:text|label|hint)="(\w+)"', page)
    used += [key for name in SCRIPTS for key in re.findall(r"TEXTS\.(\w+)", (FOLDER / f"{name}.js").read_text())]
    assert sorted(set(used)) == sorted(re.findall(r"^  (\w+):", texts, re.MULTILINE))  # none lacks, none is left over
    assert re.sub(r"<title>.*</title>|<[^>]*>|\s", "", page) == ""
