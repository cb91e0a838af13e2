"""Cosine similarity between vectors, and between all frames of two sets of videos."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor

_SEEN: ContextVar[list[Tensor] | None] = ContextVar("seen", default=None)


def cosine(x: Float[Tensor, "*x dim"], y: Float[Tensor, "*y dim"], eps: float = 0.0) -> Float[Tensor, "..."]:
    """Cosine over the last axis: x.y / (|x| |y| + eps).

    Args:
        x: vectors.
        y: vectors; the leading axes of both broadcast.
        eps: added to the product of norms. CLIP-FSAR and its descendants use 0.01. With 0 (the plain
            cosine), a zero vector has similarity 0.

    Returns:
        Similarities, with the broadcast leading axes.

    Example:
        >>> cosine(torch.tensor([3.0, 4.0]), torch.tensor([[4.0, 3.0], [0.0, 0.0]]))
        tensor([0.9600, 0.0000])
    """
    norms = x.norm(dim=-1) * y.norm(dim=-1) + eps
    return (x * y).sum(-1) / _above_zero(norms)


def unhalved(values: Tensor) -> Tensor:
    """Return half-precision numbers as float32, whose squares do not overflow; others as they are.

    Args:
        values: any shape.

    Example:
        >>> unhalved(torch.ones(2, dtype=torch.bfloat16)).dtype, unhalved(torch.ones(2, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def frame_similarity(
    query: Float[Tensor, "*batch query query_frame dim"],
    support: Float[Tensor, "*batch support support_frame dim"],
    eps: float = 0.0,
) -> Float[Tensor, "*batch query support query_frame support_frame"]:
    """Cosine between every frame of every query and every frame of every support video or prototype.

    Half precision is converted to float32, because products of long vectors would overflow.

    Args:
        query: frame features.
        support: frame features, of as many episodes.
        eps: added to the product of norms.

    Returns:
        Similarities of all pairs of frames.

    Example:
        >>> query, support = torch.randn(4, 8, 16), torch.randn(5, 6, 16)  # video frame dim
        >>> frame_similarity(query, support).shape
        torch.Size([4, 5, 8, 6])
    """
    query, support = unhalved(query), unhalved(support)
    with torch.autocast(query.device.type, enabled=False):
        dots = torch.einsum("...qtd,...sud->...qstu", query, support.to(query))
        query_norm, support_norm = query.norm(dim=-1), support.to(query).norm(dim=-1)
        norms = query_norm[..., :, None, :, None] * support_norm[..., None, :, None, :] + eps
        similarity = dots / _above_zero(norms)
    if not torch.compiler.is_compiling() and (seen := _SEEN.get()) is not None:
        seen.append(similarity)
    return similarity


@contextmanager
def seen_similarities() -> Iterator[list[Tensor]]:
    """Collect what `frame_similarity` returns in this thread while the block of `with` runs.

    The gradient of a logit by such a tensor says how much each pair of frames counts, whatever the metric.

    Example:
        >>> with seen_similarities() as seen:
        ...     similarity = frame_similarity(torch.ones(1, 2, 4), torch.ones(3, 5, 4))
        >>> seen[0] is similarity
        True
    """
    seen: list[Tensor] = []
    before = _SEEN.set(seen)
    try:
        yield seen
    finally:
        _SEEN.reset(before)


def _above_zero(norms: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Replace a zero norm by 1: the cosine is then 0 and its gradient finite."""
    return norms.masked_fill(norms < torch.finfo(norms.dtype).tiny, 1.0)


def video_text_similarity(
    videos: Float[Tensor, "*batch video frame dim"], texts: Float[Tensor, "*batch label dim"], eps: float = 0.0
) -> Float[Tensor, "*batch video label"]:
    """Cosine of each video's mean frame feature and each class text.

    Args:
        videos: frame features.
        texts: one feature per class.
        eps: added to the product of norms.

    Returns:
        Similarities of all pairs of video and class.

    Example:
        >>> frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # one video, two frames
        >>> video_text_similarity(frames, torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        tensor([[1.0000, 0.7071]])
    """
    return frame_similarity(videos.mean(-2, keepdim=True), texts.unsqueeze(-2), eps)[..., 0, 0]
