"""Counting answers to labelled videos."""

import json

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
        "2 of 4 videos of known actions were named correctly; 1 were called unknown",
        "3 of 4 videos of other actions were called unknown",
        "clap: 1 of 1",
        "wave: 1 of 3; named clap 1, unknown 1",
        "probabilities are off by 35% on average",
    ]
    # per tenth of probability: answers, mean probability, share of right ones
    assert [(n, round(p, 2), round(right, 2)) for n, p, right in score.reliability] == [
        (4, 0.2, 0.75),
        (3, 0.3, 0.33),
        (1, 0.5, 1.0),
    ]
    assert score.calibration_error == pytest.approx((4 * 0.55 + 3 * (1 / 3 - 0.3) + 0.5) / 8)
    assert json.loads(json.dumps(score.to_dict()))["answers"][0]["truth"] == "wave"


def test_nothing_to_count() -> None:
    assert Score([]).accuracy is None and Score([]).unknown_accepted is None and str(Score([])) == ""
