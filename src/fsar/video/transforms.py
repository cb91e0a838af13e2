"""Frames -> clip: resize, crop, normalise. One draw per clip, unless a public code crops every frame by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from fsar.video.picture import Frames

JITTER = (0.2, 0.2, 0.2, 0.05)
"""Largest change of brightness, contrast, saturation and hue, unless another one is asked for."""
CROP_RATIO = 224 / 256
"""Side of the crop over the short side of the resized frame (paper: 224 out of 256)."""


@dataclass(frozen=True)
class Framing:
    """How frames are resized before a square is cut out of them."""

    side: float
    """Length of the resized side over the crop's."""
    squeezed: bool = False
    """Resize both sides to that length, whatever the aspect ratio; otherwise the short side."""
    crops_each_frame: bool = False
    """In training, draw a crop for every frame; otherwise one for all frames of a clip."""
    interpolation: str | None = None
    """`bicubic` or `bilinear`; None takes the backbone's."""


FRAMINGS = {
    "short-side": Framing(1 / CROP_RATIO),
    "square-256": Framing(1 / CROP_RATIO, squeezed=True),
    "square-257": Framing(257 / 224, squeezed=True, crops_each_frame=True, interpolation="bilinear"),
}
"""Ways of resizing; the numbers in the names are pixels for a crop of 224."""


def resize_short_side(frames: Frames, short_side: int) -> UInt8[np.ndarray, "frame new_height new_width rgb=3"]:
    """Shrink frames so that their short side has at most `short_side` pixels; smaller ones stay."""
    if min(frames.shape[1:3]) <= short_side:
        return frames
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return _tv().resize(pixels, short_side, antialias=True).permute(0, 2, 3, 1).contiguous().numpy()


def to_clip(
    frames: Frames,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = "bicubic",
    framing: str = "short-side",
) -> Float[torch.Tensor, "frame rgb=3 side side"]:
    """Make a clip as evaluation sees it: resize, centre crop, normalise.

    Args:
        frames: uint8 [frame, height, width, rgb].
        image_size: pixels, height and width of the result.
        mean, std: per colour channel, of pixels in [0, 1].
        interpolation: `bicubic` or `bilinear`.
        framing: a key of `FRAMINGS`; by default the short side becomes image_size / CROP_RATIO.

    Returns:
        float32 [frame, rgb, image_size, image_size].
    """
    pixels = _resized(frames, image_size, interpolation, FRAMINGS[framing])
    pixels = _tv().center_crop(pixels, [image_size, image_size])
    return _tv().normalize(_tv().to_dtype(pixels, torch.float32, scale=True), list(mean), list(std))


def pictures_of(
    clips: Float[torch.Tensor, "*clips frame rgb=3 side side"], mean: Sequence[float], std: Sequence[float]
) -> UInt8[np.ndarray, "*clips frame side side rgb=3"]:
    """Turn clips back into pictures: what an image encoder sees.

    Args:
        clips: as `to_clip` makes them.
        mean, std: that they were normalised with.

    Example:
        >>> frames = np.full((2, 16, 16, 3), 100, np.uint8)
        >>> bool((pictures_of(to_clip(frames, 8, (0.5,) * 3, (0.2,) * 3), (0.5,) * 3, (0.2,) * 3) == 100).all())
        True
    """
    shift, scale = (torch.tensor(list(part), device=clips.device)[:, None, None] for part in (mean, std))
    pixels = (clips.detach() * scale + shift).clamp(0, 1)
    return (pixels * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def _resized(frames: Frames, image_size: int, interpolation: str, framing: Framing) -> torch.Tensor:
    """Resize frames: [frame, rgb, height, width], uint8."""
    from torchvision.transforms import InterpolationMode  # late, as in `_tv`

    side = round(image_size * framing.side)
    return _tv().resize(
        torch.from_numpy(frames).permute(0, 3, 1, 2),
        [side, side] if framing.squeezed else side,
        interpolation=InterpolationMode(framing.interpolation or interpolation),
        antialias=True,
    )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What training does to a clip: one draw for all its frames."""

    crop: bool = True
    """A random square instead of the centre's."""
    flip: bool = False
    """Mirror every second clip; never where a class name tells left from right."""
    jitter: bool = False
    """Change the colours."""
    strength: tuple[float, float, float, float] = JITTER
    """Largest change of brightness, contrast and saturation, as shares, and of hue, as a share of its circle."""
    gray: float = 0.0
    """Of `jitter`: share of the clips that lose their colours."""

    def __call__(
        self,
        frames: Frames,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: str,
        rng: np.random.Generator,
        framing: str = "short-side",
    ) -> Float[torch.Tensor, "frame rgb=3 side side"]:
        """Make a clip as training sees it; arguments as for `to_clip`, and the source of the draw."""
        pixels = _resized(frames, image_size, interpolation, FRAMINGS[framing])
        if FRAMINGS[framing].crops_each_frame:
            pixels = torch.cat([self._cropped(frame, image_size, rng) for frame in pixels.split(1)])
        else:
            pixels = self._cropped(pixels, image_size, rng)
        if self.flip and rng.random() < 0.5:
            pixels = _tv().horizontal_flip(pixels)
        pixels = _tv().to_dtype(pixels, torch.float32, scale=True)
        if self.jitter:
            pixels = _jitter(pixels, self.strength, rng)
            if self.gray and rng.random() < self.gray:
                pixels = _tv().rgb_to_grayscale(pixels, num_output_channels=3)
        return _tv().normalize(pixels, list(mean), list(std))

    def _cropped(self, pixels: torch.Tensor, side: int, rng: np.random.Generator) -> torch.Tensor:
        """Cut out the same square, a random one or the centre's, of frames [frame, rgb, height, width]."""
        across, down = rng.random(2) if self.crop else (0.5, 0.5)
        top, left = round(down * (pixels.shape[2] - side)), round(across * (pixels.shape[3] - side))
        return _tv().crop(pixels, top, left, side, side)


def _jitter(
    pixels: torch.Tensor, strength: tuple[float, float, float, float], rng: np.random.Generator
) -> torch.Tensor:
    """Change colours, in random order."""
    most = np.array(strength[:3])
    brightness, contrast, saturation = rng.uniform(1 - most, 1 + most)
    hue = rng.uniform(-strength[3], strength[3])
    changes = (
        lambda p: _tv().adjust_brightness(p, brightness),
        lambda p: _tv().adjust_contrast(p, contrast),
        lambda p: _tv().adjust_saturation(p, saturation),
        lambda p: _tv().adjust_hue(p, hue),
    )
    for i in rng.permutation(len(changes)):
        pixels = changes[i](pixels)
    return pixels


@cache
def _tv() -> Any:
    """torchvision's transforms. It imports torch's compiler, which takes seconds, so only frames bring it in."""
    from torchvision.transforms.v2 import functional

    return functional
