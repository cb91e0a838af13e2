"""CLIP-CPM2C: a learned token takes the place of the class text that a query lacks; motion is a second stream.

Guo et al., "Consistency prototype module and motion compensation for few-shot action recognition (CLIP-CPM2C)",
Neurocomputing 611, 2025. f are a video's T frames; v and u are learned tokens, one per stream:

    M[t] = ( (Phi(f)[t+1] - f[t]) + (Phi(f)[t] - f[t+1]) ) / 2                  T - 1 rows of motion
    SF(p, x) = Transformer([ p ; x + 0.1 p ]), the same for both streams
    S = SF(own class text, x) of a support video, Q = SF(token, x) of a query
    D = OTAM(mean over shots of S, Q), over all rows but the prompt's           for x = f with v, and x = M with u
    logits = -(D of frames + w D of motion)
    consistency of a stream: mean over support | SF(text, x) - SF(token, x) |^2, plus the same over queries
    loss = CE + 0.5 CE(cosine of mean frame and training class text) + 0.001 (of frames + w of motion)

| what | function |
|---|---|
| M | `fsar.methods.clip_spm.MotionFeatures.differences` |
| SF | `fsar.methods.clip_mei.PromptFusion` |
| S, Q | `ClipCpm2c.enhance` |
| logits | `ClipCpm2c.match` |
| consistency | `ClipCpm2c.consistency` |
| loss | `ClipCpm2c.loss` |

Deviations (a dash: not checked). The authors' code is not public: "code" is the port in the public code of CLIP-MEI.
| point | paper | code | ours (switch) |
|---|---|---|---|
| w | - | 1; 0 on UCF101 | `motion_weight`: 1, or the recipe's |
| templates | - | one | one |
| average of the shots | - | after SF; before is unfinished | after |
| a global distance of frames and prompt | - | worked out with weight 0 | none |
| cross-entropies | - | sums / 16, beside the whole consistency, in each of a step's 16 episodes | `reduction: mean` (default), `sum` |
| text of a query | - | in the loss alone | the same |
| initial tokens | - | normal, variance 1 | the code's |
| weight decay of `scale` | - | as all else | none, as of any single number |
| pixels, BatchNorm, betas, state that is kept, class words, clips | - | as CLIP-MEI's code | as `clip_mei.py` |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fsar.alignment import frame_similarity, otam, video_text_similarity
from fsar.backbones import Backbone
from fsar.config import ablation
from fsar.methods.base import Method, Traits
from fsar.methods.clip_mei import PromptFusion
from fsar.methods.clip_spm import FIRST_FRAME, SMOOTHING, MotionFeatures
from fsar.methods.episode import (
    Encoding,
    Episode,
    Prediction,
    Role,
    Targets,
    all_videos,
    class_cross_entropy,
    mean_over_shots,
    query_cross_entropy,
    text_of_queries,
)
from fsar.methods.training_text import TrainingText
from fsar.shapes import FrameFeatures, ShotMask
from fsar.text.prompts import class_features, templates

STREAMS = ("frames", "motion")


class ClipCpm2c(TrainingText):
    """Frames and their motion are fused with a class text or a learned token, and aligned with class means."""

    name = "clip-cpm2c"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of CLIP-CPM2C."""

        least: ClassVar[dict[str, float]] = {"motion_weight": 0, "consistency_weight": 0, "class_text_weight": 0}

        query_token: bool = ablation(True)
        """Fuse a query with the learned tokens; if false, its rows are compared as they are."""
        motion_weight: float = 1.0
        """w, weight of the motion's distance and consistency; 0 leaves motion out."""
        consistency_weight: float = 0.001
        """Weight of the consistency of class texts and tokens in the loss."""
        class_text_weight: float = 0.5
        """Weight of the cross-entropy of the training classes' texts; 0 leaves it out."""
        templates: str = "a photo of {}"
        """Template of the class texts, or a template set."""
        reduction: Literal["mean", "sum"] = "mean"
        """Mean of the cross-entropies over videos, or the public code's sums."""
        direction: Literal["both", "query-to-support", "support-to-query"] = "both"
        """Direction of OTAM; `both` adds the two distances."""
        pixels: Literal["normalized", "unit"] = "normalized"
        """Pixels normalised by the backbone's mean and deviation, or in [0, 1]."""
        cos_eps: float = 0.01
        """Added to the product of norms in every cosine."""
        hidden: int = 2048
        """Channels inside the transformer's feed-forward part."""

        def check(self) -> None:
            """Refuse unknown templates."""
            templates(self.templates)

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Without tokens, no class text has one to be consistent with."""
            return ((not self.query_token, "query_token: false", ("consistency_weight",)),)

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        dim = backbone.dim
        self.streams = STREAMS if config.motion_weight else STREAMS[:1]
        self.episodes_per_step = 1
        self.fusion = PromptFusion(dim, None, config.hidden)
        if config.query_token:
            self.tokens = nn.ParameterDict({stream: torch.randn(dim) for stream in self.streams})
        if config.motion_weight:
            self.motion = MotionFeatures(dim, True, "clip-cpm2c:motion_weight=0")
        if config.class_text_weight:
            self.scale = nn.Parameter(torch.ones(()))

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """A support video is encoded with its class text, a query with the learned tokens; classes are independent."""
        return Traits(
            trains=("own", "visual"),
            readouts=("direction",),
            reads_text=True,
            support_reads_text=True,
            independent_ways=True,
            pixels=config.pixels,
            episodes_per_match=64,
        )

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim]; with one template there is nothing to draw."""
        return class_features(self.backbone, labels, self.config.templates)

    # ----------------------------------------------------------------------- one video

    def rows(self, frames: FrameFeatures) -> dict[str, Float[Tensor, "*clips row dim"]]:
        """Return the rows of each stream: the frames, and the motion between neighbouring frames."""
        rows = {"frames": frames}
        return rows | {"motion": self.motion.differences(frames) / 2} if "motion" in self.streams else rows

    def fused(self, frames: FrameFeatures, text: Float[Tensor, "*clips dim"] | None) -> Encoding:
        """Fuse the rows of every stream with a class text, or with the stream's token.

        Args:
            frames: of the videos.
            text: of the videos; None takes the tokens.
        """
        shape = (*frames.shape[:-2], frames.shape[-1])
        return {
            stream: self.fusion((self.tokens[stream] if text is None else text).expand(shape), rows)
            for stream, rows in self.rows(frames).items()
        }

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Fuse a support video with its class text, and a query with the tokens.

        Returns:
            The frames, and of every stream its `fused_STREAM` [*clips, prompt_and_row, dim]; of a query without
            `query_token`, the rows of every stream under its own name.

        Raises:
            ValueError: a support video has no class text.
        """
        if role == "support" and text is None:
            raise ValueError("clip-cpm2c reads the class text of a support video; give encode its text feature")
        if role == "query" and not self.config.query_token:
            return self.rows(encoding["frames"])
        fused = self.fused(encoding["frames"], text if role == "support" else None)
        return {"frames": encoding["frames"], **{f"fused_{stream}": rows for stream, rows in fused.items()}}

    # ----------------------------------------------------------------------- an episode

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the weighted distances. Named outputs: `STREAM_distances` of every stream."""
        distances = {}
        for stream in self.streams:
            fused = f"fused_{stream}"
            prototypes = mean_over_shots(episode.support[fused][..., FIRST_FRAME:, :], episode.shot_mask)
            query = episode.query[fused][..., FIRST_FRAME:, :] if self.config.query_token else episode.query[stream]
            similarity = frame_similarity(query, prototypes, self.config.cos_eps)
            distances[stream] = otam(1 - similarity, SMOOTHING, self.config.direction)
        weights = {"frames": 1.0, "motion": self.config.motion_weight}
        weighted = sum((weights[stream] * distance for stream, distance in distances.items()), torch.zeros(()))
        return Prediction(-weighted, {f"{stream}_distances": distance for stream, distance in distances.items()})

    def consistency(self, episode: Episode, targets: Targets) -> dict[str, Float[Tensor, ""]]:
        """Compare the videos fused with their own class text and with the token, by stream.

        Only here, the class text of a query is read.

        Args:
            episode: the input of `match`.
            targets: the ways of the queries.
        """
        query_by_text = self.fused(episode.query["frames"], text_of_queries(episode, targets))
        support_by_token = self.fused(episode.support["frames"], None)
        everywhere = torch.ones_like(targets.query_way, dtype=torch.bool)
        return {
            stream: _mean_square(episode.support[f"fused_{stream}"], support_by_token[stream], episode.shot_mask)
            + _mean_square(episode.query[f"fused_{stream}"], query_by_text[stream], everywhere)
            for stream in self.streams
        }

    def begin_training(self, class_texts: Sequence[str], episodes_per_step: int = 1) -> None:
        """Encode the texts of all training classes; remember the episodes per step, on which the code's sums depend."""
        super().begin_training(class_texts)
        self.episodes_per_step = episodes_per_step

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: cross-entropy; `class_text`, `consistency`: weighted, over support and query videos.

        Raises:
            ValueError: `begin_training` was not called.
        """
        videos = targets.query_way.shape[1] + int(episode.shot_mask[0].sum())
        factors = {"match": targets.query_way.shape[1], "class_text": videos, "consistency": self.episodes_per_step}
        terms = {"match": query_cross_entropy(prediction.logits, targets)}
        if self.config.class_text_weight:
            logits = self.class_text_logits(all_videos(episode, "frames"))
            mean = class_cross_entropy(logits, targets, episode.shot_mask)
            terms["class_text"] = self.config.class_text_weight * mean
        if self.config.consistency_weight and self.config.query_token:
            weights = {"frames": 1.0, "motion": self.config.motion_weight}
            distances = self.consistency(episode, targets)
            total = torch.stack([weights[stream] * distance for stream, distance in distances.items()]).sum()
            terms["consistency"] = self.config.consistency_weight * total
        if self.config.reduction == "sum":
            return {name: factors[name] * term for name, term in terms.items()}
        return terms

    def class_text_logits(self, videos: Float[Tensor, "video frame dim"]) -> Float[Tensor, "video label"]:
        """Compute the scaled cosine of a video's mean frame and the text of every training class."""
        return self.scale * video_text_similarity(videos, self.require_training_text(), self.config.cos_eps)


def _mean_square(x: Tensor, y: Tensor, present: ShotMask | Tensor) -> Float[Tensor, ""]:
    """Squared distance of two videos over all rows; mean over an episode's present videos, then episodes."""
    distances = (x - y).square().sum((-2, -1)).where(present, 0.0)
    return (distances.flatten(1).sum(1) / present.flatten(1).sum(1)).mean()
