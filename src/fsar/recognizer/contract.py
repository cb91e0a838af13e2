"""The temporal contract: which parts of a long video a recogniser looks at. It follows from the examples' durations."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from fsar.recognizer.examples import Actions, Example, Length
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError

SPREAD = 1.25
"""An action may be so many times as long as its longest example, and so many times shorter than its shortest one."""
STEP = math.sqrt(2)
"""Largest ratio of two neighbouring window lengths."""
FRAMES_PER_PICK = 3
"""In the shortest window, so many frames are looked at for each one that is taken."""
HOP = 1 / 8
"""Distance of two windows of one length, as a share of the length."""
SLOWEST = 4.0
"""Frames per second that are looked at, at least."""


@dataclass(frozen=True)
class Contract:
    """What a recogniser looks at in a long video.

    Example:
        >>> contract = Contract.of_examples({"clap": [Length(1.0, 30.0)], "wave": [Length(2.0, 30.0)]}, frames=8)
        >>> contract.lengths, contract.rate, contract.spans["wave"]
        ((1.0, 2.0), 24.0, (1.6, 2.5))
    """

    lengths: tuple[float, ...]
    """Seconds of the windows, the shortest first."""
    rate: float
    """Frames per second that are looked at; a video with fewer is looked at as it is."""
    spans: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Action -> shortest and longest window that may show it, in seconds; any window for an action without an entry."""

    @classmethod
    def of_examples(cls, lengths: Mapping[str, Sequence[Length]], frames: int) -> "Contract":
        """Derive everything from the durations of examples.

        Args:
            lengths: action -> its examples' durations, at least one.
            frames: how many frames are taken of a clip.

        Returns:
            Windows from the shortest example to the longest one, in steps of at most `STEP`, without those that are too
            long or too short for every action; and the rate that `rate_of` gives.
        """
        seconds = {action: [each.seconds for each in known] for action, known in lengths.items() if known}
        spans = {
            action: (round(min(each) / SPREAD, 3), round(max(each) * SPREAD, 3)) for action, each in seconds.items()
        }
        shortest, longest = min(map(min, seconds.values())), max(map(max, seconds.values()))
        steps = max(0, math.ceil(math.log(longest / shortest, STEP) - 1e-6))
        windows = [round(shortest * (longest / shortest) ** (i / max(steps, 1)), 2) for i in range(steps + 1)]
        wanted = tuple(each for each in windows if any(low <= each <= high for low, high in spans.values()))
        every = [each.fps for known in lengths.values() for each in known]
        return cls(wanted, rate_of(wanted, median(every), frames), spans)

    def windows_per_second(self) -> float:
        """Count the windows of all lengths that end in a second of a stream."""
        return sum(1 / max(each * HOP, 1 / self.rate) for each in self.lengths)

    def __str__(self) -> str:
        windows = ", ".join(f"{each:g}" for each in self.lengths)
        return f"windows of {windows} s at {self.rate:g} frames per second"


def rate_of(windows: Sequence[float], fps: float, frames: int) -> float:
    """Choose how many frames per second are looked at.

    Args:
        windows: seconds.
        fps: frames per second of the examples.
        frames: how many frames are taken of a clip.

    Returns:
        `FRAMES_PER_PICK` * `frames` in the shortest window, at least `SLOWEST`, and no more than the examples have.
    """
    return round(min(fps, max(SLOWEST, FRAMES_PER_PICK * frames / min(windows))), 2)


def contract_of(
    actions: Actions, cache: FrameCache, windows: Sequence[float] | None = None, rate: float | None = None
) -> Contract:
    """Derive the contract of a recogniser.

    Args:
        actions: what is enrolled, at least one.
        cache: how frames are taken.
        windows: lengths in seconds instead of the examples' own.
        rate: frames per second instead of those that follow from the examples.

    Returns:
        The contract.

    Raises:
        ValueError: a length or rate that is not above 0; or no `windows`, and the duration of no example is known: it
            came as an array of frames, or was enrolled by an older version and is not at its path any more.
    """
    if any(not 0 < each < math.inf for each in (*(windows or ()), 1.0 if rate is None else rate)):
        raise ValueError(f"windows are {windows} s and the rate is {rate}; expected numbers above 0")
    frames = cache.frames or 1
    known = {name: [*filter(None, (length_of(e, cache) for e in action.examples))] for name, action in actions.items()}
    every = [each for lengths in known.values() for each in lengths]
    if windows:
        fps = median(each.fps for each in every) if every else rate_of(windows, math.inf, frames)
        found = Contract(tuple(sorted(set(windows))), rate_of(windows, fps, frames))
    elif every:
        found = Contract.of_examples(known, frames)
    else:
        raise ValueError(
            "the recogniser does not know how long its examples last: they came as arrays of frames, or an older "
            "version enrolled them. Enrol the clips again, or give the lengths of windows in seconds, as in "
            "--window 1 2 4"
        )
    return found if rate is None else replace(found, rate=rate)


def length_of(example: Example, cache: FrameCache) -> Length | None:
    """Tell how long an example lasts; of a file of an older version, measure the clip if it is still at its path.

    Args:
        example: enrolled.
        cache: measures the clip.
    """
    if example.length is not None or not os.path.exists(example.video):
        return example.length
    try:
        return Length.of(cache.times(example.video))
    except VideoError:
        return None
