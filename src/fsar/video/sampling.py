"""Sample frames of a video: by number or by time."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from fsar.names import unknown

Indices = Int[np.ndarray, " frame"]
Times = Float[np.ndarray, " every_frame"]
"""Start of each frame of a video, in seconds, in order."""

_SLACK = 1e-6  # seconds; a time at the start of a frame means that frame, in spite of rounding


def _tsn(frames: int, count: int, fps: float | None, rng: np.random.Generator | None) -> np.ndarray:
    within = np.full(count, 0.5) if rng is None else rng.random(count)
    return ((np.arange(count) + within) * frames / count).astype(int)


def _trx(frames: int, count: int, fps: float | None, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None:
        start, end = 1, frames - 2
    else:
        pad = max(0, min(5, (frames - count) // 2))
        start, end = int(rng.integers(0, pad, endpoint=True)), int(rng.integers(frames - 1 - pad, frames))
    if end - start < count:
        start, end = 0, frames - 1
    return np.linspace(start, end, count).astype(int)


def _task_adapter(frames: int, count: int, fps: float | None, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None or frames <= count:
        return _tsn(frames, count, fps, None)
    segment = frames // count
    return np.arange(count) * segment + rng.integers(segment, size=count)


def _clip_fsar_interval(frames: int, count: int, fps: float | None, rng: np.random.Generator | None) -> np.ndarray:
    interval = 35  # frames, the SAMPLING_RATE of that code's Kinetics-100 settings
    length = count * interval * (fps or 30.0) / 12
    if length > frames:
        length = frames // count * count
    spare = frames - length + 1
    start = spare / 2 if rng is None else rng.uniform(0, spare)
    return np.linspace(start, start + length - interval, count).astype(int)


SAMPLINGS: dict[str, Callable[[int, int, float | None, np.random.Generator | None], np.ndarray]] = {
    "tsn": _tsn,
    "trx": _trx,
    "task-adapter": _task_adapter,
    "clip-fsar-interval": _clip_fsar_interval,
    "time": _tsn,  # of frames that are equally far apart; `frame_indices` sees to all others
}


def frame_indices(
    frames: int,
    count: int = 8,
    sampling: str = "tsn",
    fps: float | None = None,
    rng: np.random.Generator | None = None,
    times: Sequence[float] | Times | None = None,
) -> Indices:
    """Choose `count` frames of a video that has `frames`.

    - `tsn` (the papers): `count` segments with equal numbers of frames; the centre of each or, with `rng`, a random
      frame of each.
    - `time`: the same with segments of equal seconds. It differs from `tsn` only if the frame rate varies, as in
      recordings of screens and calls.
    - `trx`, `task-adapter`, `clip-fsar-interval`: as in these public codes. The last one needs `fps` and, as
      published, runs backwards on very short videos.

    A video shorter than `count` repeats frames by the same formula.

    Args:
        frames: how many frames the video has.
        count: how many to choose, T.
        sampling: a name in `SAMPLINGS`.
        fps: frames per second; 30 if unknown.
        rng: draws frames at random, if the sampling has a random form.
        times: for `time`: start of each frame and, last, end of the video, in seconds [frames + 1]. Without them,
            all frames last equally long.

    Returns:
        Frame numbers, starting at 0 [count].

    Raises:
        ValueError: no frames, no count, or an unknown sampling.

    Example:
        >>> frame_indices(20, 4).tolist()
        [2, 7, 12, 17]
        >>> frame_indices(3, 2, "time", times=[0.0, 0.1, 0.2, 4.0]).tolist()
        [2, 2]
    """
    if frames < 1 or count < 1:
        raise ValueError(f"cannot choose {count} frames out of {frames}: both must be at least 1")
    if sampling not in SAMPLINGS:
        raise ValueError(unknown(sampling, SAMPLINGS, "frame sampling"))
    if sampling == "time" and times is not None:
        return _by_time(np.asarray(times, float), count, rng)
    return np.clip(SAMPLINGS[sampling](frames, count, fps, rng), 0, frames - 1)


def _by_time(times: Times, count: int, rng: np.random.Generator | None) -> Indices:
    within = np.full(count, 0.5) if rng is None else rng.random(count)
    begin, end = times[0], times[-1]
    return shown_at(times[:-1], begin + (np.arange(count) + within) * (end - begin) / count)


def shown_at(begins: Times, moments: Sequence[float] | Float[np.ndarray, " moment"]) -> Int[np.ndarray, " moment"]:
    """Find the frames that are shown at given moments.

    Args:
        begins: start of each frame, in seconds, in order.
        moments: in seconds; a moment before the first frame gives the first frame.

    Returns:
        Numbers of frames [moment].

    Example:
        >>> shown_at(np.array([0.0, 0.5, 1.0]), [0.4, 0.5, 7.0]).tolist()
        [0, 1, 2]
    """
    return np.clip(np.searchsorted(begins, np.asarray(moments, float) + _SLACK, "right") - 1, 0, len(begins) - 1)
