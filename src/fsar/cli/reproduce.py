"""`fsar reproduce`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_options(parser: ArgumentParser) -> None:
    """Add the options: method, benchmark, videos, folder, and changes of the recipe."""
    parser.add_argument("method", help="see `fsar methods`")
    parser.add_argument("benchmark", help="with its version, as in `fsar splits list`; or world")
    parser.add_argument("--root", type=Path, help="folder of the dataset's videos, at any depth; not for world")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; after a kill, run the same command to resume"
    )
    shots = "one training for each number of shots, as the recipe says for it; default: 1 5"
    parser.add_argument("--shot", nargs="+", type=int, default=[1, 5], help=shots)
    parser.add_argument("--seed", nargs="+", type=int, default=[0], help="one training per seed; default: 0")
    parser.add_argument("--way", type=int, default=5, help="classes per test episode; default: 5")
    parser.add_argument("--query", type=int, help="queries per class in the test; default: the recipe's test_query")
    parser.add_argument("--episodes", type=int, default=10_000, help="test episodes; default: 10000")
    parser.add_argument("--backbone", help="instead of the recipe's")
    parser.add_argument(
        "--hardware", help="1x8gb, 1x24gb, 4x24gb, 8x24gb or 8x80gb: memory and devices; results do not change"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the recipe")
    parser.add_argument(
        "--protocol",
        choices=["clean", "paper"],
        help="paper: select on the test classes, as most public codes do; every result says so",
    )
    parser.add_argument("--resplit", type=int, metavar="SEED", help="split the classes again, at random")
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="first write copies of short side 256 to DIR")
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="continue without missing or broken videos; every result says how many",
    )


def run(options: Namespace) -> int:
    """Check the videos, train, test, and print the table."""
    from fsar.cli.train import warn_of_selection
    from fsar.reproduce import Plan, recipes_of, reproduce
    from fsar.results.tables import tables
    from fsar.results.typeset import render
    from fsar.training.setup import is_first_process

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
    for recipe in recipes_of(plan)[:1]:
        warn_of_selection(recipe)
    results = reproduce(plan)
    if not is_first_process():
        return 0
    print(render(tables(results), "markdown"))
    print(f"\nwrote {options.out / 'report.html'}: these numbers beside the papers', and what differs")
    return 0
