"""CLIP-SPM: motion that survives its refinement, prompts for queries, and prototypes that attend to their videos.

Long: three modules (HSMR, SPM, PADM) with their losses are one paper.

Li et al., "Distinguishing visually similar actions: Prompt-guided semantic prototype modulation for few-shot action
recognition", 2025. f are a video's T frames, tp a prompt (its motion, or its class text), t the mean class text:

    f_tp of a class = sum over R templates of its text features                                          eq. 2
    m = sum over t of (Phi(f)[t+1] - f[t]) + (Phi(f)[t] - f[t+1])                                        eq. 8   MFE
    tp, f = Transformer([ tp ; Psi_v(f) f + Psi_tp(tp) tp ])                                             eq. 9   SF
    shallow, f' = SF(MFE(f), f);  deep = MFE(f');  d_h = ConDis(shallow, deep)                           eq. 3, 7   HSMR
    prompt of a video = Upsilon( t x mean over frames of f )                                             eq. 13   PG
    S = SF(own class text, f) of a support video, Q = SF(prompt, f) of a query; their frames are kept    eq. 10-11   SPM
    d_spm = OTAM(mean over shots of S, Q)                                                                eq. 4
    P_c = mean of S of class c and Q;  A = mean of P_c;  P, S = Transformer([P; S]);  A, Q = Transformer([A; Q])
    d_padm = OTAM(mean over shots of S, Q) + OTAM(P, A)                                                  eq. 5, 14   PADM
    logits = -(lambda1 d_padm + lambda2 d_spm)                                                           eq. 6
    d_s = ConDis(tp, tp') + ConDis([tp; f], [tp'; f']), of SF(own class text, f) and SF(prompt, f)       eq. 12
    loss = CE + lambda3 sum of d_h + lambda4 sum of d_s, over support and query videos                   eq. 15

| equation | function |
|---|---|
| 2, 13 | `ClipSpm.encode_text`, `ClipSpm.prompt` |
| 8, 9, 14 | `MotionFeatures`, `SemanticFusion`, `DualModulation` |
| 3, 7 | `ClipSpm.motion_distance` |
| 10-11 | `ClipSpm.enhance` (support), `ClipSpm.match` (query) |
| 4-6 | `ClipSpm.match` |
| 12, 15 | `ClipSpm.consistency_distances`, `ClipSpm.loss` |

Its tables are switches: 3 (`hsmr`, `spm`, `padm`), 4 (`fusion`), 5 (`consistency`), Fig. 5 (`templates: clip-spm:R`).
With all three of Table 3 off it is OTAM on prototypes of raw features.

Deviations (`variant: paper` is the paper's column, `official` the code's; a switch overrides one point):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| queries in eq. 14 | all queries of the episode together | the same | each alone with the support: `inductive: true` (default); the recipes have the paper's `false` |
| eq. 2 | sum over templates | mean | by the variant (`ensemble: sum`, `mean`); the recipes take the mean: a sum of 16 texts drowns the frames that it is added to |
| eq. 8 | sums | half the sum, mean over t | by the variant (`motion: sum`, `half-mean`) |
| eq. 7, 9 | the shallow motion is overwritten by SF; the prompt is concatenated un-gated | the same | the same |
| alpha before Psi_tp(tp) tp | none | by benchmark: 0.2 (HMDB51, SSv2-Small), 0.228 (UCF101), 0.86 (Kinetics), 0.353 (SSv2-Full) | by the variant (`alpha`: 1, 0.2) |
| video in eq. 13 | mean over frames | one number, the mean over frames and channels | by the variant (`prompt_mean: frames`, `frames-and-channels`) |
| texts in eq. 13 | of the support videos | of support and query videos, so query labels are read | mean of the support classes', whatever their shots; all are the same where classes are balanced |
| eq. 12 | lambda4 = 0.001 | switched off | by the variant (`consistency: both`, `off`; `support`, `query`) |
| prompts in eq. 12 | overwritten in eq. 11: after SF | an earlier form has both, weighted | after SF; `consistency_on: initial` compares them before it, `both` at both places; `consistency_shares: [w_t, w_c]` are that form's weights, by benchmark [0.07, 0.54] (HMDB51, SSv2-Small), [0.0295, 0.221] (UCF101), [0.041, 0.62] (Kinetics), [0.49, 0.579] (SSv2-Full); [prompt; frames] is always after SF |
| HSMR | a term of the loss | worked out in the test, too | in the loss alone |
| attention of PADM | "Transformer" | over videos, at one frame index at a time | the code's |
| ConDis | Euclidean distance, summed over videos | squared, mean over support videos + mean over queries | by the variant (`condis: norm`, `square`) |
| cross-entropy | mean over queries | sum / 16, beside whole other terms, in each of a step's 16 episodes | by the variant (`reduction: mean`; `sum`: the mean over a step's episodes is then the code's step, for any `episodes_per_step`) |
| factor on d_h | none | a learned number alpha_mo, 1 at first; weight decay shrinks it | by the variant (`learned_alpha_mo`); no weight decay, as on any single number |
| Phi, Psi, Upsilon | "convolutions", "networks", "linear layers" | two convolutions without activation; linear, leaky ReLU, linear, sigmoid; a feed-forward part | the code's; sizes and slope of Psi are the recipe's, on other data HMDB51's (`gate_visual`, `gate_text`, `gate_slope`) |
| Transformer | encoder | one layer, heads of 256 channels; one for SF, one for PADM | the code's; its `scale`, which nothing reads, is left out |
| OTAM | "common practice" | both directions, smoothing 0.5, eps 0.01 in the cosine, per prototype | the code's (`direction`, `cos_eps`) |
| SPM or PADM off (Table 3) | not stated | not in the files | raw frames go on, and no class text is read; the distance is d_spm (of whatever frames) alone, without lambda2 |
| Table 4 | gate, sum, concat | only all three | cumulative: [tp; f], [tp; f + tp], eq. 9 (`fusion`) |
| class words | class names | of its own lists: `draw_sword`, `Blow DryHair`, `[something]` | `fsar.text.words.class_text`, in either variant: its lists know the benchmarks' classes alone, and a model of them could name no others |
| clips | TSN; random crops, flips everywhere | TRX's frames; no flips on SSv2 | the recipe's: TSN; no flip where names tell left from right |
| short videos | not stated | fewer frames than are sampled: left out | frames repeat, unless the recipe has `drop_short: true` |
| queries per class | 4, in the test too | 4; 1 in the test, with the paper's numbers | the recipe's `query`, `test_query`: the paper's |
| state that is kept | not stated | the best on the test classes, every 1,000 episodes | the best on the val classes, unless the recipe has `protocol: paper` |
| pixels | not stated | [0, 1], not normalised | by the variant (`pixels: normalized`, `unit`) |
| BatchNorm of a ResNet | not stated | frozen until the first test, then trains | statistics frozen, unless the recipe has `freeze_batch_norm: false`; then support and queries are two batches |
| Adam's betas | not stated | 0.5, 0.999 | 0.9, 0.999 (the recipe's `betas`) |
| resizing | not stated | bilinear | the backbone's: bicubic for CLIP |
| first step | not stated | after 15 episodes, then every 16 | every `episodes_per_step` |
"""  # noqa: E501

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import gt
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import pad

