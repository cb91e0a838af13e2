"""Each step of "Add a method" in CONTRIBUTING, for every method. The recipes' step is in training/test_recipes.py."""

import ast
import re
from pathlib import Path

import pytest

import fsar
from fsar.methods import METHODS
from tests.methods.entries import NUMBERS, SMALL, WITHOUT_RECIPE

SOURCE, TESTS = Path(fsar.__file__).parent, Path(__file__).parents[1]
PROJECT = TESTS.parent


def head(name: str) -> str:
    """Docstring of the method's file."""
    file = SOURCE / "methods" / f"{METHODS[name].partition(':')[0].rpartition('.')[2]}.py"
    return ast.get_docstring(ast.parse(file.read_text())) or ""


@pytest.mark.parametrize("name", METHODS)
def test_the_file_is_called_as_the_method(name: str) -> None:
    assert METHODS[name].startswith(f"fsar.methods.{name.replace('-', '_')}:")


@pytest.mark.parametrize("name", METHODS)
def test_the_head_has_citation_equations_and_deviations(name: str) -> None:
    text = head(name)
    assert re.search(r"^\| (what|equation) \| function \|$", text, re.MULTILINE), "no table from equations to functions"
    if "No paper" not in text:
        assert re.search(r"\b(19|20)\d\d\b", text), "no citation with its year"
        assert re.search(r"^Deviations\b", text, re.MULTILINE), "no Deviations"


@pytest.mark.parametrize("name", METHODS)
def test_a_test_holds_its_numbers(name: str) -> None:
    assert name in NUMBERS, f"name the test of the numbers of {name} in tests/methods/entries.py: NUMBERS"
    file, _, test = NUMBERS[name].partition("::")
    tree = ast.parse((TESTS / file).read_text())
    assert test in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], NUMBERS[name]


@pytest.mark.parametrize("name", METHODS)
def test_users_are_told(name: str) -> None:
    assert f"| `{name}` | [{name.replace('-', '_')}.py]" in (PROJECT / "README.md").read_text()
    assert f"`{name}`" in (PROJECT / "CHANGELOG.md").read_text()


def test_entries_are_of_methods() -> None:
    assert {*NUMBERS, *SMALL, *WITHOUT_RECIPE} <= METHODS.keys()


def test_contributing_names_every_room() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    rooms = [f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")]
    rooms += [path.name for path in SOURCE.glob("[!_]*.py")]
    assert [room for room in rooms if f"`{room}`" not in text] == []
    for path in re.findall(r"`((?:src|tests)/[\w./]+)`", text):
        assert (PROJECT / path).exists(), f"CONTRIBUTING names {path}"
