"""Frames are taken from where something happens, whatever the camera does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsar.video import motion
from fsar.video.frame_cache import FrameCache
from fsar.video.motion import choose_by_motion, motion_energy, motion_indices, small_grey
from fsar.video.picture import Frames
from fsar.video.writing import write_video

COARSE = np.random.default_rng(0).integers(0, 200, (8, 24)).astype(np.uint8)
SCENE = np.asarray(Image.fromarray(COARSE).resize((384, 96), Image.Resampling.BICUBIC)).astype(float)


def clip(before: int = 0, action: int = 30, after: int = 0, noise: float = 0.0, pan: float = 0.0) -> Frames:
    """A bright square crosses a scene; the camera may turn, and see noise."""
    rng, frames = np.random.default_rng(1), []
    for i in range(before + action + after):
        picture = SCENE[:, int(pan * i) :][:, :128].copy()
        column = int(np.clip((i - before) / max(action - 1, 1), 0, 1) * 100) if action else 0
        picture[40:64, column : column + 24] = 250
        picture += noise * rng.standard_normal(picture.shape)
        frames.append(picture.clip(0, 255).astype(np.uint8))
    return np.repeat(np.stack(frames)[..., None], 3, -1)


def chosen(frames: Frames, count: int = 8, sampling: str = "moving") -> list[int]:
    return motion_indices(motion_energy(map(small_grey, frames), count), count, sampling).tolist()


@pytest.mark.parametrize("noise", [0, 1, 2, 6])
def test_stillness_before_and_after_takes_no_frame(noise: float) -> None:
    trimmed = chosen(clip(noise=noise))
    assert np.abs(np.array(trimmed) - [1, 5, 9, 13, 16, 20, 24, 28]).max() <= 2  # about as by `tsn`
    long = np.array(chosen(clip(before=60, after=90, noise=noise))) - 60
    assert np.abs(long - trimmed).max() <= 2


def test_a_camera_that_pans_before_the_action_takes_few_frames() -> None:
    """Then it stops, and the square moves. Without a pan there are as many frames as the square's share of time."""
    panning = clip(60, 0, 0, pan=2.0)
    panning[:, 40:64, :24] = panning[:1, 40:64, :24]
    frames = np.concatenate([panning, clip()])
    assert sum(index >= 60 for index in chosen(frames, sampling="motion")) >= 4
    assert sum(index >= 60 for index in chosen(frames)) >= 3  # the pan's rest is motion, if little


def test_a_change_of_light_is_no_motion() -> None:
    light = np.linspace(0.5, 1.0, 60)[:, None, None, None]
    dimmed = (clip(60, 0, 0) * light).astype(np.uint8)
    assert sum(index >= 60 for index in chosen(np.concatenate([dimmed, clip()]))) >= 7


def test_a_cut_attracts_no_more_than_one_frame() -> None:
    frames = np.concatenate([255 - clip(30, 0, 0), clip()])
    assert sum(index >= 30 for index in chosen(frames)) >= 7


def test_what_has_no_motion_or_few_frames_is_taken_as_by_tsn() -> None:
    assert chosen(clip(40, 0, 0)) == [2, 7, 12, 17, 22, 27, 32, 37]
    assert chosen(clip(action=8)) == list(range(8))
    assert chosen(clip(action=1)) == [0] * 8


def test_half_of_the_weight_is_on_motion_where_old_recognisers_say_so() -> None:
    fast_in_the_middle = np.repeat([1.0, 9.0, 1.0], 20)
    assert motion_indices(fast_in_the_middle, 4).tolist() == [9, 23, 37, 51]
    assert motion_indices(fast_in_the_middle, 4, "motion").tolist() == [13, 26, 34, 47]


def test_files_and_frames_in_memory_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = clip(before=20, after=20)
    write_video(tmp_path / "a.mp4", frames, 10.0)
    whole = FrameCache(tmp_path / "1", None).read(tmp_path / "a.mp4")
    expected = choose_by_motion(whole, 8, again=lambda numbers: whole[numbers])
    assert np.array_equal(FrameCache(tmp_path / "2", 8, "moving").read(tmp_path / "a.mp4"), expected)
    monkeypatch.setattr(motion, "HELD", frames[:9].nbytes)
    assert np.array_equal(FrameCache(tmp_path / "3", 8, "moving").read(tmp_path / "a.mp4"), expected)
    part = FrameCache(tmp_path / "4", 8, "moving").read(tmp_path / "a.mp4", 2.0, 5.0)
    assert np.array_equal(part, choose_by_motion(whole[20:50], 8, again=lambda numbers: whole[20:50][numbers]))
