"""Task-Adapter: a CLIP ViT whose last blocks attend over time, and over the videos of the whole task.

Long: adapters of space, time and task in two backbones, which Task-Adapter++ shares.

Cao et al., "Task-Adapter: Task-specific adaptation of image models for few-shot action recognition", ACM MM 2024. We do
not have that paper; the equations are those of Task-Adapter++ (Cao et al., "Task-Adapter++", sections 3.3, 3.4 and 3.7),
whose visual branch it is. Only the adapters A and the temporal embedding are new; MSA, MLP, ln_1 and ln_2 are the
frozen block's, in the last L blocks:

    S = S + A_t( MSA over frames( ln_1(S) ) )                  eq. 6    every token, across the frames of its video
    S = S + A_s( MSA over tokens( ln_1(S) ) )                  eq. 7    A_s adds its input
    S = S + A_task( MSA over videos( ln_1(S) ) )               eq. 8    same frame and token, across the videos
    S = S + MLP( ln_2(S) ) + A_mlp( ln_2(S) )                  eq. 9
    score = metric(query, mean of a class's shots) x cos(mean query frame, class text)     eq. 10, 11, 18

| equation | function |
|---|---|
| 1-2, the frozen blocks before | `FrozenTokens.encode` |
| 6-9, one adapted block | `TaskAdaptedBlock.before`, `.after` |
| 6, 7, 8, 9 | `TaskAdaptedBlock.over_frames`, `.over_tokens`, `.over_videos`, `.feed_forward` |
| 10-11, prototype and metric | `TaskAdapter.visual_scores` |
| video-text score, 18, cross-entropy | `TaskAdapter.text_scores`, `TaskAdapter.match` |

Support and query never attend to each other. `encode` does what depends on one video alone: for a support video
everything before the first equation 8; for an inductive query everything, since it is alone in equation 8. The blocks
before the first adapted one run once per video, whatever its role (`FrozenTokens`). With `temporal_embedding_at:
first_adapted_block` they are frozen: a bank on disk holds what they give, and checkpoints share it. With an embedding
at the input their tokens differ from checkpoint to checkpoint; they are large, so no bank on disk holds them.

Deviations:
| point | paper | public code (of Task-Adapter++) | ours (switch) |
|---|---|---|---|
| queries in eq. 8 | all queries of the episode together | the same | each alone: `inductive: true` (default); `false` is the paper, and so the recipes |
| eq. 11, when no metric is named | mean of same-index frame cosines | cosine of time means | the paper's (`similarity: frame-wise`); `time-mean` |
| metrics that give distances | "arbitrary metric" | none | probabilities: softmax over classes of -distance |
| temporal embedding | not stated | [8, channel], zero at first, before `ln_pre` | the code's (`temporal_embedding_at`); `first_adapted_block` leaves the frozen blocks frozen |
| second map of A_task | not stated | PyTorch's initial values, the others zero | the code's; `zero_init_task: true` |
| factor on the score | not stated | 64 | `scale: 64` |
| last block | all tokens | all tokens | only the class tokens are computed from equation 7 on: nothing else is read out |
| template | not stated | `a photo of action about {}` | the code's |
"""  # noqa: E501

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from fsar.alignment import video_text_similarity
from fsar.backbones import Backbone
from fsar.backbones.base import fingerprint_of
from fsar.config import ablation
from fsar.layers.adapters import (
    Adapter,
    add_index,
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
from fsar.methods.metric import make_metric, metric_episodes
from fsar.shapes import Clips, Logits, ShotMask, Tokens
from fsar.text.prompts import class_features

TEMPLATE = "a photo of action about {}"
Videos = Float[Tensor, "task video frame token channel"]


class TaskAdapter(Method):
    """Adapters for space, time and the task in the last blocks of a CLIP ViT, and a score by the class texts."""

    name = "task-adapter"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of Task-Adapter."""

        method: ClassVar[str] = "task-adapter"
        """Name of the method, for messages."""

        frames: int = 8
        """Frames per video: the length of the temporal embedding."""
        layers: int = 2
        """L, number of adapted blocks; 0 leaves the encoder as it is."""
        where: Literal["top", "bottom"] = ablation("top")
        """Adapt the last L blocks, or the first."""
        aim: bool = ablation(True)
        """Temporal, spatial and joint adaptation (AIM); false leaves a block's own attention as it is."""
        task: bool = ablation(True)
        """Task-specific adaptation: attention over the videos of the task."""
        task_at: Literal["front", "between", "back"] = ablation("back")
        """Attend over videos before frames (`front`), between frames and tokens, or after both (Table 9)."""
        inductive: bool = True
        """Whether each query is alone in the attention over videos; if false, an episode's queries see each other."""
        ratio: float = 0.25
        """Bottleneck of an adapter as a share of the token's width."""
        zero_init_task: bool = ablation(False)
        """Start the task adapter at zero like the other adapters; a new method then equals the frozen encoder."""
        temporal_embedding_at: Literal["input", "first_adapted_block"] = "input"
        """Add the temporal embedding at the input, as published, or after the frozen blocks, which then stay frozen."""
        metric: Literal["protonet", "otam", "bi-mhm", "trx"] = "protonet"
        """Metric of frame features (eq. 11)."""
        similarity: Literal["frame-wise", "time-mean"] = "frame-wise"
        """For `metric: protonet`: mean cosine of frames with the same index, or cosine of the means over time."""
        modality: Literal["both", "visual", "text"] = ablation("both")
        """Branches of the method: videos and class texts, only videos, or only texts."""
        readout: Literal["both", "visual", "text"] = "both"
        """What gives the logits (Table 5): the product of both scores, or one of them."""
        scale: float = 64.0
        """Factor on the score before softmax."""
        half_tokens: bool = False
        """Keep the frozen tokens in half precision."""
        keep_attention: bool = False
        """Add `task_attention` to the prediction: the attention over the support videos at their class tokens."""

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Options of blocks that are not adapted, and of missing scores, have no effect."""
            of_frames = ("frames", "temporal_embedding_at")
            of_blocks = ("where", "aim", "task", "ratio", "half_tokens")
            of_videos = ("task_at", "zero_init_task", *(() if self.compares_queries else ("inductive",)))
            return (
                (self.layers == 0, "layers: 0", (*of_blocks, *of_frames, *of_videos)),
                (not self.aim, "aim: false", of_frames),
                (not self.task, "task: false", of_videos),
                (self.modality == "text", "modality: text", ("metric", "similarity")),
                (self.metric != "protonet", f"metric: {self.metric}", ("similarity",)),
                (not self.keeps_weights, "no attention among what is computed", ("keep_attention",)),
                (self.readout == self.modality, f"modality: {self.modality}", ("readout",)),
            )

        @property
        def reads_text(self) -> bool:
            """Whether the logits depend on class texts."""
            return "visual" not in (self.modality, self.readout)

        @property
        def keeps_weights(self) -> bool:
            """Whether there is attention to keep: over the support videos, if the visual score reads their frames."""
            return self.looks_over_videos and self.modality != "text"

        @property
        def looks_over_videos(self) -> bool:
            """Whether any block attends to other videos."""
            return self.task and self.layers > 0

        @property
        def compares_queries(self) -> bool:
            """Whether queries see each other if `inductive` is false."""
            return self.looks_over_videos

        def waits(self, role: Role) -> bool:
            """Whether videos of this role are adapted in `match`, with their episode."""
            return self.looks_over_videos and (role == "support" or not self.inductive)

        def check(self) -> None:
            """Refuse values out of range, and a read-out without its score."""
            name = self.method
            if self.layers < 0 or self.frames < 1 or self.ratio <= 0:
                raise ValueError(
                    f"{name} got layers {self.layers}, frames {self.frames}, ratio {self.ratio}; expected 0 or more "
                    f"adapted blocks, at least 1 frame, and a ratio above 0"
                )
            if not 0 < self.scale < math.inf:
                raise ValueError(f"{name} got scale {self.scale}; expected a factor above 0")
            if self.layers and not (self.aim or self.task):
                raise ValueError(f"{name} got aim: false and task: false, so nothing adapts; set layers: 0 instead")
            if self.modality != "both" and self.readout not in ("both", self.modality):
                raise ValueError(
                    f"{name} got readout {self.readout!r} with modality {self.modality!r}, which has no such score; "
                    f"leave readout out"
                )

    config: Any

    def __init__(self, backbone: Backbone, config: Any):
        super().__init__(backbone, config)
        visual = vision_transformer(backbone, self.name)
        blocks, width = visual.transformer.layers, width_of(visual)
        if config.layers > blocks:
            raise ValueError(f"{self.name} got layers {config.layers}; expected 0 to {blocks}, the backbone's blocks")
        if config.layers == blocks and config.where == "bottom":
            raise ValueError(f"{self.name} got where: bottom, which has no effect if all blocks adapt; leave it out")
        require_bottleneck(self.name, config.ratio, width)
        self.first = blocks - config.layers if config.where == "top" else 0
        self.blocks = nn.ModuleList(
            TaskAdaptedBlock(width, config.ratio, config.aim, config.task, config.task_at, config.zero_init_task)
            for _ in range(config.layers)
        )
        if config.layers and config.aim:
            self.temporal = temporal_embedding(visual, config.frames)
        options = {"similarity": config.similarity, "cos_eps": 0.0} if config.metric == "protonet" else {}
        self.metric = make_metric(config.metric, backbone.dim, **options)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """The adapters train; a support video waits for its episode, an inductive query does not."""
        return Traits(
            trains=("own",),
            readouts=("inductive", "readout", "half_tokens", "keep_attention"),
            reads_text=config.reads_text,
            reads_text_alone="text" in (config.modality, config.readout),
            support_waits=config.waits("support") != config.waits("query"),
            transductive=config.compares_queries and not config.inductive,
            episodes_per_match=metric_episodes(config.metric),
        )

    # ----------------------------------------------------------------------- encode

    def encoder(self) -> Encoder:
        """The tokens before the first adapted block."""
        if not self.config.layers:
            return FrameEncoder(self.backbone)
        temporal = self.temporal if self.adds_index_at("input") else None
        return FrozenTokens(self.backbone, self.first, temporal, self.config.half_tokens)

    def adds_index_at(self, place: str) -> bool:
        """Whether the temporal embedding is added there."""
        return hasattr(self, "temporal") and self.config.temporal_embedding_at == place

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Adapt the tokens that `encoder` gave."""
        return self.adapt_alone(encoding, role) if self.config.layers else encoding

    def adapt_alone(self, encoding: Encoding, role: Role) -> Encoding:
        """Adapt the frozen tokens as far as a video can be adapted without its episode.

        Returns:
            `frames` [*clips, frame, dim], the frame features; or, if they depend on the episode, `tokens` [*clips,
            frame, token, channel] before the first attention over videos.
        """
        tokens = encoding["tokens"].to(self._visual().proj)
        if self.adds_index_at("first_adapted_block"):
            tokens = add_index(tokens, self.temporal)
        first, only_class = self._adapted(0)
        block = self._visual().transformer.resblocks[self.first]
        alone = tokens.reshape(-1, 1, *tokens.shape[-3:])  # task video=1 frame token channel
        alone = run_block(self.backbone, partial(first.before, block, only_class=only_class), alone)
        if self.config.waits(role):
            waiting = alone.reshape(*tokens.shape[:-2], *alone.shape[-2:])
            return {"tokens": waiting.half() if self.config.half_tokens else waiting}
        return {"frames": self.adapt(alone).reshape(*tokens.shape[:-2], -1)}

    def adapt(
        self, tokens: Videos, present: ShotMask | None = None, attention: list[Tensor] | None = None
    ) -> Float[Tensor, "task video frame dim"]:
        """Run everything from the first attention over videos, over the videos of each task.

        Args:
            tokens: as `adapt_alone` leaves them.
            present: [task, way, shot], false for padding; None if there is none.
            attention: each adapted block appends its attention over videos at the class tokens, [task, frame, video,
                video].
        """
        visual = self._visual()
        tokens = tokens.to(visual.proj)
        mask = None if present is None or bool(present.all()) else present.flatten(1)
        for index, block in enumerate(visual.transformer.resblocks[self.first :]):
            if index < len(self.blocks):
                adapted, only_class = self._adapted(index)
                rest = adapted.after if index == 0 else adapted
                run = partial(rest, block, mask=mask, only_class=only_class, attention=attention)
            else:
                run = partial(block_over_tokens, block)
            tokens = run_block(self.backbone, run, tokens)
        return read_out(visual, tokens)

    def _adapted(self, index: int) -> tuple["TaskAdaptedBlock", bool]:
        """Yield each adapted block, and whether it is the last of the encoder: only its class tokens are read out."""
        block = self.blocks[index]
        assert isinstance(block, TaskAdaptedBlock)
        return block, self.first + index == self._visual().transformer.layers - 1

    def _visual(self) -> VisionTransformer:
        return vision_transformer(self.backbone, self.name)

    # ----------------------------------------------------------------------- match

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text feature of each class, [label, dim]."""
        return class_features(self.backbone, labels, TEMPLATE)

    def match(self, episode: Episode) -> Prediction:
        """Logits: the scaled score (eq. 18).

        Named: `visual_scores`, `text_scores` [episode, query, way], and whatever else `text_scores` returns.
        """
        attention: list[Tensor] | None = [] if self.config.keep_attention else None
        query = self._frames_of(episode.query, None, None)
        named: dict[str, Tensor] = {}
        if self.config.modality != "text":
            support = self._frames_of(episode.support, episode.shot_mask, attention)
            named["visual_scores"] = self.visual_scores(query, support, episode.shot_mask)
        if self.config.reads_text:
            named |= self.text_scores(query, episode.require_text())
        read = _FACTORS if self.config.readout == "both" else (f"{self.config.readout}_scores",)
        score = torch.stack([named[name] for name in read if name in named]).prod(0)
        if attention:
            named["task_attention"] = torch.stack(attention, 1)  # episode block frame video video
        return Prediction(self.config.scale * score, named)

    def _frames_of(
        self, encoding: Encoding, shot_mask: ShotMask | None, attention: list[Tensor] | None
    ) -> Float[Tensor, "episode *videos frame dim"]:
        """Frame features of the episode's support or query videos, adapted together if `encode` left that open."""
        if "frames" in encoding:
            return encoding["frames"]
        tokens = encoding["tokens"]  # episode *videos frame token channel
        together = tokens.flatten(1, -4)
        return self.adapt(together, shot_mask, attention).unflatten(1, tokens.shape[1:-3])

    def visual_scores(
        self,
        query: Float[Tensor, "episode query frame dim"],
        support: Float[Tensor, "episode way shot frame dim"],
        shot_mask: ShotMask,
    ) -> Logits:
        """Compute the visual scores: cosines (equation 11), or probabilities over the classes for other metrics.

        Args:
            query: frame features of the queries.
            support: frame features of the support.
            shot_mask: false for padding.
        """
        scores = self.metric(query, support, shot_mask)
        return scores if self.config.metric == "protonet" else scores.softmax(-1)

    def text_scores(self, query: Float[Tensor, "episode query frame dim"], text: Tensor) -> dict[str, Tensor]:
        """Cosine of a query's mean frame and each class text [episode, way, dim], under the name `text_scores`."""
        return {"text_scores": video_text_similarity(query, text)}


_FACTORS = ("visual_scores", "text_scores")


def block_over_tokens(block: ResidualAttentionBlock, tokens: Tokens) -> Tokens:
    """Run a frozen block as CLIP does, frame by frame."""
    tokens = tokens + attend(block, block.ln_1(tokens))
    return tokens + feed_forward(block, block.ln_2(tokens))


class FrozenTokens(FrameEncoder):
    """Output of the blocks before the first adapted one: `tokens` [*clips, frame, token, channel].

    Args:
        backbone: with a ViT.
        blocks: how many blocks run.
        temporal: embedding of the frame's index, if it is added at the input.
        half: keep the tokens in half precision.
    """

    def __init__(self, backbone: Backbone, blocks: int, temporal: Float[Tensor, "index channel"] | None, half: bool):
        super().__init__(backbone)
        self.visual = vision_transformer(backbone, TaskAdapter.name)
        self.frozen = self.visual.transformer.resblocks[:blocks]
        self.index = temporal
        self.half_tokens = half
        self.is_frozen = self.on_disk = temporal is None

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Equations 1 and 2."""
        tokens = embed_frames(self.visual, clips, self.index)
        for block in self.frozen:
            tokens = run_block(self.backbone, partial(block_over_tokens, block), tokens)
        return {"tokens": tokens.half() if self.half_tokens else tokens}

    def key(self) -> dict[str, Any]:
        """Name the backbone, the number of blocks, the precision and, if it is in the tokens, the embedding."""
        index = {} if self.index is None else {"temporal": fingerprint_of({"temporal": self.index})}
        return super().key() | {"encoding": "tokens", "blocks": len(self.frozen), "half": self.half_tokens} | index


class TaskAdaptedBlock(nn.Module):
    """The adapters of one block; the frozen block is an argument of `forward`.

    Args:
        width: channels of a token.
        ratio: of an adapter's bottleneck to the width.
        aim: adapt over frames, over tokens and beside the MLP.
        task: adapt over videos.
        task_at: when the block attends over videos: `front`, `between`, `back`.
        zero_init_task: start the task adapter at zero.
    """

    def __init__(self, width: int, ratio: float, aim: bool, task: bool, task_at: str, zero_init_task: bool):
        super().__init__()
        self.temporal = Adapter(width, ratio) if aim else None
        self.spatial = Adapter(width, ratio, skip=True) if aim else None
        self.joint = Adapter(width, ratio) if aim else None
        self.task = Adapter(width, ratio, zero_init=zero_init_task) if task else None
        self.task_at = task_at

    def forward(
        self,
        block: ResidualAttentionBlock,
        tokens: Videos,
        mask: Tensor | None = None,
        only_class: bool = False,
        attention: list[Tensor] | None = None,
    ) -> Float[Tensor, "task video frame kept channel"]:
        """Equations 6 to 9.

        Args:
            block: of CLIP.
            tokens: of the task's videos.
            mask: [task, video], false for padding.
            only_class: from equation 7 on, compute only the class tokens; they still attend to all tokens.
            attention: as `TaskAdapter.adapt` takes it.
        """
        return self.after(block, self.before(block, tokens, only_class), mask, only_class, attention)

    def before(
        self, block: ResidualAttentionBlock, tokens: Videos, only_class: bool
    ) -> Float[Tensor, "task video frame kept channel"]:
        """Run the part before the attention over videos: each video on its own.

        Args:
            block: the frozen block.
            tokens: its input.
            only_class: as in `forward`.
        """
        if self.task_at == "front":
            return tokens
        tokens = self.over_frames(block, tokens)
        return tokens if self.task_at == "between" else self.over_tokens(block, tokens, only_class)

    def after(
        self,
        block: ResidualAttentionBlock,
        tokens: Videos,
        mask: Tensor | None = None,
        only_class: bool = False,
        attention: list[Tensor] | None = None,
    ) -> Float[Tensor, "task video frame kept channel"]:
        """Run the attention over videos, and the rest.

        Args:
            block: the frozen block.
            tokens: from `before`.
            mask: [task, video], false for padding.
            only_class: as in `forward`.
            attention: as `TaskAdapter.adapt` takes it.
        """
        tokens = self.over_videos(block, tokens, mask, attention)
        if self.task_at == "front":
            tokens = self.over_frames(block, tokens)
        if self.task_at != "back":
            tokens = self.over_tokens(block, tokens, only_class)
        return self.feed_forward(block, tokens)

    def over_frames(self, block: ResidualAttentionBlock, tokens: Videos) -> Videos:
        """Equation 6: every token attends to the same token in all frames of its video."""
        if self.temporal is None:
            return tokens
        across = rearrange(block.ln_1(tokens), "task video frame token channel -> (task video token) frame channel")
        adapted = rearrange(
            self.temporal(attend(block, across)),
            "(task video token) frame channel -> task video frame token channel",
            task=tokens.shape[0],
            video=tokens.shape[1],
        )
        return tokens + adapted

    def over_tokens(
        self, block: ResidualAttentionBlock, tokens: Videos, only_class: bool
    ) -> Float[Tensor, "task video frame kept channel"]:
        """Equation 7: the tokens of a frame attend to each other.

        Args:
            block: the frozen block.
            tokens: its input.
            only_class: compute only the class tokens; they attend to all tokens.
        """
        normed = block.ln_1(tokens)
        if only_class:
            tokens, attended = tokens[..., :1, :], attend(block, normed[..., :1, :], normed)
        else:
            attended = attend(block, normed)
        return tokens + (attended if self.spatial is None else self.spatial(attended))

    def feed_forward(self, block: ResidualAttentionBlock, tokens: Videos) -> Videos:
        """Equation 9."""
        normed = block.ln_2(tokens)
        adapted = tokens + feed_forward(block, normed)
        return adapted if self.joint is None else adapted + self.joint(normed)

    def over_videos(
        self,
        block: ResidualAttentionBlock,
        tokens: Videos,
        mask: Tensor | None = None,
        attention: list[Tensor] | None = None,
    ) -> Videos:
        """Equation 8: every token attends to the same frame and token of the task's videos.

        Args:
            block: the frozen block.
            tokens: its input.
            mask: [task, video], false for padding.
            attention: as `TaskAdapter.adapt` takes it.
        """
        if self.task is None:
            return tokens
        task, _, frame, token, _ = tokens.shape
        across = rearrange(block.ln_1(tokens), "task video frame token channel -> (task frame token) video channel")
        absent = None if mask is None else ~mask.repeat_interleave(frame * token, 0)
        attended, weights = block.attn(
            across, across, across, need_weights=attention is not None, key_padding_mask=absent
        )
        if attention is not None:
            attention.append(weights.unflatten(0, (task, frame, token))[:, :, 0])
        back = rearrange(
            block.ls_1(attended),
            "(task frame token) video channel -> task video frame token channel",
            frame=frame,
            token=token,
        )
        return tokens + self.task(back)
