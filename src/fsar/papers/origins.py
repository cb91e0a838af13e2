"""How the published numbers of each method were made (`methods.yaml`), as far as papers and public codes say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

from fsar.config import read_yaml
from fsar.names import unknown
from fsar.papers import SOURCES, Cell


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the published numbers of one method share."""

    papers: tuple[str, ...]
    """Papers that print the method as their own."""
    queries: tuple[int, ...] = ()
    """Queries per class in the test; several if paper and code differ, empty if neither says."""
    keeps: Literal["test", "val", "last", "unknown"]
    """The state that was tested: the best on the test classes, the best on the val classes, the last, or not known."""
    selection: str
    """The same as a sentence."""
    code: bool = False
    """Whether its authors have published code."""
    leaks: bool = False
    """Whether that code lets labels of queries reach the scores."""
    rows: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[Mapping[str, Any], ...] = ()

    def own(self, cell: Cell) -> bool:
        """Tell whether the paper of a cell prints this method as its own."""
        return cell.paper in self.papers

    def notes_on(self, cell: Cell) -> Iterator[str]:
        """Return other known facts on a cell, as a sentence."""
        return (note["words"] for note in self.notes if _fits(note, cell))

    def setting(self, cell: Cell) -> "Setting":
        """Merge everything that the cell shares with other cells, besides the recipe."""
        recipe: str | None = None
        options: dict[str, Any] = {}
        training: dict[str, Any] = {}
        for row in self.rows:
            if _fits(row, cell):
                recipe = row.get("recipe", recipe)
                options |= row.get("options", {})
                training |= row.get("training", {})
        return Setting(recipe, options, training)


class Setting(NamedTuple):
    """What a row shares with other rows, besides the packaged recipe of its method and benchmark."""

    recipe: str | None
    """Another packaged recipe, with `{benchmark}` for the row's."""
    options: Mapping[str, Any]
    training: Mapping[str, Any]


@cache
def origins() -> Mapping[str, Origin]:
    """Read `methods.yaml`: a method's name -> how its numbers were made.

    Example:
        >>> origins()["clip-spm"].queries
        (4, 1)
    """
    text = (resources.files("fsar") / "papers" / "methods.yaml").read_text(encoding="utf-8")
    return {name: _origin(name, content) for name, content in read_yaml(text).items()}


_KEYS = tuple(item.name for item in fields(Origin))
_ROW_KEYS = ("where", "recipe", "options", "training")
_NOTE_KEYS = ("where", "words")


def _origin(name: str, content: Mapping[str, Any]) -> Origin:
    for key in content:
        if key not in _KEYS:
            raise ValueError(f"methods.yaml, {name}: {unknown(str(key), _KEYS, 'key')}")
    for kind, known in (("rows", _ROW_KEYS), ("notes", _NOTE_KEYS)):
        for key in (key for row in content.get(kind, ()) for key in row):
            if key not in known:
                raise ValueError(f"methods.yaml, {name}, {kind}: {unknown(str(key), known, 'key')}")
    for paper in content["papers"]:
        if paper not in SOURCES:
            raise ValueError(f"methods.yaml, {name}: {unknown(str(paper), SOURCES, 'paper')}")
    tuples = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    return Origin(**{**content, **tuples})


def _fits(row: Mapping[str, Any], cell: Cell) -> bool:
    return all(
        getattr(cell, key) in (value if isinstance(value, list) else [value])
        for key, value in row.get("where", {}).items()
    )
