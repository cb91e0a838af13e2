"""Frames -> clip: resize, crop, normalise. One draw per clip, never per frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from fsar.video.picture import Frames

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


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What training does to a clip: one draw for all its frames."""

    crop: bool = True
    """A random square instead of the centre's."""
    flip: bool = False
    """Mirror every second clip; never where a class name tells left from right."""
    jitter: bool = False
    """Brightness, contrast and saturation by up to 20 %, hue by up to 5 % of the circle."""

    def __call__(
        self,
        frames: Frames,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: str,
        rng: np.random.Generator,
    ) -> Float[torch.Tensor, "frame rgb=3 side side"]:
        """Make a clip as training sees it; arguments as for `to_clip`, and the source of the draw."""
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
        mode = InterpolationMode(interpolation)
        pixels = tv.resize(pixels, round(image_size / CROP_RATIO), interpolation=mode, antialias=True)
        across, down = rng.random(2) if self.crop else (0.5, 0.5)
        top, left = round(down * (pixels.shape[2] - image_size)), round(across * (pixels.shape[3] - image_size))
        pixels = tv.crop(pixels, top, left, image_size, image_size)
        if self.flip and rng.random() < 0.5:
            pixels = tv.horizontal_flip(pixels)
        pixels = tv.to_dtype(pixels, torch.float32, scale=True)
        if self.jitter:
            pixels = _jitter(pixels, rng)
        return tv.normalize(pixels, list(mean), list(std))


def _jitter(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Change colours, in random order."""
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    hue = rng.uniform(-0.05, 0.05)
    changes = (
        lambda p: tv.adjust_brightness(p, brightness),
        lambda p: tv.adjust_contrast(p, contrast),
        lambda p: tv.adjust_saturation(p, saturation),
        lambda p: tv.adjust_hue(p, hue),
    )
    for i in rng.permutation(len(changes)):
        pixels = changes[i](pixels)
    return pixels
