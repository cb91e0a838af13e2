"""`fsar train`, `fsar push` and `fsar recipes`."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.options import data_options, load_dataset

if TYPE_CHECKING:
    from fsar.training.recipes import Recipe


def add_options(parser: ArgumentParser) -> None:
    """Add the options: recipe, changes, videos."""
    add = parser.add_argument
    add("--config", required=True, metavar="RECIPE", help="see `fsar recipes`, or a YAML file")
    add("--out", type=Path, required=True, help="the run's folder; the same command resumes a killed run")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="shot=5 lr.own=1e-4, ...; see `fsar recipes --keys`")
    add("--hardware", help="1x8gb, 1x24gb or 4x24gb: memory and devices; the run stays the same")
    add("--devices", type=int, help="processes or GPUs on this machine")
    add("--seed", type=int, help="of everything random")
    add("--backbone", help="see `fsar backbones`")
    protocol = "paper: select on the test classes, as the field does; every result says so"
    add("--protocol", choices=["clean", "paper"], help=protocol)
    add("--resplit", type=int, metavar="SEED", help="split the classes into train, val and test at random")
    on_error = "at a video that cannot be read; skip reads all of them before training"
    add("--on-error", choices=["stop", "skip"], help=on_error)
    data_options(parser, None)


def run(options: Namespace) -> int:
    """Train, or resume."""
    from fsar.training.loop import train

    recipe = _recipe(options)
    if recipe.data is None:
        raise ValueError(
            f"recipe {options.config} does not say where the videos are; add --data DIR (and --benchmark NAME or "
            f"--lists ...)"
        )
    lists = [Path(path) for path in recipe.lists]
    names = None if recipe.class_names is None else Path(recipe.class_names)
    train(recipe, load_dataset(recipe.data, lists, names, options.skip_missing, recipe.benchmark), options.out)
    where = f"--data {recipe.data}" + (f" --lists {' '.join(recipe.lists)}" if recipe.lists else "")
    where += f" --benchmark {recipe.benchmark}" if recipe.benchmark else ""
    print(f"wrote {options.out}; next: fsar evaluate --checkpoint {options.out} {where}")
    return 0


def _recipe(options: Namespace) -> "Recipe":
    """Return the recipe with the changes of the command line."""
    from fsar.training.recipes import load_recipe

    direct = ("devices", "seed", "backbone", "protocol", "resplit", "on_error", "data", "benchmark", "class_names")
    given = {key: getattr(options, key) for key in direct} | {"lists": options.lists and list(map(str, options.lists))}
    changes = [f"{key}={json.dumps(value, default=str)}" for key, value in given.items() if value is not None]
    return load_recipe(options.config, [*options.set, *changes], options.hardware)


def push_options(parser: ArgumentParser) -> None:
    """Add the options: checkpoint, repository."""
    parser.add_argument("folder", type=Path, help="a folder that `fsar train` wrote")
    parser.add_argument("repo", metavar="ORG/NAME")
    parser.add_argument("--private", action="store_true")


def push(options: Namespace) -> int:
    """Upload a checkpoint."""
    from fsar.training.checkpoint import push_to_hub

    print(push_to_hub(options.folder, options.repo, options.private))
    return 0


def recipes_options(parser: ArgumentParser) -> None:
    """Add the option `--keys`."""
    parser.add_argument("--keys", action="store_true", help="explain every key: its default, type and meaning")


def recipes(options: Namespace) -> int:
    """List the recipes, or explain their keys."""
    from fsar.config import describe_settings, settings_of
    from fsar.training.recipes import Recipe, recipe_names

    print(describe_settings(settings_of(Recipe)) if options.keys else "\n".join(recipe_names()))
    return 0
