"""From a dataset's folder to the row of a table: check, prepare, train on train, select on val, test, report.

    RUN/check.json                        which videos of the list are there, and whether they can be read
    RUN/1-shot_seed-0/                    a training run (fsar/training/loop.py); none if nothing trains
    RUN/1-shot_seed-0/results/*.json      its results on the test classes (fsar/results/result.py)
    RUN/report.html                       all of it beside the papers' numbers

K-shot results are those of K-shot training, as in the papers; a recipe changed by `shot=1` trains by one shot for all.
Every part that is done is passed over when the same command runs again.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fsar.backbones import load_backbone
from fsar.bank.fill import fill_bank
from fsar.datasets import VideoDataset, drop_copies
from fsar.datasets.benchmarks import benchmark, load_benchmark
from fsar.datasets.check import broken_videos, check_benchmark, short_videos
from fsar.datasets.prepare import prepare
from fsar.devices import to_device
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.loop import evaluate
from fsar.methods import Method, build_method, default_traits
from fsar.report import write_report
from fsar.results.identity import save_result
from fsar.results.result import Result, load_results, results_folder
from fsar.training.checkpoint import load_pretrained
from fsar.training.loop import train
from fsar.training.recipes import Recipe, load_recipe, recipe_names
from fsar.video.frame_cache import FrameCache


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to reproduce."""

    method: str
    benchmark: str
    """With its version, as `ssv2-small@cmn`."""
    root: Path
    """Folder that the dataset's videos lie below."""
    folder: Path
    """Where everything goes."""
    shots: tuple[int, ...] = (1, 5)
    seeds: tuple[int, ...] = (0,)
    """Of the trainings; the test episodes are those of seed 0 for all."""
    way: int = 5
    query: int = 1
    """Queries per class in the test."""
    episodes: int = 10_000
    """Test episodes."""
    backbone: str | None = None
    """Instead of the recipe's; of a method that trains nothing, `tiny` if not given."""
    changes: tuple[str, ...] = ()
    """`key=value` overrides of the recipe."""
    hardware: str | None = None
    """A preset of `fsar.training.recipes.HARDWARE`."""
    prepared: Path | None = None
    """Where to write small copies of the videos, to go on with; None goes on with the videos as they are."""
    skip_missing: bool = False
    """Go on without videos that are not there or cannot be read; every result says how many."""

    def __post_init__(self) -> None:
        for name in ("shots", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"a reproduction needs at least one of {name}; got none")


def reproduce(plan: Plan, progress: bool = True) -> list[Result]:
    """Go the whole way; returns the results, which also lie in `plan.folder`.

    Raises:
        ValueError: no such method, benchmark or recipe, videos that are missing or broken (unless `skip_missing`), or
            a folder that holds another run.
    """
    recipes = {(shot, seed): recipe for shot, seed, recipe in _recipes(plan)}  # before any work
    dataset, broken = _dataset(plan, progress)
    readable = dataset.without(broken)
    for (shot, _), recipe in recipes.items():
        _require_episodes(plan, recipe, readable, shot)
    results = []
    for (shot, seed), recipe in recipes.items():
        run = plan.folder / f"{shot}-shot_seed-{seed}"
        if recipe is not None:
            train(recipe, readable, run, progress)
        results += _test(plan, recipe, dataset, broken, run, shot, progress)
    write_report([plan.folder], plan.folder / "report.html")
    return results


def _recipes(plan: Plan) -> Iterator[tuple[int, int, Recipe | None]]:
    """Each training's shot, seed and recipe; None, once per shot, for a method that trains nothing."""
    family = benchmark(plan.benchmark).family
    if not _trains(plan):
        if plan.changes or plan.hardware:
            raise ValueError(f"{plan.method} trains nothing and has no recipe; leave --set and --hardware out")
        yield from ((shot, 0, None) for shot in plan.shots)
        return
    name = f"{plan.method}/{family}"
    if name not in recipe_names():
        raise ValueError(f"there is no recipe {name}; see `fsar recipes`")
    fixed = any(change.startswith("shot=") for change in plan.changes)
    for shot in plan.shots:
        by_shot = f"val_shot={shot}" if fixed else f"shot={shot}"
        for seed in plan.seeds:
            own = [f"benchmark={benchmark(plan.benchmark).name}", f"seed={seed}"]
            own.append(f"data={json.dumps(str(plan.prepared or plan.root))}")
            own += [] if plan.backbone is None else [f"backbone={plan.backbone}"]
            yield shot, seed, load_recipe(name, (by_shot, *plan.changes, *own), plan.hardware)


