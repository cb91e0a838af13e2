"""How good are segments: standard measures of temporal action localisation, against annotated long videos.

- **Segment F1** (segmental F1 of Lea et al., CVPR 2017, "Temporal Convolutional Networks for Action Segmentation and
  Detection", section 5.1): a found segment is right if its temporal intersection over union (tIoU) with a true segment
  of its action reaches the threshold, and no earlier found segment took that one. Counts are summed over videos.
- **Mean average precision** (ActivityNet, as THUMOS): per action, found segments of all videos in the order of their
  probability; each takes the free true segment of its video with the largest tIoU, if that reaches the threshold. The
  precision is interpolated, the mean is over actions with a true segment.
- **Errors**, at one threshold: what is wrong with each found segment, and what became of each true one.

An interval is the 95 % interval of 1,000 bootstrap samples of videos.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fsar.datasets.segments.segment import Segment

THRESHOLDS = (0.1, 0.25, 0.5)
"""Temporal IoU from which a found segment is right."""
ERRORS_AT = 0.25
"""Temporal IoU for the kinds of errors."""
TOUCHES = 0.1
"""A found segment with less temporal IoU with every true one is invented."""
SAMPLES = 1000


@dataclass(frozen=True)
class Errors:
    """What became of found and true segments."""

    right: int = 0
    wrong_label: int = 0
    """Found where another action happens."""
    badly_placed: int = 0
    """Found with the right action, but too early, too late, too long, too short, or a second time."""
    invented: int = 0
    """Found where nothing happens."""
    missed: int = 0
    """True segments that no found segment touches."""


@dataclass(frozen=True)
class SpottingScore:
    """Found segments against true ones."""

    videos: int
    minutes: float
    true: int
    """Number of true segments."""
    found: int
    """Number of found segments."""
    f1: Mapping[float, float]
    """tIoU -> segment F1, from 0 to 1."""
    intervals: Mapping[float, tuple[float, float]]
    """tIoU -> 95 % interval of F1 over videos; empty for a single video."""
    average_precision: Mapping[float, float]
    """tIoU -> mean average precision."""
    errors: Errors

    @property
    def invented_per_minute(self) -> float:
        """Invented segments in a minute of video."""
        return self.errors.invented / self.minutes

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, ready for JSON."""
        return asdict(self) | {"invented_per_minute": self.invented_per_minute}

    def __str__(self) -> str:
        errors = self.errors
        lines = [
            f"{self.true} true segments and {self.found} found ones in {self.videos} videos, {self.minutes:.1f} minutes"
        ]
        for threshold, f1 in self.f1.items():
            between = ""
            if threshold in self.intervals:
                low, high = self.intervals[threshold]
                between = f" (95 % interval over videos {100 * low:.1f} to {100 * high:.1f})"
            precision = 100 * self.average_precision[threshold]
            lines.append(f"tIoU {threshold:g}: F1 {100 * f1:.1f}{between}, mAP {precision:.1f}")
        lines.append(
            f"at tIoU {ERRORS_AT:g}: {errors.right} right, {errors.wrong_label} with a wrong label, "
            f"{errors.badly_placed} badly placed, "
            f"{errors.invented} invented ({self.invented_per_minute:.2f} a minute), {errors.missed} missed"
        )
        return "\n".join(lines)


