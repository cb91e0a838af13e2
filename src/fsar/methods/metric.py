"""Metrics for methods that make their own features: (query, support, mask) -> logits.

`distance-correlation` is the match of TS-FSAR (Long et al., "Task-specific distance correlation matching for few-shot
action recognition", AAAI 2026) on frame features:

    R = distances between the channels of a frame
    A[q, c, i, j] = cosine of R of frame i of the query and the mean R of frame j over the shots of the class
    M = G (mean feature of all support frames + mean feature of the query's frames), reshaped to frames x frames
    score[q, c] = sum over i, j of A M
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from fsar.alignment import frame_similarity
from fsar.alignment.distance_correlation import channel_distances
from fsar.layers.temporal import require_frames
from fsar.methods.base import Method
from fsar.methods.bi_mhm import BiMhm, bi_mhm_logits
from fsar.methods.episode import mean_over_shots
from fsar.methods.otam import Otam, otam_logits
from fsar.methods.protonet import ProtoNet, protonet_logits
from fsar.methods.trx import CrossTransformers, Trx
from fsar.shapes import Logits, ShotMask

Metric = Callable[
    [Float[Tensor, "episode query frame dim"], Float[Tensor, "episode way shot frame dim"], ShotMask], Logits
]
_METHODS: dict[str, type[Method]] = {"otam": Otam, "bi-mhm": BiMhm, "trx": Trx, "protonet": ProtoNet}
_DEFAULTS: dict[str, dict[str, Any]] = {"otam": {"per": "prototype", "smoothing": 0.5}}
"""Options of CLIP-FSAR and its descendants that differ from the defaults of the metric."""
_COS_EPS = 0.01
"""Added to the product of norms in the correlation of distances."""
_DISTANCE_CORRELATION = "distance-correlation"


def make_metric(name: str, dim: int, frames: int = 8, **options: Any) -> Metric:
    """Make a metric for another method.

    Args:
        name: `otam`, `bi-mhm`, `trx`, `protonet` or `distance-correlation`.
        dim: channels of a frame feature.
        frames: of a video, for `distance-correlation`.
        options: fields of that method's `Config`. Without them OTAM compares with prototypes, as CLIP-FSAR does.

    Returns:
        A function; a module with parameters for `trx` and `distance-correlation`.

    Example:
        >>> import torch
        >>> metric = make_metric("otam", 16)
        >>> query, support = torch.randn(1, 4, 8, 16), torch.randn(1, 2, 3, 8, 16)
        >>> metric(query, support, torch.ones(1, 2, 3, dtype=torch.bool)).shape  # episode query way
        torch.Size([1, 4, 2])
    """
    if name == _DISTANCE_CORRELATION:
        return DistanceCorrelation(dim, frames)
    config: Any = _METHODS[name].Config(**{**_DEFAULTS.get(name, {}), **options})
    if name == "trx":
        return CrossTransformers(dim, config)
    functions: dict[str, Callable[..., Logits]] = {
        "otam": otam_logits,
        "bi-mhm": bi_mhm_logits,
        "protonet": protonet_logits,
    }
    return partial(functions[name], config=config)


def metric_episodes(name: str) -> int:
    """Return how many episodes can be matched at once with a metric."""
    if name == _DISTANCE_CORRELATION:
        return 8
    cls = _METHODS[name]
    return cls.traits_of(cls.Config()).episodes_per_match


class TaskSpecificMatch(nn.Module):
    """Correlate the frames of queries and classes, and weigh the pairs of frames for every query and its support.

    Args:
        dim: channels of a token.
        frames: of a video.
        weighs: whether pairs have weights; if not, all count alike, and videos may have any number of frames.
    """

    def __init__(self, dim: int, frames: int, weighs: bool = True):
        super().__init__()
        self.frames = frames
        self.generator = nn.Linear(dim, frames**2, bias=False) if weighs else None

    def forward(
        self,
        query: Float[Tensor, "episode query frame pair"],
        support: Float[Tensor, "episode way shot frame pair"],
        query_tokens: Float[Tensor, "episode query frame dim"],
        support_tokens: Float[Tensor, "episode way shot frame dim"],
        shot_mask: ShotMask,
    ) -> Logits:
        """Sum the weighed correlations; each query is alone with the support.

        Args:
            query: what is compared of each frame, as its distances.
            support: the same.
            query_tokens: of each frame.
            support_tokens: of each frame.
            shot_mask: false for missing shots.

        Raises:
            ValueError: videos have another number of frames, where every pair of frames has its own weight.
        """
        correlation = frame_similarity(query, mean_over_shots(support, shot_mask), _COS_EPS)
        if self.generator is None:
            return correlation.sum((-2, -1))
        require_frames(self.frames, query.shape[-2])
        videos = shot_mask.sum((1, 2)).clamp(min=1)[:, None]
        task = (support_tokens.mean(-2) * shot_mask[..., None]).sum((1, 2)) / videos  # episode dim
        weights = self.generator(task[:, None] + query_tokens.mean(-2)).unflatten(-1, correlation.shape[-2:])
        return (correlation * weights[:, :, None]).sum((-2, -1))


class DistanceCorrelation(nn.Module):
    """The match of TS-FSAR for frame features: a channel is described by one number instead of one per place.

    Args:
        dim: channels of a frame feature.
        frames: of a video.

    Example:
        >>> import torch
        >>> metric = DistanceCorrelation(16, frames=8)
        >>> query, support = torch.randn(1, 4, 8, 16), torch.randn(1, 2, 3, 8, 16)
        >>> metric(query, support, torch.ones(1, 2, 3, dtype=torch.bool)).shape  # episode query way
        torch.Size([1, 4, 2])
    """

    def __init__(self, dim: int, frames: int):
        super().__init__()
        self.match = TaskSpecificMatch(dim, frames)

    def forward(
        self,
        query: Float[Tensor, "episode query frame dim"],
        support: Float[Tensor, "episode way shot frame dim"],
        shot_mask: ShotMask,
    ) -> Logits:
        """Match frame features of queries and support videos."""
        relations = [channel_distances(frames.unsqueeze(-1)) for frames in (query, support)]
        return self.match(*relations, query, support, shot_mask)
