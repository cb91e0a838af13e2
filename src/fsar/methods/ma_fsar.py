"""MA-FSAR: fine-grained multimodal adaptation of CLIP, and prototypes guided by the class text.

Long: adapters inside the encoder and the text-guided prototypes are one paper.

Xing et al., "MA-FSAR: Multimodal adaptation of CLIP for few-shot action recognition", 2025. There is no
public code.

| equation | function |
|---|---|
| tokens with place (and time), eq. 1 | `fsar.layers.adapters.embed_frames` |
| global temporal adaptation (GTA), eq. 4 | `AdaptedBlock._global_temporal` |
| text token, eq. 6 | `MaFsarEncoder._text_tokens` |
| local spatiotemporal (query) and multimodal (support) adaptation, eq. 5, 7; Select | `AdaptedBlock._local` |
| joint adaptation (JA), eq. 8 | `AdaptedBlock.forward` |
| text-guided prototype construction (TPCM), eq. 9-12 | `MaFsar._prototype`, `layers.temporal.TemporalTransformer` |
| distance, eq. 13 | `MaFsar.metric` in `MaFsar.match` |
| cosines with the class texts, eq. 14-15 | `fsar.alignment.video_text_similarity` |
| Kullback-Leibler losses (ActionCLIP), eq. 16 | `text_divergence`, `MaFsar.loss` |
| mixed probabilities, eq. 17 | `MaFsar.match` |

Its tables are switches: 3 (`fgma`, `prototype: none`), 4 (`local`, `gta`, `ja`; full fine-tuning is `fgma: false`
with `visual` trained), 5 (`local: lsta`), 6 (`prototype`), 7 (`metric`; its unimodal rows are the methods `otam`, `trx`
and `bi-mhm` with `visual` trained), 9 (`templates`), 11 (`alpha: 1`), 12 (`joint_scale`), 13 (`alpha`).

Deviations:
| point | paper | ours (switch) |
|---|---|---|
| LayerNorm on q, k, v in TPCM | not in eq. 11 | yes, as the CLIP-FSAR lineage (`tpcm_norm`) |
| temporal embedding | not in eq. 1; without it the encoder is blind to the frames' order | with GTA, zero at first (`temporal_embedding`) |
| adapters per GTA, FC_text | one, shared; Table 4: more| the text's (`gta_pre_adapter`; `fc_text_per_layer`: 18.54 M)|
| inner skip of the adapters | Fig. 3a has one, removed in GTA | LMA yes; GTA and JA no, as AIM (`ja_skip`) |
| several shots | silent | mean before TPCM (`merge`); jointly with TRX; L_S2T is of class means, N x N |
| adapters' initial values and activation | "same as AIM" | second map zero, GELU |
| TPCM's heads, hidden channels, dropouts | silent | 8; 2048 (`hidden`); 0.2, 0.05: CLIP-FSAR lineage |
| OTAM | silent | both directions, smoothing 0.5, per prototype: CLIP-FSAR lineage |
| templates in training | one per video | one per class and episode |
| scale of the cosines | silent | CLIP's own, frozen: 100 in the released weights |
| KL target, direction and reduction | "inspired by ActionCLIP" | softmax of 10 x one-hot; video to text only; mean over rows |
| alpha | 0.75 (HMDB51, UCF101, Kinetics), 0.25 (SSv2) | 0.5 on other data |
| weight decay | silent | L2 5e-5, without a source |
| rates, milestones, episodes of a step | silent | 2e-4 for what is added, 1e-5 (SSv2: 5e-5) for RN50; 60 and 80 %; 16 |
| queries per class | silent | 1 on a ViT, 5 on RN50; 1 in the test |
| BatchNorm of RN50 | silent | moves in the recipes' line for RN50, as in CLIP-FSAR's code |
| weights of Table 7's ImageNet ViT | silent | timm's, which have seen ImageNet-21K |
| eps in cosines | none | 0.01 in OTAM alone: CLIP-FSAR lineage |
| flips | everywhere | not where names tell left from right |
| class words | class names | lower case, no underscores, no brackets (`fsar.text.words.class_text`) |
| Table 4's row without GTA | "it cannot perform temporal modelling" | has no temporal embedding |
| state that is kept | silent | the best on the val classes |
"""  # noqa: E501

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from fsar.alignment import video_text_similarity
from fsar.backbones import Backbone
from fsar.backbones.base import fingerprint_of
from fsar.config import ablation
from fsar.layers.adapters import (
    Adapter,
    attend,
    embed_frames,
    feed_forward,
    read_out,
    require_bottleneck,
    run_block,
    temporal_embedding,
    vision_transformer,
    width_of,
)
from fsar.layers.temporal import TemporalTransformer, with_text
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, FrameEncoder
from fsar.methods.episode import Encoding, Episode, Prediction, Role, Targets, mean_over_shots, query_cross_entropy
from fsar.methods.metric import make_metric, metric_episodes
from fsar.shapes import Clips, FrameFeatures, ShotMask, Tokens
from fsar.text.prompts import class_features, templates

