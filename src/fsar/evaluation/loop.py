"""Episodes -> accuracy with its confidence interval, per class, and what was confused with what."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fsar.bank.fill import fill_bank, load_clip
from fsar.bank.store import Bank
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import Episodes, EpisodeSampler
from fsar.methods.base import Encoding, Episode, Method
from fsar.progress import progress_bar
from fsar.results.result import Result, short_hash, versions
from fsar.video.frame_cache import FrameCache

_BATCH_BYTES = 48 * 2**20  # encodings gathered at a time; bounds memory, never changes a result


@dataclass(frozen=True)
class Scores:
    """What matching gave: logits of every query of every episode."""

    logits: Float[np.ndarray, "episode query way"]
    seconds: float

    @property
    def predicted(self) -> Int[np.ndarray, "episode query"]:
        """The way each query is named as."""
        return self.logits.argmax(-1)


def match_from_bank(
    method: Method, bank: Bank, episodes: Episodes, texts: Mapping[str, str] | None = None, progress: bool = True
) -> Scores:
    """Match episodes out of a filled bank, many at a time."""
    row = {video_id: i for i, video_id in enumerate(bank.video_ids)}
    rows = np.array([row.get(video_id, -1) for video_id in episodes.video_ids])
    _require_all(rows[np.concatenate([episodes.support.ravel(), episodes.query.ravel()])])
    class_text = _class_text(method, episodes, texts)
    size = episodes.support[0].size * _bytes(bank.support) + episodes.query[0].size * _bytes(bank.query)
    device = method.device
    batch = max(1, min(method.traits.episodes_per_match, _BATCH_BYTES // size))

    def gather(chosen: Episodes) -> Episode:
        support, query = torch.from_numpy(rows[chosen.support]), torch.from_numpy(rows[chosen.query])
        return Episode(
            support={name: tensor[support].to(device) for name, tensor in bank.support.items()},
            query={name: tensor[query].to(device) for name, tensor in bank.query.items()},
            shot_mask=torch.ones(support.shape, dtype=torch.bool, device=device),
            text=None if class_text is None else class_text[torch.from_numpy(chosen.way_class)],
            draws=_draws(method, chosen),
        )

    return _match(method, episodes, gather, batch, progress)


def match_naively(
    method: Method,
    dataset: VideoDataset,
    episodes: Episodes,
    cache: FrameCache | None = None,
    progress: bool = True,
) -> Scores:
    """Match episodes encoding every video of every episode anew, as the field does; for comparison."""
    frame_cache = cache or FrameCache()
    sources = {video.id: (video.path, *video.span) for video in dataset.videos}
    texts = dataset.texts
    class_text = _class_text(method, episodes, texts)

    def clips(videos: Int[np.ndarray, "..."]) -> Tensor:
        flat = [load_clip(method, frame_cache, *sources[episodes.video_ids[i]]) for i in videos.ravel()]
        return torch.stack(flat).unflatten(0, videos.shape).to(method.device)

    def encode(chosen: Episodes) -> Episode:
        text = None if class_text is None else class_text[torch.from_numpy(chosen.way_class)]
        return method.encode_episode(clips(chosen.support), clips(chosen.query), text, _draws(method, chosen))

    return _match(method, episodes, encode, 1, progress)


def _match(method: Method, episodes: Episodes, make: Any, batch: int, progress: bool) -> Scores:
    def batches() -> Iterator[Tensor]:
        starts = range(0, len(episodes), batch)
        for start in progress_bar(starts, "match", f" batches of {batch} episodes", len(starts), progress):
            yield method.match(make(episodes[start : start + batch])).logits

    begun = time.perf_counter()
    with torch.no_grad():
        logits = torch.cat(list(batches())).float().cpu().numpy()
    if not np.isfinite(logits).all():
        raise ValueError(f"{method.name} gave logits that are not finite; please report this with the options used")
    return Scores(logits, time.perf_counter() - begun)


def _bytes(encoding: Encoding) -> int:
    """Bytes of one video's encoding."""
    return sum(tensor[0].numel() * tensor.element_size() for tensor in encoding.values())


def _draws(method: Method, episodes: Episodes) -> Tensor | None:
    draws = method.draws_of(episodes)
    return None if draws is None else draws.to(method.device)


def _require_all(rows: np.ndarray) -> None:
    if (rows < 0).any():
        raise ValueError("the episodes name videos that the bank lacks; fill it with the same dataset and split")


@torch.no_grad()
def _class_text(method: Method, episodes: Episodes, texts: Mapping[str, str] | None) -> Tensor | None:
    """Encoded texts of all classes of the episodes: [class, ...]."""
    if not method.traits.reads_text:
        return None
    if texts is None:
        raise ValueError(f"{method.name} reads class names; give the dataset's texts")
    return method.encode_text([texts[label] for label in episodes.classes])


