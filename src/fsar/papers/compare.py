"""A result of ours beside what the papers print for it, and in words what keeps the two from being one experiment."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from fsar.config import parse_settings
from fsar.datasets.benchmarks import BENCHMARKS, benchmark
from fsar.methods import METHODS, method_class
from fsar.papers import FAMILIES, PAPERS, Cell, paper_backbone, published
from fsar.results.result import Result
from fsar.training.recipes import Recipe, load_recipe, recipe_names

SELECTION = {
    "clip-fsar": "its public code keeps the best of its evaluations on the test classes",
    "hyrsm": "its public code keeps the best of its evaluations on the test classes",
    "task-adapter": "the public code of Task-Adapter++ selects on the test classes",
    "task-adapter-pp": "its public code selects on the test classes",
    "clip-spm": "its public code selects on the test classes",
    "clip-mdmf": "its public code has no validation, and evaluates its states on the test classes",
    "trx": "its public code keeps the last state",
    "ma-fsar": "it has no public code and does not say by which classes its state was selected",
}
"""How the published numbers came to their state, as far as is known; of the others it is not."""
TRANSDUCTIVE = ("task-adapter", "task-adapter-pp", "clip-spm")
"""Methods whose published numbers let the queries of an episode see each other."""
LISTS = {
    ("ssv2-full@otam-67k", "ma-fsar"): "the train list here has 67,013 videos, the paper writes of 77,500",
    ("ssv2-full@otam-67k", "task-adapter-pp"): "the train list here has 67,013 videos, the field writes of 77,500",
    ("ssv2-full@otam-67k", "clip-spm"): "the train list here has 67,013 videos, that of CLIP-SPM's code 77,500",
    ("ssv2-full@otam-77k", "clip-mdmf"): "the train list here has 77,500 videos, that of CLIP-MDMF's code 67,013",
    (
        "kinetics100@clip-fsar",
        "",
    ): "57 of the 2,400 test videos are others than in most public codes",
    ("kinetics100@cmn", "clip-mdmf"): "the Kinetics lists of CLIP-MDMF's code have 61 test lines more than these",
}
"""What is known of a benchmark's version against the lists behind a paper ("": any paper)."""

FEW = 0.05
"""Share of a list's videos that may lack without making another test of it."""
RANDOM_SPLIT = "random split"
"""How the rows of MA-FSAR's Table 14 begin."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides."""

    words: str
    blocks: bool
    """Whether it makes the difference of the two accuracies meaningless."""


@dataclass(frozen=True)
class Printed:
    """One published value, wherever it is printed."""

    accuracy: float
    """In percent."""
    backbone: str
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]

    @property
    def comparable(self) -> bool:
        """Whether ours may be subtracted from it, or it from ours."""
        return not any(difference.blocks for difference in self.differences)


def family_of(dataset: str) -> str | None:
    """Benchmark of the papers that a dataset is a version of; None for the world and folders of one's own."""
    family, at, _ = dataset.partition("@")
    return family if at and family in FAMILIES else None


def beside(results: Sequence[Result]) -> list[Printed]:
    """What the papers print for the setting of these results, which differ in nothing but their seeds.

    The same backbone's values where there are any, else those of all backbones; the variant of the method that was
    run where a paper has it, else the method as proposed. A value that several tables print is one entry.
    """
    groups: dict[tuple[float, str], list[Cell]] = {}
    for cell in _cells(results[0]):
        assert cell.accuracy is not None
        groups.setdefault((cell.accuracy, f"{cell.backbone} ({cell.pretraining})"), []).append(cell)
    found = []
    for (accuracy, backbone), cells in groups.items():
        each = (difference for cell in cells for result in results for difference in differences(result, cell))
        found.append(Printed(accuracy, backbone, tuple(cells), tuple(dict.fromkeys(each))))
    return found


