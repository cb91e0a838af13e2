"""Bi-MHM: the bidirectional mean Hausdorff metric between two sequences of frames.

Wang et al., "Hybrid relation guided set matching for few-shot action recognition", CVPR 2022 (HyRSM).
Each frame is matched to the nearest frame of the other video; the order of frames has no effect.

Deviations: the paper divides each direction by its number of frames. The public code does not, and published numbers
come from that code. We follow the code (distance x T); the ranking is the same.
"""

from torch import Tensor

from fsar.shapes import Distance, FrameSimilarity


def bi_mhm(similarity: FrameSimilarity) -> Distance:
    """Sum the distances (1 - similarity) of all frames of both videos to their nearest frame of the other video.

    Args:
        similarity: cosines [*pairs, query_frame, support_frame].

    Returns:
        Distances [*pairs], at least 0 for cosines.

    Example:
        >>> import torch
        >>> bi_mhm(torch.tensor([[1.0, 0.0], [0.5, 0.0]]))  # 0 + 0.5 for the rows, 0 + 1 for the columns
        tensor(1.5000)
    """
    distance: Tensor = 1 - similarity
    return distance.amin(-1).sum(-1) + distance.amin(-2).sum(-1)
