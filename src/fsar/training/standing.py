"""Progress of a training run, from the files in its folder."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fsar.config import read_yaml
from fsar.training.recipes import Recipe, parse_recipe

RECIPE, STATE, CHECKPOINT = "recipe.yaml", "state.safetensors", "checkpoint"
STATE_HEADER = "fsar.state"
"""Key of the header in a state file's metadata."""


@dataclass
class Standing:
    """Progress of a run."""

    step: int = 0
    """Steps taken."""
    best: dict[str, Any] = field(default_factory=lambda: {"accuracy": -1.0, "ci95": 0.0, "episodes": 0})
    """The best validation, with the number of training episodes before it."""
    since_best: int = 0
    """Number of validations after the best one."""

    def add_validation(self, accuracy: float, ci95: float, episodes: int) -> bool:
        """Record a validation.

        Args:
            accuracy: on the val classes, in [0, 1].
            ci95: half its interval.
            episodes: number of training episodes so far.

        Returns:
            Whether it is the best so far.
        """
        better = accuracy > self.best["accuracy"]
        self.since_best = 0 if better else self.since_best + 1
        if better:
            self.best = {"accuracy": accuracy, "ci95": ci95, "episodes": episodes}
        return better

    def stopped_early(self, recipe: Recipe) -> bool:
        """Whether `patience` has ended the run."""
        return recipe.patience is not None and self.since_best >= recipe.patience

    def finished(self, recipe: Recipe) -> bool:
        """Whether nothing is left to train."""
        return self.step >= recipe.steps or self.stopped_early(recipe)


def read_recipe(folder: Path) -> Recipe | None:
    """Read the recipe of the run in a folder; None if there is no run.

    Raises:
        ValueError: the file is not a recipe.
    """
    file = folder / RECIPE
    if not file.is_file():
        return None
    try:
        settings = dict(read_yaml(file.read_text(encoding="utf-8")))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: not a recipe that fsar wrote ({' '.join(str(error).split())})") from error
    return parse_recipe(settings)  # older versions wrote fewer keys


def read_header(file: Path) -> dict[str, Any]:
    """Read the header of a state file.

    Raises:
        ValueError: the file is damaged.
    """
    return _read(file, tensors=False)[0]


def read_state(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read header and tensors of a state file.

    Raises:
        ValueError: the file is damaged.
    """
    return _read(file, tensors=True)


def unfinished_at(folder: Path) -> int | None:
    """Return the number of training episodes of an unfinished run.

    Args:
        folder: of the run.

    Returns:
        None if the run is finished, or if its recipe or state cannot be read.
    """
    try:
        recipe, header = read_recipe(folder), read_header(folder / STATE)
    except (OSError, ValueError):
        return None
    if recipe is None:
        return None
    standing = Standing(header["step"], header["best"], header["since_best"])
    return None if standing.finished(recipe) else standing.step * recipe.episodes_per_step


def _read(file: Path, tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(file, "pt") as state:
            header = json.loads(state.metadata()[STATE_HEADER])
            keys = state.keys() if tensors else ()
            return header, {key: state.get_tensor(key) for key in keys}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: damaged ({error}); delete it to begin the run again") from error