def score_segments(
    true: Sequence[Segment], found: Sequence[Segment], seconds: Mapping[str, float], seed: int = 0
) -> SpottingScore:
    """Compare found segments with true ones.

    Args:
        true: annotations; those of one action in one video do not overlap.
        found: with probabilities.
        seconds: video -> its duration; a video without segments counts too.
        seed: of the bootstrap.

    Returns:
        The measures.

    Raises:
        ValueError: no video, or a segment of a video that is not in `seconds`.

    Example:
        >>> true = [Segment("a.mp4", 0.0, 2.0, "wave"), Segment("a.mp4", 5.0, 6.0, "clap")]
        >>> found = [Segment("a.mp4", 0.5, 2.0, "wave", 0.9), Segment("a.mp4", 3.0, 4.0, "wave", 0.5)]
        >>> score = score_segments(true, found, {"a.mp4": 60.0})
        >>> score.f1[0.5], score.errors
        (0.5, Errors(right=1, wrong_label=0, badly_placed=0, invented=1, missed=1))
    """
    if not seconds:
        raise ValueError("there is no video to score; give at least one")
    for segment in (*true, *found):
        if segment.video not in seconds:
            raise ValueError(f"a segment of {segment.video}, which is none of the videos: {', '.join(sorted(seconds))}")
    videos = sorted(seconds)
    pairs = {v: ([s for s in true if s.video == v], [s for s in found if s.video == v]) for v in videos}
    counts = {t: np.array([counts_of(*pairs[v], t) for v in videos]) for t in THRESHOLDS}
    picks = np.random.default_rng(seed).integers(len(videos), size=(SAMPLES, len(videos)))
    intervals = {}
    if len(videos) > 1:
        for threshold, each in counts.items():
            values = _f1(each[picks].sum(1))
            intervals[threshold] = (float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975)))
    errors: Counter[str] = Counter()
    for pair in pairs.values():
        errors.update(asdict(errors_of(*pair)))
    return SpottingScore(
        videos=len(videos),
        minutes=sum(seconds.values()) / 60,
        true=len(true),
        found=len(found),
        f1={threshold: float(_f1(each.sum(0))) for threshold, each in counts.items()},
        intervals=intervals,
        average_precision={threshold: mean_average_precision(true, found, threshold) for threshold in THRESHOLDS},
        errors=Errors(**errors),
    )


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 of counts [..., right found true]; 1 if there is nothing to find and nothing was found."""
    right, found, true = np.moveaxis(counts.astype(float), -1, 0)
    both = found + true
    return np.where(both > 0, 2 * right / np.maximum(both, 1), 1.0)


def counts_of(true: Sequence[Segment], found: Sequence[Segment], threshold: float) -> tuple[int, int, int]:
    """Count the right, the found and the true segments of one video (segmental F1 of Lea et al.)."""
    return len(_matched(true, found, threshold)), len(found), len(true)


def _matched(true: Sequence[Segment], found: Sequence[Segment], threshold: float) -> dict[int, int]:
    """Match found segments of one video with true ones, in the order of time: found -> true."""
    taken: dict[int, int] = {}
    for i in sorted(range(len(found)), key=lambda i: (found[i].start, found[i].end)):
        same = [j for j, one in enumerate(true) if one.action == found[i].action]
        best = max(same, key=lambda j: found[i].iou(true[j]), default=None)
        if best is not None and found[i].iou(true[best]) >= threshold and best not in taken.values():
            taken[i] = best
    return taken


def errors_of(true: Sequence[Segment], found: Sequence[Segment], threshold: float = ERRORS_AT) -> Errors:
    """Tell what is wrong with each found segment of one video, and which true ones nothing touches.

    Args:
        true: annotations.
        found: what was found.
        threshold: temporal IoU of a right one.
    """
    matched = _matched(true, found, threshold)
    kinds: Counter[str] = Counter(right=len(matched))
    touched = set(matched.values())
    for i, each in enumerate(found):
        if i in matched:
            continue
        near = [j for j, one in enumerate(true) if each.iou(one) >= TOUCHES]
        touched.update(near)
        best = max(near, key=lambda j: each.iou(true[j]), default=None)
        if best is None:
            kinds["invented"] += 1
        else:
            kinds["badly_placed" if true[best].action == each.action else "wrong_label"] += 1
    return Errors(**kinds, missed=len(true) - len(touched))


def mean_average_precision(true: Sequence[Segment], found: Sequence[Segment], threshold: float) -> float:
    """Average over actions the area under the interpolated precision over recall, as ActivityNet does.

    Args:
        true: annotations of all videos.
        found: with probabilities.
        threshold: temporal IoU of a right one.

    Returns:
        From 0 to 1; NaN without a true segment.
    """
    actions = dict.fromkeys(one.action for one in true)
    each = [
        _average_precision([t for t in true if t.action == a], [f for f in found if f.action == a], threshold)
        for a in actions
    ]
    return float(np.mean(each)) if each else float("nan")


def _average_precision(true: Sequence[Segment], found: Sequence[Segment], threshold: float) -> float:
    taken: set[int] = set()
    right = []
    for each in sorted(found, key=lambda one: -one.probability):
        free = [j for j, one in enumerate(true) if j not in taken and each.iou(one) >= threshold]
        if free:
            taken.add(max(free, key=lambda j: each.iou(true[j])))
        right.append(bool(free))
    hits = np.cumsum(right)
    precision = np.concatenate([[0.0], hits / np.arange(1, len(right) + 1), [0.0]])
    recall = np.concatenate([[0.0], hits / len(true), [1.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[steps] - recall[steps - 1]) * precision[steps]).sum())
