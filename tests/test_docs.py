"""What the pages show beside the code says what the code says: steps of methods, and messages on files."""

import inspect
import re
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from fsar import alignment, shapes
from fsar.methods import METHODS, method_class

DOCS = Path(__file__).parents[1] / "docs"
FLOW = runpy.run_path(str(DOCS / "flow.py"))
ABOUT = yaml.safe_load((DOCS / "methods.yml").read_text(encoding="utf-8"))
PLAIN = (
    "a added after all alone an and are as at beside both by each every few first for from in is its last made more of "
    "on one or other over product shall that the their then this those three times to two up with"
)
"""Words of plain English in the steps, which no file of a method needs to hold."""


def test_every_method_has_its_steps() -> None:
    """Steps that can be drawn as a picture with words, from the frames to the scores."""
    assert ABOUT.keys() == METHODS.keys()
    for name, about in ABOUT.items():
        assert about.keys() == {"flow", "licence", "when"}, name
        first, *_, last = FLOW["steps_of"](about["flow"])
        assert "frames" in first[0][0] and last[0][0] == "score of each class", name
        assert any(own for step in FLOW["steps_of"](about["flow"]) for _, own in step), name
        picture = ElementTree.fromstring(FLOW["drawn"](about["flow"]))
        assert picture.get("role") == "img" and picture.findtext("title") == FLOW["in_words"](about["flow"])


def test_a_picture_of_three_steps() -> None:
    """A step divides into two branches, which join: four arrows; words that are too long for a line take two."""
    picture = ElementTree.fromstring(FLOW["drawn"]("frames > *one branch | another branch of many words > score"))
    assert [box.get("class") for box in picture.iter("rect")] == ["shared", "own", "shared", "shared"]
    assert len(list(picture.iter("path"))) == 4
    lines = [span.text for span in picture.iter("tspan")]
    assert lines == ["frames", "one branch", "another branch of", "many words", "score"]
    height = float(str(picture.get("viewBox")).split()[-1])
    assert all(float(str(box.get("y"))) + float(str(box.get("height"))) < height for box in picture.iter("rect"))
    with pytest.raises(ValueError, match="'one | ' of a flow needs words"):
        FLOW["drawn"]("frames > one | > score")


@pytest.mark.parametrize("name", METHODS)
def test_steps_are_in_the_words_of_the_method(name: str) -> None:
    """Every word stands in the glossary, in a file of the method's classes, or in one of an alignment."""
    files = {inspect.getfile(cls) for cls in method_class(name).__mro__ if cls.__module__.startswith("fsar")}
    files |= {path for path in Path(alignment.__file__).parent.glob("*.py")}
    known = " ".join([shapes.__doc__ or "", *(Path(file).read_text(encoding="utf-8") for file in files)])
    said = set(re.findall(r"[a-z]+", FLOW["in_words"](ABOUT[name]["flow"]).lower())) - set(PLAIN.split())
    strange = {word for word in said if word.rstrip("s") not in known.lower()}
    assert not strange


def test_messages_of_refused_files_are_those_of_the_reader() -> None:
    """The table on refused files quotes what the reader says."""
    quoted = re.findall(r'^\| "(.+?)" \|', (DOCS / "files.md").read_text(encoding="utf-8"), re.MULTILINE)
    source = "".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "src/fsar/video").glob("*.py"))
    said = re.sub(r"\{what\}", "only sound", source)
    assert len(quoted) == 12 and [message for message in quoted if message not in said] == []


def test_the_episodes_of_the_page_on_python_run() -> None:
    """Both blocks after the words on an episode of one's own, one after the other."""
    page = (DOCS / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page.partition("One episode of your own")[2], re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2 and names["logits"].shape == (1, 4, 3)