def evaluate(
    method: Method,
    dataset: VideoDataset,
    split: str = "test",
    way: int = 5,
    shot: int = 1,
    query: int = 1,
    episodes: int | Episodes = 10_000,
    seed: int = 0,
    cache: FrameCache | None = None,
    bank: Bank | None = None,
    naive: bool = False,
    progress: bool = True,
) -> Result:
    """Evaluate a method on the classes of a split: accuracy over episodes, with all that it rests on.

    Args:
        method: what to evaluate.
        dataset: with splits, or with `split="all"` without.
        split: train, val, test or all.
        way, shot, query, seed: of the episodes (see `EpisodeSampler`).
        episodes: how many to draw, or given ones.
        cache: frames; by default 8 by `tsn`.
        bank: the split's videos encoded; by default filled here. Videos it skipped take no part.
        naive: encode every video of every episode anew, for comparison.
        progress: show progress bars.

    Raises:
        ValueError: too few classes or videos; a broken video (a VideoError).
    """
    cache = cache or FrameCache()
    videos = dataset.split(split)
    method.check_texts(list(videos.texts.values()))
    if bank is None:
        bank = fill_bank(method, videos.videos, videos.texts, cache, progress=progress)
    videos = videos.without(bank.skipped)
    drawn = episodes
    if isinstance(drawn, int):
        drawn = EpisodeSampler(dataset=videos, way=way, shot=shot, query=query, seed=seed).draw(drawn)
    drawn = method.order_queries(drawn)
    if naive:
        scores = match_naively(method, videos, drawn, cache, progress)
    else:
        scores = match_from_bank(method, bank, drawn, videos.texts, progress)
    own_seed = seed if isinstance(episodes, int) else None
    return summarize(method, videos, split, drawn, scores, cache, own_seed, bank.skipped)


def accuracy(scores: Scores, episodes: Episodes) -> tuple[float, float]:
    """Mean accuracy over episodes and half its 95 % interval, 1.96 sigma / sqrt(episodes); in [0, 1].

    One episode alone tells nothing of the spread: its interval is the whole range, 1.
    """
    per_episode = (scores.predicted == episodes.target).mean(1)
    if len(per_episode) == 1:
        return float(per_episode[0]), 1.0
    return float(per_episode.mean()), float(1.96 * per_episode.std(ddof=1) / math.sqrt(len(per_episode)))


def confusion(scores: Scores, episodes: Episodes) -> Int[np.ndarray, "actual predicted"]:
    """How often a query of a class was named as which class, over all episodes."""
    counts = np.zeros((len(episodes.classes),) * 2, int)
    actual = np.take_along_axis(episodes.way_class, episodes.target, 1)
    named = np.take_along_axis(episodes.way_class, scores.predicted, 1)
    np.add.at(counts, (actual.ravel(), named.ravel()), 1)
    return counts


def _protocol(method: Method) -> str:
    """Say what of a number cannot be trusted; `clean` where nothing."""
    if method.traits.leaks_labels:
        return "leaky: labels reach the scores"
    trained = method.provenance
    on_test = trained is not None and trained.recipe.get("protocol", "clean") == "paper"
    return "paper: selected on the test classes" if on_test else "clean"


def summarize(
    method: Method,
    dataset: VideoDataset,
    split: str,
    episodes: Episodes,
    scores: Scores,
    cache: FrameCache,
    seed: int | None,
    skipped: Mapping[str, str] | None = None,
) -> Result:
    """Put together everything a trustworthy number carries (design: numbers that can be trusted)."""
    counts = confusion(scores, episodes)
    seen = counts.sum(1)
    mean, half_interval = accuracy(scores, episodes)
    way, shot = episodes.support.shape[1:]
    trained = method.provenance
    return Result(
        method=method.name,
        options=method.options(),
        changed=method.config.changed(),
        transductive=method.traits.transductive,
        backbone=method.backbone.name,
        weights=method.backbone.fingerprint(),
        clip=cache.settings(),
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint(),
        split=split,
        protocol=_protocol(method),
        selection="none: nothing was trained or chosen" if trained is None else trained.selection,
        way=way,
        shot=shot,
        query=episodes.query.shape[1] // way,
        episodes=len(episodes),
        seed=seed,
        episodes_fingerprint=episodes.fingerprint(),
        accuracy=mean,
        ci95=half_interval,
        per_class={label: counts[i, i] / seen[i] for i, label in enumerate(episodes.classes) if seen[i]},
        confusion={"classes": list(episodes.classes), "counts": counts.tolist()},
        training=None if trained is None else asdict(trained),
        seen_classes=tuple(label for label in episodes.classes if trained and label in trained.classes),
        skipped=dict(skipped or {}),
        seconds=scores.seconds,
        versions=versions(),
        right=tuple((scores.predicted == episodes.target).sum(1).tolist()),
        videos=len(dataset.videos),
        files=short_hash([(video.id, cache.content(video.path, *video.span)) for video in dataset.videos], 8),
        resplit=dataset.resplit_seed,
        absent=len(dataset.absent),
    )
