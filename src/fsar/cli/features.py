"""`fsar features`."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.cli.options import data_options, devices_option, frame_cache, load_checkpoint, load_dataset, own_option
from fsar.names import many


def add_options(parser: ArgumentParser) -> None:
    """Add the options: model, videos, file."""
    data_options(parser)
    own_option(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="npz, parquet or safetensors")
    add("--backbone", help="its frame features; also that of --method; default: tiny (see `fsar backbones`)")
    add("--method", metavar="NAME[:OPTION=VALUE,...]", help="what an untrained method makes of each video")
    add("--checkpoint", metavar="DIR[:OPTION=VALUE,...]", help="what a trained method makes of each video")
    add("--part", help="which of the method's tensors becomes `features`; default: frames")
    add("--half", action="store_true", help="write float16")
    add("--split", default="all", help="train, val, test or all")
    devices_option(parser)
    add("--frames", type=int, help="frames per video, T; default: a checkpoint's or video backbone's own, or 8")
    add("--sampling", help="tsn, trx, task-adapter, ...; default: a checkpoint's own, or tsn")
    add("--on-error", choices=["stop", "skip"], default="stop", help="at a video that cannot be read")


def run(options: Namespace) -> int:
    """Encode every video, and write the file."""
    from fsar.backbones import load_backbone
    from fsar.bank.export import export_features
    from fsar.bank.fill import fill_bank
    from fsar.devices import to_device
    from fsar.methods import build_method, parse_method
    from fsar.video.frame_cache import FrameCache

    if options.checkpoint and (options.method or options.backbone):
        raise ValueError("--checkpoint has its own method and backbone; leave --method and --backbone out")
    dataset = load_dataset(
        options.data,
        options.lists,
        options.class_names,
        options.skip_missing,
        options.benchmark,
        features=options.features,
    )
    given = dataset.videos[0].features if dataset.videos else None
    if options.checkpoint:
        method, _ = load_checkpoint(options.checkpoint)
        cache = FrameCache.of_clip(method.provenance.clip)
    else:
        name, chosen = parse_method(options.method or "protonet")
        usual = "tiny" if given is None else f"features/{given.shape[-1]}"
        backbone = load_backbone(options.backbone or usual)
        method, cache = build_method(name, backbone, **chosen), frame_cache(options, backbone)
    method = to_device(method, options.device)
    videos = dataset.split(options.split)
    method.check_texts(list(videos.texts.values()))
    bank = fill_bank(
        method, videos.videos, videos.texts, cache=cache, devices=options.devices, on_error=options.on_error
    )
    for video_id, reason in bank.skipped.items():
        print(f"fsar: left out {video_id}: {reason}", file=sys.stderr)
    written = export_features(method, videos, bank, options.out, options.part, options.half)
    print(f"wrote {options.out}: {many(len(bank.video_ids), 'video')}, {', '.join(written)}")
    return 0
