"""The tree is the data flow: imports point up it, methods and files agree, the front door stays light."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import fsar
from fsar.methods import METHODS

SOURCE = Path(fsar.__file__).parent
ROOMS = (
    *("lazy", "names", "config", "files", "progress", "shapes", "devices"),  # the ground
    *("video", "results", "backbones", "text", "alignment", "layers", "methods", "datasets"),
    *("bank", "evaluation", "training", "recognizer", "papers", "report", "reproduce", "cli"),
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
    files -= {f"fsar.methods.{shared}" for shared in ("base", "encoder", "episode", "metric")}
    assert {home.split(":")[0] for home in METHODS.values()} == files


def test_front_door_is_small_and_light() -> None:
    assert len(fsar.__all__) <= 12
    assert all(getattr(fsar, name) for name in fsar.__all__)
    code = "import sys, fsar, fsar.cli; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'av')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_heads_of_method_files_say_what_they_deviate_in() -> None:
    for home in METHODS.values():
        text = (ast.get_docstring(ast.parse((SOURCE / "methods" / f"{_file(home)}.py").read_text())) or "").lower()
        assert "deviations" in text or "no paper" in text, home


def _file(home: str) -> str:
    return home.split(":")[0].split(".")[-1]
