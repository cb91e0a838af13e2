"""Which cells and frames made the answer of place-and-motion: its logit is a sum over them.

    logit of a class = sum over pairs of frames of weight x ( share of appearance + sum over cells of share of place )

The weight of a pair is the gradient of the logit by its similarity: 1 / frames on the diagonal for frame-wise
comparison, which makes the sum exact; the soft path or the nearest frames for the other alignments.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fsar.evaluation.alignments import alignments
from fsar.methods.episode import Episode, mean_over_shots
from fsar.methods.place_motion import PlaceMotion


@dataclass(frozen=True)
class CellShares:
    """Parts of each logit."""

    query: Float[Tensor, "query way frame row column"]
    """By the cells of each frame of the query."""
    support: Float[Tensor, "query way frame row column"]
    """By the cells of each frame of the class's mean."""
    appearance: Float[Tensor, "query way frame"]
    """By the pooled feature of each frame of the query."""
    logits: Float[Tensor, "query way"]


def cell_shares(method: PlaceMotion, episode: Episode) -> CellShares:
    """Take the logits of place-and-motion apart.

    Args:
        method: the variant that answers.
        episode: encodings of a single episode.

    Returns:
        Parts that sum to the logit, if frames are compared frame-wise.

    Example:
        >>> from fsar import build_method, load_backbone
        >>> parts = {"appearance": torch.randn(1, 1, 4, 128), "place": torch.randn(1, 1, 4, 9 * 128)}
        >>> support = {name: part[:, :, None] for name, part in parts.items()}
        >>> episode = Episode(support, parts, torch.ones(1, 1, 1, dtype=torch.bool))
        >>> found = cell_shares(build_method("place-motion", load_backbone("tiny")), episode)
        >>> total = found.query.sum((-1, -2, -3)) + found.appearance.sum(-1)
        >>> bool(torch.isclose(total, found.logits).all()), found.query.shape
        (True, torch.Size([1, 1, 4, 3, 3]))
    """
    prediction, (pairs,) = alignments(method, episode)
    weights = pairs.weights[:, :, 0]  # query way query_frame support_frame
    grid, share = method.config.grid, method.config.weight
    query, support = (
        {name: part.float() for name, part in encoding.items()}
        for encoding in (
            episode.query,
            {name: mean_over_shots(part, episode.shot_mask) for name, part in episode.support.items()},
        )
    )
    asked = query["place"][0].unflatten(-1, (-1, grid, grid))  # query frame channel row column
    known = support["place"][0].unflatten(-1, (-1, grid, grid))  # way frame channel row column
    mixed = torch.einsum("qwtu,wuchx->qwtchx", weights, known)
    pulled = torch.einsum("qwtu,qtchx->qwuchx", weights, asked)
    seen = torch.einsum("qwtu,qtd,wud->qwt", weights, query["appearance"][0], support["appearance"][0])
    return CellShares(
        share * torch.einsum("qtchx,qwtchx->qwthx", asked, mixed),
        share * torch.einsum("wuchx,qwuchx->qwuhx", known, pulled),
        (1 - share) * seen,
        prediction.logits[0].detach(),
    )
