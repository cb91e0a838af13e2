"""A small network beside a frozen CLIP ViT: a ladder with a step for every block, and its start from CLIP's weights.

Long et al., "Task-specific distance correlation matching for few-shot action recognition", AAAI 2026 (TS-FSAR). h_l are
the hidden states of CLIP's ViT after block l (l = 0: before the first):

    r_l = D_l LN_l(h_l);   g_0 = r_0;   g_l = s_l Block_l(g_(l-1)) + (1 - s_l) r_l,   s_l = sigmoid(gamma_l / 0.1)

| what | function |
|---|---|
| g_l | `Ladder` |
| principal components of CLIP's weights as initial values | `start_from`, `principal_scores` |
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from fsar.layers.temporal import join_heads, split_heads
from fsar.shapes import Tokens

GATE = 0.1
"""Temperature of the gates."""


class Attention(nn.Module):
    """Multi-head self-attention with biases, queries, keys and values mapped apart.

    Args:
        dim: channels of a row.
        heads: they must divide `dim`.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, rows: Float[Tensor, "*sets row dim"]) -> Float[Tensor, "*sets row dim"]:
        """Let every row attend to the rows of its set."""
        query, key, value = (split_heads(layer(rows), self.heads) for layer in (self.query, self.key, self.value))
        return self.out(join_heads(scaled_dot_product_attention(query, key, value)))

    def start_from(self, block: ResidualAttentionBlock) -> None:
        """Take principal components of the attention of a block of CLIP as initial values."""
        weights = [*block.attn.in_proj_weight.chunk(3), block.attn.out_proj.weight]
        biases = [*block.attn.in_proj_bias.chunk(3), block.attn.out_proj.bias]
        for layer, weight, bias in zip((self.query, self.key, self.value, self.out), weights, biases, strict=True):
            start_from(layer.weight, weight)
            start_from(layer.bias, bias)


class SideBlock(nn.Module):
    """A block of the small network; over the tokens of a frame, or over the frames of a token's place.

    Args:
        dim: channels of a token.
        heads: of the attention.
        over_time: attend over frames.
    """

    def __init__(self, dim: int, heads: int, over_time: bool):
        super().__init__()
        self.over_time = over_time
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tokens) -> Tokens:
        """Run the block."""
        normed = self.norm_1(tokens)
        seen = self.attention(normed.transpose(-3, -2)).transpose(-3, -2) if self.over_time else self.attention(normed)
        tokens = tokens + seen
        return tokens + self.mlp(self.norm_2(tokens))

    def start_from(self, block: ResidualAttentionBlock) -> None:
        """Take principal components of a block of CLIP as initial values."""
        self.attention.start_from(block)
        pairs: tuple[tuple[nn.Module, nn.Module], ...] = (
            (self.norm_1, block.ln_1),
            (self.norm_2, block.ln_2),
            (self.mlp[0], block.mlp.c_fc),
            (self.mlp[2], block.mlp.c_proj),
        )
        for ours, theirs in pairs:
            for name, parameter in ours.named_parameters():
                start_from(parameter, theirs.get_parameter(name))


class Ladder(nn.Module):
    """The small network beside CLIP: a step for every block, gated between its own tokens and CLIP's.

    Args:
        width: channels of CLIP's tokens.
        blocks: of CLIP.
        dim: channels of the small network.
        heads: of its attentions.
        temporal_blocks: numbers of the blocks that attend over time, from 1.
    """

    def __init__(self, width: int, blocks: int, dim: int, heads: int, temporal_blocks: Sequence[int]):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks + 1))
        self.downs = nn.ModuleList(nn.Linear(width, dim, bias=False) for _ in range(blocks + 1))
        self.blocks = nn.ModuleList(SideBlock(dim, heads, number in temporal_blocks) for number in range(1, blocks + 1))
        self.gates = nn.Parameter(torch.zeros(blocks))

    def forward(self, hidden: Iterable[Tokens]) -> Float[Tensor, "*clips frame token side"]:
        """Climb along CLIP's hidden states.

        Args:
            hidden: before the first block, and after every block.
        """
        states = (down(norm(h)) for h, norm, down in zip(hidden, self.norms, self.downs, strict=True))
        tokens = next(states)
        for block, gate, state in zip(self.blocks, (self.gates / GATE).sigmoid(), states, strict=True):
            tokens = gate * block(tokens) + (1 - gate) * state
        return tokens

    def start_from(self, blocks: Iterable[nn.Module]) -> None:
        """Take principal components of the blocks of CLIP as initial values."""
        for ours, theirs in zip(self.blocks, blocks, strict=True):
            assert isinstance(ours, SideBlock) and isinstance(theirs, ResidualAttentionBlock)
            ours.start_from(theirs)


@torch.no_grad()
def start_from(parameter: Tensor, source: Tensor) -> None:
    """Fill a parameter with the main directions of a larger one; it stays as it is if `source` is smaller.

    The public code does so too, and does not say when it stays as it is.

    Args:
        parameter: a vector, or a matrix [row, column].
        source: a vector is resampled bicubically. Of a matrix, principal components describe the rows, or the columns
            if `parameter` has more columns than rows.
    """
    if any(ours > theirs for ours, theirs in zip(parameter.shape, source.shape, strict=True)):
        return
    if parameter.ndim == 1:
        line = source.detach().float()[None, None, None]
        parameter.copy_(interpolate(line, size=(1, len(parameter)), mode="bicubic")[0, 0, 0])
        return
    rows, columns = parameter.shape
    if rows >= columns:
        parameter.copy_(principal_scores(source.detach(), columns)[:rows])
    else:
        parameter.copy_(principal_scores(source.detach().mT, rows).mT[:, :columns])


def principal_scores(rows: Float[Tensor, "row dim"], count: int) -> Float[Tensor, "row component"]:
    """Centre rows, and project them onto their first principal components.

    A component's largest entry is positive, so that the same rows give the same scores.

    Args:
        rows: of any scale.
        count: components, at most `dim`.

    Example:
        >>> principal_scores(torch.tensor([[0.0, 0.0], [0.0, 2.0], [0.0, 4.0]]), 1).flatten().tolist()
        [-2.0, 0.0, 2.0]
    """
    centred = rows.float() - rows.float().mean(0)
    _, directions = torch.linalg.eigh(centred.mT @ centred)  # ascending
    first = directions.flip(-1)[:, :count]
    largest = first.gather(0, first.abs().argmax(0, keepdim=True))
    return (centred @ (first * largest.sign())).to(rows.dtype)
