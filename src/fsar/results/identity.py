"""Which results belong together: in one file, one row, one table, one comparison.

| results with equal | belong in one | function |
|---|---|---|
| settings, seeds and episodes | file | `file_name` |
| method, options, weights or recipe, clips | row, in which seeds are averaged | `recipe_key`, `row_keys` |
| videos, split, protocol, number of episodes and queries | table | `comparable` |
| videos, episodes, way, shot and mode | comparison of two runs | `setting_key` |
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fsar.results.result import Result, Stored, short_hash

WITHOUT_EFFECT = ("devices", "nodes", "workers", "checkpoint_activations")
"""Keys of a recipe that change numbers only by rounding."""
OF_THE_TEST = ("for_shot", "test_query")
"""Keys of a recipe that say how to test it, or how to train for another test."""
_SEEDS = ("seed", "resplit")
PLACES = ("data", "features", "lists", "class_names")
"""Keys of a recipe that say where the videos lie; their hash says which they are."""
_NOT_IN_A_ROW = (*_SEEDS, *WITHOUT_EFFECT, *OF_THE_TEST, *PLACES, "benchmark")


def recipe_key(result: Result) -> str:
    """Hash everything but the seeds: results with the same hash may be averaged."""
    trained = result.training
    if trained is None:
        origin: Any = result.weights
    else:  # the weights differ from seed to seed
        origin = [_recipe(trained), trained["dataset_fingerprint"] if result.resplit is None else None]
        if trained.get("files"):  # features made elsewhere: others of the same videos are other data
            origin.append(trained["files"])
        if is_unfinished(result):
            origin.append(result.trained_weights)
    precision = [] if result.precision == "float32" else [result.precision]  # so that older files keep their names
    own = [result.own] if result.own else []  # so that older rows keep their keys
    what = [result.method, result.options, result.transductive, result.backbone, result.clip, origin, *precision, *own]
    return short_hash(what, 8)


def is_unfinished(result: Result) -> bool:
    """Whether the checkpoint of an unfinished training run was evaluated."""
    return result.training is not None and result.training.get("unfinished_at") is not None


def seeds_of(result: Result) -> tuple[int | None, int | None, int | str]:
    """Return the seeds of training, of the split of the classes, and of the episodes (or the hash of a manifest)."""
    trained = None if result.training is None else result.training["recipe"].get("seed")
    return trained, result.resplit, result.episodes_fingerprint if result.seed is None else result.seed


def file_name(result: Result) -> str:
    """Return the name of a result's file: equal for equal settings, and different otherwise."""
    seed = None if result.training is None else result.training["recipe"].get("seed")
    data = (result.dataset, result.dataset_fingerprint, result.files, result.split, result.resplit, result.protocol)
    episodes = (
        *(result.way, result.shot, result.query, result.episodes, result.seed),
        result.episodes_fingerprint,
    )
    weights = [result.trained_weights] if result.trained_weights else []  # so that older files keep their names
    key = short_hash([recipe_key(result), seed, data, episodes, *weights], 5)
    method = f"{result.method}_transductive" if result.transductive else result.method
    return f"{method}_{result.split}_{result.way}way_{result.shot}shot_{key}.json"


def save_result(result: Result, folder: Path) -> Path:
    """Write a result into a folder; a result with the same settings is replaced.

    Returns:
        The file.
    """
    path = folder / file_name(result)
    result.save(path)
    return path


def unique(results: Sequence[Result]) -> list[Result]:
    """Keep each result once; if it is in two folders, keep the one with more fields."""
    chosen: dict[tuple[str, float], Result] = {}
    for result in results:
        key = (file_name(result), result.accuracy)
        if key not in chosen or result.right:
            chosen[key] = result
    return list(chosen.values())


# --------------------------------------------------------------------------- tables


