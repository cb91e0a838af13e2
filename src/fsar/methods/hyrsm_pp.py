"""HyRSM++: HyRSM whose fused frames must be alike when near in time, and differ when far apart.

Wang et al., "HyRSM++: Hybrid relation guided temporal set matching for few-shot action recognition", Pattern
Recognition 147, 2024. Relations and distance are HyRSM's (`hyrsm.py`); the loss has one more term:

    d[i, j] = 1 - cos(f_i, f_j) of two frames of one fused video, g = |i - j|, w the window, b the balance
    W[i, j] = 1 / (g^2 + 1) if g <= w, else 1 - exp(-(g - w)^2 / b)
    L = mean over videos, i and j of [ W d if g <= w, else max(0, W - d) ];  L(support) + L(query)

| what | function |
|---|---|
| relations and distance | `fsar.methods.hyrsm.HyRsm` |
| W | `coherence_weights` |
| temporal coherence L of videos | `coherence` |
| loss: HyRSM's + w_t L | `HyRsmPlusPlus.loss` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| forward | - | HyRSM's: the same weights give the same logits | the code's |
| L | - | as above; every pair i, j counts, also i = j, which adds 0 | the code's |
| videos of L | - | all fused videos: every query has support frames of its own | the code's, without missing shots |
| w_t | - | HMDB51 0.2; UCF101, Kinetics 0.1; SSv2 0.3 | `coherence_weight`: 0.2; 0 is HyRSM |
| w, b | - | HMDB51, SSv2-Full 1, 51; the others 3, 23 | `window` 3, `balance` 23, the code's most frequent |
| class loss | - | HMDB51 0.15; UCF101, SSv2-Full 0.6; Kinetics 0.1; SSv2-Small 0.2 | `class_weight`: HyRSM's 0.15, or the recipe's |
| A, B | - | 10, 1; HMDB51 50, 1 (not HyRSM's 2048, 0.01 on Kinetics) | `frame_scale`, `position_scale`: 10, 1, or the recipe's |
| TEMPORAL_WEIGHT, a factor on the far part | - | 0.5 in its files, which nothing reads; never set, so 1 | none |
| semi-supervised form | - | a head of its own | none |
| queries per class | - | 7; 3 with five shots | the recipes' `query` and `for_shot` |
| everything else | - | as HyRSM's code | as `hyrsm.py` |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from fsar.methods.episode import Episode, Prediction, Targets
from fsar.methods.hyrsm import HyRsm


def coherence_weights(
    frames: int, window: int, balance: float
) -> tuple[Float[Tensor, "frame frame"], Bool[Tensor, "frame frame"]]:
    """Compute W, and tell which frames are near.

    Args:
        frames: number of frames.
        window: largest distance in frames that is near.
        balance: b; above 0.

    Returns:
        W, and whether two frames are near.

    Example:
        >>> weights, near = coherence_weights(3, window=1, balance=51.0)
        >>> weights[0], near[0]
        (tensor([1.0000, 0.5000, 0.0194]), tensor([ True,  True, False]))
    """
    index = torch.arange(frames)
    gap = (index[:, None] - index).abs()
    near = gap <= window
    return torch.where(near, 1 / (gap**2 + 1), 1 - torch.exp(-((gap - window) ** 2) / balance)), near


def coherence(videos: Float[Tensor, "*videos frame dim"], window: int, balance: float) -> Float[Tensor, "*videos"]:
    """Compute how far each video is from temporal coherence, mean over all pairs of frames.

    Args:
        videos: fused frames.
        window: as `coherence_weights` takes it.
        balance: as `coherence_weights` takes it.

    Example:
        >>> still = torch.ones(2, 1).expand(2, 4)  # two equal frames
        >>> coherence(still, window=1, balance=51.0)
        tensor(0.)
    """
    rows = normalize(videos, dim=-1)
    distance = 1 - rows @ rows.mT
    weights, near = (table.to(videos.device) for table in coherence_weights(videos.shape[-2], window, balance))
    return torch.where(near, weights * distance, (weights - distance).relu()).mean((-2, -1))


class HyRsmPlusPlus(HyRsm):
    """HyRSM with a loss that keeps neighbouring frames alike and distant frames apart."""

    name = "hyrsm-pp"

    @dataclass(frozen=True, kw_only=True)
    class Config(HyRsm.Config):
        """Options of HyRSM++."""

        least: ClassVar[dict[str, float]] = {**HyRsm.Config.least, "coherence_weight": 0, "window": 0}
        above_zero = (*HyRsm.Config.above_zero, "balance")

        coherence_weight: float = 0.2
        """Weight of the temporal coherence in the loss; 0 leaves it out, which is HyRSM."""
        window: int = 3
        """Frames at most so far apart are drawn together; frames farther apart are pushed apart."""
        balance: float = 23.0
        """How slowly the wanted distance of far frames grows with their distance in time; above 0."""

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Without the coherence, nothing reads its window and balance."""
            return ((self.coherence_weight == 0, "coherence_weight: 0", ("window", "balance")),)

    config: Config

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """HyRSM's terms, and `coherence`: of the fused support frames of every query, plus of the fused queries.

        Raises:
            ValueError: `begin_training` was not called.
        """
        terms = super().loss(episode, prediction, targets)
        if self.config.coherence_weight:
            support, query = (
                coherence(prediction.named[part], self.config.window, self.config.balance)
                for part in ("support_out", "query_out")
            )
            present = self.references_of(episode.shot_mask).flatten(1)[:, None].expand_as(support)
            own = support.where(present, 0.0).sum((1, 2)) / present.sum((1, 2))  # episode
            terms["coherence"] = self.config.coherence_weight * (own.mean() + query.mean())
        return terms
