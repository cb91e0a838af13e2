"""Segments, their `segments.csv`, and what all text tables share.

`segments.csv` has the columns `file`, `start`, `end` and `label`, in any order: the path of a video (from the folder of
the table), start and end in seconds or as a clock time, and the class. A column `group` may name the
person or the recording.

    file,start,end,label
    monday.mp4,12.5,15,wave
    monday.mp4,1:03:07.25,1:03:09,clap
"""

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fsar.video.paths import display

COLUMNS = ("file", "start", "end", "label")


class Row(NamedTuple):
    """One segment of a file."""

    place: str
    """File and line, for messages."""
    file: str
    """The video, as the file names it."""
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    label: str
    group: str | None = None
    """Person or recording, if the file says it."""


class Segments(NamedTuple):
    """The content of a segment file."""

    rows: list[Row]
    notes: list[str]
    """Sentences on what was ignored."""


class Table(NamedTuple):
    """A table of text: rows as column -> cell, each with its line number in the file."""

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]
    decimal_comma: bool
    """Whether numbers may have a decimal comma, because another character separates the columns."""


def read_table(file: Path, wanted: Sequence[str]) -> Table:
    """Read a table whose columns are separated by commas, semicolons or tabs.

    Lines before the header are ignored; the header is the first line with all wanted columns.

    Args:
        file: the table.
        wanted: columns that the table must have; case does not matter.

    Raises:
        ValueError: the file cannot be read, is not UTF-8 text, or has no such header.
    """
    lines = read_text(file).splitlines()
    found = next((place for place in map(_header, enumerate(lines)) if place.has(wanted)), None)
    if found is None:
        first = repr(lines[0].strip()) if lines else "nothing"
        raise ValueError(
            f"{display(file)}: expected a header with the columns {', '.join(wanted)}; the first line is {first}"
        )
    number, separator, columns = found
    names = [next((w for w in wanted if w.lower() == column.lower()), column) for column in columns]
    rows = []
    reader = csv.reader(lines[number + 1 :], delimiter=separator)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                padded = [*cells, *[""] * (len(names) - len(cells))]
                row = {name: cell.strip() for name, cell in zip(names, padded, strict=False)}
                rows.append((number + 1 + reader.line_num, row))
    except csv.Error as error:
        raise ValueError(f"{display(file)}, line {number + 1 + reader.line_num}: {error}") from error
    return Table(names, rows, separator != ",")


class _Header(NamedTuple):
    """A line, read as a header."""

    number: int
    separator: str
    columns: list[str]

    def has(self, wanted: Sequence[str]) -> bool:
        """Tell whether the line has all wanted columns."""
        return {name.lower() for name in wanted} <= {column.lower() for column in self.columns}


def _header(numbered: tuple[int, str]) -> _Header:
    number, line = numbered
    separator = max(",;\t", key=line.count)
    return _Header(number, separator, [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])])


def read_text(file: Path) -> str:
    """Read a text in UTF-8.

    Raises:
        ValueError: the file cannot be read, or is in another encoding.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{display(file)}: not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise ValueError(f"{display(file)}: cannot be read ({error.strerror or error})") from error


def read_segments_csv(file: Path) -> Segments:
    """Read a `segments.csv`.

    Raises:
        ValueError: the file has no such header, or a line lacks a file, times or a label. The message names the line.
    """
    table = read_table(file, COLUMNS)
    rows = []
    for number, row in table.rows:
        place = f"{display(file)}, line {number}"
        for column in COLUMNS:
            if not row[column]:
                raise ValueError(f"{place}: the column {column} is empty; give a value, or delete the line")
        start, end = (seconds(row[column], place, table.decimal_comma) for column in ("start", "end"))
        rows.append(Row(place, row["file"], start, end, row["label"], row.get("group") or None))
    return Segments(rows, [])


def seconds(text: str, place: str, decimal_comma: bool = False) -> float:
    """Read seconds or a clock time: `12.5`, `1:02.5`, `1:03:07.25`.

    Args:
        text: the time.
        place: file and line, for the message.
        decimal_comma: whether `12,5` is allowed.

    Raises:
        ValueError: the text is not a time.

    Examples:
        >>> seconds("1:03:07.25", "segments.csv, line 2")
        3787.25
    """
    plain = text.replace(",", ".") if decimal_comma else text
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", plain.strip(), re.ASCII)
    value = float("nan")
    if match and ":" in plain:
        hours, minutes, rest = match.groups()
        value = 3600 * int(hours or 0) + 60 * int(minutes) + float(rest)
    elif match:
        value = float(plain)
    if not math.isfinite(value):
        raise ValueError(f"{place}: {text!r} is not a time; expected seconds like 12.5, or a time like 1:02:03.5")
    return value
