"""HyRSM: frames attend to their own video and to the episode's other videos, and are compared as sets.

Wang et al., "Hybrid relation guided set matching for few-shot action recognition", CVPR 2022.

| equation | function |
|---|---|
| place: x sqrt(D / A) + B pe, pe[t, c] = sin or cos (even or odd c) of t / 10000^(2c / D) | `HyRsm.placed` |
| intra-relation: ReLU(MHA(LN(x)) + x) over the frames of a video | `HyRsm.intra` |
| inter-relation, per query: ReLU(LN(MHA(m) + m)) over the time-means m of [support; query] | `HyRsm.inter` |
| 1x1 convolution of [frame; its video's inter-relation] | `HyRsm.fused` |
| distance: Bi-MHM | `fsar.alignment.bi_mhm` |
| loss: cross-entropy of the episode + w cross-entropy of every frame's training class | `HyRsm.loss` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| pe | - | exponent doubled against the usual 2 floor(c/2) / D | the code's |
| A, B | - | 10, 1; Kinetics 2048, 0.01 | `frame_scale`, `position_scale`: 10, 1 |
| several shots | - | 5-shot head: class mean after the intra-relation; 1-shot head: every video, mean distance of a class | `relation: prototype` (default) or `video`; the same at one shot |
| classifier reads | - | all support and query frames after the intra-relation, before the class mean | the code's |
| w | - | HMDB51, UCF101, SSv2-Small 0.15; Kinetics 0.4; SSv2-Full 0.6 | `class_weight`: 0.15, the code's most frequent |
| dropout | - | 0.1 after pe; output maps 0.2 (intra), 0.05 (inter); attention weights 0.1 (inter only) | the code's |
| initial values | - | inter: q, k, v normal of variance 2 / (D + D / heads), output map Xavier; the rest as PyTorch's layers | the code's |
| Bi-MHM | divided by frames | not divided | the code's |
| BatchNorm of a ResNet | - | trains from the first step | the same in the recipes (`freeze_batch_norm: false`); support and queries are two batches |
| pixels | - | mean 0.45, deviation 0.225 in every channel | `pixels: normalized` (default) or `slowfast` |
| resizing | - | squeezed to 256 x 256 | short side 256 (`framing: short-side`, `square-256`) |
| flips and colours | - | of queries alone, on every benchmark; jitter by up to 0.5, 0.5, 0.5, 0.25, grey with 0.3 | of all videos, no flip where names tell left from right, 0.2, 0.2, 0.2, 0.05, unless the recipe has `augment: queries`, `jitter_strength`, `gray` |
| frames | - | random ones in the test, too; on Kinetics at a fixed distance | the recipe's: TSN, middle frames in the test; `sampling: clip-fsar-interval` is Kinetics' |
| weight decay | - | L2 1e-3, whatever its file says; it spares what `bn` or `norm` names, so `downsample.1` decays | the recipes' `decay_spares: [bn, norm]` |
| several shots, training | - | files of their own: 5 queries per class for 2 to 4 shots, 3 for 5 shots, 7 for one | the recipes' `for_shot` |
| rate | - | its epoch counts whole periods twice, so rates fall at about half the episodes that its file names | the recipes' `milestones`, as it runs |
| reduction | - | means over queries and over frames, / batch | the same, mean over the batch's episodes |
"""  # noqa: E501

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, relu, scaled_dot_product_attention

from fsar.alignment import bi_mhm, frame_similarity
from fsar.backbones import Backbone
from fsar.layers.temporal import join_heads, split_heads
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction, Targets, mean_over_shots, per_video, query_cross_entropy
from fsar.shapes import ShotMask


