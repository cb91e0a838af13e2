"""Two runs on the same episodes: the difference of their accuracies, with its interval.

An episode that is hard for one method is hard for most, so differences per episode vary less than accuracies. The
interval of the difference may exclude 0 although the intervals of the two accuracies overlap.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsar.config import as_yaml
from fsar.results.identity import kind_name, row_names, said_protocol, setting_key, unique
from fsar.results.intervals import NORMAL, by_run, student_t
from fsar.results.numbers import percent
from fsar.results.result import Result
from fsar.results.tables import data_heading
from fsar.results.typeset import Table

_NAMED = {
    "dataset": "dataset",
    "dataset_fingerprint": "videos",
    "split": "split",
    "resplit": "resplit",
    "protocol": "protocol",
    "way": "way",
    "shot": "shot",
    "query": "query",
    "episodes": "episodes",
    "seed": "seed",
}
"""The fields of a result that determine the episodes, with their names in messages."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Accuracy of A minus accuracy of B on the same episodes; all in [-1, 1]."""

    a: tuple[Result, ...]
    """Results that differ only in their seeds."""
    b: tuple[Result, ...]
    """Results of B that differ only in their seeds."""
    episodes: int
    accuracy_a: float
    """Mean over episodes."""
    accuracy_b: float
    """Mean over episodes."""
    difference: float
    """Mean over episodes of A minus B."""
    ci95: float
    """Half the 95 % interval of the difference."""
    covers: str
    """What the interval covers: `episodes`, or `training seeds and episodes` if each trained side has several."""

    @property
    def verdict(self) -> str:
        """Which side is better, if the interval does not contain 0; of single trainings it says that it is of these."""
        if abs(self.difference) <= self.ci95:
            return "no difference shown"
        trained = any(r.training is not None for r in (*self.a, *self.b))
        these = ", these trainings" if trained and self.covers == "episodes" else ""
        return ("A" if self.difference > 0 else "B") + f" is better{these}"


def compare(a: Sequence[Result], b: Sequence[Result]) -> Comparison:
    """Compare two methods at one setting.

    Several results on the same episodes are averaged per episode first. Over episodes, half the interval is
    1.96 s / sqrt(n) of the n differences per episode. If each trained side has several training seeds, the spread of
    the seeds is added as in `fsar.results.intervals`; its degrees of freedom are Welch's.

    Args:
        a: one result, or several that differ only in their seeds.
        b: the same, on the same episodes.

    Raises:
        ValueError: a side has several kinds of results; the episodes differ; or a result of an older version lacks the
            counts per episode.
    """
    a, b = unique(a), unique(b)
    for side, results in (("A", a), ("B", b)):
        _require_one_kind(side, results)
    _require_same_episodes(a, b)
    per_episode = []
    for fingerprint in dict.fromkeys(r.episodes_fingerprint for r in a):
        both = [_shares([r for r in side if r.episodes_fingerprint == fingerprint]) for side in (a, b)]
        per_episode += list(zip(*both, strict=True))
    differences = [left - right for left, right in per_episode]
    if len(differences) < 2:
        raise ValueError("one episode has no standard deviation; evaluate more episodes")
    over_episodes = NORMAL * statistics.stdev(differences) / math.sqrt(len(differences))
    over_runs = _over_runs(a, b)
    return Comparison(
        a=tuple(a),
        b=tuple(b),
        episodes=len(differences),
        accuracy_a=statistics.fmean(left for left, _ in per_episode),
        accuracy_b=statistics.fmean(right for _, right in per_episode),
        difference=statistics.fmean(differences),
        ci95=math.hypot(over_episodes, over_runs or 0.0),
        covers="episodes" if over_runs is None else "training seeds and episodes",
    )


def _over_runs(a: Sequence[Result], b: Sequence[Result]) -> float | None:
    """Half the interval of the difference over trainings; None if a trained side has a single one, or none is."""
    parts = []  # of each trained side: variance of its mean over seeds, and degrees of freedom
    for side in (a, b):
        if side[0].training is None:
            continue
        means = [statistics.fmean(sum(r.right) / (r.way * r.query * len(r.right)) for r in run) for run in by_run(side)]
        if len(means) < 2:
            return None
        parts.append((statistics.variance(means) / len(means), len(means) - 1))
    total = sum(variance for variance, _ in parts)
    if not parts or total == 0:
        return 0.0 if parts else None
    freedom = total**2 / sum(variance**2 / own for variance, own in parts)
    return student_t(freedom) * math.sqrt(total)


