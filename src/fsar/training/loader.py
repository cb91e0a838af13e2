"""Number of an episode -> its clips, classes and targets."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fsar.bank.store import Bank
from fsar.datasets import Video, VideoDataset
from fsar.evaluation.episodes import Episodes, EpisodeSampler
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Targets
from fsar.training.recipes import Recipe
from fsar.video.frame_cache import SHORT_SIDE, FrameCache
from fsar.video.picture import Frames
from fsar.video.reading import read_frames
from fsar.video.sampling import frame_indices
from fsar.video.transforms import Augmentation


class Loaded(NamedTuple):
    """The inputs of a training episode, on the CPU."""

    support: Any
    """Clips [episode=1, way, shot, frame, rgb, height, width], or encodings from a bank [episode=1, way, shot, ...]."""
    query: Any
    """Clips [episode=1, query, frame, rgb, height, width], or encodings from a bank [episode=1, query, ...]."""
    labels: list[str]
    """Class of each way."""
    targets: Targets
    draws: Float[Tensor, "episode query way"] | None
    """Random numbers for methods that draw; None for others."""


class EpisodeLoader:
    """Makes the inputs of training episodes; each depends only on (recipe, dataset, number).

    Args:
        recipe: how episodes, frames and augmentations are drawn.
        dataset: the training videos.
        method: the method that trains.
        bank: encodings of all videos by the method's frozen encoder; None reads clips from the videos.
    """

    def __init__(self, recipe: Recipe, dataset: VideoDataset, method: Method, bank: Bank | None):
        self.recipe, self.dataset, self.method, self.bank = recipe, dataset, method, bank
        self.videos = {video.id: video for video in dataset.videos}
        self.rows = {} if bank is None else {video_id: i for i, video_id in enumerate(bank.video_ids)}
        self.sampler = EpisodeSampler(
            dataset=dataset, way=recipe.way, shot=recipe.shot, query=recipe.query, seed=recipe.seed
        )
        self.augment = Augmentation(
            crop=recipe.crop,
            flip=recipe.flip,
            jitter=recipe.jitter,
            strength=recipe.jitter_strength,
            gray=recipe.gray,
        )
        plain = replace(self.augment, flip=False, jitter=False)
        self.augment_support = self.augment if recipe.augment == "all" else plain
        self.cache = FrameCache(frames=None) if recipe.cached_frames else None

    def load(self, number: int) -> Loaded:
        """Load one episode.

        Args:
            number: of the episode, from 0.

        Raises:
            VideoError: a video cannot be read.
        """
        drawn = self.method.order_queries(self.sampler.draw(1, number))
        targets = Targets(torch.from_numpy(drawn.target), torch.from_numpy(drawn.way_class))
        labels = [drawn.classes[i] for i in drawn.way_class[0]]
        support, query = self._clips(drawn, number) if self.bank is None else self._encodings(drawn, self.bank)
        return Loaded(support, query, labels, targets, self.method.draws_of(drawn))

    def _encodings(self, drawn: Episodes, bank: Bank) -> tuple[Encoding, Encoding]:
        def read(videos: Int[np.ndarray, "..."]) -> Encoding:
            rows = torch.tensor([self.rows[drawn.video_ids[i]] for i in videos.ravel()]).reshape(videos.shape)
            return {name: tensor[rows] for name, tensor in bank.query.items()}

        return read(drawn.support), read(drawn.query)

    def _clips(self, drawn: Episodes, number: int) -> tuple[Tensor, Tensor]:
        ids = [drawn.video_ids[i] for i in (*drawn.support.ravel(), *drawn.query.ravel())]
        split = drawn.support.size
        augments = [self.augment_support] * split + [self.augment] * drawn.query.size
        clips = [
            self._clip(self.videos[video_id], augment, np.random.default_rng((self.recipe.seed, number, place)))
            for place, (video_id, augment) in enumerate(zip(ids, augments, strict=True), 1)  # 0 draws the templates
        ]
        return _stack(clips[:split], drawn.support.shape), _stack(clips[split:], drawn.query.shape)

    def _clip(self, video: Video, augment: Augmentation, rng: np.random.Generator) -> Tensor:
        """Sample and augment a video's frames: [frame, rgb, side, side]."""
        backbone, frames = self.method.backbone, self._frames(video, rng)
        return augment(
            frames,
            backbone.image_size,
            *self.method.normalization,
            backbone.interpolation,
            rng,
            self.method.traits.framing,
        )

    def _frames(self, video: Video, rng: np.random.Generator) -> Frames:
        count, sampling = self.recipe.frames, self.recipe.sampling
        if self.cache is None:
            return read_frames(video.path, count, sampling, rng, *video.span, short_side=SHORT_SIDE)
        every = self.cache.read(video.path, *video.span)
        times = self.cache.times(video.path, *video.span) if sampling == "time" else None
        return every[frame_indices(len(every), count, sampling, rng=rng, times=times)]


def _stack(clips: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.stack(list(clips)).unflatten(0, shape)
