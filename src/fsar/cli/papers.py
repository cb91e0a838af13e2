"""`fsar papers`."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fsar.names import unknown

if TYPE_CHECKING:
    from fsar.papers import Cell
    from fsar.papers.runs import Run
    from fsar.results.typeset import Table

_FILTERS = ("paper", "table", "method", "benchmark", "shot")
_COLUMNS = ("cell", "method", "row", "backbone", "benchmark", "shot", "value", "run")


def add_options(parser: ArgumentParser) -> None:
    """Add the options: cells, filters, output."""
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help="show these, as ma-fsar/table-3/2, with their commands"
    )
    parser.add_argument("--paper", help="list only ma-fsar, task-adapter-pp, clip-mdmf, clip-spm or pages (of methods)")
    parser.add_argument("--table", help='list only this table, as "Table 3" or table-3')
    parser.add_argument("--method", help="list only this method, as this project or else as the paper spells it")
    parser.add_argument("--benchmark", help="list only hmdb51, ucf101, kinetics100, ssv2-small or ssv2-full")
    parser.add_argument("--shot", help="list only this number of examples per class; 0 reads the class texts alone")
    parser.add_argument("--commands", action="store_true", help="show every listed cell with its commands")
    parser.add_argument("--data", default="VIDEOS", metavar="DIR", help="folder of the videos, for the commands")
    parser.add_argument("--format", default="markdown", help="of the list: markdown, csv or latex")


def run(options: Namespace) -> int:
    """List published cells, or show what some measured and the commands that make their rows."""
    from fsar.papers import load_papers
    from fsar.results.typeset import render

    if options.cells and (given := [key for key in _FILTERS if getattr(options, key) is not None]):
        raise ValueError(f"--{given[0]} chooses cells to list, and {options.cells[0]} names one; leave out one of them")
    known = {cell.id: cell for cell in load_papers()}
    for name in options.cells:
        if name not in known:
            raise ValueError(unknown(name, _near(name, known), "cell"))
    chosen = [known[name] for name in options.cells] or _chosen(options, list(known.values()))
    if options.cells or options.commands:
        print("\n\n".join(_shown(cell, options.data) for cell in chosen))
    else:
        print(render([_listing(chosen)], options.format))
    return 0


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Cells of the table that a wrong name begins with; the first cell of every table if it begins with none."""
    of_table = [each for each in known if each.rpartition("/")[0] == name.rpartition("/")[0]]
    return of_table or [each for each in known if each.endswith("/1")]


def _chosen(options: Namespace, cells: Sequence["Cell"]) -> list["Cell"]:
    """Return the cells that all filters keep.

    Raises:
        ValueError: an unknown word, or no cell of this combination.
    """
    chosen, given = list(cells), ""
    for key in _FILTERS:
        wanted = getattr(options, key)
        if wanted is None:
            continue
        word, given = _word(key, wanted), f"{given} --{key} {wanted}"
        there = _words(chosen, key)
        if word not in there:
            _require_known(key, word, _words(cells, key))
            raise ValueError(
                f"fsar holds no published number with{given}; expected --{key} to be one of: {', '.join(there)}"
            )
        chosen = [cell for cell in chosen if _key(cell, key) == word]
    return chosen


def _require_known(key: str, word: str, known: Sequence[str]) -> None:
    """Refuse a word that no cell has, and say whether it is a method of this project."""
    from fsar.methods import METHODS

    if word in known:
        return
    if key == "method" and word in METHODS:
        raise ValueError(f"fsar holds no published number of {word}; `fsar papers` lists those that it holds")
    others = [name for name in METHODS if name not in known] if key == "method" else []
    raise ValueError(unknown(word, [*known, *others], key))


def _words(cells: Iterable["Cell"], key: str) -> list[str]:
    """Words of the cells for a filter, each once."""
    return list(dict.fromkeys(word for cell in cells if (word := _key(cell, key))))


def _key(cell: "Cell", key: str) -> str:
    value = getattr(cell, key)
    return "" if value is None else _word(key, str(value))


def _word(key: str, value: str) -> str:
    from fsar.papers import table_name

    return table_name(value) if key == "table" else value


def _listing(cells: Sequence["Cell"]) -> "Table":
    from fsar.results.typeset import Table

    rows = tuple(_row(cell) for cell in cells)
    records = tuple(_record(cell) for cell in cells)
    return Table(columns=_COLUMNS, rows=rows, records=records, words=frozenset(_COLUMNS) - {"shot", "value"})


def _row(cell: "Cell") -> tuple[str, ...]:
    record = {key: "" if value is None else str(value) for key, value in _record(cell).items()}
    value = f"{record['value']} {record['quantity']}".strip()
    backbone = f"{record['backbone']}, {record['pretraining']}"
    of = (record["cell"], record["method"], record["row"], backbone, record["benchmark"], record["shot"])
    return (*of, value, record["why not"] or "yes")


