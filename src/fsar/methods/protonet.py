"""ProtoNet: cosine between a query and the mean of each class's support videos.

Snell et al., "Prototypical networks for few-shot learning", NeurIPS 2017; with the two cosines that few-shot action
recognition uses. This file is the one to copy for a new metric.

| what | function |
|---|---|
| prototype c_k, eq. 1 | `mean_over_shots` |
| cosine of time means, mean of same-index frame cosines | `protonet_logits` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| similarity | squared Euclidean distance (ProtoNet); mean of frame cosines (Task-Adapter++, 3.4) | cosine of time means (Task-Adapter++) | `similarity: time-mean` (default) or `frame-wise` |
| compared with | the class prototype | each support video, then the mean over a class (TSN baseline) | `per: prototype` (default) or `video` |
| eps in the cosine | 0 | 0.01 (TSN), 0 (Task-Adapter++) | `cos_eps`, 0.01 by default (the lineage's) |
"""  # noqa: E501

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from fsar.alignment import frame_similarity
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction, mean_over_shots, per_video
from fsar.shapes import Logits, ShotMask


class ProtoNet(Method):
    """Cosine to class prototypes; `similarity: time-mean` ignores the order of frames."""

    name = "protonet"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of ProtoNet."""

        similarity: Literal["time-mean", "frame-wise"] = "time-mean"
        """Cosine of the means over time, or the mean cosine of frames with the same index."""
        per: Literal["prototype", "video"] = "prototype"
        """Compare with the class mean, or with each support video and take the mean similarity."""
        cos_eps: float = 0.01
        """Added to the product of norms in every cosine."""

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Classes are independent; with `per: prototype`, only their means matter."""
        return Traits(independent_ways=True, matches_means=config.per == "prototype")

    def match(self, episode: Episode) -> Prediction:
        """Logits: the similarity to each class, not scaled."""
        query, support = episode.query["frames"], episode.support["frames"]
        return Prediction(protonet_logits(query, support, episode.shot_mask, self.config))


def protonet_logits(
    query: Float[Tensor, "episode query frame dim"],
    support: Float[Tensor, "episode way shot frame dim"],
    shot_mask: ShotMask,
    config: ProtoNet.Config,
) -> Logits:
    """Similarity between each query and each class.

    Args:
        query: frame features.
        support: frame features.
        shot_mask: false for missing shots.
        config: the options.
    """
    if config.per == "prototype":
        return _similarity(query, mean_over_shots(support, shot_mask), config)
    return per_video(_similarity(query, support.flatten(1, 2), config), shot_mask)


def _similarity(
    query: Float[Tensor, "episode query frame dim"],
    references: Float[Tensor, "episode reference frame dim"],
    config: ProtoNet.Config,
) -> Float[Tensor, "episode query reference"]:
    if config.similarity == "time-mean":
        query, references = query.mean(-2, keepdim=True), references.mean(-2, keepdim=True)
        return frame_similarity(query, references, config.cos_eps)[..., 0, 0]
    return frame_similarity(query, references, config.cos_eps).diagonal(dim1=-2, dim2=-1).mean(-1)
