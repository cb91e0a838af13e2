"""The section on comparable results: tables, the papers' numbers beside them, charts, classes."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fsar.papers import SOURCES
from fsar.papers.compare import Difference, Printed, beside, family_of
from fsar.report.charts import SERIES, Series, bar_chart, line_chart
from fsar.report.markup import Markup, element, header, join, scroll
from fsar.report.paper_tables import table_id
from fsar.results.identity import by_each_shot, row_keys, row_name, row_names
from fsar.results.numbers import percent
from fsar.results.result import Result
from fsar.results.tables import Joined
from fsar.text.words import class_text

MINUS = "\N{MINUS SIGN}"
BARS = 4
"""How many methods are drawn side by side for each class."""
PAIRS = 5
"""How many confusions are listed per method."""
Setting = tuple[int, int]
"""Way and shot."""


@dataclass(frozen=True)
class Group:
    """Results on the same videos under the same protocol, one cell for all seeds."""

    names: Mapping[str, str]
    """Key of a row -> its name."""
    cells: Mapping[tuple[str, Setting], Joined]
    settings: tuple[Setting, ...]

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Group":
        """Group results by row, way and shot."""
        found: dict[tuple[str, Setting], list[Result]] = {}
        for key, result in zip(row_keys(results), results, strict=True):
            found.setdefault((key, (result.way, result.shot)), []).append(result)
        settings = tuple(sorted({setting for _, setting in found}))
        return cls(row_names(results), {place: Joined.of(each) for place, each in found.items()}, settings)

    @property
    def rows(self) -> list[str]:
        """Keys of the rows, in the order of the results."""
        return list(dict.fromkeys(row for row, _ in self.cells))

    def at(self, setting: Setting) -> dict[str, Joined]:
        """Cells at one way and shot, the best first."""
        there = {row: cell for (row, at), cell in self.cells.items() if at == setting}
        return dict(sorted(there.items(), key=lambda item: -item[1].accuracy))


def benchmark_section(results: Sequence[Result], anchor: str) -> Markup:
    """Build the section on results that share videos and protocol.

    Args:
        results: of one group, as `comparable` gives them.
        anchor: the section's id, which makes the ids of its notes unique.

    Returns:
        Tables, charts and lists.
    """
    group = Group.of(results)
    return join(
        _own_table(group),
        _beside_papers(group, results[0], anchor),
        _charts("Over ways and shots", [*_curves(group, "way"), *_curves(group, "shot")]),
        *_classes(group),
    )


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten the names of rows as far as they stay different.

    Args:
        names: full names, as `row_names` gives them.

    Returns:
        The shortest of: method; method and mode; method and options; name without training. Else the full names.

    Example:
        >>> short_names(["otam x=1 (tiny)", "trx (tiny)"])
        ['otam', 'trx']
    """
    method, options = (lambda name: name.partition(" ")[0]), (lambda name: name.partition(" (")[0])
    for cut in (method, _method_and_mode, options, _without_training):
        short = [cut(name) for name in names]
        if len(set(short)) == len(names):
            return short
    return list(names)


def _method_and_mode(name: str) -> str:
    return name.partition(" ")[0] + name.rpartition(")")[2]


def _without_training(name: str) -> str:
    return re.sub(r", trained on [^)]*", "", name)


def setting_words(setting: Setting) -> str:
    """Write way and shot as the field does.

    Example:
        >>> setting_words((5, 1))
        '5-way 1-shot'
    """
    return f"{setting[0]}-way {setting[1]}-shot"


def named(name: str) -> Markup:
    """Name of a row: the method in bold, the rest small."""
    method, space, rest = name.partition(" ")
    return join(element("b", method), space, element("small", rest) if rest else None)


# ----------------------------------------------------------------------- tables


def _own_table(group: Group) -> Markup:
    best = {setting: max(cell.accuracy for cell in group.at(setting).values()) for setting in group.settings}
    rows = []
    for row in group.rows:
        cells = [element("th", named(group.names[row]), scope="row")]
        for setting in group.settings:
            cell = group.cells.get((row, setting))
            top = cell is not None and cell.accuracy == best[setting] and len(group.rows) > 1
            cells.append(
                element("td", None if cell is None else _number(cell), class_="number best" if top else "number")
            )
        rows.append(element("tr", *cells))
    return scroll(header(["method"], [setting_words(setting) for setting in group.settings]), rows)


def _number(cell: Joined) -> Markup:
    spread = None
    if cell.sd is not None:
        spread = element("small", f"{len(cell.results)} {cell.over()}, sd {percent(cell.sd)}")
    interval = element("span", f" ± {percent(cell.ci95)}", class_="interval")
    return join(element("span", percent(cell.accuracy), class_="value"), interval, spread)


