"""The whole page: head, a section for each group of comparable results, training runs, papers, provenance."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from fsar.files import write_text_atomic
from fsar.report.benchmark import benchmark_section, setting_words
from fsar.report.markup import Markup, element, join
from fsar.report.paper_tables import papers_section
from fsar.report.pictures import (
    Shown,
    costs_section,
    counted_section,
    pictures_section,
    read_costs,
    read_counted,
    read_pictures,
)
from fsar.report.provenance import provenance_section
from fsar.report.runs import Run, read_runs, runs_section
from fsar.results.identity import comparable, said_protocol, unique
from fsar.results.naming import named
from fsar.results.result import Result, load_results


def write_report(paths: Sequence[Path], out: Path, names: Mapping[Path, str] | None = None) -> tuple[int, int]:
    """Write the page on all results and training runs in files and folders.

    Args:
        paths: result files, and folders of results and training runs, at any depth.
        out: the HTML file.
        names: of rows, as `fsar.results.naming.named` takes them.

    Returns:
        The numbers of results and of training runs.

    Raises:
        ValueError: nothing to report, a file that is not a result, an unreadable log, or a name that fits no row.
        OSError: the page cannot be written.
    """
    pictures, costs, counted = read_pictures(paths), read_costs(paths), read_counted(paths)
    results = unique([stored.result for stored in named(load_results(paths), names or {})])
    runs = read_runs(paths)
    if not (results or runs or pictures or costs or counted):
        raise ValueError(
            f"no results and no training runs in {', '.join(map(str, paths))}; `fsar evaluate --out DIR` writes "
            f"results, `fsar train --out DIR` writes runs"
        )
    write_text_atomic(out, page(results, runs, pictures, costs, counted))
    return len(results), len(runs)


def page(
    results: Sequence[Result],
    runs: Sequence[Run],
    pictures: Sequence[Shown] = (),
    costs: Sequence[dict[str, str]] = (),
    counted: Sequence[dict[str, str]] = (),
) -> str:
    """Build the whole page.

    Args:
        results: of any videos and settings.
        runs: training runs.
        pictures: of `fsar explain`.
        costs: rows of `fsar benchmark methods`.
        counted: rows of `fsar benchmark parameters`; at least one of all these is needed.

    Returns:
        HTML that loads nothing from anywhere.
    """
    sections: list[tuple[str, str, Markup]] = []
    groups = comparable(results)
    titles = _titles([group[0] for group in groups])
    for i, (title, group) in enumerate(zip(titles, groups, strict=True), start=1):
        anchor = f"results-{i}"
        sections.append((anchor, title, join(_conditions(group), benchmark_section(group, anchor))))
    if runs:
        sections.append(("training", "Training", runs_section(runs)))
    if pictures:
        sections.append(("pictures", "Pictures", pictures_section(pictures)))
    if costs:
        sections.append(("costs", "What methods cost", costs_section(costs)))
    if counted:
        sections.append(("parameters", "Parameters: the papers' and ours", counted_section(counted)))
    if results or runs:
        sections.append(("papers", "Published numbers that fsar holds", papers_section()))
    if results:
        sections.append(("provenance", "Where each result comes from", provenance_section(results)))
    contents = [element("li", element("a", title, href=f"#{anchor}")) for anchor, title, _ in sections]
    blocks = [element("section", element("h2", title), content, id=anchor) for anchor, title, content in sections]
    top = element(
        "header",
        element("h1", "Few-shot action recognition"),
        _summary(results, runs) if results or runs else None,
        element("nav", element("ul", *contents), aria_label="contents"),
    )
    body = element("body", join(top, element("main", *blocks)))
    return f"<!doctype html>\n{element('html', _head(), body, lang='en')}\n"


def _head() -> Markup:
    style = (resources.files("fsar.report") / "style.css").read_text(encoding="utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", "fsar report"),
        element("style", Markup(style)),
    )


# ----------------------------------------------------------------------- summary


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
        "Numbers share a table only if they were measured on the same videos (by hash), classes, split and protocol, "
        "with the same numbers of episodes and queries.",
        "± is the 95 % interval over test episodes (1.96 standard errors); of a single training it says nothing of "
        "another one. If there are several training seeds, it covers seeds and episodes (Student's t), and the "
        "standard deviation (sd) of the seeds stands beside it.",
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


# ----------------------------------------------------------------------- one group of results


def _titles(firsts: Sequence[Result]) -> list[str]:
    """Name sections by dataset and split. Sections of the same name add the facts that differ."""
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


def _conditions(group: Sequence[Result]) -> Markup:
    """State what all numbers of a section have in common."""
    first = group[0]
    prints = list(dict.fromkeys(r.dataset_fingerprint[:12] for r in group))
    facts = [
        f"{len(first.confusion['classes'])} classes",
        f"videos {_and(prints)}",
        f"{first.episodes:,} episodes",
        _queries(first),
        f"protocol {said_protocol(first)}",
    ]
    if dealt := list(dict.fromkeys(str(r.resplit) for r in group if r.resplit is not None)):
        facts.append(f"classes split at random by seed {_and(dealt)}")
    if absent := max(r.absent for r in group):
        facts.append(f"{absent:,} videos of the list are missing")
    if skipped := max(len(r.skipped) for r in group):
        facts.append(f"{skipped:,} unreadable videos left out")
    drawn: dict[tuple[int, int], set[str]] = {}
    for result in group:
        drawn.setdefault((result.way, result.shot), set()).add(result.episodes_fingerprint[:8])
    several = [setting_words(setting) for setting, prints in sorted(drawn.items()) if len(prints) > 1]
    same = "In each column, all methods were tested on the same episodes."
    if several:
        same = f"At {_and(several)}, methods were tested on different episodes; elsewhere on the same ones."
    return element("p", f"{' · '.join(facts)}. {same}", class_="quiet")
