"""`fsar evaluate`."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fsar.cli import spotting
from fsar.cli.options import data_options, devices_option, frame_cache, load_checkpoint, load_dataset, own_option

if TYPE_CHECKING:
    from fsar.datasets import VideoDataset
    from fsar.methods import Method
    from fsar.results.result import Result
    from fsar.video.frame_cache import FrameCache


def add_options(parser: ArgumentParser) -> None:
    """Add the options: methods, videos, episodes."""
    data_options(parser)
    own_option(parser)
    add = parser.add_argument
    add("--split", default="test", help="train, val, test or all")
    add("--classes", nargs="+", help="only these classes of the split")
    untrained = "untrained (see `fsar methods`); default: protonet otam bi-mhm and, of videos, place-motion"
    add("--method", nargs="+", metavar="NAME[:OPTION=VALUE,...]", help=untrained)
    trained = "trained: folders that `fsar train` wrote, of one run or several, or hf-hub:ORG/NAME"
    add("--checkpoint", nargs="+", metavar="DIR[:OPTION=VALUE,...]", help=trained)
    swept = "evaluate at each value of an option: from:to:step, or a list of values"
    add("--sweep", metavar="OPTION=VALUES", help=swept)
    add("--add-to-card", action="store_true", help="write the results into the checkpoints' model cards")
    devices_option(parser)
    add("--precision", choices=["float32", "tf32", "bf16"], default="float32", help="tf32, bf16: faster on new GPUs")
    add("--backbone", help="of --method; default: tiny (see `fsar backbones`)")
    add("--frames", type=int, help="frames per video, T; default: a checkpoint's or video backbone's own, or 8")
    add("--sampling", help="tsn, trx, task-adapter, ...; default: a checkpoint's own, or tsn")
    add("--way", nargs="+", type=int, default=[5], help="classes per episode, N")
    add("--shot", nargs="+", type=int, default=[1], help="examples per class, K")
    add("--query", type=int, default=1, help="queries per class")
    add("--episodes", type=int, default=10_000)
    add("--seed", nargs="+", type=int, default=[0], help="of the episodes; several are averaged")
    resplit = "split the classes at random, once per seed; a checkpoint has its own split"
    add("--resplit", nargs="+", type=int, metavar="SEED", help=resplit)
    add("--manifest", type=Path, help="replay the episodes of a file that --save-manifest wrote")
    add("--save-manifest", type=Path, help="write the episodes (one way and one shot only)")
    add("--drop-short", action="store_true", help="leave out videos with too few frames (of --method)")
    add("--naive", action="store_true", help="encode every video again in every episode")
    add("--predictions", action="store_true", help="keep the answer to every query in the results")
    add("--on-error", choices=["stop", "skip"], default="stop", help="what to do if a video cannot be read")
    add("--bank", type=Path, help="folder of the feature bank; default: in the cache")
    add("--out", type=Path, help="folder for one JSON per result; default: RUN/results of a checkpoint")
    spotting.add_options(parser)


def run(options: Namespace) -> int:
    """Evaluate every method at every way and shot, and print the table."""
    if options.spotting is not None:
        return spotting.run(options)
    if options.model or options.found:
        raise ValueError("--model and --found belong to --spotting SEGMENTS; add it, or leave them out")
    from fsar.results.tables import interval_words, joined, table

    _require_no_video_options(options)
    _require_known_methods(options)
    dataset = _dataset(options)
    entries = _in_both_modes(_entries(options, dataset))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)  # an error here comes before the work
    tasks = [(entry, dealt) for entry in entries for dealt in _splits(entry, dataset, options.resplit)]
    if options.classes:
        tasks = [(entry, _only(dealt, options.classes, options.split)) for entry, dealt in tasks]
    for entry, dealt in tasks:
        _check(entry, dealt.split(options.split), options)
    results = [result for entry, dealt in tasks for result in _evaluate(entry, dealt, options)]
    print(table(results))
    encoded = "every video encoded again in every episode" if options.naive else "from the feature bank"
    print(f"\n{encoded}; accuracy in % ± {interval_words(joined(results))}")
    print("\n".join(dict.fromkeys(_data_line(result) for result in results)))
    lower = [r for r in results if r.accuracy + r.ci95 < 1 / r.way]
    if below := dict.fromkeys(f"{r.method} {r.way}-way {r.shot}-shot" for r in lower):
        print(
            f"below chance: {', '.join(below)}; there, clips of different classes resemble each other more than clips "
            "of one class, for instance if each person or place is in several classes"
        )
    print("\n".join(_selection_lines(results)))
    for folder in dict.fromkeys(str(_kept_in(entry.folder, options.out)) for entry in entries):
        print("add --out DIR to keep these results" if folder == "None" else f"kept in {folder}", file=sys.stderr)
    return 0


def _dataset(options: Namespace) -> "VideoDataset":
    """Load what the options name, or else the generated world; says so, since that renders it."""
    nothing = (options.data, options.lists, options.benchmark, options.features) == (None,) * 4
    if nothing:
        print("fsar: neither --data nor --features is given; this evaluates the generated world", file=sys.stderr)
    return load_dataset(
        "world" if nothing else options.data,
        options.lists,
        options.class_names,
        options.skip_missing,
        options.benchmark,
        copies=options.manifest is not None,  # a manifest's episodes are replayed as they are
        features=options.features,
    )


def _require_known_methods(options: Namespace) -> None:
    """Refuse unknown methods and options before videos are searched."""
    from fsar.methods import parse_method, parse_options
    from fsar.own import is_own

    for name, chosen in map(parse_method, options.method or ()):
        if not is_own(name):  # a file of one's own is read when the method is built
            parse_options(name, chosen)


def _require_no_video_options(options: Namespace) -> None:
    """Refuse what has no effect on features made elsewhere."""
    if options.features is None:
        return
    idle = {"--backbone": options.backbone, "--frames": options.frames, "--sampling": options.sampling}
    idle |= {"--drop-short": options.drop_short, "--naive": options.naive, "--bank": options.bank}
    for option, value in idle.items():
        if value:
            raise ValueError(f"{option} has no effect on features made elsewhere (--features); leave it out")


def _data_line(result: "Result") -> str:
    """Describe the videos and episodes of a result, and what was missing."""
    from fsar.results.tables import lacking

    dealt = "" if result.resplit is None else f", classes split at random by seed {result.resplit}"
    return (
        f"{result.dataset} {result.split} ({len(result.confusion['classes'])} classes{dealt}, {result.videos} videos, "
        f"{result.dataset_fingerprint[:8]}{lacking(result)}), {result.episodes} episodes, seed {result.seed}"
    )


def _selection_lines(results: Sequence["Result"]) -> list[str]:
    """Say how the tested states were selected; if rows differ in it, of which rows."""
    from fsar.results.identity import row_name

    rows: dict[str, dict[str, None]] = {}
    for result in results:
        rows.setdefault(result.selection, {})[row_name(result)] = None
    if len(rows) == 1:
        return [f"selection: {selection}" for selection in rows]
    return [f"selection of {'; '.join(names)}: {selection}" for selection, names in rows.items()]


def _only(dataset: "VideoDataset", classes: Sequence[str], split: str) -> "VideoDataset":
    """Keep the named classes, all of which must be in the split."""
    chosen = dataset.only(classes)
    strange = [] if split == "all" else [label for label in chosen.classes if chosen.splits.get(label) != split]
    if strange:
        raise ValueError(
            f"--classes names {', '.join(strange)}, which are not in the {split} split; choose others, or --split all"
        )
    return chosen


def _splits(entry: "_Entry", dataset: "VideoDataset", seeds: Sequence[int] | None) -> list["VideoDataset"]:
    """The dataset's own splits, or those of `--resplit`, or the one that a checkpoint was trained on."""
    trained = entry.method.provenance
    if trained is None:
        return [dataset.resplit(seed) for seed in seeds] if seeds else [dataset]
    own = trained.recipe.get("resplit")
    if seeds and seeds != [own]:
        trained_on = "the dataset's own splits" if own is None else f"--resplit {own}"
        given = " ".join(map(str, seeds))
        raise ValueError(f"{entry.folder} was trained on {trained_on}, not on --resplit {given}; leave --resplit out")
    return [dataset if own is None else dataset.resplit(own)]


