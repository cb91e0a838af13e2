"""Attention of a ViT image encoder: what the class token of each frame looks at.

The weights are recorded while the method runs, so they are those of its own forward pass, mean over heads. They come in
three kinds: over the tokens of a frame, over the frames of a video, and over the videos of a task. An adapter called
`temporal` or `task` reads the output of an attention over frames or videos; all other attention is over tokens.

`class_attention` gives the last block's weights (or another block's), or rollout over all blocks: Abnar and Zuidema,
"Quantifying attention flow in transformers", ACL 2020:

    rollout = product over blocks of (A + 1) / 2, the last block on the left; its row of the class token

Tokens that a block adds for itself (MA-FSAR's tokens of time and of the class text) end there: what flows to them
stays. Attention over frames and videos is no part of the product.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fsar.backbones import Backbone
from fsar.layers.adapters import Adapter
from fsar.methods.base import Method
from fsar.methods.episode import Role
from fsar.shapes import Clips

OVER = {"temporal": "frames", "task": "videos"}
"""Name of an adapter -> what the attention before it is over."""


@dataclass
class Record:
    """One run of one attention layer."""

    block: int
    """Number of the block, from 0."""
    weights: Float[Tensor, "batch query_token key_token"]
    """Mean over heads; each row sums to one."""
    tokens: Float[Tensor, "batch key_token channel"]
    """The normalised tokens that were attended to."""
    over: str = "tokens"
    """`tokens`, `frames` or `videos`."""


def attention_layers(backbone: Backbone) -> list[nn.Module]:
    """List the attention layers of a ViT image encoder, the first block first; none if it is no ViT."""
    visual = getattr(getattr(backbone, "clip", None), "visual", None)
    if visual is not None:
        return [module for module in visual.modules() if isinstance(module, nn.MultiheadAttention)]
    return [
        m for m in backbone.modules() if isinstance(getattr(m, "attn_drop", None), nn.Dropout) and hasattr(m, "qkv")
    ]


@contextmanager
def recorded(method: Method) -> Iterator[list[Record]]:
    """Record the attention of a method's image encoder while the block of `with` runs.

    Args:
        method: its backbone must be a ViT.

    Yields:
        A list that grows with every run of an attention layer.

    Raises:
        ValueError: the backbone is no ViT.
    """
    layers, records = attention_layers(method.backbone), list[Record]()
    if not layers:
        raise ValueError(
            f"backbone {method.backbone.name!r} has no attention to show; use a ViT (tiny, ViT-B-16/openai, "
            f"timm/vit_...), or `fsar explain gradcam`"
        )
    with ExitStack() as stack:
        for block, layer in enumerate(layers):
            note = partial(_note, records, block)
            torch_own = isinstance(layer, nn.MultiheadAttention)
            stack.enter_context(_watch_torch(layer, note) if torch_own else _watch_timm(layer, note))
        for name, module in method.named_modules():
            if isinstance(module, Adapter) and (over := OVER.get(name.rpartition(".")[2])):
                hook = module.register_forward_pre_hook(lambda *_, over=over: setattr(records[-1], "over", over))
                stack.callback(hook.remove)
        yield records


def _note(records: list[Record], block: int, weights: Tensor, tokens: Tensor) -> None:
    records.append(Record(block, weights, tokens))


@contextmanager
def _watch_torch(layer: nn.Module, note: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Ask torch's attention for its weights."""

    def ask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs | {"need_weights": True, "average_attn_weights": True}

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Tensor]) -> None:
        note(output[1], args[1] if len(args) > 1 else kwargs["key"])

    hooks = (
        layer.register_forward_pre_hook(ask, with_kwargs=True),
        layer.register_forward_hook(keep, with_kwargs=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _watch_timm(layer: Any, note: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Let timm's attention compute its weights one by one, and read them before their dropout."""
    fused, tokens = layer.fused_attn, list[Tensor]()
    layer.fused_attn = False
    hooks = (
        layer.register_forward_pre_hook(lambda _, args: tokens.append(args[0])),
        layer.attn_drop.register_forward_pre_hook(lambda _, args: note(args[0].mean(1), tokens[-1])),
    )
    try:
        yield
    finally:
        layer.fused_attn = fused
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class ClassAttention:
    """What the class token of each frame looks at; the shares of a frame sum to one."""

    patches: Float[Tensor, "*videos frame row column"]
    others: Mapping[str, Float[Tensor, "*videos frame"]]
    """Share of each token that is no patch: the class token itself, registers, MA-FSAR's time and text token."""


def token_layout(backbone: Backbone) -> tuple[tuple[int, int], int]:
    """Return rows and columns of a ViT's patches, and how many tokens stand before them.

    Raises:
        ValueError: the encoder has no class token.
    """
    visual = getattr(getattr(backbone, "clip", None), "visual", None)
    if visual is not None:
        return tuple(visual.grid_size), 1
    model: Any = getattr(backbone, "model", None)
    prefix = getattr(model, "num_prefix_tokens", 0)
    if not prefix:
        raise ValueError(f"backbone {backbone.name!r} has no class token whose attention could be shown")
    return tuple(model.patch_embed.grid_size), prefix


def class_attention(
    records: Sequence[Record], backbone: Backbone, videos: tuple[int, ...], block: int | None = None
) -> ClassAttention:
    """Read the class token's attention from the records of some videos.

    Args:
        records: of these videos alone, in the order of the blocks.
        backbone: says where patches are.
        videos: leading axes of the videos, and the number of frames.
        block: number of a block, from 0, negative ones from the end; None is rollout over all blocks.

    Returns:
        Shares [*videos, frame, ...].

    Raises:
        ValueError: no such block.
    """
    (rows, columns), prefix = token_layout(backbone)
    tokens = prefix + rows * columns
    over_tokens = [record for record in records if record.over == "tokens"]
    blocks = len(over_tokens)
    if block is not None and not -blocks <= block < blocks:
        raise ValueError(f"block {block} is asked for; the encoder has the blocks 0 to {blocks - 1}")
    weights = [record.weights for record in over_tokens]
    shares = rollout(weights, tokens) if block is None else weights[block][:, 0]
    at = over_tokens[-1 if block is None else block].block
    has_time = any(record.over == "frames" and record.block == at for record in records)
    added = shares.shape[-1] - tokens
    names = ["class token"] + [f"register {i}" for i in range(1, prefix)]
    names += [*(["time token"] if has_time else []), "text token", *(f"token {i}" for i in range(added))][:added]
    single = torch.cat([shares[:, :prefix], shares[:, tokens:]], -1).unflatten(0, videos)
    patches = shares[:, prefix:tokens].unflatten(-1, (rows, columns)).unflatten(0, videos)
    return ClassAttention(patches, {name: single[..., i] for i, name in enumerate(names)})


def rollout(weights: Sequence[Float[Tensor, "batch _query _key"]], tokens: int) -> Float[Tensor, "batch key_token"]:
    """Multiply the attention of all blocks, each with the residual connection, and take the row of the class token.

    Args:
        weights: of each block, the first one first. Only the last may have fewer queries than tokens.
        tokens: how many tokens go from block to block. Keys beyond them belong to one block; what flows there stays.

    Returns:
        Shares that sum to one: of the tokens before the first block, then of the added ones.

    Example:
        >>> even = torch.full((1, 2, 2), 0.5)
        >>> rollout([even], 2), rollout([even, even], 2)
        (tensor([[0.7500, 0.2500]]), tensor([[0.6250, 0.3750]]))
    """
    row = weights[-1].new_zeros(len(weights[-1]), tokens)
    row[:, 0] = 1
    stays = row.new_zeros(len(row), weights[-1].shape[-1] - tokens)
    for block in reversed(weights):
        queries = min(tokens, block.shape[1])
        mixed = torch.einsum("bq,bqk->bk", row[:, :queries], block[:, :queries])
        row, stays = (row + mixed[:, :tokens]) / 2, stays + mixed[:, tokens:] / 2
    return torch.cat([row, stays], -1)


@torch.no_grad()
def attention_of_videos(
    method: Method, clips: Clips, role: Role = "query", text: Tensor | None = None, block: int | None = -1
) -> ClassAttention:
    """Run a method's encoder on videos, each alone, and return what the class tokens look at.

    Args:
        method: any with a ViT.
        clips: normalised as `Method.normalization` says.
        role: of the videos; MA-FSAR reads a support video with its class text.
        text: class texts of support videos, if the method reads them.
        block: as for `class_attention`.

    Returns:
        Shares [*clips, frame, ...].

    Raises:
        ValueError: the backbone is no ViT, or the method adapts videos of this role with their episode only.

    Example:
        >>> from fsar import build_method, load_backbone
        >>> method = build_method("protonet", load_backbone("tiny"))
        >>> attention = attention_of_videos(method, torch.zeros(1, 4, 3, 64, 64))
        >>> attention.patches.shape, list(attention.others)  # video frame row column
        (torch.Size([1, 4, 8, 8]), ['class token'])
    """
    method = alone(method)
    with recorded(method) as records:
        method.encode(clips, role, text)
    blocks = {record.block for record in records if record.over == "tokens"}
    if len(blocks) < len(attention_layers(method.backbone)):
        raise ValueError(
            f"{method.name} looks at a {role} video together with its episode; name an episode (--data, --episode), "
            f"or show the video as a query"
        )
    return class_attention(records, method.backbone, tuple(clips.shape[:-3]), block)


def alone(method: Method) -> Method:
    """Return the mode of a method in which each query is matched alone, so that its records are its own."""
    return (method.other_mode() or method) if method.traits.transductive else method
