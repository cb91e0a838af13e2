"""Bi-MHM as a method: frame features, bidirectional mean Hausdorff metric, nearest class.

Wang et al., "Hybrid relation guided set matching for few-shot action recognition", CVPR 2022. `fsar/alignment/bi_mhm.py`
has the metric itself; this baseline has none of HyRSM's relation modules.

| what | function |
|---|---|
| bidirectional mean Hausdorff metric of two frame sequences | `fsar.alignment.bi_mhm` |
| nearest class by that metric | `bi_mhm_logits` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| compared with | class prototype | prototype (5-shot form), video (1-shot form) | `per: prototype` (default) or `video` |
| cosine | plain | normalised vectors, eps 1e-12 | plain |
"""  # noqa: E501

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from fsar.alignment import bi_mhm, frame_similarity
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction, mean_over_shots, per_video
from fsar.shapes import Logits, ShotMask


class BiMhm(Method):
    """Nearest frames in both directions; ignores the order of frames."""

    name = "bi-mhm"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of Bi-MHM."""

        per: Literal["prototype", "video"] = "prototype"
        """Compare with the class mean, or with each support video and take the mean distance."""

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Classes are independent; with `per: prototype`, only their means matter."""
        return Traits(independent_ways=True, matches_means=config.per == "prototype")

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the distance to each class."""
        query, support = episode.query["frames"], episode.support["frames"]
        return Prediction(bi_mhm_logits(query, support, episode.shot_mask, self.config))


def bi_mhm_logits(
    query: Float[Tensor, "episode query frame dim"],
    support: Float[Tensor, "episode way shot frame dim"],
    shot_mask: ShotMask,
    config: BiMhm.Config,
) -> Logits:
    """Minus the Bi-MHM distance between each query and each class.

    Args:
        query: frame features.
        support: frame features.
        shot_mask: false for missing shots.
        config: the options.
    """
    if config.per == "prototype":
        return -bi_mhm(frame_similarity(query, mean_over_shots(support, shot_mask)))
    videos = bi_mhm(frame_similarity(query, support.flatten(1, 2)))  # episode query video
    return -per_video(videos, shot_mask)