def _check(entry: "_Entry", videos: "VideoDataset", options: Namespace) -> None:
    """Refuse, before any work, what would fail later."""
    from fsar.bank.fill import check_features
    from fsar.datasets.benchmarks import refuse_mixing
    from fsar.evaluation.episodes import EpisodeSampler
    from fsar.evaluation.trial import try_episode

    check_features(entry.method, videos.videos)
    if entry.method.provenance is not None:
        refuse_mixing(entry.method.provenance.dataset, videos.name)
    entry.method.check_texts([videos.texts[label] for label in videos.classes])
    if not options.manifest:
        for way in options.way:
            for shot in options.shot:
                EpisodeSampler(dataset=videos, way=way, shot=shot, query=options.query)
    given = videos.videos[0].features if videos.videos else None
    frames = entry.cache.frames if given is None else len(given)
    if entry.method.provenance is None and frames:  # a trained method has the frames it was trained on
        try_episode(entry.method, [videos.texts[label] for label in videos.classes[:2]], frames)


def _evaluate(entry: "_Entry", dataset: "VideoDataset", options: Namespace) -> list["Result"]:
    """Encode once, then match at every way, shot and seed; write each result at once."""
    from dataclasses import asdict

    from fsar.bank.fill import fill_bank
    from fsar.evaluation.episodes import Episodes
    from fsar.evaluation.loop import evaluate
    from fsar.results.identity import save_result
    from fsar.training.checkpoint import add_results

    method, folder, cache = entry
    videos = dataset.split(options.split)
    bank = fill_bank(
        method,
        videos.videos,
        videos.texts,
        cache=cache,
        folder=options.bank,
        precision=options.precision,
        devices=options.devices,
        on_error=options.on_error,
        leave_out=_short(entry, videos, options.drop_short),
    )
    for name, reason in bank.skipped.items():
        print(f"fsar: left out {name}: {reason}", file=sys.stderr)
    for name, lost in bank.damaged.items():
        print(f"fsar: {name} is damaged: {lost} of its pictures are broken or lost", file=sys.stderr)
    replayed = Episodes.load(options.manifest, videos) if options.manifest else None
    kept, results = _kept_in(folder, options.out), []
    for way, shot, seed in product(options.way, options.shot, options.seed):
        result = evaluate(
            method,
            dataset,
            options.split,
            way=way,
            shot=shot,
            query=options.query,
            episodes=replayed or options.episodes,
            seed=seed,
            cache=cache,
            bank=bank,
            naive=options.naive,
            devices=options.devices,
            predictions=options.predictions,
        )
        results.append(result)
        if options.add_to_card and folder is not None:
            add_results(folder, [asdict(result)])
        if kept is not None:
            save_result(result, kept)
    if options.save_manifest:
        _save_manifest(videos.without(bank.skipped), options)
    _warn(folder, results[-1])
    return results


