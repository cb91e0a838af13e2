"""`fsar train`, and what surrounds it: `push` and `recipes`."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.cli.options import data_options, load_dataset


def add_options(parser: ArgumentParser) -> None:
    """Ask which recipe, with which changes, on which videos."""
    parser.add_argument("--config", required=True, metavar="RECIPE", help="see `fsar recipes`, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; run again to go on after a kill")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="shot=5 lr.own=1e-4 options.alpha=0.5"
    )
    parser.add_argument("--hardware", help="1x8gb, 1x24gb or 4x24gb: memory and devices; the run stays the same")
    parser.add_argument("--devices", type=int, help="processes or GPUs on this machine")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--backbone", help="see `fsar backbones`")
    parser.add_argument("--protocol", choices=["clean", "paper"],
                        help="paper: select on the test classes, as the field does; every result says so")  # fmt: skip
    parser.add_argument("--resplit", type=int, metavar="SEED", help="deal the classes to train, val and test anew")
    parser.add_argument("--on-error", choices=["stop", "skip"],
                        help="at a video that cannot be read; skip reads all of them before training")  # fmt: skip
    data_options(parser, None)


def run(options: Namespace) -> int:
    """Train, or go on training."""
    from fsar.training.loop import train
    from fsar.training.recipes import load_recipe

    direct = ("devices", "seed", "backbone", "protocol", "resplit", "on_error", "data", "benchmark", "class_names")
    given = [f"{key}={json.dumps(str(v) if isinstance(v, Path) else v)}" for key in direct
             if (v := getattr(options, key)) is not None]  # fmt: skip
    if options.lists:
        given.append(f"lists={json.dumps([str(path) for path in options.lists])}")
    recipe = load_recipe(options.config, [*options.set, *given], options.hardware)
    if recipe.data is None:
        raise ValueError(f"recipe {options.config} leaves open where the videos are; add --data DIR "
                         f"(and --benchmark NAME or --lists ...)")  # fmt: skip
    lists = [Path(path) for path in recipe.lists]
    names = None if recipe.class_names is None else Path(recipe.class_names)
    train(recipe, load_dataset(recipe.data, lists, names, options.skip_missing, recipe.benchmark), options.out)
    where = f"--data {recipe.data}" + (f" --lists {' '.join(recipe.lists)}" if recipe.lists else "")
    where += f" --benchmark {recipe.benchmark}" if recipe.benchmark else ""
    print(f"wrote {options.out}; next: fsar evaluate --checkpoint {options.out} {where}")
    return 0


def push_options(parser: ArgumentParser) -> None:
    """Ask which checkpoint goes where."""
    parser.add_argument("folder", type=Path, help="a folder that `fsar train` wrote")
    parser.add_argument("repo", metavar="ORG/NAME")
    parser.add_argument("--private", action="store_true")


def push(options: Namespace) -> int:
    """Upload a checkpoint."""
    from fsar.training.checkpoint import push_to_hub

    print(push_to_hub(options.folder, options.repo, options.private))
    return 0


def recipes_options(parser: ArgumentParser) -> None:
    """Ask what to show of recipes."""
    parser.add_argument("--keys", action="store_true", help="explain every key: its default, type and meaning")


def recipes(options: Namespace) -> int:
    """List the recipes, or explain their keys."""
    from fsar.config import describe_settings, settings_of
    from fsar.training.recipes import Recipe, recipe_names

    print(describe_settings(settings_of(Recipe)) if options.keys else "\n".join(recipe_names()))
    return 0
