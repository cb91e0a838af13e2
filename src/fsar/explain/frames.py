"""Rows of frames with heat over them: attention of several models, of an episode, Grad-CAM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from fsar.explain.picture import Picture, draw_frame, heat_scale, shown_frames, wrapped


@dataclass(frozen=True)
class Row:
    """The frames of a video, and what a model sees in them."""

    name: str
    frames: UInt8[np.ndarray, "frame height width rgb=3"]
    heat: Float[np.ndarray, "frame row column"] | None = None
    """None shows the frames as they are."""
    shares: Mapping[str, Float[np.ndarray, " frame"]] = field(default_factory=dict)
    """Numbers under each frame, by name: shares from 0 to 1."""
    key: str = ""
    """Name in the data; that of the row if this is empty."""


def frames_picture(rows: Sequence[Row], title: str, unit: str, words: str) -> Picture:
    """Draw rows of frames, each with the scale of its heat.

    Args:
        rows: at least one.
        title: above the figure.
        unit: what the heat measures.
        words: alternative text.

    Returns:
        The picture; its data hold the heat of every row, all frames.

    Example:
        >>> frames, heat = np.zeros((2, 8, 8, 3), np.uint8), np.ones((2, 4, 4))
        >>> picture = frames_picture([Row("otam", frames, heat)], "Attention", "share", "Two dark frames.")
        >>> picture.data["otam"].shape
        (2, 4, 4)
    """
    columns = max(len(shown_frames(len(row.frames))) for row in rows)
    height = sum(1.25 + 0.13 * len(row.shares) for row in rows) + 0.6
    width = 1.2 * columns + 2.2
    figure = Figure(figsize=(width, height), layout="compressed")
    # scales in a column of their own, so that all rows are as wide, with and without one
    grid = figure.subplots(len(rows), columns + 1, squeeze=False, width_ratios=[1] * columns + [0.08])
    data: dict[str, np.ndarray] = {}
    for number, ((*axes, scale), row) in enumerate(zip(grid, rows, strict=True)):
        most = 1.0 if row.heat is None else float(row.heat.max()) or 1.0
        shown = shown_frames(len(row.frames))
        for one, frame in zip(axes, shown, strict=False):
            draw_frame(one, row.frames[frame], None if row.heat is None else row.heat[frame], most)
            below = [f"{name} {100 * share[frame]:.0f} %" for name, share in row.shares.items()]
            one.set_xlabel("\n".join(below), fontsize=7)
            if number == 0:
                one.set_title(f"frame {frame + 1}", fontsize=8)
        for one in axes[len(shown) :]:
            one.axis("off")
        axes[0].set_ylabel(wrapped(row.name, 16), fontsize=8)
        if row.heat is None:
            scale.axis("off")
        else:
            heat_scale(figure, axes, most, wrapped(unit, 18), scale)
            key = row.key or row.name
            key = key if key not in data else f"{key} {number}"
            data[key] = row.heat
            data |= {f"{key}: {name}": np.asarray(share) for name, share in row.shares.items()}
    figure.suptitle(wrapped(title, round(12 * width)), fontsize=10)
    return Picture(figure, title, words, data)