def compare_runs(a: Sequence[Result], b: Sequence[Result]) -> tuple[list[Comparison], list[str]]:
    """Compare the results of two runs at every setting and mode that both have.

    Two single results are compared in any case, also if their modes differ.

    Args:
        a: results of the first run.
        b: results of the second run.

    Returns:
        The comparisons, and sentences on what was left out.

    Raises:
        ValueError: a side has no results, or nothing can be compared; the message says why.
    """
    for side, results in (("A", a), ("B", b)):
        if not results:
            raise ValueError(f"{side} has no results to compare")
    if len(a) == len(b) == 1:
        return [compare(a, b)], []
    sides = _by_setting(a), _by_setting(b)
    made: list[Comparison] = []
    refused: dict[str, list[str]] = {}
    for setting in dict.fromkeys([*sides[0], *sides[1]]):
        left, right = (side.get(setting, []) for side in sides)
        try:
            if not left or not right:
                raise ValueError(_alone(*(("A", left, b) if left else ("B", right, a))))
            made.append(compare(left, right))
        except ValueError as error:
            refused.setdefault(str(error), []).append(_setting_name((left or right)[0]))
    left_out = [f"{', '.join(settings)}: {reason}" for reason, settings in refused.items()]
    if not made:
        raise ValueError("nothing can be compared. " + "; ".join(left_out[:4]) + (" ..." if len(left_out) > 4 else ""))
    return made, left_out


def comparison_tables(comparisons: Sequence[Comparison], a: str, b: str) -> list[Table]:
    """Make a table of comparisons for every list of videos.

    Args:
        comparisons: from `compare_runs`.
        a: path of the first run, as the user wrote it.
        b: path of the second run.
    """
    groups: dict[str, list[Comparison]] = {}
    for one in comparisons:
        groups.setdefault(data_heading(one.a), []).append(one)
    return [_table(group, heading, a, b) for heading, group in groups.items()]


def _by_setting(results: Sequence[Result]) -> Mapping[tuple[Any, ...], list[Result]]:
    settings: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        settings.setdefault(setting_key(result), []).append(result)
    return settings


def _setting_name(result: Result) -> str:
    return f"{result.dataset} {result.split} {result.way}-way {result.shot}-shot {result.mode}"


def _alone(side: str, results: Sequence[Result], others: Sequence[Result]) -> str:
    """Say why nothing can be compared: the differences to the most similar setting."""
    one = results[0]
    near = [r for r in others if (r.way, r.shot, r.transductive) == (one.way, one.shot, one.transductive)]
    if not near:
        return f"only {side} has it"
    nearest = min(near, key=lambda r: sum(getattr(r, name) != getattr(one, name) for name in _NAMED))
    pair = (one, nearest) if side == "A" else (nearest, one)
    return f"the episodes differ: {_differing([pair[0]], [pair[1]])}"


def _require_one_kind(side: str, results: Sequence[Result]) -> None:
    kinds = row_names(results)
    if len(kinds) > 1:
        listed = " | ".join(kinds.values())
        raise ValueError(
            f"{side} holds {len(kinds)} kinds of results ({listed}); name one file (`fsar results` lists them), or "
            f"narrow by --where{_condition_apart(results)}"
        )
    if any(not r.right for r in results):
        raise ValueError(
            f"{side} ({kind_name(results[0])}) does not hold which queries were named right in each episode, since an "
            f"older fsar wrote it; evaluate it again"
        )


def _condition_apart(results: Sequence[Result]) -> str:
    """Write a condition that the first result meets and another one does not; empty if only their training differs."""
    values = [{"method": r.method, "backbone": r.backbone} for r in results]
    for value, result in zip(values, results, strict=True):
        value |= {f"options.{key}": as_yaml(own) for key, own in result.options.items()}
    apart = (f", as {key}={own}" for key, own in values[0].items() if any(each.get(key) != own for each in values))
    return next(apart, "")


