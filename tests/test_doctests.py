"""Every example in a docstring of fsar runs, and prints what the docstring says."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsar
from fsar import _HOMES

SOURCE = Path(fsar.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _module(file: Path) -> str:
    return ".".join(("fsar", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def examples() -> Iterator[doctest.DocTest]:
    """Docstrings with examples, read from the files: an import hook may hide functions from doctest's own search."""
    for file in sorted(SOURCE.rglob("*.py")):
        module = _module(file)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                if ">>>" in docstring:
                    name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
                    line = node.body[0].lineno - 1
                    yield doctest.DocTestParser().get_doctest(docstring, {"__name__": module}, name, str(file), line)


def exported() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions that a package exports, with their places."""
    for package in sorted(SOURCE.rglob("__init__.py")):
        names = set(getattr(importlib.import_module(_module(package)), "__all__", ()))
        for file in sorted(package.parent.glob("*.py")):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name in names:
                    yield f"{file.relative_to(SOURCE)}: {node.name}", node


def test_exported_functions_explain_their_arguments() -> None:
    silent = [
        place
        for place, node in exported()
        if len(node.args.args + node.args.kwonlyargs) > 2 and "Args:" not in (ast.get_docstring(node) or "")
    ]
    assert not silent, "write Args: in the docstrings of these functions"


def test_names_of_the_front_door_have_examples() -> None:
    """The world is an exception: rendering it takes minutes."""
    silent = [name for name in _HOMES if ">>>" not in (getattr(fsar, name).__doc__ or "")]
    assert silent == ["load_world"], "write an example that runs"


@pytest.mark.parametrize("example", tuple(examples()), ids=lambda example: example.name)
def test_example(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module = vars(importlib.import_module(example.globs["__name__"]))
    example.globs |= module
    with capsys.disabled():  # doctest compares what is printed
        said: list[str] = []
        failed, tried = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append, clear_globs=False)
    assert tried and not failed, "".join(said)
