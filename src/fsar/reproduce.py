"""From a dataset's folder to the row of a table: check, prepare, train on train, select on val, test, report.

    RUN/check.json                        which listed videos are there, and whether they can be read
    RUN/1-shot_seed-0/                    a training run (fsar/training/run_folder.py); none if nothing trains
    RUN/1-shot_seed-0/results/*.json      its results on the test classes (fsar/results/result.py)
    RUN/report.html                       everything beside the papers' numbers

As in the papers, K-shot results come from K-shot training, or from what the recipe's `for_shot` says. With the override
`shot=1`, all come from 1-shot training.
The same command, run again, skips finished steps.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fsar.backbones import load_backbone
from fsar.bank.fill import fill_bank
from fsar.datasets import VideoDataset, drop_copies, load_world
from fsar.datasets.benchmarks import benchmark, load_benchmark
from fsar.datasets.check import broken_videos, check_benchmark, short_videos
from fsar.datasets.prepare import prepare
from fsar.devices import to_device
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.loop import evaluate, trained_weights
from fsar.methods import Method, build_method, method_class
from fsar.report import write_report
from fsar.results.identity import save_result
from fsar.results.result import Result, load_results, results_folder
from fsar.training.checkpoint import load_pretrained
from fsar.training.loop import train
from fsar.training.recipes import Recipe, load_recipe, recipe_names
from fsar.training.setup import is_first_process
from fsar.video.frame_cache import FrameCache


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to reproduce."""

    method: str
    benchmark: str
    """Name with version: `ssv2-small@cmn`; or `world`, the generated one, to try everything offline."""
    root: Path | None
    """Folder of the dataset's videos; None for `world`."""
    folder: Path
    """Folder for all files of the reproduction."""
    shots: tuple[int, ...] = (1, 5)
    """Support videos per class, K; each K has its own training and test."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the trainings; all tests use the episodes of seed 0."""
    way: int = 5
    """Classes per test episode."""
    query: int | None = None
    """Queries per class in the test; None takes the recipe's `test_query`, or 1 if the method has no recipe."""
    episodes: int = 10_000
    """Test episodes."""
    backbone: str | None = None
    """None: the backbone of the recipe, or `tiny` if the method has no recipe."""
    changes: tuple[str, ...] = ()
    """`key=value` overrides of the recipe."""
    hardware: str | None = None
    """A preset of `fsar.training.recipes.HARDWARE`."""
    prepared: Path | None = None
    """Folder for small copies of the videos, which are then used; None uses the videos themselves."""
    skip_missing: bool = False
    """Leave out videos that are missing or cannot be read; every result says how many."""

    def __post_init__(self) -> None:
        for name in ("shots", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"a reproduction needs at least one of {name}; got none")
        if self.on_world and (self.root is not None or self.prepared is not None):
            raise ValueError("the generated world is rendered into the cache; leave --root and --prepare out")
        if not self.on_world and self.root is None:
            raise ValueError(f"{self.benchmark} needs the folder of its videos; add --root DIR")

    @property
    def on_world(self) -> bool:
        """Whether it runs on the generated world."""
        return self.benchmark == "world"


@dataclass(frozen=True)
class _Job:
    """One training and its test."""

    shot: int
    seed: int
    recipe: Recipe | None
    """None if the method has no recipe."""

    def folder(self, plan: Plan) -> Path:
        return plan.folder / f"{self.shot}-shot_seed-{self.seed}"

    def query(self, plan: Plan) -> int:
        """Queries per class in the test."""
        if plan.query is not None:
            return plan.query
        return 1 if self.recipe is None else self.recipe.test_query

    def split(self, dataset: VideoDataset) -> VideoDataset:
        """Split the classes at random if the recipe says so."""
        own = None if self.recipe is None else self.recipe.resplit
        return dataset if own is None else dataset.resplit(own)


def reproduce(plan: Plan, progress: bool = True) -> list[Result]:
    """Check the videos, train, test and write the report.

    Args:
        plan: what to reproduce, and where its files go.
        progress: show progress bars.

    Returns:
        The results, whose files are in `plan.folder`. If several processes train, those after the first return none.

    Raises:
        ValueError: no such method, benchmark or recipe; videos that are missing or broken (unless `skip_missing`); or
            a folder that holds another run.
    """
    jobs = list(_jobs(plan))  # before any work: raises errors
    dataset, broken = _dataset(plan, progress)
    readable = dataset.without(broken)
    for job in jobs:
        _require_episodes(plan, job, readable)
    for job in jobs:
        if job.recipe is not None:
            train(job.recipe, readable, job.folder(plan), progress)
    if not is_first_process():  # it alone tests, on all devices; the others would wait too long between trainings
        return []
    results = [result for job in jobs for result in _test(plan, job, dataset, broken, progress)]
    write_report([plan.folder], plan.folder / "report.html")
    return results


def recipes_of(plan: Plan) -> list[Recipe]:
    """List the recipes of the trainings of a plan; none if its method has none.

    Args:
        plan: what to reproduce.

    Raises:
        ValueError: no such method, benchmark or recipe.
    """
    return [job.recipe for job in _jobs(plan) if job.recipe is not None]


