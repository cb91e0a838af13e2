"""Describe the differences between a result of this project and a published number."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fsar.datasets.benchmarks import BENCHMARKS, benchmark
from fsar.papers import PAPERS, SOURCES, Cell, paper_backbone
from fsar.papers.measured import PUBLISHED_CORPUS, Measured, either_stands, of_result, published_keys
from fsar.papers.origins import origins
from fsar.papers.runs import Run
from fsar.results.result import Result

LISTS = {
    ("ssv2-full@otam-67k", "clip-mdmf"): "the train list here has 67,013 videos, as the list of CLIP-MDMF's code; its "
    "paper writes of 77,500",
    ("ssv2-full@otam-77k", "clip-mdmf"): "the train list here has 77,500 videos, as CLIP-MDMF's paper writes; the list "
    "of its code has 67,013",
    ("ssv2-full@otam-67k", "clip-spm"): "the train list here has 67,013 videos; CLIP-SPM's paper writes of 77,500, and "
    "the list of its code has as many",
    ("ssv2-full@otam-67k", "clip-mei"): "the train list here has 67,013 videos; the list of CLIP-MEI's code has 77,500",
    ("kinetics100@clip-fsar", ""): "57 of the 2,400 test videos are others than in most public codes",
    ("kinetics100@cmn", "clip-mdmf"): "the Kinetics lists of CLIP-MDMF's code have 61 test lines more than these",
}
"""Known differences between a version's lists and the lists of a method's published numbers ("": of all methods)."""
FEW = 0.05
"""Share of a list's videos that may be missing in the same test."""


@dataclass(frozen=True)
class Difference:
    """One difference between both sides."""

    words: str
    blocks: bool
    """Whether the difference of the two accuracies then has no meaning."""


class Pair(NamedTuple):
    """A result and a published cell, with their keys and the run that makes the cell."""

    result: Result
    here: Measured
    cell: Cell
    there: Measured
    run: Run

    @property
    def backbone_distance(self) -> int:
        """0 for the same backbone, 1 for other weights of the same architecture, 2 for other backbones."""
        kind = (self.cell.backbone, self.cell.pretraining.removesuffix("-21K"))
        if paper_backbone(self.here.backbone) != kind:
            return 2
        return int(self.here.backbone != self.there.backbone and "@" not in self.here.backbone)

    @property
    def proposed(self) -> bool:
        """Whether the cell is the method as its paper proposes it, even if its row has options."""
        cell, run = self.cell, self.run
        changed = run.readout or any(f"options.{key}" in run.changes for key in cell.options or {})
        return cell.is_default or not (changed or cell.training or cell.resplit)


def pair(result: Result, cell: Cell, here: Measured | None = None) -> Pair:
    """Put a result beside a published cell.

    Args:
        result: of this project.
        cell: an accuracy of a method of this project, or of one that may have made it (`Cell.also`).
        here: the key of the result, if known.

    Returns:
        Both with their keys, the published one in the variant of the result. If several runs may have made the cell,
        it is the run from which the fewest differences block.
    """
    here = here or of_result(result)
    keys = published_keys(cell, here.variant)
    pairs = [Pair(result, here, cell, there, run) for run, there in keys if run.method == result.method]
    return pairs[0] if len(pairs) == 1 else min(pairs, key=lambda pair: sum(d.blocks for d in differences(pair)))


def differences(pair: Pair) -> tuple[Difference, ...]:
    """Say how a result was made otherwise than a published number, the weightiest first.

    "here" is the result, "there" the published number, whether a paper, a page or public code stands behind it.
    """
    return (*_data(pair), *_model(pair), *_training(pair), *_test(pair), *_remarks(pair))


# ----------------------------------------------------------------------- the videos


