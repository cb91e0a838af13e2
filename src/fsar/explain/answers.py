"""Why a recogniser answered: the nearest example, the frames that agree, and the heat of what decided."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from fsar.bank.fill import to_input
from fsar.datasets import Video
from fsar.explain.alignment import alignments
from fsar.explain.cells import cell_shares
from fsar.explain.episode import pictures_of
from fsar.explain.picture import Picture, draw_frame, heat_scale, shown_frames, wrapped
from fsar.methods.place_motion import PlaceMotion
from fsar.recognizer import Recognizer
from fsar.recognizer.evidence import Evidence
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError


def answer_picture(recognizer: Recognizer, video: Video | str | os.PathLike[str]) -> Picture:
    """Draw a video above the nearest example of the answered action, with lines between frames that count together.

    Args:
        recognizer: with at least one example.
        video: a file, a folder of frames, or a segment of a dataset.

    Returns:
        The picture. With place-and-motion, the heat shows which cells of which frames made the similarity; with another
        method, frames are shown as they are. If the example's file is gone, only its name is shown.

    Raises:
        ValueError: no action is enrolled, or the video is broken (a VideoError).
    """
    evidence = recognizer.evidence(video)
    answer, near = evidence.answer, evidence.answer.nearest[0]
    asked = video if isinstance(video, Video) else Video("", Path(video), "")
    frames = pictures_of(evidence.method, to_input(evidence.method, recognizer.cache.read(asked.path, *asked.span)))
    example = _example(evidence, recognizer.cache)
    heat, beside, pairs = _heat(evidence)
    ranked = ", ".join(f"{name} {p:.0%}" for name, p in list(answer.probabilities.items())[:3])
    lines = [(f"{Path(answer.video).name}: {answer.action}", frames, heat)]
    if example is not None:
        lines.append((f"nearest example of {near.action}: {Path(near.video).name}", example, beside))
    figure = _drawn(lines, pairs if example is not None else None, f"{ranked}")
    gone = "" if example is not None else " Its file is not there, so only its name is shown."
    words = (
        f"{answer.video} is {answer.action} ({ranked}). Nearest: {near.video}, similarity {near.similarity:.2f}."
        f"{gone}{_said(heat)}"
    )
    data = {
        "probabilities": np.array(list(answer.probabilities.values())),
        "actions": np.array([*answer.probabilities]),
    }
    data |= {} if heat is None else {"heat": heat}
    data |= {} if beside is None else {"heat of the example": beside}
    data |= {} if pairs is None else {"weights of pairs of frames": pairs}
    return Picture(figure, f"Why {answer.action}? {Path(answer.video).name}", words, data)


def _example(evidence: Evidence, cache: FrameCache) -> np.ndarray | None:
    """What the image encoder sees of the example; None if its file is not there any more."""
    try:
        clip = to_input(evidence.method, cache.read(Path(evidence.answer.nearest[0].video)))
    except (VideoError, OSError):
        return None
    return pictures_of(evidence.method, clip)


Heat = Float[np.ndarray, "frame row column"]


def _heat(evidence: Evidence) -> tuple[Heat | None, Heat | None, Float[np.ndarray, "query_frame support_frame"] | None]:
    """Cells that speak for the answer in video and example, in percent of all, and weights of pairs of frames."""
    _, found = alignments(evidence.method, evidence.episode)
    pairs = found[0].weights[0, 0, 0].cpu().numpy() if found else None
    if not isinstance(evidence.method, PlaceMotion) or evidence.method.config.weight == 0:
        return None, None, pairs
    shares = cell_shares(evidence.method, evidence.episode)
    query, support = (part[0, 0].clamp(min=0).cpu().double() for part in (shares.query, shares.support))
    percent = [(100 * part / part.sum().clamp(min=1e-12)).numpy() for part in (query, support)]
    return percent[0], percent[1], pairs


def _said(heat: Heat | None) -> str:
    """Name the frame and the place that decided most."""
    if heat is None or heat.max() <= 0:
        return ""
    frame, row, column = np.unravel_index(heat.argmax(), heat.shape)
    share = heat[frame].sum() / heat.sum()
    return (
        f" Most of it comes from frame {frame + 1} ({share:.0%} of all frames), row {row + 1} and column {column + 1} "
        f"of the grid."
    )


def _drawn(lines: Sequence[tuple[str, np.ndarray, Heat | None]], pairs: np.ndarray | None, ranked: str) -> Figure:
    """A row of frames per video; the strongest pairs of frames are joined."""
    shown = shown_frames(max(len(frames) for _, frames, _ in lines))
    figure = Figure(figsize=(1.3 * len(shown) + 1.2, 1.9 * len(lines) + 0.6), layout="constrained")
    grid = figure.subplots(len(lines), len(shown), squeeze=False)
    most = max((float(heat.max()) for _, _, heat in lines if heat is not None), default=1.0) or 1.0
    for row, (name, frames, heat) in zip(grid, lines, strict=True):
        for axes, frame in zip(row, shown, strict=True):
            if frame < len(frames):
                draw_frame(axes, frames[frame], None if heat is None else heat[frame], most)
            else:
                axes.axis("off")
            axes.set_xlabel(f"frame {frame + 1}", fontsize=7)
        row[0].set_title(wrapped(name, 70), fontsize=8, loc="left")
    if any(heat is not None for _, _, heat in lines):
        heat_scale(figure, grid.ravel().tolist(), most, "share of a cell of the grid\nin what speaks for it, %")
    if pairs is not None and len(lines) > 1:
        strongest = pairs.max() or 1.0
        for i, j in np.ndindex(*pairs.shape):
            if pairs[i, j] > 0.5 * strongest and i in shown and j in shown:
                above, below = grid[0][shown.index(i)], grid[1][shown.index(j)]
                line = ConnectionPatch(
                    (0.5, 0),
                    (0.5, 1),
                    "axes fraction",
                    "axes fraction",
                    axesA=above,
                    axesB=below,
                    color="#D55E00",
                    linewidth=1.2,
                    alpha=pairs[i, j] / strongest,
                )
                figure.add_artist(line)
    figure.suptitle(
        f"probabilities: {ranked}" + (" (lines: frames that count together)" if pairs is not None else ""), fontsize=9
    )
    return figure
