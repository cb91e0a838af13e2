"""Published numbers of parameters beside ours: each model is built without weights, as the run of its row builds it."""

import copy
from dataclasses import asdict, dataclass, fields
from functools import cache

import torch

from fsar.backbones import Backbone, load_backbone
from fsar.explain.curves import without_weights
from fsar.methods import build_method
from fsar.papers import Cell, load_papers
from fsar.papers.runs import Run, runs_of
from fsar.progress import progress_bar
from fsar.training.parameters import group_of

TRAINED, ALL = "tunable parameters, M", "full parameters, M"
"""Quantities of published cells, in millions."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A published number of parameters and ours, in millions."""

    source: str
    """Paper and table."""
    method: str
    variant: str
    """As the paper names the row; empty for the method itself."""
    backbone: str
    quantity: str
    """`trained` or `all`."""
    published: float
    ours: float
    ours_text: float
    """The part of `ours` that stands in the text tower."""
    note: str


def count_published(progress: bool = False) -> list[Counted]:
    """Count the parameters of every published row that gives a number of them.

    Args:
        progress: show a progress bar.

    Returns:
        One entry per row; equal rows of several benchmarks are one.
    """
    cells = [cell for cell in load_papers() if cell.quantity in (TRAINED, ALL)]
    bar = progress_bar(cells, "count", "row", len(cells), progress)
    found = [_counted(cell, run) for cell in bar for run in runs_of(cell)[:1]]
    return list({tuple(asdict(one).values()): one for one in found}.values())


def _counted(cell: Cell, run: Run) -> Counted:
    groups = frozenset((run.settings or {}).get("lr", ()))
    trained, everything = _numbers(run.method, repr(dict(run.trained_options)), run.backbone, groups)
    total, text = trained if cell.quantity == TRAINED else everything
    assert cell.value is not None
    return Counted(
        source=cell.source,
        method=cell.method,
        variant=cell.variant or "",
        backbone=run.backbone,
        quantity="trained" if cell.quantity == TRAINED else "all",
        published=cell.value,
        ours=total / 1e6,
        ours_text=text / 1e6,
        note=cell.note or "",
    )


@cache
def _numbers(
    method: str, options: str, backbone: str, groups: frozenset[str]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Count what is trained, and everything: in all, and in the text tower."""
    import ast

    hollow = copy.deepcopy(_hollow(without_weights(backbone)))
    with torch.device("meta"):
        built = build_method(method, hollow, **ast.literal_eval(options))
    sizes = [(name, parameter.numel()) for name, parameter in built.named_parameters()]
    trained = [(name, size) for name, size in sizes if group_of(name) in groups]
    return _sums(trained), _sums(sizes)


def _sums(sizes: list[tuple[str, int]]) -> tuple[int, int]:
    return sum(size for _, size in sizes), sum(size for name, size in sizes if _is_text(name))


@cache
def _hollow(backbone: str) -> Backbone:
    return load_backbone(backbone).to("meta")


def _is_text(name: str) -> bool:
    """Whether a parameter belongs to the text tower, or to what a method adds to its blocks."""
    of_clip = name.startswith("backbone.clip.") and not name.startswith("backbone.clip.visual.")
    return of_clip or name.startswith("text")


COLUMNS = {
    "source": "paper",
    "method": "method",
    "variant": "row",
    "backbone": "backbone",
    "quantity": "parameters",
    "published": "published, M",
    "ours": "ours, M",
    "ours_text": "of it text tower, M",
    "note": "note",
}
"""Columns of the table, with their units."""


def cell_of(name: str, value: str | float) -> str:
    """Write a cell of the table.

    Args:
        name: of the column.
        value: a published number keeps the paper's decimals.

    Example:
        >>> cell_of("published", 18.5), cell_of("ours", 14.201344), cell_of("method", "ma-fsar")
        ('18.5', '14.20', 'ma-fsar')
    """
    if isinstance(value, str):
        return value
    return f"{value:g}" if name == "published" else f"{value:.2f}"


def counted_table(rows: list[Counted]) -> str:
    """Write published and own numbers as Markdown.

    Args:
        rows: of `count_published`.
    """
    lines = [f"| {' | '.join(COLUMNS.values())} |", f"|{'---|' * len(COLUMNS)}"]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def _line(row: Counted) -> str:
    return f"| {' | '.join(cell_of(name, getattr(row, name)) for name in COLUMNS)} |"


def counted_rows(rows: list[Counted]) -> list[list[object]]:
    """Give the numbers as rows of plain values, the names of the fields first, for CSV.

    Args:
        rows: of `count_published`.
    """
    return [[field.name for field in fields(Counted)], *([*asdict(row).values()] for row in rows)]
