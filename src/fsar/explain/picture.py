"""A figure with its alternative text and its numbers, and how it is written to disk."""

import csv
import html
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsar.files import atomic_path, write_text_atomic

SOFTWARE = "fsar explain"
"""Marks the PNG files that `fsar report` shows."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's colours, which colour-blind people can tell apart, the most different ones first."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
HEAT = "viridis"
MOST_FRAMES = 8
"""Frames that a figure shows; of longer clips it shows this many at even distances. The data hold all."""


@dataclass(frozen=True)
class Picture:
    """A figure, what it says in words, and what it shows in numbers."""

    figure: Figure
    title: str
    words: str
    """Alternative text: what can be seen, for people and programs that do not see it."""
    data: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The numbers by name. If all are columns of one length, they are written as CSV, else as NPZ."""


def save_picture(picture: Picture, path: Path, note: str = "") -> Path:
    """Write a picture, and its numbers beside it.

    Args:
        picture: the picture.
        path: `.png` or `.svg`. The numbers get the same name with `.csv` or `.npz`.
        note: what a person says about it; `fsar report` prints it below a PNG.

    Returns:
        The file with the numbers.

    Raises:
        ValueError: another ending.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> figure = Figure()
        >>> _ = figure.subplots().plot([0, 1])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     picture = Picture(figure, "A line", "A line that rises.", {"x": np.arange(2), "y": np.arange(2)})
        ...     save_picture(picture, Path(folder, "line.png")).name
        'line.csv'
    """
    require_picture_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"Title": picture.title, "Description": picture.words} | ({"Comment": note} if note else {})
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": SOFTWARE}):
        if path.suffix == ".png":
            with atomic_path(path) as temporary:
                picture.figure.savefig(temporary, format="png", dpi=110, metadata={**about, "Software": SOFTWARE})
        else:
            text = io.StringIO()
            about.pop("Comment", None)  # SVG has no such entry
            picture.figure.savefig(text, format="svg", metadata={**about, "Date": None})
            said = f"<desc>{html.escape(picture.words)}</desc>"  # matplotlib writes the title before its metadata
            written = text.getvalue().replace("<svg ", '<svg role="img" ', 1)
            write_text_atomic(path, written.replace("</title>", f"</title>{said}", 1))
    return _save_numbers(picture.data, path)


def require_picture_name(path: Path) -> None:
    """Refuse a file that is neither PNG nor SVG, before any work.

    Raises:
        ValueError: another ending.
    """
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"--out is {str(path)!r}; expected the name of a file that ends in .png or .svg")


def _save_numbers(data: Mapping[str, np.ndarray], path: Path) -> Path:
    arrays = {name: np.asarray(array) for name, array in data.items()}
    if {array.ndim for array in arrays.values()} == {1} and len({len(array) for array in arrays.values()}) == 1:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(arrays)
        rows.writerows(zip(*(array.tolist() for array in arrays.values()), strict=True))
        write_text_atomic(path.with_suffix(".csv"), text.getvalue())
        return path.with_suffix(".csv")
    with atomic_path(path.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return path.with_suffix(".npz")


def shown_frames(frames: int) -> list[int]:
    """Choose the frames that a figure shows: all, or `MOST_FRAMES` at even distances.

    Args:
        frames: how many there are.

    Example:
        >>> shown_frames(3), shown_frames(16)
        ([0, 1, 2], [0, 2, 4, 6, 9, 11, 13, 15])
    """
    return sorted({round(i) for i in np.linspace(0, frames - 1, min(frames, MOST_FRAMES))})


def draw_frame(axes: Axes, frame: np.ndarray, heat: np.ndarray | None = None, most: float = 1.0) -> None:
    """Draw a frame and, over it, its heat.

    Args:
        axes: to draw into.
        frame: [height, width, rgb], uint8.
        heat: [row, column], at least 0.
        most: the heat that has the brightest colour.
    """
    extent = (0.0, frame.shape[1], frame.shape[0], 0.0)
    grey = np.repeat(frame.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    axes.imshow(frame if heat is None else grey, extent=extent)
    if heat is not None:
        axes.imshow(heat, extent=extent, cmap=HEAT, vmin=0, vmax=most, alpha=0.6, interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])


def wrapped(words: str, width: int = 40) -> str:
    """Break words into lines."""
    return "\n".join(textwrap.wrap(words, width)) or words


def heat_scale(figure: Figure, axes: Sequence[Axes], most: float, unit: str, into: Axes | None = None) -> None:
    """Add the scale of the heat beside a row of frames.

    Args:
        figure: of the axes.
        axes: the row.
        most: the largest heat.
        unit: what the heat measures.
        into: axes for the scale; None takes room from the row.
    """
    colours = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, most), HEAT)
    room: dict[str, Any] = {"ax": list(axes), "fraction": 0.02, "pad": 0.01} if into is None else {"cax": into}
    bar = figure.colorbar(colours, **room)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