def _trains(plan: Plan) -> bool:
    return bool(default_traits(plan.method).trains)


def _dataset(plan: Plan, progress: bool) -> tuple[VideoDataset, Mapping[str, str]]:
    """Check the videos, make small copies if wanted, and load them; beside it which cannot be read, and why."""
    report = check_benchmark(plan.benchmark, plan.root, progress=progress)
    report.save(plan.folder / "check.json")
    if not (report.complete or plan.skip_missing):
        said = "\n".join(report.verdict())
        raise ValueError(f"{plan.benchmark} is not whole below {plan.root}:\n{said}\nGet what is missing (all is named "
                         f"in {plan.folder / 'check.json'}), or go on without it: --skip-missing")  # fmt: skip
    if plan.prepared is not None:
        prepare(plan.benchmark, plan.root, plan.prepared, on_error="skip", progress=progress)
    dataset = load_benchmark(plan.benchmark, plan.prepared or plan.root, plan.skip_missing)
    dataset = drop_copies(dataset, progress=progress)
    if not plan.skip_missing or plan.prepared is not None:  # copies hold whole videos alone
        return dataset, report.broken
    of_training = dataset.split("train").videos if _trains(plan) else ()
    return dataset, {**broken_videos(of_training, progress=progress), **report.broken}


def _require_episodes(plan: Plan, recipe: Recipe | None, dataset: VideoDataset, shot: int) -> None:
    """Refuse before any training what the videos are too few for."""
    wanted = {"test": (plan.way, shot, plan.query)}
    if recipe is not None:
        dataset = dataset if recipe.resplit is None else dataset.resplit(recipe.resplit)
        wanted["train"] = (recipe.way, recipe.shot, recipe.query)
        wanted["val"] = (recipe.validation_way, recipe.validation_shot, 1)
    for split, (way, shots, query) in wanted.items():
        try:
            EpisodeSampler(dataset=dataset.split(split), way=way, shot=shots, query=query)
        except ValueError as error:
            keys = "--way, --shot and --query" if split == "test" else "--set way=, shot= and query="
            raise ValueError(f"{split} episodes cannot be drawn ({keys} say which): {error}") from error


def _test(
    plan: Plan,
    recipe: Recipe | None,
    dataset: VideoDataset,
    broken: Mapping[str, str],
    run: Path,
    shot: int,
    progress: bool,
) -> list[Result]:
    """Evaluate what was trained on the test classes, in both modes where there are two."""
    frames = FrameCache()
    if recipe is None:
        method = build_method(plan.method, load_backbone(plan.backbone or "tiny"))
    else:
        method, frames = load_pretrained(run), FrameCache.of_clip(recipe.clip)
        dataset = dataset if recipe.resplit is None else dataset.resplit(recipe.resplit)
    method = to_device(method, "cpu" if recipe is not None and recipe.accelerator == "cpu" else "auto")
    modes = [mode for mode in (method, method.other_mode()) if mode is not None]
    if recipe is not None and recipe.drop_short:
        broken = {**short_videos(dataset.split("test").videos, recipe.frames, progress=progress), **broken}
    return [_tested(plan, mode, dataset, broken, run, shot, frames, progress) for mode in modes]


def _tested(
    plan: Plan,
    method: Method,
    dataset: VideoDataset,
    leave_out: Mapping[str, str],
    run: Path,
    shot: int,
    cache: FrameCache,
    progress: bool,
) -> Result:
    """One result; the one in the run's folder if it is there."""
    videos = dataset.split("test")
    used = videos.without(leave_out).fingerprint()
    wanted = (method.transductive, plan.way, shot, plan.query, plan.episodes, used)
    known = load_results([results_folder(run)]) if results_folder(run).is_dir() else []
    for found in (stored.result for stored in known):
        episodes = (found.way, found.shot, found.query, found.episodes)
        if (found.transductive, *episodes, found.dataset_fingerprint) == wanted:
            return found
    bank = fill_bank(method, videos.videos, videos.texts, cache=cache, progress=progress, leave_out=leave_out)
    result = evaluate(
        method, dataset, way=plan.way, shot=shot, query=plan.query, episodes=plan.episodes, cache=cache, bank=bank,
        progress=progress,
    )  # fmt: skip
    save_result(result, results_folder(run))
    return result