def _require_same_episodes(a: Sequence[Result], b: Sequence[Result]) -> None:
    found = [{r.episodes_fingerprint for r in side} for side in (a, b)]
    if found[0] != found[1]:
        raise ValueError(f"the episodes differ: {_differing(a, b)}. Evaluate both with the same settings and seeds")
    names = {r.dataset for r in (*a, *b)}
    if len(names) > 1 and any("@" in name for name in names):
        raise ValueError(f"{' and '.join(sorted(names))} are different benchmarks; evaluate both runs on one of them")


def _differing(a: Sequence[Result], b: Sequence[Result]) -> str:
    """Name the differences between the episodes of two sides."""
    differing = []
    for name, called in _NAMED.items():
        left, right = (list(dict.fromkeys(getattr(r, name) for r in side)) for side in (a, b))
        if set(left) != set(right):
            differing.append(f"{called} is {_values(left)} in A, {_values(right)} in B")
    return ", ".join(differing) or "their hashes, although all settings are equal; another version of fsar drew them"


def _values(values: Sequence[Any]) -> str:
    return " and ".join(str(value)[:8] if len(str(value)) == 64 else str(value) for value in values)


def _shares(results: Sequence[Result]) -> list[float]:
    """Return the accuracy of each episode; for several results on the same episodes, their mean."""
    queries = results[0].way * results[0].query * len(results)
    return [sum(counts) / queries for counts in zip(*(r.right for r in results), strict=True)]


def _table(comparisons: Sequence[Comparison], heading: str, a: str, b: str) -> Table:
    first = comparisons[0]
    sides = f"A: {_side(first.a, a)}; B: {_side(first.b, b)}."
    words = f"{heading}; accuracy in %, difference with its 95 % interval"
    return Table(
        heading=f"{sides} {words}",
        columns=("setting", "mode", "A", "B", "A - B", "interval", "over", "episodes", "verdict"),
        rows=tuple(_cells(one) for one in comparisons),
        records=tuple(_record(one, a, b) for one in comparisons),
        words=frozenset({"setting", "mode", "over", "verdict"}),
    )


def _side(results: Sequence[Result], where: str) -> str:
    protocol = said_protocol(results[0])
    said = "" if protocol == "clean" else f", protocol {protocol}"
    several = f", mean of {len(results)} results" if len(results) > 1 else ""
    return f"{kind_name(results[0])}{several}{said} [{where}]"


def _mode(one: Comparison) -> str:
    return " / ".join(dict.fromkeys((one.a[0].mode, one.b[0].mode)))


def _cells(one: Comparison) -> tuple[str, ...]:
    low, high = (percent(one.difference + side * one.ci95, 2, sign=True) for side in (-1, 1))
    return (
        f"{one.a[0].way}-way {one.a[0].shot}-shot",
        _mode(one),
        percent(one.accuracy_a),
        percent(one.accuracy_b),
        percent(one.difference, 2, sign=True),
        f"{low} to {high}",
        one.covers,
        str(one.episodes),
        one.verdict,
    )


def _record(one: Comparison, a: str, b: str) -> dict[str, Any]:
    first = one.a[0]
    shared = {name: getattr(first, name) for name in _NAMED if name not in ("seed", "protocol", "episodes", "resplit")}
    sides: dict[str, Any] = {}
    for side, where, results in (("a", a, one.a), ("b", b, one.b)):
        sides |= {
            side: kind_name(results[0]),
            f"{side}_file": where,
            f"{side}_mode": results[0].mode,
            f"{side}_protocol": said_protocol(results[0]),
            f"{side}_results": len(results),
        }
    fingerprints = " ".join(dict.fromkeys(r.episodes_fingerprint for r in one.a))
    numbers = ("episodes", "accuracy_a", "accuracy_b", "difference", "ci95", "covers", "verdict")
    return shared | sides | {"episodes_fingerprint": fingerprints} | {name: getattr(one, name) for name in numbers}
