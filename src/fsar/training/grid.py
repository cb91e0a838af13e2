"""Several runs in one command: every combination of swept values and seeds, each in a folder of its own.

    GRID/lr.own=0.0001_seed=0/     a training run (fsar/training/run_folder.py)
    GRID/lr.own=0.0001_seed=1/
    GRID/grid.csv                  a line per run: swept values, best validation
    GRID/grid.md                   a line per combination, seeds joined

The same command again skips finished runs and resumes a killed one.
"""

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from fsar.config import read_yaml
from fsar.files import write_text_atomic
from fsar.results.numbers import percent
from fsar.results.typeset import Table, render
from fsar.training.recipes import Recipe
from fsar.training.standing import STATE, read_header

_UNSAFE = str.maketrans({character: "-" for character in '/\\:*?"<>| '})


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    changes: tuple[str, ...]
    """`key=value` of each swept key."""
    seed: int | None
    """None keeps the seed of the recipe."""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        parts = [*self.changes, *([] if self.seed is None else [f"seed={self.seed}"])]
        return "_".join(parts).translate(_UNSAFE)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Changes and seed, as `load_recipe` takes them."""
        return (*self.changes, *([] if self.seed is None else [f"seed={self.seed}"]))


def cells(sweep: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """List the runs of a grid: the product of all swept values and seeds.

    Args:
        sweep: `key=value,value,...`; a comma inside brackets belongs to a value.
        seeds: of the runs; if there are none, the recipe's seed.

    Raises:
        ValueError: a key without values, a key or a value given twice, or the key `seed`.

    Example:
        >>> [cell.name for cell in cells(["lr.own=1e-3,1e-4", "shot=5"], [0, 1])]  # doctest: +NORMALIZE_WHITESPACE
        ['lr.own=1e-3_shot=5_seed=0', 'lr.own=1e-3_shot=5_seed=1',
         'lr.own=1e-4_shot=5_seed=0', 'lr.own=1e-4_shot=5_seed=1']
    """
    axes: dict[str, list[str]] = {}
    for text in sweep:
        key, equals, values = text.partition("=")
        found = _values(values)
        if not equals or not found or key in axes:
            raise ValueError(
                f"--sweep got {text!r}; expected KEY=VALUE,VALUE,... with each key once, as lr.own=1e-3,1e-4"
            )
        if key == "seed":
            raise ValueError("--sweep got the key seed; use --seed 0 1 2, so that the table joins the seeds")
        if len(set(found)) < len(found):
            raise ValueError(f"--sweep got {text!r}; expected each value once")
        axes[key] = found
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seed got {' '.join(map(str, seeds))}; expected each seed once")
    chosen_seeds: Sequence[int | None] = seeds or [None]
    chosen = [[f"{key}={value}" for value in values] for key, values in axes.items()]
    return [Cell(changes, seed) for changes in product(*chosen) for seed in chosen_seeds]


def run_grid(
    grid: Sequence[Cell], recipe_of: Callable[[Cell], Recipe], train: Callable[[Recipe, Path], None], folder: Path
) -> str:
    """Train every run that is not finished, and make a table of the best validations.

    Args:
        grid: from `cells`.
        recipe_of: makes the recipe of a run. All recipes are made first, so that no run begins beside a mistake.
        train: trains a recipe in a folder, or resumes the run there.
        folder: of the grid.

    Returns:
        The table, as Markdown. It is also written to `grid.md`, and its numbers to `grid.csv`.

    Raises:
        ValueError: two runs would share a folder, or a recipe does not fit.
    """
    names = [cell.name for cell in grid]
    if len(set(names)) < len(names):
        raise ValueError(
            f"two runs of this grid would be in one folder ({max(names, key=names.count)}); change a value"
        )
    recipes = [recipe_of(cell) for cell in grid]
    for cell, recipe in zip(grid, recipes, strict=True):
        train(recipe, folder / cell.name)
        write_text_atomic(folder / "grid.csv", _lines(grid, folder))
    text = render([_table(grid, folder)], "markdown")
    write_text_atomic(folder / "grid.md", text + "\n")
    return text


def runs_below(folder: Path) -> list[Path]:
    """List the runs of a grid, or the folder itself if it is a single run.

    Args:
        folder: a run, a checkpoint or a grid.
    """
    if not (folder / "grid.csv").is_file():
        return [folder]
    with (folder / "grid.csv").open(encoding="utf-8", newline="") as file:
        return [folder / row["run"] for row in csv.DictReader(file)]


def _values(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _best(folder: Path) -> Mapping[str, Any] | None:
    """Read the best validation of a run; None if the run has not begun, or has no validation yet."""
    if not (folder / STATE).is_file():
        return None
    best = read_header(folder / STATE)["best"]
    return best if best["accuracy"] >= 0 else None


def _lines(grid: Sequence[Cell], folder: Path) -> str:
    """Write a line per run that has begun."""
    keys = list(dict.fromkeys(change.partition("=")[0] for cell in grid for change in cell.changes))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *keys, "seed", "val_accuracy", "val_ci95", "episodes"])
    for cell in grid:
        if (folder / cell.name / STATE).is_file():
            best = _best(folder / cell.name) or {"accuracy": "", "ci95": "", "episodes": ""}
            values = [change.partition("=")[2] for change in cell.changes]
            seed = "" if cell.seed is None else cell.seed
            writer.writerow([cell.name, *values, seed, best["accuracy"], best["ci95"], best["episodes"]])
    return out.getvalue()


def _table(grid: Sequence[Cell], folder: Path) -> Table:
    """Make a row per combination: mean and standard deviation of the best validations over seeds."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in grid:
        groups.setdefault(cell.changes, []).append(cell)
    rows, means = [], []
    for changes, members in groups.items():
        found = [best for cell in members if (best := _best(folder / cell.name)) is not None]
        shares = [best["accuracy"] for best in found]
        mean = statistics.fmean(shares) if shares else None
        spread = percent(statistics.stdev(shares)) if len(shares) > 1 else ""
        means.append(mean)
        episodes = ", ".join(str(best["episodes"]) for best in found)
        rows.append(
            (", ".join(changes) or "recipe", "" if mean is None else percent(mean), spread, str(len(members)), episodes)
        )
    top = max((mean for mean in means if mean is not None), default=None)
    return Table(
        heading="best accuracy on the val classes, in %, mean over seeds; val selects, so test the run that you choose",
        columns=("run", "val", "sd", "seeds", "kept after episodes"),
        rows=tuple(rows),
        records=tuple(dict(zip(("run", "val", "sd", "seeds", "kept"), row, strict=True)) for row in rows),
        words=frozenset({"run"}),
        best=frozenset((i, 1) for i, mean in enumerate(means) if mean == top and top is not None and len(rows) > 1),
    )


def refuse_run_folder(folder: Path) -> None:
    """Refuse to put a grid into the folder of a single run.

    Raises:
        ValueError: the folder has a run's recipe.
    """
    file = folder / "recipe.yaml"
    if file.is_file():
        name = read_yaml(file.read_text(encoding="utf-8")).get("method", "a method")
        raise ValueError(f"{folder} holds a single run of {name}; choose another --out for several seeds or a sweep")
