"""The command line: `fsar <verb>`. Nothing heavy is imported before a verb runs."""

import csv
import io
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsar.names import unknown

if TYPE_CHECKING:
    from fsar.datasets import VideoDataset
    from fsar.methods import Method
    from fsar.recognizer import Answer, Recognizer

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, verbs = _parsers()
    try:
        if words and not words[0].startswith("-"):
            _refuse_unknown(words, verbs)
        options = parser.parse_args(words)
        if not options.verb:
            parser.print_help()
            return 0
        return VERBS[options.verb][1](options)
    except (ValueError, OSError) as error:
        print(f"fsar: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("fsar: interrupted; what was finished is kept, run the same command to go on", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parsers() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    parser = ArgumentParser(
        prog="fsar", description="Few-shot action recognition: name the action in a video from a few examples."
    )
    subcommands = parser.add_subparsers(dest="verb", metavar="verb")
    verbs = {}
    for verb, (add_options, _, description) in VERBS.items():
        verbs[verb] = subcommands.add_parser(verb, help=description, description=description, allow_abbrev=False)
        add_options(verbs[verb])
    return parser, verbs


def _refuse_unknown(words: list[str], verbs: dict[str, ArgumentParser]) -> None:
    """Name the nearest verb or option to a misspelt one, which argparse does not."""
    if words[0] not in verbs:
        raise ValueError(unknown(words[0], verbs, "verb"))
    known = list(verbs[words[0]]._option_string_actions)
    for word in words[1 : words.index("--") if "--" in words else None]:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in known:
            raise ValueError(unknown(option, known, f"option of `fsar {words[0]}`"))


def _model_options(parser: ArgumentParser, backbone: str) -> None:
    parser.add_argument("--backbone", default=backbone, help="tiny, lite0, ViT-B-16/openai, ... (see `fsar backbones`)")
    parser.add_argument("--frames", type=int, default=8, help="frames per video, T")
    parser.add_argument("--sampling", default="tsn", help="tsn, trx, task-adapter or clip-fsar-interval")


# --------------------------------------------------------------------------- evaluate


def _data_options(parser: ArgumentParser, default: str | None) -> None:
    parser.add_argument("--data", default=default, help="a folder of class folders, or `world` (generated)")
    parser.add_argument("--lists", nargs="+", type=Path, help="split lists; the videos then lie below --data")
    parser.add_argument("--class-names", type=Path, help="JSON names of the classes that lists give by number")
    parser.add_argument("--skip-missing", action="store_true", help="leave out listed videos that are not there")


def _dataset(data: str, lists: Sequence[Path] | None, class_names: Path | None, skip_missing: bool) -> "VideoDataset":
    from fsar.datasets import load_folder, load_lists, load_world

    if lists:
        return load_lists(lists, Path(data), class_names, None, skip_missing)
    return load_world() if data == "world" else load_folder(Path(data))


def _evaluate_options(parser: ArgumentParser) -> None:
    _data_options(parser, "world")
    parser.add_argument("--split", default="test", help="train, val, test or all")
    parser.add_argument("--classes", nargs="+", help="only these classes of the split")
    parser.add_argument("--method", nargs="+", metavar="NAME[:OPTION=VALUE,...]",
                        help="untrained (see `fsar methods`); default: protonet otam bi-mhm place-motion")  # fmt: skip
    parser.add_argument("--checkpoint", nargs="+", metavar="DIR[:OPTION=VALUE,...]",
                        help="trained: folders that `fsar train` wrote, or hf-hub:ORG/NAME")  # fmt: skip
    parser.add_argument("--add-to-card", action="store_true", help="write the results into the checkpoints' cards")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    _model_options(parser, "tiny")
    parser.add_argument("--way", nargs="+", type=int, default=[5], help="classes per episode, N")
    parser.add_argument("--shot", nargs="+", type=int, default=[1], help="examples per class, K")
    parser.add_argument("--query", type=int, default=1, help="queries per class")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--manifest", type=Path, help="replay the episodes of a file that --save-manifest wrote")
    parser.add_argument("--save-manifest", type=Path, help="write the episodes (one way and one shot only)")
    parser.add_argument("--naive", action="store_true", help="encode every video of every episode anew")
    parser.add_argument("--on-error", choices=["stop", "skip"], default="stop", help="at a video that cannot be read")
    parser.add_argument("--bank", type=Path, help="folder of the feature bank; default: in the cache")
    parser.add_argument("--out", type=Path, help="folder for one JSON per result")