def _beside_papers(group: Group, first: Result, anchor: str) -> Markup:
    if family_of(first.dataset) is None:
        return element("p", f"fsar holds no published numbers on {first.dataset}.", class_="quiet")
    places = sorted(group.cells, key=lambda place: (place[1], group.rows.index(place[0])))
    pairs = {place: beside(group.cells[place].results) for place in places}
    if not any(pairs.values()):
        return element("p", "fsar holds no published number of these methods at these ways and shots.", class_="quiet")
    notes: dict[str, int] = {}
    body = []
    for setting in group.settings:
        there = {row: values for (row, at), values in pairs.items() if at == setting and values}
        if there:
            head = element("th", setting_words(setting), colspan=6, scope="rowgroup")
            body.append(element("tr", head, class_="group"))
        for row, values in there.items():
            body += _pair_rows(group.names[row], group.cells[row, setting], values, notes, anchor)
    listed = [element("li", words, id=f"{anchor}-{number}") for words, number in notes.items()]
    return join(
        element("h3", "Beside published numbers"),
        element(
            "p",
            "Every published value that fsar holds for the same method, way and shot: of four papers, and of pages of "
            "methods. Other papers may print others. Only those on the same backbone if there are any. The last column "
            "names what differs. If a number is bold there, the two values measure different things, and no difference "
            "(ours minus published) is given. fsar papers prints the commands that make a published row.",
        ),
        scroll(header(["method"], ["ours", "published", "difference"], "printed in", "differs in"), body),
        _lacking(group, [place for place, values in pairs.items() if not values]),
        element("h4", "What differs"),
        element("p", "here: our number; there: the published one.", class_="quiet"),
        element("ol", *listed, class_="notes"),
    )


def _pair_rows(name: str, cell: Joined, values: Sequence[Printed], notes: dict[str, int], anchor: str) -> list[Markup]:
    rows = []
    for i, value in enumerate(values):
        span = len(values)
        own = (
            element("th", named(name), scope="row", rowspan=span),
            element("td", _number(cell), rowspan=span, class_="number"),
        )
        difference = percent(cell.accuracy - value.accuracy / 100, sign=True)
        apart = difference.replace("-", MINUS) if value.comparable else "none"
        marks = [_note(notes, difference, anchor) for difference in value.differences]
        printed = element("span", f"{value.accuracy:.1f}", class_="value")
        rows.append(
            element(
                "tr",
                *(own if i == 0 else ()),
                element("td", printed, element("small", value.backbone), class_="number"),
                element("td", apart, class_="number"),
                element("td", *_sources(value), class_="sources"),
                element("td", *(mark for _, mark in sorted(marks)), class_="marks"),
            )
        )
    return rows


def _sources(value: Printed) -> list[Markup]:
    """Papers and tables, one line per paper. A row of an ablation table adds its variant."""
    papers: dict[str, list[Markup]] = {}
    for cell in value.cells:
        variant = None if cell.is_default or not cell.variant else element("i", f" ({cell.variant})")
        link = element("a", cell.table, href=f"#{table_id(cell.paper, cell.table)}")
        papers.setdefault(SOURCES[cell.paper], []).append(join(link, variant))
    return [
        element("div", f"{title}: ", *(join(", " if i else None, link) for i, link in enumerate(links)))
        for title, links in papers.items()
    ]


def _note(notes: dict[str, int], difference: Difference, anchor: str) -> tuple[int, Markup]:
    """Return the number of a difference in the notes; bold if the two values must not be subtracted."""
    number = notes.setdefault(difference.words, len(notes) + 1)
    shown = element("b", number) if difference.blocks else number
    return number, element("a", shown, href=f"#{anchor}-{number}", title=difference.words)


def _lacking(group: Group, places: Sequence[tuple[str, Setting]]) -> Markup | None:
    """Name rows and settings of which no published number is held."""
    rows: dict[str, list[str]] = {}
    for row, setting in places:
        rows.setdefault(group.names[row], []).append(setting_words(setting))
    names = short_names(list(rows))
    listed = [f"{name} at {', '.join(settings)}" for name, settings in zip(names, rows.values(), strict=True)]
    return element("p", f"fsar holds no published number of {'; '.join(listed)}.", class_="quiet") if rows else None


# ----------------------------------------------------------------------- charts


def _charts(title: str, charts: Sequence[Markup]) -> Markup | None:
    return join(element("h3", title), element("div", *charts, class_="charts")) if charts else None


