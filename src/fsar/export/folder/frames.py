"""From a video to what the encoder takes: decode, choose frames, resize, crop, normalise. Needs numpy and av.

Frames are those that the recogniser takes, pixel by pixel, of files without mirroring and interlacing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np

SHORT_SIDE, HELD = 256, 2**28
ROWS, COLUMNS, OUTSIDE, NOISE, ROUNDING = 24, 32, 0.01, 6.0, 0.28  # of motion
KERNELS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {  # radius, weight of a distance
    "box": (0.5, lambda x: ((x > -0.5) & (x <= 0.5)) * 1.0),
    "bilinear": (1.0, lambda x: (1 - abs(x)).clip(0)),
    "bicubic": (2.0, lambda x: np.where(abs(x) < 1, (1.5 * abs(x) - 2.5) * x * x + 1, _far(abs(x))) * (abs(x) < 2)),
}


def _far(x: np.ndarray) -> np.ndarray:
    return ((-0.5 * x + 2.5) * x - 4) * x + 2


def resized(pixels: np.ndarray, height: int, width: int, kernel: str, bits: int | None = None) -> np.ndarray:
    """Resize uint8 [height, width, ...] as the recogniser's libraries do: in whole numbers, first across, then down."""
    for axis, out in ((1, width), (0, height)):
        size, (radius, weight) = pixels.shape[axis], KERNELS[kernel]
        if size == out:
            continue
        scale, wide = size / out, max(size / out, 1.0)
        centre = scale * (np.arange(out) + 0.5)
        first = (centre - radius * wide + 0.5).astype(int).clip(0)
        last = (centre + radius * wide + 0.5).astype(int).clip(max=size)
        taps = first[:, None] + np.arange((last - first).max())
        shares = weight((taps - centre[:, None] + 0.5) * (1 / wide)) * (taps < last[:, None])
        shares /= shares.sum(1, keepdims=True)
        exact = bits or next(b for b in range(22) if int(0.5 + shares.max() * 2 ** (b + 1)) >= 2**15)
        whole = np.trunc(shares * 2**exact + np.copysign(0.5, shares)).astype(np.int32)
        lines, total = np.moveaxis(pixels, axis, 0).astype(np.int32, order="C"), 2 ** (exact - 1)
        for tap, share in zip(taps.clip(max=size - 1).T, whole.T, strict=True):
            total = total + lines[tap] * share.reshape(-1, *[1] * (pixels.ndim - 1))
        pixels = np.moveaxis((total >> exact).clip(0, 255).astype(np.uint8), 0, axis)
    return pixels


def to_short_side(pixels: np.ndarray, side: int, kernel: str) -> np.ndarray:
    """Resize a frame, so that its short side has so many pixels."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    return resized(pixels, int(side * height / short), int(side * width / short), kernel)


def frames_of(video: str) -> Iterator[np.ndarray]:
    """Decode the frames of a video, upright, with a short side of at most 256 pixels."""
    with av.open(video) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise ValueError("it has no pictures")
        stream.thread_type = "AUTO"
        shape = float(stream.sample_aspect_ratio or 1)
        for picture in container.decode(stream):
            width = round(picture.width * shape) if abs(shape - 1) > 0.02 else picture.width
            pixels = picture.to_ndarray(format="rgb24", width=width, height=picture.height)
            pixels = np.rot90(pixels, picture.rotation // 90)
            yield to_short_side(pixels, SHORT_SIDE, "bilinear") if min(pixels.shape[:2]) > SHORT_SIDE else pixels


def small_grey(frame: np.ndarray) -> np.ndarray:
    """Shrink a frame to 24 x 32 grey cells."""
    grey = (frame.astype(np.int32) @ np.array([19595, 38470, 7471], np.int32) + 2**15) >> 16
    return resized(grey.astype(np.uint8), ROWS, COLUMNS, "box", bits=22)


def motion(greys: list[np.ndarray], count: int) -> np.ndarray:
    """Measure how much each frame differs from the next one, beyond what a shift, zoom or change of light explains."""
    pictures = np.stack(greys).astype(float)
    difference, between = np.diff(pictures, axis=0), (pictures[1:] + pictures[:-1]) / 2
    down, across = np.gradient(between, axis=(1, 2))
    rows, columns = np.linspace(-1, 1, ROWS)[:, None], np.linspace(-1, 1, COLUMNS)
    causes = np.stack([across, down, across * columns + down * rows, np.ones_like(between), between], -1)
    causes, target = causes.reshape(len(causes), -1, 5), difference.reshape(len(difference), -1, 1)
    transposed = causes.transpose(0, 2, 1)
    left = abs(target - causes @ (np.linalg.pinv(transposed @ causes) @ (transposed @ target)))
    noise = max(np.quantile(np.median(left, (1, 2)), 0.25), ROUNDING)
    energy = (left - NOISE * noise).clip(0).mean((1, 2))
    cap = energy.max()
    for _ in range(50):
        cap = min(cap, np.minimum(energy, cap).sum() / count)
    return np.minimum(energy, cap)


def chosen(greys: list[np.ndarray], count: int, weight: float | None) -> np.ndarray:
    """Choose the numbers of the frames to encode: even in time, or by motion, which has this weight beside time."""
    frames = len(greys)
    energy = motion(greys, count) if weight is not None and frames > count else np.zeros(1)
    if weight is None or energy.sum() <= 0:
        return ((np.arange(count) + 0.5) * frames / count).astype(int).clip(0, frames - 1)
    moved = np.insert(((np.append(energy, 0) + np.insert(energy, 0, 0)) / (2 * energy.sum())).cumsum(), 0, 0)
    places = np.arange(frames + 1)
    first, last = np.interp([OUTSIDE, 1 - OUTSIDE], moved + 1e-9 * places, places)
    passed = ((places - first) / (last - first)).clip(0, 1)
    passed = (1 - weight) * passed + weight * moved
    return np.searchsorted(passed, (np.arange(count) + 0.5) / count, "right").clip(1, frames) - 1


def read(video: str, clip: dict[str, Any]) -> list[np.ndarray]:
    """Decode the frames to encode; a long video is decoded twice, so that it needs no more memory."""
    greys: list[np.ndarray] = []
    held: list[np.ndarray] = []
    size = 0
    for frame in frames_of(video):
        greys.append(small_grey(frame) if clip["motion"] is not None else np.zeros(0))
        size += frame.nbytes
        held.append(frame)
        if size > HELD:
            held.clear()
    if not greys:
        raise ValueError("no frame could be decoded")
    numbers = chosen(greys, clip["frames"], clip["motion"]).tolist()
    again = {i: frame for i, frame in enumerate(held or frames_of(video)) if i in numbers}
    return [again[i] for i in numbers]


def to_input(frames: list[np.ndarray], clip: dict[str, Any]) -> np.ndarray:
    """Resize, crop and normalise frames: float32 [frame, rgb, height, width]."""
    side, size, kernel, made = clip["resize"], clip["size"], clip["interpolation"], []
    for frame in frames:
        pixels = resized(frame, side, side, kernel) if clip["squeeze"] else to_short_side(frame, side, kernel)
        top, left = (round((length - size) / 2) for length in pixels.shape[:2])
        made.append(pixels[top : top + size, left : left + size].transpose(2, 0, 1))
    mean, std = (np.array(clip[key], np.float32).reshape(3, 1, 1) for key in ("mean", "std"))
    return (np.stack(made).astype(np.float32) / 255 - mean) / std
