"""95 % intervals, and what they cover: episodes alone, or other trainings as well.

Accuracy of training seed s on episode e is modelled as  y = mu + a_s + b_e + c_se.  Over S seeds and E episodes that
all seeds share, the variance of the mean is  V(a)/S + V(b)/E + V(c)/(S E). Two spreads are measured:

| spread | estimates |
|---|---|
| sd of the seeds' accuracies, squared, over S | V(a)/S + V(c)/(S E): the common b_e cancel |
| interval over episodes, squared | V(b)/E and at least V(c)/(S E) |

So their sum covers the variance, and counts V(c)/(S E) twice: an upper bound, close if E is large. The sd of a few
seeds is uncertain, so that its factor is Student's t with S - 1 degrees of freedom instead of 1.96. If every seed has
its own episodes (for example, a random split), the first spread alone covers everything.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fsar.results.identity import seeds_of
from fsar.results.result import Result

NORMAL = 1.96
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t, two-sided 95 %, for 1 to 10 degrees of freedom."""


def student_t(freedom: float) -> float:
    """Factor of a two-sided 95 % interval by Student's t.

    Args:
        freedom: degrees of freedom, 1 or more; not whole ones are rounded down, which widens the interval.

    Example:
        >>> student_t(2), round(student_t(29), 3), round(student_t(1e9), 2)
        (4.303, 2.045, 1.96)
    """
    freedom = math.floor(freedom)
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = 1.959964  # the expansion of Cornish and Fisher
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


@dataclass(frozen=True)
class Interval:
    """Half a 95 % interval of a mean accuracy, and what it covers."""

    half: float
    """In [0, 1]."""
    covers: str
    """`episodes`, `training seeds and episodes`, `splits and episodes`, ..."""


def interval_of(results: Sequence[Result]) -> Interval:
    """Compute half the 95 % interval of the mean over results that differ only in their seeds.

    Args:
        results: of one kind, at one way and shot.
    """
    runs = by_run(results)
    over_episodes = _over_episodes(results)
    if len(runs) < 2:
        return Interval(over_episodes, "episodes")
    means = [statistics.fmean(r.accuracy for r in run) for run in runs]
    over_runs = student_t(len(runs) - 1) * statistics.stdev(means) / math.sqrt(len(runs))
    lists = [{r.episodes_fingerprint for r in run} for run in runs]
    apart = sum(map(len, lists)) == len(set().union(*lists))
    half = over_runs if apart else math.hypot(over_runs, over_episodes)
    return Interval(half, f"{_varied(runs)} and episodes")


def by_run(results: Sequence[Result]) -> list[list[Result]]:
    """Group results by training: one group for each training seed and random split."""
    runs: dict[tuple[int | None, int | None], list[Result]] = {}
    for result in results:
        runs.setdefault(seeds_of(result)[:2], []).append(result)
    return list(runs.values())


def _varied(runs: Sequence[Sequence[Result]]) -> str:
    """Name what differs between the runs."""
    seeds, splits = zip(*(seeds_of(run[0])[:2] for run in runs), strict=True)
    several = [("training seeds", seeds), ("splits", splits)]
    return ", ".join(what for what, values in several if len(set(values)) > 1)


def _over_episodes(results: Sequence[Result]) -> float:
    """Compute half the interval over episodes.

    Results on the same episodes are correlated, so their intervals are averaged, not reduced: an upper bound. Lists of
    episodes of different seeds are independent.
    """
    lists: dict[str, list[float]] = {}
    for result in results:
        lists.setdefault(result.episodes_fingerprint, []).append(result.ci95)
    return math.sqrt(sum(statistics.mean(own) ** 2 for own in lists.values())) / len(lists)


def said(covered: Sequence[str], trained_once: bool) -> str:
    """Describe what the intervals of a table cover.

    Args:
        covered: `Interval.covers` of its cells.
        trained_once: whether some cell is of a single training; others may be of no training.

    Example:
        >>> said(["episodes"], trained_once=False)
        '95 % interval over episodes'
        >>> said(["episodes", "training seeds and episodes"], trained_once=True)
        '95 % interval over episodes, also of a row trained once; of several, over training seeds and episodes'
        >>> said(["episodes"], trained_once=True)
        '95 % interval over episodes; a row trained once may differ by more in another training'
    """
    wider = " / ".join(dict.fromkeys(what for what in covered if what != "episodes"))
    alone = "episodes" in covered
    if wider and not alone:
        return f"95 % interval over {wider}"
    words = "95 % interval over episodes"
    if wider:
        return f"{words}{', also of a row trained once' if trained_once else ''}; of several, over {wider}"
    return words + ("; a row trained once may differ by more in another training" if trained_once else "")
