"""The one interface of every method: `encode` a video, `match` an episode, and the `loss` it trains by."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

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
    draws: Float[Tensor, "episode query way"] | None = None
    """Numbers in (0, 1) for methods that draw (`Episodes.draws`); None where nothing may be drawn."""


@dataclass(frozen=True)
class Prediction:
    """Logits and whatever else is worth looking at, by name."""

    logits: Logits
    named: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Targets:
    """What only `loss` may see: which class every video belongs to."""

    query_way: Int[Tensor, "episode query"]
    """The way each query belongs to."""
    way_class: Int[Tensor, "episode way"]
    """Each way's class, as an index into the training classes (in the order `begin_training` was given)."""


class Method(nn.Module):
    """A few-shot method over a backbone.

    `encode` depends on one video (and, for a support video, on its own class text); `match` on the
    episode. Training runs both, evaluation fills a feature bank with `encode` and then only matches.

    Every parameter belongs to exactly one group (`PARAMETER_GROUPS`): `visual` and `text` are the
    backbone's towers, `own` is what the method adds. `trains` names the groups that its paper trains.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Options of the method."""

        @property
        def compares_queries(self) -> bool:
            """Whether queries of an episode see each other unless `inductive` keeps them apart."""
            return False

        @property
        def reads_text_alone(self) -> bool:
            """Whether the logits are those of the class texts alone, whatever the support videos show."""
            return False

    name: ClassVar[str]
    trains: ClassVar[tuple[str, ...]] = ("visual",)
    """The groups of parameters that its paper trains; empty where there is nothing to train."""
    readouts: ClassVar[Sequence[str]] = ()
    """Options that a trained method may be used with other than it was trained with."""
    needs_text: bool = False
    """Whether it reads class names, and so needs a backbone with a text tower."""
    leaks_labels: bool = False
    """Whether its scores rest on the order of the queries, as a faulty public code's do: only for audits."""
    draws: bool = False
    """Whether `match` draws, and so takes `Episode.draws`."""
    trains_text: ClassVar[bool] = False
    """Whether gradients reach the text tower, so that it can be trained."""
    episodes_per_match: int = 512
    """How many episodes evaluation matches at once: bounds memory, never changes a result."""
    unit_pixels: bool = False
    """Whether the backbone sees pixels of [0, 1] as they are, without its own mean and deviation."""
    support_reads_text: bool = False
    """Whether the support role of `encode` depends on the class text."""

    def __init__(self, backbone: Backbone, config: Any, needs_text: bool | None = None):
        super().__init__()
        if needs_text is not None:  # where an option decides
            self.needs_text = needs_text
        if self.needs_text and not backbone.has_text:
            raise ValueError(
                f"method {self.name!r} reads class names, but backbone {backbone.name!r} has no text encoder; use "
                f"a CLIP backbone (tiny, ViT-B-16/openai, ...) or a method without text (protonet, otam, bi-mhm, ...)"
            )
        self.backbone = backbone
        self.config = config
        self.loss_heads = nn.ModuleDict()  # what `begin_training` makes: no part of the trained method
        self.provenance: Any = None  # how it was trained (fsar.training.checkpoint.Provenance); None where it was not

    @property
    def transductive(self) -> bool:
        """Whether queries of an episode see each other."""
        return False

    @property
    def roles_differ(self) -> bool:
        """Whether `encode` makes of a support video something else than of a query."""
        return self.support_reads_text

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters(), torch.empty(0)).device

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Encode videos one by one: [*clips, frame, rgb, height, width] -> tensors [*clips, ...].

        A support video comes with its own class text [*clips, ...] where `support_reads_text`. The default is
        the backbone's frame features, under the name `frames`, and what `enhance` adds to them.
        """
        if self.unit_pixels:
            mean, std = (clips.new_tensor(of)[:, None, None] for of in (self.backbone.mean, self.backbone.std))
            clips = clips * std + mean
        return self.enhance({"frames": self.backbone.features(clips)}, role, text)

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Add what follows from the frame features of one video (and, for a support video, its class text).

        It is part of `encode`, and so done once per video; training on a bank starts here.
        """
        return encoding

    def frozen_start(self) -> "Method | None":
        """The part of `encode` that comes before `enhance`, as a method of its own; what `own` trains is not in it.

        None where parts of the method's own work from the first layer on. The default is the frame features.
        """
        start = Method(self.backbone, Method.Config())
        start.unit_pixels = self.unit_pixels
        return start

    def banked(self) -> "Method":
        """What a bank on disk holds of `encode`: its frozen start, which checkpoints share, or else all of it."""
        return self.frozen_start() or self

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Encode class texts: [label, ...]. Only methods that need text define it.

        With `rng`, as in training: where the method draws a template, one per class.
        """
        raise NotImplementedError(f"{self.name} reads no text")

    def check_texts(self, labels: Sequence[str]) -> None:
        """Look, before any work, whether the method can read these classes.

        Raises:
            ValueError: it cannot; the message names them.
        """

    def text_input(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Start on the class texts, [label, ...]: whatever no gradient has to pass; `adapt_text` does the rest."""
        return self.encode_text(labels, rng)

    def adapt_text(self, text: Tensor) -> Tensor:
        """Finish what `text_input` began, with the parameters that train: [*labels, ...] -> [*labels, ...]."""
        return text

    def encode_episode(
        self,
        support: Float[Tensor, "episode way shot frame rgb=3 height width"],
        query: Float[Tensor, "episode query frame rgb=3 height width"],
        text: Tensor | None = None,
        draws: Float[Tensor, "episode query way"] | None = None,
    ) -> Episode:
        """Encode the clips of episodes in which every class has the same number of shots.

        `text` is what `encode_text` gave for each way, [episode, way, ...].
        """
        mask = torch.ones(support.shape[:3], dtype=torch.bool, device=support.device)
        own_text = self.text_of_shots(text, support.shape[2])
        return Episode(self.encode(support, "support", own_text), self.encode(query, "query"), mask, text, draws)

    def text_of_shots(self, text: Tensor | None, shots: int) -> Tensor | None:
        """Each support video's own class text, [episode, way, ...] -> [episode, way, shot, ...], if it is read."""
        if text is None or not self.support_reads_text:
            return None
        return text[:, :, None].expand(-1, -1, shots, *[-1] * (text.ndim - 2))

    def match(self, episode: Episode) -> Prediction:
        """Compare queries with support videos, for every episode of the batch on its own."""
        raise NotImplementedError

    def begin_training(self, class_texts: Sequence[str]) -> None:
        """Make what the loss needs of the training classes, given their words; by default nothing.

        Parameters made here go into `loss_heads`: they train with the method's own and are forgotten
        with the loss.
        """

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """Terms of the training loss, weighted, by name; their sum is minimised.

        The default is the cross-entropy of the logits, mean over queries.
        """
        return {"match": query_cross_entropy(prediction.logits, targets)}

    def encoder(self) -> dict[str, Any]:
        """Everything `encode` depends on besides the clip and its text: what a bank's folder is named by."""
        return {
            "encoding": "frames",
            "backbone": self.backbone.name,
            "weights": self.backbone.fingerprint(),
            **({"pixels": "unit"} if self.unit_pixels else {}),
        }

    def variants(self) -> Sequence["Method"]:
        """Methods with the same encoder, itself first, among which leave-one-out may choose."""
        return (self,)

    def other_mode(self) -> "Method | None":
        """The same method with `inductive` the other way round; None where that changes nothing."""
        return None

    def with_inductive(self, inductive: bool) -> "Method":
        """Share every parameter, with `inductive` as given."""
        other = copy.copy(self)
        other.config = replace(self.config, inductive=inductive)
        return other

    def options(self) -> dict[str, Any]:
        """The resolved options, as they go into a result."""
        return asdict(self.config)

    def changed_options(self) -> dict[str, Any]:
        """The options that differ from their defaults, which are those of its variant."""
        options = self.options()
        chosen = {"variant": options["variant"]} if "variant" in options else {}
        usual, defaults = asdict(self.Config()), asdict(self.Config(**chosen))
        return {k: v for k, v in options.items() if v != (usual if k in chosen else defaults)[k]}


def fill_in(config: Any, variants: Mapping[str, Mapping[str, Any]]) -> None:
    """Give the options that were left at None the values of the config's `variant`; called by `__post_init__`."""
    for key, value in variants[config.variant].items():
        if getattr(config, key) is None:
            object.__setattr__(config, key, value)


PARAMETER_GROUPS = {
    "text": r"backbone\.clip\.(?!visual\.).*",
    "visual": r"backbone\.(?!clip\.).*|backbone\.clip\.visual\..*",
    "own": r"(?!backbone\.).*",
}
"""The rule of every parameter, by its name: exactly one expression matches it."""


def query_cross_entropy(logits: Logits, targets: Targets) -> Float[Tensor, ""]:
    """Cross-entropy of naming each query, mean over queries and episodes."""
    return cross_entropy(logits.flatten(0, 1), targets.query_way.flatten())


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
