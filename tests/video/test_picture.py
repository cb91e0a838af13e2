"""Decoded pictures as a player shows them: turned, mirrored, square pixels, one field, shrunk."""

import av
import numpy as np
import pytest

from fsar.video.picture import Look, Turn, full_frame, small_frame, turn_of
from fsar.video.transforms import resize_short_side

STORED = np.arange(6, dtype=np.uint8).reshape(2, 3)


@pytest.mark.parametrize(
    ("matrix", "shown", "rotation", "mirrored"),
    [
        ((1, 0, 0, 1), STORED, 0, False),
        ((0, 1, -1, 0), np.rot90(STORED, -1), -90, False),
        ((-1, 0, 0, -1), np.rot90(STORED, 2), -180, False),
        ((0, -1, 1, 0), np.rot90(STORED), 90, False),
        ((-1, 0, 0, 1), STORED[:, ::-1], 0, True),
        ((1, 0, 0, -1), STORED[::-1], -180, True),
        ((0, 1, 1, 0), STORED.T, 90, True),
        ((0, -1, -1, 0), STORED[::-1, ::-1].T, -90, True),
        ((0, 0, 0, 0), STORED, 0, False),  # browsers' recorders
        ((0.9, 0.4, -0.4, 0.9), STORED, 0, False),  # no right angle: the nearest one
    ],
)
def test_every_turn_and_mirror(matrix: tuple[float, ...], shown: np.ndarray, rotation: int, mirrored: bool) -> None:
    a, b, c, d = matrix
    turn = turn_of(np.array([a, b, 0, c, d, 0, 0, 0, 1]))
    np.testing.assert_array_equal(turn(STORED), shown)
    assert (turn.rotation, turn.mirrored) == (rotation, mirrored)
    first = STORED[:, ::-1] if mirrored else STORED
    np.testing.assert_array_equal(np.rot90(first, rotation // 90), shown)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (64 / 45, (1024, 576)),
        (10 / 11, (655, 576)),
        (1.0, (720, 576)),
        (768 / 765, (720, 576)),
        (0.0, (720, 576)),
        (1000.0, (720, 576)),
    ],
)
def test_pixels_are_squared_unless_they_nearly_are_or_cannot_be(shape: float, size: tuple[int, int]) -> None:
    assert Look(720, 576, pixel_shape=shape).square_size == size
    assert Look(720, 576, Turn(transposed=True), shape).shown_size == size[::-1]


def picture(pixels: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def test_frames_shrink_one_by_one_as_they_do_together() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 300, 420, 3)).astype(np.uint8)
    look = Look(420, 300)
    together = resize_short_side(frames, 256)
    for frame, small in zip(frames, together, strict=True):
        np.testing.assert_array_equal(small_frame(picture(frame), look, 256), small)
        np.testing.assert_array_equal(full_frame(picture(frame), look), frame)


def test_very_large_pictures_shrink_in_two_steps() -> None:
    assert [Look(*size).shrink for size in ((3840, 2160), (7680, 4320), (4320, 7680), (5120, 2880))] == [1, 4, 4, 2]
    height, width = 2162, 2164
    smooth = np.linspace(0, 250, width).astype(np.uint8)[None, :, None] + np.zeros((height, 1, 3), np.uint8)
    look = Look(width, height)
    assert look.shrink == 2
    near = resize_short_side(smooth[None], 256)[0].astype(int)
    assert np.abs(small_frame(picture(smooth), look, 256) - near).max() <= 2
