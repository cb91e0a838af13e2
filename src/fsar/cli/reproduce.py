"""`fsar reproduce`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_options(parser: ArgumentParser) -> None:
    """Ask what to reproduce, where the videos are, and where everything goes."""
    parser.add_argument("method", help="see `fsar methods`")
    parser.add_argument("benchmark", help="with its version; see `fsar splits list`")
    parser.add_argument("--root", type=Path, required=True, help="folder that the dataset's videos lie below")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs; run again to go on after a kill")
    parser.add_argument("--shot", nargs="+", type=int, default=[1, 5], help="a training for each; default: 1 5")
    parser.add_argument("--seed", nargs="+", type=int, default=[0], help="a training for each")
    parser.add_argument("--way", type=int, default=5, help="in the test")
    parser.add_argument("--query", type=int, default=1, help="queries per class in the test")
    parser.add_argument("--episodes", type=int, default=10_000, help="in the test")
    parser.add_argument("--backbone", help="instead of the recipe's")
    parser.add_argument("--hardware", help="1x8gb, 1x24gb or 4x24gb: memory and devices; the run stays the same")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the recipe")
    parser.add_argument("--protocol", choices=["clean", "paper"],
                        help="paper: select on the test classes, as the field does; every result says so")  # fmt: skip
    parser.add_argument("--resplit", type=int, metavar="SEED", help="deal the classes to train, val and test anew")
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="first write copies of short side 256 there")
    parser.add_argument("--skip-missing", action="store_true",
                        help="go on without videos that are missing or broken; every result says how many")  # fmt: skip


def run(options: Namespace) -> int:
    """Go the whole way, and print the table."""
    from fsar.reproduce import Plan, reproduce
    from fsar.results.tables import tables
    from fsar.results.typeset import render

    changes = [*options.set]
    changes += [f"{key}={value}" for key in ("protocol", "resplit") if (value := getattr(options, key)) is not None]
    plan = Plan(
        method=options.method,
        benchmark=options.benchmark,
        root=options.root,
        folder=options.out,
        shots=tuple(options.shot),
        seeds=tuple(options.seed),
        way=options.way,
        query=options.query,
        episodes=options.episodes,
        backbone=options.backbone,
        changes=tuple(changes),
        hardware=options.hardware,
        prepared=options.prepare,
        skip_missing=options.skip_missing,
    )
    print(render(tables(reproduce(plan)), "markdown"))
    print(f"\nwrote {options.out / 'report.html'}: these beside the papers' numbers, and what lies between them")
    return 0
