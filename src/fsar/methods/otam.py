"""OTAM as a method: frame features, ordered temporal alignment, nearest class.

Cao et al., "Few-shot video classification via temporal alignment", CVPR 2020. `fsar/alignment/otam.py` has the alignment
itself, with its equations.

| what | function |
|---|---|
| frame distance, eq. 2 | `_frame_distance`, `fsar.alignment.frame_similarity` |
| alignment distance, eq. 5-8 | `fsar.alignment.otam` |
| classification by the mean distance to a class's videos, eq. 9 | `otam_logits`, `per_video` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| compared with | each support video, mean of distances | `otam` baselines: the same; CLIP-FSAR lineage: class prototype | `per: video` (default) or `prototype` |
| smoothing | 0.1 | 0.1 per video, 0.5 per prototype | `smoothing`: by default the code's value for `per` |
| direction | one | both, summed | `direction: both` (default), `query-to-support`, `support-to-query` |
| eps in the cosine | 0 | 0.01 | `cos_eps`, 0.01 |
"""  # noqa: E501

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from fsar.alignment import frame_similarity, otam
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction, mean_over_shots, per_video
from fsar.shapes import Logits, ShotMask


class Otam(Method):
    """Ordered temporal alignment of frame features."""

    name = "otam"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of OTAM."""

        per: Literal["video", "prototype"] = "video"
        """Align with each support video and take the mean distance, or with the class mean."""
        smoothing: float | None = None
        """Lambda of the soft minimum; null is 0.1 per video and 0.5 per prototype."""
        direction: Literal["both", "query-to-support", "support-to-query"] = "both"
        """Whose frames are all visited; `both` adds the two distances."""
        cos_eps: float = 0.01
        """Added to the product of norms in every cosine."""

        def check(self) -> None:
            """Refuse a smoothing of 0 or less."""
            if self.smoothing is not None and self.smoothing <= 0:
                raise ValueError(f"otam got smoothing {self.smoothing}; expected a number above 0, or null")

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Classes are independent; with `per: prototype`, only their means matter."""
        return Traits(independent_ways=True, matches_means=config.per == "prototype")

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the alignment distance to each class (eq. 9); `frame_distance` beside them."""
        query, support = episode.query["frames"], episode.support["frames"]
        distance = _frame_distance(query, support, episode.shot_mask, self.config)
        return Prediction(_aligned(distance, episode.shot_mask, self.config), {"frame_distance": distance})


def otam_logits(
    query: Float[Tensor, "episode query frame dim"],
    support: Float[Tensor, "episode way shot frame dim"],
    shot_mask: ShotMask,
    config: Otam.Config,
) -> Logits:
    """Minus the alignment distance between each query and each class.

    Args:
        query: frame features.
        support: frame features.
        shot_mask: false for missing shots.
        config: the options.
    """
    return _aligned(_frame_distance(query, support, shot_mask, config), shot_mask, config)


def _frame_distance(
    query: Tensor, support: Tensor, shot_mask: ShotMask, config: Otam.Config
) -> Float[Tensor, "episode query reference query_frame support_frame"]:
    """Compute the distances of all frames (eq. 2); a reference is a class prototype or a support video."""
    by_prototype = config.per == "prototype"
    references = mean_over_shots(support, shot_mask) if by_prototype else support.flatten(1, 2)
    return 1 - frame_similarity(query, references, config.cos_eps)


def _aligned(distance: Tensor, shot_mask: ShotMask, config: Otam.Config) -> Logits:
    smoothing = config.smoothing
    if smoothing is None:
        smoothing = 0.1 if config.per == "video" else 0.5
    cumulative = otam(distance, smoothing, config.direction)  # episode query reference
    return -(per_video(cumulative, shot_mask) if config.per == "video" else cumulative)