def comparable(results: Sequence[Result]) -> list[list[Result]]:
    """Group results that may be in one table.

    They have equal videos, version of the benchmark, split, protocol, and numbers of episodes and queries. Random
    splits of the same classes are in one group.

    Args:
        results: any.

    Returns:
        Groups, in the order in which their first results came.
    """
    videos: dict[tuple[Any, ...], set[str]] = {}
    for result in results:
        videos.setdefault((*_table_key(result), result.resplit), set()).add(result.dataset_fingerprint)
    torn = {place[:-1] for place, found in videos.items() if len(found) > 1}
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        place = _table_key(result)
        own = () if result.resplit is not None and place not in torn else (result.dataset_fingerprint, result.files)
        groups.setdefault((*place, *own), []).append(result)
    return list(groups.values())


def said_protocol(result: Result) -> str:
    """The protocol in words; a method that was trained on evaluated classes breaks it."""
    seen = f"trained on {len(result.seen_classes)} of these classes" if result.seen_classes else ""
    return ", ".join(part for part in (result.protocol, seen) if part and (part != "clean" or not seen))


def setting_key(result: Result) -> tuple[Any, ...]:
    """Return videos, episodes and mode; two runs are compared if these are equal."""
    data = result.dataset_fingerprint if result.resplit is None else result.dataset
    return (data, result.split, result.episodes, result.query, result.way, result.shot, result.transductive)


def _table_key(result: Result) -> tuple[Any, ...]:
    """Describe what all results of a table share, besides the videos."""
    data = (result.dataset, result.split, result.resplit is None)
    return (*data, said_protocol(result), result.episodes, result.query)


# --------------------------------------------------------------------------- rows


def row_keys(results: Sequence[Result]) -> list[str]:
    """Return the row of each result; by default, results of one recipe share a row.

    If a recipe was trained once per shot, and each model was only tested at its own shot, all are one row. If one
    training seed has several weights (trained twice, or evaluated before the end of the run), each has its own row.
    """
    families: dict[str, list[Result]] = {}
    for result in results:
        families.setdefault(recipe_key(_of_k_shots(result)), []).append(result)
    joined = {
        key for key, group in families.items() if all(map(by_each_shot, group)) and len({r.shot for r in group}) > 1
    }
    weights: dict[tuple[Any, ...], set[str]] = {}
    for result in results:
        weights.setdefault(_training_key(result), set()).add(result.trained_weights)
    keys = []
    for result in results:
        family, own = recipe_key(_of_k_shots(result)), recipe_key(result)
        several = len(weights[_training_key(result)] - {""}) > 1  # older results have no hash
        keys.append((family if family in joined else own) + (f" {result.trained_weights}" if several else ""))
    return keys


def by_each_shot(result: Result) -> Result | None:
    """If trained for a test with so many shots, write 'K' for what depends on them, so that such runs share a row.

    Training shots are then as many as the recipe's `for_shot` says or, if it says nothing, as many as test shots.
    Otherwise None.
    """
    if result.training is None:
        return None
    recipe = result.training["recipe"]
    as_meant = recipe["shot"] == _for_shots(recipe).get(result.shot, {}).get("shot", result.shot)
    return _of_k_shots(result) if as_meant else None


