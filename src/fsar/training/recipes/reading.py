"""Read recipes: packaged ones, files of yours, `key=value` overrides."""

import copy
import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fsar.config import as_yaml, parse_settings, read_yaml
from fsar.names import nearest, unknown
from fsar.own import is_own, name_files
from fsar.training.recipes.recipe import Recipe

HARDWARE: dict[str, dict[str, Any]] = {
    "1x8gb": {"devices": 1, "precision": "16-mixed", "checkpoint_activations": True},
    "1x24gb": {"devices": 1, "precision": "16-mixed"},
    "4x24gb": {"devices": 4, "precision": "16-mixed"},
    "8x24gb": {"devices": 8, "precision": "16-mixed"},
    "8x80gb": {"devices": 8, "precision": "bf16"},
}
"""Presets. None changes the number of episodes per step, so results only differ by rounding."""


def parse_recipe(settings: Mapping[str, Any]) -> Recipe:
    """Check settings against the fields of `Recipe`.

    Args:
        settings: by key, as YAML gives them.

    Raises:
        ValueError: an unknown key (the message names the nearest), or a value that does not fit.

    Example:
        >>> parse_recipe({"method": "trx", "lr": {"own": "1e-3"}}).lr  # YAML reads 1e-3 as text
        {'own': 0.001}
        >>> parse_recipe({"metod": "trx"})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: unknown recipe key 'metod'; did you mean 'method'? expected one of: method, options, ...
    """
    defaults = {item.name: item.default for item in fields(Recipe)}
    for key, value in settings.items():
        if key not in defaults:
            _refuse_option(settings.get("method"), key, value)
        if value is None and defaults.get(key) is not None:
            raise ValueError(f"recipe: {key} has no value; give one, or leave the key out")
    given = copy.deepcopy(dict(settings))  # parsing changes what it is given
    recipe = parse_settings(Recipe, given, "recipe", "recipe key")
    return replace(recipe, options=_texts_kept(recipe.options, settings))


def _refuse_option(method: Any, key: str, value: Any) -> None:
    """Say where an option of the method belongs."""
    from fsar.methods import METHODS, method_class  # takes a second

    if method in METHODS and key in {item.name for item in fields(method_class(method).Config)}:
        raise ValueError(
            f"{key} is an option of {method}, not a key of the recipe; give options.{key}={as_yaml(value)}"
        )


