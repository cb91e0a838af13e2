"""Curves and bars of results: over ways, shots or any option, over trained parameters, by class; reliability."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fsar.backbones import load_backbone
from fsar.explain.picture import COLOURS, MARKS, Picture, wrapped
from fsar.methods import build_method, effective_options
from fsar.methods.base import PARAMETER_GROUPS
from fsar.own import is_own
from fsar.recognizer.score import Bin
from fsar.results.identity import is_unfinished, row_name, unfinished_words
from fsar.results.intervals import NORMAL
from fsar.results.result import Result
from fsar.results.tables import Joined, joined

PARAMETERS = "parameters"
DASHES = ("-", "--", "-.", ":")


def trained_parameters(result: Result) -> int:
    """Count the parameters that training changed, as `fsar train` said; 0 for a method that was not trained.

    Results of older versions do not hold the number. For them, the method is built without its weights, so nothing is
    downloaded; layers that only the loss has are not counted then.

    Args:
        result: of an evaluation.

    Raises:
        ValueError: its method or backbone is not known here.
    """
    if result.training is None:
        return 0
    if told := result.training.get("trained_parameters"):
        return int(told)
    return _count(result.method, result.backbone, repr(result.options), tuple(result.training["groups"]))


@cache
def _count(method: str, backbone: str, options: str, groups: tuple[str, ...]) -> int:
    import ast

    chosen = effective_options(method, ast.literal_eval(options))
    built = build_method(method, load_backbone(without_weights(backbone)), **chosen)
    rules = [re.compile(PARAMETER_GROUPS[group]) for group in groups]
    return sum(p.numel() for name, p in built.named_parameters() if any(rule.fullmatch(name) for rule in rules))


def without_weights(backbone: str) -> str:
    """Name the backbone with random weights, which needs no files; others that must be loaded stay as they are.

    Args:
        backbone: as given to `load_backbone`.

    Example:
        >>> [without_weights(name) for name in ("ViT-B-16/openai", "RN50@mine.safetensors", "timm/resnet50", "tiny")]
        ['ViT-B-16/random', 'RN50/random', 'timm/resnet50/random', 'tiny']
    """
    if is_own(backbone) or backbone.startswith(("features/", "hf-hub:")):
        return backbone
    parts = backbone.partition("@")[0].split("/")
    if parts[0] == "timm":
        return f"timm/{parts[1]}/random"
    return f"{parts[0]}/random" if "/" in backbone or "@" in backbone else backbone


def place_of(result: Result, x: str) -> float | None:
    """Where a result stands on an axis.

    Args:
        result: of an evaluation.
        x: `way`, `shot`, `parameters`, an option of the method, or a key of its recipe.

    Returns:
        None if the result has no such number.
    """
    if x == PARAMETERS:
        return trained_parameters(result)
    recipe = {} if result.training is None else result.training["recipe"]
    for source in ({"way": result.way, "shot": result.shot}, result.options, recipe):
        value = source.get(x)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str) and (number := re.search(r":(\d+)$", value)):  # the first templates of a set
            return float(number[1])
    return None


def curves_picture(results: Sequence[Result], x: str) -> Picture:
    """Draw accuracy over ways, shots, an option, or trained parameters, with intervals.

    Args:
        results: of any methods and settings; results that differ only in seeds are joined.
        x: as `place_of` takes it.

    Returns:
        The picture.

    Raises:
        ValueError: there are no results, none has this number, or there are too many curves.

    Example:
        >>> curves_picture([], "alpha")
        Traceback (most recent call last):
        ValueError: there are no results to draw; `fsar evaluate --out DIR` writes some
    """
    if not results:
        raise ValueError("there are no results to draw; `fsar evaluate --out DIR` writes some")
    curves: dict[str, list[tuple[float, Joined]]] = {}
    for cell in joined(results):
        first = cell.results[0]
        place = place_of(first, x)
        if place is not None:
            curves.setdefault(_curve_name(first, x), []).append((place, cell))
    if not curves:
        raise ValueError(f"no result has a number {x!r}; expected way, shot, parameters, or an option of its method")
    if len(curves) > len(COLOURS):
        raise ValueError(
            f"{len(curves)} curves cannot be told apart; name fewer results (at most {len(COLOURS)} curves)"
        )
    firsts = {name: cells[0][1].results[0] for name, cells in curves.items()}
    short = {name: wrapped(words, 66) for name, words in _short_names(firsts, x).items()}
    lines = sum(1 + words.count("\n") for words in short.values())
    figure = Figure(figsize=(6.4, 4.2 + 0.19 * lines), layout="constrained")
    axes = figure.subplots()
    said, table = [], []
    for number, (name, cells) in enumerate(curves.items()):
        cells.sort(key=lambda cell: cell[0])
        places = [place for place, _ in cells]
        values, halves = ([100 * getattr(cell, part) for _, cell in cells] for part in ("accuracy", "ci95"))
        at = [place / 1e6 for place in places] if x == PARAMETERS else places
        line = "none" if x == PARAMETERS else DASHES[number % len(DASHES)]
        look: dict[str, Any] = {"color": COLOURS[number], "marker": MARKS[number], "linestyle": line}
        axes.errorbar(at, values, halves, **look, capsize=3, label=short[name], markersize=6)
        best = int(np.argmax(values))
        among = f", the best of {len(values)} values" if len(values) > 1 else ""
        best_at = f"{places[best]:,.10g}"
        where = f"with {best_at} trained parameters" if x == PARAMETERS else f"at {x} {best_at}"
        said.append(f"{' '.join(short[name].split())}: {values[best]:.1f} % {where}{among}")
        table += [(name, *point) for point in zip(places, values, halves, strict=True)]
    axes.set_xlabel("trained parameters, millions" if x == PARAMETERS else _axis_name(x))
    if x == PARAMETERS:  # room for the mark of a method that trains none, but no number below 0
        most = max(0.1, *(place / 1e6 for _, place, *_ in table))
        axes.set_xlim(-0.05 * most, 1.05 * most)
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 1.05 * most])
    if x in ("way", "shot"):
        axes.set_xticks(sorted({int(place) for cells in curves.values() for place, _ in cells}))
    axes.set_ylabel("accuracy, % (95 % interval)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8)
    title = _title(firsts.values(), x)
    figure.suptitle(wrapped(title, 70), fontsize=10)
    columns = zip(*table, strict=True)
    data = dict(zip(("curve", x, "accuracy", "ci95"), map(np.array, columns), strict=True))
    return Picture(figure, title, f"{title}. {'; '.join(said)}.", data)


def _axis_name(x: str) -> str:
    return {"way": "classes per episode (way)", "shot": "examples per class (shot)"}.get(x, f"{x} (an option)")


def _title(firsts: Collection[Result], x: str) -> str:
    """Name the axis and, if all curves have the same, dataset and shape of the episodes."""
    settings = {_setting(first, x) for first in firsts}
    common = f": {settings.pop()}" if len(settings) == 1 else ""
    return f"Accuracy over {'trained parameters' if x == PARAMETERS else x}{common}"


def _curve_name(result: Result, x: str) -> str:
    """Name the row without the number that the axis shows, and the settings that it does not show."""
    changed = {key: value for key, value in result.changed.items() if key != x}
    name = row_name(replace(result, changed=changed, training=_without(result.training, x)))
    return f"{name} on {_setting(result, x)}"


def _without(training: Mapping[str, Any] | None, x: str) -> dict[str, Any] | None:
    """Leave the number that the axis shows out of a recipe, so that all trainings of a sweep are one curve."""
    if training is None:
        return None
    recipe = training["recipe"]
    options = {key: value for key, value in recipe.get("options", {}).items() if key != x}
    swept = {x: 0} if x in recipe and x not in ("way", "shot") else {}
    return {**training, "recipe": {**recipe, "options": options, **swept}}


def _setting(result: Result, x: str) -> str:
    """Dataset and shape of the episodes, without what the axis shows."""
    way = [] if x == "way" else [f"{result.way}-way"]
    shot = [] if x == "shot" else [f"{result.shot}-shot"]
    return " ".join([result.dataset, *way, *shot])


def _short_names(firsts: Mapping[str, Result], x: str) -> dict[str, str]:
    """Name curves for the legend: the method, what it says of its standing, and only what tells curves apart.

    Args:
        firsts: whole name of each curve -> one of its results.
        x: the axis.
    """
    several = len({_setting(result, x) for result in firsts.values()}) > 1
    short = {}
    for name, result in firsts.items():
        words = [result.label or result.method, *([result.mode] if "inductive" in result.options else [])]
        words += [unfinished_words(result)] if is_unfinished(result) else []
        words += [_setting(result, x)] if several else []
        short[name] = ", ".join(words)
    count = Counter(short.values())
    return {name: words if count[words] == 1 else name for name, words in short.items()}


# --------------------------------------------------------------------------- by class


def classes_picture(a: Result, b: Result, names: tuple[str, str]) -> Picture:
    """Draw the accuracy of each class for two results, and the paired difference.

    Args:
        a: of the first run.
        b: of the second run, over the same episodes.
        names: of both, different ones.

    Returns:
        The picture. Differences have an interval if both results hold their predictions (`fsar evaluate
        --predictions`): 1.96 standard errors over the class's queries, each answered by both. If not, it says so.

    Raises:
        ValueError: the results are of other episodes.
    """
    if a.episodes_fingerprint != b.episodes_fingerprint:
        raise ValueError(f"{names[0]} and {names[1]} were tested on other episodes; evaluate both with equal options")
    pairs, lacking = _paired(a, b), a.predictions is None or b.predictions is None
    difference = {label: 100 * (a.per_class[label] - b.per_class[label]) for label in a.per_class}
    order = sorted(difference, key=lambda label: -difference[label])
    interval = "(no intervals: need --predictions)" if lacking else "(95 % interval)"
    apart = f"{wrapped(f'{names[0]} minus {names[1]}, points', 34)}\n{interval}"
    height = 1.2 + 0.19 * apart.count("\n") + 0.36 * len(order)
    figure = Figure(figsize=(8.2, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2], sharey=True)
    rows = np.arange(len(order))
    for number, (result, name) in enumerate(((a, names[0]), (b, names[1]))):
        values = [100 * result.per_class[label] for label in order]
        left.barh(
            rows + 0.4 * number - 0.2,
            values,
            0.38,
            color=COLOURS[number],
            label=name,
            hatch="" if number == 0 else "//",
            edgecolor="white",
        )
    halves = [pairs.get(label, np.nan) for label in order]
    right.errorbar([difference[label] for label in order], rows, xerr=halves, fmt="o", color=COLOURS[6], capsize=3)
    right.axvline(0, color=COLOURS[7], linewidth=1)
    left.set_yticks(rows, [wrapped(label.replace("_", " "), 30) for label in order], fontsize=7)
    left.invert_yaxis()
    left.set_xlabel("accuracy, %")
    right.set_xlabel(apart)
    left.set_xlim(0, 100)
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    title = f"Accuracy by class: {names[0]} and {names[1]}"
    figure.suptitle(wrapped(title, 80), fontsize=10)
    most, least = (order[place].replace("_", " ") for place in (0, -1))
    mode = ", transductive" if a.transductive and b.transductive else ""
    said = (
        f"{title}, {a.way}-way {a.shot}-shot{mode}. {names[0]} gains most in {most} "
        f"({difference[order[0]]:+.1f} points) and least in {least} "
        f"({difference[order[-1]]:+.1f})."
    )
    if lacking:
        said += " The differences have no intervals: evaluate both with --predictions."
    data = {"class": np.array(order)} | {
        name: np.array(values)
        for name, values in (
            (f"accuracy of {names[0]} in percent", [100 * a.per_class[label] for label in order]),
            (f"accuracy of {names[1]} in percent", [100 * b.per_class[label] for label in order]),
            ("difference in points", [difference[label] for label in order]),
            ("half interval in points", halves),
        )
    }
    return Picture(figure, title, said, data)


def _paired(a: Result, b: Result) -> dict[str, float]:
    """Half the interval of each class's difference in points; empty without predictions."""
    if a.predictions is None or b.predictions is None:
        return {}
    classes = a.predictions["classes"]
    actual = np.array(a.predictions["actual"]).ravel()
    right = [
        np.array(one.predictions["predicted"]).ravel() == np.array(one.predictions["actual"]).ravel()
        for one in (a, b)
        if one.predictions is not None
    ]
    apart = right[0].astype(float) - right[1]
    halves = {}
    for number, label in enumerate(classes):
        of_class = apart[actual == number]
        if len(of_class) > 1:
            halves[label] = 100 * NORMAL * of_class.std(ddof=1) / np.sqrt(len(of_class))
    return halves


