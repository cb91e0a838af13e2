"""Place and motion: our own training-free method. No paper; the idea and its measurements are ours.

A pooled frame feature does not say where things are. So, with a frozen image encoder, no alignment can distinguish
gestures. Here each frame keeps a grid of cells, and the mean over the video is subtracted. This removes the background;
what moves, and where, remains.

    place(f)      = [cell means of the feature map of frame f]              grid x grid cells, joined
    motion(f)     = place(f) - mean over frames of place                    (`motion: false` leaves it out)
    similarity    = (1 - weight) cos(feature_q, feature_s) + weight cos(motion_q, motion_s)
    logits        = alignment(similarity averaged over a class's shots)

The weighted sum is the inner product of the two unit vectors joined with square-root weights. No weight is learned. The
recogniser chooses `weight` and `alignment` by leave-one-out over the examples, since `encode` does not depend on them.

| what | function |
|---|---|
| grid | `PlaceMotionEncoder.of_frames` |
| motion, unit vectors | `PlaceMotionEncoder.of_clip` |
| similarity, alignment | `PlaceMotion.match` |
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fsar.alignment import bi_mhm, otam
from fsar.backbones import Backbone
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, FrameEncoder
from fsar.methods.episode import Encoding, Episode, Prediction, mean_over_shots
from fsar.shapes import Clips, Logits, ShotMask

STILL = 1e-3
"""Motion below this share of the frame's place vector is noise and is not normalised to length 1."""

Alignment = Literal["frame-wise", "otam", "bi-mhm"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)
ClassSimilarity = Float[Tensor, "episode query way query_frame support_frame"]


class PlaceMotion(Method):
    """What things are, where they are and how they move; nothing is trained."""

    name = "place-motion"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of place-and-motion."""

        grid: int = 3
        """Cells per side; a single cell loses the place."""
        motion: bool = True
        """Subtract the mean over frames, so that only what changes remains."""
        weight: float = 0.8
        """Share of place-and-motion in the similarity; the rest is the pooled feature (appearance)."""
        alignment: Alignment = "frame-wise"
        """How the frames of two videos are compared."""
        smoothing: float = 0.1
        """Lambda of the soft minimum, for `alignment: otam`."""

        def check(self) -> None:
            """Refuse values out of range."""
            if self.grid < 1 or not 0 <= self.weight <= 1 or self.smoothing <= 0:
                raise ValueError(
                    f"place-motion got grid {self.grid}, weight {self.weight}, smoothing {self.smoothing}; expected a "
                    f"grid of at least 1, a weight in [0, 1] and a smoothing above 0"
                )

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Only OTAM has a soft minimum."""
            return ((self.alignment != "otam", f"alignment: {self.alignment}", ("smoothing",)),)

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Nothing trains; classes are independent, and only their means matter."""
        return Traits(trains=(), independent_ways=True, matches_means=True)

    def encoder(self) -> Encoder:
        """All of `encode`; weight and alignment only change `match`."""
        return PlaceMotionEncoder(self.backbone, self.config)

    def variants(self) -> Sequence["PlaceMotion"]:
        """List every alignment with several weights, this method first."""
        return (self, *self._others)

    @cached_property
    def _others(self) -> Sequence["PlaceMotion"]:
        """The other variants."""
        configs = (
            replace(self.config, weight=weight, alignment=alignment, smoothing=self._smoothing_of(alignment))
            for weight in (1.0, 0.8, 0.5, 0.2, 0.0)
            for alignment in ALIGNMENTS
        )
        return tuple(PlaceMotion(self.backbone, config) for config in configs if config != self.config)

    def _smoothing_of(self, alignment: Alignment) -> float:
        return self.config.smoothing if alignment == "otam" else self.Config.smoothing

    def match(self, episode: Episode) -> Prediction:
        """Logits: the aligned similarity to each class; `frame_similarity` beside them."""
        similarity = self._mix({part: _similarity(episode, part) for part, share in self._shares.items() if share > 0})
        return Prediction(self._align(similarity), {"frame_similarity": similarity})

    def match_variants(self, episode: Episode) -> list[Prediction]:
        """Match with every weight and alignment; the similarities of both parts are computed once."""
        parts = {part: _similarity(episode, part) for part in self._shares}
        variants = self.variants()
        mixed = {variant.config.weight: variant._mix(parts) for variant in variants}
        weights, every = list(mixed), torch.cat(list(mixed.values()))
        aligned: dict[tuple[str, float], Tensor] = {}  # of all weights at once
        made = []
        for config, variant in ((variant.config, variant) for variant in variants):
            key = config.alignment, config.smoothing
            if key not in aligned:
                aligned[key] = variant._align(every).unflatten(0, (len(weights), -1))
            similarity = {"frame_similarity": mixed[config.weight]}
            made.append(Prediction(aligned[key][weights.index(config.weight)], similarity))
        return made

    def logits(self, episode: Episode) -> Logits:
        """Frame-wise, compare each frame of a query only with the frame of the same number."""
        shared = [(share, episode.query[part], episode.support[part]) for part, share in self._shares.items() if share]
        if self.config.alignment != "frame-wise" or shared[0][1].shape[-2] != shared[0][2].shape[-2]:
            return self.match(episode).logits
        logits = sum(
            share * query.flatten(-2) @ _prototypes(support, episode.shot_mask).flatten(-2).mT
            for share, query, support in shared
        )
        empty = ~episode.shot_mask.any(-1)
        return (logits / shared[0][1].shape[-2]).masked_fill(empty[:, None], -torch.inf)  # type: ignore[union-attr]

    @property
    def _shares(self) -> dict[str, float]:
        """Weight of each part in the similarity."""
        return {"appearance": 1 - self.config.weight, "place": self.config.weight}

    def _mix(self, parts: Mapping[str, ClassSimilarity]) -> ClassSimilarity:
        """Add the parts by their weights; a part of weight 0 may be missing."""
        return torch.stack([share * parts[part] for part, share in self._shares.items() if share > 0]).sum(0)

    def _align(self, similarity: ClassSimilarity) -> Logits:
        if self.config.alignment == "frame-wise":
            return similarity.diagonal(dim1=-2, dim2=-1).mean(-1)
        if self.config.alignment == "otam":
            return -otam(1 - similarity, self.config.smoothing)
        return -bi_mhm(similarity)


def _prototypes(
    support: Float[Tensor, "episode way shot frame dim"], shot_mask: ShotMask
) -> Float[Tensor, "episode way frame dim"]:
    """Mean over the shots; of one shot, the shot itself (`match` masks classes without a shot)."""
    return support[:, :, 0] if support.shape[2] == 1 else mean_over_shots(support, shot_mask)


def _similarity(episode: Episode, part: str) -> ClassSimilarity:
    """Mean over the shots of a class of the frames' inner products: the inner product with the mean unit vector."""
    prototypes = _prototypes(episode.support[part], episode.shot_mask)
    return torch.einsum("eqtd,ewud->eqwtu", episode.query[part], prototypes)


