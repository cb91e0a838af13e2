"""TEAM: videos become sets of learned tokens, which are compared one by one; frames are not aligned.

Lee et al., "Temporal alignment-free video matching for few-shot action recognition", CVPR 2025. A are the learned
tokens, n a LayerNorm, phi(x) = x + L2 relu(L1 x), E TRX's sines, F the frames of a query or the class means:

    o = softmax( n(A) n(F + E)^T / sqrt(D / 8) ) n(F + E)
    I = relu phi(A + o),   X = relu phi(A - o)                          instance and exclusive tokens
    r = cos(I_c, I_j), s = cos(X_c, X_j)                                of class c and every other class j, per token
    I'_c = mean over j of relu phi( A + o_c - r (o_j - o_c) ),   X'_c = mean over j of relu phi( A - o_c + s (o_j - o_c) )
    d(a, b) = sum over tokens of 1 - cos(a, b)
    D+[q, c] = d(I'_c, I_q)
    D-[q, c] = (max over j of d(I'_j, X_q) + max over j of d(X'_j, I_q)) / 2
    logits = -(D+ + D-),   loss = CE(-D+) + CE(-D-)

| what | function |
|---|---|
| o | `Team.aggregated` |
| phi | `Team.refined` |
| I', X' | `Team.adapted` |
| d | `token_distance` |
| D+, D- | `Team.match` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| attention | cross-attention | no maps for q, k and v, one head; 8 heads only set the temperature | the code's |
| o | P + attention, then P + MLP | with LayerNorms, E and a last relu | the code's |
| class | - | mean over shots of the frames, before everything else | the code's |
| ablations | - | classes of their own | `adaptation: plain` (r = s = 1), `off` (I, X instead of I', X'); `distances: positive` (D+ alone, in the loss, too); `readout: negative` (D- predicts) |
| one class | - | not possible | its tokens stay (I' = I), and D- is 0 |
| BatchNorm of a ResNet | - | trains from the first step, by a copy of the code | the same in the recipes (`freeze_batch_norm: false`); support and queries are two batches |
| precision | - | half precision in training and test, without a scaled gradient | as the recipe says |
| loss | - | means / episodes of a step | means |
| first step | - | after one episode fewer | every `episodes_per_step` |
| pixels | - | mean 0.45, deviation 0.225 in every channel | `pixels: normalized` (default) or `slowfast` |
| state that is kept | - | the best of 20 on the test classes, then called best_val | the best on the val classes, unless the recipe has `protocol: paper` |
| flips | - | on every benchmark | not where names tell left from right |
| encoder | ResNet-50; ViT-B | ResNet-50; timm's ViT-B/16, its pooled class token | the recipe's ResNet-50 |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize

from fsar.backbones import Backbone
from fsar.config import ablation
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction, Targets, mean_over_shots, query_cross_entropy
from fsar.methods.trx import positional_encoding
from fsar.shapes import FrameFeatures, Logits

VideoTokens = Float[Tensor, "episode video token dim"]
HEADS = 8
"""Only the temperature of the attention depends on it."""


class Team(Method):
    """Learned tokens gather a video's frames; what tells classes apart sharpens the tokens of each class."""

    name = "team"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of TEAM."""

        least: ClassVar[dict[str, float]] = {"tokens": 1}

        tokens: int = 60
        """Learned tokens; the public code has 50 to 80, by benchmark, shots and encoder."""
        dropout: float = 0.1
        """Dropout after the positional encoding, on the attention weights, and on what tokens gather."""
        adaptation: Literal["weighted", "plain", "off"] = ablation("weighted")
        """Move a class's tokens away from the other classes: by similarity, by whole steps, or not."""
        distances: Literal["both", "positive"] = ablation("both")
        """Use instance and exclusive tokens, or instance tokens alone."""
        readout: Literal["both", "negative"] = ablation("both")
        """Predict by both distances, or by the negative one; with `distances: both`."""
        pixels: Literal["normalized", "slowfast"] = "normalized"
        """By the backbone's mean and deviation, or by 0.45 and 0.225 in every channel, as in the public code."""

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """With one distance, there is nothing to choose."""
            return ((self.distances == "positive", "distances: positive", ("readout",)),)

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        dim = backbone.dim
        self.tokens = nn.Parameter(torch.randn(config.tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.dropout = nn.Dropout(config.dropout)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Tokens and visual tower train; classes see each other in the adaptation and in the negative distance."""
        return Traits(
            trains=("own", "visual"),
            readouts=("readout",),
            independent_ways=config.distances == "positive" and config.adaptation == "off",
            matches_means=True,
            pixels=config.pixels,
            episodes_per_match=8,  # 5-way, 60 tokens of 2048 channels: 0.2 GB
        )

    def aggregated(self, frames: FrameFeatures) -> Float[Tensor, "*clips token dim"]:
        """Let every token gather the frames that are like it: o.

        Args:
            frames: of videos, or of class means.
        """
        rows = self.norm(self.dropout(frames + positional_encoding(*frames.shape[-2:]).to(frames)))
        scores = self.norm(self.tokens) @ rows.mT / (rows.shape[-1] / HEADS) ** 0.5
        return self.dropout(self.dropout(scores.softmax(-1)) @ rows)

    def refined(self, tokens: Float[Tensor, "*videos token dim"]) -> Float[Tensor, "*videos token dim"]:
        """Apply relu phi to tokens."""
        return (tokens + self.feed_forward(tokens)).relu()

    def adapted(
        self, gathered: VideoTokens, tokens: VideoTokens, sign: int, others: Bool[Tensor, "episode way other"]
    ) -> VideoTokens:
        """Move the tokens of each class away from those of the other classes: I' or X'.

        Without another class there is nothing to move away from, and the tokens stay.

        The first layer of phi is linear. So it runs on the tokens of every class once, and not on every pair.

        Args:
            gathered: o of the classes.
            tokens: I (sign 1) or X (sign -1) of the classes.
            sign: see `tokens`.
            others: true for the other classes, if they have a shot.
        """
        if self.config.adaptation == "off":
            return tokens
        shares = self._shares(tokens) * sign
        inside, activation, outside = self.feed_forward
        start = self.tokens + sign * gathered
        moved = _moved(start, gathered, shares)  # episode way other token dim
        hidden = _moved(inside(start), functional.linear(gathered, inside.get_parameter("weight")), shares)
        refined = (moved + outside(activation(hidden))).relu()
        weights = others / others.sum(-1, keepdim=True).clamp(min=1)
        mean = torch.einsum("ewo,ewomd->ewmd", weights.to(refined), refined)
        return torch.where(others.any(-1)[..., None, None], mean, tokens)

    def _shares(self, tokens: VideoTokens) -> Float[Tensor, "episode way other token"]:
        """Tell how far each token of a class moves away from that of another class: by their cosine, or whole steps."""
        if self.config.adaptation == "weighted":
            rows = normalize(tokens, dim=-1)
            return torch.einsum("ewmd,eomd->ewom", rows, rows)
        episodes, ways, count = tokens.shape[:3]
        return tokens.new_ones(episodes, ways, ways, count)

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus both distances. Named outputs: `positive` D+ and `negative` D-, with minus signs."""
        classes = self.aggregated(mean_over_shots(episode.support["frames"], episode.shot_mask))
        query = self.aggregated(episode.query["frames"])
        ways = classes.shape[1]
        present = episode.shot_mask.any(-1)
        others = present[:, None] & ~torch.eye(ways, dtype=torch.bool, device=classes.device)
        instance = self.refined(self.tokens + query)
        adapted = self.adapted(classes, self.refined(self.tokens + classes), 1, others)
        named = {"positive": -token_distance(instance, adapted)}
        if self.config.distances == "positive":
            return Prediction(named["positive"], named)
        exclusive = self.refined(self.tokens - query)
        adapted_exclusive = self.adapted(classes, self.refined(self.tokens - classes), -1, others)
        hardest = [
            _farthest(token_distance(of_query, of_class), others)
            for of_query, of_class in ((exclusive, adapted), (instance, adapted_exclusive))
        ]
        named["negative"] = -torch.stack(hardest).mean(0)
        both = named["positive"] + named["negative"]
        return Prediction(both if self.config.readout == "both" else named["negative"], named)

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """Cross-entropy of each distance, under its name."""
        return {name: query_cross_entropy(logits, targets) for name, logits in prediction.named.items()}


def _moved(
    start: VideoTokens, gathered: VideoTokens, shares: Float[Tensor, "episode way other token"]
) -> Float[Tensor, "episode way other token dim"]:
    """Move the tokens of each class, by shares of its difference to every class."""
    difference = gathered[:, :, None] - gathered[:, None]
    return torch.addcmul(start[:, :, None], shares[..., None], difference)


def token_distance(
    query: Float[Tensor, "episode query token dim"], classes: Float[Tensor, "episode way token dim"]
) -> Float[Tensor, "episode query way"]:
    """Sum over the tokens of 1 - cosine.

    Args:
        query: tokens of the queries.
        classes: tokens of the classes.

    Example:
        >>> tokens = torch.eye(2)[None, None]  # two tokens
        >>> token_distance(tokens, tokens.flip(2))
        tensor([[[2.]]])
    """
    similarity = torch.einsum("eqmd,ewmd->eqw", normalize(query, dim=-1), normalize(classes, dim=-1))
    return query.shape[2] - similarity


def _farthest(distance: Logits, others: Bool[Tensor, "episode way other"]) -> Logits:
    """For each class, the largest distance of a query to another class; 0 if there is no other."""
    pairs = distance[:, :, None].masked_fill(~others[:, None], -torch.inf).amax(-1)
    return pairs.masked_fill(~others.any(-1)[:, None], 0.0)
