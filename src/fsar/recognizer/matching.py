"""Enrolled examples as the support of an episode, and a query matched with them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode, Prediction
from fsar.recognizer.examples import Action, Actions, Example

BATCH_BYTES = 2**24
"""Encodings that are matched together. Larger batches are slower: their memory is not used again."""
EQUAL = 1e-6
"""Similarities that deviate less than this are equal."""


class Supports(NamedTuple):
    """What a query is matched with."""

    encodings: Encoding
    """Each [way, shot, ...], float32."""
    mask: Bool[Tensor, "way shot"]
    """False where a class has no example."""
    text: Tensor | None
    """Class texts [way, ...]; None if the method reads none."""

    def without_way(self, way: int) -> "Supports":
        """The other classes."""
        others = [i for i in range(len(self.mask)) if i != way]
        encodings = {part: tensor[others] for part, tensor in self.encodings.items()}
        return Supports(encodings, self.mask[others], None if self.text is None else self.text[others])

    @property
    def bytes(self) -> int:
        """Size of the encodings."""
        return size(self.encodings)


def size(encodings: Encoding) -> int:
    """Bytes of encodings."""
    return sum(tensor.numel() * tensor.element_size() for tensor in encodings.values())


def supports_of(method: Method, actions: Actions) -> Supports:
    """Lay out the examples for a method: only the mean of each class if `match` depends on nothing else."""
    return means(actions) if method.traits.matches_means else padded(actions)


def means(actions: Actions, left_out: Mapping[int, Sequence[Example]] | None = None) -> Supports:
    """Take the mean of every class as its only example.

    Args:
        actions: the classes.
        left_out: way -> examples that the mean of this class leaves out.

    Returns:
        One example per class.
    """
    each = [action.mean((left_out or {}).get(way, ())) for way, action in enumerate(actions.values())]
    encodings = {part: torch.stack([mean[part] for mean in each])[:, None] for part in each[0]}
    return Supports(encodings, torch.ones(len(each), 1, dtype=torch.bool), texts(actions))


def padded(actions: Actions) -> Supports:
    """Stack all examples; the mask is False where a smaller class repeats its first one."""
    groups = [action.examples for action in actions.values()]
    most = max(map(len, groups))
    mask = torch.tensor([[i < len(group) for i in range(most)] for group in groups])
    filled = [[*group, *group[:1] * (most - len(group))] for group in groups]
    encodings = {
        part: torch.stack([torch.stack([example.support[part] for example in group]) for group in filled]).float()
        for part in groups[0][0].support
    }
    return Supports(encodings, mask, texts(actions))


def queries(examples: Sequence[Example]) -> Encoding:
    """Stack examples in the query role: tensors [query, ...], in half precision as they are kept."""
    return {part: torch.stack([example.query[part] for example in examples]) for part in examples[0].query}


def texts(actions: Actions) -> Tensor | None:
    """Stack the class texts [way, ...]; None if the method reads none."""
    each = [action.text for action in actions.values() if action.text is not None]
    return torch.stack(each) if each else None


def episode(method: Method, pairs: Sequence[tuple[Supports, Encoding]]) -> Episode:
    """Make a batch of episodes.

    Args:
        method: says where the tensors must be.
        pairs: supports, and the queries [query, ...] to match with them; all of equal shapes.

    Returns:
        One episode per pair, float32. Halves become floats after they are stacked, which moves less memory.
    """
    device = method.device
    supports, query = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    text = [each.text for each in supports if each.text is not None]
    return Episode(
        {part: _stacked([each.encodings[part] for each in supports]).to(device) for part in supports[0].encodings},
        {part: _stacked([each[part] for each in query]).float().to(device) for part in query[0]},
        _stacked([each.mask for each in supports]).to(device),
        _stacked(text).to(device) if text else None,
    )


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors; a single one is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))


@torch.no_grad()
def match(method: Method, supports: Supports, query: Encoding) -> Float[Tensor, " way"]:
    """Match one query, an encoding without leading axes; logits on the CPU."""
    one = {part: tensor[None] for part, tensor in query.items()}
    return method.match(episode(method, [(supports, one)])).logits[0, 0].cpu()


def orders(predictions: Sequence[Prediction]) -> list[Tensor]:
    """Tell for each logit whether it rests on the order of the frames (see `order`); 0 if frames are not compared."""
    known: dict[int, Tensor] = {}
    made = []
    for prediction in predictions:
        similarity = prediction.named.get("frame_similarity")
        if similarity is None:
            made.append(torch.zeros_like(prediction.logits))
            continue
        if id(similarity) not in known:  # variants share similarities
            known[id(similarity)] = order(similarity)
        made.append(known[id(similarity)])
    return made


def order(similarity: Float[Tensor, "*pairs query_frame support_frame"]) -> Float[Tensor, "*pairs"]:
    """Measure how much more similar two videos are with their frames in order than in a random order.

    Frames of one scene resemble each other in any order. If the order adds nothing, it is another movement in the same
    scene.

    Args:
        similarity: of all pairs of frames, as many of the query as of the support.

    Returns:
        Mean similarity of frames with the same number, minus its mean over all orders of the query's frames, in
        standard deviations over these orders (both in closed form: Hoeffding, 1951, A combinatorial central limit
        theorem, theorem 2). 0 for videos with a single frame or with different numbers of frames.

    Example:
        >>> order(torch.eye(8)), order(torch.eye(8).flip(0)), order(torch.ones(8, 8))
        (tensor(7.), tensor(-1.), tensor(0.))
    """
    frames, others = similarity.shape[-2:]
    if frames != others or frames < 2:
        return similarity.new_zeros(similarity.shape[:-2])
    mean = similarity.mean((-2, -1))
    left = similarity - similarity.mean(-1, keepdim=True) - similarity.mean(-2, keepdim=True) + mean[..., None, None]
    deviation = (left.square().sum((-2, -1)) / (frames - 1)).sqrt() / frames
    gain = similarity.diagonal(dim1=-2, dim2=-1).mean(-1) - mean
    return torch.where(deviation > EQUAL, gain / deviation.clamp(min=EQUAL), 0)


@torch.no_grad()
def similarities(method: Method, actions: Actions, query: Encoding) -> list[tuple[float, str, Example]]:
    """Match a query with every example as a class of its own.

    Args:
        method: the chosen variant.
        actions: the examples.
        query: encoding of one video.

    Returns:
        Logit, action and example, the largest logit first.
    """
    each = [(name, example) for name, action in actions.items() for example in action.examples]
    # classes whose logits depend on each other must be matched together
    count = max(1, BATCH_BYTES // (2 * size(each[0][1].support))) if method.traits.independent_ways else len(each)
    one = {part: tensor[None] for part, tensor in query.items()}
    logits = []
    for start in range(0, len(each), count):
        some = each[start : start + count]
        alone = {
            part: torch.stack([example.support[part] for _, example in some])[:, None].float()
            for part in some[0][1].support
        }
        text = [actions[name].text for name, _ in some]
        supports = Supports(
            alone,
            torch.ones(len(some), 1, dtype=torch.bool),
            torch.stack([words for words in text if words is not None]) if text[0] is not None else None,
        )
        logits.append(method.logits(episode(method, [(supports, one)]))[0, 0].cpu())
    found = [(logit, *one) for logit, one in zip(torch.cat(logits).tolist(), each, strict=True)]
    return sorted(found, key=lambda entry: -entry[0])


@torch.no_grad()
def correspondence(method: Method, example: Example, query: Encoding) -> tuple[int, ...] | None:
    """Find the frame of an example that is most similar to each frame of a query.

    Args:
        method: the chosen variant.
        example: the example.
        query: encoding of one video.

    Returns:
        Numbers of the example's frames; None if `method.match` gives no similarity of frames.
    """
    one = {part: tensor[None] for part, tensor in query.items()}
    named = method.match(episode(method, [(padded({"": Action.of([example])}), one)])).named
    return tuple(named["frame_similarity"][0, 0, 0].argmax(-1).tolist()) if "frame_similarity" in named else None
