"""Task-Adapter++: Task-Adapter with three ordered sentences per class, matched stage by stage.

Long: the sub-actions, the text adapters and the staged matching are one paper.

Cao et al., "Task-Adapter++: Task-specific adaptation with order-aware alignment for few-shot action recognition", 2025.
A class has three sentences: its beginning, its process and its end (`fsar.text.prompts.sub_actions`). In the last M text
blocks they attend to each other through an adapter A_o. A query's frames are aligned by attention between neighbours
and pooled into three stages; each stage is compared with its own sentence:

    T = T + MSA( ln_1(T) )                                       eq. 12   causal, over the tokens of a sentence
    T = T + A_o( MSA over the three sentences( ln_1(T) ) )       eq. 13   same token, no mask, the same weights
    T = T + MLP( ln_2(T) )                                       eq. 14
    F'_i = attention(F_{i-1} -> F_i) + F_{i-1}                   eq. 15
    stages = means of F'_1..3, F'_3..5, F'_5..7                  eq. 16
    video-text score = mean over stages of cos(stage, text)      eq. 17
    score = video score x video-text score                       eq. 18

| equation | function |
|---|---|
| 6-11, the visual branch | `fsar.methods.task_adapter` |
| prompts, section 3.5 | `TaskAdapterPlusPlus.prompts` |
| 12-14, one text block | `OrderAdaptedBlock.forward` |
| the text tower | `TaskAdapterPlusPlus.adapt_text` |
| 15 | `neighbours` |
| 16 | `stage_windows` |
| 17 | `TaskAdapterPlusPlus.text_scores`, `stage_scores` |
| 18, cross-entropy | `TaskAdapter.match` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| residual of eq. 15 | F_{i-1}, the frame that asks | F_i, the frame that answers | the paper's (`residual: earlier`); `later` |
| eq. 16-17 | cosine of a stage's mean | mean of its frames' cosines | the paper's (`stage_score: cosine-of-mean`); `mean-of-cosines` |
| video score | mean of same-index frame cosines | cosine of time means | the paper's (`similarity`) |
| eq. 17's axes | [query, class] | [class, query], multiplied as [query, class]: with queries in class order, each meets its own class's text | the paper's; `variant: official-leaky` is the code, for audits only |
| eq. 15 attends over | all queries of the episode (by its shapes) | the same | the query alone: `inductive: true` (default); it is then the sum of two neighbours; the recipes have `false` |
| Tables 4 and 7, alignment | measured with all queries | the same | they mean something with `inductive: false` alone: for a query by itself one layer adds neighbours, three are a fixed filter of 1, 3, 3, 1 |
| scale of eq. 15's attention | not stated | 512^-0.5, whatever the width | dim^-0.5: the same for ViT-B |
| LayerNorm after eq. 15's attention | none | on SSv2-Full only | none; `alignment_norm: true` |
| Conv1d of Table 7 | not stated | not in the files | kernel 3, padding 1, beside its input |
| frames for three stages | 7, windows of eq. 16 | 7 | whatever remains is pooled adaptively: for 7 exactly eq. 16 |
| sub-actions | GPT-4's: 6 to 9 words, mostly with the label's words | the same | this project's: 13 to 15 words, rarely with the label's words (`sub_actions` reads the public file, too) |
| label alone, Table 4 | not stated | not in the files | `text: label` reads "a photo of action about ..." |
| published numbers | - | three GPUs split an episode; SSv2-Full is read with SSv2-Small's texts, 45 of its 100 classes without one | one device; texts of its own |
| clips | random crops | resized to 257 x 257 whatever the aspect ratio, each frame cropped by itself | by the variant (`framing: short-side`, `square-257`); frames of more than 256 pixels are first shrunk to a short side of 256 |
| frames | TSN | a frame of each segment: a random one in training, its middle otherwise | the recipe's: `tsn`; `sampling: task-adapter` |
| class words | labels | of its own lists | `fsar.text.words.class_text`, in either variant: its lists know the benchmarks' classes alone |
| rate | SGD 1e-3 | the same, constant: a schedule is built and never stepped | the code's |
| state that is kept | not stated | the last one: it validates after its last epoch alone | the best on the val classes, unless the recipe has `val_every: 0` |
| precision | not stated | text tower and adapters in fp16 | the run's |
| A_o | not stated | a quarter of the width, no inner skip, second map zero | the code's |
| everything else of the visual branch | | | see `task_adapter.py` |
"""  # noqa: E501

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from fsar.alignment import frame_similarity
from fsar.backbones import Backbone
from fsar.backbones.clip import ClipBackbone
from fsar.config import ablation
from fsar.layers.adapters import (
    Adapter,
    attend,
    embed_text,
    feed_forward,
    read_out_text,
    run_block,
    text_transformer,
)
from fsar.methods.base import Traits
from fsar.methods.task_adapter import TEMPLATE, TaskAdapter
from fsar.text.prompts import SUB_ACTION_PROMPT, sub_actions

