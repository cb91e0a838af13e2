"""CLIP-MDMF: local and global temporal views of a video, each fused with a class text, teach each other.

Long: two temporal views, the fusion with class texts and the mutual distillation are one paper.

Guo et al., "Multi-view distillation based on multi-modal fusion for few-shot action recognition (CLIP-MDMF)",
Knowledge-Based Systems 304, 2024. A query has no class text of its own: a selector draws one of the episode's.

    probability of c = softmax( cos(mean_t F_q, text_c) / 0.005 ), a token drawn from it       eq. 1-2
    F^l = BN(ReLU(conv( BN(ReLU(conv(F))) )))                                                 eq. 3
    F^g = last frame of TCN(F), repeated, + F                                                 eq. 4
    F~^b = T( [token; F^b] + f_pos, [token; F] + f_pos, [token; F] + f_pos ),  b = l, g        eq. 5-7
    U^b_c = mean over shots of F~^b;  distance = alpha1 D^g + alpha2 D^l, without the tokens   eq. 8-9, 16
    P^b = softmax(-D^b);  confidences v^b = max P^b,  tau^b = max softmax(cos of the tokens)   eq. 10-13
    loss = CE + lambda sum_b [ sum over Omega^b of (v^b + tau^b) KL(P^b, P^other) / sum of weights ]   eq. 14-15

| equation | function |
|---|---|
| 1-2, probability prompt selector (PPS) | `ClipMdmf.prompt_scores`, `ClipMdmf._token` |
| 3, local temporal context (LTCE) | `LocalContext` |
| 4, global temporal context (GTCE) | `GlobalContext`, `CausalBlock` |
| 5-7, multi-modal fusion (MMFE) | `View.fuse` |
| 8-9 and 16 | `ClipMdmf.match` |
| 10, 12, 13, and 11 | `confidences`, `ClipMdmf.match` |
| Omega, section 3.5.2 | `reliable` |
| 14 | `distillation` |
| 15 | `ClipMdmf.loss` |

In training BatchNorm (eq. 3) takes its statistics over support and query of an episode, but they are encoded apart. So
in training `enhance` returns the frames, and `match` first computes the views of all videos of an episode together
(`_views_together`). In evaluation, with running statistics, `enhance` encodes each video alone.

Deviations (`variant: paper` is the paper's column, `official` the code's; a switch overrides one point):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| LTCE | conv, ReLU, BatchNorm, twice | two convolutions | by the variant (`ltce: conv-relu-bn`, `conv`) |
| BatchNorm's statistics | not stated | none | of the episode in training, running in evaluation; a step moves them by the mean over its episodes |
| f_pos | learned, once per view by its shape | none | by the variant (`positions`); N(0, 0.02), in the residual, too |
| PPS's similarity | of "the representation" f_q | mean of the four best frames' cosines | time mean, or four best (`pps_score: time-mean`, `best-frames`) |
| PPS's draw | "uniform sampling" by the probabilities | in training and testing, unseeded | the same, as Gumbel noise hashed from the episode's videos, query and class, without a seed (`pps: sample`); `argmax`, also where nothing may be drawn; `expected` (mean token); `off` (zero token; Tables 3, 4) |
| temperature | t | 1 / 200 | the code's |
| text tower | trained (section 4.2) | frozen: texts are encoded once, without gradients | the code's; a rate `lr.text` in the recipe trains it |
| tau, eq. 11 | of the tokens; its indices are scrambled | of the first frames: tokens are cut off before | by the variant (`confidence: token`, `first-frame`); softmax over classes |
| who teaches | eq. 14: over Omega^g KL(P^g, P^l), the global view, though it is called L_{l->g}; Table 5's up->down is local -> global by section 4.4.3's words | `up2down` runs KL(P^g, P^l) over Omega^g | named by the teacher: Table 5's up->down as it was run is `teacher: global`, down->up `teacher: local`, bidirectional `both` |
| conditions of Table 5 | no equation | visual or text alone: the other view takes the rest of the queries; none: unweighted KL of both, summed over all queries | the code's (`condition`); none takes `query_loss` |
| weights, teacher | not stated | not detached | not detached; `detach: true` |
| an empty Omega | not stated | left out | 0 |
| equal confidences | not stated | the local view is reliable (>=) | the same |
| losses | CE | sum of CE over queries | by the variant (`query_loss: mean`, `sum`) |
| eq. 16 | softmax(+distance), a typo | softmax(-distance) | -distance |
| alpha1, alpha2, lambda | alphas not stated; lambda 1 (Fig. 4) | 1 | 1 (`alpha1`, `alpha2`, `distill_weight`; 0 turns distillation off, Table 4) |
| direction of OTAM | not stated | both; one for Kinetics 1-shot | `direction: both`, `query-to-support`, `support-to-query` |
| smoothing of OTAM | not stated | 0.5 | the code's |
| single views, Table 3 | GTC, LTC; NTC: query = key = value | not in the files | `views: global`, `local`, `none`; their own distance, no distillation |
| eps in cosines | 0 | 0.01 | the code's (`cos_eps`) |
| pixels | not stated | [0, 1], not normalised | by the variant (`pixels: normalized`, `unit`) |
| BatchNorm of a ResNet | not stated | frozen until the first test, then trains | statistics frozen, unless the recipe has `freeze_batch_norm: false`; then support and queries are two batches |
| class words | not stated | of its own lists | `fsar.text.words.class_text`, in either variant: its lists know the benchmarks' classes alone |
| clips | TSN; random crops, flips everywhere | TRX's frames; flips everywhere | the recipe's: TSN; no flip where names tell left from right |
| short videos | not stated | fewer frames than are sampled: left out | frames repeat, unless the recipe has `drop_short: true` |
| queries per class | not stated | 5; 1 in the test | the code's |
| state that is kept | not stated | chosen on the test classes | the best on the val classes, unless the recipe has `protocol: paper` |
| first weights of the TCN | not stated | N(0, 0.01), which weight normalisation then overwrites | PyTorch's, as in effect there |
| kernel, dilations of the TCN | not stated | 3; 1, 2, 4 | the code's |
| resizing | not stated | bilinear | the backbone's: bicubic for CLIP |
| first step | not stated | after 15 episodes, then every 16 | every `episodes_per_step` |
| dropouts, heads, hidden channels, prompt | not stated | 0.1 TCN, 0.2 and 0.05 fusion; 8; 2048; "a photo of" | the code's (`hidden`, `prompt`) |
| idle parts of the code | none | class-text CE of weight 0, a filter of frames, two more convolutions | left out |
"""  # noqa: E501

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import weight_norm

