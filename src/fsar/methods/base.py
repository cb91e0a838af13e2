"""Base class of all methods: `encode` a video, `match` an episode, compute the `loss` of training."""

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import wraps
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fsar.backbones import Backbone
from fsar.config import Settings
from fsar.devices import device_of
from fsar.methods.encoder import PIXELS, Encoder, FrameEncoder
from fsar.methods.episode import Encoding, Episode, Prediction, Role, Targets, query_cross_entropy
from fsar.methods.options import listed_on_features, require_ranges
from fsar.own import Origin
from fsar.shapes import Clips, Logits


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Properties of a method that other packages need; `Method.traits_of` derives them from the options."""

    trains: tuple[str, ...] = ("visual",)
    """Groups of parameters (`PARAMETER_GROUPS`) that its paper trains; empty if there is nothing to train."""
    readouts: tuple[str, ...] = ()
    """Options that may change after training."""
    reads_text: bool = False
    """Whether it reads class names; the backbone must then have a text tower."""
    trains_text: bool = False
    """Whether gradients reach the text tower, so that it can be trained."""
    support_reads_text: bool = False
    """Whether the encoding of a support video depends on its class text."""
    support_waits: bool = False
    """Whether the last part of a support video's encoding depends on the episode and runs in `match`."""
    reads_text_alone: bool = False
    """Whether the logits depend only on the class texts, not on the support videos."""
    transductive: bool = False
    """Whether the queries of an episode see each other."""
    draws: bool = False
    """Whether `match` draws random numbers, from `Episode.draws`."""
    independent_ways: bool = False
    """Whether the logit of a class depends only on the query and this class, not on other classes."""
    matches_means: bool = False
    """Whether `match` only needs the mean of each class's support encodings."""
    leaks_labels: bool = False
    """Whether the scores depend on the order of the queries, as in a faulty public code; only for audits."""
    pixels: str = "normalized"
    """How pixels reach the backbone: normalised by the backbone's own mean and deviation, or a key of `PIXELS`."""
    framing: str = "short-side"
    """How frames are resized before the crop: a key of `fsar.video.transforms.FRAMINGS`."""
    episodes_per_match: int = 512
    """How many episodes evaluation matches at once: limits memory, does not change a result."""

    @property
    def roles_differ(self) -> bool:
        """Whether support videos and queries are encoded differently."""
        return self.support_reads_text or self.support_waits


@runtime_checkable
class ReadsText(Protocol):
    """An object that encodes class texts."""

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Encode class texts."""


class TrainingParts:
    """The methods that only training calls; each has a default."""

    def begin_training(self, class_texts: Sequence[str], episodes_per_step: int = 1) -> None:
        """Prepare the loss for the training classes; by default, do nothing.

        Put new parameters into `loss_heads`: they are trained like the method's own parameters, but checkpoints do not
        keep them.

        Args:
            class_texts: words of the training classes.
            episodes_per_step: how many episodes' gradients are averaged for one step.
        """

    def text_input(self: ReadsText, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Run the frozen part of the text encoding; `adapt_text` runs the trained part.

        Args:
            labels: words of the classes.
            rng: draws one template per class, if the method trains with one at a time.

        Returns:
            [label, ...].
        """
        return self.encode_text(labels, rng)

    def adapt_text(self, text: Tensor) -> Tensor:
        """Run the trained part of the text encoding: [*labels, ...] -> [*labels, ...]; by default, change nothing."""
        return text

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """Compute the weighted terms of the loss, by name; training minimises their sum.

        The default is the cross-entropy of the logits, mean over queries.

        Args:
            episode: the input of `match`.
            prediction: the output of `match`.
            targets: the class of every video.
        """
        return {"match": query_cross_entropy(prediction.logits, targets)}

    def no_weight_decay(self) -> Collection[str]:
        """Name parameters without weight decay; single numbers (a temperature, a factor) never have it."""
        return ()


AnyEpisodes = TypeVar("AnyEpisodes", bound="DrawnEpisodes")


@runtime_checkable
class DrawnEpisodes(Protocol):
    """The part of `Episodes` that a method may use before matching."""

    def in_class_order(self: AnyEpisodes) -> AnyEpisodes:
        """Sort the queries by class."""

    def draws(self) -> Float[np.ndarray, "episode query way"]:
        """Return numbers in (0, 1) that depend only on the episode, the query and the class."""


