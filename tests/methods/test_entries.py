"""Each step of "Add a method" in CONTRIBUTING, for every method."""

import ast
import re
from pathlib import Path

import pytest

import fsar
from fsar.config import settings_of
from fsar.methods import METHODS, default_traits, method_class
from fsar.methods.base import Method
from fsar.training.recipes import recipe_names
from tests.methods.entries import NUMBERS, SMALL, WITHOUT_RECIPE

SOURCE, TESTS = Path(fsar.__file__).parent, Path(__file__).parents[1]
PROJECT = TESTS.parent
BENCHMARKS = ("hmdb51", "ucf101", "kinetics100", "ssv2-small", "ssv2-full")


def head(name: str) -> str:
    """Docstring of the method's file."""
    file = SOURCE / "methods" / f"{METHODS[name].partition(':')[0].rpartition('.')[2]}.py"
    return ast.get_docstring(ast.parse(file.read_text())) or ""


@pytest.mark.parametrize("name", METHODS)
def test_the_file_is_called_as_the_method(name: str) -> None:
    assert METHODS[name].startswith(f"fsar.methods.{name.replace('-', '_')}:"), "step 1: name the file as the method"


@pytest.mark.parametrize("name", METHODS)
def test_the_head_has_citation_equations_and_deviations(name: str) -> None:
    text = head(name)
    assert re.search(r"^\| (what|equation) \| function \|$", text, re.MULTILINE), (
        "step 2: the head of the file has no table `| what | function |`"
    )
    if "No paper" not in text:
        assert re.search(r"\b(19|20)\d\d\b", text), "step 2: no citation with its year, and not the words 'No paper'"
        assert re.search(r"^Deviations\b", text, re.MULTILINE), "step 2: no line that begins with 'Deviations'"


@pytest.mark.parametrize("name", METHODS)
def test_the_class_has_its_name_words_and_match(name: str) -> None:
    cls = method_class(name)
    assert cls.name == name, f"step 3: {cls.__name__}.name is {cls.name!r}, but METHODS calls the class {name!r}"
    assert cls.__doc__ and cls.match is not Method.match, f"step 3: {cls.__name__} needs a docstring and `match`"
    silent = [setting.name for setting in settings_of(cls.Config) if not setting.words]
    assert not silent, f"step 3: write a docstring under these options of {cls.__name__}.Config"


@pytest.mark.parametrize("name", METHODS)
def test_a_test_holds_its_numbers(name: str) -> None:
    assert name in NUMBERS, (
        f"step 5: name the test that holds the numbers of {name} in NUMBERS of tests/methods/entries.py"
    )
    file, _, test = NUMBERS[name].partition("::")
    tree = ast.parse((TESTS / file).read_text())
    tests = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert test in tests, f"step 5: NUMBERS names {NUMBERS[name]}, but {file} has no such test"


@pytest.mark.parametrize("name", METHODS)
def test_what_can_train_has_recipes(name: str) -> None:
    if default_traits(name).trains and name not in WITHOUT_RECIPE:
        missing = {f"{name}/{benchmark}" for benchmark in BENCHMARKS} - set(recipe_names())
        assert not missing, (
            "step 6: write these recipes; or enter the method in WITHOUT_RECIPE of tests/methods/entries.py; or set "
            "`trains=()` in its traits, if it has nothing to train"
        )


@pytest.mark.parametrize("name", METHODS)
def test_users_are_told(name: str) -> None:
    page, row = "docs/methods-and-backbones.md", f"| `{name}` | [{name.replace('-', '_')}.py]"
    assert row in (PROJECT / page).read_text(), (
        f"step 7: the table of methods in {page} has no row that begins with {row}"
    )
    assert f"`{name}`" in (PROJECT / "CHANGELOG.md").read_text(), f"step 7: CHANGELOG.md does not name `{name}`"


def test_entries_are_of_methods() -> None:
    assert {*NUMBERS, *SMALL, *WITHOUT_RECIPE} <= METHODS.keys()


def test_contributing_names_every_room() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    rooms = [f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")]
    rooms += [path.name for path in SOURCE.glob("[!_]*.py")]
    assert [room for room in rooms if f"`{room}`" not in text] == []
    for path in re.findall(r"`((?:src|tests)/[\w./]+)`", text):
        assert (PROJECT / path).exists(), f"CONTRIBUTING names {path}"