from fsar.alignment import frame_similarity, otam, video_text_similarity
from fsar.backbones import Backbone
from fsar.backbones.clip import ClipBackbone
from fsar.config import ablation
from fsar.layers.temporal import TemporalTransformer, require_frames
from fsar.methods.base import PARAMETER_GROUPS, Method, Traits
from fsar.methods.episode import Encoding, Episode, Prediction, Role, Targets, mean_over_shots, query_cross_entropy
from fsar.shapes import FrameFeatures, Logits
from fsar.text.prompts import class_features

VIEWS = {"both": ("local", "global"), "local": ("local",), "global": ("global",), "none": ("none",)}
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {
        "ltce": "conv-relu-bn",
        "positions": True,
        "pps_score": "time-mean",
        "confidence": "token",
        "query_loss": "mean",
        "pixels": "normalized",
    },
    "official": {
        "ltce": "conv",
        "positions": False,
        "pps_score": "best-frames",
        "confidence": "first-frame",
        "query_loss": "sum",
        "pixels": "unit",
    },
}
INVERSE_TEMPERATURE = 200.0
"""1 / t of equation 2."""
BEST_FRAMES = 4
"""Number of frames that `best-frames` averages."""
LEAST_WEIGHT = 1e-3
"""Smaller than any sum of weights of a non-empty set (2 / way per query); division by it does not overflow."""
SMOOTHING = 0.5
"""Lambda of OTAM's soft minimum."""
TOKEN, FIRST_FRAME = 0, 1
"""Rows of a fused video: its token, then its frames."""

FusedVideo = Float[Tensor, "*clips token_and_frame dim"]
PerQuery = Mapping[str, Float[Tensor, "episode query"]]
"""One value per query, of the local and of the global view."""