def _guarded(match: Callable[[Any, Episode], Prediction]) -> Callable[[Any, Episode], Prediction]:
    """Name an encoding that the episode lacks; make the logit of a class without shots minus infinity.

    A mean over no shots is NaN, which `argmax` prefers.
    """

    @wraps(match)
    def guarded(self: "Method", episode: Episode) -> Prediction:
        try:
            prediction = match(self, episode)
        except KeyError as missing:
            if missing.args[0] in episode.support and missing.args[0] in episode.query:
                raise
            raise ValueError(
                f"{self.name} reads {missing.args[0]!r}, and the episode has {list(episode.support)} of support videos "
                f"and {list(episode.query)} of queries; give what encode or encode_episode of {self.name} returns"
            ) from missing
        empty = ~episode.shot_mask.any(-1)
        return replace(prediction, logits=prediction.logits.masked_fill(empty[:, None], -torch.inf))

    return guarded


class Method(TrainingParts, nn.Module):
    """A few-shot method over a backbone: `encode` looks at one video, `match` at an episode.

    What to override:

    | to add | override | copy |
    |---|---|---|
    | a metric of frame features | `match` alone | `protonet.py` |
    | a head that also works on each video alone | `enhance` and `match` | `clip_fsar.py` |
    | a change inside the image encoder | `encoder` and `match` | `aim.py` |
    | class texts | `encode_text`; `reads_text` in `traits_of` | `zero_shot.py` |
    | a loss besides cross-entropy | a training part: `loss`, `begin_training` | `hyrsm.py` |
    | a text tower that trains | training parts: `text_input`, `adapt_text` | `task_adapter_pp.py` |

    Beside these, a method has a `name`, a `Config` with a docstring under each option, and `traits_of` for what other
    packages need to know. Evaluation and recognition run `encode` once per video, keep the result in a bank, and
    then run `match` on many episodes; training runs both for every episode.

    Every parameter belongs to exactly one group (`PARAMETER_GROUPS`): `visual` and `text` are the backbone's towers,
    `own` is what the method adds.

    Args:
        backbone: encodes frames and, if the method reads class names, texts.
        config: an instance of the class's `Config`.

    Raises:
        ValueError: an option has no effect beside the others; the method reads class names, and the backbone has no
            text tower.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Settings):
        """Options of the method."""

        least: ClassVar[dict[str, float]] = {}
        """Options and their least values, beside `LEAST`; of a list, every number."""
        above_zero: ClassVar[Collection[str]] = ()
        """Options that are more than 0."""
        distinct: ClassVar[Collection[str]] = ()
        """Lists that hold at least one number, and none twice."""

        def __post_init__(self) -> None:
            require_ranges(self)  # `check` compares options that are in their ranges
            super().__post_init__()

    name: ClassVar[str]

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "match" in vars(cls):
            cls.match = _guarded(cls.match)  # type: ignore[method-assign, assignment]

    def __init__(self, backbone: Backbone, config: Any):
        super().__init__()
        if self.traits_of(config).reads_text and not backbone.has_text:
            raise ValueError(
                f"method {self.name!r} reads class names, but backbone {backbone.name!r} has no text encoder; use "
                f"a CLIP backbone (tiny, ViT-B-16/openai, ...), or what reads no text: {listed_on_features(self.name)}"
            )
        config.refuse_idle(self.name)
        self.backbone = backbone
        self.config = config
        self.loss_heads = nn.ModuleDict()  # from `begin_training`; checkpoints do not keep them
        self.origin: Origin | None = None  # where its code comes from, if it is not of this package
        self.provenance: Any = None  # how it was trained (fsar.training.checkpoint.Provenance); None if it was not

    @classmethod
    def traits_of(cls, config: Any) -> Traits:
        """Derive the traits from the options; the default is a metric on frame features without text."""
        return Traits()

    @property
    def traits(self) -> Traits:
        """The traits of this instance."""
        return self.traits_of(self.config)

    @property
    def device(self) -> torch.device:
        """Device of the parameters or, if there are none, of the buffers."""
        return device_of(self)

    def origins(self) -> dict[str, str]:
        """Say where the code of a `method` and `backbone` of one's own comes from; nothing for those of the package."""
        parts = {"method": self.origin, "backbone": self.backbone.origin}
        return {part: str(origin) for part, origin in parts.items() if origin is not None}

    @property
    def normalization(self) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation per colour; pixels in [0, 1] are normalised with them before `encode`."""
        if self.traits.pixels == "normalized":
            return self.backbone.mean, self.backbone.std
        mean, std = PIXELS[self.traits.pixels]
        return (mean,) * 3, (std,) * 3

    # ----------------------------------------------------------------------- one video

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Encode videos one by one: [*clips, frame, rgb, height, width] -> tensors [*clips, ...].

        Args:
            clips: normalised as `normalization` says.
            role: of the videos in an episode.
            text: for support videos, if `support_reads_text`: their own class texts [*clips, ...].
        """
        return self.enhance(self.encoder().encode(clips, role, text), role, text)

    def encoder(self) -> Encoder:
        """Return the first part of `encode`, whose output banks on disk hold; by default, the frame features."""
        return FrameEncoder(self.backbone, self.traits.pixels)

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Compute the rest of `encode` from the output of `encoder`; by default, change nothing.

        Training on a bank starts here.

        Args:
            encoding: output of `encoder`.
            role: of the videos.
            text: as for `encode`.
        """
        return encoding

    # ----------------------------------------------------------------------- class texts

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Encode class texts: [label, ...]; only methods that read text define it.

        Args:
            labels: words of the classes.
            rng: in training, draws one template per class, if the method trains with one at a time.
        """
        raise NotImplementedError(f"{self.name} reads no text")

    def check_texts(self, labels: Sequence[str]) -> None:
        """Check, before any work, that the method can read these classes.

        Raises:
            ValueError: names the classes that it cannot read.
        """

    def text_of_shots(self, text: Tensor | None, shots: int) -> Tensor | None:
        """Repeat class texts for each support video: [episode, way, ...] -> [episode, way, shot, ...].

        Args:
            text: of each way, or None.
            shots: of each way.

        Returns:
            None if the encoding of support videos reads no text.
        """
        if text is None or not self.traits.support_reads_text:
            return None
        return text[:, :, None].expand(-1, -1, shots, *[-1] * (text.ndim - 2))

    # ----------------------------------------------------------------------- an episode

    def encode_episode(
        self,
        support: Float[Tensor, "episode way shot frame rgb=3 height width"],
        query: Float[Tensor, "episode query frame rgb=3 height width"],
        text: Tensor | None = None,
        draws: Float[Tensor, "episode query way"] | None = None,
    ) -> Episode:
        """Encode the clips of episodes in which every class has the same number of shots.

        Args:
            support: clips, as `encode` takes them.
            query: the same.
            text: output of `encode_text` for each way, [episode, way, ...].
            draws: output of `draws_of`.
        """
        mask = torch.ones(support.shape[:3], dtype=torch.bool, device=support.device)
        own_text = self.text_of_shots(text, support.shape[2])
        return Episode(self.encode(support, "support", own_text), self.encode(query, "query"), mask, text, draws)

    def match(self, episode: Episode) -> Prediction:
        """Compare queries with support videos; episodes of a batch are independent.

        Args:
            episode: encodings of support and query, and class texts.

        Returns:
            Logits may be any finite numbers: the largest is the predicted class, and softmax turns them into
            probabilities. A class without shots gets minus infinity, whatever a subclass computes for it.
        """
        raise NotImplementedError

    def order_queries(self, episodes: AnyEpisodes) -> AnyEpisodes:
        """Order the queries before matching: by class for the audit of a leaking public code, else unchanged."""
        return episodes.in_class_order() if self.traits.leaks_labels else episodes

    def draws_of(self, episodes: DrawnEpisodes) -> Float[Tensor, "episode query way"] | None:
        """Return the random numbers for `match`, on the CPU; None if it draws none."""
        return torch.from_numpy(episodes.draws()).float() if self.traits.draws else None

    # ----------------------------------------------------------------------- options

    def variants(self) -> Sequence["Method"]:
        """List methods with the same encoder, this one first; leave-one-out can choose between them."""
        return (self,)

    def match_variants(self, episode: Episode) -> list[Prediction]:
        """Match an episode with every one of `variants`.

        Override it if the variants share most of the work.

        Args:
            episode: as `match` takes it.

        Returns:
            What `match` of each variant gives, in the order of `variants`.
        """
        return [variant.match(episode) for variant in self.variants()]

    def logits(self, episode: Episode) -> Logits:
        """Match an episode for its logits alone. Override it if they cost less than all that `match` gives."""
        return self.match(episode).logits

    def other_mode(self) -> "Method | None":
        """Return the same method with `inductive` switched, sharing every parameter; None if that changes nothing."""
        if not hasattr(self.config, "inductive"):
            return None
        switched = replace(self.config, inductive=not self.config.inductive)
        if self.traits_of(switched).transductive == self.traits.transductive:
            return None
        other = copy.copy(self)
        other.config = switched
        for table in ("_parameters", "_buffers", "_modules"):  # own tables with the same tensors
            other.__dict__[table] = dict(self.__dict__[table])
        return other

    def options(self) -> dict[str, Any]:
        """Return the resolved options, as results record them."""
        return asdict(self.config)


PARAMETER_GROUPS = {
    "text": r"backbone\.clip\.(?!visual\.).*",
    "visual": r"backbone\.(?!clip\.).*|backbone\.clip\.visual\..*",
    "own": r"(?!backbone\.).*",
}
"""Group -> expression on the names of its parameters; exactly one expression matches each name."""
