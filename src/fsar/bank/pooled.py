"""The vector of a video for search: its whole encoding, projected at random onto a few hundred numbers.

    x       = every tensor of the encoding, each frame and then the whole made a unit vector, joined
    pooled  = fold(sign * permute(x)), a unit vector                         fold: sums of every DIM-th number

Inner products are kept, on average and up to about 1 / sqrt(DIM) (feature hashing: Weinberger et al., 2009, lemma 2).
So it compares videos frame by frame, in order, as methods do; the mean over the frames would not know the order.
Permutation and signs are fixed for ever: they come from the frozen generator of NumPy, with seed 0.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fsar.methods.episode import Encoding

DIM = 512
_BATCH = 64  # limits memory, does not change a result


def pooled(encoding: Encoding, dim: int = DIM) -> Float[Tensor, "video dim"]:
    """Project encodings.

    Args:
        encoding: tensors [video, ...].
        dim: numbers per video.

    Returns:
        Unit vectors, float32.

    Example:
        >>> one = {"frames": torch.eye(8)[None]}  # video frame dim
        >>> vectors = pooled(one, 64)
        >>> vectors.shape, round(float(vectors.norm()), 3)
        (torch.Size([1, 64]), 1.0)
    """
    count = len(next(iter(encoding.values())))
    batches = [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]
    return torch.cat([_projected({name: each[rows] for name, each in encoding.items()}, dim) for rows in batches])


def _projected(encoding: Encoding, dim: int) -> Tensor:
    joined = torch.cat([F.normalize(_by_frame(each.float()).flatten(1), dim=1) for each in encoding.values()], 1)
    order, signs = _projection(joined.shape[1], dim)
    mixed = F.pad(joined[:, order] * signs, (0, -joined.shape[1] % dim))
    return F.normalize(mixed.unflatten(1, (-1, dim)).sum(1), dim=1)


def _by_frame(tensor: Tensor) -> Tensor:
    """Make each vector of the last axis a unit vector; a tensor of one axis per video stays."""
    return F.normalize(tensor, dim=-1) if tensor.ndim > 2 else tensor


@lru_cache(maxsize=4)
def _projection(size: int, dim: int) -> tuple[Tensor, Tensor]:
    """The permutation and the signs."""
    frozen = np.random.RandomState(0)
    order, signs = frozen.permutation(size), frozen.randint(0, 2, size)
    return torch.from_numpy(order), torch.from_numpy(2.0 * signs - 1).float()