class ClipMdmf(Method):
    """Two temporal views, fused with class texts; their OTAM distances are added; in training they teach each other."""

    name = "clip-mdmf"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of CLIP-MDMF."""

        variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

        variant: Literal["paper", "official"] = "paper"
        """The paper's equations or the public code's; options that are null follow it."""
        prompt: str = "a photo of {}"
        """Template of the class texts."""
        views: Literal["both", "local", "global", "none"] = ablation("both")
        """Both temporal contexts, or a single view with the local, the global or no context (Table 3)."""
        pps: Literal["sample", "argmax", "expected", "off"] = "sample"
        """Token of a query: a class text drawn by probability, the most probable one, the weighted mean, or zeros."""
        pps_score: Literal["time-mean", "best-frames"] | None = None
        """Similarity of a query and a class text: of the mean frame, or the mean of the four best frames."""
        ltce: Literal["conv-relu-bn", "conv"] | None = None
        """The local context's two convolutions, with or without ReLU and BatchNorm after each."""
        positions: bool | None = None
        """Whether the fusion adds learned embeddings of the position."""
        frames: int = 8
        """T, frames per video, for `positions`."""
        direction: Literal["both", "query-to-support", "support-to-query"] = "both"
        """Direction of OTAM; `both` adds the two distances."""
        alpha1: float = 1.0
        """Weight of the global view's distance."""
        alpha2: float = 1.0
        """Weight of the local view's distance."""
        distill_weight: float = 1.0
        """Lambda, weight of the mutual distillation; 0 leaves it out."""
        teacher: Literal["both", "local", "global"] = ablation("both")
        """Which view may teach the other."""
        condition: Literal["text+visual", "visual", "text", "none"] = ablation("text+visual")
        """Confidences that decide whether a view is reliable for a query; `none` uses all queries, unweighted."""
        confidence: Literal["token", "first-frame"] | None = None
        """Row for the text confidence: the token, or the first frame."""
        detach: bool = ablation(False)
        """Whether gradients only reach the student."""
        query_loss: Literal["mean", "sum"] | None = None
        """How the cross-entropy, and distillation with `condition: none`, are reduced over an episode's queries."""
        pixels: Literal["normalized", "unit"] | None = None
        """Pixels normalised by the backbone's mean and deviation, or in [0, 1]."""
        cos_eps: float = 0.01
        """Added to the product of norms in every cosine."""
        hidden: int = 2048
        """Channels inside the transformers' feed-forward part."""

        def check(self) -> None:
            """Refuse values out of range, and a prompt without a place for the class name."""
            if "{}" not in self.prompt:
                raise ValueError(f"clip-mdmf: prompt is {self.prompt!r}; expected {{}} in place of the class name")
            if min(self.alpha1, self.alpha2, self.distill_weight) < 0 or self.alpha1 + self.alpha2 == 0:
                raise ValueError(
                    f"clip-mdmf got alpha1 {self.alpha1}, alpha2 {self.alpha2} and distill_weight "
                    f"{self.distill_weight}; expected none below 0, and one of the alphas above"
                )
            if self.frames < 1:
                raise ValueError(f"clip-mdmf got frames {self.frames}; expected at least 1")

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Distillation needs both views, a condition and a positive weight; a selector needs scores."""
            of_distillation = ("teacher", "condition", "confidence", "detach")
            single, views = self.views != "both", f"views: {self.views}"
            return (
                (single, views, ("alpha1", "alpha2", "distill_weight", *of_distillation)),
                ("local" not in VIEWS[self.views], views, ("ltce",)),
                (self.distill_weight == 0, "distill_weight: 0", of_distillation),
                (self.condition == "none", "condition: none", ("confidence",)),
                (self.pps == "off", "pps: off", ("pps_score",)),
                (not self.positions, "positions: false", ("frames",)),
            )

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        self.views = cast(
            "dict[str, View]", nn.ModuleDict({v: View(v, backbone.dim, config) for v in VIEWS[config.views]})
        )

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """A support video is encoded with its class text; PPS may draw a query's text."""
        return Traits(
            trains=("own", "visual"),
            readouts=("pps", "direction", "alpha1", "alpha2"),
            reads_text=True,
            trains_text=True,
            support_reads_text=True,
            draws=config.pps == "sample",
            pixels=config.pixels or "normalized",
            episodes_per_match=64,
        )

    @property
    def distills(self) -> bool:
        """Whether the loss has a distillation term."""
        return self.config.views == "both" and self.config.distill_weight > 0

    @property
    def waits(self) -> bool:
        """Whether `match` computes the views: in training, if BatchNorm needs the statistics of the episode."""
        return self.training and self.config.ltce == "conv-relu-bn" and "local" in self.views

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim]; the single prompt needs no random draw."""
        return class_features(self.backbone, labels, self.config.prompt)

    def text_input(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features, or, if the text tower trains, token ids [label, token]."""
        if not self._text_trains():
            return self.encode_text(labels, rng)
        assert isinstance(self.backbone, ClipBackbone)
        return self.backbone.tokenize([self.config.prompt.replace("{}", label) for label in labels])

    def adapt_text(self, text: Tensor) -> Tensor:
        """Token ids [*labels, token] -> text features [*labels, dim]; features stay."""
        if text.is_floating_point():
            return text
        assert isinstance(self.backbone, ClipBackbone)
        return self.backbone.clip.encode_text(text.flatten(0, -2)).unflatten(0, text.shape[:-1])

    def _text_trains(self) -> bool:
        rule = re.compile(PARAMETER_GROUPS["text"])
        return any(p.requires_grad for name, p in self.named_parameters() if rule.fullmatch(name))

    # ----------------------------------------------------------------------- one video

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Compute everything that depends on one video alone.

        Returns:
            For a query, its frames and their context in each view, [*clips, frame, dim]. For a support video, each view
            fused with its class text, [*clips, token_and_frame, dim]. Only the frames if `match` computes the views.

        Raises:
            ValueError: a support video has no class text.
        """
        frames = encoding["frames"]
        if self.waits:
            return {"frames": frames}
        contexts = {name: view.context(frames) for name, view in self.views.items() if name != "none"}
        return self._with_views(frames, contexts, role, text)

    def _with_views(self, frames: FrameFeatures, contexts: Encoding, role: Role, text: Tensor | None) -> Encoding:
        """Fuse a support video in each view; the token of a query is chosen later."""
        if role == "query":
            return {"frames": frames, **contexts}
        if text is None:
            raise ValueError("clip-mdmf reads the class text of a support video; give encode its text feature")
        return {name: view.fuse(text, contexts.get(name, frames), frames) for name, view in self.views.items()}

    # ----------------------------------------------------------------------- match

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the weighted sum of the views' OTAM distances, without the tokens.

        Named, for each view: `..._distances` and `..._text_similarities` (cosines of what `confidence` names),
        [episode, query, way]. Of the selector: `prompt_probabilities` [episode, query, way] and `prompt_way`
        [episode, query], the class whose text a query was given.
        """
        if "frames" in episode.support:
            episode = self._views_together(episode)
        frames = episode.query["frames"]
        token, named = self._token(episode)
        for name, view in self.views.items():
            query = view.fuse(token, episode.query.get(name, frames), frames)
            prototypes = mean_over_shots(episode.support[name], episode.shot_mask)
            named |= self._compare(name, query, prototypes)
        alphas = {"global": self.config.alpha1, "local": self.config.alpha2, "none": 1.0}
        weighted = [alphas[name] * named[f"{name}_distances"] for name in self.views]
        return Prediction(-torch.stack(weighted).sum(0), named)

    def _compare(
        self,
        view: str,
        query: Float[Tensor, "episode query token_and_frame dim"],
        prototypes: Float[Tensor, "episode way token_and_frame dim"],
    ) -> dict[str, Tensor]:
        """Distances of the frames in one view, and cosines of the tokens."""
        eps, compared = self.config.cos_eps, TOKEN if self.config.confidence == "token" else FIRST_FRAME
        similarity = frame_similarity(query[..., FIRST_FRAME:, :], prototypes[..., FIRST_FRAME:, :], eps)
        asking, asked = query[..., compared : compared + 1, :], prototypes[..., compared, :]
        return {
            f"{view}_distances": otam(1 - similarity, SMOOTHING, self.config.direction),
            f"{view}_text_similarities": video_text_similarity(asking, asked, eps),
        }

    def prompt_scores(
        self, frames: Float[Tensor, "episode query frame dim"], text: Float[Tensor, "episode way dim"]
    ) -> Logits:
        """Similarity of each query and class text over the temperature, by which PPS draws (eq. 1 and 2).

        Args:
            frames: of the queries.
            text: of the classes.
        """
        if self.config.pps_score == "time-mean":
            similarity = video_text_similarity(frames, text, self.config.cos_eps)
        else:
            cosines = frame_similarity(frames, text[:, :, None], self.config.cos_eps).flatten(-2)
            similarity = cosines.topk(min(BEST_FRAMES, cosines.shape[-1]), -1).values.mean(-1)
        return INVERSE_TEMPERATURE * similarity

    def _token(self, episode: Episode) -> tuple[Float[Tensor, "episode query dim"], dict[str, Tensor]]:
        """Choose the token of each query; at most one class text is fused with a query."""
        frames, text = episode.query["frames"], episode.text
        if self.config.pps == "off":
            return torch.zeros_like(frames[..., 0, :]), {}
        assert text is not None
        scores = self.prompt_scores(frames, text)
        named = {"prompt_probabilities": scores.softmax(-1)}
        if self.config.pps == "expected":
            return torch.einsum("eqw,ewd->eqd", named["prompt_probabilities"], text), named
        if self.traits.draws and episode.draws is not None:  # argmax with Gumbel noise = draw from the softmax
            below_one = 1 - torch.finfo(scores.dtype).eps  # numbers close to 1 are rounded to 1
            scores = scores - (-episode.draws.to(scores).clamp(max=below_one).log()).log()
        named["prompt_way"] = scores.argmax(-1)
        return text.gather(1, named["prompt_way"][..., None].expand(-1, -1, text.shape[-1])), named

    def _views_together(self, episode: Episode) -> Episode:
        """Compute the views; for BatchNorm, the videos of an episode are one batch."""
        support, query, mask = episode.support["frames"], episode.query["frames"], episode.shot_mask
        of_support, of_query = {}, {}
        for name, view in self.views.items():
            made = [
                view.context(torch.cat([own[present], asked]))
                for own, asked, present in zip(support, query, mask, strict=True)
            ]
            of_query[name] = torch.stack([videos[-query.shape[1] :] for videos in made])
            of_support[name] = made[0].new_zeros(support.shape)
            of_support[name][mask] = torch.cat([videos[: -query.shape[1]] for videos in made])
        text = self.text_of_shots(episode.text, support.shape[2])
        return replace(
            episode,
            support=self._with_views(support, of_support, "support", text),
            query=self._with_views(query, of_query, "query", None),
        )

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: cross-entropy of the logits; `distill`: equation 14, weighted."""
        terms = {"match": query_cross_entropy(prediction.logits, targets)}
        if self.config.query_loss == "sum":
            terms["match"] = terms["match"] * targets.query_way.shape[1]
        if self.distills:
            terms["distill"] = self.config.distill_weight * distillation(prediction.named, self.config)
        return terms


# --------------------------------------------------------------------------- one view


class View(nn.Module):
    """A temporal context of the frames, and its fusion with a token."""

    positions: nn.Parameter | None

    def __init__(self, name: str, dim: int, config: ClipMdmf.Config):
        super().__init__()
        self.context = temporal_context(name, dim, config.ltce == "conv-relu-bn")
        self.transformer = TemporalTransformer(dim, hidden=config.hidden)
        positions = nn.Parameter(0.02 * torch.randn(config.frames + 1, dim)) if config.positions else None
        self.register_parameter("positions", positions)

    def fuse(self, token: Float[Tensor, "*clips dim"], context: FrameFeatures, frames: FrameFeatures) -> FusedVideo:
        """Let the token and the context attend to the token and the frames (eq. 5 to 7).

        Args:
            token: of each video.
            context: its frames in this view.
            frames: its frame features.

        Raises:
            ValueError: positions were built for another number of frames.
        """
        asking, asked = (torch.cat([token.unsqueeze(-2), rows], -2) for rows in (context, frames))
        if self.positions is not None:
            require_frames(len(self.positions) - 1, frames.shape[-2])  # one row is the token's
            asking, asked = asking + self.positions, asked + self.positions
        return self.transformer(asking, asked)


def temporal_context(view: str, dim: int, relu_bn: bool) -> nn.Module:
    """Make a view's temporal context: [*clips, frame, dim] -> [*clips, frame, dim].

    Args:
        view: `local`, `global` or `none`.
        dim: channels of a frame feature.
        relu_bn: the local context has ReLU and BatchNorm after each convolution.
    """
    if view == "local":
        return LocalContext(dim, relu_bn)
    return GlobalContext(dim) if view == "global" else nn.Identity()


class LocalContext(nn.Module):
    """Two convolutions over neighbouring frames (eq. 3).

    Args:
        dim: channels of a frame feature.
        relu_bn: ReLU and BatchNorm follow each convolution.
    """

    def __init__(self, dim: int, relu_bn: bool):
        super().__init__()
        steps: list[nn.Module] = []
        for _ in range(2):
            steps.append(nn.Conv1d(dim, dim, kernel_size=3, padding=1))
            if relu_bn:
                steps += [nn.ReLU(), nn.BatchNorm1d(dim)]
        self.steps = nn.Sequential(*steps)

    def forward(self, frames: FrameFeatures) -> FrameFeatures:
        """Mix every frame with its neighbours; the number of frames stays."""
        return over_time(self.steps, frames)


class GlobalContext(nn.Module):
    """Every frame plus the last output of a causal convolution network (eq. 4).

    Args:
        dim: channels of a frame feature.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.blocks = nn.Sequential(*(CausalBlock(dim, dilation) for dilation in (1, 2, 4)))

    def forward(self, frames: FrameFeatures) -> FrameFeatures:
        """Add the network's last output to every frame."""
        return over_time(self.blocks, frames)[..., -1:, :] + frames


