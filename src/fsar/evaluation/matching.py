"""Episodes and encodings -> logits of every query."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fsar.bank.fill import load_clip
from fsar.bank.store import Bank
from fsar.datasets import VideoDataset
from fsar.devices import Precision, computing_in, copies_on
from fsar.evaluation.episodes import Episodes
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode
from fsar.progress import ahead, in_turn, progress_bar
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
    devices: int = 1,
    progress: bool = True,
) -> Scores:
    """Match episodes with the encodings of a bank, many episodes at a time.

    Args:
        method: its `match` is used.
        bank: encodings by this method of all videos in the episodes (`fill_bank`).
        episodes: the episodes.
        texts: class -> words; needed if the method reads class names.
        devices: GPUs, or copies on the CPU, that match batches of episodes in turn (`fsar.devices.copies_on`). Does
            not change the result.
        progress: show a progress bar.

    Returns:
        Logits [episode, query, way], on the CPU.

    Raises:
        ValueError: the bank lacks a video, texts are missing, the machine lacks the devices, or a logit is not finite.

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
    pinned = method.device.type == "cuda"
    batch = max(1, min(method.traits.episodes_per_match, _BATCH_BYTES // size))

    def gather(chosen: Episodes) -> list[Encoding]:
        parts = (bank.support, chosen.support), (bank.query, chosen.query)
        return [_rows_of(encoding, rows[videos], pinned) for encoding, videos in parts]

    def episode(one: Method, chosen: Episodes, gathered: list[Encoding]) -> Episode:
        support, query = (_on(one.device, encoding) for encoding in gathered)
        return Episode(
            support=support,
            query=query,
            shot_mask=torch.ones(chosen.support.shape, dtype=torch.bool, device=one.device),
            text=_text_of(class_text, chosen, one.device),
            draws=_draws(one, chosen),
        )

    with computing_in(bank.precision, method.device):
        class_text = _class_text(method, episodes, texts)
        return _match(copies_on(method, devices), bank.precision, episodes, gather, episode, batch, progress)


def match_naively(
    method: Method,
    dataset: VideoDataset,
    episodes: Episodes,
    *,
    cache: FrameCache | None = None,
    precision: Precision = "float32",
    devices: int = 1,
    progress: bool = True,
) -> Scores:
    """Match episodes and encode their videos again for every episode, as public codes do; for comparison.

    Args:
        method: its `encode` and `match` are used.
        dataset: holds all videos of the episodes, and the class texts.
        episodes: the episodes.
        cache: how frames are sampled; by default 8 by `tsn`.
        precision: of the arithmetic.
        devices: as in `match_from_bank`.
        progress: show a progress bar.

    Returns:
        Logits [episode, query, way], equal to those of `match_from_bank` up to rounding.

    Raises:
        VideoError: a video cannot be read.
        ValueError: the machine lacks the devices or the precision, or a logit is not finite.
    """
    if any(video.features is not None for video in dataset.videos):
        raise ValueError("features made elsewhere are not encoded again; match them from the bank (leave out --naive)")
    frame_cache = cache or FrameCache()
    sources = {video.id: (video.path, *video.span) for video in dataset.videos}

    def clips(videos: Int[np.ndarray, "..."]) -> Tensor:
        flat = [load_clip(method, frame_cache, *sources[episodes.video_ids[i]]) for i in videos.ravel()]
        return torch.stack(flat).unflatten(0, videos.shape)

    def load(chosen: Episodes) -> tuple[Tensor, Tensor]:
        return clips(chosen.support), clips(chosen.query)

    def encode(one: Method, chosen: Episodes, loaded: tuple[Tensor, Tensor]) -> Episode:
        support, query = (part.to(one.device) for part in loaded)
        text = _text_of(class_text, chosen, one.device)
        return one.encode_episode(support, query, text, _draws(one, chosen))

    with computing_in(precision, method.device):
        class_text = _class_text(method, episodes, dataset.texts)
        return _match(copies_on(method, devices), precision, episodes, load, encode, 1, progress)


def _match(
    copies: Sequence[Method],
    precision: Precision,
    episodes: Episodes,
    gather: Callable[[Episodes], Gathered],
    make: Callable[[Method, Episodes, Gathered], Episode],
    batch: int,
    progress: bool,
) -> Scores:
    """Match the episodes, `batch` at a time, by copies of the method in turn; threads gather the next batches."""

    def match(one: Method, gathered: tuple[Episodes, Gathered]) -> Tensor:
        with torch.no_grad(), computing_in(precision, one.device):  # each thread has its own modes
            return one.match(make(one, *gathered)).logits

    begun = time.perf_counter()
    parts = [episodes[start : start + batch] for start in range(0, len(episodes), batch)]
    together = zip(parts, ahead(gather, parts, workers=len(copies)), strict=True)
    made = in_turn([partial(match, one) for one in copies], together)
    bar = progress_bar(made, f"match {copies[0].name}", f" batches of {batch} episodes", len(parts), progress)
    on_devices = list(bar)  # a GPU still computes while the next batches are begun
    logits = torch.cat([one.float().cpu() for one in on_devices]).numpy()
    if not np.isfinite(logits).all():
        name = copies[0].name
        raise ValueError(f"{name} gave logits that are not finite; please report this with the options used")
    return Scores(logits, time.perf_counter() - begun)


def _bytes(encoding: Encoding) -> int:
    """Return the bytes of one video's encoding."""
    return sum(tensor[0].numel() * tensor.element_size() for tensor in encoding.values())


def _rows_of(encoding: Encoding, rows: Int[np.ndarray, "..."], pinned: bool) -> Encoding:
    """Gather the encodings of videos [*videos, ...], in memory from which a GPU copies while it computes."""
    chosen = torch.from_numpy(rows)
    gathered = {name: tensor[chosen] for name, tensor in encoding.items()}
    return {name: tensor.pin_memory() for name, tensor in gathered.items()} if pinned else gathered


def _on(device: torch.device, encoding: Encoding) -> Encoding:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in encoding.items()}


def _draws(method: Method, episodes: Episodes) -> Tensor | None:
    draws = method.draws_of(episodes)
    return None if draws is None else draws.to(method.device)


def _text_of(class_text: Tensor | None, episodes: Episodes, device: torch.device) -> Tensor | None:
    """The texts of each way, [episode, way, ...]."""
    return None if class_text is None else class_text.to(device)[torch.from_numpy(episodes.way_class)]


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
