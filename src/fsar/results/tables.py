"""Tables of results: comparable results share a table, results to be averaged share a row."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsar.results.identity import (
    comparable,
    method_name,
    recipe_key,
    row_keys,
    row_name,
    row_names,
    said_protocol,
    seeds_of,
    trained_on,
    unique,
)
from fsar.results.intervals import Interval, interval_of, said
from fsar.results.numbers import percent, percent_interval
from fsar.results.result import Result, Stored, short_hash
from fsar.results.typeset import Table, markdown, render, without_empty


def table(results: Sequence[Result]) -> str:
    """Write `tables` as Markdown; a single table has no heading.

    Args:
        results: any.
    """
    made = tables(results)
    return markdown(replace(made[0], heading="")) if len(made) == 1 else render(made, "markdown")


def tables(results: Sequence[Result]) -> list[Table]:
    """Make a table of everything that may be compared (`comparable`): a row per method, a column per way and shot.

    Accuracy is in percent ± half the 95 % interval. Runs of one recipe with different seeds share a row (`Joined`).

    Args:
        results: any.

    Returns:
        Tables in the order in which their first results came.
    """
    return [_grouped(group) for group in comparable(results)]


def data_heading(results: Sequence[Result]) -> str:
    """Describe the videos and episodes of the results in a table."""
    first = results[0]
    videos = ", ".join(dict.fromkeys(r.dataset_fingerprint[:8] for r in results))
    files = f", files {first.files[:8]}" if first.files and first.resplit is None else ""
    dealt = ", ".join(str(seed) for seed in sorted({r.resplit for r in results if r.resplit is not None}))
    resplit = f", split at random by seed {dealt}" if dealt else ""
    seeds = ", ".join(sorted({"of a manifest" if r.seed is None else f"seed {r.seed}" for r in results}))
    queries = "1 query" if first.query == 1 else f"{first.query} queries"
    return (
        f"{first.dataset} {first.split} ({len(first.confusion['classes'])} classes{resplit}, "
        f"videos {videos}{files}{lacking(first)}), {first.episodes} episodes ({seeds}), {queries} per class"
    )


def lacking(result: Result) -> str:
    """Say how many videos were missing, left out or damaged; empty if there were none."""
    counts = (
        (result.absent, "listed videos absent"),
        (result.copies, "copies left out"),
        (len(result.skipped), "left out"),
        (len(result.damaged), "damaged"),
    )
    return "".join(f", {n} {what}" for n, what in counts if n)


def _grouped(results: Sequence[Result]) -> Table:
    columns = list(dict.fromkeys((r.way, r.shot) for r in results))
    cells = _cells(results)
    rows = list(dict.fromkeys(row for row, _ in cells))
    best = {column: max(cell.accuracy for (_, at), cell in cells.items() if at == column) for column in columns}
    names = row_names(results)
    return Table(
        heading=f"{data_heading(results)}, protocol {said_protocol(results[0])}; accuracy in % ± "
        f"{interval_words(list(cells.values()))}",
        columns=("method", *(f"{way}-way {shot}-shot" for way, shot in columns)),
        rows=tuple((names[row], *(str(cells.get((row, c), "")) for c in columns)) for row in rows),
        records=tuple(cell.record(names[row]) for (row, _), cell in cells.items()),
        words=frozenset({"method"}),
        best=frozenset(
            (rows.index(row), 1 + columns.index(column))
            for (row, column), cell in cells.items()
            if cell.accuracy == best[column] and len(rows) > 1
        ),
    )


def interval_words(cells: "Sequence[Joined]") -> str:
    """Say what the intervals of a table cover."""
    return said([cell.interval.covers for cell in cells], any(cell.trained_once for cell in cells))


def _cells(results: Sequence[Result]) -> "dict[tuple[str, tuple[int, int]], Joined]":
    """Join the results of each row at each way and shot."""
    groups: dict[tuple[str, tuple[int, int]], list[Result]] = {}
    for key, result in zip(row_keys(results), results, strict=True):
        groups.setdefault((key, (result.way, result.shot)), []).append(result)
    return {place: Joined.of(group) for place, group in groups.items()}


def joined(results: Sequence[Result]) -> "list[Joined]":
    """Join results as `tables` does, in all tables."""
    return [cell for group in comparable(results) for cell in _cells(group).values()]


@dataclass(frozen=True)
class Joined:
    """Mean over the seeds of one row, at one way and shot."""

    results: tuple[Result, ...]

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Joined":
        """Join results; equal results count once."""
        return cls(tuple(unique(results)))

    @property
    def accuracy(self) -> float:
        """Mean over the results, in [0, 1]."""
        return statistics.mean(r.accuracy for r in self.results)

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the mean, and what it covers."""
        return interval_of(self.results)

    @property
    def ci95(self) -> float:
        """Half the interval."""
        return self.interval.half

    @property
    def trained_once(self) -> bool:
        """Whether a single training stands behind the number, so that the interval says nothing of another one."""
        return self.results[0].training is not None and self.interval.covers == "episodes"

    @property
    def sd(self) -> float | None:
        """Standard deviation of the accuracies; None for a single result."""
        return statistics.stdev(r.accuracy for r in self.results) if len(self.results) > 1 else None

    def __str__(self) -> str:
        mean = percent_interval(self.accuracy, self.ci95)
        if self.sd is None:
            return mean
        return f"{mean} ({len(self.results)} {self.over()}: sd {percent(self.sd)})"

    def over(self) -> str:
        """Name what differs between the results: seeds, splits or, if one seed has several results, runs."""
        count = len(self.results)
        trained, splits, episodes = (set(seeds) for seeds in zip(*map(seeds_of, self.results), strict=True))
        for found, words in ((splits, "splits"), (trained, "training seeds"), (episodes, "episode seeds")):
            if len(found) == count:
                return words
        return "seeds" if len({seeds_of(r) for r in self.results}) == count else "runs"

    def record(self, name: str) -> dict[str, Any]:
        """Return everything that identifies the cell; if its results differ in a field, all values of it."""
        first = self.results[0]
        plain = {key: getattr(first, key) for key in ("dataset", "split", "episodes", "query", "method", "mode")}
        seeds = zip(*(seeds_of(r) for r in self.results), strict=True)
        several = dict(zip(("training_seed", "resplit", "seed"), seeds, strict=True))
        for key in ("dataset_fingerprint", "episodes_fingerprint"):
            several[key] = tuple(getattr(r, key) for r in self.results)
        words = {
            key: " ".join(str(v) for v in dict.fromkeys(values) if v is not None) for key, values in several.items()
        }
        own = {"protocol": said_protocol(first), "recipe": recipe_key(first), "row": name, "way": first.way}
        numbers = {"accuracy": self.accuracy, "ci95": self.ci95, "ci95_over": self.interval.covers, "sd": self.sd}
        numbers["results"] = len(self.results)
        return plain | words | own | {"shot": first.shot} | numbers


