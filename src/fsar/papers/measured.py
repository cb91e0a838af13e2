"""What an accuracy measured: the model, how it was trained, and how it was tested. Two accuracies with one key compare.

`of_run` builds the key of a published cell from the run that makes it, `of_result` that of a result of ours.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from fsar.methods import default_traits
from fsar.papers import Cell, load_papers
from fsar.papers.origins import origins
from fsar.papers.runs import TIMM_DEFAULTS, Run, config_of, leaks, other_runs_of, runs_of, traits_of
from fsar.results.result import Result

TOLD_ELSEWHERE = ("variant", "inductive", "frames", "sub_actions", "half_tokens", "keep_attention")
"""Options that are part of the key under another name, or change no more than rounding or what can be looked at."""
PUBLISHED_CORPUS = "GPT-4"
"""Who wrote the sub-actions behind the published numbers."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The key of an accuracy, except for the videos that it rests on."""

    method: str
    options: Mapping[str, Any]
    """All options in the test, as JSON holds them, without `TOLD_ELSEWHERE`."""
    trained_options: Mapping[str, Any]
    """The same in training."""
    variant: str | None
    """Whose equations: `paper`, `official`; None if the method has no variants."""
    groups: tuple[str, ...]
    """Trained groups of parameters, sorted; empty if nothing was trained."""
    backbone: str
    """With the name of its weights."""
    way: int
    shot: int
    train_shot: int | None
    """None if nothing was trained."""
    queries: tuple[int, ...]
    """Queries per class in the test; several if either may be meant, empty if nobody says."""
    text_alone: bool
    """Whether the logits are those of the class texts alone."""
    transductive: bool
    """Whether queries see each other in the test."""
    trained_transductive: bool
    """Whether queries see each other in training; of an untrained model as in the test."""
    corpus: str | None
    """Who wrote the sub-actions that are read; None if none are."""
    leaks: bool
    """Whether labels of queries reach the scores."""


def of_run(cell: Cell, run: Run, variant: str | None = None) -> Measured:
    """Build the key of a published cell.

    Args:
        cell: the cell.
        run: one of `runs_of(cell)` or `other_runs_of(cell)`.
        variant: whose equations are meant; either may stand for a published number. None is the run's own.

    Returns:
        The key.
    """
    if variant is not None and _has_variants(run.method):
        run = run.with_option("variant", variant)
    settings = run.settings
    tested, trained = run.tested_options, run.trained_options
    return Measured(
        method=run.method,
        options=_plain(run.method, tested),
        trained_options=_plain(run.method, trained),
        variant=getattr(config_of(run.method, tested), "variant", None),
        groups=() if settings is None else tuple(sorted(settings["lr"])),
        backbone=run.backbone,
        way=run.way,
        shot=run.shot,
        train_shot=None if settings is None else settings["shot"],
        queries=origins()[cell.method].queries if run.method == cell.method else (),
        text_alone=traits_of(run.method, tested).reads_text_alone,
        transductive=traits_of(run.method, tested).transductive,
        trained_transductive=traits_of(run.method, trained).transductive,
        corpus=PUBLISHED_CORPUS if _reads_corpus(config_of(run.method, tested)) else None,
        leaks=leaks(cell),
    )


@cache
def published_keys(cell: Cell, variant: str | None) -> tuple[tuple[Run, Measured], ...]:
    """Give the runs that may have made a cell, each with the key of the cell.

    Args:
        cell: an accuracy of a method of this project.
        variant: as for `of_run`.

    Returns:
        The run that makes it first. Of several whose mean it is, only the first: they differ in the split alone.
    """
    return tuple((run, of_run(cell, run, variant)) for run in (*runs_of(cell)[:1], *other_runs_of(cell)))


def of_result(result: Result) -> Measured:
    """Build the key of a result of ours, as far as its file tells.

    Args:
        result: of a method of this project.

    Returns:
        The key.

    Raises:
        ValueError: it holds a value of an option that this version does not have.
    """
    method, tested = result.method, result.options
    recipe = {} if result.training is None else result.training["recipe"]
    trained = _trained_options(result, recipe) if recipe else tested
    config = config_of(method, tested)
    return Measured(
        method=method,
        options=_plain(method, tested),
        trained_options=_plain(method, trained),
        variant=getattr(config, "variant", None),
        groups=() if result.training is None else tuple(sorted(result.training.get("groups") or recipe["lr"])),
        backbone=full_name(result.backbone),
        way=result.way,
        shot=result.shot,
        train_shot=recipe.get("shot"),
        queries=(result.query,),
        text_alone=traits_of(method, tested).reads_text_alone,
        transductive=result.transductive,
        trained_transductive=traits_of(method, trained).transductive if recipe else result.transductive,
        corpus=(tested.get("sub_actions") or "any packaged corpus") if _reads_corpus(config) else None,
        leaks=result.protocol.startswith("leaky"),
    )


def full_name(backbone: str) -> str:
    """Write a backbone with the weights that its name stands for.

    Example:
        >>> full_name("timm/resnet50")
        'timm/resnet50.a1_in1k'
    """
    return TIMM_DEFAULTS.get(backbone, backbone)


@cache
def either_stands(method: str) -> Mapping[str, tuple[Any, Any]]:
    """Find the options at which a paper and its public code differ, so that either value stands for the paper's number.

    Options that an ablation table changes are not among them: there the value is what the row is about.

    Args:
        method: a name in `fsar methods`.

    Returns:
        Option -> its values in the paper and in the code; empty if the method has no variants.

    Example:
        >>> either_stands("task-adapter-pp")["residual"]
        ('earlier', 'later')
    """
    if not _has_variants(method):
        return {}
    paper, code = (_plain(method, {"variant": variant}) for variant in ("paper", "official"))
    ablated = {key for cell in load_papers() if cell.method == method for key in cell.options or {}}
    return {key: (paper[key], code[key]) for key in paper if paper[key] != code[key] and key not in ablated}


def _has_variants(method: str) -> bool:
    return hasattr(config_of(method, {}), "variant")


def _trained_options(result: Result, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Options in training: those of the test, but for what may change afterwards, and what the recipe names.

    The result holds every option of the version that made it, the recipe only those that its author chose.
    """
    usual = asdict(config_of(result.method, {}))
    changeable = {key: usual[key] for key in default_traits(result.method).readouts if key in result.options}
    return {**result.options, **changeable, **recipe.get("options", {})}


def _plain(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options as JSON holds them; a read-out by the texts alone has one name, whatever option asks for it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config_of(method, options))))
    if "readout" in plain and traits_of(method, options).reads_text_alone:
        plain["readout"] = "text"
    return {key: value for key, value in plain.items() if key not in TOLD_ELSEWHERE}


def _reads_corpus(config: Any) -> bool:
    """Whether sub-actions are read: not by the label alone, and not if no text is."""
    if not hasattr(config, "sub_actions"):
        return False
    return config.text != "label" and "visual" not in (config.modality, config.readout)
