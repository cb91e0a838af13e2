"""Tables as text: Markdown, CSV, and LaTeX with booktabs."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fsar.names import unknown

FORMATS = ("markdown", "csv", "latex")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: cells as text for people, and the same values as raw numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """A cell per column."""
    records: tuple[Mapping[str, Any], ...]
    """Raw values for CSV; all records have the same keys."""
    heading: str = ""
    """Heading: what all rows share."""
    words: frozenset[str] = field(default=frozenset())
    """Columns of words; other columns hold numbers and are aligned right."""
    best: frozenset[tuple[int, int]] = field(default=frozenset())
    """Row and column of the cells that LaTeX prints bold, both from 0."""
    caption: str = ""
    """Caption in LaTeX, as LaTeX reads it; by default the heading."""
    label: str = ""
    """Label in LaTeX."""


def render(tables: Sequence[Table], form: str) -> str:
    """Write tables one after the other, each below its heading; in CSV, the records of all.

    Args:
        tables: any number.
        form: `markdown`, `csv` or `latex`.

    Raises:
        ValueError: no such format.

    Example:
        >>> row = Table(columns=("method", "accuracy"), rows=(("otam", "42.2"),),
        ...             records=({"method": "otam", "accuracy": 0.42160},), words=frozenset({"method"}))
        >>> print(render([row], "markdown"))
        | method | accuracy |
        | --- | ---: |
        | otam | 42.2 |
        >>> print(render([row], "csv"))
        method,accuracy
        otam,0.4216
    """
    if form not in FORMATS:
        raise ValueError(unknown(form, FORMATS, "format"))
    if form == "csv":
        return _csv([record for table in tables for record in table.records])
    return "\n\n".join((markdown if form == "markdown" else _latex)(table) for table in tables)


def markdown(table: Table) -> str:
    """Write one table, with its heading above if it has one."""
    rule = ["---" if name in table.words else "---:" for name in table.columns]
    cells = [[_one_line(cell) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(row) + " |" for row in (table.columns, rule, *cells)]
    return "\n".join([table.heading, "", *lines] if table.heading else lines)


def without_empty(table: Table) -> Table:
    """Leave out the columns that are empty in every row."""
    kept = [i for i in range(len(table.columns)) if any(row[i] for row in table.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    columns = tuple(table.columns[i] for i in kept)
    best = frozenset((row, kept.index(i)) for row, i in table.best if i in kept)
    return replace(table, columns=columns, rows=rows, best=best)


def _one_line(cell: str) -> str:
    return " ".join(cell.split("\n")).replace("|", r"\|")


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().rstrip("\n")


def _latex(table: Table) -> str:
    """Write a `table` environment.

    The heading is its caption, so that the numbers keep their conditions; beside a caption of one's own, a comment.
    """
    align = "".join("l" if name in table.words else "r" for name in table.columns)
    rows = [
        [rf"\textbf{{{_escape(cell)}}}" if (i, j) in table.best else _escape(cell) for j, cell in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    caption = table.caption or _escape(table.heading)
    lines = [
        r"% needs \usepackage{booktabs}",
        *([f"% {_one_line(table.heading)}"] if table.caption and table.heading else []),
        r"\begin{table}",
        r"\centering",
        *([rf"\caption{{{caption}}}"] if caption else []),
        *([rf"\label{{{table.label}}}"] if table.label else []),
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        _row([_escape(name) for name in table.columns]),
        r"\midrule",
        *(_row(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