STAGES = 3
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {
        "residual": "earlier",
        "stage_score": "cosine-of-mean",
        "similarity": "frame-wise",
        "framing": "short-side",
    },
    "official": {
        "residual": "later",
        "stage_score": "mean-of-cosines",
        "similarity": "time-mean",
        "framing": "square-257",
    },
}
VARIANTS["official-leaky"] = VARIANTS["official"]

Sentences = Float[Tensor, "label stage token channel"]


class TaskAdapterPlusPlus(TaskAdapter):
    """Task-Adapter with three ordered sentences for every action, matched stage by stage."""

    name = "task-adapter-pp"

    @dataclass(frozen=True, kw_only=True)
    class Config(TaskAdapter.Config):
        """Options of Task-Adapter++."""

        method: ClassVar[str] = "task-adapter-pp"
        variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS
        before: ClassVar[Mapping[str, Any]] = {"framing": "short-side"}

        variant: Literal["paper", "official", "official-leaky"] = "paper"
        """Equations of the paper or the public code; `official-leaky` also lets labels reach the scores: for audits."""
        similarity: Literal["frame-wise", "time-mean"] | None = None  # type: ignore[assignment]
        """For `metric: protonet`: mean cosine of frames with the same index, or cosine of the means over time."""
        text_layers: int = 2
        """M, number of text blocks with order adapters; 0 leaves the text tower as it is."""
        text_where: Literal["top", "bottom"] = ablation("top")
        """Adapt the last M text blocks, or the first."""
        order_at: Literal["front", "back"] = ablation("back")
        """Attend over the three sentences before a block's own attention (`front`), or after it (Table 9)."""
        sub_actions: str | None = None
        """Corpus of the three sentences: a packaged one (`hmdb51`) or a file; null searches all packaged ones."""
        text: Literal["stages", "average", "concat", "label"] = ablation("stages")
        """Three sentences, their mean feature, all three in one prompt, or only the label (Tables 4 and 6)."""
        alignment: Literal["attention", "conv1d", "none"] = ablation("attention")
        """How neighbouring frames are joined before they are pooled into stages (Table 7)."""
        alignment_layers: int = ablation(1)
        """Layers of attention; each shortens the video by one frame."""
        residual: Literal["earlier", "later"] | None = None
        """Frame that is added to the attention of equation 15: the earlier or the later of two neighbours."""
        stage_score: Literal["cosine-of-mean", "mean-of-cosines"] | None = None
        """Equations 16 and 17: cosine of a stage's mean frame, or mean of its frames' cosines."""
        framing: Literal["short-side", "square-257"] | None = None
        """Resize the short side, and draw one crop per clip; or squeeze frames to 257 x 257 pixels whatever their shape
        and, in training, crop each by itself."""
        alignment_norm: bool = ablation(False)
        """LayerNorm after the attention of equation 15, as in the public code on SSv2-Full."""

        @property
        def compares_queries(self) -> bool:
            """Whether queries see each other if `inductive` is false, also in the attention of equation 15."""
            return self.looks_over_videos or (self.reads_text and self.alignment == "attention")

        @property
        def keeps_weights(self) -> bool:
            """Whether there is attention to keep: over the support videos, or in equation 15."""
            return super().keeps_weights or (self.reads_text and self.alignment == "attention")

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Options of texts and alignment have no effect without their score."""
            of_order = ("text_where", "order_at")
            of_attention = ("alignment_layers", "alignment_norm", "residual")
            of_texts = ("text_layers", "sub_actions", "text", "alignment", "stage_score", *of_order, *of_attention)
            unread = self.modality == "both" and self.readout == "visual"  # the parameters exist but are not used
            only_read = ("sub_actions", "text", "stage_score", "residual", "alignment_layers", *of_order)
            return (
                *super().idle(),
                (self.modality == "visual", "modality: visual", of_texts),
                (unread, "readout: visual", only_read),
                (unread and self.alignment == "none", "readout: visual", ("alignment",)),
                (self.text_layers == 0, "text_layers: 0", of_order),
                (self.alignment != "attention", f"alignment: {self.alignment}", of_attention),
                (self.text == "label", "text: label", ("sub_actions",)),
            )

        def check(self) -> None:
            """Refuse values out of range, and order adapters for a single prompt."""
            super().check()
            if self.text_layers < 0 or not 1 <= self.alignment_layers < self.frames:
                raise ValueError(
                    f"task-adapter-pp got text_layers {self.text_layers} and alignment_layers {self.alignment_layers}; "
                    f"expected 0 or more adapted text blocks, and 1 to {self.frames - 1} layers of alignment"
                )
            if self.modality != "visual" and self.text_layers and self.text in ("concat", "label"):
                raise ValueError(
                    f"task-adapter-pp got text: {self.text} with {self.text_layers} order adapters; one prompt per "
                    f"class has no order to adapt to: set text_layers: 0, or text: stages or average"
                )

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        clip = text_transformer(backbone, self.name)
        blocks, width = clip.transformer.layers, clip.positional_embedding.shape[-1]
        if config.text_layers > blocks:
            raise ValueError(
                f"{self.name} got text_layers {config.text_layers}; expected 0 to {blocks}, the text tower's blocks"
            )
        if config.text_layers == blocks and config.text_where == "bottom":
            raise ValueError(
                f"{self.name} got text_where: bottom, which has no effect if all blocks adapt; leave it out"
            )
        if config.modality == "visual":
            return
        self.first_text = blocks - config.text_layers if config.text_where == "top" else 0
        self.text_blocks = nn.ModuleList(OrderAdaptedBlock(width, config.order_at) for _ in range(config.text_layers))
        if config.alignment == "conv1d":
            self.convolution = nn.Conv1d(backbone.dim, backbone.dim, kernel_size=3, padding=1)
        if config.alignment_norm:
            self.alignment_norm = nn.LayerNorm(backbone.dim)
        self._known: dict[tuple[str, bytes], Tensor] = {}  # sentences after the frozen text blocks

    @classmethod
    def traits_of(cls, config: Any) -> Traits:
        """Order adapters train inside the text tower; `official-leaky` leaks labels."""
        usual = super().traits_of(config)
        return replace(
            usual,
            readouts=(*usual.readouts, "sub_actions"),
            trains_text=True,
            framing=config.framing,
            leaks_labels=config.variant == "official-leaky",
        )

    # ----------------------------------------------------------------------- text

    def prompts(self, labels: list[str]) -> list[list[str]]:
        """Write the prompts of each class: one per stage, or a single one."""
        if self.config.text == "label":
            return [[TEMPLATE.format(label)] for label in labels]
        classes = list(zip(labels, sub_actions(labels, self.config.sub_actions), strict=True))
        if self.config.text == "concat":
            return [[SUB_ACTION_PROMPT.format(label=label, sentence=" ".join(stages))] for label, stages in classes]
        return [
            [SUB_ACTION_PROMPT.format(label=label, sentence=stage) for stage in stages] for label, stages in classes
        ]

    def check_texts(self, labels: Sequence[str]) -> None:
        """Check that every class has its sub-actions."""
        if self.config.reads_text:
            self.prompts(list(labels))

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, stage, dim]; there is a single stage if the prompts have no stages."""
        return self.adapt_text(self.text_input(labels, rng))

    def text_input(self, labels: list[str], rng: np.random.Generator | None = None) -> Int[Tensor, "label stage token"]:
        """Return the token ids of the prompts of each class."""
        ids = self._tokenize([prompt for own in self.prompts(labels) for prompt in own])
        return ids.unflatten(0, (len(labels), -1))

    def _tokenize(self, texts: list[str]) -> Int[Tensor, "text token"]:
        assert isinstance(self.backbone, ClipBackbone)
        return self.backbone.tokenize(texts)

    def adapt_text(self, text: Int[Tensor, "*labels stage token"]) -> Float[Tensor, "*labels sentence dim"]:
        """Token ids -> text features: the frozen blocks once per class, then the adapted ones (eq. 12-14)."""
        clip = text_transformer(self.backbone, self.name)
        ids = text.to(clip.positional_embedding.device).flatten(0, -3)
        sentences = torch.stack([self._frozen_sentences(own) for own in ids])
        for index, block in enumerate(clip.transformer.resblocks[self.first_text :]):
            adapted = self.text_blocks[index] if index < len(self.text_blocks) else over_tokens
            sentences = run_block(self.backbone, partial(adapted, block, mask=clip.attn_mask), sentences)
        features = read_out_text(clip, sentences, ids)
        if self.config.text == "average":
            features = features.mean(1, keepdim=True)
        return features.unflatten(0, text.shape[:-2])

    @torch.compiler.disable
    def _frozen_sentences(self, ids: Int[Tensor, "stage token"]) -> Float[Tensor, "stage token channel"]:
        """Run the blocks before the first adapted one for a class; cached while the text tower is frozen."""
        clip = text_transformer(self.backbone, self.name)
        trains = clip.positional_embedding.requires_grad
        key = (str(ids.device), ids.cpu().numpy().tobytes())
        if not trains and key in self._known:
            return self._known[key]
        sentences = embed_text(clip, ids)
        for block in clip.transformer.resblocks[: self.first_text]:
            sentences = run_block(self.backbone, partial(over_tokens, block, mask=clip.attn_mask), sentences)
        if not trains:
            self._known[key] = sentences
        return sentences

    # ----------------------------------------------------------------------- match

    def text_scores(self, query: Float[Tensor, "episode query frame dim"], text: Tensor) -> dict[str, Tensor]:
        """Equations 15 to 17: `text_scores` [episode, query, way], and `stage_scores` [episode, query, way, stage].

        Args:
            query: frame features.
            text: [episode, way, stage, dim].

        Raises:
            ValueError: the leaky variant needs as many queries as classes.
        """
        named: dict[str, Tensor] = {}
        frames = query
        if self.config.alignment == "conv1d":
            frames = query + self.convolution(query.flatten(0, 1).transpose(1, 2)).transpose(1, 2).view_as(query)
        if self.config.alignment == "attention":
            frames, weights = self._align(query)
            if self.config.keep_attention:
                named["alignment_attention"] = weights
        stages = stage_scores(frames, text, self._stages(), self.config.stage_score == "cosine-of-mean")
        scores = stages.mean(-1)
        if self.traits.leaks_labels:
            if scores.shape[-1] != scores.shape[-2]:
                raise ValueError(
                    f"variant official-leaky multiplies [class, query] with [query, class] scores and so needs one "
                    f"query per class; got {scores.shape[-2]} queries for {scores.shape[-1]} classes"
                )
            scores = scores.mT
        return named | {"text_scores": scores, "stage_scores": stages}

    def _stages(self) -> int:
        """Number of stages of a video."""
        by_stage = self.config.text == "stages" or (self.config.text == "label" and self.config.alignment != "none")
        return STAGES if by_stage else 1

    def _align(self, query: Float[Tensor, "episode query frame dim"]) -> tuple[Tensor, Tensor]:
        """Equation 15, over all queries or (`inductive`) each alone; also return the last attention weights."""
        frames = query.flatten(0, 1)[:, None] if self.config.inductive else query
        norm = self.alignment_norm if self.config.alignment_norm else nn.Identity()
        weights = frames
        for _ in range(self.config.alignment_layers):
            frames, weights = neighbours(frames, norm, self.config.residual == "earlier", query.shape[-1] ** -0.5)
        return frames.reshape(*query.shape[:2], *frames.shape[-2:]), weights


