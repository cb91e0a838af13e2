"""`fsar results`."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsar.cli.options import name_option
from fsar.names import unknown

if TYPE_CHECKING:
    from fsar.results.result import Result, Stored
    from fsar.results.typeset import Table

_DEFAULT = Path("runs")


def add_options(parser: ArgumentParser) -> None:
    """Add the options: results, filters, output."""
    add = parser.add_argument
    add("paths", nargs="*", type=Path, metavar="PATH", help="result files, or folders; default: runs")
    where = f"only these results; KEY is one of {', '.join(_KEYS)}, or options.NAME, an option of the method"
    add("--where", nargs="+", default=[], metavar="KEY=VALUE", help=where)
    add("--table", action="store_true", help="a row per method, a column per way and shot, seeds joined")
    compare = "two result files, or folders of runs, on the same episodes"
    add("--compare", nargs=2, type=Path, metavar=("A", "B"), help=compare)
    name_option(parser)
    add("--format", default="markdown", help="markdown, csv or latex")
    add("--caption", help="of the table, in LaTeX; default: its conditions, which are a comment beside your caption")
    add("--label", help="of the table, in LaTeX: tab:main")
    add("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")


def run(options: Namespace) -> int:
    """List, tabulate or compare results."""
    from fsar.files import write_text_atomic
    from fsar.results.typeset import FORMATS, render

    if options.format not in FORMATS:
        raise ValueError(unknown(options.format, FORMATS, "format"))
    if options.compare and (options.paths or options.table):
        what = "--table" if options.table else f"path {options.paths[0]}"
        raise ValueError(f"--compare names its two runs and makes its own table; leave {what} out")
    made = _compared(options) if options.compare else _collected(options)
    text = render(_captioned(made, options), options.format)
    printable = text.encode("utf-8", "backslashreplace").decode()  # names of files need not be valid UTF-8
    if options.out is None:
        print(printable)
        return 0
    write_text_atomic(options.out, printable + "\n")
    print(f"wrote {options.out}")
    return 0


def _captioned(made: "list[Table]", options: Namespace) -> "list[Table]":
    """Give the table its caption and label."""
    from dataclasses import replace

    wanted = {name: value for name in ("caption", "label") if (value := getattr(options, name)) is not None}
    for name in wanted:
        if options.format != "latex":
            raise ValueError(f"--{name} has no effect on {options.format}; add --format latex, or leave it out")
        if len(made) > 1:
            raise ValueError(
                f"--{name} is of one table, and these results make {len(made)}; narrow them by --where or paths"
            )
    return [replace(table, **wanted) for table in made]


def _collected(options: Namespace) -> list["Table"]:
    from fsar.results.naming import named, read_names
    from fsar.results.tables import listing, tables

    paths = options.paths or [_DEFAULT]
    if not options.paths and not _DEFAULT.is_dir():
        raise ValueError(f"no folder {_DEFAULT} here; give a PATH: folders of runs, or result files")
    stored = named(_chosen(paths, options.where), read_names(options.name))
    if not options.table:
        return [listing(stored)]
    return tables(sorted((one.result for one in stored), key=lambda result: (result.way, result.shot)))


def _compared(options: Namespace) -> list["Table"]:
    import sys

    from fsar.results.comparison import compare_runs, comparison_tables
    from fsar.results.naming import named, read_names

    sides = _narrowed(options)
    both = [one.result for one in named([*sides[0], *sides[1]], read_names(options.name))]
    a, b = both[: len(sides[0])], both[len(sides[0]) :]
    made, left_out = compare_runs(a, b)
    for reason in left_out:
        print(f"fsar: left out {reason}", file=sys.stderr)
    return comparison_tables(made, *map(str, options.compare))


def _narrowed(options: Namespace) -> "list[list[Stored]]":
    """Results of both sides of a comparison; a condition narrows each side that meets it at all.

    So `--where method=otam` chooses OTAM on a side of several methods, whatever the other side holds.
    """
    sides: list[list[Stored]] = [_chosen([path], []) for path in options.compare]
    _chosen(options.compare, options.where)  # refuses what neither side has
    for key, value in map(_condition, options.where):
        sides = [[one for one in side if _has(one.result, key, value)] or side for side in sides]
    return sides


def _chosen(paths: Sequence[Path], where: Sequence[str]) -> list["Stored"]:
    """Read the results at these paths that meet all conditions.

    Raises:
        ValueError: an unknown key, a value of another kind or one that no result has, or no result.
    """
    from fsar.results.result import load_results

    conditions = [_condition(text) for text in where]
    stored = load_results(paths)
    listed = ", ".join(map(str, paths))
    if not stored:
        raise ValueError(
            f"no results in {listed}; `fsar evaluate --checkpoint RUN` writes them to RUN/results, and --out DIR to DIR"
        )
    for key, value in conditions:
        if not any(_has(one.result, key, value) for one in stored):
            raise ValueError(_strange(key, value, [one.result for one in stored], f"of the results in {listed}"))
    chosen = [one for one in stored if all(_has(one.result, key, value) for key, value in conditions)]
    if not chosen:
        raise ValueError(f"none of the {len(stored)} results in {listed} has {' and '.join(where)}")
    return chosen


def _strange(key: str, value: Any, results: "Sequence[Result]", whose: str) -> str:
    """Say which values these results have, or which options if none has this one."""
    from fsar.config import as_yaml

    if not key.startswith(_OPTION):
        return unknown(str(value), sorted({str(_KEYS[key][1](result)) for result in results}), f"{key} {whose}")
    name = key.removeprefix(_OPTION)
    there = sorted({as_yaml(result.options[name]) for result in results if name in result.options})
    if there:
        return unknown(value, there, f"{key} {whose}")
    return unknown(name, sorted({option for result in results for option in result.options}), f"option {whose}")


def _condition(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE; the value of an option stays text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--where got {text!r}; expected KEY=VALUE, as method=otam (paths come before --where)")
    if key.startswith(_OPTION):
        return key, value
    if key not in _KEYS:
        raise ValueError(unknown(key, [*_KEYS, f"{_OPTION}NAME"], "key of --where"))
    try:
        return key, _KEYS[key][0](value)
    except (KeyError, ValueError) as error:
        raise ValueError(f"--where {text}: expected {_EXPECTED[_KEYS[key][0]]}") from error


def _has(result: "Result", key: str, value: Any) -> bool:
    if key.startswith(_OPTION):
        name = key.removeprefix(_OPTION)
        return name in result.options and _writes(value, result.options[name])
    return bool(_KEYS[key][1](result) == value)


def _writes(text: str, value: Any) -> bool:
    """Whether a text is a way to write an option's value: `1e-4` for 0.0001, `0` for 0.0, `true`, `[2,3]`."""
    from fsar.config import as_yaml

    if isinstance(value, int | float) and not isinstance(value, bool):
        return _float(text) == value
    return text.replace(" ", "") in (as_yaml(value).replace(" ", ""), str(value).replace(" ", ""))


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _number(text: str) -> int | None:
    return None if text.lower() == "none" else int(text)


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_OPTION = "options."
"""Before the name of an option, in `--where` as in a recipe's `--set`."""
_EXPECTED: dict[Callable[[str], Any], str] = {_number: "a whole number", _truth: "true or false"}
_KEYS: dict[str, tuple[Callable[[str], Any], Callable[["Result"], Any]]] = {
    "method": (str, lambda result: result.method),
    "backbone": (str, lambda result: result.backbone),
    "dataset": (str, lambda result: result.dataset),
    "split": (str, lambda result: result.split),
    "way": (_number, lambda result: result.way),
    "shot": (_number, lambda result: result.shot),
    "seed": (_number, lambda result: result.seed),
    "transductive": (_truth, lambda result: result.transductive),
    "protocol": (str, lambda result: result.protocol.partition(":")[0]),
}
"""Key of `--where` -> how its value is read, and the value of a result that it is compared with."""
