"""One self-contained HTML page on results and training runs, beside what the papers print."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fsar.files import write_text_atomic
from fsar.papers import FAMILIES, PAPERS, Cell, citations, load_papers
from fsar.report.benchmark import benchmark_section, header, scroll, setting_words, table_id
from fsar.report.markup import Markup, element, join
from fsar.report.runs import Run, read_runs, runs_section
from fsar.results.result import Result, load_results, unique
from fsar.results.tables import comparable, row_name, said_protocol


def write_report(paths: Sequence[Path], out: Path) -> tuple[int, int]:
    """Read the results and training runs in files and folders and write the page; returns how many of each.

    Raises:
        ValueError: nothing to report on, a file that is no result, or a log that cannot be read.
    """
    results = unique([stored.result for stored in load_results(paths)])
    runs = read_runs(paths)
    if not results and not runs:
        raise ValueError(
            f"no results and no training runs in {', '.join(map(str, paths))}; `fsar evaluate --out DIR` writes "
            f"results, `fsar train --out DIR` runs"
        )
    text = page(results, runs)
    write_text_atomic(out, text)
    return len(results), len(runs)


def page(results: Sequence[Result], runs: Sequence[Run]) -> str:
    """Build the whole page."""
    sections: list[tuple[str, str, Markup]] = []
    groups = comparable(results)
    titles = _titles([group[0] for group in groups])
    for i, (title, group) in enumerate(zip(titles, groups, strict=True), start=1):
        anchor = f"results-{i}"
        sections.append((anchor, title, join(_rests(group), benchmark_section(group, anchor))))
    if runs:
        sections.append(("training", "Training", runs_section(runs)))
    sections.append(("papers", "What the papers print", _papers()))
    if results:
        sections.append(("provenance", "Where each result comes from", _provenance(results)))
    contents = [element("li", element("a", title, href=f"#{anchor}")) for anchor, title, _ in sections]
    body = join(
        element("header", element("h1", "Few-shot action recognition"), _summary(results, runs),
                element("nav", element("ul", *contents), aria_label="contents")),
        element("main", *(element("section", element("h2", title), content, id=anchor)
                          for anchor, title, content in sections)),
    )  # fmt: skip
    head = join(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", "fsar report"),
        element("style", Markup((resources.files("fsar.report") / "style.css").read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{element('html', element('head', head), element('body', body), lang='en')}\n"


# ----------------------------------------------------------------------- head


def _summary(results: Sequence[Result], runs: Sequence[Run]) -> Markup:
    methods = dict.fromkeys([r.method for r in results] + [str(run.recipe["method"]) for run in runs])
    datasets = dict.fromkeys(r.dataset for r in results)
    counts = [_count(len(results), "result"), _count(len(runs), "training run")]
    where = f" on {_and(list(datasets))}" if datasets else ""
    return join(
        element("p", f"{_and([c for c in counts if c])}{where}. Methods: {_and(list(methods))}.", class_="lead"),
        _comparability() if results else None,
        _made_with(results) if results else None,
    )


def _comparability() -> Markup:
    rules = (
        "Numbers stand in one table only if they rest on the same videos (by hash), classes, split and protocol, and "
        "on as many episodes and queries.",
        "± is the 95 % interval over test episodes (1.96 standard errors). It says nothing of another training run; "
        "where there are several seeds, their standard deviation (sd) does.",
        "val selects and test reports, unless the heading of a table says otherwise. Accuracy is in percent.",
    )
    listed = element("ul", *(element("li", rule) for rule in rules))
    return element("div", element("h2", "When numbers can be compared"), listed, class_="rules")


def _made_with(results: Sequence[Result]) -> Markup:
    kinds = list({json.dumps(r.versions, sort_keys=True): r.versions for r in results}.values())
    listed = ["; ".join(f"{name} {number}" for name, number in versions.items()) for versions in kinds]
    lead = "Made with " if len(kinds) == 1 else f"Made with {len(kinds)} sets of versions, which may change a number: "
    return element("p", lead, " | ".join(listed), ".", class_="quiet")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}" if number else ""


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _titles(firsts: Sequence[Result]) -> list[str]:
    """Name sections by their first result: dataset and split, and what sets apart those of the same."""
    titles = [f"{r.dataset}, {r.split}" + _unless(said_protocol(r) == "clean", said_protocol(r)) for r in firsts]
    facts: list[Callable[[Result], str]] = [
        lambda r: f"videos {r.dataset_fingerprint[:8]}",
        lambda r: "published classes" if r.resplit is None else "random classes",
        _queries,
        lambda r: f"{r.episodes:,} episodes",
    ]
    for fact in facts:
        for title in {title for title in titles if titles.count(title) > 1}:
            same = [i for i, other in enumerate(titles) if other == title]
            if len({fact(firsts[i]) for i in same}) > 1:
                for i in same:
                    titles[i] = f"{title}, {fact(firsts[i])}"
    return titles


def _unless(condition: bool, words: str) -> str:
    return "" if condition else f" ({words})"


def _queries(result: Result) -> str:
    return "1 query per class" if result.query == 1 else f"{result.query} queries per class"


def _rests(group: Sequence[Result]) -> Markup:
    """Say what all numbers of a section rest on."""
    first = group[0]
    prints = list(dict.fromkeys(r.dataset_fingerprint[:12] for r in group))
    facts = [
        f"{len(first.confusion['classes'])} classes", f"videos {_and(prints)}",
        f"{first.episodes:,} episodes", _queries(first), f"protocol {said_protocol(first)}",
    ]  # fmt: skip
    if dealt := list(dict.fromkeys(str(r.resplit) for r in group if r.resplit is not None)):
        facts.append(f"classes split at random by seed {_and(dealt)}")
    if absent := max(r.absent for r in group):
        facts.append(f"{absent:,} videos of the list absent")
    if skipped := max(len(r.skipped) for r in group):
        facts.append(f"{skipped:,} unreadable videos left out")
    drawn: dict[tuple[int, int], set[str]] = {}
    for result in group:
        drawn.setdefault((result.way, result.shot), set()).add(result.episodes_fingerprint[:8])
    several = [setting_words(setting) for setting, prints in sorted(drawn.items()) if len(prints) > 1]
    same = "Within a column all methods had the same episodes."
    if several:
        same = f"At {_and(several)} not all had the same episodes; elsewhere they had."
    return element("p", f"{' · '.join(facts)}. {same}", class_="quiet")


# ----------------------------------------------------------------------- the papers' tables


@cache
def _papers() -> Markup:
    """Every table of every paper as data, folded."""
    intro = (
        "Every cell of the tables, as printed: accuracies in percent. Methods that this project has go by its names."
    )
    parts = [element("p", intro)]
    for paper, title in PAPERS.items():
        tables: dict[str, list[Cell]] = {}
        for cell in load_papers():
            if cell.paper == paper:
                tables.setdefault(cell.table, []).append(cell)
        parts += [element("h3", title), element("p", citations()[paper], class_="quiet")]
        parts += [_paper_table(cells) for cells in tables.values()]
    return join(*parts)


def _paper_table(cells: Sequence[Cell]) -> Markup:
    rows: dict[tuple[str, ...], dict[str, list[Cell]]] = {}
    for cell in cells:
        row = (cell.method, cell.variant or "", cell.backbone, cell.pretraining)
        rows.setdefault(row, {}).setdefault(_column(cell), []).append(cell)
    columns = list(dict.fromkeys(_column(cell) for cell in cells))
    notes: dict[str, int] = {}
    body = []
    for (method, variant, backbone, pretraining), values in rows.items():
        shown = [element("td", *_values(values.get(column, ()), notes), class_="number") for column in columns]
        name = join(method, element("small", variant) if variant else None)
        words = (
            element("th", name, scope="row"),
            element("td", backbone, element("small", pretraining), class_="fixed"),
        )
        body.append(element("tr", *words, *shown))
    first = cells[0]
    listed = [element("li", words) for words in notes]
    return element(
        "details",
        element("summary", element("b", first.table), f" {first.caption}"),
        element("p", f"{first.protocol}.", class_="quiet"),
        scroll(header(["method", "backbone"], columns), body),
        element("ol", *listed, class_="notes") if notes else None,
        id=table_id(first.paper, first.table),
    )


def _column(cell: Cell) -> str:
    where = [FAMILIES[cell.benchmark]] if cell.benchmark else []
    shot = [f"{cell.shot}-shot"] if cell.shot is not None else []
    what = [cell.quantity] if cell.quantity else []
    return ", ".join([*what, " ".join(where + shot)]).strip(", ")


def _values(cells: Sequence[Cell], notes: dict[str, int]) -> list[Markup]:
    parts = []
    for i, cell in enumerate(cells):
        number = str(cell.value if cell.accuracy is None else cell.accuracy)
        mark = element("sup", notes.setdefault(cell.note, len(notes) + 1)) if cell.note else None
        parts.append(join(" / " if i else None, number, mark))
    return parts


# ----------------------------------------------------------------------- provenance


def _provenance(results: Sequence[Result]) -> Markup:
    intro = "All that a number rests on; with these settings, videos and weights it comes out again."
    return join(element("p", intro), *(_origin(result) for result in results))


def _origin(result: Result) -> Markup:
    long = ("per_class", "confusion", "right", "training", "skipped")
    content: dict[str, Any] = {key: value for key, value in asdict(result).items() if key not in long}
    content["seen_classes"] = list(result.seen_classes)
    blocks = [("Result", content)]
    if result.training is not None:
        origin = {key: value for key, value in result.training.items() if key != "recipe"}
        blocks += [("Training", origin), ("Recipe", result.training["recipe"])]
    if result.skipped:
        blocks.append(("Videos left out", result.skipped))
    where = f"{result.dataset} {result.split}, {setting_words((result.way, result.shot))}: {result.percent}"
    return element("details", element("summary", element("b", row_name(result)), " ", where),
                   *(join(element("h4", title), element("pre", _yaml(block))) for title, block in blocks))  # fmt: skip


def _yaml(block: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(block))  # tuples become lists
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