def _curves(group: Group, over: str) -> list[Markup]:
    """Draw accuracy over way (a chart per shot) or over shot (a chart per way), for lines of at least three points."""
    axis, other = (0, 1) if over == "way" else (1, 0)
    charts = []
    for fixed in sorted({setting[other] for setting in group.settings}):
        lines: dict[str, dict[int, Joined]] = {}
        for (row, setting), cell in group.cells.items():
            if setting[other] == fixed:
                lines.setdefault(group.names[row], {})[setting[axis]] = cell
                if over == "shot" and (each := by_each_shot(cell.results[0])):
                    lines.setdefault(row_name(each), {})[setting[axis]] = cell
        lines = {name: cells for name, cells in lines.items() if len(cells) >= 3}
        if lines:
            charts.append(_curve_chart(lines, over, f"{fixed}-{'shot' if over == 'way' else 'way'}"))
    return charts


def _curve_chart(lines: Mapping[str, Mapping[int, Joined]], over: str, fixed: str) -> Markup:
    best = sorted(lines, key=lambda name: -lines[name][max(lines[name])].accuracy)[:SERIES]
    series = []
    for name, short in zip(best, short_names(best), strict=True):
        cells = sorted(lines[name].items())
        points = [(float(x), 100 * cell.accuracy) for x, cell in cells]
        series.append(Series(name=short, points=points, half_width=[100 * cell.ci95 for _, cell in cells]))
    where = sorted({x for name in best for x in lines[name]})
    if over == "way":
        series.append(Series(name="chance", points=[(float(x), 100 / x) for x in where], reference=True))
    left_out = f" (the best {SERIES} of {len(lines)})" if len(lines) > SERIES else ""
    labels = {"way": "ways (classes per episode)", "shot": "shots (examples per class)"}
    return line_chart(f"{fixed}, over {over}s{left_out}", series, labels[over], "accuracy, %", x_ticks=where)


def _classes(group: Group) -> list[Markup]:
    """Per-class accuracy and confusions; only the first setting is unfolded."""
    made: list[Callable[[Group, Setting], Markup]] = [_bars, _confusions]
    return [
        element(
            "details",
            element("summary", f"Classes at {setting_words(setting)}"),
            element("div", *(make(group, setting) for make in made), class_="classes"),
            open=i == 0,
        )
        for i, setting in enumerate(group.settings)
    ]


def _bars(group: Group, setting: Setting) -> Markup:
    there = dict(list(group.at(setting).items())[:BARS])
    names = short_names([group.names[row] for row in there])
    values = {row: _per_class(cell.results) for row, cell in there.items()}
    labels = {label for each in values.values() for label in each}
    first = next(iter(values.values()))
    order = sorted(labels, key=lambda label: (first.get(label, -1.0), label))
    left_out = len(group.at(setting)) - len(there)
    title = "Accuracy of each class" + (f" (the best {BARS} methods; {left_out} are not drawn)" if left_out else "")
    bars = [(class_text(label) or label, [each.get(label) for each in values.values()]) for label in order]
    return bar_chart(title, bars, names, "accuracy, %")


def _per_class(results: Sequence[Result]) -> dict[str, float]:
    """Mean accuracy of each class in percent, over the results that have the class."""
    values: dict[str, list[float]] = {}
    for result in results:
        for label, accuracy in result.per_class.items():
            values.setdefault(label, []).append(100 * accuracy)
    return {label: sum(each) / len(each) for label, each in values.items()}


def _confusions(group: Group, setting: Setting) -> Markup:
    there = dict(list(group.at(setting).items())[:BARS])
    names = short_names([group.names[row] for row in there])
    lists = []
    for name, cell in zip(names, there.values(), strict=True):
        items = [
            element(
                "li",
                element("span", f"{share:.0f} %", class_="value"),
                " ",
                element("i", class_text(shown)),
                " named as ",
                element("i", class_text(said)),
            )
            for share, shown, said in confused(cell.results)
        ]
        shown = element("ul", *items, class_="confused") if items else element("p", "no query was confused")
        lists.append(element("div", element("h4", name), shown))
    return element(
        "div",
        element("h3", "Most often confused"),
        element(
            "p", "Share of all queries of the first class, including episodes without the second class.", class_="quiet"
        ),
        *lists,
    )


def confused(results: Sequence[Result]) -> list[tuple[float, str, str]]:
    """Find the most confused pairs of classes, over results with the same classes as the first.

    Args:
        results: of one row and setting.

    Returns:
        Up to `PAIRS` triples, the most frequent first: share in percent of the queries of a class, the class, and the
        class that they were named as.
    """
    same = [r.confusion for r in results if r.confusion["classes"] == results[0].confusion["classes"]]
    classes = same[0]["classes"]
    pairs = []
    for i, shown in enumerate(classes):
        counts = [sum(each["counts"][i][j] for each in same) for j in range(len(classes))]
        total = sum(counts)
        pairs += [(100 * counts[j] / total, shown, said) for j, said in enumerate(classes) if j != i and counts[j]]
    return sorted(pairs, key=lambda pair: -pair[0])[:PAIRS]
