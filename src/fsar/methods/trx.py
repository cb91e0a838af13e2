"""TRX: temporal relational cross-transformers over tuples of frames.

Perrett et al., "Temporal-relational cross-transformers for few-shot action recognition", CVPR 2021.

| equation | function |
|---|---|
| tuple representation with positional encoding, eq. 1-2 | `positional_encoding`, `project_tuples` |
| key, value maps, eq. 3-4 | `CrossTransformer.key`, `.key_norm`, `.value` |
| attention over all tuples of a class's videos, eq. 5-6 | `CrossTransformer.forward` |
| query-specific prototype and distance, eq. 7-9 | `CrossTransformer.forward` |
| several cardinalities, eq. 10 | `Trx.match` |

Deviations:
| point | paper | public code | ours |
|---|---|---|---|
| LayerNorm on values | not stated | created, never used | none |
| combination of cardinalities | sum | mean | mean (the code's; the ranking is the same) |
| distance | squared norm per tuple | squared Frobenius norm / tuples | the code's |
| pixels | not stated | [0, 1], not normalised | `pixels: normalized` (default) or `unit` |
| resizing | not stated | short side 256, bilinear: its default is called nearest, but its function takes that for bilinear | short side 256, the backbone's: bicubic |
| short videos | not stated | fewer than 8 frames: left out | frames repeat, unless the recipe has `drop_short: true` |
| flips | not stated | everywhere | not where names tell left from right |
| BatchNorm of a ResNet | not stated | trains from the first step | the same in the recipes (`freeze_batch_norm: false`); support and queries are two batches |
| loss | cross-entropy | sum over queries / 16 | mean; the recipes' rate is 25 times the code's |
| queries per class in training | not stated | 5 | the recipe's: 5 |
| first step | not stated | after 15 episodes, then every 16 | every `episodes_per_step` |
"""  # noqa: E501

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fsar.backbones import Backbone
from fsar.config import as_yaml
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction
from fsar.shapes import Logits, ShotMask