def _data(pair: Pair) -> Iterator[Difference]:
    result, cell = pair.result, pair.cell
    if result.split != "test":
        yield Difference(f"measured on the {result.split} classes here, on the test classes there", True)
    if result.resplit is not None and cell.resplit:
        yield Difference("both split the classes at random, each in its own way", False)
    elif result.resplit is not None:
        yield Difference(f"the classes were split at random here (seed {result.resplit})", True)
    else:
        if cell.resplit:
            yield Difference("the published row split the classes at random", True)
        yield from _list(result)
    if result.seen_classes:
        yield Difference(f"trained on {len(result.seen_classes)} of the classes it is tested on", True)
    own = [cell.method] if origins()[cell.method].own(cell) else []
    for method in ("", *own):
        if words := LISTS.get((result.dataset, method)):
            yield Difference(words, False)


def _list(result: Result) -> Iterator[Difference]:
    """What of the benchmark's list was not used."""
    if result.dataset not in BENCHMARKS or result.split != "test":
        return
    known, classes = benchmark(result.dataset), result.confusion["classes"]
    of_split = known.classes[result.split]
    if set(classes) != set(of_split):
        yield Difference(f"{len(classes)} classes here, {len(of_split)} in the benchmark's test split", True)
    lacking = result.absent + result.copies + len(result.skipped)
    if result.absent:
        share = lacking / sum(known.videos[label] for label in of_split)
        yield Difference(f"{result.absent:,} videos of the list were not there", share > FEW)
    if result.copies:
        yield Difference(f"{result.copies:,} copies of videos in the same class were left out", False)
    if result.skipped:
        yield Difference(f"{len(result.skipped):,} videos could not be read and were left out", False)
    if not lacking and set(classes) == set(of_split) and result.dataset_fingerprint != known.hashes[result.split]:
        yield Difference("the videos are not those of the benchmark's list", True)


# ----------------------------------------------------------------------- the model


def _model(pair: Pair) -> Iterator[Difference]:
    result, here, there = pair.result, pair.here, pair.there
    yield from _backbone(pair)
    if here.text_alone != there.text_alone:
        ways = ("with the support videos", "by the class texts alone")
        yield Difference(f"read out {ways[here.text_alone]} here, {ways[there.text_alone]} there", True)
    changed, switched = _changed(pair)
    if changed:
        yield Difference(f"options of the method differ from those of the published row: {_listed(changed)}", True)
    yield from _variant(pair, switched)
    if here.corpus is not None and there.corpus is not None:
        yield Difference(f"sub-actions here: {here.corpus}; there: written by {PUBLISHED_CORPUS}", False)
    if result.options.get("half_tokens"):
        yield Difference("the frozen tokens were kept in half precision here", False)
    if result.precision != "float32":
        yield Difference(f"evaluated in {result.precision} here", False)
    if result.clip["frames"] != 8:
        yield Difference(f"{result.clip['frames']} frames per video here, 8 there", True)


def _backbone(pair: Pair) -> Iterator[Difference]:
    result, here, cell, there, _ = pair
    distance = pair.backbone_distance
    if distance == 2:
        yield Difference(
            f"backbone {result.backbone} here, {cell.backbone} pre-trained on {cell.pretraining} there", True
        )
    elif "@" in here.backbone:
        yield Difference(f"backbone {here.backbone}: its file is taken to hold the weights of {there.backbone}", False)
    elif distance == 1:
        yield Difference(f"weights {here.backbone} here, {there.backbone} in the public codes", True)
    elif (cell.backbone, cell.pretraining) == ("ViT-B/32", "ImageNet"):
        yield Difference(
            f"weights {here.backbone} here, which have seen ImageNet-21K; the paper does not say which", False
        )


def _variant(pair: Pair, switched: Mapping[str, tuple[Any, Any]]) -> Iterator[Difference]:
    """Say whose equations stand for the published number."""
    variant, title = pair.here.variant, _title(pair.cell.method)
    whose = {"paper": "the paper's equations", "official": "the public code, step by step"}
    if variant in whose:
        switches = f", but for {_listed(switched)}" if switched else ""
        yield Difference(
            f"variant here: {variant} ({whose[variant]}){switches}; either variant stands for a number of {title}",
            False,
        )


