"""STRM: patches enrich each other, frames enrich each other, and then TRX compares tuples of frames.

Thatipelli et al., "Spatio-temporal relation modeling for few-shot action recognition", CVPR 2022. Of a frame's feature
map, max pooling keeps 4 x 4 patches; E are TRX's sines:

    x = patches + E
    y = gamma softmax(L_q(x) L_k(x)^T) L_v(x) + x;   y = MLP(y) + y;   P = mean over the patches of y
    x = P + E;   y = MLP over the frames (x) + x;   z = MLP over the channels (y) + y
    s[q, c] = - mean over tuples of q of [ distance to the nearest tuple of class c ],  of relu(W [tuple of P])
    logits = TRX(z) + 0.1 s

Long: STRM has four parts of its own: patches, frames, tuples and similarity.

| what | function |
|---|---|
| 4 x 4 patches | `PatchEncoder` |
| patch-level enrichment, P | `PatchEnrichment` |
| frame-level enrichment, z | `FrameEnrichment` |
| TRX | `fsar.methods.trx.CrossTransformers` |
| similarity of query and class, s | `TupleSimilarity` |
| loss: cross-entropy of TRX + 0.1 cross-entropy of s | `Strm.loss` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| W | - | in a Python list: it keeps its random initial values, is not saved, and its dropout acts in the test, too | trains and is saved, dropout in training only (`similarity: trained`); `frozen-random` does not train it |
| dropout of s | - | on every tuple | on the frames of which tuples are made |
| distance in s | - | `cdist` by a matrix product: wrong near 0 | the difference itself |
| cardinalities | - | 2 and 3 by default; every script has 2 alone | `cardinalities: [2]` |
| attention over patches | - | one head, not divided by the root of the channels; gamma 0 at first | the code's |
| LayerNorm on values | - | TRX's, never used: 2,304 parameters | none |
| s in the loss | - | TRX and s apart; another port adds s to TRX's logits there | apart |
| loss | cross-entropy | sums over queries / 16 | means; the recipes' rate is as many times the code's as an episode has queries |
| 1-shot | - | no settings were published | 5-shot settings for every number of shots |
| pixels | - | [0, 1], not normalised | `pixels: normalized` (default) or `unit` |
| short videos, flips, first step, BatchNorm | - | as TRX's code | as `trx.py` |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from fsar.alignment.cosine import unhalved
from fsar.backbones import Backbone
from fsar.config import ablation
from fsar.layers.temporal import require_frames
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, MapEncoder
from fsar.methods.episode import Encoding, Episode, Prediction, Role, Targets, query_cross_entropy
from fsar.methods.trx import CrossTransformers, Trx, positional_encoding, project_tuples, require_tuples
from fsar.shapes import Clips, FrameFeatures, Logits, ShotMask

GRID = 4
"""Patches per side of a frame."""


class PatchEnrichment(nn.Module):
    """Patches of a frame attend to each other, then go through a feed-forward part; their mean is the frame.

    Args:
        dim: channels of a patch.
        dropout: on the patches with their positional encoding.
    """

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(()))
        half = dim // 2
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, half), nn.ReLU(), nn.Linear(half, half), nn.ReLU(), nn.Linear(half, dim)
        )

    def forward(self, patches: Float[Tensor, "*clips frame patch dim"]) -> FrameFeatures:
        """Enrich the patches of every frame and take their mean."""
        x = self.dropout(patches + positional_encoding(*patches.shape[-2:]).to(patches))
        attention = (self.query(x) @ self.key(x).mT).softmax(-1)
        y = self.gamma * (attention @ self.value(x)) + x
        return (self.feed_forward(y) + y).mean(-2)


class FrameEnrichment(nn.Module):
    """Frames of a video are mixed channel by channel, then channels are mixed frame by frame.

    Args:
        frames: number of frames.
        dim: channels of a frame.
        dropout: on the frames with their positional encoding.
    """

    def __init__(self, frames: int, dim: int, dropout: float):
        super().__init__()
        self.frames = frames
        self.dropout = nn.Dropout(dropout)
        self.over_frames = nn.Sequential(nn.Linear(frames, frames), nn.ReLU(), nn.Linear(frames, frames))
        self.over_channels = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, frames: FrameFeatures) -> FrameFeatures:
        """Enrich the frames of every video.

        Raises:
            ValueError: another number of frames than it was made for.
        """
        require_frames(self.frames, frames.shape[-2])
        x = self.dropout(frames + positional_encoding(*frames.shape[-2:]).to(frames))
        y = self.over_frames(x.mT).mT + x
        return self.over_channels(y) + y


class TupleSimilarity(nn.Module):
    """Minus the mean distance of a query's tuples to the nearest tuple of each class.

    Args:
        dim: channels of a frame.
        cardinality: frames per tuple.
        dropout: on the frames.
        trains: whether gradients reach the linear layer.
    """

    def __init__(self, dim: int, cardinality: int, dropout: float, trains: bool):
        super().__init__()
        self.cardinality, self.trains = cardinality, trains
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(cardinality * dim, dim // 2)

    def forward(
        self,
        query: Float[Tensor, "episode query frame dim"],
        support: Float[Tensor, "episode way shot frame dim"],
        shot_mask: ShotMask,
    ) -> Logits:
        """Compare every query with every class.

        Args:
            query: frames enriched by their patches.
            support: the same.
            shot_mask: false for missing shots.
        """
        weight, bias = (p if self.trains else p.detach() for p in (self.linear.weight, self.linear.bias))
        query, support = (
            unhalved(project_tuples(weight, bias, self.dropout(frames), self.cardinality).relu())
            for frames in (query, support)
        )
        tuples = query.shape[-2]
        nearest = torch.cdist(
            query.flatten(1, 2)[:, None], support.flatten(2, 3), compute_mode="donot_use_mm_for_euclid_dist"
        )  # episode way (query tuple) (shot tuple)
        missing = ~shot_mask.repeat_interleave(tuples, -1)
        nearest = nearest.masked_fill(missing[:, :, None], torch.inf).amin(-1).unflatten(-1, (-1, tuples))
        return -nearest.mean(-1).mT


class Strm(Method):
    """TRX on frames that patches and neighbouring frames enriched, plus the nearest tuples of each class."""

    name = "strm"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of STRM."""

        least: ClassVar[dict[str, float]] = {"frames": 1, "cardinalities": 1, "out_dim": 1, "similarity_weight": 0}
        distinct = ("cardinalities",)

        frames: int = 8
        """Frames per video: the size of the map over frames."""
        cardinalities: tuple[int, ...] = (2,)
        """Frames per tuple."""
        out_dim: int = 1152
        """Channels of TRX's keys and values."""
        dropout: float = 0.1
        """Dropout after each positional encoding, and on the frames of the similarity."""
        patch: bool = ablation(True)
        """The enrichment of patches; if false, a frame is the mean of its patches as they are."""
        frame: bool = ablation(True)
        """The enrichment of frames; if false, TRX compares the frames as the patches make them."""
        similarity: Literal["trained", "frozen-random", "off"] = "trained"
        """The similarity of query and class: a layer that trains, a random one as in the public code, or none."""
        similarity_weight: float = 0.1
        """Weight of the similarity in the logits, and of its cross-entropy in the loss."""
        pixels: Literal["normalized", "unit"] = "normalized"
        """Pixels normalised by the backbone's mean and deviation, or in [0, 1], as in the public code."""

        def check(self) -> None:
            """Refuse tuples of more frames than there are; without `frame`, TRX sees how many there are."""
            if self.frame:
                require_tuples("strm", self.cardinalities, self.frames)

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Without the similarity nothing weighs it, without its weight nothing trains it; TRX takes any frames."""
            return (
                (not self.frame, "frame: false", ("frames",)),
                (self.similarity == "off", "similarity: off", ("similarity_weight",)),
                (self.similarity_weight == 0, "similarity_weight: 0", ("similarity",)),
            )

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        dim = backbone.map_dim
        if config.patch:
            self.patches = PatchEnrichment(dim, config.dropout)
        if config.frame:
            self.over_time = FrameEnrichment(config.frames, dim, config.dropout)
        of_trx = Trx.Config(cardinalities=config.cardinalities, out_dim=config.out_dim, dropout=config.dropout)
        self.trx = CrossTransformers(dim, of_trx)
        trains = config.similarity == "trained"
        used = config.cardinalities if config.similarity != "off" and config.similarity_weight else ()
        self.similarities = nn.ModuleList(TupleSimilarity(dim, c, config.dropout, trains) for c in used)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Enrichment, TRX and the visual tower train; classes are independent."""
        return Traits(trains=("own", "visual"), independent_ways=True, pixels=config.pixels, episodes_per_match=2)

    def encoder(self) -> Encoder:
        """The pooled patches; everything that trains comes after."""
        return PatchEncoder(self.backbone, self.config.pixels)

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Enrich the patches and the frames of every video.

        Returns:
            `patch_frames` P and, with `frame`, `frames` z, both [*clips, frame, dim].
        """
        patches = encoding["patches"]
        by_patches = self.patches(patches) if self.config.patch else patches.mean(-2)
        return {"patch_frames": by_patches} | ({"frames": self.over_time(by_patches)} if self.config.frame else {})

    def match(self, episode: Episode) -> Prediction:
        """Logits: TRX's plus the weighted similarity. Named outputs: both, as `trx` and `similarity`."""
        query, support, mask = episode.query, episode.support, episode.shot_mask
        compared = "frames" if self.config.frame else "patch_frames"
        logits = self.trx(query[compared], support[compared], mask)
        named = {"trx": logits}
        if self.similarities:
            parts = [part(query["patch_frames"], support["patch_frames"], mask) for part in self.similarities]
            named["similarity"] = torch.stack(parts).mean(0)
            logits = logits + self.config.similarity_weight * named["similarity"]
        return Prediction(logits, named)

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: cross-entropy of TRX's logits; `similarity`: weighted, of the similarity."""
        terms = {"match": query_cross_entropy(prediction.named["trx"], targets)}
        if self.similarities:
            of_similarity = query_cross_entropy(prediction.named["similarity"], targets)
            terms["similarity"] = self.config.similarity_weight * of_similarity
        return terms


class PatchEncoder(MapEncoder):
    """The maxima of 4 x 4 windows of the feature maps, under the name `patches` [*clips, frame, patch, dim]."""

    def of_frames(self, clips: Clips) -> Encoding:
        """Pool the feature map of every frame; patches from left to right, then from top to bottom."""
        return {"patches": pool_patches(super().of_frames(clips)["maps"])}

    def key(self) -> dict[str, Any]:
        """As of the feature maps, with another name."""
        return super().key() | {"encoding": "patches"}


def pool_patches(maps: Float[Tensor, "*clips frame row column channel"]) -> Float[Tensor, "*clips frame patch channel"]:
    """Take the maximum of each of 4 x 4 windows, which overlap if the map's side is no multiple of 4.

    Args:
        maps: feature maps.

    Example:
        >>> pool_patches(torch.zeros(2, 8, 7, 7, 16)).shape  # video frame row column channel
        torch.Size([2, 8, 16, 16])
    """
    pooled = adaptive_max_pool2d(maps.flatten(0, -4).movedim(-1, 1), GRID)  # image channel row column
    return pooled.flatten(2).mT.unflatten(0, maps.shape[:-3])
