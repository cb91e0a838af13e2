"""What is wrong with examples is told."""

from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.recognizer import ExampleWarning
from fsar.recognizer.review import learning_curve, review, review_folder
from fsar.video.writing import write_video
from tests.recognizer.conftest import moving


def test_bad_examples_are_named(tiny: Backbone, tmp_path: Path) -> None:
    clips = {f"right/{i}": moving(0, 48, i) for i in range(3)} | {f"left/{i}": moving(48, 0, i) for i in range(3)}
    clips["right/again"] = clips["right/0"].clip(1)
    clips["left/black"] = np.zeros((8, 64, 64, 3), np.uint8)
    clips["left/still"] = clips["left/0"][:1].repeat(8, 0)
    clips["left/one"] = clips["left/1"][:1]
    for name, frames in clips.items():
        write_video(tmp_path / f"{name}.mp4", np.repeat(frames, 1 + 9 * (name == "left/2"), 0), 4.0)
    (tmp_path / "left/broken.mp4").write_text("no video")
    found = str(review_folder(Recognizer(tiny), tmp_path))
    for finding in (
        "left/broken.mp4: ",
        "left/black.mp4: all its frames are black",
        "left/still.mp4: nothing moves in it",
        "left/one.mp4: it has a single frame",
        "left/2.mp4: it is very long (20.0 s",
        "right/again.mp4 (right) are nearly the same clip",
        "nobody said which examples come from one person",
    ):
        assert finding in found, found
    assert "right/1.mp4: " not in found
    assert "2 actions, 10 examples" in found and "would help most" in found


def test_good_examples_are_praised(small: Recognizer) -> None:
    found = review(small.method, small.enrolled)
    assert found.actions == {"right": 3, "left": 3} and found.wanted is None, str(found)
    assert not [finding for finding in found.findings if "nobody said" not in finding and "same clip" not in finding]
    assert list(found.curve) == [1, 2] and found.curve[2] == 1
    assert learning_curve(small.method, small.enrolled) == found.curve


def test_a_mislabelled_example_is_named(small: Recognizer) -> None:
    small.enroll("right", moving(47, 1, 7))
    name = small.examples["right"][-1]
    found = str(review(small.method, small.enrolled))
    assert f"{name}: enrolled as 'right', but the other examples say 'left'; is it right?" in found
    assert found.count("is it right?") == 1


def test_too_few_and_uneven_examples_are_told(small: Recognizer) -> None:
    small.remove("left", small.examples["left"][0])
    small.remove("left", small.examples["left"][0])
    assert "action 'left' has a single example" in str(review(small.method, small.enrolled))
    small.enroll("right", [moving(0, 47, seed) for seed in range(20, 30)])
    small.enroll("left", moving(47, 0, 30))
    assert "action 'left' has 2 examples where 'right' has 13" in str(review(small.method, small.enrolled))


def test_a_useless_example_is_enrolled_with_a_warning(small: Recognizer) -> None:
    with pytest.warns(ExampleWarning, match="array .*: all its frames are black; is it a good example"):
        small.enroll("right", np.zeros((8, 64, 64, 3), np.uint8))
    assert small.actions["right"] == 4
