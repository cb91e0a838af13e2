"""Counting answers to labelled videos."""

import json
import random
from dataclasses import astuple
from statistics import mean

import pytest

from fsar.recognizer import UNKNOWN, Answer, Score


def answer(action: str) -> Answer:
    return Answer("a.mp4", action, {"wave": 0.5, "clap": 0.3, UNKNOWN: 0.2}, 0.5, 0.4)


def test_accuracy_confusion_and_strangers() -> None:
    named = [
        ("wave", "wave"),
        ("wave", "clap"),
        ("wave", "unknown"),
        ("clap", "clap"),
        ("unknown", "clap"),
        ("unknown", "unknown"),
        ("unknown", "unknown"),
        ("unknown", "unknown"),
    ]
    score = Score([(truth, answer(action)) for truth, action in named])
    assert (score.accuracy, score.known_missed, score.unknown_accepted) == (0.5, 0.25, 0.25)
    assert score.confusion["wave"] == {"wave": 1, "clap": 1, "unknown": 1}
    assert str(score).splitlines() == [
        "2 of 4 videos of known actions were named correctly; 1 was called unknown",
        "3 of 4 videos of other actions were called unknown",
        "clap: 1 of 1",
        "wave: 1 of 3; named clap 1, unknown 1",
        "probabilities are off by 35% on average (21% by chance alone, if they were right)",
        "20% to 30%: 4 answers, said 20%, right 75%",
        "30% to 40%: 3 answers, said 30%, right 33%",
        "50% to 60%: 1 answer, said 50%, right 100%",
    ]
    assert [tuple(round(number, 2) for number in astuple(each)) for each in score.reliability] == [
        (0.2, 0.3, 4, 0.2, 0.75, 0.2),
        (0.3, 0.4, 3, 0.3, 0.33, 0.26),
        (0.5, 0.6, 1, 0.5, 1.0, 0.5),
    ]
    assert score.calibration_error == pytest.approx((4 * 0.55 + 3 * (1 / 3 - 0.3) + 0.5) / 8)
    told = json.loads(json.dumps(score.to_dict()))
    assert told["answers"][0]["truth"] == "wave" and told["reliability"][0]["confidence"] == 0.2


def test_chance_gives_the_calibration_error_of_right_probabilities() -> None:
    """Many answers that are right as often as they say; the mean error of such draws is what chance alone gives."""
    rng, draws = random.Random(0), []
    for _ in range(50):
        sure = [rng.uniform(0.3, 1.0) for _ in range(150)]
        named = [("wave" if rng.random() < p else "clap", Answer("a", "wave", {"wave": p}, 0, 0)) for p in sure]
        draws.append(Score(named))
    errors, chance = (mean(getattr(d, f"calibration_{kind}") for d in draws) for kind in ("error", "chance"))
    assert errors == pytest.approx(chance, rel=0.05) and 0.05 < chance < 0.1


def test_nothing_to_count() -> None:
    assert Score([]).accuracy is None and Score([]).unknown_accepted is None and str(Score([])) == ""