def _for_shots(recipe: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """`Recipe.for_shot`, whose numbers JSON holds as text; an older version had none."""
    return {int(shot): changes for shot, changes in recipe.get("for_shot", {}).items()}


def row_names(results: Sequence[Result]) -> dict[str, str]:
    """Name every row; if two names are equal, add the difference."""
    firsts = dict(zip(reversed(row_keys(results)), reversed(results), strict=True))
    names = {}
    for key, result in firsts.items():
        joined = key.partition(" ")[0] != recipe_key(result)
        names[key] = row_name(_of_k_shots(result) if joined else result)
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    return {key: f"{name}, {_clip_and_weights(firsts[key])}" if name in shared else name for key, name in names.items()}


def row_name(result: Result) -> str:
    """Name a result's row: its kind, its mode if the method has two, and what breaks the protocol."""
    mode = f", {result.mode}" if "inductive" in result.options else ""
    leak = f" [{result.protocol}]" if result.protocol != "clean" else ""
    return f"{kind_name(result)}{mode}{leak}"


def kind_name(result: Result) -> str:
    """Method with its changed options, backbone, how it was trained and, if not float32, the precision.

    A label that the reader chose takes their place; it does not hide that a run is unfinished.
    """
    if result.label:
        return f"{result.label}, {unfinished_words(result)}" if is_unfinished(result) else result.label
    trained = f", trained on {trained_on(result)}" if result.training is not None else ""
    precision = f", in {result.precision}" if result.precision != "float32" else ""
    return f"{method_name(result)} ({result.backbone}{trained}{precision})"


def method_name(result: Result) -> str:
    """Method with its changed options, each as `--method` takes it and as its file holds it."""
    changed = ", ".join(
        f"{key}={list(value) if isinstance(value, tuple) else value}"
        for key, value in result.changed.items()
        if key != "inductive"
    )
    return f"{result.method} {changed}" if changed else result.method


def names_apart(a: Stored, b: Stored) -> tuple[str, str]:
    """Name two results by what tells them apart: method, options and mode; if these are equal, folder or file.

    Args:
        a: one of them.
        b: another one, of another file.

    Returns:
        Two different names.
    """
    one, other = a.result, b.result
    if one.method != other.method:
        return one.method, other.method
    differing = [key for key in {**one.changed, **other.changed} if one.options.get(key) != other.options.get(key)]
    names = []
    for result in (one, other):
        apart = {key: result.options[key] for key in differing if key in result.options}
        mode = f", {result.mode}" if one.transductive != other.transductive else ""
        names.append(f"{method_name(replace(result, changed=apart))}{mode}")
    if names[0] != names[1]:
        return names[0], names[1]
    first, second = _places_apart(a.path, b.path)
    return f"{names[0]} ({first})", f"{names[1]} ({second})"


def _places_apart(a: Path, b: Path) -> tuple[str, str]:
    """Name the innermost folders of two files that differ, not the `results` in a run's folder; or the files."""
    folders = [path.resolve().parent for path in (a, b)]
    runs = [folder.parent if folder.name == "results" else folder for folder in folders]
    for first, second in zip(*(reversed(run.parts) for run in runs), strict=False):
        if first != second:
            return first, second
    return a.stem, b.stem


def trained_on(result: Result) -> str:
    """Describe training videos, episodes and recipe; empty if nothing was trained."""
    if result.training is None:
        return ""
    recipe = result.training["recipe"]
    shape = f"{recipe['way']}-way {recipe['shot']}-shot"
    if recipe["shot"] == "K" and _for_shots(recipe):
        shape = f"{recipe['way']}-way for K shots as its recipe says"
    words = f"{result.training['dataset']} {shape}, recipe {short_hash(_recipe(result.training))}"
    return f"{words}, {unfinished_words(result)}" if is_unfinished(result) else words


def unfinished_words(result: Result) -> str:
    """Say how far the training of an unfinished run was."""
    assert result.training is not None
    return f"unfinished: {result.training['unfinished_at']:,} of {result.training['recipe']['episodes']:,} episodes"


def _training_key(result: Result) -> tuple[Any, ...]:
    """One training run: a recipe, its seed and its split of the classes."""
    return (recipe_key(result), *seeds_of(result)[:2])


def _recipe(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a recipe that distinguish rows."""
    return {key: value for key, value in training["recipe"].items() if key not in _NOT_IN_A_ROW}


def _of_k_shots(result: Result) -> Result:
    """Return these keys without the number of shots in training, and without what depends on it."""
    if result.training is None:
        return result
    recipe = result.training["recipe"]
    depending = {"shot", *(key for changes in _for_shots(recipe).values() for key in changes)}
    own: dict[str, str | None] = dict.fromkeys(sorted(depending), "K")
    if recipe.get("val_shot") == result.shot:
        own["val_shot"] = None  # as many as in the test, which is what null means with as many in training
    return replace(result, training={**result.training, "recipe": {**recipe, **own}})


def _clip_and_weights(result: Result) -> str:
    weights = result.trained_weights or result.weights
    own = "".join(f", {place}" for place in result.own.values())
    return f"{result.clip['frames']} frames {result.clip['sampling']}, weights {weights[:8]}{own}"
