"""`fsar bank fill`, `convert`, `show`, `plan` and `delete`."""

import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.options import (
    data_options,
    device_option,
    load_checkpoint,
    load_dataset,
    own_option,
    part_of,
    share_options,
    show_examples,
)
from fsar.names import many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsar.bank.archive import Making
    from fsar.datasets import Video
    from fsar.datasets.shards import ShardedBank

EXIT_BROKEN = 1


def add_options(parser: ArgumentParser) -> None:
    """Add the verbs with their options."""
    verbs = parser.add_subparsers(dest="bank_verb", metavar="verb", required=True)
    fill = verbs.add_parser(
        "fill",
        help="encode videos into a bank of shards; again: only what is missing",
        description="Encode videos into a bank of shards, about a thousand videos in a file. The same command "
        "again does only what is missing. Exit code: 0 every video was read, 1 some are broken (their rows have the "
        "reason), 2 nothing was read, or wrong usage.",
        allow_abbrev=False,
    )
    _fill_options(fill)
    show_examples(
        fill,
        "fsar bank fill --bank archive --data my_actions/          # labelled videos, for `fsar evaluate --features`",
        "fsar bank fill --bank archive --videos recordings/ --windows 2 --hop 1     # moments of long videos",
        "fsar bank fill --bank archive --videos list.parquet --shard 3/8           # one of eight machines",
        "fsar bank fill --bank s3://bucket/archive --videos list.parquet --ray auto --actors 8 --gpus 1",
    )
    fill.set_defaults(work=_fill, old=None)
    convert = verbs.add_parser(
        "convert",
        help="make a bank of shards from one with a file per video",
        description="Make a bank of shards from one with a file per video, as `fsar evaluate --bank` leaves it. Give "
        "the same videos, method and backbone. A video that the old bank lacks is encoded.",
        allow_abbrev=False,
    )
    convert.add_argument("old", type=Path, metavar="OLD", help="folder with one file per video")
    _fill_options(convert)
    convert.set_defaults(work=_fill)
    show = verbs.add_parser("show", help="tell what a bank holds", allow_abbrev=False)
    show.add_argument("bank", metavar="BANK", help="folder or URL")
    show.set_defaults(work=_show)
    plan = verbs.add_parser(
        "plan",
        help="tell what a bank of so many clips takes, from rates measured on this machine",
        description="Measure decoding and encoding on generated clips (10 s, 340 x 256, H.264), and tell hours, "
        "machines, bytes and shards of a bank.",
        allow_abbrev=False,
    )
    plan.add_argument("--clips", type=int, required=True, metavar="N", help="such as 10_000_000")
    plan.add_argument("--fleet", type=int, default=8, metavar="N", help="machines like this one; default: 8")
    method_options(plan)
    plan.set_defaults(work=_plan)
    delete = verbs.add_parser("delete", help="remove videos from a bank", allow_abbrev=False)
    delete.add_argument("bank", type=Path, metavar="BANK", help="folder")
    delete.add_argument("ids", nargs="+", metavar="ID", help="as `fsar search` prints them")
    delete.set_defaults(work=_delete)


def _fill_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--bank", required=True, metavar="BANK", help="folder, or URL such as s3://bucket/archive")
    data_options(parser, features=False)
    words = "videos without labels: files, folders of any depth, or a list (.csv or .parquet) with a column `path`"
    add(
        "--videos", nargs="+", metavar="PATH", help=f"{words} of paths or URLs, and if you have them `id`, `label`, ..."
    )
    method_options(parser)
    add("--windows", type=float, metavar="SECONDS", help="cut videos into windows of this length, to find moments")
    add("--hop", type=float, metavar="SECONDS", help="from one window to the next; default: half of --windows")
    words = "cores: processes that decode and, on a CPU, copies of the model; default: all, with --ray 1 per actor"
    add("--workers", type=int, metavar="N", help=words)
    share_options(parser)
    add("--seconds", type=float, default=60.0, help="for decoding one video, which is then broken; default: 60")
    add("--dtype", choices=["float16", "float32"], default="float16", help="of the rows; default: float16")
    add("--videos-per-shard", type=int, default=1000, metavar="N", help="default: 1000")


def method_options(parser: ArgumentParser) -> None:
    """Add the options on what encodes.

    Args:
        parser: gets the options.
    """
    add = parser.add_argument
    add("--method", metavar="NAME[:OPTION=VALUE,...]", help="what encodes; default: place-motion")
    add("--backbone", help="default: lite0 (see `fsar backbones`)")
    add("--checkpoint", metavar="DIR[:OPTION=VALUE,...]", help="a trained method; replaces --method and --backbone")
    own_option(parser)
    device_option(parser)
    add("--precision", choices=["float32", "tf32", "bf16"], default="float32", help="tf32, bf16: faster on new GPUs")
    add("--frames", type=int, help="frames per video; default: a checkpoint's own, or 8")
    add("--sampling", help="how frames are chosen; default: a checkpoint's own, or tsn")


def run(options: Namespace) -> int:
    """Run the verb."""
    return options.work(options)


