"""The run of this project that makes a published cell: a packaged recipe with changes, and the test.

A cell of a method that this project lacks has no run; `why_not` says so. `Run.commands` returns the commands.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any

from fsar.config import parse_settings, read_yaml
from fsar.methods import METHODS, Method, Traits, default_traits, effective_options, method_class
from fsar.papers import UNTRAINED, Cell
from fsar.papers.origins import origins
from fsar.training.recipes import load_recipe

BACKBONES = {
    ("ResNet-50", "CLIP"): "RN50/openai",
    ("ViT-B/32", "CLIP"): "ViT-B-32/openai",
    ("ViT-B/16", "CLIP"): "ViT-B-16/openai",
    ("ResNet-50", "ImageNet"): "timm/resnet50.tv_in1k",
    ("ViT-B/32", "ImageNet"): "timm/vit_base_patch32_224.augreg_in21k_ft_in1k",
    ("ViT-B/16", "ImageNet"): "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
}
"""Architecture and pre-training of a cell -> backbone of this project, with the weights of the public codes."""
TIMM_DEFAULTS = {
    "timm/resnet50": "timm/resnet50.a1_in1k",
    "timm/vit_base_patch32_224": "timm/vit_base_patch32_224.augreg_in21k_ft_in1k",
    "timm/vit_base_patch16_224": "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
}
"""The weights that timm loads for a name without weights."""
LISTS = {
    "hmdb51": "hmdb51@arn",
    "ucf101": "ucf101@arn",
    "kinetics100": "kinetics100@cmn",
    "ssv2-small": "ssv2-small@cmn",
    "ssv2-full": "ssv2-full@otam-67k",
}
"""Version of each benchmark's lists that most public codes use."""
LISTS_OF_ROWS = {
    ("clip-spm", None, "ssv2-full"): "ssv2-full@otam-77k",
    ("pages", "clip-mei", "ssv2-full"): "ssv2-full@otam-77k",
}
"""Paper, method (None: all its rows) and benchmark -> the version that its public code uses instead."""
LEAKY = "official-leaky"
"""Variant of each method that repeats a public code whose scores read labels of queries."""

_FOLDER = "RUN"
WHERE = {
    "mean accuracy of hmdb51, ucf101, kinetics100": "the mean of the three accuracies",
    "mean accuracy of ssv2-small, ssv2-full": "the mean of both accuracies",
    "tunable parameters, M": "`trained` in RUN/checkpoint/fsar.json (of one tower: the tensors of its blocks in "
    "RUN/checkpoint/model.safetensors)",
    "full parameters, M": "sum(p.numel() for p in fsar.load_pretrained('RUN').parameters()), in Python",
    "GPU memory, G": "the largest `memory_gb` in RUN/log.jsonl; one RTX 3090 in the paper",
    "training time of a task, s": "the mean of `seconds` in RUN/log.jsonl, divided by the episodes of a step; one RTX "
    "3090 in the paper",
    "training time of 10,000 tasks, h": "the sum of `seconds` in RUN/log.jsonl over 10,000 episodes",
    "accuracy of the class shearing sheep, %": "`per_class` in the result; the paper drew 10 of the test classes and "
    "does not say which, so its episodes cannot be repeated",
    "accuracy of the class Poking a stack of something so the stack collapses, %": "`per_class` in the result; the "
    "paper drew 10 of the test classes and does not say which, so its episodes cannot be repeated",
}
"""Where a run writes a quantity that is not an accuracy."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Training by a packaged recipe with changes, and the test; or only the test of an untrained method."""

    method: str
    recipe: str | None
    """Name of the packaged recipe; None if nothing is trained."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Changed keys of the recipe, like `lr` or `options.alpha`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of a method that is not trained."""
    readout: Mapping[str, Any] = field(default_factory=dict)
    """Options that are changed for the test."""
    backbone: str
    benchmark: str
    """Name with the version of its lists."""
    way: int
    shot: int
    """In the test."""
    query: int
    """Queries per class in the test."""

    @property
    def settings(self) -> dict[str, Any] | None:
        """All keys of the changed recipe; None if nothing is trained."""
        if self.recipe is None:
            return None
        settings = _settings(self.recipe)
        for key, value in self.changes.items():
            group, _, option = key.partition(".")
            settings[group] = {**settings[group], option: value} if option else value
        return settings

    @property
    def trained_options(self) -> Mapping[str, Any]:
        """Options in training; those of the test if nothing is trained."""
        settings = self.settings
        return self.options if settings is None else settings["options"]

    @property
    def tested_options(self) -> Mapping[str, Any]:
        """Options in the test."""
        return {**self.trained_options, **self.readout}

    def with_option(self, option: str, value: Any) -> "Run":
        """Change one option of the method, in training and test."""
        if self.recipe is None:
            return replace(self, options={**self.options, option: value})
        return replace(self, changes={**self.changes, f"options.{option}": value})

    def commands(self, data: str = "VIDEOS", folder: str = _FOLDER) -> tuple[str, ...]:
        """Write the commands that make the row, in their order.

        Args:
            data: folder with the benchmark's videos.
            folder: for the run.

        Returns:
            `fsar train` and `fsar evaluate`; only `fsar evaluate` if nothing is trained.
        """
        videos = ["--data", data, "--benchmark", self.benchmark]
        test = [*videos, "--shot", str(self.shot)]
        test += [] if self.way == 5 else ["--way", str(self.way)]
        test += [] if self.query == 1 else ["--query", str(self.query)]
        if self.recipe is None:
            method = [f"{self.method}{_spec(self.options)}", "--backbone", self.backbone]
            return (shlex.join(["fsar", "evaluate", "--method", *method, *test, "--out", folder]),)
        changes = dict(self.changes)
        train = ["fsar", "train", "--config", self.recipe, *videos, "--out", folder]
        for key in ("backbone", "resplit"):
            if key in changes:
                train += [f"--{key}", str(changes.pop(key))]
        if changes:
            train += ["--set", *(f"{key}={_yaml(value)}" for key, value in changes.items())]
        return shlex.join(train), shlex.join(["fsar", "evaluate", "--checkpoint", folder + _spec(self.readout), *test])