from fsar.alignment import frame_similarity, otam
from fsar.backbones import Backbone
from fsar.config import ablation, as_yaml
from fsar.layers.temporal import TemporalTransformer, split_heads
from fsar.methods.base import Method, Traits
from fsar.methods.episode import (
    Encoding,
    Episode,
    Prediction,
    Role,
    Targets,
    mean_over_shots,
    query_cross_entropy,
    text_of_queries,
)
from fsar.shapes import FrameFeatures, Logits, ShotMask
from fsar.text.prompts import class_features, templates

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {
        "ensemble": "sum",
        "motion": "sum",
        "alpha": 1.0,
        "prompt_mean": "frames",
        "consistency": "both",
        "condis": "norm",
        "learned_alpha_mo": False,
        "reduction": "mean",
        "pixels": "normalized",
    },
    "official": {
        "ensemble": "mean",
        "motion": "half-mean",
        "alpha": 0.2,
        "prompt_mean": "frames-and-channels",
        "consistency": "off",
        "condis": "square",
        "learned_alpha_mo": True,
        "reduction": "sum",
        "pixels": "unit",
    },
}
SMOOTHING = 0.5
"""Lambda of OTAM's soft minimum."""
PROMPT, FIRST_FRAME = 0, 1
"""Rows of a fused video: its prompt, then its frames."""

