"""AIM: a frozen CLIP ViT whose blocks look over time and are tuned by adapters, with a few-shot head.

Yang et al., "AIM: Adapting image models for efficient video action recognition", ICLR 2023; for few-shot
recognition its classification head gives way to a metric (Xing et al., "MA-FSAR", section 4.2). Only the
adapters A and the temporal embedding are new; MSA, MLP, ln_1 and ln_2 are the frozen block's:

    x = patches and class token + place + temporal embedding, normalised
    x = x + A_T( MSA over frames( [A_Tin] ln_1(x) ) )        every token, across the frames of its video
    x = x + A_S( MSA over tokens( ln_1(x) ) )                A_S (and A_Tin) add their input
    x = x + MLP( ln_2(x) ) + s A_MLP( ln_2(x) )
    frames = class token of each frame, through ln_post and CLIP's projection

| what | function |
|---|---|
| temporal embedding | `fsar.layers.adapters.temporal_embedding`, `embed_frames` |
| temporal, spatial and joint adaptation of one block | `AdaptedBlock.forward` |
| the encoder | `Aim.encode` |
| metric head (MA-FSAR 4.2), text head (MA-FSAR Table 11) | `Aim.match` |

Deviations:
| point | papers | public code of AIM | ours (switch) |
|---|---|---|---|
| head | AIM: linear; MA-FSAR: OTAM | linear, mean over frames | `metric: otam` (default; prototypes, 0.5, as CLIP-FSAR), others, or `text: true` |
| what is compared | not stated | the class token after `ln_post`, before the projection | CLIP's image embedding, as for every other method |
| temporal adapters | MA-FSAR: not stated | 1; with A_Tin on SSv2 | `temporal_adapters: 1` (default) or 2 |
| scale s | MA-FSAR: not stated for AIM | 0.5; 1 on SSv2 | `scale: 0.5` |
| stochastic depth of A_T and A_MLP | MA-FSAR: not stated | 0.2 at the last block, linear from 0; drops one place in all videos | `drop_path: 0.2`, drops per video |
| trained | adapters | adapters, temporal embedding, `ln_post` | adapters, temporal embedding |
| first map of an adapter | not stated | truncated normal 0.02, bias 0 | PyTorch's initial values (deviation 0.021 at width 768) |
"""  # noqa: E501

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from einops import rearrange
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from fsar.alignment import video_text_similarity
from fsar.backbones import Backbone
from fsar.backbones.base import fingerprint
from fsar.layers.adapters import (
    Adapter,
    attend,
    embed_frames,
    feed_forward,
    read_out,
    run_block,
    temporal_embedding,
    vision_transformer,
    width_of,
)
from fsar.methods import metric_head
from fsar.methods.base import Encoding, Episode, Method, Prediction, Role
from fsar.shapes import Clips
from fsar.text.prompts import class_features

METRIC_OPTIONS: dict[str, dict[str, Any]] = {"otam": {"per": "prototype", "smoothing": 0.5}}
"""Where the CLIP-FSAR lineage differs from a metric's own defaults."""

Frames = Float[Tensor, "clip frame token channel"]


class AdaptedBlock(nn.Module):
    """The adapters of one block; the frozen block itself is lent to `forward`.

    Args:
        width: channels of a token.
        ratio: of an adapter's bottleneck to the width.
        scale: of the adapter beside the MLP.
        temporal_in: whether an adapter also goes before the attention over frames.
        drop_path: probability in training that a video skips the temporal adapter, or the MLP's.
    """

    def __init__(self, width: int, ratio: float, scale: float, temporal_in: bool, drop_path: float):
        super().__init__()
        self.temporal_in = Adapter(width, ratio, skip=True) if temporal_in else nn.Identity()
        self.temporal = Adapter(width, ratio)
        self.spatial = Adapter(width, ratio, skip=True)
        self.joint = Adapter(width, ratio)
        self.scale = scale
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, block: ResidualAttentionBlock, tokens: Frames) -> Frames:
        """Run the block with its adapters: over frames, over the tokens of a frame, then token by token."""
        across = rearrange(block.ln_1(tokens), "clip frame token channel -> clip token frame channel")
        across = self.temporal(attend(block, self.temporal_in(across)))
        tokens = tokens + self.drop_path(rearrange(across, "clip token frame channel -> clip frame token channel"))
        tokens = tokens + self.spatial(attend(block, block.ln_1(tokens)))
        normed = block.ln_2(tokens)
        return tokens + feed_forward(block, normed) + self.drop_path(self.scale * self.joint(normed))