def _cells(result: Result) -> list[Cell]:
    family = family_of(result.dataset)
    if family is None:
        return []
    shot = 0 if _reads_text_alone(result) else result.shot
    every = published(result.method, family, result.way, shot)
    if result.resplit is not None:
        every = tuple(cell for cell in every if (cell.variant or "").startswith(RANDOM_SPLIT)) or every
    own = paper_backbone(result.backbone)
    same = [cell for cell in every if own is not None and own == _backbone(cell)] or every
    fitting = [cell for cell in same if cell.options is not None and not _changed(result, cell)]
    usual = [cell for cell in same if cell.is_default and not _changed(result, cell)]
    exact = [cell for cell in same if cell in usual or (cell in fitting and not usual)]
    return exact or [cell for cell in same if cell.is_default] or list(same)


def _reads_text_alone(result: Result) -> bool:
    return result.method == "zero-shot" or result.options.get("readout") == "text"


def _backbone(cell: Cell) -> tuple[str, str]:
    return cell.backbone, cell.pretraining.removesuffix("-21K")


# ----------------------------------------------------------------------- what differs


def differences(result: Result, cell: Cell) -> Iterator[Difference]:
    """Say in words how a result was come by otherwise than a published number, the weightiest first."""
    yield from _data(result, cell)
    yield from _model(result, cell)
    yield from _training(result, cell)
    yield from _protocol(result, cell)


def _data(result: Result, cell: Cell) -> Iterator[Difference]:
    if result.split != "test":
        yield Difference(f"measured on the {result.split} classes here, on the test classes in the paper", True)
    redrawn = (cell.variant or "").startswith(RANDOM_SPLIT)
    if result.resplit is not None and redrawn:
        yield Difference("both split the classes at random, each in its own way", False)
    elif result.resplit is not None:
        yield Difference(f"the classes were split at random here (seed {result.resplit})", True)
    else:
        yield from _list(result)
    if result.seen_classes:
        yield Difference(f"trained on {len(result.seen_classes)} of the classes it is tested on", True)
    for paper in ("", cell.paper):
        if words := LISTS.get((result.dataset, paper)):
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


def _model(result: Result, cell: Cell) -> Iterator[Difference]:
    if paper_backbone(result.backbone) != _backbone(cell):
        yield Difference(
            f"backbone {result.backbone} here, {cell.backbone} pre-trained on {cell.pretraining} in the paper", True
        )
    if changed := _changed(result, cell):
        yield Difference(f"options of the method differ from those of the published row: {_listed(changed)}", True)
    if cell.options is None and cell.variant and not cell.variant.startswith(RANDOM_SPLIT):
        yield Difference(f"the published row is {cell.variant!r}, for which there is no option here", True)
    if result.clip["frames"] != 8:
        yield Difference(f"{result.clip['frames']} frames per video here, 8 in the paper", True)


def _training(result: Result, cell: Cell) -> Iterator[Difference]:
    if result.training is None:
        if result.method != "zero-shot":
            yield Difference("nothing was trained here, the published model was", True)
        return
    if result.training["dataset"] != result.dataset:
        yield Difference(
            f"trained on {result.training['dataset']} here, on the benchmark's own train classes in the paper", True
        )
    usual = _recipe(result.method, family_of(result.dataset))
    if usual is None:
        yield Difference(
            "trained by a recipe of one's own: the paper's settings for this benchmark are not known", False
        )
        return
    own = {**usual, **result.training["recipe"]}
    if own["episodes"] != usual["episodes"]:
        fewer = own["episodes"] < usual["episodes"]
        yield Difference(
            f"{own['episodes']:,} training episodes here, {usual['episodes']:,} by the paper's settings", fewer
        )
    if result.method != "clip-fsar" and own["shot"] != result.shot and not _reads_text_alone(result):
        yield Difference(f"trained on {own['shot']}-shot episodes and tested on {result.shot}-shot ones", False)
    changed = {key: (own[key], usual[key]) for key in _SETTINGS if own[key] != usual[key]}
    if changed:
        yield Difference(f"training settings differ from those of the paper's recipe: {_listed(changed)}", False)
    if own["sampling"] == usual["sampling"] != result.clip["sampling"]:
        yield Difference(f"frames sampled by {result.clip['sampling']} here, {usual['sampling']} in the recipe", False)


