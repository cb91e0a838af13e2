"""Episodes and encodings -> logits of every query."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fsar.bank.fill import load_clip
from fsar.bank.store import Bank
from fsar.datasets import VideoDataset
from fsar.devices import computing_in
from fsar.evaluation.episodes import Episodes
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode
from fsar.progress import ahead, progress_bar
from fsar.video.frame_cache import FrameCache

Gathered = TypeVar("Gathered")

_BATCH_BYTES = 48 * 2**20  # encodings gathered at a time: limits memory, does not change a result


@dataclass(frozen=True)
class Scores:
    """The result of matching: logits of every query of every episode."""

    logits: Float[np.ndarray, "episode query way"]
    seconds: float
    """Time that matching took."""

    @property
    def predicted(self) -> Int[np.ndarray, "episode query"]:
        """The predicted way of each query: the one with the largest logit.

        >>> Scores(np.array([[[0.1, 2.0], [3.0, 1.0]]]), seconds=0.0).predicted
        array([[1, 0]])
        """
        return self.logits.argmax(-1)


def match_from_bank(
    method: Method,
    bank: Bank,
    episodes: Episodes,
    texts: Mapping[str, str] | None = None,
    *,
    progress: bool = True,
) -> Scores:
    """Match episodes with the encodings of a bank, many episodes at a time.

    Args:
        method: its `match` is used.
        bank: encodings by this method of all videos in the episodes (`fill_bank`).
        episodes: the episodes.
        texts: class -> words; needed if the method reads class names.
        progress: show a progress bar.

    Returns:
        Logits [episode, query, way], on the CPU.

    Raises:
        ValueError: the bank lacks a video, texts are missing, or a logit is not finite.

    Example:
        >>> from pathlib import Path
        >>> from fsar import EpisodeSampler, build_method, load_backbone
        >>> from fsar.datasets import Video, VideoDataset
        >>> videos = [Video(f"{c}/{i}", Path(f"{c}/{i}.mp4"), c) for c in ("wave", "clap") for i in range(3)]
        >>> episodes = EpisodeSampler(dataset=VideoDataset("mine", tuple(videos), {}, {}), way=2, shot=2).draw(10)
        >>> features = {"frames": torch.randn(6, 8, 128)}  # video frame dim; `fill_bank` makes them from the files
        >>> bank = Bank(tuple(video.id for video in videos), support=features, query=features)
        >>> method = build_method("otam", load_backbone("tiny"))
        >>> match_from_bank(method, bank, episodes, progress=False).logits.shape  # episode query way
        (10, 2, 2)
    """
    row = {video_id: i for i, video_id in enumerate(bank.video_ids)}
    rows = np.array([row.get(video_id, -1) for video_id in episodes.video_ids])
    _require_all(rows[np.concatenate([episodes.support.ravel(), episodes.query.ravel()])])
    size = episodes.support[0].size * _bytes(bank.support) + episodes.query[0].size * _bytes(bank.query)
    device = method.device
    batch = max(1, min(method.traits.episodes_per_match, _BATCH_BYTES // size))

    def gather(chosen: Episodes) -> list[Encoding]:
        parts = (bank.support, chosen.support), (bank.query, chosen.query)
        return [_rows_of(encoding, rows[videos], device) for encoding, videos in parts]

    def episode(chosen: Episodes, gathered: list[Encoding]) -> Episode:
        support, query = (_on(device, encoding) for encoding in gathered)
        return Episode(
            support=support,
            query=query,
            shot_mask=torch.ones(chosen.support.shape, dtype=torch.bool, device=device),
            text=None if class_text is None else class_text[torch.from_numpy(chosen.way_class)],
            draws=_draws(method, chosen),
        )

    with computing_in(bank.precision, device):
        class_text = _class_text(method, episodes, texts)
        return _match(method, episodes, gather, episode, batch, progress)


def match_naively(
    method: Method,
    dataset: VideoDataset,
    episodes: Episodes,
    *,
    cache: FrameCache | None = None,
    progress: bool = True,
) -> Scores:
    """Match episodes and encode their videos again for every episode, as public codes do; for comparison.

    Args:
        method: its `encode` and `match` are used.
        dataset: holds all videos of the episodes, and the class texts.
        episodes: the episodes.
        cache: how frames are sampled; by default 8 by `tsn`.
        progress: show a progress bar.

    Returns:
        Logits [episode, query, way], equal to those of `match_from_bank` up to rounding.

    Raises:
        VideoError: a video cannot be read.
        ValueError: a logit is not finite.
    """
    if any(video.features is not None for video in dataset.videos):
        raise ValueError("features made elsewhere are not encoded again; match them from the bank (leave out --naive)")
    frame_cache = cache or FrameCache()
    sources = {video.id: (video.path, *video.span) for video in dataset.videos}
    class_text = _class_text(method, episodes, dataset.texts)

    def clips(videos: Int[np.ndarray, "..."]) -> Tensor:
        flat = [load_clip(method, frame_cache, *sources[episodes.video_ids[i]]) for i in videos.ravel()]
        return torch.stack(flat).unflatten(0, videos.shape)

    def load(chosen: Episodes) -> tuple[Tensor, Tensor]:
        return clips(chosen.support), clips(chosen.query)

    def encode(chosen: Episodes, loaded: tuple[Tensor, Tensor]) -> Episode:
        support, query = (part.to(method.device) for part in loaded)
        text = None if class_text is None else class_text[torch.from_numpy(chosen.way_class)]
        return method.encode_episode(support, query, text, _draws(method, chosen))

    return _match(method, episodes, load, encode, 1, progress)


def _match(
    method: Method,
    episodes: Episodes,
    gather: Callable[[Episodes], Gathered],
    make: Callable[[Episodes, Gathered], Episode],
    batch: int,
    progress: bool,
) -> Scores:
    """Match the episodes, `batch` at a time; meanwhile a thread gathers the next ones."""

    def batches() -> Iterator[Tensor]:
        parts = [episodes[start : start + batch] for start in range(0, len(episodes), batch)]
        together = zip(parts, ahead(gather, parts, workers=1), strict=True)
        bar = progress_bar(together, "match", f" batches of {batch} episodes", len(parts), progress)
        for chosen, gathered in bar:
            yield method.match(make(chosen, gathered)).logits

    begun = time.perf_counter()
    with torch.no_grad():
        logits = torch.cat(list(batches())).float().cpu().numpy()
    if not np.isfinite(logits).all():
        raise ValueError(f"{method.name} gave logits that are not finite; please report this with the options used")
    return Scores(logits, time.perf_counter() - begun)


def _bytes(encoding: Encoding) -> int:
    """Return the bytes of one video's encoding."""
    return sum(tensor[0].numel() * tensor.element_size() for tensor in encoding.values())


