"""`fsar evaluate`."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.options import data_options, load_dataset, model_options

if TYPE_CHECKING:
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
    model_options(parser, "tiny")
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
    from fsar.frame_cache import FrameCache
    from fsar.results import table

    methods, folders = _in_both_modes(*_methods_to_evaluate(options))
    dataset = load_dataset(options.data, options.lists, options.class_names, options.skip_missing)
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


def _in_both_modes(methods: list["Method"], folders: list[str | None]) -> tuple[list["Method"], list[str | None]]:
    """Follow every method that has two modes by its other one: queries alone, or seeing each other."""
    pairs = [(mode, folder) for method, folder in zip(methods, folders, strict=True)
             for mode in (method, method.other_mode()) if mode is not None]  # fmt: skip
    return [mode for mode, _ in pairs], [folder for _, folder in pairs]


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
    if options.bank and len({str(method.banked().encoder()) for method in methods}) > 1:
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
