"""Alignments of an episode: which frames of a query count against which frames of the support, under any metric.

The weight of a pair of frames is the gradient of the class's logit by the similarity of the pair. For OTAM this is
the probability that the soft path visits the pair (`fsar.alignment.otam_alignment`). For Bi-MHM it marks nearest
frames. For frame-wise metrics it is the diagonal. What a method does to the distances afterwards is part of it.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fsar.alignment import seen_similarities
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode, Prediction


@dataclass(frozen=True)
class Alignment:
    """How a metric pairs the frames of queries with those of its references."""

    view: str
    """`frames`, or the view of a method that has several (CLIP-MDMF)."""
    similarity: Float[Tensor, "query way reference query_frame support_frame"]
    """A reference is a support video, or the only prototype of its class."""
    weights: Float[Tensor, "query way reference query_frame support_frame"]
    """Gradient of the class's logit by the similarity."""


def alignments(method: Method, episode: Episode) -> tuple[Prediction, list[Alignment]]:
    """Match an episode and return how frames were paired, once per comparison of frames that the method makes.

    Args:
        method: any whose metric compares frames.
        episode: encodings of a single episode.

    Returns:
        The prediction, and the alignments; none if the method compares no frames (means over time, tuples, texts).

    Example:
        >>> from fsar import build_method, load_backbone
        >>> frames = torch.randn(1, 2, 3, 4, 128)  # episode way shot frame dim
        >>> episode = Episode({"frames": frames}, {"frames": frames[:, :, 0]}, torch.ones(1, 2, 3, dtype=torch.bool))
        >>> _, (alignment,) = alignments(build_method("otam", load_backbone("tiny")), episode)
        >>> alignment.weights.shape  # query way shot query_frame support_frame
        torch.Size([2, 2, 3, 4, 4])
    """
    with torch.enable_grad(), seen_similarities() as seen:
        prediction = method.match(
            replace(episode, support=_with_gradients(episode.support), query=_with_gradients(episode.query))
        )
        logits = prediction.logits[0]
        own = [prediction.named[name] for name in ("frame_similarity",) if name in prediction.named]
        ways, shots = episode.shot_mask.shape[1:]
        frames = next(iter(episode.query.values())).shape[2]
        references = (ways, ways * shots)
        fitting = [s for s in (*own, *seen) if _compares_frames(s, len(logits), references, frames)]
        found = [similarity for similarity in fitting if similarity.requires_grad]
        each = [
            torch.autograd.grad(logits[:, way].sum(), found, retain_graph=True, allow_unused=True) if found else ()
            for way in range(ways)
        ]
    names = [name.removesuffix("_distances") for name in prediction.named if name.endswith("_distances")]
    kept = []
    for number, similarity in enumerate(found):
        if all(gradients[number] is None for gradients in each):
            continue
        by_way = similarity.detach().reshape(len(logits), ways, -1, *similarity.shape[-2:])
        weights = torch.zeros_like(by_way)
        for way, gradients in enumerate(each):
            if gradients[number] is not None:
                weights[:, way] = gradients[number].reshape(by_way.shape)[:, way]
        kept.append(Alignment("frames", by_way, weights))
    if len(names) == len(kept) > 1:
        kept = [replace(one, view=name) for one, name in zip(kept, names, strict=True)]
    elif len(kept) > 1:
        kept = [replace(one, view=f"comparison {i + 1}") for i, one in enumerate(kept)]
    return prediction, kept


def _with_gradients(encoding: Encoding) -> Encoding:
    return {name: tensor.detach().float().requires_grad_() for name, tensor in encoding.items()}


def _compares_frames(similarity: Tensor, queries: int, references: tuple[int, int], frames: int) -> bool:
    """Whether it is [1, query, *references, query_frame, support_frame], and of all frames: not of stages or texts."""
    shape = similarity.shape
    counted = shape[2:-2].numel() in references
    return shape[:2] == (1, queries) and counted and shape[-2:] == (frames, frames) and frames > 1