def listing(stored: Sequence[Stored]) -> Table:
    """List results, one row each, sorted by data, kind and setting; columns that are empty in all rows are left out.

    Args:
        stored: results with their files.
    """
    ordered = sorted(stored, key=lambda one: _place(one.result))
    columns = ("method", "backbone", "trained on", "dataset", "videos", "split", "way", "shot", "query", "episodes",
               "seed", "mode", "accuracy", "protocol", "selection", "file")  # fmt: skip
    numbers = {"way", "shot", "query", "episodes", "seed", "accuracy"}
    return without_empty(
        Table(
            columns=columns,
            rows=tuple(_listed(one.path, one.result) for one in ordered),
            records=tuple(_record(one.path, one.result) for one in ordered),
            words=frozenset(columns) - numbers,
        )
    )


def _place(r: Result) -> tuple[Any, ...]:
    seeds = tuple(str(seed) for seed in seeds_of(r))
    return (r.dataset, r.split, r.dataset_fingerprint, row_name(r), recipe_key(r), r.way, r.shot, seeds, r.query)


def _listed(path: Path, r: Result) -> tuple[str, ...]:
    trained_seed, resplit, _ = seeds_of(r)
    trained = "" if r.training is None else f"{trained_on(r)}, seed {trained_seed}"
    split = r.split if resplit is None else f"{r.split} (classes at random, seed {resplit})"
    protocol = said_protocol(r)
    said = ("" if protocol == "clean" else protocol, "" if r.training is None else r.selection)
    numbers = (str(r.way), str(r.shot), str(r.query), str(r.episodes), "manifest" if r.seed is None else str(r.seed))
    data = (r.dataset, r.dataset_fingerprint[:8], split)
    return (method_name(r), r.backbone, trained, *data, *numbers, r.mode, r.percent, *said, str(path))


def _record(path: Path, r: Result) -> dict[str, Any]:
    """Return everything that identifies a result, as raw values."""
    training = r.training or {}
    plain = (
        *("method", "backbone", "weights", "trained_weights"),
        *("dataset", "dataset_fingerprint", "split", "resplit", "absent", "copies", "selection"),
        *("way", "shot", "query", "episodes", "seed", "episodes_fingerprint"),
        *("accuracy", "ci95", "seconds"),
    )
    return {
        **{name: getattr(r, name) for name in plain},
        "mode": r.mode,
        "protocol": said_protocol(r),
        "options": json.dumps(r.options, sort_keys=True),
        "changed": json.dumps(r.changed, sort_keys=True),
        "clip": json.dumps(r.clip, sort_keys=True),
        "skipped": len(r.skipped),
        "damaged": len(r.damaged),
        "trained_on": training.get("dataset"),
        "training_fingerprint": training.get("dataset_fingerprint"),
        "training_seed": seeds_of(r)[0],
        "recipe": recipe_key(r),
        "versions": short_hash(r.versions, 8),
        "file": str(path),
    }
