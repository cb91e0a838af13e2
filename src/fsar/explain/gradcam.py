"""Grad-CAM: where the score of a class comes from, frame by frame, in the support and in the query.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017:

    weight of a channel = mean over the places of a frame of d score / d activation
    heat of a place     = ReLU( sum over channels of weight x activation )

The activations are the last feature map of a ResNet (what its pooling reads), or the normalised patch tokens that the
last block of a ViT attends over. The score is a query's logit of a class, with everything that the method does in
between: adapters, prototypes, alignment.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fsar.backbones import Backbone
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import Episodes
from fsar.explain.attention import Record, alone, attention_layers, recorded, token_layout
from fsar.explain.episode import ShownEpisode, show_episode
from fsar.explain.frames import Row, frames_picture
from fsar.explain.picture import Picture
from fsar.methods.base import Method
from fsar.methods.episode import Episode
from fsar.video.frame_cache import FrameCache
from fsar.video.transforms import pictures_of

Maps = Float[Tensor, "image row column channel"]
UNIT = "Grad-CAM (1 = strongest place of the row)"


def grad_cam(activations: Maps, gradients: Maps) -> Float[Tensor, "image row column"]:
    """Weight every channel by its mean gradient, and keep what speaks for the score.

    Args:
        activations: of each frame.
        gradients: of the score by the activations.

    Example:
        >>> activations = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]]])  # image row column channel
        >>> grad_cam(activations, torch.tensor([[[[1.0, -1.0], [0.0, 0.0]]]]))
        tensor([[[0.0000, 1.5000]]])
    """
    return torch.einsum("ic,ihwc->ihw", gradients.mean((1, 2)), activations).relu()


def pooled_layer(backbone: Backbone) -> nn.Module:
    """Return the layer whose input is the last feature map of a convolutional encoder.

    Raises:
        ValueError: the encoder has none that is known.
    """
    visual = getattr(getattr(backbone, "clip", None), "visual", None)
    if visual is not None and hasattr(visual, "attnpool"):
        return visual.attnpool
    found = [module for name, module in backbone.named_modules() if name.rpartition(".")[2] == "global_pool"]
    if not found:
        raise ValueError(
            f"backbone {backbone.name!r} has neither attention nor a layer called global_pool, so Grad-CAM does not "
            f"know its last feature map; name that layer global_pool"
        )
    return found[-1]


@dataclass(frozen=True)
class _Seen:
    """Activations of some frames, as they stand in the graph of gradients, and how to lay them out as maps."""

    tensor: Tensor
    as_maps: Callable[[Tensor], Maps]


@contextmanager
def _watched(method: Method) -> Iterator[Callable[[], list[_Seen]]]:
    """Collect the activations of the encoder's last layer while the block of `with` runs."""
    if attention_layers(method.backbone):
        (rows, columns), prefix = token_layout(method.backbone)

        def as_maps(tokens: Tensor) -> Maps:
            return tokens[:, prefix : prefix + rows * columns].unflatten(1, (rows, columns))

        def of_tokens(records: Sequence[Record]) -> list[_Seen]:
            return [_Seen(record.tokens, as_maps) for record in records if record.over == "tokens"]

        with recorded(method) as records:
            yield lambda: of_tokens(records)
        return
    seen: list[_Seen] = []
    hook = pooled_layer(method.backbone).register_forward_pre_hook(
        lambda _, args: seen.append(_Seen(args[0], lambda maps: maps.permute(0, 2, 3, 1)))
    )
    try:
        yield lambda: seen
    finally:
        hook.remove()


@dataclass(frozen=True)
class EpisodeGradCam:
    """Grad-CAM of an episode: of each query, by its logit of one class, and of the support of that class."""

    query: Float[Tensor, "query frame row column"]
    support: Float[Tensor, "query shot frame row column"]
    """Support videos of the class that was asked about, by the same logit."""
    ways: Sequence[int]
    """The way whose logit each query's heat explains."""
    logits: Float[Tensor, "query way"]