def positional_encoding(frames: int, dim: int) -> Float[Tensor, "frame dim"]:
    """Compute the positional encoding: sines and cosines of the frame index, times 0.1.

    Args:
        frames: number of frames.
        dim: channels.
    """
    position = torch.arange(frames)[:, None]
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    encoding = torch.zeros(frames, dim)
    encoding[:, 0::2] = torch.sin(position * rates)
    encoding[:, 1::2] = torch.cos(position * rates)[:, : dim // 2]
    return 0.1 * encoding


def project_tuples(
    weight: Float[Tensor, "out tuple_dim"],
    bias: Float[Tensor, " out"],
    frames: Float[Tensor, "*videos frame dim"],
    cardinality: int,
) -> Float[Tensor, "*videos tuple out"]:
    """Apply a linear layer to the concatenated frames of every ordered tuple.

    The layer is a sum of one layer per place in the tuple. So each frame is projected once per place, not once per
    tuple: 3.5 times less work for pairs of 8 frames, 7 times for triples.

    Args:
        weight: of the layer, whose inputs are the joined frames of a tuple.
        bias: of the layer.
        frames: of the videos.
        cardinality: frames per tuple.

    Example:
        >>> frames = torch.zeros(3, 8, 16)
        >>> project_tuples(torch.zeros(5, 2 * 16), torch.zeros(5), frames, 2).shape  # 28 pairs of 8 frames
        torch.Size([3, 28, 5])
    """
    per_place = weight.unflatten(1, (cardinality, -1))  # out place dim
    mapped = torch.einsum("...fd,opd->...pfo", frames, per_place)
    chosen = torch.combinations(torch.arange(frames.shape[-2]), cardinality).to(frames.device)
    # index_select, since the gradient of indexing by a list adds up in the order in which threads come
    places = (mapped[..., p, :, :].index_select(-2, members) for p, members in enumerate(chosen.T))
    return sum(places, start=bias)


_BLOCK = 2**24
"""Attention weights per block of matching: limits memory (64 MiB per map) for any number of frames."""


class CrossTransformer(nn.Module):
    """Compares a query with each class through all ordered tuples of `cardinality` frames.

    Args:
        dim: channels of a frame feature.
        cardinality: frames per tuple.
        out_dim: channels of keys and values.
        dropout: on the frames with their positional encoding.
    """

    def __init__(self, dim: int, cardinality: int, out_dim: int, dropout: float):
        super().__init__()
        self.cardinality = cardinality
        self.key = nn.Linear(cardinality * dim, out_dim)
        self.value = nn.Linear(cardinality * dim, out_dim)
        self.key_norm = nn.LayerNorm(out_dim)
        self.dropout = nn.Dropout(dropout)

    def _project(
        self, linear: nn.Linear, encoded: Float[Tensor, "*videos frame dim"]
    ) -> Float[Tensor, "*videos tuple out"]:
        return project_tuples(linear.weight, linear.bias, encoded, self.cardinality)

    def forward(
        self,
        query: Float[Tensor, "episode query frame dim"],
        support: Float[Tensor, "episode way shot frame dim"],
        shot_mask: ShotMask,
    ) -> Logits:
        """Compute minus the squared distance per tuple of each query to its prototype of each class.

        Args:
            query: frame features of the queries.
            support: frame features of the support.
            shot_mask: false for padding.
        """
        query, support = (
            self.dropout(frames + positional_encoding(*frames.shape[-2:]).to(frames)) for frames in (query, support)
        )
        query_key, support_key = (self.key_norm(self._project(self.key, x)) for x in (query, support))
        query_value, support_value = (self._project(self.value, x) for x in (query, support))
        tuples = query_key.shape[-2]
        support_key, support_value = support_key.flatten(2, 3), support_value.flatten(2, 3)
        present = shot_mask.repeat_interleave(tuples, -1)  # episode way (shot tuple)
        # a query's tuples do not see each other, so a few are matched at a time
        step = max(1, _BLOCK // (present.numel() * query.shape[1]))
        total: float | Tensor = 0.0
        for key, value in zip(query_key.split(step, 2), query_value.split(step, 2), strict=True):
            scores = torch.einsum("eqto,ewso->eqwts", key, support_key) / math.sqrt(key.shape[-1])
            attention = scores.masked_fill(~present[:, None, :, None], -torch.inf).softmax(-1)
            prototype = torch.einsum("eqwts,ewso->eqwto", attention, support_value)
            total = total + (value[:, :, None] - prototype).square().sum((-2, -1))
        return -total / tuples


class Trx(Method):
    """Query-specific prototypes from pairs and triples of frames, by trained linear layers."""

    name = "trx"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of TRX."""

        least: ClassVar[dict[str, float]] = {"cardinalities": 1, "out_dim": 1}
        distinct: ClassVar[tuple[str, ...]] = ("cardinalities",)

        cardinalities: tuple[int, ...] = (2, 3)
        """Frames per tuple."""
        out_dim: int = 1152
        """Channels of keys and values."""
        dropout: float = 0.1
        """Dropout on the frames with their positional encoding."""
        pixels: Literal["normalized", "unit"] = "normalized"
        """Pixels normalised by the backbone's mean and deviation, or in [0, 1], as in the public code."""

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        self.transformers = CrossTransformers(backbone.dim, config).transformers

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """The linear layers train."""
        # two episodes are as fast as 16: one episode keeps a core busy
        return Traits(trains=("own", "visual"), independent_ways=True, pixels=config.pixels, episodes_per_match=2)

    def match(self, episode: Episode) -> Prediction:
        """Logits: the mean over cardinalities (eq. 10). Named outputs: the logits of each cardinality.

        Raises:
            ValueError: the videos have fewer frames than the largest tuple joins.
        """
        query, support = episode.query["frames"], episode.support["frames"]
        _require_frames(query.shape[-2], self.config)
        logits = [transformer(query, support, episode.shot_mask) for transformer in self.transformers]
        named = {f"logits_{t.cardinality}": part for t, part in zip(self.transformers, logits, strict=True)}
        return Prediction(torch.stack(logits).mean(0), named)


class CrossTransformers(nn.Module):
    """TRX's comparison as the metric of another method: the mean over cardinalities (eq. 10).

    Args:
        dim: channels of a frame feature.
        config: of TRX.
    """

    def __init__(self, dim: int, config: Trx.Config):
        super().__init__()
        self.config = config
        self.transformers = nn.ModuleList(
            CrossTransformer(dim, cardinality, config.out_dim, config.dropout) for cardinality in config.cardinalities
        )

    def forward(
        self,
        query: Float[Tensor, "episode query frame dim"],
        support: Float[Tensor, "episode way shot frame dim"],
        shot_mask: ShotMask,
    ) -> Logits:
        """Compute the logits of every query.

        Args:
            query: frame features of the queries.
            support: frame features of the support.
            shot_mask: false for padding.

        Raises:
            ValueError: the videos have fewer frames than the largest tuple joins.
        """
        _require_frames(query.shape[-2], self.config)
        return torch.stack([transformer(query, support, shot_mask) for transformer in self.transformers]).mean(0)


def require_tuples(method: str, cardinalities: Sequence[int], frames: int) -> None:
    """Refuse tuples of more frames than there are.

    Args:
        method: name of the method, for the message.
        cardinalities: frames per tuple.
        frames: per video.

    Raises:
        ValueError: a tuple joins more.
    """
    if frames < max(cardinalities):
        raise ValueError(
            f"{method}: cardinalities is {as_yaml(cardinalities)} and frames {frames}; expected at least as many "
            f"frames as a tuple joins"
        )


def _require_frames(frames: int, config: Trx.Config) -> None:
    most = max(config.cardinalities)
    if frames < most:
        raise ValueError(
            f"trx joins {most} frames and got {frames} per video; take at least {most} frames per video, or lower the "
            f"option cardinalities"
        )
