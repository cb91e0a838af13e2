"""Measures of segments: against a plain implementation of the definitions, and on cases that can be counted by hand."""

import numpy as np
import pytest

from fsar.datasets.segments.segment import Segment
from fsar.evaluation.spotting import THRESHOLDS, Errors, errors_of, mean_average_precision, score_segments


def drawn(rng: np.random.Generator, count: int, apart: bool) -> list[Segment]:
    """Random segments in three videos; true ones (`apart`) do not overlap."""
    made = []
    for i in range(count):
        start = 10.0 * i + rng.uniform(0, 3) if apart else rng.uniform(0, 10.0 * count)
        video = f"{i % 3}.mp4" if apart else f"{rng.integers(3)}.mp4"
        made.append(Segment(video, start, start + rng.uniform(1, 7), "abc"[rng.integers(3)], float(rng.uniform())))
    return made


def near(rng: np.random.Generator, true: list[Segment]) -> list[Segment]:
    """Found segments around true ones, sometimes with another label, and some anywhere."""
    made = []
    for each in true:
        shift, action = rng.normal(0, 1.5), each.action if rng.uniform() < 0.7 else "abc"[rng.integers(3)]
        made.append(Segment(each.video, each.start + shift, each.end + shift, action, float(rng.uniform())))
    return made + drawn(rng, 5, apart=False)


# the definitions once more, plainly: every pair, float64, no shared code


def plain_iou(one: Segment, other: Segment) -> float:
    if one.video != other.video:
        return 0.0
    both = max(0.0, min(one.end, other.end) - max(one.start, other.start))
    return both / ((one.end - one.start) + (other.end - other.start) - both)


def plain_f1(true: list[Segment], found: list[Segment], threshold: float) -> float:
    right = 0
    for video in {each.video for each in (*true, *found)}:
        mine = [t for t in true if t.video == video]
        hit = np.zeros(len(mine), bool)
        for f in sorted((f for f in found if f.video == video), key=lambda f: (f.start, f.end)):
            iou = np.array([plain_iou(f, t) * (t.action == f.action) for t in mine])
            if len(iou) and iou.max() >= threshold and not hit[iou.argmax()]:
                hit[iou.argmax()] = True
        right += hit.sum()
    precision, recall = right / len(found), right / len(true)
    return 2 * precision * recall / (precision + recall) if right else 0.0


def plain_map(true: list[Segment], found: list[Segment], threshold: float) -> float:
    values = []
    for action in {t.action for t in true}:
        mine = [t for t in true if t.action == action]
        used, curve, right = set(), [], 0
        ranked = sorted((f for f in found if f.action == action), key=lambda f: -f.probability)
        for rank, f in enumerate(ranked, start=1):
            for i in sorted(range(len(mine)), key=lambda i: -plain_iou(f, mine[i])):
                if plain_iou(f, mine[i]) < threshold:
                    break
                if i not in used:
                    used.add(i)
                    right += 1
                    break
            curve.append((right / len(mine), right / rank))
        area, before = 0.0, 0.0
        for recall in sorted({r for r, _ in curve}):
            area += (recall - before) * max(p for r, p in curve if r >= recall)
            before = recall
        values.append(area)
    return sum(values) / len(values)


def test_f1_and_map_are_those_of_a_plain_implementation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        true = drawn(rng, 12, apart=True)
        found = near(rng, true)
        score = score_segments(true, found, {f"{i}.mp4": 200.0 for i in range(3)})
        for threshold in THRESHOLDS:
            assert score.f1[threshold] == pytest.approx(plain_f1(true, found, threshold), abs=1e-12)
            assert score.average_precision[threshold] == pytest.approx(plain_map(true, found, threshold), abs=1e-12)
            low, high = score.intervals[threshold]
            assert low <= score.f1[threshold] <= high


def test_every_error_has_one_kind() -> None:
    true = [
        Segment("a", 0, 2, "wave"),
        Segment("a", 10, 12, "wave"),
        Segment("a", 20, 22, "clap"),
        Segment("a", 30, 32, "x"),
    ]
    found = [
        Segment("a", 0, 2, "wave"),  # right
        Segment("a", 0.5, 2, "wave"),  # the same again
        Segment("a", 11.6, 13.6, "wave"),  # too late
        Segment("a", 20, 22, "wave"),  # another action
        Segment("a", 50, 52, "wave"),  # nothing there
    ]
    assert errors_of(true, found) == Errors(right=1, wrong_label=1, badly_placed=2, invented=1, missed=1)


def test_perfect_and_empty() -> None:
    true = [Segment("a", 0, 2, "wave"), Segment("b", 1, 2, "clap")]
    seconds = {"a": 60.0, "b": 60.0}
    best = score_segments(true, true, seconds)
    assert set(best.f1.values()) == set(best.average_precision.values()) == {1.0}
    worst = score_segments(true, [], seconds)
    assert set(worst.f1.values()) == set(worst.average_precision.values()) == {0.0} and worst.errors.missed == 2
    assert score_segments([], [], seconds).f1[0.5] == 1.0
    assert "invented (0.00 a minute)" in str(best)
    with pytest.raises(ValueError, match="none of the videos"):
        score_segments(true, [], {"a": 1.0})
    with pytest.raises(ValueError, match="no video"):
        score_segments([], [], {})


def test_the_order_of_equal_segments_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    true = drawn(rng, 9, apart=True)
    found = near(rng, true)
    shuffled = [found[i] for i in rng.permutation(len(found))]
    assert mean_average_precision(true, found, 0.25) == mean_average_precision(true, shuffled, 0.25)
