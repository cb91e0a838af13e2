"""Maps of videos: features before and after a method in two dimensions, by t-SNE or UMAP, with their silhouette.

The map is for the eye: its distances depend on the projection and its seed. The silhouette beside it (Rousseeuw, 1987)
is computed from the features themselves, before the projection, with cosine distances: 1 if every video is much nearer
to its own class than to the next one, 0 if classes touch, below 0 if they mix.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from fsar.bank.fill import fill_bank
from fsar.bank.store import Bank
from fsar.datasets import VideoDataset
from fsar.explain.picture import COLOURS, MARKS, Picture, wrapped
from fsar.methods import build_method
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode, Role
from fsar.video.frame_cache import FrameCache

PROJECTIONS = ("tsne", "umap")
FEWEST = 5
"""Videos that a map needs."""
BEFORE = "before: frame features"


def video_features(encoding: Encoding) -> dict[str, Float[np.ndarray, "video dim"]]:
    """Make one vector of each video per part of an encoding: the mean over frames.

    Args:
        encoding: tensors [video, ...] of a bank. Parts that are neither [video, frame, dim] nor [video, dim], such as
            tokens of all patches, are left out.

    Example:
        >>> import torch
        >>> list(video_features({"frames": torch.zeros(3, 8, 16), "tokens": torch.zeros(3, 8, 5, 16)}))
        ['frames']
    """
    kept = {name: part.float() for name, part in encoding.items() if part.ndim in (2, 3)}
    return {name: (part.mean(1) if part.ndim == 3 else part).cpu().numpy() for name, part in kept.items()}


def views_of(
    method: Method,
    dataset: VideoDataset,
    cache: FrameCache,
    role: Role = "query",
    progress: bool = True,
) -> dict[str, Float[np.ndarray, "video dim"]]:
    """Encode videos with the backbone as it is now, and with the whole method.

    Args:
        method: any whose `encode` gives one vector per frame or video.
        dataset: the videos.
        cache: how frames are sampled.
        role: queries, which see no class text; or support videos, which some methods encode with theirs.
        progress: show a progress bar.

    Returns:
        Features before the method, and after it once per view. If a method changes queries only when it matches them
        (CLIP-SPM), they are matched with one support video of each class, the first one.

    Raises:
        VideoError: a video cannot be read.
        ValueError: the method gives no such vectors, because a video is encoded with its episode.
    """
    plain = build_method("protonet", method.backbone)
    before = fill_bank(plain, dataset.videos, cache=cache, progress=progress)
    after: Bank = fill_bank(method, dataset.videos, dataset.texts, cache=cache, role=role, progress=progress)
    parts = video_features(after.query)
    if not parts:
        raise ValueError(
            f"{method.name} encodes a {role} video to the end only with its episode, so there is no map of single "
            f"videos; choose --role query, or another method"
        )
    first = video_features(before.query)["frames"]
    named = {f"after {method.name}: {name}": part for name, part in parts.items()}
    changed = {name: part for name, part in named.items() if part.shape != first.shape or not np.allclose(part, first)}
    if not changed and role == "query":
        matched = _matched(method, dataset, after.query, cache, progress)
        changed = {f"after {method.name}: {name}": part for name, part in video_features(matched).items()}
    return {BEFORE: first, **changed}


@torch.no_grad()
def _matched(
    method: Method, dataset: VideoDataset, query: Encoding, cache: FrameCache, progress: bool, at_once: int = 20
) -> Encoding:
    """What matching makes of queries: everything that it names `query_...`, each [video, ...]."""
    shown = [next(video for video in dataset.videos if video.label == label) for label in dataset.classes]
    bank = fill_bank(method, shown, dataset.texts, cache=cache, role="support", progress=progress)
    device = method.device
    support = {name: part[:][None, :, None].to(device) for name, part in bank.support.items()}
    words = [dataset.texts[label] for label in dataset.classes]
    text = method.encode_text(words)[None].to(device) if method.traits.reads_text else None
    mask = torch.ones(1, len(shown), 1, dtype=torch.bool, device=device)
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(dataset.videos), at_once):
        some = {name: part[start : start + at_once][None].to(device) for name, part in query.items()}
        for name, part in method.match(Episode(support, some, mask, text)).named.items():
            if name.startswith("query_") and part.ndim in (3, 4):  # [episode, query, dim] or with frames
                found.setdefault(name.removeprefix("query_"), []).append(part[0].cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


def project(
    features: Float[np.ndarray, "video dim"], projection: str = "tsne", seed: int = 0
) -> Float[np.ndarray, "video 2"]:
    """Project unit vectors to two dimensions.

    Args:
        features: of the videos; they are normalised first.
        projection: `tsne` (scikit-learn) or `umap` (umap-learn).
        seed: of the projection; the same seed gives the same map.

    Returns:
        Places.

    Raises:
        ValueError: the package is not installed, or there are too few videos.
    """
    if len(features) < FEWEST:
        raise ValueError(f"a map needs at least {FEWEST} videos; got {len(features)}")
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if projection == "tsne":
        perplexity = min(30.0, (len(unit) - 1) / 3)
        tsne = _import("sklearn.manifold", "scikit-learn").TSNE
        return tsne(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(unit.astype(np.float64))
    neighbours = min(15, len(unit) - 1)
    return (
        _import("umap", "umap-learn")
        .UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1)
        .fit_transform(unit)
    )


def silhouette(features: Float[np.ndarray, "video dim"], labels: Sequence[str]) -> float:
    """Mean silhouette of the videos, by cosine distances of their features (scikit-learn).

    Args:
        features: of the videos.
        labels: their classes, at least two.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    return float(_import("sklearn.metrics", "scikit-learn").silhouette_score(features, list(labels), metric="cosine"))