# --------------------------------------------------------------------------- reliability


def reliability_picture(bins: Sequence[Bin], title: str, error: float | None) -> Picture:
    """Draw a reliability diagram: share of right answers over their probability.

    Args:
        bins: answers by their probability, as `fsar.recognizer.score.Score.reliability`.
        title: above the figure.
        error: expected calibration error; None if it is not known.

    Returns:
        The picture.

    Raises:
        ValueError: there are no answers.

    Example:
        >>> bins = [Bin(0.5, 0.6, 4, 0.55, 0.5, 0.2), Bin(0.9, 1.0, 6, 0.95, 1.0, 0.1)]
        >>> reliability_picture(bins, "mine.fsar", 0.04).data["answers"].tolist()
        [4, 6]
    """
    if not bins:
        raise ValueError("there are no answers to draw; give labelled videos that can be read")
    columns = zip(*((each.count, each.confidence, each.accuracy, each.deviation) for each in bins), strict=True)
    counts, probabilities, shares, deviations = (np.array(column) for column in columns)
    low, high = (np.clip(probabilities + side * NORMAL * deviations, 0, 1) for side in (-1, 1))
    figure = Figure(figsize=(5.2, 4.8), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    axes.plot([0, 1], [0, 1], color=COLOURS[7], linestyle=":", label="as often right as it says")
    axes.fill_between(
        [0, *probabilities, 1],
        [0, *low, 1],
        [0, *high, 1],
        color=COLOURS[7],
        alpha=0.25,
        linewidth=0,
        label="expected by chance in 95 % of cases",
    )
    axes.errorbar(probabilities, shares, color=COLOURS[0], marker="o", capsize=3, label="answers")
    axes.set_ylabel("share of right answers")
    axes.set_ylim(-0.05, 1.05)
    axes.legend(fontsize=8)
    below.bar(probabilities, counts, 0.06, color=COLOURS[5], edgecolor=COLOURS[6], linewidth=0.5)
    below.set_xlabel("probability of the given answer")
    below.set_ylabel("answers")
    below.set_xlim(0, 1.03)
    measured = [] if error is None else [f"expected calibration error {error:.3f}"]
    figure.suptitle("\n".join([wrapped(title, 60), *measured]), fontsize=10)
    said = ", ".join([f"{title}: {int(counts.sum())} answers", *measured])
    data: dict[str, Any] = {"answers": counts, "mean probability": probabilities, "share right": shares}
    data |= {"expected share low": low, "expected share high": high}
    return Picture(figure, title, f"{said}.", data)