def _changed(pair: Pair) -> tuple[dict[str, tuple[Any, Any]], dict[str, tuple[Any, Any]]]:
    """Options that differ, (here, there): those that make another model, and those at which either value stands."""
    here, there = pair.here.options, pair.there.options
    differing = {
        key: (here[key], value)
        for key, value in there.items()
        if key in here and key in pair.result.options and here[key] != value
    }
    either = either_stands(pair.here.method)
    switched = {key: differing.pop(key) for key, (own, _) in list(differing.items()) if own in either.get(key, ())}
    return differing, switched


# ----------------------------------------------------------------------- the training


def _training(pair: Pair) -> Iterator[Difference]:
    result, here, there = pair.result, pair.here, pair.there
    if here.groups != there.groups:
        yield Difference(f"trained here: {group_words(here.groups)}; there: {group_words(there.groups)}", True)
    if result.training is None:
        return
    if result.training["dataset"] != result.dataset:
        yield Difference(
            f"trained on {result.training['dataset']} here, on the benchmark's own train classes there", True
        )
    if there.groups:
        yield from _trained_otherwise(pair)
        yield from _recipe(pair)


def _trained_otherwise(pair: Pair) -> Iterator[Difference]:
    """What was trained with another value than it was tested with."""
    result, here, cell, there, _ = pair
    if here.train_shot != there.train_shot and cell.shot != 0:
        yield Difference(
            f"for the {here.shot}-shot test trained on {here.train_shot}-shot episodes here, on "
            f"{there.train_shot}-shot ones by {_whose(cell)}",
            True,
        )
    if here.transductive and there.transductive and not here.trained_transductive:
        yield Difference(
            "trained with each query alone (inductive) and tested with queries that see each other here; there they "
            "do in both",
            True,
        )
    tested, _ = _changed(pair)
    both = (
        (key, here.trained_options[key], value)
        for key, value in there.trained_options.items()
        if key in here.trained_options and key in result.options
    )
    changed = {
        key: (own, value) for key, own, value in both if own != value and key not in tested and own != here.options[key]
    }
    if changed:
        yield Difference(f"options of the method in training differ: {_listed(changed)}", True)


def _recipe(pair: Pair) -> Iterator[Difference]:
    """How the training run differs from that of the paper's recipe."""
    result, usual = pair.result, pair.run.settings
    assert result.training is not None and usual is not None
    own = {**usual, **result.training["recipe"]}
    if own["episodes"] != usual["episodes"]:
        fewer = own["episodes"] < usual["episodes"]
        words = f"{own['episodes']:,} training episodes here, {usual['episodes']:,} by the recipe of the published row"
        yield Difference(words, fewer)
    changed = {key: (own[key], usual[key]) for key in _SETTINGS if own[key] != usual[key]}
    if changed:
        yield Difference(f"training settings differ from those of its recipe: {_listed(changed)}", False)
    if own["sampling"] == usual["sampling"] != result.clip["sampling"]:
        yield Difference(f"frames sampled by {result.clip['sampling']} here, {usual['sampling']} in the recipe", False)


_SETTINGS = (
    "way", "query", "episodes_per_step", "optimizer", "betas", "eps", "lr", "lr_factors", "weight_decay", "schedule",
    "crop", "flip", "jitter", "frames", "sampling", "from_bank", "precision", "freeze_batch_norm",
)  # fmt: skip
"""Keys of a recipe that make another training run of it; what selects the state and the episodes are told elsewhere."""


# ----------------------------------------------------------------------- the test


