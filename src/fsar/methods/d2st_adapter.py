"""D2ST-Adapter: adapters whose attention samples a few points of a video, some dense in space and some dense in time.

Pei et al., "D2ST-Adapter: Disentangled-and-deformable spatio-temporal adapter for few-shot action recognition", ICCV
2025. An adapter stands after every block of a CLIP ViT, or after every stage of a ResNet. Only adapters, temporal and
class embedding and the last norm train; s is the spatial path, t the temporal one:

    y = GELU( down(x) );   patches of y: y + depthwise Conv3d(y)
    y_p = y + DA_p( LN_p(y) )                                         for both paths p
    out = x + GELU( up( GELU( (y_s + y_t) / 2 ) ) )                   a ResNet has neither the first nor the last GELU
    DA(z): points = cell centres + tanh( Linear GELU LN Conv3d(q) ) min(1, 2 / points per axis)     q = L_q(z)
           keys and values are maps of z at the points, read linearly between its cells; all tokens attend to them
    logits = - Bi-MHM(query, class mean) of frame features;   loss = CE + w CE(training class of the mean frame)

Long: the adapter has a form for a ViT and one for a ResNet.

| what | function |
|---|---|
| DA | `DeformableAttention` |
| one adapter | `PathAdapter` |
| encoders | `VitEncoder`, `ResNetEncoder` |
| logits, loss | `D2stAdapter.match`, `D2stAdapter.loss` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| frame feature of a ViT | - | class token after its last norm, before the projection: 768 channels | the code's |
| reading between cells | - | corners aligned, although the centres are those of cells; zero outside | the code's |
| offsets | - | one network for all groups of channels | the code's |
| kernels and strides | - | for 8 frames of 224 x 224 pixels | the same; a kernel ends where a smaller map does |
| metric | Bi-MHM | Bi-MHM, not divided by frames; OTAM commented out | `metric: bi-mhm` (default), `otam` |
| w | - | by benchmark and encoder, 0 to 2.5 | `class_weight`: 0.5, or the recipe's |
| text | - | not read | not read |
| training | - | 1 query per class, 1 shot; one model for every number of shots | the recipes' |
| resizing | - | squeezed to 256 x 256 | short side 256 (`framing: short-side`, `square-256`) |
| flips and colours | - | of queries alone, on every benchmark; jitter by up to 0.5, 0.5, 0.5, 0.25, grey with 0.3; its `COLOR_AUG` rules the support alone | of all videos, no flip where names tell left from right, 0.2, 0.2, 0.2, 0.05, unless the recipe has `augment: queries`, `jitter_strength`, `gray` |
| frames | - | random ones in the test, too; on Kinetics at a fixed distance | the recipe's: TSN, middle frames in the test; `sampling: clip-fsar-interval` is Kinetics' |
| weight decay | - | L2 1e-3, whatever its file says; it spares what `bn` or `norm` names: in a ViT the norms of the offsets alone, as the others are `s_ln`, `t_ln` and `ln_post`; in a ResNet all norms of the adapters | the recipes' `decay_spares`: `[offset_norm]`, and `[norm]` for a ResNet |
| loss | - | (CE + w CE) / 2 | without / 2, which Adam does not see |
"""  # noqa: E501

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import gelu, grid_sample, scaled_dot_product_attention

from fsar.alignment import bi_mhm, frame_similarity, otam
from fsar.backbones import Backbone
from fsar.backbones.base import fingerprint
from fsar.config import ablation
from fsar.layers.adapters import (
    attend,
    embed_frames,
    feed_forward,
    require_bottleneck,
    run_block,
    temporal_embedding,
    vision_transformer,
    width_of,
)
from fsar.layers.temporal import join_heads, require_frames, split_heads
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, FrameEncoder
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
from fsar.shapes import Clips