def _record(cell: "Cell") -> dict[str, Any]:
    from fsar.papers.runs import why_not

    return {
        "cell": cell.id,
        "paper": cell.paper,
        "table": cell.table,
        "method": cell.method,
        "row": cell.variant,
        "backbone": cell.backbone,
        "pretraining": cell.pretraining,
        "benchmark": cell.benchmark,
        "way": cell.way,
        "shot": cell.shot,
        "value": cell.value if cell.accuracy is None else cell.accuracy,
        "quantity": cell.quantity,
        "why not": why_not(cell),
        "note": cell.note,
    }


# ----------------------------------------------------------------------- one cell


def _shown(cell: "Cell", data: str) -> str:
    """Describe what a cell measured, and the commands that make its row."""
    from fsar.papers.runs import WHERE, other_runs_of, runs_of, why_not

    lines = [_heading(cell)]
    if reason := why_not(cell):
        return "\n".join([*lines, f"  no run: {reason}"])
    runs = runs_of(cell)
    lines += [f"  {key}: {words}" for key, words in _measured(cell, runs[0]) if words]
    if len(runs) > 1:
        lines.append(f"  it is the mean of {len(runs)} runs:")
    for number, each in enumerate(runs, 1):
        lines += [f"    {command}" for command in each.commands(data, _folder(cell, number if len(runs) > 1 else None))]
    if cell.quantity:
        lines.append(f"  the number is {WHERE[cell.quantity].replace('RUN', _folder(cell))}")
    for other in other_runs_of(cell):
        lines.append("  the paper leaves open whether it is this instead:")
        lines += [f"    {command}" for command in other.commands(data, f"{_folder(cell)}_other")]
    return "\n".join([*lines, *_hints(cell, runs[0], data)])


def _heading(cell: "Cell") -> str:
    from fsar.papers import FAMILIES

    value = f"{cell.accuracy} %" if cell.accuracy is not None else f"{cell.value} ({cell.quantity})"
    where = [FAMILIES[cell.benchmark]] if cell.benchmark else []
    where += [f"{cell.way}-way"] if cell.way else []
    where += [f"{cell.shot}-shot"] if cell.shot is not None else []
    row = f", {cell.variant}" if cell.variant else ""
    at = f" at {' '.join(where)}" if where else ""
    return f"{cell.id}: {cell.source}, {cell.caption}: {cell.method}{row}{at}: {value}"


def _measured(cell: "Cell", run: "Run") -> list[tuple[str, str]]:
    """The key of a cell in words."""
    from fsar.papers.differences import group_words, plain
    from fsar.papers.measured import of_run

    key = of_run(cell, run)
    queries = " or ".join(map(str, key.queries)) or "a number not stated"
    seen = "see each other (the transductive row of the test)" if key.transductive else "are named one by one"
    trained = group_words(key.groups) + ("" if key.train_shot is None else f", on {key.train_shot}-shot episodes")
    return [
        ("protocol", cell.protocol),
        ("backbone", f"{cell.backbone}, {cell.pretraining}: {run.backbone}"),
        ("options", ", ".join(f"{name} {plain(value)}" for name, value in (cell.options or {}).items())),
        ("trained", trained),
        ("read out by", "the class texts alone" if key.text_alone else ""),
        ("queries", f"{queries} per class in the test; they {seen}"),
        (
            "sub-actions",
            f"written by {key.corpus} in the paper; those of this project are others" if key.corpus else "",
        ),
        ("note", cell.note or ""),
    ]


def _hints(cell: "Cell", run: "Run", data: str) -> list[str]:
    """What else may be run: a code's way to select the state, and a leaking code without its leak."""
    from fsar.papers.origins import origins
    from fsar.papers.runs import leaks

    equal = {"test": "--protocol paper", "last": "--set val_every=0"}
    keeps = origins()[cell.method].keeps
    hints = []
    if run.recipe is not None and keeps in equal:
        hints.append(f"  {origins()[cell.method].selection}: {equal[keeps]} of `fsar train` does the same")
    if leaks(cell):
        hints.append(
            "  this repeats a public code whose scores read labels of the queries: an audit, no accuracy; "
            "without that (then no difference is printed):"
        )
        clean = run.with_option("variant", "paper")
        hints += [f"    {command}" for command in clean.commands(data, f"{_folder(cell)}_clean")]
    return hints


def _folder(cell: "Cell", number: int | None = None) -> str:
    return f"runs/{cell.id.replace('/', '_')}" + ("" if number is None else f"_{number}")