TARGET_SCALE = 10.0
"""Sharpness of ActionCLIP's targets: softmax of this factor times the one-hot label."""


class MaFsar(Method):
    """Adapters bring time and the support's class text into CLIP; class texts guide the prototypes."""

    name = "ma-fsar"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of MA-FSAR."""

        least: ClassVar[dict[str, float]] = {"joint_scale": 0}

        frames: int = 8
        """T, frames per video; the temporal embedding has as many rows."""
        alpha: float = 0.5
        """Share of the text branch in loss and prediction (eq. 16-17)."""
        readout: Literal["mix", "visual", "text"] = "mix"
        """Source of the logits: both branches (eq. 17), the visual branch, or the text branch."""
        text: bool = True
        """Read class names; false is the unimodal model: no text in tokens, in TPCM or in the prediction."""
        templates: str = "ma-fsar"
        """Template set of the class texts; training draws one template per class and episode, evaluation takes their
        mean."""
        metric: Literal["otam", "bi-mhm", "trx", "protonet", "distance-correlation"] = "otam"
        """Metric of frame features (eq. 13); `distance-correlation` is the match of TS-FSAR."""
        fgma: bool = True
        """Adapt the encoder (FgMA); false leaves CLIP as it is, the only way with a ResNet."""
        gta: bool = ablation(True)
        """Global temporal adaptation (with `fgma`)."""
        local: Literal["lma", "lsta", "none"] = ablation("lma")
        """Local adaptation (with `fgma`): with the class text in support tokens, without text, or no adapter."""
        ja: bool = ablation(True)
        """Joint adaptation beside the MLP (with `fgma`)."""
        joint_scale: float = ablation(0.5)
        """r, factor on the joint adapter's output."""
        ratio: float = 0.25
        """Bottleneck of an adapter as a share of the token's width."""
        temporal_embedding: bool | None = ablation(None)
        """A trainable embedding of the frame's index; None follows `gta`, the attention over frames that reads it."""
        fc_text_per_layer: bool = ablation(False)
        """One map FC_text per block instead of a shared one."""
        gta_pre_adapter: bool = ablation(False)
        """Another adapter before GTA's attention, as AIM has on SSv2."""
        ja_skip: bool = ablation(False)
        """An inner skip in the joint adapter."""
        prototype: Literal["tpcm", "unimodal-transformer", "multimodal-transformer", "none"] = ablation("tpcm")
        """How support and query features are enhanced before the metric."""
        tpcm_norm: bool = ablation(True)
        """LayerNorm on the queries, keys and values of TPCM."""
        hidden: int = 2048
        """Channels inside TPCM's feed-forward part."""
        merge: Literal["before", "after"] = "before"
        """Average a class's shots before or after they are enhanced."""

        @property
        def reads_token(self) -> bool:
            """Whether support tokens read the class text (LMA)."""
            return self.text and self.fgma and self.local == "lma"

        @property
        def _counts_frames(self) -> bool:
            """Whether a parameter has a size that depends on `frames`."""
            return bool(self.temporal_embedding) or self.metric == "distance-correlation"

        @property
        def merges_first(self) -> bool:
            """Whether `match` enhances the mean over the shots of a class, instead of each support video."""
            return self.merge == "before" and self.metric != "trx" and self.prototype != "none"

        @property
        def support_reads_text(self) -> bool:
            """Whether a support video is encoded with its class text: in its tokens (LMA) or in TPCM."""
            return self.reads_token or (self.text and self.prototype in _READ_TEXT and not self.merges_first)

        def followed(self) -> Mapping[str, Any]:
            """Without attention over frames, the default has no temporal embedding."""
            return {"temporal_embedding": self.fgma and self.gta}

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Each adaptation has its own options; so have the texts, and the enhancement of features."""
            blind, merged = not self.text, f"metric: {self.metric}, which compares every video"
            of_fgma = ("gta", "local", "ja", "joint_scale", "ratio", "temporal_embedding")
            return (
                (not self.fgma, "fgma: false", (*of_fgma, "fc_text_per_layer", "gta_pre_adapter", "ja_skip")),
                (not self._counts_frames, "no temporal embedding", ("frames",)),
                (not self.gta, "gta: false", ("gta_pre_adapter",)),
                (self.local != "lma", f"local: {self.local}", ("fc_text_per_layer",)),
                (not self.ja, "ja: false", ("joint_scale", "ja_skip")),
                (self.joint_scale == 0, "joint_scale: 0", ("ja_skip",)),
                (blind, "text: false", ("alpha", "templates", "fc_text_per_layer")),
                (blind and self.readout == "visual", "text: false", ("readout",)),
                (blind and self.local == "lsta", "text: false", ("local",)),
                (blind and self.prototype != "none", "text: false", ("prototype",)),
                (self.prototype == "none", "prototype: none", ("tpcm_norm", "hidden", "merge")),
                (self.metric == "trx", merged, ("merge",)),
            )

        def check(self) -> None:
            """Refuse values out of range, and a read-out without its branch."""
            templates(self.templates)
            if not 0 <= self.alpha <= 1:
                raise ValueError(f"ma-fsar got alpha {self.alpha}; expected a share in [0, 1]")
            if self.frames < 1 or self.ratio <= 0 or self.hidden < 1:
                raise ValueError(
                    f"ma-fsar got frames {self.frames}, ratio {self.ratio} and hidden {self.hidden}; expected at least "
                    f"1 frame, a ratio above 0 and at least 1 hidden channel"
                )
            if not self.text and self.readout == "text":
                raise ValueError(
                    "ma-fsar got text: false and readout: text; a model that reads no text has no text branch"
                )

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        if config.fgma:
            visual = vision_transformer(backbone, "ma-fsar (with fgma: true; false leaves the encoder as it is)")
            width, layers = width_of(visual), visual.transformer.layers
            require_bottleneck(self.name, config.ratio, width)
            self.blocks = nn.ModuleList(AdaptedBlock(width, config) for _ in range(layers))
            if config.temporal_embedding:
                self.temporal = temporal_embedding(visual, config.frames)
            if config.reads_token:
                self.fc_text = nn.ModuleList(
                    nn.Linear(backbone.dim, width) for _ in range(layers if config.fc_text_per_layer else 1)
                )
        if config.prototype != "none":
            self.tpcm = TemporalTransformer(backbone.dim, hidden=config.hidden, norm=config.tpcm_norm)
        self.metric = make_metric(config.metric, backbone.dim, config.frames)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """The added parameters train; a support video reads its text in the tokens (LMA) or in TPCM."""
        return Traits(
            trains=("own",),
            readouts=("alpha", "readout", "merge"),
            reads_text=config.text,
            reads_text_alone=config.readout == "text"
            or (config.text and config.readout == "mix" and config.alpha == 1),
            support_reads_text=config.support_reads_text,
            support_waits=config.merges_first,
            episodes_per_match=min(64, metric_episodes(config.metric)),
        )

    # ----------------------------------------------------------------------- encode

    def encoder(self) -> Encoder:
        """The adapted encoder; without `fgma` the frame features."""
        return MaFsarEncoder(self) if self.config.fgma else super().encoder()

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Add `enhanced` [*clips, frame, dim], by TPCM (eq. 9-12) or an alternative of Table 6.

        Nothing is added if there is no enhancement, or for support videos if `match` enhances their mean.

        Raises:
            ValueError: a support video came without its class text.
        """
        if self.config.prototype == "none" or (role == "support" and self.config.merges_first):
            return encoding
        if role == "support" and self.traits.support_reads_text and text is None:
            raise ValueError(_TEXT_MISSING)
        frames = encoding["frames"]
        return {"frames": frames, "enhanced": self._prototype(frames, text if role == "support" else None)}

    def _prototype(self, frames: FrameFeatures, text: Float[Tensor, "*clips dim"] | None) -> FrameFeatures:
        kind = self.config.prototype
        if kind == "none":
            return frames
        if text is None or kind not in _READ_TEXT:
            return self.tpcm(frames)
        if kind == "multimodal-transformer":  # as CLIP-FSAR: the text is a row of the sequence
            return self.tpcm(with_text(frames, text))[..., :-1, :]
        return self.tpcm(frames + text.unsqueeze(-2), with_text(frames, text))

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim]: the mean over templates or, with `rng`, one random template per class."""
        return class_features(self.backbone, labels, self.config.templates, rng)

    # ----------------------------------------------------------------------- match

    def match(self, episode: Episode) -> Prediction:
        """Logits: log of the mixed probabilities (eq. 17), or the logits of one branch, as `readout` says.

        Named: `visual_logits` (minus the distance) and, if text is read, `text_logits`.
        """
        visual = self.metric(*self._to_compare(episode))
        if not self.config.text:
            return Prediction(visual, {"visual_logits": visual})
        text = self.backbone.logit_scale * video_text_similarity(episode.query["frames"], episode.require_text())
        named = {"visual_logits": visual, "text_logits": text}
        if self.config.readout != "mix":
            return Prediction(named[f"{self.config.readout}_logits"], named)
        shares = visual.new_tensor([self.config.alpha, 1 - self.config.alpha]).log()
        return Prediction(torch.logaddexp(shares[0] + text.log_softmax(-1), shares[1] + visual.log_softmax(-1)), named)

    def _to_compare(self, episode: Episode) -> tuple[Tensor, Tensor, ShotMask]:
        """Return enhanced queries; enhanced prototypes or (`merge: after`, TRX) support videos; their mask."""
        compared = "frames" if self.config.prototype == "none" else "enhanced"
        query, mask = episode.query[compared], episode.shot_mask
        if not self.config.merges_first:
            return query, episode.support[compared], mask
        prototypes = mean_over_shots(episode.support["frames"], mask)  # episode way frame dim
        enhanced = self._prototype(prototypes, episode.text if self.config.text else None)
        return query, enhanced[:, :, None], mask.any(-1, keepdim=True)

    # ----------------------------------------------------------------------- loss

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """Equation 16: alpha / 2 (L_S2T + L_Q2T) + (1 - alpha) L_Q2S; a term of weight 0 is left out."""
        alpha = self.config.alpha if self.config.text else 0.0
        terms = {}
        if alpha < 1:
            terms["query_to_support"] = (1 - alpha) * query_cross_entropy(prediction.named["visual_logits"], targets)
        if alpha > 0:
            support = mean_over_shots(episode.support["frames"], episode.shot_mask)  # episode way frame dim
            own_way = torch.arange(support.shape[1], device=support.device).expand(support.shape[:2])
            logits = self.backbone.logit_scale * video_text_similarity(support, episode.require_text())
            terms["support_to_text"] = alpha / 2 * text_divergence(logits, own_way)
            text_logits = prediction.named["text_logits"]
            terms["query_to_text"] = alpha / 2 * text_divergence(text_logits, targets.query_way)
        return terms


class MaFsarEncoder(FrameEncoder):
    """Frame features of the adapted encoder, `frames` [*clips, frame, dim].

    A support video is read with its own class text [*clips, dim] (LMA), a query without (LSTA).

    Args:
        method: its adapters are used, not copied.
    """

    is_frozen = False

    def __init__(self, method: MaFsar):
        super().__init__(method.backbone)
        self.method = method
        self.support_reads_text = self.roles_differ = method.config.reads_token

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Run CLIP's blocks, each with its adapters.

        Raises:
            ValueError: a support video came without its class text.
        """
        if role == "support" and self.support_reads_text and text is None:
            raise ValueError(_TEXT_MISSING)
        visual, blocks = vision_transformer(self.backbone, self.method.name), self.method.blocks
        tokens = embed_frames(visual, clips, getattr(self.method, "temporal", None))
        text_tokens = self._text_tokens(text if role == "support" else None)
        for block, adapted, text_token in zip(visual.transformer.resblocks, blocks, text_tokens, strict=True):
            tokens = run_block(self.backbone, adapted, block, tokens, text_token)
        return {"frames": read_out(visual, tokens)}

    def _text_tokens(self, text: Tensor | None) -> list[Tensor | None]:
        """The text token of each block (eq. 6), [*clips, channel]; None without LMA."""
        blocks = len(self.method.blocks)
        if text is None or not hasattr(self.method, "fc_text"):
            return [None] * blocks
        mapped: list[Tensor | None] = [fc_text(text) for fc_text in self.method.fc_text]
        return mapped * (blocks // len(mapped))

    def key(self) -> dict[str, Any]:
        """Name the backbone, the added parameters, and the options that change the encoding."""
        own = {name: t for name, t in self.method.state_dict().items() if not name.startswith(_NOT_ENCODING)}
        wiring = {key: value for key, value in self.method.options().items() if key not in _MATCHING}
        return super().key() | {"encoding": "ma-fsar", "own": fingerprint_of(own), **wiring}


_TEXT_MISSING = "ma-fsar reads the class text of a support video; give encode its text feature"
_READ_TEXT = ("tpcm", "multimodal-transformer")
_MATCHING = ("alpha", "readout", "metric", "merge")
"""Options that `encode` does not depend on."""
_NOT_ENCODING = ("backbone.", "metric.", "loss_heads.")
"""Prefixes of parameters that `encode` does not depend on, or that the backbone's hash covers."""


class AdaptedBlock(nn.Module):
    """FgMA's adapters of one block; the frozen block is an argument of `forward`.

    Args:
        width: channels of a token.
        config: which adapters there are.
    """

    def __init__(self, width: int, config: MaFsar.Config):
        super().__init__()
        self.joint_scale = config.joint_scale
        self.temporal_in = Adapter(width, config.ratio, skip=True) if config.gta and config.gta_pre_adapter else None
        self.temporal = Adapter(width, config.ratio) if config.gta else None
        self.local = Adapter(width, config.ratio, skip=True) if config.local != "none" else None
        self.joint = Adapter(width, config.ratio, skip=config.ja_skip) if config.ja else None

    def forward(
        self, block: ResidualAttentionBlock, tokens: Tokens, text: Float[Tensor, "*clips channel"] | None = None
    ) -> Tokens:
        """Run GTA, then LSTA or LMA, Select and JA (Fig. 3c-d); the class token is token 0.

        Args:
            block: of CLIP.
            tokens: of the videos.
            text: the text token of each support video (LMA); None for queries and without LMA.
        """
        extra = []
        if self.temporal is not None:
            extra.append(self._global_temporal(block, tokens[..., 0, :]).unsqueeze(-2))
        if text is not None:
            extra.append(text[..., None, None, :].expand(*tokens.shape[:-2], 1, -1))
        tokens = self._local(block, tokens, extra)
        normed = block.ln_2(tokens)
        adapted = tokens + feed_forward(block, normed)
        return adapted if self.joint is None else adapted + self.joint_scale * self.joint(normed)

    def _global_temporal(
        self, block: ResidualAttentionBlock, class_tokens: Float[Tensor, "*clips frame channel"]
    ) -> Float[Tensor, "*clips frame channel"]:
        """Equation 4: class tokens attend to each other over the frames of a video."""
        assert self.temporal is not None
        normed = block.ln_1(class_tokens)
        if self.temporal_in is not None:
            normed = self.temporal_in(normed)
        return class_tokens + self.temporal(attend(block, normed))

    def _local(self, block: ResidualAttentionBlock, tokens: Tokens, extra: list[Tensor]) -> Tokens:
        """Equations 5 and 7, and Select: the tokens attend to the extra tokens, which are then dropped."""
        joined = torch.cat([tokens, *extra], -2)
        # Select keeps these tokens: only they need adapter and residual
        attended = attend(block, block.ln_1(joined))[..., : tokens.shape[-2], :]
        return tokens + (attended if self.local is None else self.local(attended))


def text_divergence(logits: Float[Tensor, "episode video way"], way: Int[Tensor, "episode video"]) -> Float[Tensor, ""]:
    """KL(softened one-hot target || softmax(logits)), mean over videos (ActionCLIP's loss, one direction).

    Args:
        logits: of the ways.
        way: that each video belongs to.
    """
    target = (TARGET_SCALE * F.one_hot(way, logits.shape[-1])).softmax(-1, dtype=logits.dtype)
    return F.kl_div(logits.log_softmax(-1).flatten(0, 1), target.flatten(0, 1), reduction="batchmean")
