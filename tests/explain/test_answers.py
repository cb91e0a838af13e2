"""Why a recogniser answered: nearest example, heat and frames, also if the example's file is gone."""

import json
import pickle
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer, cli
from fsar.backbones.clip import ClipBackbone
from fsar.datasets import VideoDataset
from fsar.explain import explanation_picture
from fsar.recognizer import Answer, Neighbour
from fsar.recognizer.answer import Explanation
from fsar.video.frame_cache import FrameCache


@pytest.fixture
def recognizer(small_for_tiny: ClipBackbone, little_world: VideoDataset) -> Recognizer:
    made = Recognizer("tiny", cache=FrameCache(frames=4))
    for label in little_world.split("test").classes[:2]:
        for video in [v for v in little_world.videos if v.label == label][:2]:
            made.enroll(label, video.path)
    return made


def test_an_example_is_nearest_to_itself(recognizer: Recognizer, little_world: VideoDataset) -> None:
    label = little_world.split("test").classes[0]
    video = next(v for v in little_world.videos if v.label == label).path
    answer = recognizer.predict(video)
    recognizer.remove(label, str(video))  # an answer keeps the recogniser as it was
    why = answer.explain()
    assert why.answer == replace(answer, nearest=(why.nearest,)) and answer.best == label
    assert Path(why.nearest.video) == video and why.nearest.frames == (0, 1, 2, 3)
    np.testing.assert_array_equal(why.frames, why.example)
    picture = explanation_picture(why)
    assert picture.data["weights of pairs of frames"].shape == (4, 4)
    assert len(picture.figure.axes) >= 8  # four frames of the video, four of the example
    assert why.heat is not None and why.heat_of_example is not None
    assert picture.data["heat"].shape == (4, 3, 3) and "Most of it comes from frame" in picture.words
    assert picture.words.startswith(f"{video.name}: ") and str(video.parent) not in picture.words
    np.testing.assert_allclose([why.heat.sum(), why.heat_of_example.sum()], 100)
    np.testing.assert_allclose(why.heat, why.heat_of_example, rtol=1e-5)  # the video and its example are the same


def test_a_picture_says_what_decided_and_for_which_action() -> None:
    """The score and its threshold decide, so an answer may differ from what has the largest probability."""
    near = (Neighbour("wave", "/home/me/wave/old.mp4", 0.9),)
    frames, heat = np.zeros((2, 8, 8, 3), np.uint8), np.full((2, 3, 3), 100 / 18)
    why = Explanation(
        answer=Answer("new.mp4", "wave", {"unknown": 0.4, "wave": 0.3, "clap": 0.3}, 0.8, 0.5, near),
        frames=frames,
        example=None,
        pairs=None,
        heat=heat,
        heat_of_example=None,
    )
    unknown = replace(why.answer, action="unknown", probabilities={"wave": 0.6, "unknown": 0.4}, score=0.45)
    usual = replace(why.answer, probabilities={"wave": 0.6, "unknown": 0.4})
    for answer, reason in (
        (why.answer, "the answer is wave: the score 0.80 decides, not below 0.50"),
        (unknown, "the answer is unknown: the score 0.45 decides, below 0.50"),
        (usual, None),
    ):
        figure = explanation_picture(replace(why, answer=answer)).figure
        title = figure.get_suptitle().replace("\n", " ")
        assert (reason or "") in title and ("decides" in title) == (reason is not None)
        assert "nearest example of wave: old.mp4; its file is not there" in title and "/home" not in title
        assert any("speaks for wave, %" in axes.get_ylabel() for axes in figure.axes)


def test_what_cannot_be_explained(recognizer: Recognizer, little_world: VideoDataset, tmp_path: Path) -> None:
    """Frames are not kept; a file may change; a copy in another process or in JSON has nothing to explain with."""
    first, other = (str(video.path) for video in little_world.split("test").videos[:2])
    frames = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), np.uint8)
    answer = recognizer.predict(frames)
    with pytest.raises(ValueError, match="does not keep frames"):
        answer.explain()
    assert answer.explain(frames).frames.shape == (4, 16, 16, 3)
    file = tmp_path / "clip.mp4"
    shutil.copy(first, file)
    answer = recognizer.predict(file)
    assert deepcopy(answer).explain().answer.video == str(file)
    assert "basis" not in json.dumps(answer.to_dict())
    shutil.copy(other, file)
    with pytest.raises(ValueError, match="is not what"):
        answer.explain()
    file.unlink()
    with pytest.raises(ValueError, match=r"clip\.mp4"):
        answer.explain()
    sent = pickle.loads(pickle.dumps(answer))
    assert sent == answer
    with pytest.raises(ValueError, match="not made by a recogniser in this process"):
        sent.explain()


def test_command(
    recognizer: Recognizer, little_world: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of a recogniser holds no paths, so the example is not shown, and the command says so."""
    label = little_world.split("test").classes[0]
    video = next(v for v in little_world.videos if v.label == label).path
    for paths in (False, True):
        recognizer.save(tmp_path / "mine.fsar", paths=paths)
        words = ["recognize", "--model", str(tmp_path / "mine.fsar"), str(video), "--explain", str(tmp_path / "why")]
        assert cli.main(words) == 0
        assert [path.suffix for path in sorted((tmp_path / "why").iterdir())] == [".npz", ".png"]
        assert ("pictures without an example" in capsys.readouterr().err) == (not paths)


def test_paths_are_kept_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recognize", "--model", "a.fsar", "--keep-paths", "new.mp4"]) == 2
    assert "--keep-paths belongs to --examples DIR and --save FILE" in capsys.readouterr().err