def neighbours(
    frames: Float[Tensor, "task query frame dim"], norm: nn.Module, add_earlier: bool, scale: float
) -> tuple[Float[Tensor, "task query pair dim"], Float[Tensor, "task pair query query"]]:
    """Equation 15: each frame of a query attends to the next frame of all queries of its task.

    Args:
        frames: of the queries.
        norm: on the attended frames.
        add_earlier: add the earlier frame of a pair, else the later one.
        scale: of the attention's logits.

    Returns:
        One feature per pair of neighbours, so one less than frames; and the attention weights.
    """
    earlier, later = frames[:, :, :-1], frames[:, :, 1:]
    weights = (scale * torch.einsum("tqfd,tkfd->tfqk", earlier, later)).softmax(-1)
    attended = norm(torch.einsum("tfqk,tkfd->tqfd", weights, later))
    return attended + (earlier if add_earlier else later), weights


def stage_windows(frames: int, stages: int) -> Float[Tensor, "stage frame"]:
    """Weights of each stage's mean (eq. 16), in overlapping windows.

    Args:
        frames: number of frames.
        stages: number of stages.

    Example:
        >>> (stage_windows(7, 3) > 0).int().tolist()
        [[1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1]]
    """
    weights = torch.zeros(stages, frames)
    for stage in range(stages):
        begin, end = stage * frames // stages, -(-(stage + 1) * frames // stages)
        weights[stage, begin:end] = 1 / (end - begin)
    return weights


