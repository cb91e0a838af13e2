"""An episode of noise: what a method refuses about its input is told before any video is read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fsar.backbones.given import GivenFeatures
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode, Role


@torch.no_grad()
def try_episode(method: Method, texts: Sequence[str], frames: int) -> None:
    """Encode and match one episode of noise, with one shot and one query.

    Args:
        method: any.
        texts: words of a few classes: the ways.
        frames: per video.

    Raises:
        ValueError: what the method says, with its name.

    Example:
        >>> from fsar import build_method, load_backbone
        >>> try_episode(build_method("trx", load_backbone("tiny")), ["wave", "clap"], frames=2)
        Traceback (most recent call last):
        ValueError: trx joins 3 frames and got 2 per video; take at least 3 frames per video, or lower the option ...
    """
    try:
        method.match(_episode(method, texts, frames))
    except ValueError as error:
        words = str(error)
        raise ValueError(words if method.name in words else f"{method.name}: {words}") from error


def _episode(method: Method, texts: Sequence[str], frames: int) -> Episode:
    way, side, device = len(texts), method.backbone.image_size, method.device
    given = isinstance(method.backbone, GivenFeatures)
    shape = (method.backbone.dim,) if given else (3, side, side)
    noise = torch.rand(way + 1, frames, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    support, query = noise[None, :way, None], noise[None, way:]
    text = method.encode_text(list(texts))[None] if method.traits.reads_text else None
    return Episode(
        support=_encode(method, support, "support", method.text_of_shots(text, shots=1)),
        query=_encode(method, query, "query"),
        shot_mask=torch.ones(1, way, 1, dtype=torch.bool, device=device),
        text=text,
        draws=torch.full((1, 1, way), 0.5, device=device) if method.traits.draws else None,
    )


def _encode(method: Method, videos: Tensor, role: Role, text: Tensor | None = None) -> Encoding:
    """Features made elsewhere are what an encoder would give."""
    if isinstance(method.backbone, GivenFeatures):
        return method.enhance({"frames": videos}, role, text)
    return method.encode(videos, role, text)
