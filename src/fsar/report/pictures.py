"""Pictures and tables that `fsar explain` and `fsar benchmark` left in the report's folders."""

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fsar.explain import costs, parameters
from fsar.explain.picture import SOFTWARE
from fsar.report.markup import Markup, element, header, join, scroll

WIDEST = 1400
"""Pixels; wider pictures are shrunk."""


@dataclass(frozen=True)
class Shown:
    """A picture of `fsar explain`."""

    title: str
    words: str
    """Alternative text."""
    note: str
    """What somebody wrote about it (`--note`)."""
    png: bytes


def read_pictures(paths: Sequence[Path]) -> list[Shown]:
    """Read the pictures below some folders, in the order of their paths; PNG files of other programs are ignored.

    Args:
        paths: files and folders.
    """
    found = []
    for file in _below(paths, ".png"):
        try:
            with Image.open(file) as image:
                about = dict(image.info)
                if about.get("Software") != SOFTWARE:
                    continue
                png = io.BytesIO()
                image.thumbnail((WIDEST, WIDEST * 4))
                image.convert("RGB").save(png, format="png", optimize=True)
        except OSError:  # not an image
            continue
        title, words, note = (str(about.get(key, "")) for key in ("Title", "Description", "Comment"))
        found.append(Shown(title, words, note, png.getvalue()))
    return found


def pictures_section(pictures: Sequence[Shown]) -> Markup:
    """Show pictures, each with its note and its description in words.

    Args:
        pictures: at least one.
    """
    return join(*(_figure(one) for one in pictures))


def _figure(one: Shown) -> Markup:
    address = f"data:image/png;base64,{base64.b64encode(one.png).decode()}"
    picture = element("div", element("img", src=address, alt=one.words), class_="scroll", tabindex=0)
    words = element("details", element("summary", "In words"), element("p", one.words))
    note = element("p", one.note) if one.note else None
    return element("figure", element("figcaption", one.title), picture, note, words, class_="picture")


def read_costs(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Read the tables of `fsar benchmark methods` below some folders; other CSV files are ignored.

    Args:
        paths: files and folders.
    """
    head = list(costs.Costs.__dataclass_fields__)
    older = [name for name in head if name != "trains"]
    return _rows(paths, head) + [row | {"trains": ""} for row in _rows(paths, older)]


def read_counted(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Read the tables of `fsar benchmark parameters` below some folders; other CSV files are ignored.

    Args:
        paths: files and folders.
    """
    return _rows(paths, list(parameters.Counted.__dataclass_fields__))


def _rows(paths: Sequence[Path], head: list[str]) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for file in _below(paths, ".csv"):
        with file.open(newline="", encoding="utf-8", errors="replace") as text:
            table = csv.DictReader(text)
            if table.fieldnames == head:
                rows += table
    return rows


def costs_section(rows: Sequence[dict[str, str]]) -> Markup:
    """Show what methods cost.

    Args:
        rows: at least one.
    """
    words = ("method", "backbone", "device", "trains")
    numbers = {name: title for name, title in costs.COLUMNS.items() if name not in words}
    cells = [
        (
            [row[name] for name in words],
            [costs.cell_of(name, float(row[name]) if row[name] else None) for name in numbers],
        )
        for row in rows
    ]
    intro = (
        "Measured on random clips (fsar benchmark methods). An operation is a multiplication or an addition. Seconds "
        "are medians, and memory is the peak of a training episode beyond what lay there before."
    )
    return _table(intro, [costs.COLUMNS[name] for name in words], [*numbers.values()], cells)


def counted_section(rows: Sequence[dict[str, str]]) -> Markup:
    """Show the papers' numbers of parameters beside ours.

    Args:
        rows: at least one.
    """
    titles, numbers = parameters.COLUMNS, ("published", "ours", "ours_text")
    words = [name for name in titles if name not in numbers]
    cells = [
        ([row[name] for name in words], [parameters.cell_of(name, float(row[name])) for name in numbers])
        for row in rows
    ]
    intro = (
        "Millions of parameters that the papers print, beside those of our run of the row (fsar benchmark parameters)."
    )
    return _table(intro, [titles[name] for name in words], [titles[name] for name in numbers], cells)


def _table(intro: str, words: list[str], numbers: list[str], rows: list[tuple[list[str], list[str]]]) -> Markup:
    body = [
        element(
            "tr", *(element("td", cell) for cell in texts), *(element("td", cell, class_="number") for cell in values)
        )
        for texts, values in rows
    ]
    return join(element("p", intro), scroll(header(words, numbers), body))


def _below(paths: Sequence[Path], ending: str) -> list[Path]:
    files = [path for path in paths if path.suffix == ending and path.is_file()]
    return files + [file for path in paths if path.is_dir() for file in sorted(path.rglob(f"*{ending}"))]
