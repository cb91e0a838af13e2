"""Transformers over a video's frames, as the CLIP-FSAR family uses them.

One layer of attention and feed-forward, without a positional embedding:

    x = out(MHA(LN(q), LN(k), LN(v))) + q          one LN for all three; the residual is q before LN
    y = FFN(x) + x                                 no norm before or after
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class TemporalTransformer(nn.Module):
    """One layer of (cross-)attention over frames, with its feed-forward part.

    Args:
        dim: channels of a frame.
        heads: of the attention.
        head_dim: channels per head; None is dim / heads.
        hidden: channels inside the feed-forward part.
        attention_dropout: after the attention's output map.
        dropout: inside and after the feed-forward part.
        norm: normalise q, k and v; False gives exactly equations 9 to 12 of MA-FSAR.

    Raises:
        ValueError: `head_dim` is None and `heads` do not divide `dim`.

    Example:
        >>> layer = TemporalTransformer(16, heads=2, hidden=8)
        >>> frames, texts = torch.randn(3, 8, 16), torch.randn(3, 1, 16)
        >>> layer(frames).shape, layer(frames, texts).shape
        (torch.Size([3, 8, 16]), torch.Size([3, 8, 16]))
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        head_dim: int | None = None,
        hidden: int = 2048,
        attention_dropout: float = 0.2,
        dropout: float = 0.05,
        norm: bool = True,
    ):
        super().__init__()
        if head_dim is None and dim % heads:
            raise ValueError(f"{heads} heads do not divide features of {dim} channels; choose another backbone")
        inner = heads * (head_dim or dim // heads)
        self.heads = heads
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.to_query = nn.Linear(dim, inner, bias=False)
        self.to_key = nn.Linear(dim, inner, bias=False)
        self.to_value = nn.Linear(dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(attention_dropout))
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )

    def forward(
        self,
        query: Float[Tensor, "*videos frame dim"],
        context: Float[Tensor, "*videos row dim"] | None = None,
    ) -> Float[Tensor, "*videos frame dim"]:
        """Attend from frames to rows.

        Args:
            query: the frames that attend.
            context: the rows that give keys and values; by default the frames themselves.
        """
        normed_context = self.norm(query if context is None else context)
        mapped = (self.to_query(self.norm(query)), self.to_key(normed_context), self.to_value(normed_context))
        queries, keys, values = (split_heads(rows, self.heads) for rows in mapped)
        attended = scaled_dot_product_attention(queries, keys, values)
        mixed = self.to_out(join_heads(attended)) + query
        return mixed + self.feed_forward(mixed)


def require_frames(made: int, got: int) -> None:
    """Refuse videos of another number of frames than a layer was made for.

    Raises:
        ValueError: the numbers differ.
    """
    if got != made:
        raise ValueError(
            f"the method was built for {made} frames per video and got {got}; set its option `frames` to {got}, as in "
            f"--method NAME:frames={got}, or sample {made} frames"
        )


def split_heads(rows: Float[Tensor, "*sets row dim"], heads: int) -> Float[Tensor, "*sets head row channel"]:
    """Split the channels of queries, keys or values among the heads of an attention.

    Args:
        rows: of any number of sets.
        heads: they must divide `dim`.

    Example:
        >>> split_heads(torch.zeros(2, 5, 16), 4).shape
        torch.Size([2, 4, 5, 4])
    """
    return rearrange(rows, "... row (head channel) -> ... head row channel", head=heads)


def join_heads(rows: Float[Tensor, "*sets head row channel"]) -> Float[Tensor, "*sets row dim"]:
    """Join the channels of all heads; the inverse of `split_heads`.

    Args:
        rows: as `split_heads` gives them.

    Example:
        >>> rows = torch.randn(2, 5, 16)
        >>> join_heads(split_heads(rows, 4)).equal(rows)
        True
    """
    return rearrange(rows, "... head row channel -> ... row (head channel)")


def with_text(
    frames: Float[Tensor, "*videos frame dim"], text: Float[Tensor, "*videos dim"]
) -> Float[Tensor, "*videos frame_and_text dim"]:
    """Append a class text to the frames, as one more row."""
    return torch.cat([frames, text.unsqueeze(-2)], -2)