def positional_encoding(frames: int, dim: int) -> Float[Tensor, "frame dim"]:
    """Compute the positional encoding: sine (even channel c) or cosine (odd c) of frame index / 10000^(2c / dim).

    Args:
        frames: number of frames.
        dim: channels.
    """
    channel = torch.arange(dim)
    angle = torch.arange(frames)[:, None] / 10_000.0 ** (2 * channel / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


def placed(
    frames: Float[Tensor, "*videos frame dim"], frame_scale: float, position_scale: float
) -> Float[Tensor, "*videos frame dim"]:
    """Multiply frames by sqrt(dim / A) and add B times the encoding of their positions.

    Args:
        frames: of any number of videos.
        frame_scale: A; above 0.
        position_scale: B.

    Example:
        >>> placed(torch.zeros(2, 4), 10.0, 1.0)[0]
        tensor([0., 1., 0., 1.])
    """
    encoding = position_scale * positional_encoding(*frames.shape[-2:]).to(frames)
    return frames * math.sqrt(frames.shape[-1] / frame_scale) + encoding


class SelfAttention(nn.Module):
    """Multi-head self-attention; q, k and v without bias.

    Args:
        dim: channels of a row.
        heads: must divide `dim`.
        dropout: after the output map.
        weight_dropout: on the attention weights.
    """

    def __init__(self, dim: int, heads: int, dropout: float, weight_dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.weight_dropout = weight_dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, rows: Float[Tensor, "*sets row dim"], present: Bool[Tensor, "*sets row"] | None = None
    ) -> Float[Tensor, "*sets row dim"]:
        """Let every row of a set attend to the rows of the set.

        Args:
            rows: of any number of sets.
            present: false for rows that must be ignored; by default, none.
        """
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(rows).chunk(3, -1))
        mask = None if present is None else present[..., None, None, :]  # the same for every head and row
        dropout = self.weight_dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, mask, dropout)
        return self.dropout(self.out(join_heads(mixed)))