def _save_manifest(videos: "VideoDataset", options: Namespace) -> None:
    from fsar.evaluation.episodes import EpisodeSampler

    (way,), (shot,), (seed,) = options.way, options.shot, options.seed
    sampler = EpisodeSampler(dataset=videos, way=way, shot=shot, query=options.query, seed=seed)
    sampler.draw(options.episodes).save(options.save_manifest)


def _warn(folder: str | None, result: "Result") -> None:
    """Print the warnings on a result."""
    from fsar.results.identity import is_unfinished

    if is_unfinished(result) and result.training is not None:
        so_far, whole = result.training["unfinished_at"], result.training["recipe"]["episodes"]
        print(
            f"fsar: warning: the run in {folder} is not finished ({so_far:,} of {whole:,} training episodes); results "
            f"of the finished run will have another row",
            file=sys.stderr,
        )
    if seen := result.seen_classes:
        print(
            f"fsar: warning: {result.method} was trained on {len(seen)} of the {len(result.confusion['classes'])} "
            f"classes it is evaluated on ({', '.join(seen[:3])}); this is no few-shot number",
            file=sys.stderr,
        )


def _short(entry: "_Entry", videos: "VideoDataset", wanted: bool) -> dict[str, str]:
    """Videos to leave out because they are short: id -> reason."""
    from fsar.datasets.check import short_videos

    trained = entry.method.provenance
    if not (wanted if trained is None else trained.recipe.get("drop_short", False)):
        return {}
    return short_videos(videos.videos, entry.cache.frames or 0)


def _kept_in(run: str | None, out: Path | None) -> Path | None:
    """Folder of the results: --out, or the run's own if it is on this machine and can be written."""
    from fsar.results.result import results_folder

    if out is not None or run is None or run.startswith("hf-hub:"):
        return out
    folder = results_folder(Path(run))
    if not os.access(folder.parent, os.W_OK):
        print(f"fsar: {folder.parent} cannot be written; add --out DIR to keep its results", file=sys.stderr)
        return None
    return folder