def runs_of(cell: Cell) -> tuple[Run, ...]:
    """Return the runs that make a cell.

    Returns:
        One run; several if the cell is the mean of their results; none if there is no such run (see `why_not`).

    Example:
        >>> from fsar.papers import load_papers
        >>> [cell] = [cell for cell in load_papers() if cell.id == "ma-fsar/table-13/1"]
        >>> [run] = runs_of(cell)
        >>> run.recipe, dict(run.changes)
        ('ma-fsar/kinetics100', {'options.alpha': 0.0})
    """
    if why_not(cell) is not None:
        return ()
    runs = (_run(cell, cell.method, cell.options or {}, family) for family in _families(cell))
    return tuple(dealt for run in runs for dealt in _dealt(run, cell.resplit))


def other_runs_of(cell: Cell) -> tuple[Run, ...]:
    """Return other runs that may have made a cell, if its paper leaves this open.

    Returns:
        The alternatives; usually none.
    """
    return tuple(
        _run(cell, other.get("method", cell.method), other["options"], family)
        for other in cell.also
        for family in _families(cell)
    )


def why_not(cell: Cell) -> str | None:
    """Say why no run of this project makes a cell; None if one does."""
    if cell.method not in METHODS:
        return f"{cell.method} is not a method of this project"
    return None


def leaks(cell: Cell) -> bool:
    """Tell whether labels of the queries reached the scores behind a cell."""
    if cell.leaks is not None:
        return cell.leaks
    return cell.method in origins() and origins()[cell.method].leaks


def config_of(method: str, options: Mapping[str, Any]) -> Any:
    """Build the options of a method; options that this version does not know are ignored.

    Args:
        method: a name in `fsar methods`.
        options: as YAML or JSON holds them.

    Returns:
        An instance of the method's `Config`, with the defaults of all other options.

    Raises:
        ValueError: a value that does not fit.

    Example:
        >>> config_of("otam", {"per": "prototype", "of_an_old_version": 1}).per
        'prototype'
    """
    cls: Any = method_class(method)
    return _config_of(method, cls, json.dumps(options, sort_keys=True))


@cache
def _config_of(method: str, of: type[Method], text: str) -> Any:
    """As `config_of`; the papers' tables ask for the same few thousands of times."""
    cls = of.Config
    names = {item.name for item in fields(cls)}
    known = {key: value for key, value in json.loads(text).items() if key in names}
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in known.items()})
    except ValueError:  # slow, so only if needed: restores words that YAML changed
        return parse_settings(cls, known, f"method {method}", f"option of {method}")


def traits_of(method: str, options: Mapping[str, Any]) -> Traits:
    """Return the traits of a method with these options."""
    cls: Any = method_class(method)
    return _traits_of(cls, config_of(method, options))


@cache
def _traits_of(of: type[Method], config: Any) -> Traits:
    return of.traits_of(config)


def _families(cell: Cell) -> tuple[str, ...]:
    """Return the benchmarks of a cell: its own, those of a mean, or the one that its method was developed on."""
    if cell.benchmark is not None:
        return (cell.benchmark,)
    _, of, named = (cell.quantity or "").partition("mean accuracy of ")
    return tuple(named.split(", ")) if of else ("ssv2-small",)