def making(options: Namespace) -> "Making":
    """Build what makes the rows, from the options of `fsar bank fill`.

    Args:
        options: of the command line.
    """
    from fsar.backbones import load_backbone
    from fsar.bank.archive import Making
    from fsar.cli.options import frame_cache
    from fsar.devices import to_device
    from fsar.methods import build_method, parse_method
    from fsar.video.frame_cache import FrameCache

    if options.checkpoint:
        if options.method or options.backbone:
            raise ValueError("--checkpoint has its own method and backbone; leave --method and --backbone out")
        method, _ = load_checkpoint(options.checkpoint)
        cache = FrameCache.of_clip(method.provenance.clip)
    else:
        name, chosen = parse_method(options.method or "place-motion")
        method, cache = build_method(name, load_backbone(options.backbone or "lite0"), **chosen), frame_cache(options)
    return Making(
        method=to_device(method, options.device),
        cache=cache,
        precision=options.precision,
        dtype=getattr(options, "dtype", "float16"),
        workers=getattr(options, "workers", None),
        seconds=getattr(options, "seconds", 60.0),
        old=getattr(options, "old", None),
    )


def _fill(options: Namespace) -> int:
    from fsar.bank.archive import counted, fill
    from fsar.bank.cluster import Actors, fill_on_ray
    from fsar.datasets.shards import ShardedBank

    if options.videos_per_shard < 1 or not options.seconds > 0:
        raise ValueError("--videos-per-shard and --seconds must be above 0")
    part_of(0, options.shard)
    maker = making(options)
    videos, splits = _listed(options, maker)
    bank = ShardedBank.create(options.bank, maker.header(options.videos_per_shard))
    new = bank.add(videos, splits)
    numbers = part_of(bank.shards, options.shard)
    missing = len({*bank.missing()} & {*numbers})
    print(f"fsar: {many(new, 'new video')}; {missing} of {many(len(numbers), 'shard')} missing", file=sys.stderr)
    if options.ray is None:
        fill(bank, maker, numbers)
    else:
        actors = Actors(options.actors, options.workers or 1, options.gpus, options.ray or None)
        fill_on_ray(bank, partial(making, options), numbers, actors)
    found = counted(bank, numbers)
    print(f"{bank.place}: {many(found.read, 'video')} in {many(len(numbers), 'shard')}, {found.broken} broken")
    _tell_broken(bank, numbers)
    if numbers and not found.read:
        raise ValueError(f"not one of {found.broken} videos could be read; the index of {bank.place} has the reasons")
    return EXIT_BROKEN if found.broken else 0


def _tell_broken(bank: "ShardedBank", numbers: "Sequence[int]", most: int = 10) -> None:
    from fsar.datasets.shards import DELETED

    errors = [row for row in bank.index(numbers).to_pylist() if row["error"] not in (None, DELETED)]
    for row in errors[:most]:
        print(f"fsar: left out {row['id']}: {row['error']}", file=sys.stderr)
    if len(errors) > most:
        print(f"fsar: ... and {len(errors) - most} more; the index has them all", file=sys.stderr)


def _listed(options: Namespace, maker: "Making") -> "tuple[Sequence[Video], dict[str, str]]":
    """The videos that the options name, and the split of each class."""
    from fsar.bank.archive import windows
    from fsar.bank.listing import videos_at

    if options.videos and (options.data or options.benchmark or options.lists):
        raise ValueError("--videos and --data both name videos; give one of them")
    splits: dict[str, str] = {}
    if options.videos:
        videos: Sequence[Video] = videos_at(options.videos)
    else:
        dataset = load_dataset(
            options.data, options.lists, options.class_names, options.skip_missing, options.benchmark
        )
        videos, splits = dataset.videos, dict(dataset.splits)
    if options.windows is not None:
        hop = options.windows / 2 if options.hop is None else options.hop
        videos = [*windows(videos, options.windows, hop, maker.cache, options.workers, options.seconds)]
    elif options.hop is not None:
        raise ValueError("--hop belongs to --windows; add it, or leave --hop out")
    return videos, splits


def _show(options: Namespace) -> int:
    from fsar.bank.archive import counted
    from fsar.datasets.shards import ShardedBank

    bank = ShardedBank(options.bank)
    found, made = counted(bank), bank.header["made_by"]
    missing = len(bank.missing())
    print(f"{bank.place}: {made['method']} on {made['backbone']}")
    print(
        f"{many(found.read, 'video')}, {found.broken} broken, {found.deleted} deleted; "
        f"{many(bank.shards, 'shard')}, {missing} missing"
    )
    for name, spec in bank.header["tensors"].items():
        print(f"{name}: {spec['dtype']} [{', '.join(map(str, spec['shape']))}] per video")
    return 0


def _plan(options: Namespace) -> int:
    from fsar.bank.plan import plan

    if options.clips < 1 or options.fleet < 1:
        raise ValueError("--clips and --fleet must be 1 or more")
    print(plan(making(options), options.clips).text(options.fleet))
    return 0


def _delete(options: Namespace) -> int:
    from fsar.datasets.shards import ShardedBank

    gone = ShardedBank(options.bank).delete(options.ids)
    print(f"{options.bank}: {many(len(gone), 'video')} deleted")
    return 0