def _import(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _not_installed(package) from error


def _not_installed(package: str) -> ValueError:
    return ValueError(f"maps need the package {package}, which is not installed: pip install 'fsar[maps]'")


def require_map(labels: Sequence[str], projection: str) -> None:
    """Refuse a map that cannot be drawn; videos need not be encoded to know it.

    Args:
        labels: class of each video.
        projection: `tsne` or `umap`.

    Raises:
        ValueError: too few or too many classes, too few videos, or a package that is not installed.
    """
    classes = len(set(labels))
    if not 2 <= classes <= len(COLOURS):
        raise ValueError(
            f"a map shows 2 to {len(COLOURS)} classes, so that colours can be told apart; got {classes}: choose "
            f"some with --classes"
        )
    if len(labels) < FEWEST:
        raise ValueError(f"a map needs at least {FEWEST} videos; got {len(labels)}: add classes, or raise --per-class")
    if len(labels) == classes:
        raise ValueError(f"a map needs a class with at least two videos; got {classes} classes of one: add videos")
    needed = [("sklearn", "scikit-learn"), *([("umap", "umap-learn")] if projection == "umap" else [])]
    for module, package in needed:
        if find_spec(module) is None:
            raise _not_installed(package)


def map_picture(
    views: Mapping[str, Float[np.ndarray, "video dim"]],
    labels: Sequence[str],
    video_ids: Sequence[str],
    projection: str = "tsne",
    seed: int = 0,
) -> Picture:
    """Draw a map for each view, one beside the other, a colour and a mark per class.

    Args:
        views: name -> features, as `views_of` gives them.
        labels: class of each video, at most 8 of them.
        video_ids: names of the videos.
        projection: `tsne` or `umap`.
        seed: of the projection.

    Returns:
        The picture; its data are a table of all places.

    Raises:
        ValueError: too many classes, too few videos, or a package that is not installed.
    """
    require_map(labels, projection)
    classes = list(dict.fromkeys(labels))
    called = {"tsne": "t-SNE", "umap": "UMAP"}[projection]
    width = max(3.4 * len(views), 5.0)
    columns = min(int(width / 2.6), 3, len(classes))
    names = [wrapped(label, 34) for label in classes]
    rows = -(-len(classes) // columns)
    lines = rows * max(name.count("\n") + 1 for name in names)
    figure = Figure(figsize=(width, 4.2 + 0.19 * lines), layout="constrained")
    data: dict[str, np.ndarray] = {"video": np.array(video_ids), "class": np.array(labels)}
    said = []
    for axes, (name, features) in zip(figure.subplots(1, len(views), squeeze=False)[0], views.items(), strict=True):
        places, spread = project(features, projection, seed), round(silhouette(features, labels), 2) + 0.0  # no -0.00
        for number, label in enumerate(classes):
            chosen = np.array([one == label for one in labels])
            axes.scatter(
                *places[chosen].T,
                s=22,
                c=COLOURS[number],
                marker=MARKS[number],
                label=label,
                linewidths=0.3,
                edgecolors="white",
            )
        axes.set_title(f"{wrapped(name, 30)}\nsilhouette {spread:.2f}", fontsize=9)
        axes.set_xlabel(f"{called}, first axis (no unit)", fontsize=8)
        axes.set_ylabel(f"{called}, second axis (no unit)", fontsize=8)
        axes.tick_params(labelsize=7)
        said.append(f"{name}: silhouette {spread:.2f}")
        data |= {
            f"{name} x": places[:, 0],
            f"{name} y": places[:, 1],
        }
    handles, _ = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8)
    title = f"{len(labels)} videos of {len(classes)} classes, {called}, seed {seed}"
    figure.suptitle(title, fontsize=10)
    words = f"Maps of {len(labels)} videos of the classes {', '.join(classes)}. {'; '.join(said)}."
    return Picture(figure, title, words, data)