def _dealt(run: Run, seeds: tuple[int, ...]) -> Iterator[Run]:
    """Return the run, or one run for each random split of the classes."""
    if not seeds:
        yield run
    for seed in seeds:
        yield replace(run, changes={**run.changes, "resplit": seed})


def _run(cell: Cell, method: str, options: Mapping[str, Any], family: str) -> Run:
    at_benchmark = replace(cell, benchmark=family)
    setting = origins()[method].setting(at_benchmark)
    queries = origins()[method].queries
    shot = cell.shot or 1  # episodes need support videos, although a text read-out ignores them
    run = Run(
        method=method,
        recipe=None,
        backbone=_backbone(cell, method, family),
        way=cell.way or 5,
        shot=shot,
        benchmark=_list_of(cell, family),
        query=queries[0] if queries else 1,
    )
    recipe = (setting.recipe or f"{method}/{{benchmark}}").format(benchmark=family)
    trains = bool(default_traits(method).trains)
    if cell.training == UNTRAINED or not trains:
        usual = _settings(recipe)["options"] if trains else {}
        given = {**setting.options, **options}
        run = replace(run, options=effective_options(method, {**usual, **given}, keep=given))
    else:
        readouts = default_traits(method).readouts
        readout = {key: value for key, value in options.items() if key == "readout" and key in readouts}
        given = {key: value for key, value in options.items() if key not in readout}
        own = cell.training if isinstance(cell.training, Mapping) else {}
        wanted = {**_for_shot(recipe, shot), **setting.training, **own, "method": method, "backbone": run.backbone}
        if wanted["shot"] != shot:
            wanted["val_shot"] = shot
        if not any(word in run.backbone for word in _WITH_BATCH_NORM):
            wanted["freeze_batch_norm"] = True  # there is none to move
        wanted |= {f"options.{key}": value for key, value in {**setting.options, **given}.items()}
        run = _without_idle(replace(run, recipe=recipe, changes=_changes(recipe, wanted), readout=readout))
    together = {**run.tested_options, "inductive": False}
    if traits_of(method, together).transductive:
        run = run.with_option("inductive", False)  # published numbers let queries see each other if they can
    return run.with_option("variant", LEAKY) if leaks(cell) else run


def _list_of(cell: Cell, family: str) -> str:
    """Return the version of a benchmark's lists that a cell was made with."""
    of_paper = LISTS_OF_ROWS.get((cell.paper, None, family), LISTS[family])
    return LISTS_OF_ROWS.get((cell.paper, cell.method, family), of_paper)


_WITH_BATCH_NORM = ("RN50", "resnet")
"""One of these is in the name of every backbone of a cell that has BatchNorm."""


def _for_shot(recipe: str, shot: int) -> dict[str, Any]:
    """Keys of a packaged recipe as it trains for a test with so many shots."""
    return {"shot": shot, **_settings(recipe)["for_shot"].get(str(shot), {})}


def _without_idle(run: Run) -> Run:
    """Remove options of the recipe that have no effect in this row; the method would refuse them."""
    defaults = {item.name: item.default for item in fields(method_class(run.method).Config)}
    for option in config_of(run.method, run.trained_options).without_effect():
        if f"options.{option}" not in run.changes:
            run = run.with_option(option, defaults[option])
    return run


def _backbone(cell: Cell, method: str, family: str) -> str:
    """Return the backbone of a cell; if the cell does not state it, that of the recipe."""
    if cell.backbone == "not stated":
        return str(_settings(f"{method}/{family}")["backbone"])
    return BACKBONES[cell.backbone, cell.pretraining.removesuffix("-21K")]


def _changes(recipe: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what differs from the packaged recipe."""
    usual = _settings(recipe)
    flat = {**usual, **{f"options.{key}": value for key, value in usual["options"].items()}}
    return {key: value for key, value in wanted.items() if key not in flat or flat[key] != value}


@cache
def _packaged(name: str) -> str:
    return json.dumps(asdict(load_recipe(name)))


def _settings(name: str) -> dict[str, Any]:
    """Return a packaged recipe as JSON."""
    settings: dict[str, Any] = json.loads(_packaged(name))
    return settings


def _spec(options: Mapping[str, Any]) -> str:
    """Write options after a method or checkpoint for the command line."""
    return ":" + ",".join(f"{key}={_yaml(value)}" for key, value in options.items()) if options else ""


def _yaml(value: Any) -> str:
    """Write a value for the command line, without quotes if possible."""
    bare = isinstance(value, str) and read_yaml(value) == value and not set(value) & set(",:=")
    return value if bare else json.dumps(value)