def _jobs(plan: Plan) -> Iterator[_Job]:
    """List the steps: one per shot and seed, or one per shot if the method has no recipe."""
    family, version = ("world", "world") if plan.on_world else _names(plan.benchmark)
    if not _trains(plan):
        if plan.changes or plan.hardware:
            raise ValueError(
                f"{plan.method} has no recipe, since it is used as it is; leave --set, --hardware, --protocol and "
                f"--resplit out"
            )
        yield from (_Job(shot, 0, None) for shot in plan.shots)
        return
    name = f"{plan.method}/{family}"
    if name not in recipe_names():
        raise ValueError(f"there is no recipe {name}; see `fsar recipes`")
    for shot in plan.shots:
        for seed in plan.seeds:
            own = [f"seed={seed}"]
            if not plan.on_world:
                own += [f"benchmark={version}", f"data={json.dumps(str(plan.prepared or plan.root))}"]
            own += [] if plan.backbone is None else [f"backbone={plan.backbone}"]
            yield _Job(shot, seed, load_recipe(name, (*plan.changes, *own), plan.hardware, shot))


def _names(name: str) -> tuple[str, str]:
    """Family and full name of a benchmark."""
    known = benchmark(name)
    return known.family, known.name


def _trains(plan: Plan) -> bool:
    """Whether the method has recipes; those without are tested as they are."""
    method_class(plan.method)  # raises an error if there is no such method
    return any(name.startswith(f"{plan.method}/") for name in recipe_names())


def _dataset(plan: Plan, progress: bool) -> tuple[VideoDataset, Mapping[str, str]]:
    """Check the videos, write small copies if wanted, and load them; also return the broken ones with reasons."""
    if plan.root is None:
        return load_world(progress=progress), {}
    report = check_benchmark(plan.benchmark, plan.root, progress=progress)
    report.save(plan.folder / "check.json")
    if not (report.complete or plan.skip_missing):
        said = "\n".join(report.verdict())
        raise ValueError(
            f"{plan.benchmark} is not whole below {plan.root}:\n{said}\nGet what is missing (all is named in "
            f"{plan.folder / 'check.json'}), or leave it out: --skip-missing"
        )
    if plan.prepared is not None:
        prepare(plan.benchmark, plan.root, plan.prepared, on_error="skip", progress=progress)
    dataset = load_benchmark(plan.benchmark, plan.prepared or plan.root, plan.skip_missing)
    dataset = drop_copies(dataset, progress=progress)
    if not plan.skip_missing or plan.prepared is not None:  # broken videos have no copies
        return dataset, report.broken
    of_training = dataset.split("train").videos if _trains(plan) else ()
    return dataset, {**broken_videos(of_training, progress=progress), **report.broken}


def _require_episodes(plan: Plan, job: _Job, dataset: VideoDataset) -> None:
    """Refuse episodes that the dataset is too small for, before any training."""
    wanted = {"test": (plan.way, job.shot, job.query(plan))}
    if job.recipe is not None:
        wanted["train"] = (job.recipe.way, job.recipe.shot, job.recipe.query)
        wanted["val"] = (job.recipe.validation_way, job.recipe.validation_shot, job.recipe.val_query)
    for split, (way, shots, query) in wanted.items():
        try:
            EpisodeSampler(dataset=job.split(dataset).split(split), way=way, shot=shots, query=query)
        except ValueError as error:
            keys = "--way, --shot and --query" if split == "test" else "--set way=, shot= and query="
            raise ValueError(f"{split} episodes cannot be drawn ({keys} say which): {error}") from error


def _test(plan: Plan, job: _Job, dataset: VideoDataset, broken: Mapping[str, str], progress: bool) -> list[Result]:
    """Evaluate on the test classes, in both modes if the method has two."""
    cache, recipe, dataset = FrameCache(), job.recipe, job.split(dataset)
    if recipe is None:
        method = build_method(plan.method, load_backbone(plan.backbone or "tiny"))
    else:
        method, cache = load_pretrained(job.folder(plan)), FrameCache.of_clip(recipe.clip)
    method = to_device(method, "cpu" if recipe is not None and recipe.accelerator == "cpu" else "auto")
    devices = recipe.devices if recipe is not None and method.device.type == "cuda" else 1
    if recipe is not None and recipe.drop_short:
        broken = {**short_videos(dataset.split("test").videos, recipe.frames, progress=progress), **broken}
    modes = [mode for mode in (method, method.other_mode()) if mode is not None]
    return [
        _known(plan, job, mode, dataset, broken) or _new(plan, job, mode, dataset, broken, cache, devices, progress)
        for mode in modes
    ]


def _known(plan: Plan, job: _Job, method: Method, dataset: VideoDataset, leave_out: Mapping[str, str]) -> Result | None:
    """Return the result of an earlier call, if there is one."""
    folder = results_folder(job.folder(plan))
    used = dataset.split("test").without(leave_out).fingerprint()
    weights = trained_weights(method)
    wanted = (method.traits.transductive, plan.way, job.shot, job.query(plan), plan.episodes, used)
    for result in (stored.result for stored in (load_results([folder]) if folder.is_dir() else ())):
        episodes = (result.way, result.shot, result.query, result.episodes)
        same = (result.transductive, *episodes, result.dataset_fingerprint) == wanted
        if same and result.trained_weights in ("", weights):  # an older version wrote no hash
            return result
    return None


def _new(
    plan: Plan,
    job: _Job,
    method: Method,
    dataset: VideoDataset,
    leave_out: Mapping[str, str],
    cache: FrameCache,
    devices: int,
    progress: bool,
) -> Result:
    """Evaluate, and keep the result."""
    videos = dataset.split("test")
    bank = fill_bank(
        method,
        videos.videos,
        videos.texts,
        cache=cache,
        leave_out=leave_out,
        devices=devices,
        progress=progress,
    )
    result = evaluate(
        method,
        dataset,
        way=plan.way,
        shot=job.shot,
        query=job.query(plan),
        episodes=plan.episodes,
        cache=cache,
        bank=bank,
        devices=devices,
        progress=progress,
    )
    save_result(result, results_folder(job.folder(plan)))
    return result
