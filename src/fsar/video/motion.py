"""Frames from where something happens: stillness before and after an action takes no frame.

- `moving`: equal shares of the time of the part of the video in which 98 % of the motion lies. A clip that is trimmed
  to its action gives nearly the frames of `tsn`.
- `motion`: half of the weight is on this time and half on motion. Recognisers of earlier versions have it. Where an
  action is fast in its middle, its begin and its end get few frames.

Motion is what is left of the difference of two consecutive frames, as 24 x 32 grey cells,

- without what a shift of the camera, a zoom or a change of light explains (least squares);
- without the noise of the camera, which is estimated in the stillest quarter of the video;
- and no single difference counts for more than one frame's share, so that a cut attracts no more than one frame.

No paper; the idea and its measurements are ours.
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from fsar.video.picture import Frame, Frames
from fsar.video.sampling import Indices, frame_indices

MOVING = "moving"
"""The sampling of new recognisers."""
BY_MOTION = {MOVING: 0.0, "motion": 0.5}
"""Sampling -> weight of motion against time."""
ROWS, COLUMNS = 24, 32
OUTSIDE = 0.01
"""Share of the motion before, and after, the part of the video that frames are taken from."""
NOISE = 6.0
"""Differences count from so many times the median one of the stillest quarter of the video on."""
ROUNDING = 0.28
"""Median difference that rounding alone makes between grey cells; less noise than this cannot be seen in a median."""
HELD = 2**28
"""Bytes of decoded frames that are held in memory; a longer video is decoded again for the chosen ones."""

Grey = UInt8[np.ndarray, "row column"]
Differences = Float[np.ndarray, "step row column"]
Energy = Float[np.ndarray, " step"]
"""Motion between each frame and the next one."""


def motion_indices(energy: Energy, count: int, sampling: str = MOVING) -> Indices:
    """Choose frames by motion.

    Args:
        energy: as `motion_energy` gives it.
        count: how many frames to choose.
        sampling: a name in `BY_MOTION`.

    Returns:
        Frame numbers from 0 on [count]. Those of `tsn` if nothing moves, or if the video has no more than `count`
        frames.

    Example:
        >>> still_before_and_after = np.repeat([0.0, 1.0, 0.0], [40, 8, 40])
        >>> motion_indices(still_before_and_after, 4).tolist()
        [41, 43, 45, 47]
    """
    frames = len(energy) + 1
    if frames <= count or energy.sum() <= 0:
        return frame_indices(frames, count)
    first, last = moving_part(energy)
    passed = ((np.arange(frames + 1) - first) / (last - first)).clip(0, 1)
    weight, shares = BY_MOTION[sampling], (np.arange(count) + 0.5) / count
    return np.searchsorted((1 - weight) * passed + weight * _moved(energy), shares, "right").clip(1, frames) - 1


def moving_part(energy: Energy) -> tuple[float, float]:
    """Find the part of a video in which 98 % of its motion lies.

    Args:
        energy: as `motion_energy` gives it.

    Returns:
        Begin and end, in frames since the begin of the video; the whole video if nothing moves.

    Example:
        >>> first, last = moving_part(np.repeat([0.0, 1.0, 0.0], [40, 8, 40]))
        >>> round(first, 1), round(last, 1)
        (40.2, 48.8)
    """
    frames = len(energy) + 1
    if energy.sum() <= 0:
        return 0.0, float(frames)
    places = np.arange(frames + 1)
    first, last = np.interp([OUTSIDE, 1 - OUTSIDE], _moved(energy) + 1e-9 * places, places)
    return float(first), float(last)


def _moved(energy: Energy) -> Float[np.ndarray, " place"]:
    """Share of the motion before each frame and, last, before the end of the video (1)."""
    of_frame = (np.append(energy, 0) + np.insert(energy, 0, 0)) / (2 * energy.sum())
    return np.insert(of_frame.cumsum(), 0, 0)


def motion_energy(greys: Iterable[Grey], count: int) -> Energy:
    """Measure the motion from each frame to the next one.

    Args:
        greys: all frames, as `small_grey` gives them.
        count: how many frames will be chosen.

    Returns:
        At least 0.
    """
    pictures = np.stack([np.asarray(grey, float) for grey in greys])
    if len(pictures) < 2:
        return np.zeros(0)
    return energy_of(unexplained(pictures), count)


def energy_of(left: Differences, count: int) -> Energy:
    """Measure the motion of each step of a video.

    Args:
        left: of its steps, as `unexplained` gives it.
        count: how many frames will be chosen.

    Returns:
        At least 0.
    """
    noise = max(np.quantile(np.median(left, (1, 2)), 0.25), ROUNDING)
    energy = (left - NOISE * noise).clip(0).mean((1, 2))
    return np.minimum(energy, _cap(energy, count))


def unexplained(pictures: Float[np.ndarray, "frame row column"]) -> Differences:
    """Compute the difference of consecutive frames that no shift, zoom or change of light explains.

    Args:
        pictures: grey cells of at least two frames.

    Returns:
        Absolute differences; each depends on its two frames alone.
    """
    difference, between = np.diff(pictures, axis=0), (pictures[1:] + pictures[:-1]) / 2
    down, across = np.gradient(between, axis=(1, 2))
    rows = np.linspace(-1, 1, pictures.shape[1])[:, None]
    columns = np.linspace(-1, 1, pictures.shape[2])
    causes = np.stack([across, down, across * columns + down * rows, np.ones_like(between), between], -1)
    causes = causes.reshape(len(causes), -1, causes.shape[-1])
    target = difference.reshape(len(causes), -1, 1)
    transposed = causes.transpose(0, 2, 1)
    strengths = np.linalg.pinv(transposed @ causes) @ (transposed @ target)
    return np.abs(target - causes @ strengths).reshape(difference.shape)


def _cap(energy: Energy, count: int) -> float:
    """Find the largest value that counts, so that no step has more than 1 / count of what counts."""
    cap = float(energy.max())
    for _ in range(50):
        lower = float(np.minimum(energy, cap).sum()) / count
        if lower >= cap:
            break
        cap = lower
    return cap


def small_grey(frame: Frame) -> Grey:
    """Shrink a frame to 24 x 32 grey cells, in two steps: versions of Pillow differ in which side they shrink first."""
    narrow = Image.fromarray(frame).convert("L").resize((COLUMNS, len(frame)), Image.Resampling.BOX)
    return np.asarray(narrow.resize((COLUMNS, ROWS), Image.Resampling.BOX))


def choose_by_motion(
    frames: Iterable[Frame], count: int, again: Callable[[Indices], Frames], sampling: str = MOVING
) -> Frames:
    """Go through all frames of a video, and keep those that are chosen by motion.

    Args:
        frames: of a video, in order; at least one.
        count: how many to choose.
        again: reads frames by their numbers, if there were too many to hold.
        sampling: a name in `BY_MOTION`.

    Returns:
        uint8 [frame, height, width, rgb].

    Example:
        >>> video = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
        >>> choose_by_motion(video, 8, again=lambda numbers: video[numbers]).shape
        (8, 48, 64, 3)
    """
    greys, held, size = [], [], 0
    for frame in frames:
        greys.append(small_grey(frame))
        size += frame.nbytes
        held.append(frame)
        if size > HELD:
            held.clear()
    few = len(greys) <= count
    indices = frame_indices(len(greys), count) if few else motion_indices(motion_energy(greys, count), count, sampling)
    return again(indices) if size > HELD else np.stack([held[i] for i in indices])
