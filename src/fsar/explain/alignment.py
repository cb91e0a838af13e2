"""Pictures of an alignment: pairs of frames of a query and each support video, and the scores of the classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fsar.datasets import VideoDataset
from fsar.evaluation.alignments import Alignment, alignments
from fsar.evaluation.episodes import Episodes
from fsar.explain.attention import alone
from fsar.explain.episode import encode_shown, show_episode
from fsar.explain.picture import COLOURS, HEAT, MARKS, Picture, wrapped
from fsar.methods.base import Method
from fsar.methods.episode import Prediction
from fsar.video.frame_cache import FrameCache
from fsar.video.transforms import pictures_of

MOST_SHOTS = 3
"""Support videos of a class that the figure shows; the data hold all."""


def scores(prediction: Prediction) -> dict[str, Float[Tensor, "query way part"]]:
    """Return what says how near each class is: logits, distances of views, scores of branches and stages."""
    parts = {"logit": prediction.logits}
    for name, tensor in prediction.named.items():
        if tensor.shape[:3] == prediction.logits.shape and tensor.ndim <= 4 and "probabilities" not in name:
            parts[name.replace("_", " ")] = tensor
    return {name: (part if part.ndim == 4 else part[..., None])[0].detach() for name, part in parts.items()}


def better(name: str) -> str:
    """Say which direction of a score means near: small distances, or large logits, scores and similarities."""
    return "smaller is nearer" if name.endswith("distances") else "larger is better"


def alignment_picture(
    method: Method, cache: FrameCache, dataset: VideoDataset, episodes: Episodes, query: int, name: str
) -> Picture:
    """Draw how one query of an episode is aligned with each support video, and the scores of the classes.

    Args:
        method: any.
        cache: how frames are sampled.
        dataset: holds the videos.
        episodes: the first one is shown.
        query: number of the query, from 0.
        name: of the model.

    Returns:
        The picture; its data hold similarities, weights and scores of all queries, and the names of classes and videos.

    Raises:
        VideoError: a video cannot be read.
        ValueError: no such query.
    """
    method = alone(method)
    shown = show_episode(method, cache, dataset, episodes)
    if not 0 <= query < len(shown.query):
        raise ValueError(f"--query is {query}; the episode has the queries 0 to {len(shown.query) - 1}")
    with torch.no_grad():
        episode = encode_shown(method, shown)
    prediction, found = alignments(method, episode)
    parts = scores(prediction)
    support, asked = (
        pictures_of(shown.support, *method.normalization),
        pictures_of(shown.query, *method.normalization)[query],
    )
    answer = int(prediction.logits[0, query].argmax())
    truth = shown.target[query]
    words = [f"The query shows {shown.words[truth]}; {name} says {shown.words[answer]}."]
    words += [_scores_said(part, tensor[query], shown.words) for part, tensor in parts.items() if tensor.shape[2] == 1]
    if found:
        each = "; ".join(f"{one.view}: {_said(one, query, shown.words)}" for one in found)
        words.append(
            f"How far paired frames keep their order in time, as the correlation of their numbers (1: the same order, "
            f"0: no order, -1: backwards; it does not decide the class): {each}."
        )
        title = f"{name}: a query of {shown.words[truth]} beside the support"
    else:
        words.append(f"{name} compares no single frames, so there are only scores.")
        title = f"{name}: scores of a query of {shown.words[truth]}"
    figure = _drawn(found, parts, query, support, asked, shown.words, truth)
    figure.suptitle(wrapped(f"{title} (below, bold: its class)", 80), fontsize=10)
    data = {f"{one.view} similarity": one.similarity.cpu().numpy() for one in found}
    data |= {f"{one.view} weights": one.weights.cpu().numpy() for one in found}
    data |= {key: part.cpu().numpy() for key, part in parts.items()} | shown.names()
    return Picture(figure, title, " ".join(words), data)


def _scores_said(name: str, scores: Float[Tensor, "way part=1"], ways: Sequence[str]) -> str:
    """Say the scores of the classes, and which direction is better."""
    each = ", ".join(f"{word} {value:.4g}" for word, value in zip(ways, scores[:, 0].tolist(), strict=True))
    decides = "; the largest decides" if name == "logit" else ""
    return f"{name.capitalize()} ({better(name)}{decides}): {each}."


def _said(one: Alignment, query: int, ways: Sequence[str]) -> str:
    """Say how far the weights keep the order of frames: correlation of frame numbers under the weights."""
    each = []
    for way, word in enumerate(ways):
        weights = one.weights[query, way].mean(0).clamp(min=0).double()
        rows, columns = (torch.arange(n, device=weights.device).double() for n in weights.shape)
        total = weights.sum()
        if total == 0:
            continue
        p = weights / total
        x, y = rows - (p.sum(1) * rows).sum(), columns - (p.sum(0) * columns).sum()
        spread = ((p.sum(1) * x**2).sum() * (p.sum(0) * y**2).sum()).sqrt()
        each.append(f"{word} {float((p * x[:, None] * y).sum() / spread):.2f}" if spread > 0 else f"{word} 0.00")
    return ", ".join(each)


def _compared(one: Alignment, reference: int, shots: int) -> str:
    """Name what a row of matrices compares with the query: the view, and the support video if there are several."""
    if shots == 1:
        return one.view
    several = one.weights.shape[2] > 1
    return f"{one.view}, shot {reference + 1}" if several else f"{one.view}, {shots} shots as one (pictures: the first)"


def _drawn(
    found: Sequence[Alignment],
    parts: Mapping[str, Tensor],
    query: int,
    support: np.ndarray,
    asked: np.ndarray,
    words: Sequence[str],
    truth: int,
) -> Figure:
    """Lay out a row of matrices per view and shot, and the bars below."""
    panels = [(one, r) for one in found for r in range(min(one.weights.shape[2], MOST_SHOTS))]
    ways = len(words)
    height = 2.6 * len(panels) + 2.6
    figure = Figure(figsize=(2.35 * ways + 1.4, height + 0.5), layout="constrained")
    both: Any = figure.subfigures(2, 1, height_ratios=[max(height - 2.6, 0.1), 2.6])  # typed as one subfigure, too
    above, below = both
    if panels:
        grid = above.subplots(len(panels), ways, squeeze=False)
        for number, (row, (one, reference)) in enumerate(zip(grid, panels, strict=True)):
            low, high = float(one.similarity[query].min()), float(one.similarity[query].max())
            for way, axes in enumerate(row):
                _matrix(axes, one, query, way, reference, asked, support[way, reference], (low, high))
                if number == 0:
                    axes.set_title(wrapped(words[way], 22), fontsize=8, pad=30)
            compared = wrapped(_compared(one, reference, support.shape[1]), 26)
            row[0].set_ylabel(f"{compared}\nquery frame", fontsize=7, labelpad=16)
            bar = above.colorbar(row[0].images[0], ax=list(row), fraction=0.02)
            bar.set_label("similarity of frames;\narea of a circle: weight", fontsize=7)
            bar.ax.tick_params(labelsize=7)
    _bars(list(below.subplots(1, len(parts), squeeze=False)[0]), parts, query, words, truth)
    return figure


def _matrix(
    axes: Axes,
    one: Alignment,
    query: int,
    way: int,
    reference: int,
    asked: np.ndarray,
    support: np.ndarray,
    limits: tuple[float, float],
) -> None:
    """Draw similarities as colours, weights as circles, and the frames along both axes."""
    similarity = one.similarity[query, way, reference].cpu().numpy()
    weights = one.weights[query, way, reference].clamp(min=0).cpu().numpy()
    rows, columns = similarity.shape
    axes.imshow(similarity, cmap=HEAT, vmin=limits[0], vmax=limits[1], aspect="auto")
    y, x = np.indices(similarity.shape)
    axes.scatter(x, y, s=40 * weights / (weights.max() or 1), facecolors="none", edgecolors="white", linewidths=1.2)
    axes.set_xticks(range(0, columns, 2), [str(i + 1) for i in range(0, columns, 2)], fontsize=6)
    axes.set_yticks(range(0, rows, 2), [str(i + 1) for i in range(0, rows, 2)], fontsize=6)
    axes.set_xlabel("support frame", fontsize=7, labelpad=1)
    for strip, axis, place in (
        (support[:columns], 1, (0, 1.01, 1, 1 / columns)),
        (asked[:rows], 0, (-1 / rows - 0.01, 0, 1 / rows, 1)),
    ):
        if axis == 0 and way:
            continue
        inset = axes.inset_axes(place)
        inset.imshow(np.concatenate(list(strip), axis), aspect="auto")
        inset.axis("off")
    if way == 0:
        axes.tick_params(axis="y", pad=14, length=0)


def _bars(below: Sequence[Axes], parts: Mapping[str, Tensor], query: int, words: Sequence[str], truth: int) -> None:
    """Draw the scores of the classes: a bar per class, or per class and stage; a dot where the axis leaves 0 out."""
    for number, (axes, (name, part)) in enumerate(zip(below, parts.items(), strict=True)):
        values = part[query].cpu().numpy()  # way part
        stages = values.shape[1]
        low, high = float(values.min()), float(values.max())
        room = 0.3 * (high - low) or 0.1 * abs(high)
        without_zero = low > room or high < -room  # differences between classes are small beside their size
        for stage in range(stages):
            places = np.arange(len(words)) + (stage - (stages - 1) / 2) * 0.8 / stages
            look: dict[str, Any] = {"color": COLOURS[stage], "label": f"stage {stage + 1}" if stages > 1 else None}
            if without_zero:
                axes.plot(values[:, stage], places, linestyle="none", marker=MARKS[stage], **look)
            else:
                axes.barh(places, values[:, stage], 0.8 / stages, **look)
        axes.set_yticks(range(len(words)), [wrapped(w, 18) for w in words] if number == 0 else [], fontsize=6)
        if number == 0:
            axes.get_yticklabels()[truth].set_fontweight("bold")
        axes.set_ylim(len(words) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="x", labelsize=6)
        below_zero = "\n(a soft minimum, so it may be below 0)" if name.endswith("distances") and low < 0 else ""
        axes.set_xlabel(f"{wrapped(name, 18)}\n{better(name)}{below_zero}", fontsize=7)
        if without_zero:
            axes.set_xlim(low - room, high + room)
        if stages > 1:
            axes.legend(
                fontsize=6, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1, columnspacing=0.8
            )
