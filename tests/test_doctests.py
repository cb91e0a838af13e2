"""Every example in a docstring of fsar runs, and prints what the docstring says."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsar

SOURCE = Path(fsar.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples() -> Iterator[doctest.DocTest]:
    """Docstrings with examples, read from the files: an import hook may hide functions from doctest's own search."""
    for file in sorted(SOURCE.rglob("*.py")):
        module = ".".join(("fsar", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                if ">>>" in docstring:
                    name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
                    line = node.body[0].lineno - 1
                    yield doctest.DocTestParser().get_doctest(docstring, {"__name__": module}, name, str(file), line)


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
