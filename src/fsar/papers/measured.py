"""What an accuracy measured: model, training and test, as a key. Accuracies with equal keys are comparable.

`of_run` builds the key of a published cell from the run that makes it; `of_result` builds the key of a result.
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
"""Options that are in the key under another name, or that change only rounding or additional outputs."""
PUBLISHED_CORPUS = "GPT-4"
"""The author of the sub-actions of the published numbers."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The key of an accuracy, without its videos."""

    method: str
    options: Mapping[str, Any]
    """All options in the test, as JSON, without `TOLD_ELSEWHERE`."""
    trained_options: Mapping[str, Any]
    """All options in training, likewise."""
    variant: str | None
    """The variant: `paper` or `official`; None if the method has no variants."""
    groups: tuple[str, ...]
    """Trained groups of parameters, sorted; empty if nothing was trained."""
    backbone: str
    """With the name of its weights."""
    way: int
    shot: int
    train_shot: int | None
    """None if nothing was trained."""
    queries: tuple[int, ...]
    """Queries per class in the test; several if the paper is ambiguous, empty if it does not say."""
    text_alone: bool
    """Whether the logits depend only on the class texts."""
    transductive: bool
    """Whether queries see each other in the test."""
    trained_transductive: bool
    """Whether queries see each other in training; for an untrained model, as in the test."""
    corpus: str | None
    """The author of the sub-actions; None if none are read."""
    leaks: bool
    """Whether labels of queries reach the scores."""


def of_run(cell: Cell, run: Run, variant: str | None = None) -> Measured:
    """Build the key of a published cell.

    Args:
        cell: the cell.
        run: one of `runs_of(cell)` or `other_runs_of(cell)`.
        variant: `paper` or `official`; either may have made a published number. None is the variant of the run.

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
    """Return the runs that may have made a cell, each with the key of the cell.

    Args:
        cell: an accuracy of a method of this project.
        variant: as for `of_run`.

    Returns:
        The runs, the most likely one first. If the cell is a mean over runs, only the first of these: they differ
        only in the split.
    """
    return tuple((run, of_run(cell, run, variant)) for run in (*runs_of(cell)[:1], *other_runs_of(cell)))


def of_result(result: Result) -> Measured:
    """Build the key of a result, from its file.

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
    """Return the full name of a backbone, with its weights.

    Example:
        >>> full_name("timm/resnet50")
        'timm/resnet50.a1_in1k'
    """
    return TIMM_DEFAULTS.get(backbone, backbone)


@cache
def either_stands(method: str) -> Mapping[str, tuple[Any, Any]]:
    """Find the options in which a paper and its public code differ: either value may have made a published number.

    Options that an ablation table changes are left out, because the row states their values.

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
    """Return the options in training: those of the test, but options that may change afterwards come from the recipe.

    A result has all options; a recipe has only the options that its author chose.
    """
    usual = asdict(config_of(result.method, {}))
    changeable = {key: usual[key] for key in default_traits(result.method).readouts if key in result.options}
    return {**result.options, **changeable, **recipe.get("options", {})}


def _plain(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options as JSON; a read-out by the texts gets one name, whichever option chose it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config_of(method, options))))
    if "readout" in plain and traits_of(method, options).reads_text_alone:
        plain["readout"] = "text"
    return {key: value for key, value in plain.items() if key not in TOLD_ELSEWHERE}


def _reads_corpus(config: Any) -> bool:
    """Whether the method reads sub-actions, and not only labels or no text."""
    if not hasattr(config, "sub_actions"):
        return False
    return config.text != "label" and "visual" not in (config.modality, config.readout)
