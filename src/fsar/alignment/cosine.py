"""Cosine similarity between vectors, and between all frames of two sets of videos."""

import torch
from jaxtyping import Float
from torch import Tensor


def cosine(x: Float[Tensor, "*x dim"], y: Float[Tensor, "*y dim"], eps: float = 0.0) -> Float[Tensor, "..."]:
    """Cosine over the last axis, of broadcasting leading axes: x.y / (|x| |y| + eps).

    `eps` 0.01 is the CLIP-FSAR lineage's, which adds it to the product of norms; 0 is the plain cosine
    (a zero vector then has similarity 0).
    """
    norms = x.norm(dim=-1) * y.norm(dim=-1) + eps
    return (x * y).sum(-1) / norms.clamp(min=torch.finfo(x.dtype).tiny)


def frame_similarity(
    query: Float[Tensor, "*batch query query_frame dim"],
    support: Float[Tensor, "*batch support support_frame dim"],
    eps: float = 0.0,
) -> Float[Tensor, "*batch query support query_frame support_frame"]:
    """Cosine between every frame of every query and every frame of every support video or prototype."""
    if query.dtype in (torch.float16, torch.bfloat16):
        query, support = query.float(), support.float()
    with torch.autocast(query.device.type, enabled=False):  # products of long vectors overflow half precision
        dots = torch.einsum("...qtd,...sud->...qstu", query, support.to(query))
        query_norm, support_norm = query.norm(dim=-1), support.to(query).norm(dim=-1)
        norms = query_norm[..., :, None, :, None] * support_norm[..., None, :, None, :] + eps
        return dots / norms.clamp(min=torch.finfo(dots.dtype).tiny)


def video_text_similarity(
    videos: Float[Tensor, "*batch video frame dim"], texts: Float[Tensor, "*batch label dim"], eps: float = 0.0
) -> Float[Tensor, "*batch video label"]:
    """Cosine of each video's mean frame feature and each class text."""
    return frame_similarity(videos.mean(-2, keepdim=True), texts.unsqueeze(-2), eps)[..., 0, 0]
