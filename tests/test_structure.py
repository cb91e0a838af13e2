"""The tree is the data flow: imports point up it, tests mirror it, its parts are short, the front door stays light."""

import ast
import runpy
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fsar
from fsar.methods import METHODS

SOURCE = Path(fsar.__file__).parent
TESTS = Path(__file__).parent
PROJECT = TESTS.parent
ROOMS = (
    *("lazy", "names", "config", "files", "own", "cache_limit", "progress", "shapes", "devices"),  # the ground
    *("video", "results", "backbones", "text", "alignment", "layers", "methods", "datasets"),
    *(
        "bank",
        "evaluation",
        "training",
        "recognizer",
        "export",
        "service",
        "studio",
        "papers",
        "explain",
        "report",
        "reproduce",
        "cli",
    ),
)
"""From the ground up: an import stays in its room or points to an earlier one."""


def room(file: Path) -> str:
    first = file.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Modules of fsar that a file imports when it is imported itself."""
    tree = ast.parse(file.read_text())
    later = {inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in later]
    return {node.module for node in nodes if (node.module or "").startswith("fsar.")}


def test_imports_point_down() -> None:
    for file in SOURCE.rglob("*.py"):
        if file == SOURCE / "__init__.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fsar."):
                imported = (node.module or "").split(".")[1]
                assert ROOMS.index(imported) <= ROOMS.index(room(file)), f"{file} imports {node.module}"


def test_no_import_goes_in_a_circle() -> None:
    graph = {}
    for file in SOURCE.rglob("*.py"):
        if file.name != "__init__.py":
            module = ".".join(("fsar", *file.relative_to(SOURCE).with_suffix("").parts))
            graph[module] = imports(file)
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError and names the circle


def test_every_method_has_a_file_and_every_file_a_method() -> None:
    files = {f"fsar.methods.{file.stem}" for file in (SOURCE / "methods").glob("[!_]*.py")}
    files -= {
        f"fsar.methods.{shared}" for shared in ("base", "encoder", "episode", "metric", "options", "training_text")
    }
    assert {home.split(":")[0] for home in METHODS.values()} == files


def test_front_door_is_small_and_light() -> None:
    assert len(fsar.__all__) <= 12
    assert all(getattr(fsar, name) for name in fsar.__all__)
    code = (
        "import sys, fsar, fsar.cli\n"
        "loaded = {'torch', 'numpy', 'av'} & sys.modules.keys(); assert not loaded, loaded\n"
        "import fsar.datasets; assert 'torch' not in sys.modules"  # who lists a dataset does not wait for it
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_path_or_number_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.fsar").write_text("")
    code = (
        "import sys; from fsar import cli\n"
        "for line in sys.stdin: assert cli.main(line.split()) == 2, line; assert 'torch' not in sys.modules, line"
    )
    model = ("count --model nope.fsar a.mp4", "spot --model nope.fsar a.mp4", "test nope.fsar .", "model nope.fsar")
    edits = ("enroll nope.fsar --examples .", "forget nope.fsar wave", "correct nope.fsar a.mp4 wave")
    paths = ("count --model mine.fsar a.mp4", "spot --model mine.fsar a.mp4", "recognize --model mine.fsar a.mp4")
    more = ("recognize --model nope.fsar .", "recognize --model mine.fsar --strictness 2 .", "check-examples nowhere")
    lines = "\n".join((*model, *edits, *paths, *more, "export nope.fsar out", "enroll mine.fsar --examples nowhere"))
    subprocess.run([sys.executable, "-c", code], input=lines, text=True, check=True, cwd=tmp_path)


# --------------------------------------------------------------------------- tests mirror the source

WHOLE = ("bad_input", "docs", "doctests", "old_files", "readme", "release", "structure")
"""Tests at the top level that are about the project as a whole; the others are about one module there."""


def test_tests_mirror_the_source() -> None:
    """A folder of tests is about the package of its name; a module without a package has its test at the top level."""
    for file in TESTS.rglob("test_*.py"):
        folder = file.parent.relative_to(TESTS)
        assert (SOURCE / folder / "__init__.py").is_file(), f"{file}: {folder} is no package of src/fsar"
        subject = file.stem.removeprefix("test_")
        assert folder != Path() or subject in WHOLE or (SOURCE / f"{subject}.py").is_file(), (
            f"{file}: neither src/fsar/{subject}.py nor one of {WHOLE}; put it into the folder of the package it tests"
        )


# --------------------------------------------------------------------------- length

MOST_LINES = {"function": 60, "file": 400}
"""Without the docstring of a function. What is longer says why in its docstring, after the word `Long:`."""


def _long_ones() -> Iterator[tuple[str, bool]]:
    """Name what is longer than allowed, and tell whether it says why."""
    for file in sorted(path for root in ("src", "benchmarks", "scripts") for path in (PROJECT / root).rglob("*.py")):
        text, name = file.read_text(), str(file.relative_to(PROJECT))
        tree = ast.parse(text)
        if text.count("\n") > MOST_LINES["file"]:
            yield name, "Long:" in (ast.get_docstring(tree) or "")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node)
                code = [part for part in node.body[docstring is not None :] if part.end_lineno]
                if code and code[-1].end_lineno - code[0].lineno >= MOST_LINES["function"]:  # type: ignore[operator]
                    yield f"{name}: {node.name}", "Long:" in (docstring or "")


def test_what_is_long_says_why() -> None:
    silent = [name for name, says_why in _long_ones() if not says_why]
    assert not silent, f"expected at most {MOST_LINES} lines, or `Long:` and the reason in the docstring"


# --------------------------------------------------------------------------- shapes, benchmarks, scripts


def test_shapes_are_checked_wherever_there_are_some(pytestconfig: pytest.Config) -> None:
    """A package with shapes in its signatures is one of those that pytest checks (pyproject.toml)."""
    checked = pytestconfig.getoption("--jaxtyping-packages")
    if not checked:
        pytest.skip("run without --jaxtyping-packages")
    with_shapes = {f"fsar.{room(file)}" for file in SOURCE.rglob("*.py") if "from jaxtyping import" in file.read_text()}
    assert with_shapes - {"fsar.shapes"} <= set(checked.split(","))


SCRIPTS = sorted((*PROJECT.glob("benchmarks/*.py"), *PROJECT.glob("scripts/*.py")))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_benchmarks_and_scripts_import(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--help`, they import everything and then stop."""
    monkeypatch.syspath_prepend(str(script.parent))  # as `python FILE` does
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        runpy.run_path(str(script), run_name="__main__")
    assert "usage: " in capsys.readouterr().out