class PlaceMotionEncoder(FrameEncoder):
    """Unit vectors per frame: `appearance` [*clips, frame, dim], `place` [*clips, frame, cells].

    Args:
        backbone: gives frame features and feature maps.
        config: its `grid` and `motion` are used.
    """

    def __init__(self, backbone: Backbone, config: PlaceMotion.Config):
        super().__init__(backbone)
        self.config = config

    def of_frames(self, clips: Clips) -> Encoding:
        """Encode what each frame shows, and where."""
        features, maps = self.backbone.features_and_map(clips)
        return {"appearance": features, "place": pool_grid(maps, self.config.grid)}

    def of_clip(self, frames: Encoding) -> Encoding:
        """Subtract, with `motion`, the mean over the frames of the clip, and make unit vectors."""
        place = frames["place"]
        least = STILL * place.norm(dim=-1, keepdim=True)
        if self.config.motion:
            place = place - place.mean(-2, keepdim=True)
        place = place / torch.maximum(place.norm(dim=-1, keepdim=True), least).clamp(min=1e-12)
        return {"appearance": F.normalize(frames["appearance"], dim=-1), "place": place}

    def key(self) -> dict[str, Any]:
        """Name the backbone, the grid and `motion`."""
        own = {"encoding": "place-motion", "grid": self.config.grid, "motion": self.config.motion}
        return super().key() | own


def pool_grid(maps: Float[Tensor, "*clips frame row column channel"], grid: int) -> Float[Tensor, "*clips frame cells"]:
    """Average a feature map over grid x grid cells, and join them to one vector per frame.

    Args:
        maps: feature maps.
        grid: cells per side.

    Example:
        >>> pool_grid(torch.ones(2, 8, 7, 7, 16), 3).shape  # video frame row column channel
        torch.Size([2, 8, 144])
    """
    images = maps.flatten(0, -4).permute(0, 3, 1, 2)  # image channel row column
    return F.adaptive_avg_pool2d(images, grid).flatten(1).unflatten(0, maps.shape[:-3])
