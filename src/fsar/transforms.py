"""Frames -> clip: resize, crop, normalise. One draw per clip, never per frame."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from fsar.video import Frames

CROP_RATIO = 224 / 256
"""Side of the crop over the short side of the resized frame (paper: 224 out of 256)."""


def resize_short_side(frames: Frames, short_side: int) -> UInt8[np.ndarray, "frame new_height new_width rgb=3"]:
    """Shrink frames so that their short side has at most `short_side` pixels; smaller ones stay."""
    if min(frames.shape[1:3]) <= short_side:
        return frames
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return tv.resize(pixels, short_side, antialias=True).permute(0, 2, 3, 1).contiguous().numpy()


def to_clip(
    frames: Frames,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = "bicubic",
) -> Float[torch.Tensor, "frame rgb=3 side side"]:
    """Make a clip as evaluation sees it: short side to image_size / CROP_RATIO, centre crop, normalise.

    Args:
        frames: uint8 [frame, height, width, rgb].
        image_size: pixels, height and width of the result.
        mean, std: per colour channel, of pixels in [0, 1].
        interpolation: `bicubic` or `bilinear`.

    Returns:
        float32 [frame, rgb, image_size, image_size].
    """
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    mode = InterpolationMode(interpolation)
    pixels = tv.resize(pixels, round(image_size / CROP_RATIO), interpolation=mode, antialias=True)
    pixels = tv.center_crop(pixels, [image_size, image_size])
    return tv.normalize(tv.to_dtype(pixels, torch.float32, scale=True), list(mean), list(std))