FusedVideo = Float[Tensor, "*clips prompt_and_frame dim"]
PerVideo = Float[Tensor, "episode *videos"]


class ClipSpm(Method):
    """Frames are fused with a class text or a generated prompt; prototypes and queries attend to each other."""

    name = "clip-spm"
    no_motion: ClassVar[str] = "clip-spm:hsmr=false"
    """How to name the method without its motion, for a message."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of CLIP-SPM."""

        variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS
        least: ClassVar[dict[str, float]] = {"gate_slope": 0, "alpha": 0, "consistency_shares": 0}
        above_zero = ("gate_visual", "gate_text")

        variant: Literal["paper", "official"] = "paper"
        """The paper's equations or the public code's; options that are null follow it."""
        hsmr: bool = ablation(True)
        """Hierarchical synergistic motion refinement, a term of the loss (Table 3)."""
        spm: bool = ablation(True)
        """Semantic prototype modulation: fuse frames with class texts and prompts (Table 3)."""
        padm: bool = ablation(True)
        """Prototype-anchor dual modulation (Table 3)."""
        inductive: bool = True
        """Whether each query is alone in PADM; if false, the queries of an episode see each other."""
        templates: str = "clip-spm"
        """Template set of the class texts, its first R (`clip-spm:4`, Fig. 5), or one template with `{}`."""
        ensemble: Literal["sum", "mean"] | None = None
        """How a class's text features are combined over templates."""
        motion: Literal["sum", "half-mean"] | None = None
        """Equation 8: sums, or half the sum of both directions and the mean over time."""
        fusion: Literal["gate-sum-concat", "sum-concat", "concat"] = ablation("gate-sum-concat")
        """How prompt and frames are joined before the transformer (Table 4)."""
        gate_visual: float = 0.5
        """Channels inside the gate of the frames, as a share of the features' channels."""
        gate_text: float = 1.5
        """Channels inside the gate of the prompt, as a share of the features' channels."""
        gate_slope: float = 0.0025
        """Slope of the gates' leaky ReLU below 0."""
        alpha: float | None = None
        """Weight of the gated prompt that is added to the frames."""
        prompt_mean: Literal["frames", "frames-and-channels"] | None = None
        """Input of the prompt generator: the mean frame of a video, or one number."""
        consistency: Literal["both", "support", "query", "off"] | None = None
        """Videos whose prompts the loss pulls towards their class text (Table 5)."""
        consistency_on: Literal["final", "initial", "both"] = ablation("final")
        """Compare prompts and texts after the fusion (`final`), before it, or at both places, added."""
        consistency_shares: tuple[float, float] | None = ablation(None)
        """w_t and w_c of an earlier form of the public code: the queries' weights of prompts and of [prompt; frames].
        The support's are 0.5 - w_t and 1 - w_c, so that w_t is 0 to 0.5 and w_c 0 to 1. None weighs every distance by
        1."""
        condis: Literal["norm", "square"] | None = None
        """ConDis: Euclidean distances summed over videos; or squared ones, mean over support plus mean over queries."""
        learned_alpha_mo: bool | None = None
        """Whether the motion term has a learned factor."""
        reduction: Literal["mean", "sum"] | None = None
        """Mean of the cross-entropy over queries, or the public code's sums."""
        lambda1: float = 1.0
        """Weight of PADM's distance."""
        lambda2: float = 0.5
        """Weight of SPM's distance, with `padm`."""
        lambda3: float = 0.001
        """Weight of the motion term, with `hsmr`."""
        lambda4: float = 0.001
        """Weight of the consistency of prompts, unless `consistency: off`."""
        direction: Literal["both", "query-to-support", "support-to-query"] = "both"
        """Direction of OTAM; `both` adds the two distances."""
        pixels: Literal["normalized", "unit"] | None = None
        """Pixels normalised by the backbone's mean and deviation, or in [0, 1]."""
        cos_eps: float = 0.01
        """Added to the product of norms in the cosines of frames."""
        head_dim: int = 256
        """Channels of each of the transformers' 8 heads."""
        hidden: int = 2048
        """Channels inside the transformers' feed-forward part and the prompt generator."""

        def check(self) -> None:
            """Refuse values out of range, and shares without a term to weigh."""
            templates(self.templates)
            weights = {key: getattr(self, key) for key in ("lambda1", "lambda2", "lambda3", "lambda4")}
            if min(weights.values()) < 0 or weights["lambda1"] + weights["lambda2"] == 0:
                raise ValueError(f"clip-spm got {weights}; expected none below 0, and lambda1 or lambda2 above")
            if self.consistency_shares is not None and any(map(gt, self.consistency_shares, (0.5, 1.0))):
                raise ValueError(
                    f"clip-spm: consistency_shares is {as_yaml(self.consistency_shares)}; expected a first share of at "
                    f"most 0.5 and a second of at most 1, since the support gets the rest"
                )
            if self.consistency_shares is not None and self.consistency not in ("both", "off"):
                raise ValueError(
                    f"clip-spm got consistency_shares {self.consistency_shares} with consistency: {self.consistency}; "
                    f"they weigh queries against support videos, so leave them out, or set consistency: both"
                )

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Each part of Table 3 has its own options; so has each term of the loss."""
            unasked = not self.spm or self.consistency == "off"
            no_prompts, no_motion = unasked or self.lambda4 == 0, not self.hsmr or self.lambda3 == 0
            gates = ("gate_visual", "gate_text", "gate_slope", "alpha")
            return (
                (not self.padm, "padm: false", ("lambda1", "lambda2", "inductive")),
                (not self.spm, "spm: false", ("consistency", "templates", "ensemble", "prompt_mean")),
                (len(templates(self.templates)) == 1, "a single template", ("ensemble",)),
                (unasked, "no consistency of prompts", ("lambda4",)),
                (no_prompts, "no consistency of prompts", ("consistency_on", "consistency_shares")),
                (self.lambda4 == 0, "lambda4: 0", ("consistency",)),
                (not self.hsmr, "hsmr: false", ("lambda3", "motion", "learned_alpha_mo")),
                (self.lambda3 == 0, "lambda3: 0", ("motion", "learned_alpha_mo")),
                (not (self.hsmr or self.spm), "hsmr and spm false", ("fusion", *gates)),
                ("gate" not in self.fusion, f"fusion: {self.fusion}", gates),
                (no_motion and no_prompts, "neither motion nor consistency in the loss", ("condis",)),
            )

    config: Config

    def __init__(self, backbone: Backbone, config: Any):
        super().__init__(backbone, config)
        self.episodes_per_step = 1
        dim = backbone.dim
        if config.hsmr:
            self.motion = MotionFeatures(dim, config.motion == "half-mean", self.no_motion)
        if config.hsmr and config.learned_alpha_mo:
            self.alpha_mo = nn.Parameter(torch.ones(()))
        if config.hsmr or config.spm:
            self.fusion = self.make_fusion(dim)
        if config.spm:
            inside, out = nn.Linear(dim, config.hidden), nn.Linear(config.hidden, dim)
            self.generator = nn.Sequential(inside, nn.GELU(), nn.Dropout(0.05), out, nn.Dropout(0.05))
        if config.padm:
            self.modulation = DualModulation(dim, config)

    def make_fusion(self, dim: int) -> nn.Module:
        """Build what fuses a prompt with frames; row 0 of its output is the prompt."""
        _require_gates(self.config, dim)
        return SemanticFusion(dim, self.config)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """With `spm`, class texts are read; in PADM, queries see each other unless `inductive`."""
        return Traits(
            trains=("own", "visual"),
            readouts=("inductive", "direction", "lambda1", "lambda2"),
            reads_text=config.spm,
            support_reads_text=config.spm,
            transductive=config.padm and not config.inductive,
            pixels=config.pixels or "normalized",
            episodes_per_match=4,  # of 5-way 5-shot, 5 queries: 0.2 GB
        )

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim] over all templates (eq. 2), also in training."""
        mean = class_features(self.backbone, labels, self.config.templates)
        return mean * len(templates(self.config.templates)) if self.config.ensemble == "sum" else mean

    # ----------------------------------------------------------------------- one video

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Compute everything that depends on one video alone (eq. 11).

        Returns:
            The frames; for a support video also `fused` [*clips, prompt_and_frame, dim], the frames fused with the
            class text.

        Raises:
            ValueError: a support video has no class text.
        """
        frames = encoding["frames"]
        enhanced = {"frames": frames}
        if self.config.spm and role == "support":
            if text is None:
                raise ValueError(f"{self.name} reads the class text of a support video; give encode its text feature")
            enhanced["fused"] = self.fusion(text, frames)
        return enhanced

    def motion_distance(self, frames: FrameFeatures) -> Float[Tensor, "*clips"]:
        """Distance between the refined shallow motion of a video and the motion of its refined frames (eq. 3, 7)."""
        refined = self.fusion(self.motion(frames), frames)
        return self._condis(refined[..., PROMPT, :], self.motion(refined[..., FIRST_FRAME:, :]))

    def _condis(self, x: Float[Tensor, "*clips dim"], y: Float[Tensor, "*clips dim"]) -> Float[Tensor, "*clips"]:
        """ConDis of two vectors per video."""
        return (x - y).norm(dim=-1) if self.config.condis == "norm" else (x - y).square().sum(-1)

    # ----------------------------------------------------------------------- match

    def prompt(
        self, text: Float[Tensor, "episode way dim"], frames: Float[Tensor, "episode *videos frame dim"]
    ) -> Float[Tensor, "episode *videos dim"]:
        """Generate a prompt that replaces the class text of a video (eq. 13).

        Args:
            text: of the support's classes.
            frames: of the videos.
        """
        mean_text = text.mean(1).reshape(-1, *[1] * (frames.ndim - 3), text.shape[-1])
        seen = frames.mean(-2) if self.config.prompt_mean == "frames" else frames.mean((-2, -1)).unsqueeze(-1)
        return self.generator(mean_text * seen)

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the weighted distances (eq. 6).

        Named, [episode, query, way]: `spm_distances` (of raw frames where SPM is off), `padm_distances`, and of these
        `anchor_distances`. For the loss: `query_prompt` [episode, query, dim], `query_fused` [episode, query,
        prompt_and_frame, dim].
        """
        support, query, named = episode.support["frames"], episode.query["frames"], {}
        if self.config.spm:
            named["query_prompt"] = self.prompt(episode.require_text(), query)
            named["query_fused"] = self.fusion(named["query_prompt"], query)
            support, query = (part[..., FIRST_FRAME:, :] for part in (episode.support["fused"], named["query_fused"]))
        distance = named["spm_distances"] = self._distance(query, mean_over_shots(support, episode.shot_mask))
        if self.config.padm:
            named |= self._padm_distances(support, query, episode.shot_mask)
            distance = self.config.lambda1 * named["padm_distances"] + self.config.lambda2 * distance
        return Prediction(-distance, named)

    def _padm_distances(
        self,
        support: Float[Tensor, "episode way shot frame dim"],
        query: Float[Tensor, "episode query frame dim"],
        mask: ShotMask,
    ) -> dict[str, Logits]:
        """Equation 5: distance of queries and class means, plus distance of anchor and prototypes."""
        groups = (-1, 1) if self.config.inductive else (1, -1)  # a group: queries that see each other
        seen = self.modulation(support, query.unflatten(1, groups), mask)
        means = mean_over_shots(seen.support, mask).transpose(1, 2)  # episode group way frame dim
        of_queries = self._distance(seen.query, means)
        of_anchor = self._distance(seen.anchor, seen.prototypes).expand_as(of_queries)
        named = {"padm_distances": of_queries + of_anchor, "anchor_distances": of_anchor}
        return {name: distance.flatten(1, 2) for name, distance in named.items()}

    def _distance(
        self, query: Float[Tensor, "*episode query frame dim"], prototypes: Float[Tensor, "*episode way frame dim"]
    ) -> Float[Tensor, "*episode query way"]:
        similarity = frame_similarity(query, prototypes, self.config.cos_eps)
        return otam(1 - similarity, SMOOTHING, self.config.direction)

    # ----------------------------------------------------------------------- loss

    def consistency_distances(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, PerVideo]:
        """Equation 12: `support_prompts` and `query_prompts`, d^tp; `support_frames` and `query_frames`, d^v.

        Only here, the class text of a query is read.

        Args:
            episode: the input of `match`.
            prediction: the output of `match`.
            targets: the ways of the queries.
        """
        text = episode.require_text()
        found: dict[str, Tensor] = {}
        if self.config.consistency in ("both", "support"):
            frames, by_text = episode.support["frames"], episode.support["fused"]
            own, prompt = text[:, :, None].expand_as(frames[..., 0, :]), self.prompt(text, frames)
            found |= self._compared("support", own, prompt, by_text, self.fusion(prompt, frames))
        if self.config.consistency in ("both", "query"):
            own = text_of_queries(episode, targets)
            prompt, by_prompt = prediction.named["query_prompt"], prediction.named["query_fused"]
            found |= self._compared("query", own, prompt, self.fusion(own, episode.query["frames"]), by_prompt)
        return found

    def _compared(self, role: Role, own: Tensor, prompt: Tensor, by_text: Tensor, by_prompt: Tensor) -> Encoding:
        """Compare the class text of a video with its prompt [*videos, dim], and the video fused with each."""
        initial = self._condis(own, prompt)
        final = self._condis(by_text[..., PROMPT, :], by_prompt[..., PROMPT, :])
        prompts = {"initial": initial, "final": final, "both": initial + final}[self.config.consistency_on]
        return {f"{role}_prompts": prompts, f"{role}_frames": self._condis(by_text.flatten(-2), by_prompt.flatten(-2))}

    def _over_videos(self, distances: Mapping[str, PerVideo], mask: ShotMask) -> Float[Tensor, ""]:
        """Add the sums over support and query videos (for squares: the means); mean over episodes."""
        total = torch.zeros(len(mask), device=mask.device)  # episode
        for name, distance in distances.items():
            present = mask if name.startswith("support") else torch.ones_like(distance, dtype=torch.bool)
            own = distance.where(present, 0.0).flatten(1).sum(1)
            own = own / present.flatten(1).sum(1) if self.config.condis == "square" else own
            total = total + self._share(name) * own
        return total.mean()

    def _share(self, distance: str) -> float:
        """Return the weight of a distance, by its name."""
        if self.config.consistency_shares is None or distance.endswith("motion"):
            return 1.0
        prompts, frames = self.config.consistency_shares
        shares = {"query_prompts": prompts, "support_prompts": 0.5 - prompts}
        return (shares | {"query_frames": frames, "support_frames": 1 - frames})[distance]

    def begin_training(self, class_texts: Sequence[str], episodes_per_step: int = 1) -> None:
        """Remember the number of episodes per step; the public code's sums depend on it."""
        self.episodes_per_step = episodes_per_step

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: cross-entropy; `motion` and `consistency`: weighted, over support and query videos (eq. 15)."""
        mask = episode.shot_mask
        terms = {"match": query_cross_entropy(prediction.logits, targets)}
        if self.config.hsmr:
            encodings = {"support": episode.support, "query": episode.query}
            motion = {f"{role}_motion": self.motion_distance(part["frames"]) for role, part in encodings.items()}
            factor = self.alpha_mo if self.config.learned_alpha_mo else 1.0
            terms["motion"] = self.config.lambda3 * factor * self._over_videos(motion, mask)
        if self.config.spm and self.config.consistency != "off":
            consistency = self.consistency_distances(episode, prediction, targets)
            terms["consistency"] = self.config.lambda4 * self._over_videos(consistency, mask)
        if self.config.reduction == "sum":
            queries = targets.query_way.shape[1]
            terms = {n: term * (queries if n == "match" else self.episodes_per_step) for n, term in terms.items()}
        return terms


# --------------------------------------------------------------------------- parts


class MotionFeatures(nn.Module):
    """Compute one motion feature per video, from the changes between neighbouring frames (eq. 8).

    Args:
        dim: channels of a frame feature.
        half_mean: half the sum of both directions and the mean over time, as the public code; else sums.
        without: how to name the method without its motion, for a message.
    """

    def __init__(self, dim: int, half_mean: bool, without: str):
        super().__init__()
        self.without = without
        self.convolutions = nn.Sequential(*(nn.Conv1d(dim, dim, kernel_size=3, padding=1) for _ in range(2)))
        self.half_mean = half_mean

    def forward(self, frames: FrameFeatures) -> Float[Tensor, "*clips dim"]:
        """Add the differences over all neighbours.

        Raises:
            ValueError: a video has one frame.
        """
        both = self.differences(frames)
        return both.mean(-2) / 2 if self.half_mean else both.sum(-2)

    def differences(self, frames: FrameFeatures) -> Float[Tensor, "*clips frame_pair dim"]:
        """Add the differences forwards and backwards, for every pair of neighbours.

        Raises:
            ValueError: a video has one frame.
        """
        if frames.shape[-2] < 2:
            raise ValueError(
                f"{self.without.partition(':')[0]} needs motion between at least 2 frames and got "
                f"{frames.shape[-2]} per video; sample more frames, or leave the motion out: {self.without}"
            )
        channels = frames.reshape(-1, *frames.shape[-2:]).transpose(1, 2)
        context = self.convolutions(channels).transpose(1, 2).reshape(frames.shape)
        forwards = context[..., 1:, :] - frames[..., :-1, :]
        backwards = context[..., :-1, :] - frames[..., 1:, :]
        return forwards + backwards


class SemanticFusion(nn.Module):
    """A prompt and frames are gated, added and concatenated; then they attend to each other (eq. 9).

    Args:
        dim: channels of a frame feature.
        config: how prompt and frames are joined.
    """

    def __init__(self, dim: int, config: ClipSpm.Config):
        super().__init__()
        self.transformer = TemporalTransformer(dim, head_dim=config.head_dim, hidden=config.hidden)
        self.fusion, self.alpha = config.fusion, config.alpha
        if config.fusion == "gate-sum-concat":
            self.visual_gate = gate(dim, config.gate_visual, config.gate_slope)
            self.prompt_gate = gate(dim, config.gate_text, config.gate_slope)

    def forward(self, prompt: Float[Tensor, "*clips dim"], frames: FrameFeatures) -> FusedVideo:
        """Fuse prompt and frames; row 0 is the prompt.

        Args:
            prompt: a prompt, a class text, or a motion feature.
            frames: of the same videos.
        """
        added = prompt
        if self.fusion == "gate-sum-concat":
            frames, added = self.visual_gate(frames) * frames, self.alpha * self.prompt_gate(prompt) * prompt
        if self.fusion != "concat":
            frames = frames + added.unsqueeze(-2)
        return self.transformer(torch.cat([prompt.unsqueeze(-2), frames], -2))


def gate(dim: int, share: float, slope: float) -> nn.Sequential:
    """Psi: multiplies each channel by a factor in (0, 1).

    Args:
        dim: channels.
        share: channels inside, as a share of `dim`.
        slope: of the leaky ReLU below 0.
    """
    inside = int(dim * share)
    return nn.Sequential(nn.Linear(dim, inside), nn.LeakyReLU(slope), nn.Linear(inside, dim), nn.Sigmoid())


@dataclass(frozen=True)
class Modulated:
    """Output of PADM for an episode; the queries of a `group` see each other."""

    support: Float[Tensor, "episode way shot group frame dim"]
    query: Float[Tensor, "episode group query frame dim"]
    prototypes: Float[Tensor, "episode group way frame dim"]
    anchor: Float[Tensor, "episode group 1 frame dim"]


class DualModulation(nn.Module):
    """Prototypes attend with support videos, and an anchor with queries, frame by frame (eq. 14).

    All four are weighted means of the episode's videos, and up to its feed-forward part the transformer's maps are
    linear. So we project each video once and combine the results, not each query's prototypes.

    Args:
        dim: channels of a frame feature.
        config: its `head_dim` and `hidden` are used.
    """

    def __init__(self, dim: int, config: Any):
        super().__init__()
        self.transformer = TemporalTransformer(dim, head_dim=config.head_dim, hidden=config.hidden)

    def forward(
        self,
        support: Float[Tensor, "episode way shot frame dim"],
        query: Float[Tensor, "episode group query frame dim"],
        mask: ShotMask,
    ) -> Modulated:
        """Modulate all videos, for every group of queries, since the prototypes contain them.

        Args:
            support: frame features.
            query: frame features; the queries of a group see each other.
            mask: false for missing shots; nothing attends to them.
        """
        (way, shot), (groups, asking) = mask.shape[1:], query.shape[1:3]
        videos = torch.cat([support.flatten(1, 2), query.flatten(1, 2)], 1)
        itself = torch.eye(videos.shape[1], dtype=videos.dtype, device=videos.device).expand(len(mask), -1, -1)
        own, ask = itself[:, : way * shot], itself[:, way * shot :].unflatten(1, (groups, asking))
        of_class = (own.unflatten(1, (way, shot)) * mask[..., None]).sum(2)  # episode way video
        prototypes = of_class[:, None] + ask.sum(2, keepdim=True)  # episode group way video
        prototypes = prototypes / prototypes.sum(-1, keepdim=True)
        anchor = prototypes.mean(2, keepdim=True)
        weights = torch.cat([prototypes, own[:, None].expand(-1, groups, -1, -1), anchor, ask], 2)

        present = pad(mask.flatten(1), (way, 1 + asking), value=True)  # episode row
        asks = torch.arange(present.shape[1], device=mask.device) >= way + way * shot
        rows = self._transform(weights, videos, present[:, None] & (asks == asks[:, None]))
        of_prototypes, of_support, of_anchor, of_query = rows.split([way, way * shot, 1, asking], 2)
        of_support = rearrange(of_support, "episode group (way shot) ... -> episode way shot group ...", way=way)
        return Modulated(of_support, of_query, of_prototypes, of_anchor)

    def _transform(
        self,
        weights: Float[Tensor, "episode group row video"],
        videos: Float[Tensor, "episode video frame dim"],
        sees: Bool[Tensor, "episode row row"],
    ) -> Float[Tensor, "episode group row frame dim"]:
        """Run `transformer` on the rows of every group and frame, without projecting each row.

        A row is a weighted sum of videos, row = sum_v w_v x_v. With the deviation d(.), and weight g and bias b of LN:

            LN(row) = g (row - mean row) / d(row) + b                  where row - mean row = sum_v w_v (x_v - mean x_v)
                    = sum_v [w_v d(x_v) / d(row)] [LN(x_v) - b] + b
                    = sum_p share_p part_p                             over the parts LN(x_v) - b of all videos, and b
            query of row r = W_q LN(r) = sum_p share_rp W_q part_p     and so for keys and values
            score of r, s  = sum_pp' share_rp (W_q part_p . W_k part_p') share_sp'
            output of r    = sum_s attention_rs sum_p share_sp W_o W_v part_p

        So only the parts are projected, once per episode. `test_modulation_is_the_transformer_on_every_row` checks that
        the result equals the transformer on every row.
        """
        transformer, norm, out = self.transformer, self.transformer.norm, self.transformer.to_out[0]
        assert isinstance(norm, nn.LayerNorm) and isinstance(out, nn.Linear)

        def deviation(x: Tensor) -> Tensor:
            return (x.var(-1, correction=0) + norm.eps).sqrt()

        rows = torch.einsum("egrv,evfd->egfrd", weights, videos)
        shares = weights[:, :, None] * deviation(videos).mT[:, None, :, None] / deviation(rows)[..., None]
        shares = pad(shares, (0, 1), value=1.0)[:, :, :, None]  # episode group frame 1 row part
        normed = (norm(videos) - norm.bias).transpose(1, 2)
        parts = torch.cat([normed, norm.bias.expand_as(normed[:, :, :1])], 2)  # episode frame part dim
        query, key, value = (
            split_heads(layer(parts), transformer.heads)
            for layer in (transformer.to_query, transformer.to_key, transformer.to_value)
        )
        scores = (query @ key.mT / key.shape[-1] ** 0.5)[:, None]  # episode 1 frame head part part
        values = torch.einsum("efhpc,dhc->efhpd", value, out.weight.unflatten(1, (transformer.heads, -1)))
        attention = (shares @ scores @ shares.mT).masked_fill(~sees[:, None, None, None], -torch.inf).softmax(-1)
        mixed = torch.einsum("egfhrp,efhpd->egfrd", attention @ shares, values) + out.bias
        mixed = transformer.to_out[1](mixed) + rows
        return (mixed + transformer.feed_forward(mixed)).transpose(2, 3)


def _require_gates(config: ClipSpm.Config, dim: int) -> None:
    """Refuse gates without inner channels."""
    if int(dim * min(config.gate_visual, config.gate_text)) < 1:
        raise ValueError(
            f"clip-spm got gate_visual {config.gate_visual} and gate_text {config.gate_text}; expected shares of at "
            f"least 1/{dim} of the features' channels"
        )