Size = tuple[int, int, int]
Tokens = Float[Tensor, "clip frame token channel"]
Path = tuple[Size, Size]
"""Kernel and stride of the network of offsets, over frames, rows and columns."""
VIT_PATHS: dict[str, Path] = {"spatial": ((4, 5, 5), (4, 3, 3)), "temporal": ((1, 7, 7), (1, 7, 7))}
VIT_HEADS = 4
STAGES: tuple[tuple[int, dict[str, Path]], ...] = (
    (1, {"spatial": ((4, 7, 7), (4, 7, 7)), "temporal": ((1, 14, 14), (1, 14, 14))}),
    (2, {"spatial": ((4, 7, 7), (4, 7, 7)), "temporal": ((1, 14, 14), (1, 14, 14))}),
    (4, {"spatial": ((4, 5, 5), (4, 3, 3)), "temporal": ((1, 7, 7), (1, 7, 7))}),
    (8, {"spatial": ((4, 4, 4), (4, 3, 3)), "temporal": ((1, 7, 7), (1, 7, 7))}),
)
"""Heads and paths of the adapter after each stage of a ResNet."""
SMOOTHING = 0.2
"""Lambda of OTAM's soft minimum, per direction."""


class DeformableAttention(nn.Module):
    """All tokens of a video attend to a few points of it, whose places depend on the video.

    Args:
        dim: channels of a token.
        heads: of the attention; each is a group of channels with points of its own.
        path: kernel and stride of the network of offsets.
    """

    def __init__(self, dim: int, heads: int, path: Path):
        super().__init__()
        self.heads = heads
        group = dim // heads
        kernel, stride = path
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.offset = nn.Conv3d(group, group, kernel, stride, groups=group)
        self.offset_norm = nn.LayerNorm(group)
        self.offset_out = nn.Linear(group, 3, bias=False)

    def points(self, queries: Float[Tensor, "group channel frame row column"]) -> Float[Tensor, "group t h w thw=3"]:
        """Compute the places of the points in time, row and column, within [-1, 1] of the video and little beyond.

        Args:
            queries: of the patches, a group of channels at a time.
        """
        offset = self.offset_out(gelu(self.offset_norm(self.offset(queries).movedim(1, -1))))
        counts = offset.shape[1:4]
        centres = [(torch.arange(n, device=queries.device) + 0.5) / n * 2 - 1 for n in counts]
        reach = torch.tensor([min(1.0, 2 / n) for n in counts], device=queries.device)
        return torch.stack(torch.meshgrid(*centres, indexing="ij"), -1) + offset.tanh() * reach

    def forward(self, tokens: Tokens, grid: tuple[int, int]) -> Tokens:
        """Attend.

        Args:
            tokens: normalised; the patches are the last of a frame, and class tokens only attend.
            grid: rows and columns of patches.
        """
        rows, columns = grid
        split = partial(
            rearrange, pattern="clip frame (row column) (head channel) -> (clip head) channel frame row column",
            row=rows, column=columns, head=self.heads,
        )  # fmt: skip
        queries = self.query(tokens)
        points = self.points(split(queries[:, :, -rows * columns :]))
        patches = split(tokens[:, :, -rows * columns :])
        found = grid_sample(patches.float(), points.float().flip(-1), align_corners=True).to(tokens)
        found = rearrange(found, "(clip head) channel t h w -> clip (t h w) (head channel)", head=self.heads)
        parts = (queries.flatten(1, 2), self.key(found), self.value(found))
        query, key, value = (split_heads(part, self.heads) for part in parts)
        seen = scaled_dot_product_attention(query, key, value)
        return self.out(join_heads(seen)).unflatten(1, tokens.shape[1:3])


