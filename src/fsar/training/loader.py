"""Episode number -> clips, classes and targets: what training feeds on."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fsar.bank.store import Bank
from fsar.datasets import Video, VideoDataset
from fsar.evaluation.episodes import EpisodeSampler
from fsar.methods.base import Method, Targets
from fsar.training.recipes import Recipe
from fsar.video.frame_cache import SHORT_SIDE, FrameCache
from fsar.video.reading import Frames, frame_indices, read_frames
from fsar.video.transforms import Augmentation


class Loaded(NamedTuple):
    """An episode for training."""

    support: Any
    """Clips, or encodings begun in a bank, [episode=1, way, shot, ...]."""
    query: Any
    """The same, [episode=1, query, ...]."""
    labels: list[str]
    """Classes of the ways."""
    targets: Targets
    draws: Float[Tensor, "episode query way"] | None
    """For methods that draw."""


class EpisodeLoader:
    """Makes episode i's inputs, a pure function of (recipe, dataset, i)."""

    def __init__(self, recipe: Recipe, dataset: VideoDataset, method: Method, bank: Bank | None):
        self.recipe, self.dataset, self.method, self.bank = recipe, dataset, method, bank
        self.videos = {video.id: video for video in dataset.videos}
        self.rows = {} if bank is None else {video_id: i for i, video_id in enumerate(bank.video_ids)}
        self.sampler = EpisodeSampler(
            dataset=dataset, way=recipe.way, shot=recipe.shot, query=recipe.query, seed=recipe.seed
        )
        self.augment = Augmentation(crop=recipe.crop, flip=recipe.flip, jitter=recipe.jitter)
        self.cache = FrameCache(frames=None) if recipe.cached_frames else None

    def load(self, number: int) -> Loaded:
        """What `EpisodeLoss` takes of an episode; all on the CPU."""
        drawn = self.method.order_queries(self.sampler.draw(1, number))
        targets = Targets(torch.from_numpy(drawn.target), torch.from_numpy(drawn.way_class))
        labels = [drawn.classes[i] for i in drawn.way_class[0]]
        draws = self.method.draws_of(drawn)
        if self.bank is not None:
            rows = [np.vectorize(lambda i: self.rows[drawn.video_ids[i]])(v) for v in (drawn.support, drawn.query)]
            support, query = (
                {name: tensor[torch.from_numpy(chosen)] for name, tensor in self.bank.query.items()} for chosen in rows
            )
            return Loaded(support, query, labels, targets, draws)
        videos = [*drawn.support.ravel(), *drawn.query.ravel()]
        clips = [
            self._clip(self.videos[drawn.video_ids[video]], np.random.default_rng((self.recipe.seed, number, place)))
            for place, video in enumerate(videos, 1)
        ]
        split = drawn.support.size
        support = torch.stack(clips[:split]).unflatten(0, drawn.support.shape)
        return Loaded(support, torch.stack(clips[split:])[None], labels, targets, draws)

    def _clip(self, video: Video, rng: np.random.Generator) -> Tensor:
        backbone = self.method.backbone
        frames = self._frames(video, rng)
        return self.augment(
            frames, backbone.image_size, *self.method.normalization, backbone.interpolation, rng
        )  # frame rgb side side

    def _frames(self, video: Video, rng: np.random.Generator) -> Frames:
        count, sampling = self.recipe.frames, self.recipe.sampling
        if self.cache is None:
            return read_frames(video.path, count, sampling, rng, *video.span, short_side=SHORT_SIDE)
        every = self.cache.read(video.path, *video.span)
        times = self.cache.times(video.path, *video.span) if sampling == "time" else None
        return every[frame_indices(len(every), count, sampling, rng=rng, times=times)]