def _texts_kept(options: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Restore the text of options that YAML changed, except numbers: "{}" is a template, "off" a name."""
    given = {key: settings["options"][key] for key in options}
    misread = {
        key: value
        for key, value in options.items()
        if isinstance(given[key], str) and (value is None or isinstance(value, bool | dict | list))
    }
    return {**options, **{key: given[key] for key in misread}}


def load_recipe(
    name: str, overrides: Iterable[str] = (), hardware: str | None = None, shot: int | None = None
) -> Recipe:
    """Read a recipe by packaged name (`ma-fsar/world`) or path, then apply `key=value` overrides.

    Args:
        name: of a recipe; `recipes/ma-fsar/world.yaml` also finds the packaged one. A file of that name comes first.
        overrides: `shot=5`, `lr.own=1e-4`, `options.alpha=0.25`; values are read as YAML.
        hardware: a name in `HARDWARE`, applied before the overrides.
        shot: labelled videos per class in the test to train for: as many in training, or what `for_shot` says. It is
            applied before the overrides. Validation has as many as the test.

    Returns:
        The recipe, without options of its file that an override leaves without effect.

    Raises:
        ValueError: no such recipe, preset or key, or a value that does not fit.

    Example:
        >>> recipe = load_recipe("trx/world", ["shot=1", "lr.own=1e-4"])
        >>> recipe.shot, recipe.lr["own"]
        (1, 0.0001)
        >>> recipe = load_recipe("clip-fsar/hmdb51", shot=5)  # trained on 1-shot episodes, as the public code does
        >>> recipe.shot, recipe.validation_shot
        (1, 5)
    """
    settings, overrides = _read(name), tuple(overrides)
    if shot is not None:
        settings |= {"shot": shot} | dict((settings.get("for_shot") or {}).get(shot, {}))
    if hardware is not None:
        if hardware not in HARDWARE:
            raise ValueError(unknown(hardware, HARDWARE, "hardware preset"))
        settings |= HARDWARE[hardware]
    chosen: set[str] = set()
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ValueError(f"cannot read {override!r}; expected key=value, as in shot=5 or lr.own=1e-4")
        try:
            read = read_yaml(value)
        except yaml.YAMLError as error:
            raise ValueError(f"cannot read the value in {override!r} as YAML; quote it, as in key='[1, 2]'") from error
        _set(settings, key.split("."), read)
        if key in ("method", "backbone") and is_own(str(read)):
            name_files([str(read)])  # it stands in the user's own command
        if key == "options" and isinstance(read, dict):
            chosen |= set(read)
        elif key.startswith("options."):
            chosen.add(key.removeprefix("options."))
    fixed = any(override.startswith("shot=") for override in overrides)
    if shot is not None and (fixed or settings["shot"] != shot) and settings.get("val_shot") is None:
        settings["val_shot"] = shot
    recipe = parse_recipe(settings)
    if recipe.from_bank and recipe.crop and any(override.startswith("crop=") for override in overrides):
        raise ValueError("crop=true has no effect with from_bank, whose encodings are of centre crops; leave one out")
    return replace(recipe, options=_effective_options(recipe, chosen)) if chosen else recipe


def _effective_options(recipe: Recipe, chosen: Collection[str]) -> dict[str, Any]:
    """Leave out options of the file that have no effect beside the overrides; they would be refused."""
    from fsar.methods import effective_options  # takes a second

    try:
        return effective_options(recipe.method, recipe.options, keep=chosen)
    except ValueError:  # building the method raises the error
        return recipe.options


def recipe_names() -> list[str]:
    """List the packaged recipes, as `method/benchmark`.

    >>> "trx/world" in recipe_names()
    True
    """
    folders = [entry for entry in _PACKAGED.iterdir() if entry.is_dir()]
    files = [(folder.name, file.name) for folder in folders for file in folder.iterdir()]
    return sorted(f"{method}/{file.removesuffix('.yaml')}" for method, file in files if file.endswith(".yaml"))


_PACKAGED = resources.files("fsar.training") / "recipes"


def recipe_text(name: str) -> str:
    """Read the file of a recipe as it is, with its comments.

    Args:
        name: as `load_recipe` takes it.

    Raises:
        ValueError: no such recipe.

    Example:
        >>> print(recipe_text("trx/world").splitlines()[1])
        method: trx
    """
    path = Path(name)
    packaged = name.removeprefix("recipes/").removesuffix(".yaml")
    if path.is_file():
        return path.read_text(encoding="utf-8")
    if packaged in recipe_names():
        return (_PACKAGED / f"{packaged}.yaml").read_text(encoding="utf-8")
    _require_recipes(packaged.partition("/")[0])
    near = _similar_recipes(packaged)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"no recipe {name!r}: neither a file nor a packaged one{hint}; `fsar recipes` lists them")


def _read(name: str) -> dict[str, Any]:
    try:
        settings = read_yaml(recipe_text(name))
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{name}: expected `key: value` lines, got {type(settings).__name__}")
    return {str(key): value for key, value in settings.items()}


def _similar_recipes(name: str) -> list[str]:
    """Recipes of the method that was meant, for similar data first; none if no method has a similar name."""
    method, _, data = name.partition("/")
    known = recipe_names()
    meant = nearest(method, list(dict.fromkeys(recipe.partition("/")[0] for recipe in known)))
    of_method = [recipe for recipe in known if recipe.startswith(f"{meant}/")]
    similar = difflib.get_close_matches(f"{meant}/{data}", of_method, 3)
    return similar or of_method


def _require_recipes(method: str) -> None:
    """Say so if a method is there, and no recipe for it."""
    from fsar.methods import METHODS  # takes seconds

    if method in METHODS and not any(name.startswith(f"{method}/") for name in recipe_names()):
        raise ValueError(
            f"{method} has no recipe, since it is used as it is: fsar evaluate --method {method}. To train an encoder "
            f"for it, give a recipe of your own as a YAML file"
        )


def _set(settings: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        settings = settings.setdefault(key, {})
        if not isinstance(settings, dict):
            raise ValueError(f"cannot set {'.'.join(keys)}: {key} is not a group of keys")
    settings[keys[-1]] = value