def _rows_of(encoding: Encoding, rows: Int[np.ndarray, "..."], device: torch.device) -> Encoding:
    """Gather the encodings of videos [*videos, ...], in memory from which a GPU copies while it computes."""
    chosen = torch.from_numpy(rows)
    gathered = {name: tensor[chosen] for name, tensor in encoding.items()}
    return {name: tensor.pin_memory() for name, tensor in gathered.items()} if device.type == "cuda" else gathered


def _on(device: torch.device, encoding: Encoding) -> Encoding:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in encoding.items()}


def _draws(method: Method, episodes: Episodes) -> Tensor | None:
    draws = method.draws_of(episodes)
    return None if draws is None else draws.to(method.device)


def _require_all(rows: np.ndarray) -> None:
    if (rows < 0).any():
        raise ValueError("the episodes name videos that the bank lacks; fill it with the same dataset and split")


@torch.no_grad()
def _class_text(method: Method, episodes: Episodes, texts: Mapping[str, str] | None) -> Tensor | None:
    """Encode the texts of all classes of the episodes, [class, ...]; None if the method reads no text."""
    if not method.traits.reads_text:
        return None
    if texts is None:
        raise ValueError(f"{method.name} reads class names; give the dataset's texts")
    return method.encode_text([texts[label] for label in episodes.classes])