class Aim(Method):
    """Adapters for space, time and both in a frozen CLIP ViT, under a metric or the class texts."""

    name = "aim"
    trains = ("own",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Options of AIM."""

        frames: int = 8
        """Frames per video: the length of the temporal embedding."""
        temporal_adapters: Literal[1, 2] = 1
        """Adapters around the attention over frames: after it, or before it as well (the code's SSv2 form)."""
        ratio: float = 0.25
        """Bottleneck of an adapter as a share of the token's width."""
        scale: float = 0.5
        """Of the adapter beside the MLP; the code has 1 on SSv2."""
        drop_path: float = 0.2
        """Stochastic depth of the last block's adapters; it rises to that linearly, from 0 at the first block."""
        metric: Literal["otam", "bi-mhm", "protonet", "trx"] = "otam"
        """What compares frame features; `otam` aligns with prototypes, as CLIP-FSAR does."""
        text: bool = False
        """Name a query by its similarity to the class texts instead; then there is no metric."""
        templates: str = "ma-fsar"
        """Template set of the class texts (see fsar/text/prompts.py)."""

        @property
        def reads_text_alone(self) -> bool:
            """With `text`."""
            return self.text

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config, needs_text=config.text)
        visual = vision_transformer(backbone, self.name)
        width, layers = width_of(visual), len(visual.transformer.resblocks)
        _check(config, width)
        self.temporal = temporal_embedding(visual, config.frames)
        self.blocks = nn.ModuleList(
            AdaptedBlock(
                width,
                config.ratio,
                config.scale,
                temporal_in=config.temporal_adapters == 2,
                drop_path=config.drop_path * index / max(layers - 1, 1),
            )
            for index in range(layers)
        )
        self.metric: Method | None = None
        if not config.text:
            self.metric = metric_head(config.metric, backbone.dim, **METRIC_OPTIONS.get(config.metric, {}))
            self.episodes_per_match = self.metric.episodes_per_match

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Adapted frame features, `frames` [*clips, frame, dim]."""
        visual = vision_transformer(self.backbone, self.name)
        videos = clips.reshape(-1, *clips.shape[-4:])  # stochastic depth needs one axis of videos
        tokens = embed_frames(visual, videos, self.temporal)
        for block, adapted in zip(visual.transformer.resblocks, self.blocks, strict=True):
            tokens = run_block(self.backbone, partial(adapted, block), tokens)
        return {"frames": read_out(visual, tokens).reshape(*clips.shape[:-3], -1)}

    def frozen_start(self) -> None:
        """None: adapters work from the first block on."""

    def encoder(self) -> dict[str, Any]:
        """The backbone, and the adapters with their temporal embedding; the metric only matches."""
        added = nn.ModuleDict({"temporal": nn.ParameterList([self.temporal]), "blocks": self.blocks})
        return super().encoder() | {
            "encoding": "aim",
            "own": fingerprint(added),
            "temporal_adapters": self.config.temporal_adapters,
            "scale": self.config.scale,
        }

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Mean over templates, or with `rng` one template drawn per class: [label, dim]."""
        return class_features(self.backbone, labels, self.config.templates, rng)

    def match(self, episode: Episode) -> Prediction:
        """Logits of the metric; or the scaled cosine of mean frame feature and class text."""
        if self.metric is not None:
            return self.metric.match(episode)
        assert episode.text is not None
        return Prediction(self.backbone.logit_scale * video_text_similarity(episode.query["frames"], episode.text))


def _check(config: Aim.Config, width: int) -> None:
    """Refuse sizes that leave nothing to train, and options that would have no effect."""
    if config.frames < 1 or int(width * config.ratio) < 1 or not 0 <= config.drop_path < 1:
        raise ValueError(
            f"aim got frames {config.frames}, ratio {config.ratio}, drop_path {config.drop_path}; expected at least "
            f"1 frame, a ratio of at least 1/{width} (the width of a token), and a drop_path in [0, 1)"
        )
    if config.text and config.metric != Aim.Config.metric:
        raise ValueError(
            f"aim got metric {config.metric!r} with text: true, which compares with class texts and uses no metric; "
            f"leave out one of them"
        )
    if not config.text and config.templates != Aim.Config.templates:
        raise ValueError(
            f"aim got templates {config.templates!r} without text: true, so no text is read; "
            f"add text: true or leave them out"
        )