def _evaluate(options: Namespace) -> int:
    from dataclasses import asdict

    from fsar.checkpoint import add_results
    from fsar.episodes import Episodes, EpisodeSampler
    from fsar.evaluate import evaluate
    from fsar.features import fill_bank
    from fsar.frame_cache import FrameCache
    from fsar.results import table

    methods, folders = _methods_to_evaluate(options)
    dataset = _dataset(options.data, options.lists, options.class_names, options.skip_missing)
    if options.classes:
        dataset = dataset.only(options.classes)
    videos = dataset.split(options.split)
    cache = FrameCache(frames=options.frames, sampling=options.sampling)
    if not options.manifest:
        for way in options.way:
            for shot in options.shot:  # before any work: every episode asked for can be drawn
                EpisodeSampler(dataset=videos, way=way, shot=shot, query=options.query)
    replayed = Episodes.load(options.manifest, videos) if options.manifest else None
    results = []
    for method, folder in zip(methods, folders, strict=True):
        bank = fill_bank(method, videos.videos, videos.texts, cache, options.bank, options.on_error)
        for name, reason in bank.skipped.items():
            print(f"fsar: left out {name}: {reason}", file=sys.stderr)
        for way in options.way:
            for shot in options.shot:
                result = evaluate(
                    method, dataset, options.split, way, shot, options.query,
                    replayed or options.episodes, options.seed, cache, bank, options.naive,
                )  # fmt: skip
                results.append(result)
                if options.add_to_card and folder is not None:
                    add_results(folder, [asdict(result)])
                if options.out:
                    name = f"{method.name}_{len(results):02d}_{result.way}way_{result.shot}shot.json"
                    result.save(options.out / name)
        if seen := result.seen_classes:
            print(f"fsar: warning: {method.name} was trained on {len(seen)} of the {len(videos.classes)} classes it "
                  f"is evaluated on ({', '.join(seen[:3])}); this is no few-shot number", file=sys.stderr)  # fmt: skip
    if options.save_manifest:
        kept = videos.without(bank.skipped)
        sampler = EpisodeSampler(
            dataset=kept, way=options.way[0], shot=options.shot[0], query=options.query, seed=options.seed
        )
        sampler.draw(options.episodes).save(options.save_manifest)
    print(table(results))
    first = results[0]
    print(
        f"\n{first.dataset} {first.split} ({len(videos.classes)} classes, {len(videos.videos)} videos, "
        f"{first.dataset_fingerprint[:8]}), {first.episodes} episodes, seed {first.seed}, "
        f"{'every episode encoded anew' if options.naive else 'from the feature bank'}; accuracy in % ± 95 % interval"
    )
    for selection in dict.fromkeys(result.selection for result in results):
        print(f"selection: {selection}")
    return 0


