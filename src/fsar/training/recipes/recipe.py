"""What a training run depends on: `Recipe`, whose docstrings `fsar recipes --keys` shows."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import yaml

from fsar.config import Settings
from fsar.names import unknown
from fsar.video.sampling import SAMPLINGS

JITTER = (0.2, 0.2, 0.2, 0.05)
"""Default of `Recipe.jitter_strength`, and of `fsar.video.transforms.Augmentation`."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Settings of a training run.

    Raises:
        ValueError: values out of range, or that contradict each other.

    Example:
        >>> recipe = Recipe(method="trx", lr={"own": 1e-3}, episodes=1600, episodes_per_step=16)
        >>> recipe.steps
        100
        >>> Recipe(method="trx", way=0)
        Traceback (most recent call last):
        ValueError: recipe: way is 0; expected at least 1
    """

    method: str
    """Name of the method, see `fsar methods`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the method, see `fsar methods NAME`."""
    backbone: str = "tiny"
    """Name of the backbone, see `fsar backbones`."""
    freeze_batch_norm: bool = True
    """Whether BatchNorm inside the backbone uses and keeps its stored statistics. If false, it uses those of an
    episode's support, and of its queries, and updates the stored ones."""
    data: str | None = None
    """A folder with a folder of videos per class, or `world`. With `benchmark` or `lists`: the folder that the videos
    lie in."""
    features: str | None = None
    """A file of features made elsewhere (npz, safetensors, parquet), instead of videos; it decides `backbone`, `frames`
    and `from_bank`."""
    benchmark: str | None = None
    """Name of a benchmark with its version, see `fsar splits list`."""
    lists: tuple[str, ...] = ()
    """Files of split lists: train, val, test."""
    class_names: str | None = None
    """JSON file with the names of classes that the lists give by number."""
    resplit: int | None = None
    """Seed of a random split of all classes into train, val and test of the published sizes; null keeps the published
    split."""
    frames: int = 8
    """Frames per video, T."""
    drop_short: bool = False
    """Leave out videos that have fewer frames than are sampled, as TRX's reader does; otherwise frames repeat."""
    on_error: Literal["stop", "skip"] = "stop"
    """At a video that cannot be read: stop; or read all videos before training, and leave the broken ones out."""
    sampling: str = "tsn"
    """Which frames are sampled. `tsn` takes one from each of T equal segments: a random one in training, otherwise the
    middle one."""

    way: int = 5
    """Classes per training episode, N."""
    shot: int = 1
    """Labelled videos per class, K."""
    query: int = 1
    """Queries per class in training."""
    for_shot: dict[int, dict[str, Any]] = field(default_factory=dict)
    """How to train for a test with so many labelled videos per class, if it is not simply with as many: keys of a
    recipe by the number of shots. `fsar train --shot` and `fsar reproduce` apply it."""
    episodes: int = 10_000
    """Training episodes of the whole run."""
    episodes_per_step: int = 16
    """Episodes, over all devices, whose gradients are averaged for one step of the optimiser."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimiser; `sgd` has no momentum."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam and AdamW for the running means of the gradient and of its square."""
    eps: float = 1e-8
    """Of Adam and AdamW: what is added to the root of the mean square, by which the step is divided."""
    lr: dict[str, float] = field(default_factory=dict)
    """Learning rate of each group of parameters that trains: `own` (what the method adds), `visual` (the image
    encoder), `text` (the text encoder). A group without a rate is frozen."""
    lr_factors: dict[str, float] = field(default_factory=dict)
    """Factors on the rates of some parameters, by the beginnings of their names; if several fit a name, all count.
    TS-FSAR's code has `{frame_match: 0.5}`."""
    weight_decay: float = 0.0
    """Weight decay: an L2 term in the gradient (Adam, SGD), or decoupled (AdamW)."""
    decay_norms: bool = True
    """Whether weight decay also applies to the parameters of normalisation layers."""
    decay_spares: tuple[str, ...] | None = None
    """Spare parameters by their names alone: weight decay leaves out those whose name holds one of these words, and
    applies to all others. CLIP-FSAR's and HyRSM's codes have `[bn, norm]`. Null decides by the kind of the layer."""
    schedule: Literal["constant", "multi-step", "cosine"] = "constant"
    """How the learning rates change during the run."""
    milestones: tuple[float, ...] = (0.6, 0.8)
    """Of `multi-step`: when the rate changes, as shares of the run."""
    factors: tuple[float, ...] = (0.1, 0.01)
    """Of `multi-step`: the factor on the first rate after each milestone."""
    warmup: float = 0.0
    """Share of the run in which the rate rises linearly from `warmup_factor` times its value."""
    warmup_factor: float = 0.1
    """Factor on the learning rates at the first step, if there is a `warmup`."""
    clip_norm: float | None = None
    """Largest norm of the gradient; null does not clip."""

    crop: bool = True
    """Crop at random in training, once per clip."""
    flip: bool = False
    """Mirror a random half of the clips; wrong if class names tell left from right."""
    jitter: bool = False
    """Change colours at random, once per clip."""
    jitter_strength: tuple[float, float, float, float] = JITTER
    """Of `jitter`: the largest change of brightness, contrast and saturation, and of hue as a share of its circle."""
    gray: float = 0.0
    """Of `jitter`: share of the clips that lose their colours."""
    augment: Literal["all", "queries"] = "all"
    """Whose clips are mirrored and recoloured: those of all videos of an episode, or of the queries alone."""
    cached_frames: bool = False
    """Keep all decoded frames of the training videos on disk: faster, for small datasets."""
    from_bank: bool = False
    """Train on encodings of the evaluation frames, each made once; only if nothing that encodes trains."""

    protocol: Literal["clean", "paper"] = "clean"
    """Which classes select the state that is kept: `clean` the val classes; `paper` the test classes, as most public
    codes do. Those of TRX and Task-Adapter++ keep their last state: that is `val_every: 0`."""
    val_every: int = 1000
    """Training episodes between validations; 0 validates nothing and keeps the last state."""
    val_episodes: int = 1000
    """Episodes per validation."""
    val_way: int | None = None
    """Classes per validation episode; null takes `way`."""
    val_shot: int | None = None
    """Labelled videos per class in validation; null takes `shot`."""
    val_query: int = 1
    """Queries per class in validation. It matters most if queries see each other."""
    test_query: int = 1
    """Queries per class in the test of `fsar reproduce`."""
    patience: int | None = None
    """Stop after so many validations without a better one; null never stops early."""

    precision: Literal["32", "bf16", "16-mixed"] = "32"
    """Floating-point format: float32, or mixed with bfloat16 or float16."""
    accelerator: str = "auto"
    """`cpu`, `cuda`, or `auto`: a GPU if there is one."""
    devices: int = 1
    """Processes or GPUs on each machine."""
    nodes: int = 1
    """Machines."""
    checkpoint_activations: bool = False
    """Compute activations again in the backward pass: less memory, more time, the same numbers."""
    compile: bool = False
    """Compile the model with torch.compile."""
    workers: int | None = None
    """Decoding threads; null takes one per core. Never changes a result."""
    seed: int = 0
    """Seed of everything random: initial weights, episodes, frames, crops, templates, dropout."""

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
        """Factor on the learning rates at a step.

        Args:
            step: from 0.

        Returns:
            Product of the warm-up's factor and the schedule's.

        Example:
            >>> falling = Recipe(method="trx", episodes=100, episodes_per_step=1, schedule="multi-step", warmup=0.1)
            >>> [round(falling.rate(step), 3) for step in (0, 5, 10, 60, 80)]
            [0.1, 0.55, 1.0, 0.1, 0.01]
        """
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

    def check(self) -> None:
        """Refuse values out of range, and values that contradict each other.

        Raises:
            ValueError: names the key, what was expected, and the fix.
        """
        self._check_ranges()
        self._check_features()
        self._check_shots()
        self._check_validation()
        self._check_schedule()
        self._check_training()
        self._check_steps()

    def _check_ranges(self) -> None:
        for key in _AT_LEAST_ONE:
            if getattr(self, key) < 1:
                raise ValueError(f"recipe: {key} is {getattr(self, key)}; expected at least 1")
        for key in ("weight_decay", "val_every"):
            if getattr(self, key) < 0:
                raise ValueError(f"recipe: {key} is {getattr(self, key)}; expected 0 or more")
        for key in ("val_way", "val_shot", "patience", "clip_norm", "workers"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ValueError(f"recipe: {key} is {value}; expected more than 0, or nothing")
        if any(rate < 0 for rate in self.lr.values()):
            raise ValueError(f"recipe: lr is {self.lr}; expected rates of 0 or more")
        if any(factor <= 0 for factor in self.lr_factors.values()):
            raise ValueError(f"recipe: lr_factors are {self.lr_factors}; expected factors above 0")
        if self.sampling not in SAMPLINGS:
            raise ValueError(unknown(self.sampling, SAMPLINGS, "frame sampling"))

    def _check_features(self) -> None:
        """There is no encoder that could train, and there are no pixels or frames to choose."""
        if self.features is None:
            return
        videos = {key: getattr(self, key) for key in ("benchmark", "lists", "class_names", "drop_short")}
        pixels = {key: getattr(self, key) for key in ("flip", "jitter", "cached_frames")}
        towers = {f"lr.{group}": rate for group, rate in self.lr.items() if group != "own"}
        for key, value in (videos | pixels | towers).items():
            if value:
                raise ValueError(
                    f"recipe: {key} is {value}, but with features made elsewhere there are no videos and no encoder; "
                    f"leave it out, or begin from a recipe METHOD/features (`fsar recipes`)"
                )

    def _check_shots(self) -> None:
        known = {item.name for item in fields(self)} - {"for_shot"}
        for shot, changes in self.for_shot.items():
            if shot < 1:
                raise ValueError(f"recipe: for_shot has changes for {shot} shots; expected at least 1")
            for key in changes:
                if key not in known:
                    raise ValueError(f"recipe: for_shot, {shot}: {unknown(str(key), sorted(known), 'recipe key')}")

    def _check_validation(self) -> None:
        if self.protocol == "paper" and not self.val_every:
            raise ValueError(
                "recipe: protocol `paper` selects on the test classes, and val_every is 0, which selects nothing; set "
                "val_every, or leave protocol out"
            )
        if self.patience is not None and not self.val_every:
            raise ValueError("recipe: patience counts validations, and val_every is 0; set val_every, or drop patience")

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
        if self.eps <= 0:
            raise ValueError(f"recipe: eps is {self.eps:g}; expected a small number above 0, as 1e-8")
        if self.optimizer == "sgd" and self.eps != Recipe.eps:
            raise ValueError(f"recipe: eps is {self.eps:g}, and sgd has none; leave it out, or choose adam")
        if not self.freeze_batch_norm and "visual" not in self.lr:
            raise ValueError("recipe: freeze_batch_norm: false moves statistics of a frozen encoder; set lr.visual too")
        if self.from_bank and (self.flip or self.jitter or "visual" in self.lr or "text" in self.lr):
            raise ValueError("from_bank trains on encodings made once: leave out flip, jitter, lr.visual and lr.text")
        if self.decay_spares is not None and not self.decay_norms:
            raise ValueError("recipe: decay_spares decides by names alone, so decay_norms has no effect; leave one out")
        self._check_colours()

    def _check_colours(self) -> None:
        strong, hue = max(self.jitter_strength), self.jitter_strength[3]
        if min(*self.jitter_strength, self.gray) < 0 or strong > 1 or hue > 0.5 or self.gray > 1:
            raise ValueError(
                f"recipe: jitter_strength is {self.jitter_strength} and gray {self.gray}; expected shares in [0, 1], "
                f"and at most 0.5 for the hue"
            )
        if not self.jitter and (self.jitter_strength, self.gray) != (JITTER, 0.0):
            raise ValueError("recipe: jitter_strength and gray have no effect without jitter: true; add it")
        if self.augment == "queries" and not (self.flip or self.jitter):
            raise ValueError("recipe: augment: queries has no effect without flip or jitter; add one, or leave it out")

    def _check_steps(self) -> None:
        devices = self.devices * self.nodes
        if self.episodes < self.episodes_per_step:
            raise ValueError(
                f"{self.episodes} episodes do not fill one step of {self.episodes_per_step}; give more, or lower "
                f"episodes_per_step"
            )
        if self.episodes_per_step % devices:
            raise ValueError(
                f"{self.episodes_per_step} episodes per step do not divide over {devices} devices; choose a divisor"
            )


_AT_LEAST_ONE = (
    "frames",
    "way",
    "shot",
    "query",
    "val_query",
    "test_query",
    "episodes",
    "episodes_per_step",
    "val_episodes",
    "devices",
    "nodes",
)
