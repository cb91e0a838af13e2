"""CLIP-MEI: motion as a prompt, class texts as prompts, and prototypes that attend to their videos.

Deng et al., "CLIP-MEI: Exploit more effective information for few-shot action recognition", Knowledge-Based Systems,
2025. It is the parent of CLIP-SPM (`clip_spm.py`), which adds gates; the steps that both share are there. f are a
video's T frames, t the mean class text:

    m(f) = mean over t of ( (Phi(f)[t+1] - f[t]) + (Phi(f)[t] - f[t+1]) ) / 2
    SF(p, f) = Transformer([ p ; f + 0.1 p ])
    MIC  p', f' = SF(m(f), f);  d_mic = mean over videos of | m(f') - p' |^2, for support plus for queries
    QSA  prompt(f) = FFN( t x mean over frames and channels of f );  S = SF(own text, f), Q = SF(prompt, f)
         d_qsa = OTAM(mean over shots of S, Q)
    TFE  P_c = mean of S of class c and Q;  A = mean of P_c;  P, S = Transformer([P; S]);  A, Q = Transformer([A; Q])
         d_tfe = OTAM(mean over shots of S, Q) + OTAM(P, A)
    logits = -(d_tfe + 0.5 d_qsa)
    c = mean over queries of | SF(own text, f) - SF(prompt, f) |^2, over prompt and frames
    x = half of ( mean | own text - prompt |^2 + mean | their prompts after SF |^2 )
    loss = CE + 0.001 (c + x + d_mic)

| what | function |
|---|---|
| m, MIC | `fsar.methods.clip_spm.MotionFeatures`, `ClipSpm.motion_distance` |
| SF | `PromptFusion` |
| QSA | `ClipSpm.enhance`, `ClipSpm.prompt`, `ClipSpm.match` |
| TFE | `fsar.methods.clip_spm.DualModulation` |
| c, x, loss | `ClipSpm.consistency_distances`, `ClipSpm.loss` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| t | "label semantics of the support set" | mean of the queries' true texts, in the test, too: labels of queries reach the scores | mean of the support classes'; all are the same where classes are balanced |
| queries in TFE | - | all queries of the episode together | each alone with the support: `inductive: true` (default); the recipes have `false` |
| input of the prompt | - | one number, the mean over frames and channels | the code's (`prompt_mean: frames-and-channels`; `frames`) |
| cross-entropy | - | sum / 16, beside whole other terms, in each of a step's 16 episodes | `reduction: mean` (default), `sum` |
| factor on d_mic | - | a learned number, 1 at first | 1 (`learned_alpha: false`, `true`) |
| a parameter `scale` | - | read by nothing | none |
| Phi, FFN, Transformer, OTAM | - | as CLIP-SPM's code | as `clip_spm.py` |
| pixels | - | [0, 1], not normalised | `pixels: normalized` (default), `unit` |
| BatchNorm of a ResNet | - | frozen until the first test, then trains | statistics frozen |
| Adam's betas | - | 0.5, 0.999 | 0.9, 0.999 (the recipe's `betas`) |
| weight decay of the factor on d_mic | - | as all else | none, as of any single number |
| precision | - | float32; bf16 on SSv2-Full | float32, unless the recipe has `precision: bf16` |
| class words, short videos, flips, resizing, first step | - | as CLIP-SPM's code | as `clip_spm.py` |
| state that is kept | - | the best on the test classes, every 1,000 episodes | the best on the val classes, unless the recipe has `protocol: paper` |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fsar.config import ablation
from fsar.layers.temporal import TemporalTransformer
from fsar.methods.base import Method, Traits
from fsar.methods.clip_spm import ClipSpm, FusedVideo
from fsar.methods.episode import Episode, Prediction
from fsar.shapes import FrameFeatures
from fsar.text.prompts import templates

OWN_NAMES = {"spm_distances": "qsa_distances", "padm_distances": "tfe_distances"}
"""What `ClipSpm.match` names -> the name of the same part here."""

SHARE = 0.1
"""Share of a prompt that is added to every frame."""


class PromptFusion(nn.Module):
    """A prompt joins the frames as one more row and is added to each of them; then all attend to each other.

    Args:
        dim: channels of a frame feature.
        head_dim: channels of each of the transformer's 8 heads; None is dim / 8.
        hidden: channels inside the transformer's feed-forward part.
    """

    def __init__(self, dim: int, head_dim: int | None, hidden: int):
        super().__init__()
        self.transformer = TemporalTransformer(dim, head_dim=head_dim, hidden=hidden)

    def forward(self, prompt: Float[Tensor, "*clips dim"], frames: FrameFeatures) -> FusedVideo:
        """Fuse prompt and frames; row 0 is the prompt.

        Args:
            prompt: a prompt, a class text, or a motion feature.
            frames: of the same videos.
        """
        prompt = prompt.unsqueeze(-2)
        return self.transformer(torch.cat([prompt, frames + SHARE * prompt], -2))


class ClipMei(ClipSpm):
    """Motion and class texts are prompts of the frames; prototypes and queries attend to each other."""

    name = "clip-mei"
    no_motion: ClassVar[str] = "clip-mei:mic=false"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of CLIP-MEI."""

        least: ClassVar[dict[str, float]] = {"weight": 0}

        mic: bool = ablation(True)
        """Motion information compensation, a term of the loss."""
        qsa: bool = ablation(True)
        """Query-specific semantic augmentation: fuse frames with class texts and prompts."""
        tfe: bool = ablation(True)
        """Task-based feature enhancement: prototypes attend to support videos, their mean to queries."""
        inductive: bool = True
        """Whether each query is alone in TFE; if false, the queries of an episode see each other."""
        templates: str = "a photo of {}"
        """Template of the class texts, or a template set."""
        prompt_mean: Literal["frames", "frames-and-channels"] = "frames-and-channels"
        """Input of the prompt generator: the mean frame of a video, or one number."""
        learned_alpha: bool = False
        """Whether the motion term has a learned factor, as in the public code."""
        weight: float = 0.001
        """Weight of the motion term and of the consistency in the loss."""
        reduction: Literal["mean", "sum"] = "mean"
        """Mean of the cross-entropy over queries, or the public code's sums."""
        direction: Literal["both", "query-to-support", "support-to-query"] = "both"
        """Direction of OTAM; `both` adds the two distances."""
        pixels: Literal["normalized", "unit"] = "normalized"
        """Pixels normalised by the backbone's mean and deviation, or in [0, 1]."""
        cos_eps: float = 0.01
        """Added to the product of norms in the cosines of frames."""
        head_dim: int = 256
        """Channels of each of the transformers' 8 heads."""
        hidden: int = 2048
        """Channels inside the transformers' feed-forward part and the prompt generator."""

        def check(self) -> None:
            """Refuse unknown templates."""
            templates(self.templates)

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Each part has its own options; so has the loss."""
            silent = self.weight == 0
            return (
                (not self.tfe, "tfe: false", ("inductive",)),
                (not self.qsa, "qsa: false", ("templates", "prompt_mean")),
                (not self.mic, "mic: false", ("learned_alpha",)),
                (silent, "weight: 0", ("learned_alpha", "mic")),
                (not (self.mic or self.qsa), "mic and qsa false", ("weight",)),
            )

        # CLIP-SPM's words for the options above, and what CLIP-MEI leaves no choice about
        hsmr = property(lambda self: self.mic and self.weight > 0)
        spm = property(lambda self: self.qsa)
        padm = property(lambda self: self.tfe)
        learned_alpha_mo = property(lambda self: self.learned_alpha)
        lambda3 = lambda4 = property(lambda self: self.weight)
        consistency = property(lambda self: "query" if self.weight else "off")
        lambda1: ClassVar[float] = 1.0
        lambda2: ClassVar[float] = 0.5
        ensemble: ClassVar[str] = "mean"
        motion: ClassVar[str] = "half-mean"
        condis: ClassVar[str] = "square"
        consistency_on: ClassVar[str] = "both"
        consistency_shares: ClassVar[tuple[float, float]] = (0.5, 1.0)

    config: Config  # type: ignore[assignment]

    def make_fusion(self, dim: int) -> nn.Module:
        """Build what fuses a prompt with frames: no gates, a tenth of the prompt on every frame."""
        return PromptFusion(dim, self.config.head_dim, self.config.hidden)

    def match(self, episode: Episode) -> Prediction:
        """As CLIP-SPM, whose `spm_distances` and `padm_distances` are called `qsa_distances` and `tfe_distances`."""
        prediction = super().match(episode)
        return replace(prediction, named={OWN_NAMES.get(name, name): part for name, part in prediction.named.items()})

    @classmethod
    def traits_of(cls, config: Any) -> Traits:
        """With `qsa`, class texts are read; in TFE, queries see each other unless `inductive`."""
        return Traits(
            trains=("own", "visual"),
            readouts=("inductive", "direction"),
            reads_text=config.qsa,
            support_reads_text=config.qsa,
            transductive=config.tfe and not config.inductive,
            independent_ways=not (config.qsa or config.tfe),
            pixels=config.pixels,
            episodes_per_match=4,  # as CLIP-SPM
        )
