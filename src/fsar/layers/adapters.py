"""Bottleneck adapters, and the parts of frozen CLIP blocks between which adapters go.

An adapted encoder takes the same steps as the frozen one:

    tokens = embed_frames(visual, clips, temporal_embedding)
    for block in visual.transformer.resblocks:
        tokens = tokens + adapter(attend(block, block.ln_1(tokens)))       differs between methods
        tokens = tokens + feed_forward(block, block.ln_2(tokens))
    frames = read_out(visual, tokens)

An adapted text tower does the same with `text_transformer`, `embed_text`, `attend(..., mask)` and `read_out_text`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from open_clip import CLIP
from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fsar.backbones import Backbone
from fsar.layers.temporal import require_frames
from fsar.shapes import Clips, FrameFeatures, Tokens


class Adapter(nn.Module):
    """Two linear maps with a GELU between: [..., channel] -> [..., channel].

    By default the second map starts at zero, so that a new adapter adds nothing (AIM, Yang et al., ICLR 2023).

    Args:
        width: channels of a token.
        ratio: of the bottleneck to the width.
        skip: add the input to the output.
        zero_init: start the second map at zero; False starts it at PyTorch's initial values.

    Example:
        >>> Adapter(8)(torch.ones(2, 8)).abs().max().item()
        0.0
    """

    def __init__(self, width: int, ratio: float = 0.25, skip: bool = False, zero_init: bool = True):
        super().__init__()
        self.skip = skip
        self.down = nn.Linear(width, int(width * ratio))
        self.up = nn.Linear(int(width * ratio), width)
        if zero_init:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Float[Tensor, "*tokens channel"]) -> Float[Tensor, "*tokens channel"]:
        """Apply the adapter to every token."""
        change = self.up(nn.functional.gelu(self.down(tokens)))
        return tokens + change if self.skip else change


CLIP_VITS = "tiny, ViT-B-32/openai or ViT-B-16/openai"


def vision_transformer(backbone: Backbone, method: str, usable: str = CLIP_VITS) -> VisionTransformer:
    """Return the ViT that adapters go into.

    Args:
        backbone: any.
        method: name of the method, for the message.
        usable: backbones that the method takes, for the message.

    Raises:
        ValueError: the backbone's image encoder is no CLIP ViT.
    """
    visual = getattr(getattr(backbone, "clip", None), "visual", None)
    if not isinstance(visual, VisionTransformer) or not _is_plain(visual):
        raise ValueError(
            f"{method} puts adapters between the blocks of a CLIP ViT, and backbone {backbone.name!r} has none; "
            f"use {usable}, or a method without adapters (clip-fsar, trx, hyrsm, otam)"
        )
    return visual


def _is_plain(visual: VisionTransformer) -> bool:
    """Whether the ViT reads out its class token and has CLIP's own blocks."""
    return visual.pool_type == "tok" and _has_plain_blocks(visual.transformer)


def _has_plain_blocks(transformer: Transformer) -> bool:
    return all(type(block) is ResidualAttentionBlock for block in transformer.resblocks)


def width_of(visual: VisionTransformer) -> int:
    """Channels of a token."""
    return visual.ln_post.normalized_shape[0]


def require_bottleneck(method: str, ratio: float, width: int) -> None:
    """Check that an adapter's bottleneck has at least one channel.

    Args:
        method: for the message.
        ratio: of the bottleneck to the width.
        width: channels of a token.

    Raises:
        ValueError: the bottleneck has no channel.
    """
    if int(width * ratio) < 1:
        raise ValueError(
            f"{method} got ratio {ratio}; expected at least 1/{width}, one over the width of a token, so that the "
            f"adapters' bottleneck has a channel"
        )


def temporal_embedding(visual: VisionTransformer, frames: int) -> nn.Parameter:
    """Make a trainable embedding of the frame's index [frame, channel] that starts at zero (AIM)."""
    return nn.Parameter(visual.positional_embedding.new_zeros(frames, width_of(visual)))


