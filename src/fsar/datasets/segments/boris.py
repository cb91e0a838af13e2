"""Segments from BORIS: the tables that it exports as "aggregated events" or "tabular events" (CSV or TSV).

The behaviour is the class. Only state events have a duration; point events are ignored.

- Aggregated events: one row per event, with `Start (s)` and `Stop (s)`.
- Tabular events: one row for the start (START) and one for the end (STOP) of an event, with `Time`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from fsar.datasets.segments.table import Row, Segments, Table, read_table, seconds
from fsar.video.paths import display

AGGREGATED = ("Behavior", "Start (s)", "Stop (s)")
TABULAR = ("Behavior", "Time")
_MEDIA = ("Media file name", "Media file", "Media file path", "Source")
_KIND = ("Behavior type", "Status")


def is_boris(columns: str) -> bool:
    """Tell whether the text begins with a header of BORIS."""
    return "Behavior" in columns and (all(name in columns for name in AGGREGATED) or "Media file" in columns)


def read_boris(file: Path) -> Segments:
    """Read events that BORIS exported.

    Raises:
        ValueError: not such a table; an event without an end; an observation without a video, with several videos, or
            with a time offset.
    """
    try:
        table = read_table(file, AGGREGATED)
        found = list(_aggregated(file, table))
    except ValueError as error:
        if "expected a header" not in str(error):
            raise
        found = list(_tabular(file, read_table(file, TABULAR)))
    rows = [row for row in found if row is not None]
    points = len(found) - len(rows)
    note = f"{display(file)}: ignored {points} point events, which have no duration"
    return Segments(rows, [note] if points else [])


def _aggregated(file: Path, table: Table) -> Iterator[Row | None]:
    """Read rows of aggregated events; None for a point event."""
    for number, row in table.rows:
        place = f"{display(file)}, line {number}"
        if _kind(row) == "POINT":
            yield None
            continue
        start, end = (seconds(row[name], place, table.decimal_comma) for name in AGGREGATED[1:])
        yield Row(place, _media(row, place), start, end, row["Behavior"])


def _tabular(file: Path, table: Table) -> Iterator[Row | None]:
    """Read pairs of START and STOP of one behaviour; None for a point event."""
    running: dict[tuple[str, ...], tuple[str, float]] = {}
    for number, row in table.rows:
        place = f"{display(file)}, line {number}"
        kind = _kind(row)
        if kind == "POINT":
            yield None
            continue
        time, media = seconds(row["Time"], place, table.decimal_comma), _media(row, place)
        key = (row.get("Observation id", ""), media, row.get("Subject", ""), row["Behavior"])
        if kind == "START" and key not in running:
            running[key] = place, time
        elif kind == "STOP" and key in running:
            begun, start = running.pop(key)
            yield Row(begun, media, start, time, row["Behavior"])
        else:
            raise ValueError(f"{place}: {row['Behavior']} has a {kind} that fits no other row; correct it in BORIS")
    for (*_, behavior), (place, _) in running.items():
        raise ValueError(f"{place}: {behavior} has no end; add it in BORIS, and export again")


def _kind(row: dict[str, str]) -> str:
    """`POINT`, `START`, `STOP` or `STATE`."""
    return next((row[name].upper().split()[0] for name in _KIND if row.get(name)), "STATE")


def _media(row: dict[str, str], place: str) -> str:
    """Return the video of an event.

    Raises:
        ValueError: no video, several videos, or a time offset.
    """
    offset = row.get("Time offset (s)") or "0"
    if seconds(offset.lstrip("+-"), place) != 0:
        raise ValueError(f"{place}: its observation has a time offset of {offset} s; set it to 0, and export again")
    name = next((row[name] for name in _MEDIA if row.get(name)), "")
    sources = re.split(r"[|;]", row.get("Source", "") or name)
    files = [re.sub(r"^(player\s*)?#?\d+:", "", source.strip(), flags=re.IGNORECASE) for source in sources]
    if not name or row.get("Observation type", "").upper() in ("LIVE", "IMAGES"):
        raise ValueError(f"{place}: its observation has no video; export observations of media files only")
    if len(files) > 1:
        raise ValueError(
            f"{place}: its observation has {len(files)} videos ({', '.join(files[:3])}), and times may count over all "
            f"of them; use one video for an observation"
        )
    return files[0]
