"""The one interface of every method: `encode` a video, `match` an episode."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from fsar.backbones import Backbone
from fsar.shapes import Clips, Logits, ShotMask

Role = Literal["support", "query"]
Encoding = Mapping[str, Tensor]
"""What `encode` makes of videos: named tensors that share their leading axes."""


@dataclass(frozen=True)
class Episode:
    """What `match` may see: encodings of support and query, and the texts of the support classes.

    No label of a query is here, so none can reach the logits.
    """

    support: Encoding
    """Each [episode, way, shot, ...]."""
    query: Encoding
    """Each [episode, query, ...]."""
    shot_mask: ShotMask
    """False where a class has fewer examples than `shot`; what stands there is finite and ignored."""
    text: Tensor | None = None
    """Class texts [episode, way, ...] as `encode_text` gives them; None where the method reads no text."""


@dataclass(frozen=True)
class Prediction:
    """Logits and whatever else is worth looking at, by name."""

    logits: Logits
    named: Mapping[str, Tensor] = field(default_factory=dict)


class Method(nn.Module):
    """A few-shot method over a backbone.

    `encode` depends on one video (and, for a support video, on its own class text); `match` on the
    episode. Training runs both, evaluation fills a feature bank with `encode` and then only matches.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Options of the method."""

    name: ClassVar[str]
    needs_text: ClassVar[bool] = False
    """Whether it reads class names, and so needs a backbone with a text tower."""
    transductive: ClassVar[bool] = False
    """Whether queries of an episode see each other."""
    episodes_per_match: ClassVar[int] = 512
    """How many episodes evaluation matches at once: bounds memory, never changes a result."""
    support_reads_text: ClassVar[bool] = False
    """Whether the support role of `encode` depends on the class text (and so differs from the query's)."""

    def __init__(self, backbone: Backbone, config: Any):
        super().__init__()
        if self.needs_text and not backbone.has_text:
            raise ValueError(
                f"method {self.name!r} reads class names, but backbone {backbone.name!r} has no text encoder; use "
                f"a CLIP backbone (tiny, ViT-B-16/openai, ...) or a method without text (protonet, otam, bi-mhm, ...)"
            )
        self.backbone = backbone
        self.config = config

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Encode videos one by one: [*clips, frame, rgb, height, width] -> tensors [*clips, ...].

        The default is the backbone's frame features, under the name `frames`.
        """
        return {"frames": self.backbone.features(clips)}

    def encode_text(self, labels: list[str]) -> Tensor:
        """Encode class texts: [label, ...]. Only methods that need text define it."""
        raise NotImplementedError(f"{self.name} reads no text")

    def match(self, episode: Episode) -> Prediction:
        """Compare queries with support videos, for every episode of the batch on its own."""
        raise NotImplementedError

    def encoder(self) -> dict[str, Any]:
        """Everything `encode` depends on besides the clip; methods that agree on it share a bank."""
        return {
            "encoding": "frames",
            "backbone": self.backbone.name,
            "weights": self.backbone.fingerprint(),
        }

    def variants(self) -> Sequence["Method"]:
        """Methods with the same encoder, itself first, among which leave-one-out may choose."""
        return (self,)

    def options(self) -> dict[str, Any]:
        """The resolved options, as they go into a result."""
        return asdict(self.config)

    def changed_options(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        defaults = asdict(self.Config())
        return {key: value for key, value in self.options().items() if value != defaults[key]}


def mean_over_shots(
    values: Float[Tensor, "episode way shot *rest"], shot_mask: ShotMask
) -> Float[Tensor, "episode way *rest"]:
    """Mean over the examples that a class has."""
    if shot_mask.all():
        return values.mean(2)
    weights = shot_mask / shot_mask.sum(-1, keepdim=True)
    weights = weights.reshape(*weights.shape, *[1] * (values.ndim - 3))
    return (values * weights).sum(2)


def per_video(pairs: Float[Tensor, "episode query video"], shot_mask: ShotMask) -> Logits:
    """Mean over a class's shots of a score given per support video (way x shot, flattened)."""
    unflat = pairs.unflatten(-1, shot_mask.shape[1:]).permute(0, 2, 3, 1)  # episode way shot query
    return mean_over_shots(unflat, shot_mask).transpose(1, 2)