class CausalBlock(nn.Module):
    """Two dilated convolutions that see no later frame, added to the input (TCN, Bai et al., 2018).

    Args:
        dim: channels of a frame feature.
        dilation: of both convolutions.
        kernel: frames that a convolution covers.
        dropout: after each convolution.
    """

    def __init__(self, dim: int, dilation: int, kernel: int = 3, dropout: float = 0.1):
        super().__init__()
        self.convolutions = nn.ModuleList(weight_norm(nn.Conv1d(dim, dim, kernel, dilation=dilation)) for _ in range(2))
        self.past = (kernel - 1) * dilation
        self.dropout = nn.Dropout(dropout)

    def forward(self, channels: Float[Tensor, "video dim frame"]) -> Float[Tensor, "video dim frame"]:
        """Apply both convolutions to earlier frames only; the number of frames stays."""
        seen = channels
        for convolution in self.convolutions:
            seen = self.dropout(convolution(pad(seen, (self.past, 0))).relu())
        return (seen + channels).relu()


def over_time(layers: nn.Module, frames: FrameFeatures) -> FrameFeatures:
    """Run layers that take [video, dim, frame] on frame features.

    Args:
        layers: they keep the number of frames.
        frames: frame features.
    """
    channels = frames.reshape(-1, *frames.shape[-2:]).transpose(1, 2)
    return layers(channels).transpose(1, 2).reshape(frames.shape)