def stage_scores(
    frames: Float[Tensor, "episode query frame dim"],
    text: Float[Tensor, "episode way sentence dim"],
    stages: int,
    of_mean: bool,
) -> Float[Tensor, "episode query way stage"]:
    """Equations 16 and 17 before the mean over stages.

    Args:
        frames: of the queries.
        text: one sentence per stage, or one for all stages.
        stages: number of stages.
        of_mean: cosine of each stage's mean frame; if false, mean of its frames' cosines.
    """
    windows = stage_windows(frames.shape[-2], stages).to(frames)
    text = text.expand(*text.shape[:2], stages, text.shape[-1])
    if of_mean:
        pooled = torch.einsum("sf,eqfd->eqsd", windows, frames)
        return frame_similarity(pooled, text).diagonal(dim1=-2, dim2=-1)
    return torch.einsum("eqwfs,sf->eqws", frame_similarity(frames, text), windows)


def over_tokens(block: ResidualAttentionBlock, sentences: Tensor, mask: Tensor) -> Tensor:
    """Run a frozen text block as CLIP does, sentence by sentence.

    Args:
        block: of CLIP.
        sentences: [*texts, token, channel].
        mask: [token, token], the causal one.
    """
    sentences = sentences + attend(block, block.ln_1(sentences), mask=mask)
    return sentences + feed_forward(block, block.ln_2(sentences))


