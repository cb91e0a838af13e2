"""Input and output of `match`, and the means over shots that most methods use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from fsar.shapes import Logits, ShotMask

Role = Literal["support", "query"]
Encoding = Mapping[str, Tensor]
"""Output of `encode`: named tensors with the same leading axes."""


@dataclass(frozen=True)
class Episode:
    """Input of `match`: encodings of support and query, and the texts of the support classes.

    It has no labels of queries, so none can reach the logits.

    Raises:
        ValueError: the leading axes of a tensor do not fit `shot_mask` [episode, way, shot].

    Example:
        >>> import torch
        >>> frames = torch.zeros(1, 2, 3, 8, 128)  # episode way shot frame dim
        >>> mask = torch.ones(1, 2, 3, dtype=torch.bool)
        >>> episode = Episode({"frames": frames}, {"frames": torch.zeros(1, 4, 8, 128)}, mask)
        >>> Episode({"frames": frames[0]}, episode.query, mask)
        Traceback (most recent call last):
        ValueError: support 'frames' is [2, 3, 8, 128]; expected [episode=1, way=2, shot=3, ...] as in shot_mask
    """

    support: Encoding
    """Each [episode, way, shot, ...]."""
    query: Encoding
    """Each [episode, query, ...]."""
    shot_mask: ShotMask
    """False if a class has fewer examples than `shot`; what stands there is finite and ignored."""
    text: Tensor | None = None
    """Class texts [episode, way, ...] as `encode_text` gives them; None if the method reads no text."""
    draws: Float[Tensor, "episode query way"] | None = None
    """Numbers in (0, 1) for methods that draw (`Method.draws_of`); None if nothing may be drawn."""

    def __post_init__(self) -> None:
        if self.shot_mask.ndim != 3:
            raise ValueError(f"shot_mask is {[*self.shot_mask.shape]}; expected [episode, way, shot]")
        episode, way, shot = self.shot_mask.shape
        for name, tensor in self.support.items():
            _require_axes(f"support {name!r}", tensor, {"episode": episode, "way": way, "shot": shot})
        queries = next((tensor.shape[1] for tensor in self.query.values() if tensor.ndim > 1), 0)
        for name, tensor in self.query.items():
            _require_axes(f"query {name!r}", tensor, {"episode": episode, "query": queries})
        if self.text is not None:
            _require_axes("text", self.text, {"episode": episode, "way": way})
        if self.draws is not None:
            _require_axes("draws", self.draws, {"episode": episode, "query": queries, "way": way})

    def require_text(self) -> Tensor:
        """Return the class texts [episode, way, ...].

        Raises:
            ValueError: there are none.
        """
        if self.text is None:
            raise ValueError("the episode has no class texts; encode them with encode_text")
        return self.text


def _require_axes(what: str, tensor: Tensor, axes: Mapping[str, int]) -> None:
    if tuple(tensor.shape[: len(axes)]) != tuple(axes.values()):
        expected = ", ".join(f"{name}={size}" for name, size in axes.items())
        raise ValueError(f"{what} is {[*tensor.shape]}; expected [{expected}, ...] as in shot_mask")


@dataclass(frozen=True)
class Prediction:
    """Output of `match`: logits, and other tensors by name."""

    logits: Logits
    named: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Targets:
    """The class of every video; only `loss` may see it."""

    query_way: Int[Tensor, "episode query"]
    """The way that each query belongs to."""
    way_class: Int[Tensor, "episode way"]
    """Each way's class, as an index into the training classes (in the order that `begin_training` was given)."""


def query_cross_entropy(logits: Logits, targets: Targets) -> Float[Tensor, ""]:
    """Cross-entropy of the logits, mean over queries and episodes."""
    return cross_entropy(logits.flatten(0, 1), targets.query_way.flatten())


IGNORED = -100
"""Class of a missing shot; cross-entropy leaves it out."""