# --------------------------------------------------------------------------- distillation


def confidences(named: Mapping[str, Tensor]) -> tuple[PerQuery, PerQuery]:
    """Each view's largest probability of a class, by its distances, v (eq. 12), and by its tokens, tau (eq. 13).

    Args:
        named: of a prediction: distances and text similarities of both views.
    """
    visual = {view: (-named[f"{view}_distances"]).softmax(-1).amax(-1) for view in VIEWS["both"]}
    text = {view: named[f"{view}_text_similarities"].softmax(-1).amax(-1) for view in VIEWS["both"]}
    return visual, text


def reliable(visual: PerQuery, text: PerQuery, condition: str) -> dict[str, Bool[Tensor, "episode query"]]:
    """Compute Omega: the queries for which each view may teach the other.

    Args:
        visual: v of both views.
        text: tau of both views.
        condition: which of them decide.
    """
    by_visual, by_text = (score["local"] >= score["global"] for score in (visual, text))
    if condition == "visual":
        return {"local": by_visual, "global": ~by_visual}
    if condition == "text":
        return {"local": by_text, "global": ~by_text}
    if condition == "none":
        return dict.fromkeys(VIEWS["both"], torch.ones_like(by_visual))
    return {"local": by_visual & by_text, "global": ~(by_visual | by_text)}


def distillation(named: Mapping[str, Tensor], config: ClipMdmf.Config) -> Float[Tensor, ""]:
    """Equation 14: pull the less reliable view's probabilities to the more reliable one's; mean over episodes.

    Args:
        named: of a prediction.
        config: which view teaches, and under which condition.
    """
    log_p = {view: (-named[f"{view}_distances"]).log_softmax(-1) for view in VIEWS["both"]}
    visual, text = confidences(named)
    chosen = reliable(visual, text, config.condition)
    total = torch.zeros_like(visual["local"][:, 0])  # episode
    for view, student in (("local", "global"), ("global", "local")):
        if config.teacher not in (view, "both"):
            continue
        teacher, weight = log_p[view], visual[view] + text[view]
        if config.detach:
            teacher, weight = teacher.detach(), weight.detach()
        divergence = (teacher.exp() * (teacher - log_p[student])).sum(-1)  # episode query
        if config.condition == "none":
            total = total + (divergence.sum(-1) if config.query_loss == "sum" else divergence.mean(-1))
        else:
            weight = weight * chosen[view]
            total = total + (weight * divergence).sum(-1) / weight.sum(-1).clamp(min=LEAST_WEIGHT)
    return total.mean()
