"""ProtoNet: cosine between a query and the mean of each class's support videos.

Snell et al., "Prototypical networks for few-shot learning", NeurIPS 2017, with the two cosines that
few-shot action recognition uses.

| what | function |
|---|---|
| prototype c_k, eq. 1 | `mean_over_shots` |
| cosine of time means, mean of same-index frame cosines | `ProtoNet.match` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| similarity | squared Euclidean distance (ProtoNet); mean of frame cosines (Task-Adapter++, 3.4) | cosine of time means (Task-Adapter++) | `similarity: time-mean` (default) or `frame-wise` |
| compared with | the class prototype | each support video, then the mean over a class (TSN baseline) | `per: prototype` (default) or `video` |
| eps in the cosine | 0 | 0.01 (TSN), 0 (Task-Adapter++) | `cos_eps`, 0.01 by default (rulings: the lineage's) |
"""  # noqa: E501

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fsar.alignment import frame_similarity
from fsar.methods.base import Episode, Method, Prediction, mean_over_shots, per_video


class ProtoNet(Method):
    """Cosine to class prototypes; blind to the order of frames where `similarity` is `time-mean`."""

    name = "protonet"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Options of ProtoNet."""

        similarity: Literal["time-mean", "frame-wise"] = "time-mean"
        """Cosine of the means over time, or mean of the cosines of same-index frames."""
        per: Literal["prototype", "video"] = "prototype"
        """Compare with the class mean, or with each support video and take the mean."""
        cos_eps: float = 0.01
        """Added to the product of norms."""

    config: Config

    def match(self, episode: Episode) -> Prediction:
        """Logits: the similarity to each class, not scaled."""
        query, support = episode.query["frames"], episode.support["frames"]
        if self.config.per == "prototype":
            prototypes = mean_over_shots(support, episode.shot_mask)  # episode way frame dim
            return Prediction(self._similarity(query, prototypes))
        videos = self._similarity(query, support.flatten(1, 2))  # episode query video
        return Prediction(per_video(videos, episode.shot_mask))

    def _similarity(self, query: Tensor, support: Tensor) -> Tensor:
        """[episode, query, frame, dim] and [episode, support, frame, dim] -> [episode, query, support]."""
        if self.config.similarity == "time-mean":
            query, support = query.mean(-2, keepdim=True), support.mean(-2, keepdim=True)
            return frame_similarity(query, support, self.config.cos_eps)[..., 0, 0]
        return frame_similarity(query, support, self.config.cos_eps).diagonal(dim1=-2, dim2=-1).mean(-1)
