"""Bi-MHM: the bidirectional mean Hausdorff metric between two sequences of frames.

Wang et al., "Hybrid relation guided set matching for few-shot action recognition", CVPR 2022 (HyRSM).
Each frame is matched to its nearest frame of the other video; order plays no part.

Deviations: the paper divides each direction by its number of frames; its public code does not, and the
field's numbers come from the code. We follow the code (distance x T): the ranking is the same.
"""

from torch import Tensor

from fsar.shapes import Distance, FrameSimilarity


def bi_mhm(similarity: FrameSimilarity) -> Distance:
    """Sum, over the frames of both videos, of the distance (1 - similarity) to the nearest other frame."""
    distance: Tensor = 1 - similarity
    return distance.amin(-1).sum(-1) + distance.amin(-2).sum(-1)
