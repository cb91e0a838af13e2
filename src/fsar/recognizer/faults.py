"""Find examples that cannot help, by their frames."""

from collections.abc import Iterator, Mapping

import numpy as np

from fsar.names import many
from fsar.video.motion import small_grey
from fsar.video.picture import Frames

EVEN = 4.0
"""Grey levels: a frame whose brightness deviates less than this from its mean shows nothing."""
STILL = 6.0
"""Grey levels: frames of which no cell differs by more than this are the same frame, but for noise and compression."""

UNBALANCED = 5
"""An action may have so many times more examples than another one."""


class ExampleWarning(UserWarning):
    """An example was enrolled that is unlikely to help."""


def fault_of(frames: Frames) -> str | None:
    """Look for a fault that makes an example useless.

    Args:
        frames: the encoded frames, uint8 [frame, height, width, rgb].

    Returns:
        A description of the fault; None if there is none.

    Example:
        >>> fault_of(np.zeros((8, 48, 64, 3), np.uint8))
        'all its frames are black'
        >>> fault_of(np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), np.uint8)) is None
        True
    """
    grey = np.asarray(frames).mean(-1)
    if grey.std((1, 2)).max() < EVEN:
        dark = grey.mean() < 2 * EVEN
        return "all its frames are black" if dark else "each of its frames has a single colour"
    cells = np.stack([small_grey(frame) for frame in np.asarray(frames)]).astype(float)
    if len(cells) == 1 or np.abs(np.diff(cells, axis=0)).max() < STILL:
        return "nothing moves in it (a picture, or a single frame)"
    return None


def unbalanced(counts: Mapping[str, int]) -> Iterator[str]:
    """Report actions with far fewer examples than another one.

    Args:
        counts: action -> number of examples.

    Yields:
        One sentence for each.

    Example:
        >>> list(unbalanced({"wave": 1, "clap": 300, "jump": 70}))
        ["action 'wave' has 1 example where 'clap' has 300; add examples of it"]
    """
    if counts:
        largest = max(counts, key=lambda name: counts[name])
        for name, count in counts.items():
            if count * UNBALANCED <= counts[largest]:
                examples = many(count, "example")
                yield f"action {name!r} has {examples} where {largest!r} has {counts[largest]}; add examples of it"
