"""OTAM as a method: frame features, ordered temporal alignment, nearest class.

Cao et al., "Few-shot video classification via temporal alignment", CVPR 2020. The alignment itself, with
its equations, is `fsar/alignment/otam.py`.

| what | function |
|---|---|
| frame distance, eq. 2 | `Otam.match`, `frame_similarity` |
| alignment distance, eq. 5-8 | `fsar.alignment.otam` |
| classification by the mean distance to a class's videos, eq. 9 | `per_video` |

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

from fsar.alignment import frame_similarity, otam
from fsar.methods.base import Episode, Method, Prediction, mean_over_shots, per_video


class Otam(Method):
    """Ordered temporal alignment of frame features."""

    name = "otam"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Options of OTAM."""

        per: Literal["video", "prototype"] = "video"
        """Align with each support video and take the mean distance, or with the class mean."""
        smoothing: float | None = None
        """Lambda of the soft minimum; None is 0.1 per video, 0.5 per prototype."""
        direction: Literal["both", "query-to-support", "support-to-query"] = "both"
        """Which sequence's frames are all visited; both is the sum."""
        cos_eps: float = 0.01
        """Added to the product of norms."""

    config: Config

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the alignment distance to each class (eq. 9); `frame_distance` beside them."""
        per, smoothing = self.config.per, self.config.smoothing
        support = episode.support["frames"]  # episode way shot frame dim
        references = mean_over_shots(support, episode.shot_mask) if per == "prototype" else support.flatten(1, 2)
        distance = 1 - frame_similarity(episode.query["frames"], references, self.config.cos_eps)
        if smoothing is None:
            smoothing = 0.1 if per == "video" else 0.5
        cumulative = otam(distance, smoothing, self.config.direction)  # episode query (way or video)
        if per == "video":
            cumulative = per_video(cumulative, episode.shot_mask)
        return Prediction(-cumulative, {"frame_distance": distance})
