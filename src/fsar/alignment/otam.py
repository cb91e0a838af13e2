"""OTAM: ordered temporal alignment of two sequences of frames by a soft dynamic program.

Cao et al., "Few-shot video classification via temporal alignment", CVPR 2020.

| equation | function |
|---|---|
| frame distance, eq. 2 | 1 - `fsar.alignment.frame_similarity` |
| cumulative distance with relaxed start and end, eq. 5-7 | `_cumulative` |
| soft minimum, eq. 8 | -smoothing * logsumexp(-x / smoothing), inside `_cumulative` |

Deviations:
| point | paper | public code | ours |
|---|---|---|---|
| soft minimum | log-sum | log of a sum of exponentials, infinite once a path passes about 10.3 (smoothing 0.1) | `logaddexp`: equal where the code is finite, finite always |
| first row | as any row | plain running sum, no soft minimum | the code's |
| padding | both ends of the second sequence | the same | the same: `direction` says which sequence that is |
| smoothing | 0.1 | 0.1 per video; 0.5 per prototype (CLIP-FSAR and its descendants) | argument |
| direction | one | both, summed | argument |
"""  # noqa: E501

import torch
from torch import Tensor

from fsar.shapes import Distance, FrameSimilarity

DIRECTIONS = ("both", "query-to-support", "support-to-query")


def otam(distance: FrameSimilarity, smoothing: float = 0.5, direction: str = "both") -> Distance:
    """Soft length of the best ordered path through the frame distances.

    Args:
        distance: [*pairs, query_frame, support_frame], any finite values.
        smoothing: lambda of the soft minimum, above 0; smaller values are closer to the hard minimum.
        direction: `query-to-support` visits every query frame in order and may skip the ends of the support
            video; `support-to-query` is the reverse; `both` is their sum.

    Returns:
        Distances [*pairs]. A soft minimum lies below the hard one, so a distance can be negative.

    Raises:
        ValueError: a smoothing that is not above 0, or an unknown direction.

    Example:
        >>> distance = 1 - torch.eye(4)  # each frame equals the frame of its own index
        >>> otam(distance, 0.1) < otam(distance.flip(0), 0.1)  # backwards is farther
        tensor(True)
    """
    if smoothing <= 0 or direction not in DIRECTIONS:
        raise ValueError(
            f"otam got smoothing {smoothing} and direction {direction!r}; expected a smoothing above 0 and one "
            f"of {', '.join(DIRECTIONS)}"
        )
    if direction == "query-to-support":
        return _cumulative(distance, smoothing)
    if direction == "support-to-query":
        return _cumulative(distance.transpose(-1, -2), smoothing)
    return _cumulative(distance, smoothing) + _cumulative(distance.transpose(-1, -2), smoothing)


def _cumulative(distance: Tensor, smoothing: float) -> Tensor:
    """Run the dynamic program row by row; a free column is added at each end, and paths never move back.

    It computes score = -cumulative / smoothing, because the soft minimum is then a logaddexp.
    """
    pairs = distance.ndim - 2
    cost = (-distance / smoothing).permute(pairs, pairs + 1, *range(pairs)).contiguous()  # row column *pairs
    rows, columns = cost.shape[:2]
    free = torch.zeros_like(cost[0, 0])
    above = [free, *cost[0].cumsum(0).unbind(0)]  # first row: plain running sum
    above.append(above[-1])
    for row in range(1, rows):
        here = [free]
        for column in range(1, columns + 1):
            best = torch.logaddexp(above[column - 1], here[column - 1])
            if column == 1:  # only the first column may be entered from above
                best = torch.logaddexp(best, above[column])
            here.append(cost[row, column - 1] + best)
        last = torch.logaddexp(above[columns], above[columns + 1])
        here.append(torch.logaddexp(last, here[columns]))
        above = here
    return -smoothing * above[columns + 1]


def otam_alignment(distance: FrameSimilarity, smoothing: float = 0.5, direction: str = "both") -> FrameSimilarity:
    """Compute how strongly the alignment uses each pair of frames: the gradient of `otam` by its distances.

    Args:
        distance: as `otam` takes it.
        smoothing: as `otam` takes it.
        direction: as `otam` takes it.

    Returns:
        Weights [*pairs, query_frame, support_frame]. For one direction each is the probability that the soft path
        visits the pair.

    Raises:
        ValueError: a smoothing that is not above 0, or an unknown direction.

    Example:
        >>> otam_alignment(1 - torch.eye(3), 0.01, "query-to-support").argmax(-1)  # follows the diagonal
        tensor([0, 1, 2])
    """
    with torch.enable_grad():
        leaf = distance.detach().requires_grad_()
        (weights,) = torch.autograd.grad(otam(leaf, smoothing, direction).sum(), leaf)
    return weights
