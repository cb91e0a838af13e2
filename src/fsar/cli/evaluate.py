"""`fsar evaluate`."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fsar.cli.options import data_options, load_checkpoint, load_dataset

if TYPE_CHECKING:
    from fsar.frame_cache import FrameCache
    from fsar.methods import Method


def add_options(parser: ArgumentParser) -> None:
    """Ask which methods, on which episodes of which videos."""
    data_options(parser, "world")
    parser.add_argument("--split", default="test", help="train, val, test or all")
    parser.add_argument("--classes", nargs="+", help="only these classes of the split")
    parser.add_argument("--method", nargs="+", metavar="NAME[:OPTION=VALUE,...]",
                        help="untrained (see `fsar methods`); default: protonet otam bi-mhm place-motion")  # fmt: skip
    parser.add_argument("--checkpoint", nargs="+", metavar="DIR[:OPTION=VALUE,...]",
                        help="trained: folders that `fsar train` wrote, or hf-hub:ORG/NAME")  # fmt: skip
    parser.add_argument("--add-to-card", action="store_true", help="write the results into the checkpoints' cards")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--backbone", help="of --method; default: tiny (see `fsar backbones`)")
    parser.add_argument("--frames", type=int, help="frames per video, T; default: a checkpoint's own, or 8")
    parser.add_argument("--sampling", help="tsn, trx, task-adapter, ...; default: a checkpoint's own, or tsn")
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


def run(options: Namespace) -> int:
    """Evaluate every method at every way and shot, and print the table."""
    from dataclasses import asdict

    from fsar.checkpoint import add_results
    from fsar.episodes import Episodes, EpisodeSampler
    from fsar.evaluate import evaluate
    from fsar.features import fill_bank
    from fsar.results import table

    entries = _in_both_modes(_entries(options))
    dataset = load_dataset(options.data, options.lists, options.class_names, options.skip_missing)
    if options.classes:
        dataset = dataset.only(options.classes)
    videos = dataset.split(options.split)
    if not options.manifest:
        for way in options.way:
            for shot in options.shot:  # before any work: every episode asked for can be drawn
                EpisodeSampler(dataset=videos, way=way, shot=shot, query=options.query)
    replayed = Episodes.load(options.manifest, videos) if options.manifest else None
    results = []
    for method in {id(entry.method): entry.method for entry in entries}.values():
        method.check_texts([videos.texts[label] for label in videos.classes])
    for method, folder, cache in entries:
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


class _Entry(NamedTuple):
    """What is evaluated: a method, the checkpoint it came from, and how its clips are taken."""

    method: "Method"
    folder: str | None
    cache: "FrameCache"


def _in_both_modes(entries: list[_Entry]) -> list[_Entry]:
    """Follow every method that has two modes by its other one: queries alone, or seeing each other."""
    modes = [(entry, mode) for entry in entries for mode in (entry.method, entry.method.other_mode())]
    return [entry._replace(method=mode) for entry, mode in modes if mode is not None]


def _entries(options: Namespace) -> list[_Entry]:
    """Untrained methods by name, then trained ones from their folders; checked before any work is done."""
    from fsar.backbones import load_backbone
    from fsar.frame_cache import FrameCache
    from fsar.methods import build_method, parse_method

    if options.save_manifest and (len(options.way) > 1 or len(options.shot) > 1):
        raise ValueError("--save-manifest writes one list of episodes; give one --way and one --shot")
    default = [] if options.checkpoint else ["protonet", "otam", "bi-mhm", "place-motion"]
    specs = [parse_method(spec) for spec in options.method or default]
    if options.backbone and not specs:
        raise ValueError("--backbone has no effect on checkpoints, which have their own; leave it out, or add --method")
    cache = FrameCache(frames=8 if options.frames is None else options.frames, sampling=options.sampling or "tsn")
    entries = []
    if specs:
        backbone = load_backbone(options.backbone or "tiny")
        entries = [_Entry(build_method(name, backbone, **chosen), None, cache) for name, chosen in specs]
    entries += [_trained(spec, options) for spec in options.checkpoint or ()]
    if options.bank and len({str(entry.method.banked().encoder()) for entry in entries}) > 1:
        raise ValueError("--bank holds the encodings of one encoder, and these methods have several; name methods "
                         "that share one (protonet, otam, bi-mhm, trx), or leave --bank out")  # fmt: skip
    return [entry._replace(method=_to_device(entry.method, options.device)) for entry in entries]


def _trained(spec: str, options: Namespace) -> _Entry:
    """A checkpoint, on the frames it was trained on."""
    from fsar.frame_cache import FrameCache

    method, folder = load_checkpoint(spec)
    clip = method.provenance.clip
    for name in ("frames", "sampling"):
        if (given := getattr(options, name)) not in (None, clip[name]):
            raise ValueError(f"{spec} was trained with --{name} {clip[name]}, not {given}; leave --{name} out")
    return _Entry(method, folder, FrameCache(frames=clip["frames"], sampling=clip["sampling"]))


def _to_device(method: "Method", name: str) -> "Method":
    import torch

    auto = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return method.to(torch.device(auto if name == "auto" else name))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}; expected auto, cpu or cuda") from error
