"""Counting: repetitions that touch, at changing speed, and the errors of a user."""

from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer, cli
from fsar.backbones import Backbone
from fsar.datasets import VideoDataset
from fsar.recognizer.counting import choose
from fsar.recognizer.judgement import Judgement
from fsar.recognizer.windows import Window
from fsar.video.reading import read_frames
from fsar.video.writing import write_video
from tests.recognizer.conftest import Clips, moving

RIGHT = "moving_something_from_left_to_right"


def window(start: float, end: float, score: float, p: float | None = None, threshold: float | None = 0.2) -> Window:
    shares = {"a": score} if p is None else {"a": p, "unknown": 1 - p}
    known = threshold is None or score >= threshold
    return Window(start, end, Judgement("a" if known else "unknown", shares, score, threshold))


def test_windows_that_hold_one_repetition_win() -> None:
    touching = [window(i, i + 1.0, 0.9) for i in range(5)]
    shifted = [window(i + 0.5, i + 1.5, 0.3) for i in range(4)]
    two = [window(i, i + 2.0, 0.5) for i in range(4)]
    found = choose([*touching, *shifted, *two], "a")
    assert [each[:2] for each in found] == [(float(i), i + 1.0) for i in range(5)]
    assert choose([window(0, 1, 0.1), window(1, 2, 0.19)], "a") == []
    assert len(choose([window(0, 1, 0.9)], "a")) == 1 and choose([], "a") == []
    assert len(choose([window(0, 1, 0.9, threshold=None)], "a")) == 1
    other = Judgement("b", {"a": 0.45, "b": 0.5, "unknown": 0.05}, 0.9, 0.2)
    assert choose([Window(0, 1, other)], "a") == [] and len(choose([Window(0, 1, other)], "b")) == 1


def test_persons_whose_repetitions_score_less_are_counted() -> None:
    best = [0.9] * 5 + [0.4] * 5
    touching = [window(i, i + 1.0, score, 0.9) for i, score in enumerate(best)]
    shifted = [window(i + 0.5, i + 1.5, score / 1.5, 0.7) for i, score in enumerate(best[:-1])]
    found = choose([*touching, *shifted], "a")
    assert [each[:2] for each in found] == [(float(i), i + 1.0) for i in range(10)]


def test_a_rare_action_among_other_things_is_not_counted_too_often() -> None:
    windows = []
    for i in range(480):  # a minute
        away = min(abs(i - 160), abs(i - 320))  # from two repetitions, one of which scores less
        score, p = (0.9 if i < 240 else 0.4, 0.9) if away == 0 else (0.3, 0.7) if away <= 2 else (0.1, 0.01)
        if i % 60 == 30:  # passes the threshold by chance: its neighbours do not show the action
            score, p = 0.5, 0.8
        windows.append(window(i / 8, i / 8 + 1, score, p))
    sure, all_found = choose(windows, "a", begin=0.25), choose(windows, "a")
    assert [each[:2] for each in sure] == [(20.0, 21.0), (40.0, 41.0)]
    assert len(all_found) == 2 + 8  # those that passed by chance
    assert sure == [each for each in all_found if each[2] >= 0.25]  # the number that is told is the one that is asked


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Backbone, clips: Clips) -> Path:
    """A recogniser of the generated world, and a video that repeats an action five times at changing speed."""
    folder = tmp_path_factory.mktemp("count")
    recognizer = Recognizer(tiny)
    for label, paths in clips.items():
        recognizer.enroll(label, paths[:4])
    recognizer.fit()
    recognizer.save(folder / "mine.fsar")
    clip = read_frames(clips[RIGHT][5], None)
    parts = []
    for speed in (1.0, 0.75, 1.3, 0.9, 1.15):
        parts.append(clip[np.linspace(0, len(clip) - 1, round(len(clip) / speed)).round().astype(int)])
    write_video(folder / "repeated.mp4", np.concatenate(parts), 12.0)
    np.save(folder / "ends.npy", np.cumsum([len(part) for part in parts]) / 12.0)
    return folder


def test_touching_repetitions_at_changing_speed(home: Path) -> None:
    found = Recognizer.load(home / "mine.fsar").count(home / "repeated.mp4", RIGHT)
    ends = np.load(home / "ends.npy")
    assert abs(len(found) - 5) <= 1 and found.action == RIGHT
    near = [min(abs(each.end - ends)) for each in found.segments]
    assert np.median(near) < 0.3


def test_on_the_command_line(home: Path, capsys: pytest.CaptureFixture[str], world: VideoDataset) -> None:
    write_video(home / "black.mp4", np.zeros((40, 64, 64, 3), np.uint8), 12.0)
    words = ["count", "--model", str(home / "mine.fsar"), "--json"]
    assert cli.main([*words, str(home / "black.mp4")]) == 0
    assert '"count": 0' in capsys.readouterr().out
    assert cli.main([*words, str(home / "black.mp4"), "--action", "something_growin"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert cli.main([*words, str(home / "black.mp4"), "--action", RIGHT, "--begin", "4"]) == 2
    assert "expected a probability from 0 to 1" in capsys.readouterr().err


def test_examples_without_a_duration_are_named(tiny: Backbone, home: Path) -> None:
    recognizer = Recognizer(tiny)
    for name, start in (("right", 0), ("left", 48)):
        recognizer.enroll(name, [moving(start, 48 - start, seed) for seed in range(2)])
    with pytest.raises(ValueError, match="how long the examples"):
        recognizer.count(home / "repeated.mp4", "right")