def embed_frames(
    visual: VisionTransformer,
    clips: Clips,
    temporal: Float[Tensor, "index channel"] | None = None,
    class_embedding: Float[Tensor, " channel"] | None = None,
) -> Tokens:
    """Embed the patches of every frame: the input of the first block. Token 0 is the class token.

    Args:
        visual: of CLIP.
        clips: normalised.
        temporal: embedding of the frame's index, added to all tokens of a frame.
        class_embedding: the class token before its place is added; by default CLIP's.

    Returns:
        [*clips, frame, token, channel], after `ln_pre`.

    Raises:
        ValueError: `temporal` was made for another number of frames.
    """
    patches = visual.conv1(clips.flatten(0, -4)).flatten(2).transpose(1, 2)  # image place channel
    token = visual.class_embedding if class_embedding is None else class_embedding.to(patches)
    tokens = torch.cat([token.expand(len(patches), 1, -1), patches], 1)
    tokens = (tokens + visual.positional_embedding).unflatten(0, clips.shape[:-3])
    return visual.ln_pre(tokens if temporal is None else add_index(tokens, temporal))


def add_index(tokens: Tokens, temporal: Float[Tensor, "index channel"]) -> Tokens:
    """Add the embedding of the frame's index to every token.

    Args:
        tokens: of videos.
        temporal: one row per frame.

    Raises:
        ValueError: `temporal` was made for another number of frames.
    """
    require_frames(len(temporal), tokens.shape[-3])
    return tokens + temporal[:, None]


def attend(
    block: ResidualAttentionBlock,
    tokens: Float[Tensor, "*batch token channel"],
    context: Float[Tensor, "*batch context channel"] | None = None,
    mask: Float[Tensor, "token context"] | None = None,
) -> Float[Tensor, "*batch token channel"]:
    """Run the block's frozen attention, without normalisation and residual.

    Args:
        block: of CLIP.
        tokens: normalised; the queries of the attention.
        context: normalised; keys and values. By default, the tokens themselves.
        mask: added to the attention's logits.

    Returns:
        One output per token in `tokens`.
    """
    flat = tokens.reshape(-1, *tokens.shape[-2:])
    to = flat if context is None else context.reshape(-1, *context.shape[-2:])
    return block.ls_1(block.attn(flat, to, to, need_weights=False, attn_mask=mask)[0]).reshape(tokens.shape)


def feed_forward(block: ResidualAttentionBlock, tokens: Float[Tensor, "*tokens channel"]) -> Tensor:
    """Run the block's frozen MLP on normalised tokens, without the residual."""
    return block.ls_2(block.mlp(tokens))


def read_out(visual: VisionTransformer, tokens: Tokens) -> FrameFeatures:
    """Map each frame's class token to CLIP's image embedding."""
    return visual.ln_post(tokens[..., 0, :]) @ visual.proj


def text_transformer(backbone: Backbone, method: str) -> CLIP:
    """Return the CLIP whose text tower adapters go into.

    Args:
        backbone: any.
        method: name of the method, for the message.

    Raises:
        ValueError: the backbone has no text tower of CLIP's own kind.
    """
    clip = getattr(backbone, "clip", None)
    if not isinstance(clip, CLIP) or clip.text_pool_type != "argmax" or not _has_plain_blocks(clip.transformer):
        raise ValueError(
            f"{method} works inside CLIP's own text tower, and backbone {backbone.name!r} has none; use tiny, "
            f"ViT-B-32/openai or ViT-B-16/openai"
        )
    return clip


def embed_text(clip: CLIP, ids: Int[Tensor, "*texts token"]) -> Float[Tensor, "*texts token channel"]:
    """Embed words and positions: the input of the first text block."""
    return clip.token_embedding(ids) + clip.positional_embedding


def read_out_text(
    clip: CLIP, tokens: Float[Tensor, "*texts token channel"], ids: Int[Tensor, "*texts token"]
) -> Float[Tensor, "*texts dim"]:
    """Map each text's last token to CLIP's text embedding.

    Args:
        clip: its `ln_final` and projection are used.
        tokens: after the last block.
        ids: of the same texts; the last token is the one with the highest id.

    Returns:
        Text features, not normalised.
    """
    last = ids.argmax(-1)[..., None, None].expand(*ids.shape[:-1], 1, tokens.shape[-1])
    return clip.ln_final(tokens.gather(-2, last).squeeze(-2)) @ clip.text_projection


def run_block(backbone: Backbone, block: Callable[..., Tensor], *inputs: object) -> Tensor:
    """Run a block; if the backbone checkpoints activations, compute the block again in the backward pass.

    Args:
        backbone: its `checkpointing` decides.
        block: inputs -> tokens.
        inputs: of the block.

    Returns:
        What the block returns.
    """
    if backbone.checkpointing:
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