def _protocol(result: Result, cell: Cell) -> Iterator[Difference]:
    transductive = cell.method in TRANSDUCTIVE
    if result.protocol != "clean":
        yield Difference(f"protocol here: {result.protocol}", result.protocol.startswith("leaky"))
    if result.transductive != transductive:
        ways = ("each query is named alone (inductive)", "the queries of an episode see each other (transductive)")
        yield Difference(f"{ways[result.transductive]} here; in the paper {ways[transductive]}", True)
    if cell.method == "task-adapter-pp" and result.options.get("variant") != "official-leaky":
        yield Difference(
            "the public code of Task-Adapter++ lets the labels of the queries into its score by stages, so that its "
            "numbers cannot be had without them",
            True,
        )
    queries = 4 if "4 queries per class" in cell.protocol else 1
    if result.query != queries:
        words = f"{_queries(result.query)} per class in testing here, {queries} in the paper"
        yield Difference(words, result.transductive or transductive)
    if (tasks := re.search(r"mean of ([\d,]+)", cell.protocol)) and f"{result.episodes:,}" != tasks[1]:
        yield Difference(f"{result.episodes:,} test episodes here, {tasks[1]} in the paper", False)
    if cell.method != "zero-shot":
        known = SELECTION.get(cell.method, "how the state behind the published number was selected is not known")
        chosen = "nothing was selected here" if result.training is None else f"selection here: {result.selection}"
        yield Difference(f"{chosen}; of {_title(cell.method)}, {known}", False)
    if cell.paper not in _own_papers(cell.method):
        yield Difference(
            f"{PAPERS[cell.paper]} prints {_title(cell.method)} for comparison: taken over, or run anew", False
        )
    if cell.note:
        yield Difference(f"{cell.source} has a note: {cell.note}", False)


def _own_papers(method: str) -> tuple[str, ...]:
    return ("task-adapter-pp",) if method == "task-adapter" else (method,)


def _title(method: str) -> str:
    return PAPERS.get(method, method)


def _queries(count: int) -> str:
    return "1 query" if count == 1 else f"{count} queries"


_SETTINGS = (
    "way", "query", "episodes_per_step", "optimizer", "betas", "lr", "weight_decay", "schedule", "crop", "flip",
    "jitter", "frames", "sampling", "val_every", "from_bank", "precision", "freeze_batch_norm",
)  # fmt: skip
"""Keys of a recipe that make another training run of it; episodes and shot are told on their own."""


@cache
def _recipe(method: str, family: str | None) -> Mapping[str, Any] | None:
    """The packaged recipe, as JSON keeps one."""
    name = f"{method}/{family}"
    if name not in recipe_names():
        return None
    recipe: Recipe = load_recipe(name)
    plain: Mapping[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def _changed(result: Result, cell: Cell) -> dict[str, tuple[Any, Any]]:
    """Options of the method that a result has otherwise than a cell: (here, there).

    `inductive` is no option of the paper's, and is told as the protocol it is.
    """
    if cell.method not in METHODS:
        return {}
    recipe = _recipe(cell.method, cell.benchmark)
    chosen = {**(recipe["options"] if recipe else {}), **_OF_BACKBONE.get((cell.method, cell.backbone), {})}
    there = json.loads(_all_options(cell.method, json.dumps({**chosen, **(cell.options or {})})))
    here = json.loads(json.dumps(result.options))
    return {
        key: (here[key], value)
        for key, value in there.items()
        if key in here and key not in _TOLD_ELSEWHERE and here[key] != value
    }


@cache
def _all_options(method: str, chosen: str) -> str:
    """Options as YAML has them, with the defaults of all others; both as JSON."""
    config = parse_settings(method_class(method).Config, json.loads(chosen), method, f"option of {method}")
    return json.dumps(asdict(config))


_OF_BACKBONE = {("ma-fsar", "ResNet-50"): {"fgma": False}}
_TOLD_ELSEWHERE = ("inductive", "frames", "keep_attention")


def _listed(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key} {_plain(here)} (there {_plain(there)})" for key, (here, there) in changed.items())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