class _Entry(NamedTuple):
    """A method to evaluate, its checkpoint, and how its clips are sampled."""

    method: "Method"
    folder: str | None
    cache: "FrameCache"


def _in_both_modes(entries: list[_Entry]) -> list[_Entry]:
    """Add to every method that has two modes (queries alone, or seeing each other) its other one."""
    modes = [(entry, mode) for entry in entries for mode in (entry.method, entry.method.other_mode())]
    return [entry._replace(method=mode) for entry, mode in modes if mode is not None]


def _entries(options: Namespace, dataset: "VideoDataset") -> list[_Entry]:
    """Untrained methods by name, then trained ones from their folders."""
    from fsar.backbones import load_backbone
    from fsar.devices import to_device
    from fsar.methods import build_method, parse_method

    if options.save_manifest and max(map(len, (options.way, options.shot, options.seed, options.resplit or []))) > 1:
        raise ValueError("--save-manifest writes one list of episodes; give one --way, --shot, --seed and --resplit")
    if options.manifest and len(options.seed) > 1:
        raise ValueError("--manifest holds its episodes, so several of --seed have no effect; leave --seed out")
    given = dataset.videos[0].features if dataset.videos else None
    default = ["protonet", "otam", "bi-mhm", *(["place-motion"] if given is None else [])]
    default = [] if options.checkpoint else default
    specs = [parse_method(spec) for given in options.method or default for spec in _swept(given, options.sweep)]
    if options.backbone and not specs:
        raise ValueError("--backbone has no effect on checkpoints, which have their own; leave it out, or add --method")
    entries = []
    if specs:
        backbone = load_backbone(options.backbone or ("tiny" if given is None else f"features/{given.shape[-1]}"))
        cache = frame_cache(options, backbone)
        entries = [_Entry(build_method(name, backbone, **chosen), None, cache) for name, chosen in specs]
    entries += [
        _trained(each, options)
        for given in options.checkpoint or ()
        for spec in _swept(given, options.sweep)
        for each in _runs(spec)
    ]
    if options.bank and len({str(entry.method.encoder().key()) for entry in entries}) > 1:
        raise ValueError(
            "--bank holds the encodings of one encoder, and these methods have several; name methods that share one "
            "(protonet, otam, bi-mhm, trx), or leave --bank out"
        )
    return [entry._replace(method=to_device(entry.method, options.device)) for entry in entries]


def _swept(spec: str, sweep: str | None) -> list[str]:
    """Add each value of `--sweep` to a method or checkpoint."""
    if sweep is None:
        return [spec]
    option, equals, text = sweep.partition("=")
    try:
        ends = [float(part) for part in text.split(":")] if text.count(":") == 2 else None
    except ValueError:
        ends = None  # values with colons of their own
    try:
        values = text.split(",") if ends is None else _range(*ends)
    except (ValueError, ZeroDivisionError):
        values = []
    if not option or not equals or not all(values) or not values:
        raise ValueError(f"--sweep is {sweep!r}; expected OPTION=FROM:TO:STEP or OPTION=VALUE,VALUE as alpha=0:1:0.1")
    more = "," if ":" in spec.removeprefix("hf-hub:") else ":"
    return [f"{spec}{more}{option}={value}" for value in values]


def _range(begin: float, end: float, step: float) -> list[str]:
    """Numbers from begin to end, both included, as they are written."""
    count = round((end - begin) / step, 6)
    if not 0 <= count <= 1000:
        raise ValueError
    return [f"{begin + i * step:.10g}" for i in range(int(count) + 1)]


def _runs(spec: str) -> list[str]:
    """The runs of a grid (several seeds, a sweep); any other checkpoint alone."""
    from fsar.training.grid import runs_below

    folder, colon, rest = spec.partition(":")
    return [spec] if spec.startswith("hf-hub:") else [f"{run}{colon}{rest}" for run in runs_below(Path(folder))]


def _trained(spec: str, options: Namespace) -> _Entry:
    """A checkpoint, on the frames it was trained on."""
    from fsar.video.frame_cache import FrameCache

    method, folder = load_checkpoint(spec)
    clip = method.provenance.clip
    for name in ("frames", "sampling"):
        if (given := getattr(options, name)) not in (None, clip[name]):
            raise ValueError(f"{spec} was trained with --{name} {clip[name]}, not {given}; leave --{name} out")
    return _Entry(method, folder, FrameCache.of_clip(clip))
