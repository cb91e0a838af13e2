"""Recipes: everything a training run depends on, in one YAML file; one per (method, benchmark).

`load_recipe("ma-fsar/world")` reads the packaged `ma-fsar/world.yaml`, `load_recipe("mine.yaml")` a file of
one's own; `key=value` overrides follow. The paper's settings come first in every file; what the paper leaves
open is marked `ours`, with the reason.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from fsar.names import unknown
from fsar.video.reading import SAMPLINGS

HARDWARE: dict[str, dict[str, Any]] = {
    "1x8gb": {"devices": 1, "precision": "16-mixed", "checkpoint_activations": True},
    "1x24gb": {"devices": 1, "precision": "16-mixed"},
    "4x24gb": {"devices": 4, "precision": "16-mixed"},
}
"""Presets: none changes how many episodes make a step, so each gives the same run up to rounding."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run."""

    method: str
    """A name in `fsar methods`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the method."""
    backbone: str = "tiny"
    """See `fsar backbones`."""
    freeze_batch_norm: bool = True
    """Whether BatchNorm inside the backbone keeps its statistics; False takes those of an episode's support and of its
    queries in training, and lets the running ones move."""
    data: str | None = None
    """A folder of class folders, or `world`; with `benchmark` or `lists`, the folder that the videos lie in."""
    benchmark: str | None = None
    """A name in `fsar splits list`."""
    lists: tuple[str, ...] = ()
    """Split lists."""
    class_names: str | None = None
    """JSON names of the classes that lists give by number."""
    resplit: int | None = None
    """Seed by which all classes are dealt anew to splits of the same sizes; None keeps the published ones."""
    frames: int = 8
    """T, frames per video."""
    drop_short: bool = False
    """Leave out videos with fewer frames than are taken, as TRX's reader does; otherwise they repeat frames."""
    on_error: Literal["stop", "skip"] = "stop"
    """At a video that cannot be read: stop there, or read all of them before training and leave the broken ones out."""
    sampling: str = "tsn"
    """Which frames: in training one at random of every segment, else the centres."""

    way: int = 5
    shot: int = 1
    query: int = 1
    """Queries per class in training; validation uses one."""
    episodes: int = 10_000
    """Training episodes in all."""
    episodes_per_step: int = 16
    """Episodes whose gradients are averaged for one step, over all devices."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    """Of Adam and AdamW: how slowly the averages of the gradient and of its square move."""
    lr: dict[str, float] = field(default_factory=dict)
    """Learning rate of each group that trains: `own`, `visual`. A group that is not here is frozen."""
    weight_decay: float = 0.0
    """As an L2 term of the gradient (Adam, SGD), or decoupled (AdamW)."""
    decay_norms: bool = True
    """Whether weight decay also touches the parameters of normalisation layers."""
    schedule: Literal["constant", "multi-step", "cosine"] = "constant"
    milestones: tuple[float, ...] = (0.6, 0.8)
    """Of `multi-step`: shares of the run at which the rate falls."""
    factors: tuple[float, ...] = (0.1, 0.01)
    """Of `multi-step`: what the first rate is multiplied by after each milestone."""
    warmup: float = 0.0
    """Share of the run over which the rate rises linearly from `warmup_factor` of its value."""
    warmup_factor: float = 0.1
    clip_norm: float | None = None
    """Largest norm of the gradient."""

    crop: bool = True
    """A random crop in training, one per clip."""
    flip: bool = False
    """Mirror every second clip; wrong where class names tell left from right."""
    jitter: bool = False
    """Change colours, once per clip."""
    cached_frames: bool = False
    """Keep all frames of the training videos decoded on disk: faster, for small datasets."""
    from_bank: bool = False
    """Train on the evaluation encodings, each made once; only where nothing that encodes is trained."""

    protocol: Literal["clean", "paper"] = "clean"
    """What selects the state that is kept: the val classes, or as the field's public code does the test classes."""
    val_every: int = 1000
    """Episodes between validations; 0 keeps the last state instead of the best."""
    val_episodes: int = 1000
    val_way: int | None = None
    """Classes per validation episode; None is `way`."""
    val_shot: int | None = None
    """Shots in validation; None is `shot`."""
    patience: int | None = None
    """Stop after this many validations without a better one."""

    precision: Literal["32", "bf16", "16-mixed"] = "32"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    checkpoint_activations: bool = False
    """Compute activations again in the backward pass: less memory, more time, the same numbers."""
    compile: bool = False
    """Run through torch.compile."""
    workers: int | None = None
    """Decoding threads; None is one per core. Never changes a result."""
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("frames", "way", "shot", "query", "episodes", "episodes_per_step", "val_episodes", "devices", "nodes")
        for key in counts:
            if getattr(self, key) < 1:
                raise ValueError(f"recipe: {key} is {getattr(self, key)}; expected at least 1")
        for key in ("weight_decay", "val_every"):
            if getattr(self, key) < 0:
                raise ValueError(f"recipe: {key} is {getattr(self, key)}; expected 0 or more")
        if any(rate < 0 for rate in self.lr.values()):
            raise ValueError(f"recipe: lr is {self.lr}; expected rates of 0 or more")
        if self.sampling not in SAMPLINGS:
            raise ValueError(unknown(self.sampling, SAMPLINGS, "frame sampling"))
        for key in ("val_way", "val_shot", "patience", "clip_norm", "workers"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ValueError(f"recipe: {key} is {value}; expected more than 0, or nothing")
        if self.protocol == "paper" and not self.val_every:
            raise ValueError("recipe: protocol `paper` selects on the test classes, and val_every is 0, which selects "
                             "nothing; set val_every, or leave protocol out")  # fmt: skip
        if self.patience is not None and not self.val_every:
            raise ValueError("recipe: patience counts validations, and val_every is 0; set val_every, or drop patience")
        self._check_schedule()
        self._check_training()
        if self.episodes < self.episodes_per_step:
            raise ValueError(
                f"{self.episodes} episodes do not fill one step of {self.episodes_per_step}; give more, or lower "
                f"episodes_per_step"
            )
        if self.episodes_per_step % (self.devices * self.nodes):
            raise ValueError(
                f"{self.episodes_per_step} episodes per step do not divide over {self.devices * self.nodes} devices; "
                f"choose a divisor"
            )

    def _check_schedule(self) -> None:
        if not 0 <= self.warmup < 1 or not 0 < self.warmup_factor <= 1:
            raise ValueError(
                f"recipe: warmup is {self.warmup}, warmup_factor {self.warmup_factor}; expected a share of the run "
                f"below 1, and a factor in (0, 1]"
            )
        if sorted(self.milestones) != list(self.milestones) or any(not 0 < m < 1 for m in self.milestones):
            raise ValueError(f"recipe: milestones are {self.milestones}; expected rising shares of the run, in (0, 1)")
        if self.schedule == "multi-step" and len(self.factors) != len(self.milestones):
            raise ValueError(
                f"recipe: {len(self.milestones)} milestones and {len(self.factors)} factors; expected one factor for "
                f"each milestone"
            )

    def _check_training(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"recipe: betas are {self.betas}; expected two numbers in [0, 1)")
        if self.optimizer == "sgd" and self.betas != Recipe.betas:
            raise ValueError(f"recipe: betas are {self.betas}, and sgd has none; leave them out, or choose adam")
        if not self.freeze_batch_norm and "visual" not in self.lr:
            raise ValueError("recipe: freeze_batch_norm: false moves statistics of a frozen encoder; set lr.visual too")
        if not self.freeze_batch_norm and self.checkpoint_activations:
            raise ValueError("recipe: checkpoint_activations would move BatchNorm's statistics twice; leave it out, or "
                             "freeze_batch_norm: false")  # fmt: skip
        if self.from_bank and (self.flip or self.jitter or "visual" in self.lr or "text" in self.lr):
            raise ValueError("from_bank trains on encodings made once: leave out flip, jitter, lr.visual and lr.text")

    @property
    def clip(self) -> dict[str, Any]:
        """How clips are taken, as `FrameCache.of_clip` reads it."""
        return {"frames": self.frames, "sampling": self.sampling}

    @property
    def validation_way(self) -> int:
        """Classes per validation episode."""
        return self.val_way or self.way

    @property
    def validation_shot(self) -> int:
        """Labelled videos per class in validation."""
        return self.val_shot or self.shot

    @property
    def steps(self) -> int:
        """Optimiser steps of the run; episodes that fill no step are left out."""
        return self.episodes // self.episodes_per_step

    def rate(self, step: int) -> float:
        """Factor on the learning rates at a step."""
        done = step / self.steps
        factor = 1.0
        if done < self.warmup:
            factor = self.warmup_factor + (1 - self.warmup_factor) * done / self.warmup
        if self.schedule == "multi-step":
            factor *= (1.0, *self.factors)[sum(done >= milestone for milestone in self.milestones)]
        if self.schedule == "cosine":
            factor *= 0.5 * (1 + math.cos(math.pi * done))
        return factor

    def dump(self) -> str:
        """Write all settings as YAML that `load_recipe` reads."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return yaml.safe_dump(plain, sort_keys=False)


def parse_recipe(settings: Mapping[str, Any]) -> Recipe:
    """Check settings against the fields of `Recipe`.

    Raises:
        ValueError: an unknown key (names the nearest), or a value that does not fit.
    """
    defaults = {item.name: item.default for item in fields(Recipe)}
    for key, value in settings.items():
        if key not in defaults:
            raise ValueError(unknown(str(key), list(defaults), "recipe key"))
        if value is None and defaults[key] is not None:
            raise ValueError(f"recipe: {key} has no value; give one, or leave the key out")
    if settings.get("precision") == 32:  # what YAML reads an unquoted 32 as
        settings = {**settings, "precision": "32"}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe)
    try:
        checked = parser.parse_object(dict(settings)).as_dict()
    except ArgumentError as error:
        raise ValueError(f"recipe: {' '.join(str(error).split())}") from error
    return Recipe(**checked)


def load_recipe(name: str, overrides: Iterable[str] = (), hardware: str | None = None) -> Recipe:
    """Read a recipe by packaged name (`ma-fsar/world`) or path, then apply `key=value` overrides.

    Args:
        name: of a recipe; `recipes/ma-fsar/world.yaml` also finds the packaged one.
        overrides: `shot=5`, `lr.own=1e-4`, `options.alpha=0.25`; values are read as YAML.
        hardware: a name in `HARDWARE`, applied before the overrides.

    Raises:
        ValueError: no such recipe, preset or key, or a value that does not fit.
    """
    settings = _read(name)
    if hardware is not None:
        if hardware not in HARDWARE:
            raise ValueError(unknown(hardware, HARDWARE, "hardware preset"))
        settings |= HARDWARE[hardware]
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ValueError(f"cannot read {override!r}; expected key=value, as in shot=5 or lr.own=1e-4")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"cannot read the value in {override!r} as YAML; quote it, as in key='[1, 2]'") from error
        _set(settings, key.split("."), read)
    return parse_recipe(settings)


def recipe_names() -> list[str]:
    """List the packaged recipes, as `method/benchmark`."""
    folders = [entry for entry in _PACKAGED.iterdir() if entry.is_dir()]
    files = (file for folder in folders for file in folder.iterdir() if file.name.endswith(".yaml"))
    return sorted(f"{folder_of(file)}/{file.name.removesuffix('.yaml')}" for file in files)


_PACKAGED = resources.files("fsar.training") / "recipes"


def folder_of(file: Traversable) -> str:
    """Name of the folder that a packaged file lies in: the method's."""
    return Path(str(file)).parent.name


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    packaged = name.removeprefix("recipes/").removesuffix(".yaml")
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif packaged in recipe_names():
        text = (_PACKAGED / f"{packaged}.yaml").read_text(encoding="utf-8")
    else:
        near = difflib.get_close_matches(packaged, recipe_names(), 3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"no recipe {name!r}: neither a file nor a packaged one{hint} `fsar recipes` lists them")
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{name}: expected `key: value` lines, got {type(settings).__name__}")
    return {str(key): value for key, value in settings.items()}


def _set(settings: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        settings = settings.setdefault(key, {})
        if not isinstance(settings, dict):
            raise ValueError(f"cannot set {'.'.join(keys)}: {key} is no group of keys")
    settings[keys[-1]] = value
