"""A picture of why a recogniser answered: the nearest example, the frames that agree, and the heat of what decided."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from fsar.explain.picture import COLOURS, Picture, draw_frame, heat_scale, shown_frames, wrapped
from fsar.recognizer.answer import Answer, Explanation, Heat


def explanation_picture(explanation: Explanation) -> Picture:
    """Draw a video above the nearest example of the answered action, with lines between frames that count together.

    Args:
        explanation: `recognizer.predict(video).explain()`.

    Returns:
        The picture. With place-and-motion, the heat shows which cells of which frames made the similarity; with another
        method, frames are shown as they are. If the example's file is gone, only its name is shown.

    Example:
        >>> from fsar.recognizer import Answer, Neighbour
        >>> near = (Neighbour("wave", "examples/wave/old.mp4", 0.9),)
        >>> answer = Answer("videos/new.mp4", "wave", {"wave": 0.7, "clap": 0.3}, 0.8, 0.5, near)
        >>> frames, pairs = np.zeros((2, 8, 8, 3), np.uint8), np.eye(2) / 2
        >>> why = Explanation(
        ...     answer=answer, frames=frames, example=frames, pairs=pairs, heat=None, heat_of_example=None
        ... )
        >>> explanation_picture(why).words
        'new.mp4: wave (wave 70%, clap 30%). Nearest: old.mp4, similarity 0.90.'
    """
    answer, near = explanation.answer, explanation.nearest
    ranked = ", ".join(f"{_plain(name)} {p:.0%}" for name, p in list(answer.probabilities.items())[:3])
    lines = [(f"{_plain(Path(answer.video).stem)}: {_plain(answer.action)}", explanation.frames, explanation.heat)]
    if explanation.example is not None:
        name = f"nearest example of {_plain(near.action)}: {_plain(Path(near.video).stem)}"
        lines.append((name, explanation.example, explanation.heat_of_example))
    pairs = explanation.pairs if len(lines) > 1 else None
    head = [f"probabilities: {ranked}" + (" (lines: frames that count together)" if pairs is not None else "")]
    head += [_decided(answer)] if answer.action != next(iter(answer.probabilities)) else []
    if explanation.example is None:
        head.append(f"nearest example of {_plain(near.action)}: {Path(near.video).name}; its file is not there")
    figure = _drawn(lines, pairs, "\n".join(head), _plain(near.action))
    data = {
        "probabilities": np.array(list(answer.probabilities.values())),
        "actions": np.array([*answer.probabilities]),
    }
    parts = {
        "heat": explanation.heat,
        "heat of the example": explanation.heat_of_example,
        "weights of pairs of frames": explanation.pairs,
    }
    data |= {key: part for key, part in parts.items() if part is not None}
    title = f"Why {_plain(answer.action)}? {Path(answer.video).name}"
    return Picture(figure, title, str(_without_folders(explanation)), data)


def _decided(answer: Answer) -> str:
    """Say why the answer is not what has the largest probability: the score decides."""
    if answer.threshold is None:
        return f"the answer is {_plain(answer.action)}, by its score {answer.score:.2f}"
    side = "below" if answer.score < answer.threshold else "not below"
    return f"the answer is {_plain(answer.action)}: the score {answer.score:.2f} decides, {side} {answer.threshold:.2f}"


def _without_folders(explanation: Explanation) -> Explanation:
    """Name videos by their file names, since a picture is shown to others and its words are read aloud."""
    near = replace(explanation.nearest, video=Path(explanation.nearest.video).name)
    named = replace(explanation.answer, video=Path(explanation.answer.video).name, nearest=(near,))
    return replace(explanation, answer=named)


def _plain(action: str) -> str:
    """Write a folder's name as words."""
    return action.replace("_", " ")


def _drawn(
    lines: Sequence[tuple[str, np.ndarray, Heat | None]], pairs: np.ndarray | None, title: str, action: str
) -> Figure:
    """A row of frames per video; the strongest pairs of frames are joined; the heat speaks for the action."""
    shown = shown_frames(max(len(frames) for _, frames, _ in lines))
    width = 1.3 * len(shown) + 1.6
    head = "\n".join(wrapped(line, round(13 * width)) for line in title.splitlines())
    height = 1.55 * len(lines) + 0.35 + 0.15 * len(head.splitlines())
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(len(lines), len(shown), squeeze=False, gridspec_kw={"hspace": 0.2})
    most = max((float(heat.max()) for _, _, heat in lines if heat is not None), default=1.0) or 1.0
    for row, (name, frames, heat) in zip(grid, lines, strict=True):
        for axes, frame in zip(row, shown, strict=True):
            if frame < len(frames):
                draw_frame(axes, frames[frame], None if heat is None else heat[frame], most)
            else:
                axes.axis("off")
        row[0].set_ylabel(wrapped(name, 18), fontsize=8)
    for above, below, frame in zip(grid[0], grid[-1], shown, strict=True):
        above.set_title(f"frame {frame + 1}", fontsize=8)
        if len(lines) > 1:
            below.set_xlabel(f"frame {frame + 1}", fontsize=8)
    if any(heat is not None for _, _, heat in lines):
        unit = f"share of a cell in what\nspeaks for {wrapped(action, 24)}, %"
        heat_scale(figure, grid.ravel().tolist(), most, unit)
    if pairs is not None:
        _join(figure, grid, shown, pairs)
    figure.suptitle(head, fontsize=9)
    return figure


def _join(figure: Figure, grid: np.ndarray, shown: Sequence[int], pairs: np.ndarray) -> None:
    """Draw a line between frames whose weight is more than half of the strongest one."""
    strongest = float(pairs.max()) or 1.0
    for i, j in np.ndindex(*pairs.shape):
        if pairs[i, j] > 0.5 * strongest and i in shown and j in shown:
            above, below = grid[0][shown.index(i)], grid[1][shown.index(j)]
            at: dict[str, Any] = {
                "coordsA": "axes fraction",
                "coordsB": "axes fraction",
                "axesA": above,
                "axesB": below,
            }
            figure.add_artist(
                ConnectionPatch((0.5, 0), (0.5, 1), **at, color=COLOURS[1], lw=1.2, alpha=pairs[i, j] / strongest)
            )
