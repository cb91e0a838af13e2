"""CLIP-FSAR: class texts modulate the prototypes; in training, features are also classified by the texts.

Wang et al., "CLIP-guided prototype modulating for few-shot action recognition", IJCV 132, 2024.

    F~_Q = transformer(F_Q)                          F~_S = transformer([F_S; text])[:T]
    logits = -OTAM(F~_Q, mean over shots of F~_S)    or the mean over shots of F_S before the transformer
    loss = CE(logits) + w CE(scale cos(mean_t F, texts of all training classes))

| what | function |
|---|---|
| temporal transformer | `fsar.layers.temporal.TemporalTransformer` |
| prototype modulation: the class text is appended to the support frames | `ClipFsar.enhance`, `ClipFsar._modulate` |
| alignment distance of prototypes | `fsar.alignment.otam` |
| probability by text, and mixed with the visual one | `ClipFsar.match` |
| video-text contrastive objective | `ClipFsar.class_text_logits`, `ClipFsar.loss` |

The numbers are those of the public code, step by step.

Deviations:
| point | public code | ours (switch) |
|---|---|---|
| several shots | averaged before the transformer (5-shot files) or after it (1-shot files) | `merge: before` (default) or `after`; equal at one shot |
| direction of OTAM | both, summed; one by a flag | `direction: both` (default), `query-to-support`, `support-to-query` |
| eps in the cosine | 0.01 between frames and in the contrastive objective, 0 in the read-out by text | the code's; `cos_eps` is the 0.01 |
| read-out | visual in every published setting; mixed or text by flags | `readout: visual` (default), `combine`, `text`; the loss always reads the visual one |
| mixed score | p_text^beta p_visual^(1-beta), not normalised | its logarithm, so that it is a logit |
| temperature of p_visual | softmax((8 - D) / 8), whatever the number of frames | softmax((T - D) / T); equal at 8 frames |
| weight w of the contrastive objective | 1.2 to 3.0 by benchmark | 3.0, SSv2's, unless the recipe says otherwise (`class_text_weight`) |
| weight decay | L2 1e-3, whatever its file says; it spares what `bn` or `norm` names, not ViT's `ln_...`, a ResNet's `downsample.1` or the temperature | the recipes' `decay_spares: [bn, norm]`; without it a temperature never decays |
| resizing | squeezed to 256 x 256 | short side 256 (`framing: short-side`, `square-256`) |
| flips and colours | of Kinetics' queries alone; jitter by up to 0.5, 0.5, 0.5, 0.25, grey with 0.3 | flips where no name tells left from right, unless the recipe has `flip: false`; `augment: queries`, `jitter_strength`, `gray` |
| frames | random ones in the test, too; on Kinetics at a fixed distance | the recipe's: TSN, middle frames in the test; `sampling: clip-fsar-interval` is Kinetics' |
| several shots, training | 5-shot files train on 1-shot episodes | the recipes' `for_shot` |
| rate | its epoch counts whole periods twice, so rates fall at about half the episodes that its file names | the recipes' `milestones`, as it runs |
| class words | of its own lists: `draw_sword`, `Blow DryHair`, brackets | `fsar.text.words.class_text`: its lists know the benchmarks' classes alone |
| initial value of the temperature | 1, learned | the same |
| reduction | means over queries and over all videos, / batch | the same, mean over the batch's episodes |
| pixels | CLIP's mean and deviation; in the file of UCF101 5-shot they stand where they are not read, so 0.45 and 0.225 hold | CLIP's |
| BatchNorm of a ResNet | trains from the first step | the same in the recipes (`freeze_batch_norm: false`); support and queries are two batches |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fsar.alignment import frame_similarity, otam, video_text_similarity
from fsar.backbones import Backbone
from fsar.layers.temporal import TemporalTransformer, with_text
from fsar.methods.base import Method, Traits
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
)
from fsar.methods.training_text import TrainingText
from fsar.shapes import FrameFeatures
from fsar.text.prompts import class_features, templates


class ClipFsar(TrainingText):
    """Prototypes attend to their class text, OTAM aligns them with the query; the visual tower is trained."""

    name = "clip-fsar"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of CLIP-FSAR."""

        prompt: str = "a photo of {}"
        """The sentence around a class name."""
        merge: Literal["before", "after"] = "before"
        """Average the shots of a class before or after the transformer."""
        direction: Literal["both", "query-to-support", "support-to-query"] = "both"
        """Direction of OTAM; `both` adds the two distances."""
        smoothing: float = 0.5
        """Lambda of OTAM's soft minimum."""
        cos_eps: float = 0.01
        """Added to the product of norms in the cosines of frames and of the contrastive objective."""
        class_text_weight: float = 3.0
        """w, weight of the contrastive objective; 0 leaves it out."""
        readout: Literal["visual", "combine", "text"] = "visual"
        """What gives the logits: the alignment, both mixed by `text_weight`, or the text alone."""
        text_weight: float = 0.9
        """beta, exponent of the text's probability for `readout: combine`."""
        hidden: int = 2048
        """Channels inside the transformer's feed-forward part."""
        framing: Literal["short-side", "square-256"] = "short-side"
        """Resize the short side, or squeeze frames to 256 x 256 pixels whatever their shape, as in the public code."""

        def check(self) -> None:
            """Refuse values out of range, and a prompt without a place for the class name."""
            templates(self.prompt)
            if not 0 <= self.text_weight <= 1 or self.class_text_weight < 0 or self.smoothing <= 0 or self.hidden < 1:
                raise ValueError(
                    f"clip-fsar got text_weight {self.text_weight}, class_text_weight {self.class_text_weight}, "
                    f"smoothing {self.smoothing} and hidden {self.hidden}; expected a text_weight in [0, 1], a "
                    f"class_text_weight of at least 0, a smoothing above 0 and at least 1 hidden channel"
                )

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Only the mixed score has the exponent."""
            return ((self.readout != "combine", f"readout: {self.readout}", ("text_weight",)),)

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        self.context = TemporalTransformer(backbone.dim, hidden=config.hidden)
        self.scale = nn.Parameter(torch.ones(()))

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """A support video is encoded with its class text; transformer and visual tower train."""
        return Traits(
            trains=("own", "visual"),
            readouts=("readout", "text_weight", "merge", "direction"),
            reads_text=True,
            reads_text_alone=config.readout == "text",
            support_reads_text=True,
            independent_ways=config.readout == "visual",
            framing=config.framing,
            episodes_per_match=64,
        )

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim]; with one prompt there is nothing to draw."""
        return class_features(self.backbone, labels, self.config.prompt)

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Add `enhanced`: the frames after they attended to each other and, for a support video, to its class text."""
        frames = encoding["frames"]
        if role == "query":
            return {"frames": frames, "enhanced": self.context(frames)}
        if text is None:
            raise ValueError("clip-fsar reads the class text of a support video; give encode its text feature")
        return {"frames": frames, "enhanced": self._modulate(frames, text)}

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the alignment distance, or a log-probability, as `readout` says.

        Named: `visual_logits`, and `text_logits` (the scaled cosines with the class texts).
        """
        frames, enhanced = episode.query["frames"], episode.query["enhanced"]
        distance = 1 - frame_similarity(enhanced, self._prototypes(episode), self.config.cos_eps)
        visual = -otam(distance, self.config.smoothing, self.config.direction)
        text = self.scale * video_text_similarity(frames, episode.require_text())
        named = {"visual_logits": visual, "text_logits": text}
        if self.config.readout == "visual":
            return Prediction(visual, named)
        text = text.log_softmax(-1)
        if self.config.readout == "text":
            return Prediction(text, named)
        visual = (visual / frames.shape[-2]).log_softmax(-1)  # (T - D) / T without its constant, which softmax cancels
        return Prediction(torch.lerp(visual, text, self.config.text_weight), named)

    def _prototypes(self, episode: Episode) -> Float[Tensor, "episode way frame dim"]:
        """Mean over the shots of a class, before or after the transformer, as `merge` says."""
        mask = episode.shot_mask
        if self.config.merge == "after" or mask.shape[-1] == 1:
            return mean_over_shots(episode.support["enhanced"], mask)
        return self._modulate(mean_over_shots(episode.support["frames"], mask), episode.require_text())

    def _modulate(self, frames: FrameFeatures, text: Float[Tensor, "*clips dim"]) -> FrameFeatures:
        """Let the frames attend to each other and the class text, then drop the row of the text."""
        return self.context(with_text(frames, text))[..., :-1, :]

    def class_text_logits(self, videos: Float[Tensor, "video frame dim"]) -> Float[Tensor, "video label"]:
        """Compute the scaled cosine of each video's mean frame feature and each training class text.

        Args:
            videos: frame features.

        Raises:
            ValueError: `begin_training` was not called.
        """
        return self.scale * video_text_similarity(videos, self.require_training_text(), self.config.cos_eps)

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: cross-entropy of the visual logits; `class_text`: weighted, over support and query videos."""
        terms = {"match": query_cross_entropy(prediction.named["visual_logits"], targets)}
        if self.config.class_text_weight > 0:
            logits = self.class_text_logits(all_videos(episode, "frames"))
            mean = class_cross_entropy(logits, targets, episode.shot_mask)
            terms["class_text"] = self.config.class_text_weight * mean
        return terms
