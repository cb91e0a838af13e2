"""`fsar search`."""

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from fsar.cli.options import device_option, load_checkpoint, own_option, show_examples

if TYPE_CHECKING:
    from fsar.bank.archive import Making
    from fsar.bank.search import Answer
    from fsar.datasets.shards import ShardedBank


def add_options(parser: ArgumentParser) -> None:
    """Add the options: examples, bank, feedback, form of the answer."""
    add = parser.add_argument
    add("--examples", nargs="+", required=True, metavar="PATH", help="clips of the action, or folders of them")
    add("--bank", required=True, metavar="BANK", help="a bank that `fsar bank fill` wrote")
    add("--yes", nargs="+", default=[], metavar="ID", help="found before, and wanted: examples, too")
    add("--no", nargs="+", default=[], metavar="ID", help="found before, and not wanted")
    add("--top", type=int, default=20, metavar="N", help="how many to print; default: 20")
    words = "rows that the method ranks, of those with the most similar vector; default: 500"
    add("--shortlist", type=int, default=500, metavar="N", help=words)
    add("--exact", action="store_true", help="let the method rank all rows, to measure the recall of the shortlist")
    add("--index", action="store_true", help="make the shortlist by an index (USearch), which is kept beside the bank")
    add("--checkpoint", metavar="DIR[:OPTION=VALUE,...]", help="the trained method that filled the bank")
    own_option(parser)
    device_option(parser)
    add("--format", choices=["table", "csv", "json"], default="table", help="default: table")
    show_examples(
        parser,
        "fsar search --examples wave/ --bank archive",
        "fsar search --examples wave/ --bank archive --yes day1.mp4@12-14 --no day2.mp4@3-5",
    )


def run(options: Namespace) -> int:
    """Search, and print what was found."""
    from fsar.bank.archive import encoded
    from fsar.bank.listing import videos_at
    from fsar.bank.nearest import NearestIndex
    from fsar.bank.search import Search
    from fsar.datasets.shards import ShardedBank

    bank = ShardedBank(options.bank)
    videos = videos_at(options.examples)
    maker = _maker(bank, options)
    search = Search(bank, maker.method, NearestIndex(bank) if options.index else None)
    answer = search(
        encoded(maker, videos),
        yes=options.yes,
        no=options.no,
        top=options.top,
        shortlist=options.shortlist,
        exact=options.exact,
    )
    _print(answer, options.format)
    ranked = "all" if answer.of == len(search) else f"the first {answer.of}"
    print(
        f"fsar: {len(search)} rows; recall of the shortlist at {answer.at}: {answer.recall:.2f} "
        f"(against {ranked} rows, ranked exactly)",
        file=sys.stderr,
    )
    return 0


def _maker(bank: "ShardedBank", options: Namespace) -> "Making":
    """Build what filled the bank."""
    from fsar.backbones import load_backbone
    from fsar.bank.archive import Making
    from fsar.devices import to_device
    from fsar.methods import build_method
    from fsar.video.frame_cache import FrameCache

    made = bank.header["made_by"]
    if options.checkpoint:
        method, _ = load_checkpoint(options.checkpoint)
    elif made["trained"]:
        raise ValueError(f"{bank.place} was filled by a trained method; give it as --checkpoint")
    else:
        method = build_method(made["method"], load_backbone(made["backbone"]), **made["options"])
    maker = Making(method=to_device(method, options.device), cache=FrameCache.of_clip(bank.header["encoder"]["clip"]))
    here, there = maker.key(), bank.header["encoder"]
    rounding = {"batch", "layout", "precision"}  # of another device: the last digits
    differing = [name for name in sorted({*here, *there} - rounding) if here.get(name) != there.get(name)]
    if differing:
        raise ValueError(
            f"{bank.place} was filled by another encoder: {', '.join(differing)} differ here; use the weights and the "
            f"version that filled it"
        )
    return maker


def _print(answer: "Answer", form: str) -> None:
    rows = [{"rank": i, **one._asdict(), "score": round(one.score, 4)} for i, one in enumerate(answer.found, 1)]
    if form == "json":
        print(json.dumps(rows, indent=1))
    elif form == "csv":
        import csv

        writer = csv.DictWriter(sys.stdout, ["rank", *answer.found[0]._fields] if rows else ["rank"])
        writer.writeheader()
        writer.writerows(rows)
    else:
        width = max((len(one.id) for one in answer.found), default=2)
        print(f"rank  score    {'id':{width}}  label")
        for row in rows:
            print(f"{row['rank']:4}  {row['score']:7.4f}  {row['id']:{width}}  {row['label']}".rstrip())