def grad_cam_of_episode(method: Method, shown: ShownEpisode, ways: Sequence[int] | None = None) -> EpisodeGradCam:
    """Compute Grad-CAM of every query's logit of a class.

    Args:
        method: any.
        shown: the episode.
        ways: one per query; None asks for the class that the method answers.

    Returns:
        Heat of the queries, and of the support of the class.

    Raises:
        ValueError: the last feature map of the encoder is not known.
    """
    method = alone(method)
    text = None if shown.text is None else shown.text[None]
    mask = torch.ones(1, *shown.support.shape[:2], dtype=torch.bool, device=shown.support.device)
    own_text = method.text_of_shots(text, shown.support.shape[1])
    with torch.enable_grad(), _watched(method) as seen:
        support = method.encode(shown.support[None].requires_grad_(), "support", own_text)
        begun = len(seen())
        query = method.encode(shown.query[None].requires_grad_(), "query")
        done = len(seen())
        logits = method.match(Episode(support, query, mask, text, shown.draws)).logits[0]
        of_support, of_query = [*seen()[:begun], *seen()[done:]][-1], seen()[done - 1]
        asked = logits.argmax(-1).tolist() if ways is None else list(ways)
        heat: dict[str, list[Tensor]] = {"query": [], "support": []}
        for number, way in enumerate(asked):
            gradients = torch.autograd.grad(
                logits[number, way], [of_query.tensor, of_support.tensor], retain_graph=True, allow_unused=True
            )
            for part, one, gradient, videos, chosen in (
                ("query", of_query, gradients[0], shown.query.shape[:2], number),
                ("support", of_support, gradients[1], shown.support.shape[:3], way),
            ):
                slope = torch.zeros_like(one.tensor) if gradient is None else gradient
                cam = grad_cam(one.as_maps(one.tensor.detach()), one.as_maps(slope))
                heat[part].append(cam.unflatten(0, videos)[chosen])
    return EpisodeGradCam(torch.stack(heat["query"]), torch.stack(heat["support"]), asked, logits.detach())


def grad_cam_picture(
    method: Method,
    cache: FrameCache,
    dataset: VideoDataset,
    episodes: Episodes,
    name: str,
    of_truth: bool = False,
    queries: Sequence[int] | None = None,
) -> Picture:
    """Draw Grad-CAM over queries and over the support of the class that each is explained by.

    Args:
        method: any.
        cache: how frames are sampled.
        dataset: holds the videos.
        episodes: the first one is shown.
        name: of the model.
        of_truth: explain the logit of the class that a query shows, instead of the answered one.
        queries: numbers of the queries to show; None is all.

    Returns:
        The picture.

    Raises:
        VideoError: a video cannot be read.
        ValueError: no such query; or the last feature map of the encoder is not known.
    """
    method = alone(method)
    shown = show_episode(method, cache, dataset, episodes)
    chosen = list(range(len(shown.query)) if queries is None else queries)
    if strange := [number for number in chosen if not 0 <= number < len(shown.query)]:
        raise ValueError(f"--query names {strange[0]}; the episode has the queries 0 to {len(shown.query) - 1}")
    found = grad_cam_of_episode(method, shown, shown.target if of_truth else None)
    support, query = pictures_of(shown.support, *method.normalization), pictures_of(shown.query, *method.normalization)
    rows, said = [], []
    for number in chosen:
        way, truth = found.ways[number], shown.words[shown.target[number]]
        row = f"query {number + 1}: {truth}"
        rows.append(Row(f"{row}; score of {shown.words[way]}", query[number], _scaled(found.query[number])))
        for shot, example in enumerate(shown.examples(way)):
            rows.append(
                Row(
                    f"support for query {number + 1}: {example}",
                    support[way, shot],
                    _scaled(found.support[number, shot]),
                )
            )
        said.append(f"Query {truth}, answered {shown.words[int(found.logits[number].argmax())]}.")
        if found.query[number].max() <= 0:
            said.append("No place of this query speaks for the class.")
    words = f"Frames with the heat of the score of a class by {name}: bright places speak for it. {' '.join(said)}"
    picture = frames_picture(rows, f"{name}: Grad-CAM of a class's score", UNIT, words)
    data = {
        "query": found.query.cpu().numpy(),
        "support": found.support.cpu().numpy(),
        "logits": found.logits.cpu().numpy(),
        **shown.names(),
    }
    return Picture(picture.figure, picture.title, picture.words, {**picture.data, **data})


def _scaled(heat: Float[Tensor, "frame row column"]) -> Float[np.ndarray, "frame row column"]:
    """Make the strongest place 1."""
    return (heat / heat.max().clamp(min=1e-12)).cpu().double().numpy()
