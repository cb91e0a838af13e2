"""Joined streams: every clip is where the truth says, and the same seed gives the same stream."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fsar.datasets import Video
from fsar.datasets.join import Pace, join_clips
from fsar.video.reading import probe, read_frames_at
from fsar.video.writing import write_video


@pytest.fixture
def clips(tmp_path: Path) -> list[Video]:
    """Clips of one brightness each, which is the label; of two sizes and frame rates."""
    made = []
    for i, (label, size, fps) in enumerate([("40", (48, 64), 10.0), ("120", (64, 64), 20.0), ("200", (48, 64), 10.0)]):
        path = tmp_path / f"{i}.mp4"
        write_video(path, np.full((round(fps), *size, 3), int(label), np.uint8), fps)
        made.append(Video(f"{label}/{i}", path, label))
    return made


def test_every_clip_is_where_the_truth_says(clips: list[Video], tmp_path: Path) -> None:
    segments = join_clips(clips, tmp_path / "stream.mp4", seed=3, pace=Pace((0.5, 1.0), 10.0))
    assert sorted(each.action for each in segments) == ["120", "200", "40"]
    for each in segments:
        assert each.end - each.start == pytest.approx(1.0)
        middle = read_frames_at(tmp_path / "stream.mp4", [each.start + 0.05, each.end - 0.05])[:, :, 24:40]
        assert abs(float(middle.mean()) - int(each.action)) < 8
    gaps = [later.start - sooner.end for sooner, later in pairwise(segments)]
    assert all(0.4 <= gap <= 1.1 for gap in gaps) and 0.4 <= segments[0].start <= 1.1
    assert (probe(tmp_path / "stream.mp4").duration or 0) >= segments[-1].end + 0.4


def test_the_seed_decides(clips: list[Video], tmp_path: Path) -> None:
    first, again, other = (join_clips(clips, tmp_path / "stream.mp4", seed) for seed in (0, 0, 4))
    assert first == again != other


def test_mistakes_are_named(clips: list[Video], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no clip to join"):
        join_clips([], tmp_path / "stream.mp4")
    with pytest.raises(ValueError, match="the shorter one first"):
        join_clips(clips, tmp_path / "stream.mp4", pace=Pace((2.0, 1.0)))
    with pytest.raises(ValueError, match="frames per second are 0"):
        Pace(fps=0.0)
    assert not (tmp_path / "stream.mp4").exists()
