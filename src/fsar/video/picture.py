"""Turn a decoded picture into the RGB pixels that a player shows: upright, square pixels, one size, no combing."""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

Frame = UInt8[np.ndarray, "height width rgb=3"]
Frames = UInt8[np.ndarray, "frame height width rgb=3"]

LARGEST_SHORT_SIDE = 2160
"""Pixels; larger pictures are shrunk by a whole factor first, so that an 8K video needs little memory."""
_HALF_OF_LARGEST = LARGEST_SHORT_SIDE // 2
_NEARLY_SQUARE = 0.02
"""Pixels up to 2 % wider or higher than square are rounding errors of encoders and count as square."""
_WIDEST_PIXEL = 5.0
"""A pixel shape beyond this is a mistake; the widest in use is 2.9."""
_ONE_THREAD: dict[str, Any] = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}
"""Scaling with several threads, which newer PyAV keeps, would hang in a process that is forked afterwards."""


@dataclass(frozen=True)
class Turn:
    """How to turn and mirror a stored picture for display: first transpose, then flip."""

    transposed: bool = False
    """Whether rows become columns."""
    rows_flipped: bool = False
    columns_flipped: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether left and right are swapped, before the rotation."""
        return (self.transposed + self.rows_flipped + self.columns_flipped) % 2 == 1

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise, after the mirroring: 0, 90, -90 or -180."""
        if self.transposed:
            return 90 if self.rows_flipped != self.mirrored else -90
        return -180 if self.rows_flipped else 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Turn pixels [height, width, ...]."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]


def turn_of(matrix: np.ndarray | None) -> Turn:
    """Read a display matrix: nine numbers that map a stored place (x, y, 1) to the place where it is shown.

    Args:
        matrix: [9] or None. An angle is rounded to the nearest right angle. A matrix of zeros, which some recorders
            write, counts as None.

    Example:
        >>> clockwise = np.array([0, 1, 0, -1, 0, 0, 0, 0, 1])
        >>> turn_of(clockwise).rotation, turn_of(clockwise).mirrored
        (-90, False)
        >>> turn_of(np.zeros(9)).rotation
        0
    """
    if matrix is None:
        return Turn()
    a, b, c, d = (float(matrix[i]) for i in (0, 1, 3, 4))  # shown x = a x + c y, shown y = b x + d y
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, rows_flipped=b < 0, columns_flipped=c < 0)
    return Turn(False, rows_flipped=d < 0, columns_flipped=a < 0)


@dataclass(frozen=True)
class Look:
    """How the pictures of a video are shown."""

    width: int
    """Width and height of the first picture, as stored; other pictures are scaled to it."""
    height: int
    turn: Turn = Turn()
    pixel_shape: float = 1.0
    """Width of a pixel over its height."""

    @property
    def square_size(self) -> tuple[int, int]:
        """Width and height with square pixels, before the turn."""
        shape = self.pixel_shape
        if abs(shape - 1) <= _NEARLY_SQUARE or not 1 / _WIDEST_PIXEL <= shape <= _WIDEST_PIXEL:
            return self.width, self.height
        return max(1, round(self.width * shape)), self.height

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as shown."""
        width, height = self.square_size
        return (height, width) if self.turn.transposed else (width, height)

    @property
    def shrink(self) -> int:
        """Factor by which very large pictures are shrunk."""
        short = min(self.square_size)
        return short // _HALF_OF_LARGEST if short > LARGEST_SHORT_SIDE else 1


def full_frame(picture: av.VideoFrame, look: Look) -> Frame:
    """Return a picture as shown, at full size."""
    return _upright(picture, look, look.square_size, None)


def small_frame(picture: av.VideoFrame, look: Look, short_side: int) -> Frame:
    """Return a picture as shown.

    Args:
        picture: a decoded one.
        look: how it is shown.
        short_side: largest short side, in pixels.
    """
    from fsar.video.transforms import resize_short_side  # needs PyTorch; full frames do not

    width, height = (max(1, side // look.shrink) for side in look.square_size)
    pixels = _upright(picture, look, (width, height), "AREA" if look.shrink > 1 else None)
    return resize_short_side(pixels[None], short_side)[0]


def even_frame(picture: av.VideoFrame, look: Look, short_side: int) -> Frame:
    """Return a picture as shown, with even sides, as H.264 needs.

    Args:
        picture: a decoded one.
        look: how it is shown.
        short_side: largest short side, in pixels.
    """
    square = look.square_size
    short = min(square)
    width, height = (max(2, side * min(short, short_side) // short // 2 * 2) for side in square)
    return _upright(picture, look, (width, height), "BICUBIC")


def _upright(picture: av.VideoFrame, look: Look, size: tuple[int, int], interpolation: str | None) -> Frame:
    """Scale, remove combing and turn; the fields of an interlaced picture are separated before it is scaled."""
    if picture.interlaced_frame:
        upper = _one_field(picture.to_ndarray(format="rgb24", **_ONE_THREAD))
        picture = av.VideoFrame.from_ndarray(upper, format="rgb24")
    pixels = picture.to_ndarray(
        format="rgb24", width=size[0], height=size[1], interpolation=interpolation, **_ONE_THREAD
    )
    return np.ascontiguousarray(look.turn(pixels))


def _one_field(pixels: Frame) -> Frame:
    """Keep the lines of the upper field; interpolate the others, which show another moment."""
    upper = pixels[0::2].astype(np.uint16)
    lower = len(pixels) // 2
    below = np.concatenate([upper[1:], upper[-1:]])[:lower]
    made = pixels.copy()
    made[1::2] = (upper[:lower] + below + 1) // 2
    return made
