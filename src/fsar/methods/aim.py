"""AIM: a frozen CLIP ViT whose blocks attend over time and are tuned by adapters, with a few-shot head.

Yang et al., "AIM: Adapting image models for efficient video action recognition", ICLR 2023. For few-shot
recognition a metric replaces its classification head (Xing et al., "MA-FSAR", section 4.2). Only the adapters A and the
temporal embedding are new; MSA, MLP, ln_1 and ln_2 are the frozen block's:

    x = patches and class token + place + temporal embedding, normalised
    x = x + A_T( MSA over frames( [A_Tin] ln_1(x) ) )        every token, across the frames of its video
    x = x + A_S( MSA over tokens( ln_1(x) ) )                A_S (and A_Tin) add their input
    x = x + MLP( ln_2(x) ) + s A_MLP( ln_2(x) )
    frames = class token of each frame, through ln_post and CLIP's projection

| what | function |
|---|---|
| temporal embedding | `fsar.layers.adapters.temporal_embedding`, `embed_frames` |
| temporal, spatial and joint adaptation of one block | `AdaptedBlock.forward` |
| the encoder | `AimEncoder.encode` |
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
| label smoothing | not stated | 0.1 | none: the loss is of episodes |
| augmentation | MA-FSAR: crop, flip, jitter | RandAugment and erasing on SSv2 alone, none of them on Kinetics | MA-FSAR's; no flip where names tell left from right |
| weight decay | not stated | 0.05, on the temporal embedding, too | the same |
| warm-up | not stated | 2.5 of 50 epochs on SSv2 | that share everywhere |
| first map of an adapter | not stated | truncated normal 0.02, bias 0 | PyTorch's initial values (deviation 0.021 at width 768) |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

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
    require_bottleneck,
    run_block,
    temporal_embedding,
    vision_transformer,
    width_of,
)
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, FrameEncoder
from fsar.methods.episode import Encoding, Episode, Prediction, Role
from fsar.methods.metric import Metric, make_metric, metric_episodes
from fsar.shapes import Clips
from fsar.text.prompts import class_features, templates

Frames = Float[Tensor, "clip frame token channel"]


class AdaptedBlock(nn.Module):
    """The adapters of one block; the frozen block is an argument of `forward`.

    Args:
        width: channels of a token.
        ratio: of an adapter's bottleneck to the width.
        scale: factor on the adapter beside the MLP.
        temporal_in: also put an adapter before the attention over frames.
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
        """Run the block with its adapters: over frames, over the tokens of a frame, then token by token.

        Args:
            block: of CLIP.
            tokens: with a single axis of videos, because stochastic depth drops whole videos.
        """
        across = rearrange(block.ln_1(tokens), "clip frame token channel -> clip token frame channel")
        across = self.temporal(attend(block, self.temporal_in(across)))
        tokens = tokens + self.drop_path(rearrange(across, "clip token frame channel -> clip frame token channel"))
        tokens = tokens + self.spatial(attend(block, block.ln_1(tokens)))
        normed = block.ln_2(tokens)
        return tokens + feed_forward(block, normed) + self.drop_path(self.scale * self.joint(normed))


class Aim(Method):
    """Adapters for space, time and both in a frozen CLIP ViT, before a metric or the class texts."""

    name = "aim"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of AIM."""

        least: ClassVar[dict[str, float]] = {"scale": 0}

        frames: int = 8
        """Frames per video: the length of the temporal embedding."""
        temporal_adapters: Literal[1, 2] = 1
        """Adapters around the attention over frames: 1 after it, 2 before and after it (the code's SSv2 form)."""
        ratio: float = 0.25
        """Bottleneck of an adapter as a share of the token's width."""
        scale: float = 0.5
        """Factor on the adapter beside the MLP; the code has 1 on SSv2."""
        drop_path: float = 0.2
        """Stochastic depth of the last block's adapters; it rises linearly from 0 at the first block."""
        metric: Literal["otam", "bi-mhm", "protonet", "trx", "distance-correlation"] = "otam"
        """Metric of frame features; `otam` compares with prototypes, as CLIP-FSAR does; `distance-correlation` is the
        match of TS-FSAR."""
        text: bool = False
        """Use the similarity to the class texts instead of a metric."""
        templates: str = "ma-fsar"
        """Template set of the class texts, for `text: true`: `ma-fsar`, `clip-spm`, or one template with `{}`."""

        def check(self) -> None:
            """Refuse values out of range."""
            templates(self.templates)
            if self.frames < 1 or self.ratio <= 0 or not 0 <= self.drop_path < 1:
                raise ValueError(
                    f"aim got frames {self.frames}, ratio {self.ratio}, drop_path {self.drop_path}; expected at least "
                    f"1 frame, a ratio above 0, and a drop_path in [0, 1)"
                )

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Either the metric or the class texts give the logits."""
            return (self.text, "text: true", ("metric",)), (not self.text, "text: false", ("templates",))

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        visual = vision_transformer(backbone, self.name)
        width, layers = width_of(visual), len(visual.transformer.resblocks)
        require_bottleneck(self.name, config.ratio, width)
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
        self.metric: Metric | None = None if config.text else make_metric(config.metric, backbone.dim, config.frames)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """The adapters train; with `text` the class texts replace the metric."""
        if config.text:
            return Traits(
                trains=("own",), reads_text=True, reads_text_alone=True, independent_ways=True, matches_means=True
            )
        return Traits(
            trains=("own",),
            independent_ways=config.metric != "distance-correlation",  # which reads the whole support
            matches_means=config.metric not in ("trx", "distance-correlation"),
            episodes_per_match=metric_episodes(config.metric),
        )

    def encoder(self) -> Encoder:
        """All of `encode`, because adapters change the encoder from its first block."""
        return AimEncoder(self)

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim]: the mean over templates or, with `rng`, one random template per class."""
        return class_features(self.backbone, labels, self.config.templates, rng)

    def match(self, episode: Episode) -> Prediction:
        """Logits of the metric; or the scaled cosine of mean frame feature and class text."""
        if self.metric is not None:
            query, support = episode.query["frames"], episode.support["frames"]
            return Prediction(self.metric(query, support, episode.shot_mask))
        texts = episode.require_text()
        return Prediction(self.backbone.logit_scale * video_text_similarity(episode.query["frames"], texts))


class AimEncoder(FrameEncoder):
    """Adapted frame features, `frames` [*clips, frame, dim].

    Args:
        method: its adapters are used, not copied.
    """

    is_frozen = False

    def __init__(self, method: Aim):
        super().__init__(method.backbone)
        self.method = method

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Run CLIP's blocks, each with its adapters."""
        visual = vision_transformer(self.backbone, self.method.name)
        videos = clips.reshape(-1, *clips.shape[-4:])  # stochastic depth needs one axis of videos
        tokens = embed_frames(visual, videos, self.method.temporal)
        for block, adapted in zip(visual.transformer.resblocks, self.method.blocks, strict=True):
            tokens = run_block(self.backbone, partial(adapted, block), tokens)
        return {"frames": read_out(visual, tokens).reshape(*clips.shape[:-3], -1)}

    def key(self) -> dict[str, Any]:
        """Name the backbone, the adapters and the temporal embedding; the metric has no effect here."""
        method = self.method
        added = nn.ModuleDict({"temporal": nn.ParameterList([method.temporal]), "blocks": method.blocks})
        return super().key() | {
            "encoding": "aim",
            "own": fingerprint(added),
            "temporal_adapters": method.config.temporal_adapters,
            "scale": method.config.scale,
        }
