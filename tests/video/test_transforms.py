"""Frames to clips: what is kept of a picture, and what is drawn once or for every frame."""

import numpy as np
import pytest
import torch

from fsar.video.transforms import FRAMINGS, Augmentation, to_clip

PLAIN = ((0.0,) * 3, (1.0,) * 3, "bilinear")


def ramp(height: int, width: int, frames: int = 1) -> np.ndarray:
    """Frames whose red tells the column and whose green tells the row, both from 0 to 255."""
    across = np.linspace(0, 255, width).round().astype(np.uint8)
    down = np.linspace(0, 255, height).round().astype(np.uint8)
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0], frame[..., 1] = across, down[:, None]
    return np.stack([frame] * frames)


@pytest.mark.parametrize(("framing", "kept"), [("short-side", 0.49), ("square-256", 0.875), ("square-257", 0.87)])
def test_how_much_of_a_wide_frame_is_kept(framing: str, kept: float) -> None:
    """Of 427 x 240 pixels: the short side's crop keeps half of the width, a squeezed frame's nearly all."""
    clip = to_clip(ramp(240, 427), 224, *PLAIN, framing)
    assert clip.shape == (1, 3, 224, 224)
    red, green = (float(channel.max() - channel.min()) for channel in clip[0, :2])
    assert red == pytest.approx(kept, abs=0.01)
    assert green == pytest.approx(0.87 if framing == "square-257" else 0.875, abs=0.01)


def test_the_short_side_is_resized_as_before() -> None:
    assert [round(size * FRAMINGS["short-side"].side) for size in (64, 224, 336, 384)] == [73, 256, 384, 439]
    assert round(224 * FRAMINGS["square-257"].side) == 257


@pytest.mark.parametrize("framing", FRAMINGS)
def test_only_one_framing_crops_every_frame_by_itself(framing: str) -> None:
    clip = Augmentation()(ramp(240, 320, frames=6), 224, *PLAIN, np.random.default_rng(0), framing)
    assert clip.shape == (6, 3, 224, 224)
    assert all(torch.equal(clip[0], frame) for frame in clip) is (framing != "square-257")
    centre = Augmentation(crop=False)(ramp(240, 320, frames=6), 224, *PLAIN, np.random.default_rng(0), framing)
    torch.testing.assert_close(centre, to_clip(ramp(240, 320, frames=6), 224, *PLAIN, framing), atol=1e-6, rtol=0)
