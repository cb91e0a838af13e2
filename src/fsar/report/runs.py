"""Training runs in the report: a table, and the curves of each run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fsar.config import read_yaml
from fsar.report.charts import Point, Series, line_chart
from fsar.report.markup import Markup, element, header, join, scroll
from fsar.results.numbers import percent_interval
from fsar.training.run_folder import LOG
from fsar.training.standing import RECIPE
from fsar.video.paths import display

POINTS = 240
"""Largest number of points in a curve; each point is the mean of a part of a longer run."""


@dataclass(frozen=True)
class Run:
    """A folder that `fsar train` wrote."""

    folder: Path
    recipe: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    """Lines of the log for training steps."""
    validations: Sequence[Mapping[str, Any]]

    @property
    def best(self) -> int | None:
        """Index of the validation that chose the kept state; None without validations."""
        accuracies = [line["val_accuracy"] for line in self.validations]
        return accuracies.index(max(accuracies)) if accuracies else None

    def episodes(self, line: Mapping[str, Any]) -> int:
        """Training episodes up to a line of the log."""
        return int(line["step"]) * int(self.recipe["episodes_per_step"])


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read the training runs in folders, at any depth.

    Args:
        paths: folders; files are ignored.

    Returns:
        The runs, without those that have not logged a step yet.

    Raises:
        ValueError: an unreadable log or recipe.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        for log in sorted(path.rglob(LOG)) if path.is_dir() else ():
            if (log.parent / RECIPE).is_file():
                folders.setdefault(log.parent.resolve(), log.parent)
    return [run for run in map(_read, folders.values()) if run.steps]


def _read(folder: Path) -> Run:
    try:
        recipe = read_yaml((folder / RECIPE).read_text(encoding="utf-8"))
        int(recipe["episodes_per_step"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{folder / RECIPE}: not a recipe that fsar wrote ({' '.join(str(error).split())})") from error
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    read = list(_lines(lines, folder / LOG))
    steps = [line for line in read if "loss" in line]
    return Run(folder, recipe, steps, [line for line in read if "val_accuracy" in line])


def _lines(lines: Sequence[str], log: Path) -> Iterator[Mapping[str, Any]]:
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            float(line["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                return  # still being written, or cut short by a kill
            raise ValueError(f"{log}, line {number}: not what fsar train writes ({error})") from error
        yield line


# ----------------------------------------------------------------------- as HTML


def runs_section(runs: Sequence[Run]) -> Markup:
    """Build a table of the runs, and the curves of each run."""
    head = header(["run", "method", "trained on"], ["episodes", "best on val", "at episode", "hours", "memory, GB"])
    rows = [element("tr", *_row(run)) for run in runs]
    curves = [
        element(
            "details",
            element("summary", _name(run), " ", element("small", _what(run))),
            element("div", *_charts(run), class_="charts"),
            open=len(runs) <= 3,
        )
        for run in runs
    ]
    return join(
        element(
            "p",
            "Every run kept its best state on the val classes (ringed in the curves), or the last state if "
            "nothing was validated. Training accuracy is the accuracy on the training episodes.",
        ),
        scroll(head, rows),
        *curves,
    )


def _name(run: Run) -> str:
    return display(run.folder)


def _what(run: Run) -> str:
    recipe = run.recipe
    options = "".join(f" {key}={value}" for key, value in recipe.get("options", {}).items())
    return (
        f"{recipe['method']}{options} ({recipe['backbone']}), {recipe['way']}-way {recipe['shot']}-shot, "
        f"seed {recipe['seed']}"
    )


def _row(run: Run) -> list[Markup]:
    last = run.steps[-1]
    best = None if run.best is None else run.validations[run.best]
    number = [
        f"{run.episodes(last):,} of {run.recipe['episodes']:,}",
        "none" if best is None else percent_interval(best["val_accuracy"], best["val_ci95"]),
        "" if best is None else f"{run.episodes(best):,}",
        f"{sum(line.get('seconds', 0.0) for line in run.steps) / 3600:.2f}",
        f"{max(line.get('memory_gb', 0.0) for line in run.steps):.1f}",
    ]
    where = element("td", _trained_on(run.recipe))
    words = [element("th", _name(run), scope="row"), element("td", run.recipe["method"]), where]
    return words + [element("td", value, class_="number") for value in number]


def _trained_on(recipe: Mapping[str, Any]) -> str:
    """Name the dataset of a run, as its results do; features made elsewhere are named after their file."""
    features = recipe.get("features")
    return Path(features).stem if features else str(recipe.get("benchmark") or recipe.get("data"))


def _charts(run: Run) -> list[Markup]:
    loss = [(float(run.episodes(line)), float(line["loss"])) for line in run.steps]
    right = [(float(run.episodes(line)), 100 * float(line["accuracy"])) for line in run.steps]
    top = 1.05 * max(sorted(y for _, y in loss)[: max(1, round(0.98 * len(loss)))])
    loss_curves = [Series(name="loss", points=_stretches(loss), faint=True), _smooth("training loss, smoothed", loss)]
    accuracy_curves = [_smooth("training episodes, smoothed", right)]
    if run.validations:
        accuracy_curves.append(
            Series(
                name="val classes, with 95 % interval; kept state ringed",
                points=[(float(run.episodes(line)), 100 * line["val_accuracy"]) for line in run.validations],
                half_width=[100 * line["val_ci95"] for line in run.validations],
                best=run.best,
            )
        )
    return [
        line_chart("Loss", loss_curves, "training episodes", "loss", (min(0.0, min(y for _, y in loss)), top)),
        line_chart("Accuracy", accuracy_curves, "training episodes", "accuracy, %", (0.0, 100.0)),
    ]


def _smooth(name: str, points: Sequence[Point]) -> Series:
    """Smooth a curve: at every point, the mean over the preceding twentieth of the run."""
    width = max(1, len(points) // 20)
    total, smooth = 0.0, []
    for i, (x, y) in enumerate(points):
        total += y - (points[i - width][1] if i >= width else 0.0)
        smooth.append((x, total / min(i + 1, width)))
    return Series(name=name, points=_stretches(smooth), marked=False)


def _stretches(points: Sequence[Point]) -> list[Point]:
    """Reduce a curve to at most `POINTS` points."""
    size = -(-len(points) // POINTS)
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]