def _test(pair: Pair) -> Iterator[Difference]:
    result, here, cell, there, _ = pair
    if here.leaks and there.leaks:
        yield Difference("labels of the queries reach the scores on both sides: neither number is an accuracy", False)
    elif here.leaks:
        yield Difference(f"protocol here: {result.protocol}", True)
    elif there.leaks:
        yield Difference(
            f"the public code of {_title(cell.method)} lets the labels of the queries reach its scores, so its numbers "
            f"cannot be had without them (an audit repeats it: variant official-leaky)",
            True,
        )
    if here.transductive != there.transductive:
        ways = ("each query is named alone (inductive)", "the queries of an episode see each other (transductive)")
        yield Difference(f"{ways[here.transductive]} here; there {ways[there.transductive]}", True)
    if there.queries and result.query not in there.queries:
        several = " or ".join(map(str, there.queries))
        words = f"{_queries(result.query)} per class in testing here, {several} there"
        yield Difference(words, here.transductive or there.transductive)
    tasks = re.search(r"([\d,]+) (?:test )?(?:episodes|tasks)", cell.protocol)
    stated = tasks[1] if tasks else "a number not stated"
    if f"{result.episodes:,}" != stated:
        yield Difference(f"{result.episodes:,} test episodes here, {stated} there", False)
    yield from _selection(pair)


def _selection(pair: Pair) -> Iterator[Difference]:
    """Which state was kept here and behind the published number, unless it is the same."""
    result, cell, there = pair.result, pair.cell, pair.there
    if not there.groups:
        return
    origin = origins()[cell.method]
    if result.training is None:
        yield Difference(f"nothing was selected here; of {_title(cell.method)}: {origin.selection}", False)
        return
    on_test = result.protocol.startswith("paper")
    kept = "test" if on_test else "val" if result.training["recipe"].get("val_every", 1) else "last"
    if kept == origin.keeps:
        return
    equal = {"last": "val_every=0 is the equal here", "test": "protocol=paper is the equal here"}
    words = f"selection here: {result.selection}; of {_title(cell.method)}: {origin.selection}"
    if on_test and origin.keeps == "last":
        words += ", so ours is the more optimistic"
    yield Difference(f"{words} ({equal[origin.keeps]})" if origin.keeps in equal else words, False)


def _remarks(pair: Pair) -> Iterator[Difference]:
    cell, origin = pair.cell, origins()[pair.cell.method]
    if origin.own(cell):
        for words in origin.notes_on(cell):
            yield Difference(f"of {_title(cell.method)}: {words}", False)
    else:
        yield Difference(
            f"{SOURCES[cell.paper]} prints {_title(cell.method)} for comparison: copied, or run again", False
        )
    if cell.note:
        yield Difference(f"{cell.source} has a note: {cell.note}", False)


# ----------------------------------------------------------------------- words


_TITLES = {
    "zero-shot": "zero-shot CLIP", "protonet": "ProtoNet", "otam": "OTAM", "bi-mhm": "Bi-MHM", "trx": "TRX",
    "hyrsm": "HyRSM", "aim": "AIM", "clip-fsar": "CLIP-FSAR", "task-adapter": "Task-Adapter", **PAPERS,
}  # fmt: skip
"""Methods as their authors write them."""


def _title(method: str) -> str:
    return _TITLES.get(method, method)


def _whose(cell: Cell) -> str:
    return "the public code" if origins()[cell.method].code else "the packaged recipe"


def _queries(count: int) -> str:
    return "1 query" if count == 1 else f"{count} queries"


def group_words(groups: Sequence[str]) -> str:
    """Write trained groups of parameters in words.

    Example:
        >>> group_words(("own", "visual"))
        'what the method adds and the visual encoder'
    """
    named = {"own": "what the method adds", "visual": "the visual encoder", "text": "the text encoder"}
    return " and ".join(named[group] for group in groups) or "nothing"


def _listed(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key} {plain(here)} (there {plain(there)})" for key, (here, there) in changed.items())


def plain(value: Any) -> str:
    """Write a value as a recipe has it.

    Example:
        >>> plain(True), plain("tsn")
        ('true', 'tsn')
    """
    return value if isinstance(value, str) else json.dumps(value)