def _methods_to_evaluate(options: Namespace) -> tuple[list["Method"], list[str | None]]:
    """Untrained methods by name, then trained ones with their folders; checked before any work is done."""
    import torch

    from fsar.backbones import load_backbone
    from fsar.checkpoint import load_pretrained
    from fsar.methods import build_method, parse_method

    if options.save_manifest and (len(options.way) > 1 or len(options.shot) > 1):
        raise ValueError("--save-manifest writes one list of episodes; give one --way and one --shot")
    default = [] if options.checkpoint else ["protonet", "otam", "bi-mhm", "place-motion"]
    specs = [parse_method(spec) for spec in options.method or default]
    methods = []
    if specs:
        backbone = load_backbone(options.backbone)
        methods = [build_method(name, backbone, **chosen) for name, chosen in specs]
    folders: list[str | None] = [None] * len(methods)
    for spec in options.checkpoint or ():
        hub = "hf-hub:" if spec.startswith("hf-hub:") else ""
        folder, chosen = parse_method(spec.removeprefix("hf-hub:"))
        method = load_pretrained(hub + folder, **chosen)
        clip = method.provenance.clip
        if (clip["frames"], clip["sampling"]) != (options.frames, options.sampling):
            raise ValueError(f"{spec} was trained on {clip['frames']} frames by {clip['sampling']}; add --frames "
                             f"{clip['frames']} --sampling {clip['sampling']}")  # fmt: skip
        methods.append(method)
        folders.append(hub + folder)
    if options.bank and len({str(method.encoder()) for method in methods}) > 1:
        raise ValueError("--bank holds the encodings of one encoder, and these methods have several; name methods "
                         "that share one (protonet, otam, bi-mhm, trx), or leave --bank out")  # fmt: skip
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(auto if options.device == "auto" else options.device)
        return [method.to(device) for method in methods], folders
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"--device {options.device}: {str(error).splitlines()[0]}; expected auto, cpu or cuda"
        ) from error


# --------------------------------------------------------------------------- train


def _train_options(parser: ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="RECIPE", help="see `fsar recipes`, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; run again to go on after a kill")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="shot=5 lr.own=1e-4 options.alpha=0.5"
    )
    parser.add_argument("--hardware", help="1x8gb, 1x24gb or 4x24gb: memory and devices; the run stays the same")
    parser.add_argument("--devices", type=int, help="processes or GPUs on this machine")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--backbone", help="see `fsar backbones`")
    _data_options(parser, None)


def _train(options: Namespace) -> int:
    from fsar.recipes import load_recipe
    from fsar.train import train

    direct = ("devices", "seed", "backbone", "data", "class_names")
    given = [f"{key}={json.dumps(str(v) if isinstance(v, Path) else v)}" for key in direct
             if (v := getattr(options, key)) is not None]  # fmt: skip
    if options.lists:
        given.append(f"lists={json.dumps([str(path) for path in options.lists])}")
    recipe = load_recipe(options.config, [*options.set, *given], options.hardware)
    if recipe.data is None:
        raise ValueError(f"recipe {options.config} leaves open where the videos are; add --data DIR (and --lists ...)")
    lists = [Path(path) for path in recipe.lists]
    names = None if recipe.class_names is None else Path(recipe.class_names)
    train(recipe, _dataset(recipe.data, lists, names, options.skip_missing), options.out)
    where = f"--data {recipe.data}" + (f" --lists {' '.join(recipe.lists)}" if recipe.lists else "")
    print(f"wrote {options.out}; next: fsar evaluate --checkpoint {options.out} {where}")
    return 0


def _push_options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a folder that `fsar train` wrote")
    parser.add_argument("repo", metavar="ORG/NAME")
    parser.add_argument("--private", action="store_true")


def _push(options: Namespace) -> int:
    from fsar.checkpoint import push_to_hub

    print(push_to_hub(options.folder, options.repo, options.private))
    return 0


def _recipes(options: Namespace) -> int:
    from fsar.recipes import recipe_names

    print("\n".join(recipe_names()))
    return 0


# --------------------------------------------------------------------------- recognize


def _recognize_options(parser: ArgumentParser) -> None:
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="videos, or folders of videos")
    parser.add_argument("--examples", type=Path, help="folder with one folder of example clips per action")
    parser.add_argument("--model", type=Path, help="a recogniser that --save wrote, instead of --examples")
    parser.add_argument("--save", type=Path, help="write the recogniser to this file")
    parser.add_argument("--method", metavar="NAME[:OPTION=VALUE,...]", help="default: place-motion")
    parser.add_argument("--checkpoint", help="a folder that `fsar train` wrote, instead of --method and --backbone")
    parser.add_argument("--backbone", help="default: lite0 (see `fsar backbones`)")
    parser.add_argument("--frames", type=int, help="frames per video, T; default: 8")
    parser.add_argument("--sampling", help="default: tsn")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    parser.add_argument("--on-error", choices=["stop", "skip"], default="stop", help="at a video that cannot be read")