class OrderAdaptedBlock(nn.Module):
    """The order adapter of one text block; the frozen block is an argument of `forward`.

    Args:
        width: channels of a token.
        order_at: attend over the sentences before the block's own attention (`front`), or after it (`back`).
    """

    def __init__(self, width: int, order_at: str):
        super().__init__()
        self.order = Adapter(width)
        self.order_at = order_at

    def forward(self, block: ResidualAttentionBlock, sentences: Sentences, mask: Tensor) -> Sentences:
        """Equations 12 to 14.

        Args:
            block: of CLIP.
            sentences: of each class.
            mask: [token, token], the causal one.
        """
        if self.order_at == "front":
            sentences = self.over_sentences(block, sentences)
        sentences = sentences + attend(block, block.ln_1(sentences), mask=mask)
        if self.order_at == "back":
            sentences = self.over_sentences(block, sentences)
        return sentences + feed_forward(block, block.ln_2(sentences))

    def over_sentences(self, block: ResidualAttentionBlock, sentences: Sentences) -> Sentences:
        """Equation 13: every token attends to the tokens with the same index in the sentences of the class."""
        across = rearrange(block.ln_1(sentences), "label stage token channel -> label token stage channel")
        ordered = self.order(attend(block, across))
        return sentences + rearrange(ordered, "label token stage channel -> label stage token channel")