class HyRsm(Method):
    """Relations within and between videos, then bidirectional mean Hausdorff distances."""

    name = "hyrsm"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of HyRSM."""

        least: ClassVar[dict[str, float]] = {"class_weight": 0, "position_scale": 0}
        above_zero: ClassVar[tuple[str, ...]] = ("frame_scale",)

        frame_scale: float = 10.0
        """A: frames are multiplied by sqrt(dim / A) before the positional encoding is added; above 0."""
        position_scale: float = 1.0
        """B: factor on the positional encoding."""
        relation: Literal["prototype", "video"] = "prototype"
        """References of a query in the inter-relation: class means, or every support video."""
        heads: int = 8
        """Heads of both attentions; they must divide the backbone's channels."""
        position_dropout: float = 0.1
        """Dropout on the frames with their positional encoding."""
        intra_dropout: float = 0.2
        """Dropout after the output map of the intra-relation's attention."""
        inter_dropout: float = 0.05
        """Dropout after the output map of the inter-relation's attention."""
        inter_weight_dropout: float = 0.1
        """Dropout on the attention weights of the inter-relation."""
        class_weight: float = 0.15
        """Weight of the class loss, which classifies every frame into the training classes; 0 leaves it out."""
        pixels: Literal["normalized", "slowfast"] = "normalized"
        """By the backbone's mean and deviation, or by 0.45 and 0.225 in every channel, as in the public code."""
        framing: Literal["short-side", "square-256"] = "short-side"
        """Resize the short side, or squeeze frames to 256 x 256 pixels whatever their shape, as in the public code."""

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        dim, heads = backbone.dim, config.heads
        if dim % heads:
            raise ValueError(
                f"{self.name} got {heads} heads for the {dim} channels of backbone {backbone.name!r}; expected a "
                f"divisor of {dim}: set heads to one, or choose another backbone"
            )
        self.position_dropout = nn.Dropout(config.position_dropout)
        self.intra_norm = nn.LayerNorm(dim)
        self.intra_attention = SelfAttention(dim, heads, config.intra_dropout)
        self.inter_attention = SelfAttention(dim, heads, config.inter_dropout, config.inter_weight_dropout)
        self.inter_norm = nn.LayerNorm(dim)
        self.fuse = nn.Linear(2 * dim, dim)  # the 1x1 convolution
        nn.init.normal_(self.inter_attention.qkv.weight, std=math.sqrt(2 / (dim + dim // heads)))
        nn.init.xavier_normal_(self.inter_attention.out.weight)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Relations and visual tower train; 16 episodes of 5-way 5-shot with 2048 channels take 0.2 to 0.4 GB."""
        return Traits(trains=("own", "visual"), pixels=config.pixels, framing=config.framing, episodes_per_match=16)

    def placed(self, frames: Float[Tensor, "*videos frame dim"]) -> Float[Tensor, "*videos frame dim"]:
        """Add the encoding of the frame's position to every frame."""
        return self.position_dropout(placed(frames, self.config.frame_scale, self.config.position_scale))

    def intra(self, frames: Float[Tensor, "*videos frame dim"]) -> Float[Tensor, "*videos frame dim"]:
        """Let the frames of each video attend to each other."""
        return relu(self.intra_attention(self.intra_norm(frames)) + frames)

    def inter(
        self,
        support: Float[Tensor, "episode reference frame dim"],
        query: Float[Tensor, "episode query frame dim"],
        present: Bool[Tensor, "episode reference"],
    ) -> tuple[Float[Tensor, "episode query reference dim"], Float[Tensor, "episode query dim"]]:
        """For each query alone, attend over that query and the support videos.

        Args:
            support: one reference per class, or every support video.
            query: of the episode.
            present: false for references that are padding.

        Returns:
            The outputs of the references, which differ between queries, and the outputs of the queries.
        """
        queries, references = query.shape[1], support.shape[1]
        beside = support.mean(-2)[:, None].expand(-1, queries, -1, -1)
        videos = torch.cat([beside, query.mean(-2)[:, :, None]], 2)
        seen = nn.functional.pad(present, (0, 1), value=True)  # the query itself
        attended = self.inter_attention(videos, seen[:, None].expand(-1, queries, -1))
        related = relu(self.inter_norm(attended + videos))
        return related[:, :, :references], related[:, :, references]

    def fused(
        self, frames: Float[Tensor, "*#videos frame dim"], relation: Float[Tensor, "*#videos dim"]
    ) -> Float[Tensor, "*videos frame dim"]:
        """Apply the 1x1 convolution to every [frame; relation of its video].

        It is the sum of a projection of the frame and a projection of the relation. The first does not depend on the
        query, so a support frame is projected once and broadcast over the queries.
        """
        of_frame, of_relation = self.fuse.weight.chunk(2, 1)
        return linear(frames, of_frame) + linear(relation, of_relation, self.fuse.bias).unsqueeze(-2)

    def references_of(self, shot_mask: ShotMask) -> Bool[Tensor, "episode way reference"]:
        """Tell which references a class has: its prototype, or each of its videos."""
        return shot_mask.any(-1, keepdim=True) if self.config.relation == "prototype" else shot_mask

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the Bi-MHM distance to each class. Named outputs: the frames for the class loss, and others."""
        support, query = (self.intra(self.placed(part["frames"])) for part in (episode.support, episode.query))
        beside, mask = support, self.references_of(episode.shot_mask)
        if self.config.relation == "prototype":
            beside = mean_over_shots(beside, episode.shot_mask).unsqueeze(2)
        references = beside.flatten(1, 2)  # episode (way shot) frame dim, one shot where it is a prototype
        to_support, to_query = self.inter(references, query, mask.flatten(1))
        support_out = self.fused(references[:, None], to_support)  # episode query reference frame dim
        query_out = self.fused(query, to_query)
        similarity = frame_similarity(query_out[:, :, None], support_out)  # the support differs between queries
        distance = bi_mhm(similarity.squeeze(2))  # episode query reference
        named = {"support_frames": support, "query_frames": query, "support_out": support_out, "query_out": query_out}
        return Prediction(-per_video(distance, mask), named)

    def begin_training(self, class_texts: Sequence[str], episodes_per_step: int = 1) -> None:
        """Make the classifier of frames for the class loss."""
        if self.config.class_weight:
            self.loss_heads["class"] = nn.Linear(self.backbone.dim, len(class_texts), device=self.device)

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: cross-entropy of the queries; `class`: of every frame's training class, in support and query.

        Raises:
            ValueError: `begin_training` was not called.
        """
        terms = {"match": query_cross_entropy(prediction.logits, targets)}
        if self.config.class_weight:
            terms["class"] = self.config.class_weight * self._class_loss(episode, prediction, targets)
        return terms

    def _class_loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> Float[Tensor, ""]:
        """Mean over the frames of all videos, without missing shots."""
        if "class" not in self.loss_heads:
            raise ValueError(
                f"{self.name} has no classifier for the class loss of weight {self.config.class_weight:g}; expected "
                f"begin_training(class_texts) before the first loss: call it, or build with class_weight 0"
            )
        mask = episode.shot_mask
        support_class = targets.way_class[..., None].expand_as(mask)
        query_class = targets.way_class.gather(1, targets.query_way)
        videos = [prediction.named["support_frames"][mask], prediction.named["query_frames"].flatten(0, 1)]
        frames = torch.cat(videos)  # video frame dim
        classes = torch.cat([support_class[mask], query_class.flatten()])
        logits = self.loss_heads["class"](frames)  # video frame class
        return cross_entropy(logits.flatten(0, 1), classes.repeat_interleave(frames.shape[1]))