def _recognize(options: Namespace) -> int:
    if (options.examples is None) == (options.model is None):
        raise ValueError("give either --examples DIR (one folder of clips per action) or --model FILE")
    if not options.videos and not options.save:
        raise ValueError("give at least one VIDEO to name, or --save FILE to keep the recogniser")
    given = [name for name in ("method", "backbone", "frames", "sampling") if getattr(options, name) is not None]
    if options.checkpoint and (given or options.model):
        other = f"--{given[0]}" if given else "--model"
        raise ValueError(f"--checkpoint holds its own method, backbone and frames; leave {other} out")
    if options.model and given:
        raise ValueError(f"--model holds its own {given[0]}; leave --{given[0]} out, or enrol anew with --examples")

    from fsar.progress import progress_bar
    from fsar.recognizer import Recognizer
    from fsar.video import VideoError, display

    recognizer = Recognizer.load(options.model) if options.model else _enrol(options)
    print(f"fsar: {recognizer.method.name} on {recognizer.backbone.name}, {len(recognizer.actions)} actions; "
          f"{recognizer.fit()}", file=sys.stderr)  # fmt: skip
    if options.save:
        recognizer.save(options.save)
    answers: list["Answer"] = []
    failed = 0
    videos = [video for given in options.videos for video in _videos_in(given)]
    for video in progress_bar(videos, "recognize", "video", len(videos), len(videos) > 1):
        try:
            answers.append(recognizer.predict(video))
        except VideoError as error:
            if options.on_error == "stop":
                raise
            failed += 1
            print(f"fsar: left out {display(video)}: {error.reason}", file=sys.stderr)
    if videos:
        print(_format_answers(answers, options.format))
    return 1 if failed else 0


def _enrol(options: Namespace) -> "Recognizer":
    from fsar.checkpoint import load_pretrained
    from fsar.datasets import load_folder
    from fsar.frame_cache import FrameCache
    from fsar.methods import parse_method
    from fsar.recognizer import Recognizer
    from fsar.video import VideoError, display

    examples = load_folder(options.examples)
    if options.checkpoint:
        trained = load_pretrained(options.checkpoint)
        clip = trained.provenance.clip
        recognizer = Recognizer(method=trained, cache=FrameCache(frames=clip["frames"], sampling=clip["sampling"]))
    else:
        name, chosen = parse_method(options.method or "place-motion")
        cache = FrameCache(frames=8 if options.frames is None else options.frames, sampling=options.sampling or "tsn")
        recognizer = Recognizer(options.backbone or "lite0", name, cache, **chosen)
    for video in examples.videos:
        try:
            recognizer.enroll(display(Path(video.label)), video.path)
        except VideoError as error:
            if options.on_error == "stop":
                raise
            print(f"fsar: example left out: {error}", file=sys.stderr)
    return recognizer


def _videos_in(path: Path) -> list[Path]:
    """A video, or the videos of a folder, sorted."""
    from fsar.datasets.folder import is_video
    from fsar.video import display

    if not path.is_dir() or is_video(path):
        return [path]
    found = sorted(entry for entry in path.iterdir() if is_video(entry) and not entry.name.startswith("."))
    if not found:
        raise ValueError(f"{display(path)}: no videos in this folder")
    return found


