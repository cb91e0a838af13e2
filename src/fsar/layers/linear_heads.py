"""Linear heads that are solved anew for every episode, on one frozen vector per video.

An episode has few support videos, and a vector is long. So a head is solved in the span of the support videos: its
matrices are [video, video]. A missing shot is a vector of zeros with targets of zeros, which changes no solution. All
heads compute in at least float32, also inside a block of lower precision.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fsar.shapes import FrameFeatures, ShotMask

PRECISION = 1e-7
"""Of a solution by iteration: its distance from the exact one, as a share of the first distance."""


class HeadInput(NamedTuple):
    """Vectors of episodes; the support videos of all classes stand in one row."""

    query: Float[Tensor, "episode query dim"]
    support: Float[Tensor, "episode video dim"]
    """Zeros for a missing shot."""
    classes: Float[Tensor, "episode video way"]
    """1 for the class of the video, else 0; zeros for a missing shot."""

    @property
    def present(self) -> Float[Tensor, "episode video 1"]:
        """1 for a video, 0 for a missing shot."""
        return self.classes.sum(-1, keepdim=True)

    @property
    def counts(self) -> Float[Tensor, "episode way"]:
        """Number of support videos of each class."""
        return self.classes.sum(-2)

    @property
    def means(self) -> Float[Tensor, "episode way dim"]:
        """Mean vector of each class; zeros for a class without a video."""
        return self.classes.mT @ self.support / self.counts.clamp(min=1)[..., None]


def head_input(
    query: Float[Tensor, "episode query frame dim"],
    support: Float[Tensor, "episode way shot frame dim"],
    shot_mask: ShotMask,
) -> HeadInput:
    """Make the input of a head from frame features.

    Args:
        query: frame features.
        support: frame features.
        shot_mask: false for missing shots.

    Example:
        >>> mask = torch.tensor([[[True, True], [True, False]]])
        >>> made = head_input(torch.randn(1, 4, 8, 16), torch.randn(1, 2, 2, 8, 16), mask)
        >>> made.query.shape, made.counts
        (torch.Size([1, 4, 16]), tensor([[2., 1.]]))
    """
    vectors = video_vectors(support).flatten(1, 2)
    present = shot_mask.flatten(1)[..., None]
    ways = torch.eye(shot_mask.shape[1], dtype=vectors.dtype, device=vectors.device)
    classes = ways.repeat_interleave(shot_mask.shape[2], 0) * present
    return HeadInput(video_vectors(query), vectors.masked_fill(~present, 0.0), classes)


def video_vectors(frames: FrameFeatures) -> Float[Tensor, "*clips dim"]:
    """Give the mean frame feature of each video, at length 1 and in at least float32.

    Args:
        frames: frame features.

    Example:
        >>> video_vectors(torch.tensor([[3.0, 0.0], [3.0, 8.0]]))
        tensor([0.6000, 0.8000])
    """
    frames = frames.to(torch.promote_types(frames.dtype, torch.float32))
    return F.normalize(frames.mean(-2), dim=-1)


def centred(given: HeadInput) -> HeadInput:
    """Subtract the mean of the class means from every vector; so a head needs no intercept.

    An intercept would learn how many videos each class has, which says nothing about a query.

    Args:
        given: vectors of episodes.

    Example:
        >>> made = centred(head_input(torch.randn(1, 4, 8, 16), torch.randn(1, 2, 1, 8, 16), torch.ones(1, 2, 1) > 0))
        >>> bool(made.support.sum(-2).abs().max() < 1e-6)
        True
    """
    known = (given.counts > 0).sum(-1).clamp(min=1)[:, None, None]
    centre = given.means.sum(-2, keepdim=True) / known
    return given._replace(query=given.query - centre, support=(given.support - centre) * given.present)


def ridge_coefficients(
    gram: Float[Tensor, "*batch video video"], targets: Float[Tensor, "*batch video target"], strength: float
) -> Float[Tensor, "*batch video target"]:
    """Solve ridge regression in its dual form: (X X^T + strength I) A = Y; the weights are W = X^T A.

    They minimise |X W - Y|^2 + strength |W|^2 (Bertinetto et al., "Meta-learning with differentiable closed-form
    solvers", ICLR 2019, eq. 6).

    Args:
        gram: X X^T, the inner products of all videos.
        targets: Y.
        strength: of the penalty, above 0.

    Example:
        >>> x, y = torch.eye(2), torch.tensor([[1.0], [0.0]])
        >>> ridge_coefficients(x @ x.mT, y, strength=1.0)
        tensor([[0.5000],
                [0.0000]])
    """
    penalty = strength * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.cholesky_solve(targets, torch.linalg.cholesky(gram + penalty))


def logistic_coefficients(
    gram: Float[Tensor, "*batch video video"], classes: Float[Tensor, "*batch video way"], strength: float
) -> Float[Tensor, "*batch video way"]:
    """Solve multinomial logistic regression in the span of the videos: the weights are W = X^T A.

    They minimise sum over videos of -log softmax(X W)[class] + strength / 2 |W|^2. The Hessian never exceeds
    1/2 X^T X + strength I (Böhning, "Multinomial logistic regression algorithm", AISM 1992, theorem 1). So each step
    A <- A - (1/2 X X^T + strength I)^-1 (P - Y + strength A) decreases the objective, without a line search; P are the
    probabilities. Nesterov's momentum for the ratio of the two bounds makes the steps few. Their number depends on the
    number of videos and on the strength alone, so an episode's solution does not depend on the episodes beside it.

    Args:
        gram: X X^T, the inner products of all videos; zeros for a missing shot.
        classes: 1 for the class of a video, else 0; zeros for a missing shot.
        strength: of the penalty, above 0; 1 / C of scikit-learn.

    Example:
        >>> x, y = torch.eye(2), torch.eye(2)
        >>> a = logistic_coefficients(x @ x.mT, y, strength=1.0)
        >>> slope = (x @ x.mT @ a).softmax(-1) - y + a
        >>> bool(slope.abs().max() < 1e-5)
        True
    """
    penalty = strength * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram / 2 + penalty))
    absent = classes.sum(-2, keepdim=True) == 0
    present = classes.sum(-1, keepdim=True)
    largest = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] / 2  # no eigenvalue of 1/2 gram exceeds it
    root = (strength / (strength + largest)).sqrt()
    momentum = (1 - root) / (1 + root)
    before = coefficients = torch.zeros_like(classes)
    for _ in range(_steps(gram.shape[-1], strength)):
        ahead = coefficients + momentum * (coefficients - before)
        probabilities = (gram @ ahead).masked_fill(absent, -torch.inf).softmax(-1) * present
        slope = probabilities - classes + strength * ahead
        before, coefficients = coefficients, ahead - inverse @ slope
    return coefficients


def _steps(videos: int, strength: float) -> int:
    """Steps until a solution is exact to `PRECISION`, for vectors of length 1 at most."""
    return math.ceil(math.sqrt(1 + videos / (2 * strength)) * math.log(1 / PRECISION))
