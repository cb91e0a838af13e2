"""What an interval covers, by simulation, by hand, and in words."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fsar.results.comparison import compare, compare_runs, comparison_tables
from fsar.results.intervals import interval_of, said, student_t
from fsar.results.result import Result
from fsar.results.tables import tables
from tests.results.test_results import RESULT, seeded


def measured(seed: int, right: np.ndarray, **changes) -> Result:
    """A training whose episodes have so many of 20 queries right."""
    shares = right / 20
    half = 1.96 * shares.std(ddof=1) / math.sqrt(len(shares))
    own = {"right": tuple(right.tolist()), "accuracy": float(shares.mean()), "ci95": float(half)}
    return seeded(seed, **own, episodes=len(right), query=10, **changes)


def test_student_t() -> None:
    """Against the printed tables of Student's distribution."""
    for freedom, value in ((1, 12.706), (2, 4.303), (10, 2.228), (11, 2.201), (20, 2.086), (30, 2.042), (120, 1.980)):
        assert student_t(freedom) == pytest.approx(value, abs=1e-3)
    assert student_t(2.9) == student_t(2)
    assert all(student_t(n) > student_t(n + 1) > 1.95 for n in range(1, 60))


@pytest.mark.parametrize("of_seeds", [0.0, 0.02])
def test_the_interval_covers_the_mean_of_all_trainings(of_seeds: float) -> None:
    """Seeds share their episodes: 95 of 100 intervals hold the true mean, and not far more if seeds differ."""
    rng, truth, held, alone = np.random.default_rng(0), 0.6, 0, 0
    for _ in range(300):
        episodes = rng.normal(0, 0.1, 80)
        rows = [truth + rng.normal(0, of_seeds) + episodes + rng.normal(0, 0.05, 80) for _ in range(3)]
        results = [measured(seed, np.rint(20 * row.clip(0, 1)).astype(int)) for seed, row in enumerate(rows)]
        mean, interval = np.mean([r.accuracy for r in results]), interval_of(results)
        held += abs(mean - truth) <= interval.half
        alone += abs(mean - truth) <= results[0].ci95
    assert 0.93 <= held / 300 <= 1
    assert of_seeds == 0 or alone / 300 < 0.9  # the interval over episodes alone promises too much


def test_both_parts_by_hand() -> None:
    two = [seeded(i, accuracy=a, ci95=0.02) for i, a in enumerate((0.6, 0.62))]
    spread = 12.706 * math.sqrt(0.0002) / math.sqrt(2)
    assert interval_of(two).half == pytest.approx(math.hypot(spread, 0.02))
    assert interval_of(two).covers == "training seeds and episodes"
    apart = [replace(r, episodes_fingerprint=str(i) * 64) for i, r in enumerate(two)]
    assert interval_of(apart).half == pytest.approx(spread)  # holds the episodes already
    assert interval_of(two[:1]) == interval_of([replace(RESULT, ci95=0.02)])
    splits = [replace(r, resplit=i) for i, r in enumerate(apart)]
    assert interval_of(splits).covers == "training seeds, splits and episodes"


def test_a_table_says_what_its_intervals_cover() -> None:
    once, twice = seeded(0), [seeded(i, accuracy=0.6, shot=5) for i in range(2)]
    assert tables([RESULT])[0].heading.endswith("accuracy in % ± 95 % interval over episodes")
    for rows in ([once], [once, RESULT]):  # true of a row that nothing trained, too
        assert "over episodes; a row trained once may differ by more in another training" in tables(rows)[0].heading
    assert "± 95 % interval over training seeds and episodes" in tables(twice)[0].heading
    heading = tables([once, *[replace(r, way=5) for r in twice]])[0].heading
    assert "over episodes, also of a row trained once; of several, over training seeds and episodes" in heading
    assert said(["splits and episodes"], trained_once=False) == "95 % interval over splits and episodes"


def test_a_comparison_says_what_its_interval_covers() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(8, 13, 200)
    good, plain = [measured(i, base + 3 + i, method="hyrsm") for i in range(3)], measured(0, base)
    untrained = replace(plain, training=None)
    one = compare(good[:1], [plain])
    assert (one.covers, one.verdict) == ("episodes", "A is better, these trainings")
    assert compare([untrained], [replace(untrained, method="otam")]).verdict == "no difference shown"
    several = compare(good, [untrained])
    spread = 4.303 * np.std([0.15, 0.2, 0.25], ddof=1) / math.sqrt(3)
    assert several.covers == "training seeds and episodes" and several.ci95 == pytest.approx(spread, rel=1e-3)
    assert several.verdict == "A is better"
    assert compare(good, [plain]).covers == "episodes"  # one training of B says nothing of others
    made, _ = compare_runs(good, [untrained])
    (table,) = comparison_tables(made, "a", "b")
    assert table.rows[0][table.columns.index("over")] == "training seeds and episodes"