def _format_answers(answers: Sequence["Answer"], form: str) -> str:
    from fsar.video import display

    rows: list[dict[str, Any]] = [
        {
            "video": display(Path(answer.video)),
            "action": answer.action,
            "best": next(iter(answer.probabilities)),
            "probability": round(next(iter(answer.probabilities.values())), 4),
            "score": round(answer.score, 4),
            "threshold": None if answer.threshold is None else round(answer.threshold, 4),
            "probabilities": {name: round(p, 4) for name, p in answer.probabilities.items()},
        }
        for answer in answers
    ]
    if form == "json":
        return json.dumps(rows, indent=1)
    if form == "csv":
        names = sorted({name for row in rows for name in row["probabilities"]})
        text = io.StringIO()
        columns = ["video", "action", "best", "probability", "score", "threshold"]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*columns, *(f"p({name})" for name in names)])
        writer.writerows([*(row[c] for c in columns), *(row["probabilities"][n] for n in names)] for row in rows)
        return text.getvalue().rstrip("\n")
    width = max([5, *(len(row["video"]) for row in rows)])
    lines = [f"{'video':{width}}  {'action':24} likeliest"]
    for row in rows:
        ranked = ", ".join(f"{name} {p:.0%}" for name, p in list(row["probabilities"].items())[:3])
        lines.append(f"{row['video']:{width}}  {row['action']:24} {ranked}")
    return "\n".join(lines)


# --------------------------------------------------------------------------- the small verbs


def _demo_options(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of report.html")
    parser.add_argument("--episodes", type=int, default=2000)


def _demo(options: Namespace) -> int:
    from fsar.demo import run_demo

    print(f"wrote {run_demo(options.out, options.episodes)}")
    return 0


def _world_options(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder to render into")
    parser.add_argument("--clips", type=int, default=20, help="clips per class")


def _world(options: Namespace) -> int:
    from fsar.datasets.world import render_world
    from fsar.datasets.world_actions import ACTIONS

    if options.clips < 1:
        raise ValueError(f"--clips is {options.clips}; expected at least 1")
    render_world(options.out, options.clips)
    print(f"{len(ACTIONS)} classes with {options.clips} clips each in {options.out}")
    return 0


def _probe_options(parser: ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")


def _probe(options: Namespace) -> int:
    from dataclasses import asdict

    from fsar.video import display, probe

    for video in options.videos:
        facts = ", ".join(f"{key} {value}" for key, value in asdict(probe(video)).items())
        print(f"{display(video)}: {facts}")
    return 0


def _methods(options: Namespace) -> int:
    import dataclasses

    from fsar.methods import METHODS, method_class

    for name in METHODS:
        cls = method_class(name)
        traits = ["reads class names" if cls.needs_text else "no text",
                  "transductive" if cls.transductive else "inductive"]  # fmt: skip
        print(f"{name}: {(cls.__doc__ or '').splitlines()[0]} ({', '.join(traits)})")
        for field in dataclasses.fields(cls.Config):
            print(f"    {field.name}={field.default}")
    return 0


def _backbones(options: Namespace) -> int:
    import fsar.backbones

    print(fsar.backbones.__doc__)
    return 0


def _no_options(parser: ArgumentParser) -> None:
    pass


Verb = tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int], str]
VERBS: dict[str, Verb] = {
    "demo": (_demo_options, _demo, "The main job in minutes, offline: evaluates, recognises, writes a report."),
    "recognize": (_recognize_options, _recognize, "Name videos by a folder of example clips per action."),
    "evaluate": (_evaluate_options, _evaluate, "Few-shot accuracy of methods on a dataset, with its interval."),
    "train": (_train_options, _train, "Train a method by a recipe; goes on where a killed run stopped."),
    "push": (_push_options, _push, "Upload a trained checkpoint to the Hugging Face hub."),
    "recipes": (_no_options, _recipes, "List the training recipes."),
    "methods": (_no_options, _methods, "List the methods and their options."),
    "backbones": (_no_options, _backbones, "List the backbones."),
    "probe": (_probe_options, _probe, "Show frames, length, size and rotation of videos."),
    "world": (_world_options, _world, "Render the generated world into a folder."),
}

if __name__ == "__main__":
    sys.exit(main())
