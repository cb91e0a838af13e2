"""Distances between the channels of a frame as its description, and the correlation of two such descriptions.

Long et al., "Task-specific distance correlation matching for few-shot action recognition", AAAI 2026 (TS-FSAR).

| equation | function |
|---|---|
| squared distances of channels over places, to the power alpha, double-centred | `channel_distances` |
| correlation A of the frames of two videos | `fsar.alignment.frame_similarity` of these, with eps 0.01 |
| weighed for every query, as a head | `fsar.methods.metric.TaskSpecificMatch`, `DistanceCorrelation` |
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fsar.alignment.cosine import unhalved

ALPHA = 0.4
"""Power of the squared distance in the public code."""
_FLOOR = 1e-5
"""Added to a distance before the power, whose gradient is infinite at 0."""


def channel_distances(
    channels: Float[Tensor, "*frames channel place"], alpha: float = ALPHA
) -> Float[Tensor, "*frames pair"]:
    """Describe a frame by the distances between its channels: upper triangle with the diagonal, row by row.

    Args:
        channels: of a frame, one number per place.
        alpha: power of the squared distance.

    Returns:
        Double-centred distances of all channel x (channel + 1) / 2 pairs.

    Example:
        >>> channel_distances(torch.randn(2, 8, 16, 49)).shape  # video frame channel place
        torch.Size([2, 8, 136])
    """
    channels = unhalved(channels)
    squares = channels.square().sum(-1)
    with torch.autocast(channels.device.type, enabled=False):
        products = channels @ channels.mT
    distance = (squares[..., :, None] + squares[..., None, :] - 2 * products) / (2 * channels.shape[-1])
    power = (distance.clamp(min=0) + _FLOOR) ** alpha
    centred = power - power.mean(-1, keepdim=True) - power.mean(-2, keepdim=True) + power.mean((-2, -1), keepdim=True)
    rows, columns = torch.triu_indices(centred.shape[-1], centred.shape[-1], device=channels.device)
    return centred[..., rows, columns]