class PathAdapter(nn.Module):
    """Spatial and temporal deformable attention in a bottleneck; a new adapter adds nothing.

    Args:
        width: channels of a token.
        inside: channels of the bottleneck.
        heads: of the attentions.
        paths: kernel and stride of each path.
        vit: a GELU after the first and after the last map, as in a ViT.
    """

    def __init__(self, width: int, inside: int, heads: int, paths: Sequence[Path], vit: bool):
        super().__init__()
        self.down, self.up = nn.Linear(width, inside), nn.Linear(inside, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.place = nn.Conv3d(inside, inside, 3, padding=1, groups=inside)
        self.norms = nn.ModuleList(nn.LayerNorm(inside) for _ in paths)
        self.paths = nn.ModuleList(DeformableAttention(inside, heads, path) for path in paths)
        self.activation = nn.GELU() if vit else nn.Identity()

    def forward(self, tokens: Tokens, grid: tuple[int, int]) -> Tokens:
        """Adapt the tokens of every video.

        Args:
            tokens: the patches are the last of a frame.
            grid: rows and columns of patches.
        """
        y = self.activation(self.down(tokens))
        before, patches = y.split([y.shape[2] - math.prod(grid), math.prod(grid)], 2)
        maps = patches.unflatten(2, grid).movedim(-1, 1)  # clip channel frame row column
        patches = patches + self.place(maps).movedim(1, -1).flatten(2, 3)
        y = torch.cat([before, patches], 2)
        seen = [y + path(norm(y), grid) for path, norm in zip(self.paths, self.norms, strict=True)]
        return tokens + self.activation(self.up(gelu(torch.stack(seen).mean(0))))


class D2stAdapter(Method):
    """Adapters that attend to a few movable points in space and time, inside a ViT or a ResNet; then Bi-MHM."""

    name = "d2st-adapter"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of D2ST-Adapter."""

        least: ClassVar[dict[str, float]] = {"frames": 1, "class_weight": 0}
        above_zero = ("ratio",)

        frames: int = 8
        """Frames per video: the length of the temporal embedding."""
        ratio: float = 0.25
        """Bottleneck of an adapter as a share of the channels of a token."""
        paths: Literal["both", "spatial", "temporal"] = ablation("both")
        """Paths of an adapter."""
        metric: Literal["bi-mhm", "otam"] = "bi-mhm"
        """How the frames of a query and of a class mean are compared."""
        class_weight: float = 0.5
        """w, weight of the class loss, which classifies every video into the training classes; 0 leaves it out."""
        framing: Literal["short-side", "square-256"] = "short-side"
        """Resize the short side, or squeeze frames to 256 x 256 pixels whatever their shape, as in the public code."""

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        stages = resnet_stages(backbone)
        if stages:
            self.feature_dim = backbone.dim
            sides = [math.ceil(backbone.image_size / side) for side in (4, 8, 16, 32)]
            self.adapters = nn.ModuleList(
                self._adapter(width, heads, paths, (side, side), vit=False)
                for width, side, (heads, paths) in zip(widths_of(stages), sides, STAGES, strict=True)
            )
            return
        visual = vision_transformer(backbone, self.name, "tiny, ViT-B-16/openai or a ResNet (timm/resnet50)")
        self.feature_dim = width_of(visual)
        self.temporal = temporal_embedding(visual, config.frames)
        self.class_embedding = nn.Parameter(visual.class_embedding.detach().clone())
        self.last_norm = copy.deepcopy(visual.ln_post)
        self.adapters = nn.ModuleList(
            self._adapter(self.feature_dim, VIT_HEADS, VIT_PATHS, visual.grid_size, vit=True)
            for _ in visual.transformer.resblocks
        )

    def _adapter(self, width: int, heads: int, paths: dict[str, Path], grid: tuple[int, int], vit: bool) -> PathAdapter:
        """Build an adapter whose kernels end where its map does."""
        config = self.config
        require_bottleneck(self.name, config.ratio, width)
        inside = int(width * config.ratio)
        if inside % heads:
            raise ValueError(
                f"d2st-adapter got ratio {config.ratio:g}, a bottleneck of {inside} channels for {heads} heads; "
                f"expected a multiple of {heads}"
            )
        size = (config.frames, *grid)
        chosen = [path for name, path in paths.items() if config.paths in ("both", name)]
        fitted = [(_within(patch, size), _within(stride, size)) for patch, stride in chosen]
        return PathAdapter(width, inside, heads, fitted, vit)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """The adapters train; class means are compared, each for itself."""
        return Traits(trains=("own",), independent_ways=True, matches_means=True, framing=config.framing)

    def encoder(self) -> Encoder:
        """All of `encode`, because adapters change the encoder from its first block."""
        return ResNetEncoder(self) if resnet_stages(self.backbone) else VitEncoder(self)

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the distance to each class mean."""
        classes = mean_over_shots(episode.support["frames"], episode.shot_mask)
        similarity = frame_similarity(episode.query["frames"], classes)
        return Prediction(-(bi_mhm(similarity) if self.config.metric == "bi-mhm" else otam(1 - similarity, SMOOTHING)))

    def begin_training(self, class_texts: Sequence[str], episodes_per_step: int = 1) -> None:
        """Make the classifier of videos for the class loss."""
        if self.config.class_weight:
            self.loss_heads["class"] = nn.Linear(self.feature_dim, len(class_texts), device=self.device)

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: cross-entropy; `class`: weighted, of every video's training class, in support and query.

        Raises:
            ValueError: `begin_training` was not called.
        """
        terms = {"match": query_cross_entropy(prediction.logits, targets)}
        if not self.config.class_weight:
            return terms
        if "class" not in self.loss_heads:
            raise ValueError(
                f"d2st-adapter has no classifier for the class loss of weight {self.config.class_weight:g}; expected "
                f"begin_training(class_texts) before the first loss: call it, or build with class_weight 0"
            )
        logits = self.loss_heads["class"](all_videos(episode, "frames").mean(-2))
        of_class = class_cross_entropy(logits, targets, episode.shot_mask)
        return terms | {"class": self.config.class_weight * of_class}


class _AdaptedEncoder(FrameEncoder):
    """Adapted frame features, `frames` [*clips, frame, dim].

    Args:
        method: its adapters are used, not copied.
    """

    is_frozen = False

    def __init__(self, method: D2stAdapter):
        super().__init__(method.backbone)
        self.method = method

    def key(self) -> dict[str, Any]:
        """Name the backbone, and what the method adds to it."""
        method = self.method
        added = nn.ModuleDict({name: module for name, module in method.named_children() if name in _ADDED})
        vectors = {name: getattr(method, name) for name in ("temporal", "class_embedding") if hasattr(method, name)}
        added["vectors"] = nn.ParameterDict(vectors)
        return super().key() | {"encoding": "d2st-adapter", "own": fingerprint(added), "paths": method.config.paths}


_ADDED = ("adapters", "last_norm")


class VitEncoder(_AdaptedEncoder):
    """The class tokens of a CLIP ViT with an adapter after every block."""

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Run CLIP's blocks, each with its adapter."""
        method, visual = self.method, vision_transformer(self.backbone, self.method.name)
        videos = clips.reshape(-1, *clips.shape[-4:])
        tokens = embed_frames(visual, videos, method.temporal, method.class_embedding)
        for block, adapter in zip(visual.transformer.resblocks, method.adapters, strict=True):
            tokens = run_block(self.backbone, partial(_adapted, visual, block, adapter), tokens)
        return {"frames": method.last_norm(tokens[:, :, 0]).reshape(*clips.shape[:-3], -1)}


def _within(part: Size, size: Size) -> Size:
    frames, rows, columns = map(min, part, size)
    return frames, rows, columns


def _adapted(visual: VisionTransformer, block: ResidualAttentionBlock, adapter: nn.Module, tokens: Tokens) -> Tokens:
    tokens = tokens + attend(block, block.ln_1(tokens))
    return adapter(tokens + feed_forward(block, block.ln_2(tokens)), visual.grid_size)


class ResNetEncoder(_AdaptedEncoder):
    """The pooled features of a ResNet with an adapter after every stage."""

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Run the stages, each with its adapter.

        Raises:
            ValueError: the kernels were fitted to another number of frames.
        """
        require_frames(self.method.config.frames, clips.shape[-4])
        model: Any = self.backbone.model
        videos = clips.reshape(-1, *clips.shape[-4:])
        maps = model.maxpool(model.act1(model.bn1(model.conv1(videos.flatten(0, 1)))))
        for stage, adapter in zip(resnet_stages(self.backbone), self.method.adapters, strict=True):
            maps = stage(maps)
            grid = (maps.shape[-2], maps.shape[-1])
            tokens = maps.flatten(2).mT.unflatten(0, videos.shape[:2])  # clip frame patch channel
            maps = adapter(tokens, grid).flatten(0, 1).mT.unflatten(2, grid)
        return {"frames": model.forward_head(maps, pre_logits=True).reshape(*clips.shape[:-3], -1)}


def resnet_stages(backbone: Backbone) -> list[nn.Module]:
    """List the four stages of a ResNet of timm; of any other backbone, none."""
    model = getattr(backbone, "model", None)
    stages = [getattr(model, f"layer{number}", None) for number in range(1, 5)]
    return [stage for stage in stages if stage is not None] if all(stages) and hasattr(model, "maxpool") else []


def widths_of(stages: Sequence[nn.Module]) -> list[int]:
    """Channels after each stage: those of the last BatchNorm of its last block."""
    return [[m for m in stage[-1].modules() if isinstance(m, nn.BatchNorm2d)][-1].num_features for stage in stages]  # type: ignore[index]
