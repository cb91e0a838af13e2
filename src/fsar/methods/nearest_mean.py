"""Nearest class mean under a shrunk covariance, on one frozen vector per video.

Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate Analysis
2004, in Fisher's linear discriminant. The vector of a video is its mean frame feature at length 1.

    S      = mean over support videos of (x - m_class) (x - m_class)^T
    spread = trace(S) / dim
    Sigma  = (1 - shrinkage) S + shrinkage spread I
    logits = -1/2 spread (x - m)^T Sigma^-1 (x - m)

With one shot per class S is 0, and the logits are those of the squared Euclidean distance. The factor `spread` gives
logits of one size for any number of shots; it changes no order of classes.

| what | function |
|---|---|
| class mean m | `fsar.layers.linear_heads.HeadInput.means` |
| shrinkage b^2 / d^2, lemmas 3.3 to 3.5 | `ledoit_wolf` |
| Sigma, eq. 14; its inverse in the span of the support | `NearestMean.match` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| covariance of | one sample, its mean subtracted | the same | the support, each class's mean subtracted |
| shrinkage | as estimated | the same | `shrinkage: null` estimates it; a number takes its place |
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fsar.layers.linear_heads import head_input
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction

LEAST = 1e-3
"""Shrinkage is not taken smaller, so that the inverse is exact in float32."""


class NearestMean(Method):
    """Distance to class means under a shrunk covariance of the support; ignores the order of frames."""

    name = "nearest-mean"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of the nearest class mean."""

        shrinkage: float | None = None
        """Share of the identity in the covariance; 1 is the Euclidean distance, null estimates it (Ledoit-Wolf)."""

        def check(self) -> None:
            """Refuse a shrinkage that is no share, or that leaves no inverse."""
            if self.shrinkage is not None and not LEAST <= self.shrinkage <= 1:
                raise ValueError(
                    f"nearest-mean got shrinkage {self.shrinkage}; expected null, or a number from {LEAST} to 1"
                )

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Nothing trains before the episode; the covariance is that of all classes, unless it has no effect."""
        euclidean = config.shrinkage == 1
        return Traits(trains=(), independent_ways=euclidean)

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus half the squared distance to each class mean; `shrinkage` [episode] beside them.

        Sigma^-1 is taken apart (Woodbury), where Z are the support vectors minus their class means:
        spread Sigma^-1 = 1 / shrinkage (I - c Z^T (shrinkage I + c Z Z^T)^-1 Z), c = (1 - shrinkage) / (videos spread).
        """
        query, support = episode.query["frames"], episode.support["frames"]
        with torch.autocast(query.device.type, enabled=False):
            given = head_input(query, support, episode.shot_mask)
            means = given.means
            rests = given.support - given.classes @ means
            videos = given.present.sum((-2, -1)).clamp(min=1)
            gram = rests @ rests.mT
            spread = gram.diagonal(dim1=-2, dim2=-1).sum(-1) / videos / rests.shape[-1]
            shrinkage = ledoit_wolf(gram, videos, rests.shape[-1]).clamp(min=LEAST)
            if self.config.shrinkage is not None:
                shrinkage = torch.full_like(shrinkage, self.config.shrinkage)
            share = (1 - shrinkage) / (videos * spread.masked_fill(spread == 0, 1.0))
            identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
            inner = shrinkage[:, None, None] * identity + share[:, None, None] * gram
            whiten = torch.linalg.cholesky(inner)
            inside = [
                torch.linalg.solve_triangular(
                    whiten, share.sqrt()[:, None, None] * (rests @ vectors.mT), upper=False
                ).mT
                for vectors in (given.query, means)
            ]
            squared = (_squared(given.query, means) - _squared(*inside)) / shrinkage[:, None, None]
            return Prediction(-squared / 2, {"shrinkage": shrinkage})


def _squared(
    x: Float[Tensor, "*batch query dim"], y: Float[Tensor, "*batch way dim"]
) -> Float[Tensor, "*batch query way"]:
    """Squared Euclidean distances."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def ledoit_wolf(
    gram: Float[Tensor, "*batch video video"], videos: Float[Tensor, "*batch"], dim: int
) -> Float[Tensor, "*batch"]:
    """Estimate the share of the identity in a covariance, from the inner products of centred vectors.

    Args:
        gram: inner products; zeros for a missing vector.
        videos: number of vectors.
        dim: length of a vector.

    Returns:
        b^2 / d^2 of the paper, in [0, 1]; 1 if all vectors are 0.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> ledoit_wolf(x @ x.mT, torch.tensor(4.0), 2)  # the covariance is half the identity
        tensor(1.)
    """
    squares = gram.diagonal(dim1=-2, dim2=-1)
    of_covariance = gram.square().sum((-2, -1)) / videos**2  # |S|^2, as in Frobenius
    spread = squares.sum(-1) / videos / dim
    off = of_covariance - dim * spread**2  # |S - spread I|^2
    error = (squares.square().sum(-1) / videos - of_covariance) / videos  # mean of |x x^T - S|^2, over videos
    nothing = off <= 1e-6 * of_covariance
    return (error / off.masked_fill(nothing, 1.0)).clamp(0, 1).masked_fill(nothing, 1.0)
