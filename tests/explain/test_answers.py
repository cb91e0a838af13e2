"""Why a recogniser answered: nearest example, heat and frames, also if the example's file is gone."""

from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer, cli
from fsar.backbones.clip import ClipBackbone
from fsar.datasets import VideoDataset
from fsar.explain.answers import answer_picture
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
    evidence = recognizer.evidence(video)
    assert evidence.answer.best == label and Path(evidence.answer.nearest[0].video) == video
    picture = answer_picture(recognizer, video)
    weights = picture.data["weights of pairs of frames"]
    assert weights.shape == (4, 4)
    assert len(picture.figure.axes) >= 8  # four frames of the video, four of the example
    if "heat" in picture.data:
        assert picture.data["heat"].shape == (4, 3, 3) and "Most of it comes from frame" in picture.words
        np.testing.assert_allclose(picture.data["heat"].sum(), picture.data["heat of the example"].sum(), rtol=0.5)


def test_command(recognizer: Recognizer, little_world: VideoDataset, tmp_path: Path) -> None:
    """A file of a recogniser holds no paths, so the example is named and not shown."""
    recognizer.save(tmp_path / "mine.fsar")
    label = little_world.split("test").classes[0]
    video = next(v for v in little_world.videos if v.label == label).path
    words = ["recognize", "--model", str(tmp_path / "mine.fsar"), str(video), "--explain", str(tmp_path / "why")]
    assert cli.main(words) == 0
    assert [path.suffix for path in sorted((tmp_path / "why").iterdir())] == [".npz", ".png"]