def class_of_videos(targets: Targets, shot_mask: ShotMask) -> Int[Tensor, " video"]:
    """Give the training class of every video: of all support videos, then of all queries.

    Args:
        targets: the classes.
        shot_mask: false for missing shots; their class is `IGNORED`.

    Example:
        >>> import torch
        >>> targets = Targets(torch.tensor([[1, 0, 1]]), torch.tensor([[7, 4]]))  # queries of two ways
        >>> class_of_videos(targets, torch.ones(1, 2, 1, dtype=torch.bool))
        tensor([7, 4, 4, 7, 4])
    """
    support = targets.way_class[:, :, None].where(shot_mask, IGNORED)
    query = targets.way_class.gather(1, targets.query_way)
    return torch.cat([support.flatten(), query.flatten()])


def all_videos(episode: Episode, name: str) -> Float[Tensor, " video *rest"]:
    """Join an encoding of all support videos and of all queries, in the order of `class_of_videos`.

    Args:
        episode: the input of `match`.
        name: of the encoding.

    Example:
        >>> import torch
        >>> frames = {"frames": torch.zeros(1, 2, 3, 8, 128)}  # episode way shot frame dim
        >>> episode = Episode(frames, {"frames": torch.zeros(1, 4, 8, 128)}, torch.ones(1, 2, 3) > 0)
        >>> all_videos(episode, "frames").shape
        torch.Size([10, 8, 128])
    """
    return torch.cat([episode.support[name].flatten(0, 2), episode.query[name].flatten(0, 1)])


def present_videos(episode: Episode) -> Bool[Tensor, " video"]:
    """Tell which of `all_videos` are there: every query, and the support videos that `shot_mask` does not miss.

    Args:
        episode: the input of `match`.
    """
    queries = next(iter(episode.query.values())).shape[:2].numel()
    return pad(episode.shot_mask.flatten(), (0, queries), value=True)


def text_of_queries(episode: Episode, targets: Targets) -> Float[Tensor, "episode query dim"]:
    """Give every query the text of its true class; only `loss` may read it.

    Args:
        episode: with the class texts of the ways.
        targets: the ways of the queries.

    Raises:
        ValueError: the episode has no class texts.

    Example:
        >>> import torch
        >>> text = torch.eye(2)[None]  # episode way dim
        >>> episode = Episode({}, {}, torch.ones(1, 2, 1) > 0, text)
        >>> text_of_queries(episode, Targets(torch.tensor([[1, 0, 1]]), torch.tensor([[7, 4]])))
        tensor([[[0., 1.],
                 [1., 0.],
                 [0., 1.]]])
    """
    text = episode.require_text()
    return text.gather(1, targets.query_way[..., None].expand(-1, -1, text.shape[-1]))


def class_cross_entropy(
    logits: Float[Tensor, "video label"], targets: Targets, shot_mask: ShotMask
) -> Float[Tensor, ""]:
    """Cross-entropy of classifying every video into the training classes, mean over the videos that are there.

    Args:
        logits: of all support videos, then of all queries.
        targets: the classes.
        shot_mask: false for missing shots.

    Example:
        >>> import torch
        >>> targets = Targets(torch.tensor([[1]]), torch.tensor([[0, 1]]))  # one query of the second way
        >>> class_cross_entropy(torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]), targets, torch.ones(1, 2, 1) > 0)
        tensor(0.0001)
    """
    return cross_entropy(logits, class_of_videos(targets, shot_mask), ignore_index=IGNORED)


def mean_over_shots(
    values: Float[Tensor, "episode way shot *rest"], shot_mask: ShotMask
) -> Float[Tensor, "episode way *rest"]:
    """Mean over the shots of each class that are not masked; zeros if all are."""
    if shot_mask.all():
        return values.mean(2) if values.shape[2] > 1 else values.squeeze(2)  # a view: no copy of a single shot
    weights = shot_mask / shot_mask.sum(-1, keepdim=True).clamp(min=1)
    weights = weights.reshape(*weights.shape, *[1] * (values.ndim - 3))
    return (values * weights).sum(2)


def per_video(pairs: Float[Tensor, "episode query video"], shot_mask: ShotMask) -> Logits:
    """Mean over each class's shots of a score per support video (way x shot, flattened)."""
    unflat = pairs.unflatten(-1, shot_mask.shape[1:]).permute(0, 2, 3, 1)  # episode way shot query
    return mean_over_shots(unflat, shot_mask).transpose(1, 2)
