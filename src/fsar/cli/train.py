"""`fsar train`, `fsar push` and `fsar recipes`."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.options import data_options, load_dataset, own_option

if TYPE_CHECKING:
    from fsar.datasets import VideoDataset
    from fsar.training.recipes import Recipe


def add_options(parser: ArgumentParser) -> None:
    """Add the options: recipe, changes, videos."""
    add = parser.add_argument
    add("--config", required=True, metavar="RECIPE", help="see `fsar recipes`, or a YAML file")
    add("--out", type=Path, required=True, help="the run's folder; the same command resumes a killed run")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="shot=5 lr.own=1e-4, ...; see `fsar recipes --keys`",
    )
    shots = "train for a test with so many examples per class: with as many, or as the recipe's for_shot says"
    add("--shot", type=int, help=shots)
    add("--hardware", help="1x8gb, 1x24gb, 4x24gb, 8x24gb or 8x80gb: memory and devices; the run stays the same")
    add("--devices", type=int, help="processes or GPUs on this machine")
    add("--seed", nargs="+", type=int, help="of everything random; several train one run each, in folders below --out")
    sweep = "train with each of these values, in folders below --out; several keys give all combinations"
    add("--sweep", nargs="+", default=[], metavar="KEY=VALUE,...", help=sweep)
    add("--backbone", help="see `fsar backbones`")
    protocol = "paper: select on the test classes, as most public codes do; every result says so"
    add("--protocol", choices=["clean", "paper"], help=protocol)
    add("--resplit", type=int, metavar="SEED", help="split the classes into train, val and test at random")
    on_error = "at a video that cannot be read; skip reads all of them before training"
    add("--on-error", choices=["stop", "skip"], help=on_error)
    data_options(parser)
    own_option(parser)


def run(options: Namespace) -> int:
    """Train, or resume."""
    from fsar.training.loop import train
    from fsar.training.setup import is_first_process

    if options.sweep or len(options.seed or ()) > 1:
        return _grid(options)
    recipe = _recipe(options, [f"seed={seed}" for seed in options.seed or ()])
    warn_of_selection(recipe)
    train(recipe, _videos(recipe, options), options.out)
    if not is_first_process():
        return 0
    where = _where(recipe, options.skip_missing)
    print(f"wrote {options.out}; next: fsar evaluate --checkpoint {options.out} {where}")
    return 0


def _where(recipe: "Recipe", skip_missing: bool) -> str:
    """Options of `fsar evaluate` for the videos of a run."""
    if recipe.features is not None:
        return f"--features {recipe.features}"
    parts = [f"--data {recipe.data}"]
    parts += [f"--lists {' '.join(recipe.lists)}"] if recipe.lists else []
    parts += [f"--class-names {recipe.class_names}"] if recipe.class_names else []
    parts += [f"--benchmark {recipe.benchmark}"] if recipe.benchmark else []
    parts += ["--skip-missing"] if skip_missing else []
    return " ".join(parts)


def _grid(options: Namespace) -> int:
    """Train every combination of swept values and seeds, and print what validation says."""
    from fsar.training.grid import cells, refuse_run_folder, run_grid
    from fsar.training.loop import train
    from fsar.training.setup import is_first_process

    refuse_run_folder(options.out)
    grid = cells(options.sweep, options.seed or ())
    datasets: dict[tuple[object, ...], VideoDataset] = {}

    def train_one(recipe: "Recipe", folder: Path) -> None:
        place = (recipe.data, recipe.features, recipe.benchmark, recipe.lists, recipe.class_names)
        if place not in datasets:
            datasets[place] = _videos(recipe, options)
        print(f"fsar: {folder.name}", file=sys.stderr)
        train(recipe, datasets[place], folder)

    text = run_grid(grid, lambda cell: _recipe(options, cell.overrides), train_one, options.out)
    if not is_first_process():
        return 0
    print(text)
    print(f"wrote {len(grid)} runs to {options.out}; next: fsar evaluate --checkpoint {options.out} --data ...")
    return 0


def _videos(recipe: "Recipe", options: Namespace) -> "VideoDataset":
    """The videos, or features, that the recipe names."""
    if recipe.data is None and recipe.features is None:
        raise ValueError(
            f"recipe {options.config} does not say where the videos are; add --data DIR (and --benchmark NAME or "
            f"--lists ...), or --features FILE"
        )
    if recipe.features is not None:
        return load_dataset(None, features=Path(recipe.features))
    lists = [Path(path) for path in recipe.lists]
    names = None if recipe.class_names is None else Path(recipe.class_names)
    return load_dataset(recipe.data, lists, names, options.skip_missing, recipe.benchmark)


def _recipe(options: Namespace, more: Sequence[str] = ()) -> "Recipe":
    """Return the recipe with the changes of the command line."""
    from fsar.training.recipes import load_recipe

    direct = ("devices", "backbone", "protocol", "resplit", "on_error", "data", "benchmark", "class_names",
              "features")  # fmt: skip
    given = {key: getattr(options, key) for key in direct} | {"lists": options.lists and list(map(str, options.lists))}
    changes = [f"{key}={json.dumps(value, default=str)}" for key, value in given.items() if value is not None]
    return load_recipe(options.config, [*options.set, *changes, *more], options.hardware, options.shot)


def warn_of_selection(recipe: "Recipe") -> None:
    """Say on standard error if `protocol: paper` selects where the public code of the method keeps its last state."""
    from fsar.papers.origins import origins

    origin = origins().get(recipe.method)
    if recipe.protocol == "paper" and origin is not None and origin.keeps == "last":
        print(
            f"fsar: protocol=paper keeps the best state on the test classes. The published numbers of {recipe.method} "
            f"are less optimistic: {origin.selection}. val_every=0 without protocol=paper does the same",
            file=sys.stderr,
        )


def push_options(parser: ArgumentParser) -> None:
    """Add the options: checkpoint, repository."""
    parser.add_argument("folder", type=Path, help="a folder that `fsar train` wrote")
    parser.add_argument("repo", metavar="ORG/NAME")
    parser.add_argument("--private", action="store_true")
    parser.add_argument("--license", help="of the weights, as the hub calls it: apache-2.0, cc-by-nc-4.0, ...")
    parser.add_argument("--dry-run", action="store_true", help="upload nothing, and print the card")


def push(options: Namespace) -> int:
    """Upload a checkpoint."""
    from fsar.training.checkpoint import push_to_hub

    done = push_to_hub(options.folder, options.repo, options.private, license=options.license, dry_run=options.dry_run)
    print(done)
    if options.dry_run:
        print(
            f"nothing was uploaded; without --dry-run, fsar.json, model.safetensors and this card go to {options.repo}"
        )
    return 0


def recipes_options(parser: ArgumentParser) -> None:
    """Add the name of a recipe, and `--keys`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this recipe and its comments")
    parser.add_argument("--keys", action="store_true", help="explain every key: its default, type and meaning")


def recipes(options: Namespace) -> int:
    """List the recipes, print one of them, or explain their keys."""
    from fsar.config import describe_settings, settings_of
    from fsar.training.recipes import Recipe, recipe_names, recipe_text

    if options.keys and options.name:
        raise ValueError(f"--keys explains the keys of all recipes, not of {options.name}; leave one of them out")
    if options.name:
        print(recipe_text(options.name).rstrip())
    else:
        print(describe_settings(settings_of(Recipe)) if options.keys else "\n".join(recipe_names()))
    return 0
