"""Every table of the four papers and of pages of methods, as printed, folded."""

from collections.abc import Sequence
from functools import cache

from fsar.papers import FAMILIES, SOURCES, Cell, citations, load_papers, table_name
from fsar.report.markup import Markup, element, header, join, scroll


@cache
def papers_section() -> Markup:
    """Build all tables of all papers."""
    intro = "Every cell of the tables, as printed; accuracies are in percent. Methods of this project have its names."
    parts = [element("p", intro)]
    for paper, title in SOURCES.items():
        tables: dict[str, list[Cell]] = {}
        for cell in load_papers():
            if cell.paper == paper:
                tables.setdefault(cell.table, []).append(cell)
        parts += [element("h3", title), element("p", citations()[paper], class_="quiet")]
        parts += [_table(cells) for cells in tables.values()]
    return join(*parts)


def table_id(paper: str, table: str) -> str:
    """Anchor of a paper's table.

    Example:
        >>> table_id("ma-fsar", "Table 1")
        'ma-fsar-table-1'
    """
    return f"{paper}-{table_name(table)}"


def _table(cells: Sequence[Cell]) -> Markup:
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
    """Heading of the column that a cell stands in."""
    where = [FAMILIES[cell.benchmark]] if cell.benchmark else []
    shot = [f"{cell.shot}-shot"] if cell.shot is not None else []
    what = [cell.quantity] if cell.quantity else []
    return ", ".join([*what, " ".join(where + shot)]).strip(", ")


def _values(cells: Sequence[Cell], notes: dict[str, int]) -> list[Markup]:
    """Values of one place in a table; `notes` numbers their footnotes."""
    parts = []
    for i, cell in enumerate(cells):
        number = str(cell.value if cell.accuracy is None else cell.accuracy)
        mark = element("sup", notes.setdefault(cell.note, len(notes) + 1)) if cell.note else None
        parts.append(join(" / " if i else None, number, mark))
    return parts
