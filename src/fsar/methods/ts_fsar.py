"""TS-FSAR: a small network beside a frozen CLIP, and the correlation of distances between channels as the match.

Long et al., "Task-specific distance correlation matching for few-shot action recognition", AAAI 2026. h_l are the hidden
states of CLIP's ViT after block l (l = 0: before the first), c its frame embeddings, g_cls and g_i the class token and
the patches of the last g:

    r_l = D_l LN_l(h_l);   g_0 = r_0;   g_l = s_l Block_l(g_(l-1)) + (1 - s_l) r_l,   s_l = sigmoid(gamma_l / 0.1)
    Z = w g with w_i = cos(g_cls, g_i) of every patch;   R = distances between the channels of Z       (R of every frame)
    A[q, c, i, j] = cosine of frame i of R of the query and frame j of the class mean of R
    M = G (mean g_cls of all support frames + mean g_cls of the query's frames), reshaped to frames x frames
    score[q, c] = sum over i, j of A M
    logits of texts: of c' = (2 - rho) c + rho MHA(LN(c)), and of Up(LN(g_cls)), both mean over frames, with class texts
    loss = CE(score) + a CE(Linear(mean R)) + b CE(side texts) + k ( KL(clip texts, Linear(mean R)) + CE(clip texts) )
    probability = softmax(score)^v softmax(clip texts)^t softmax(side texts)^s

Long: three branches have logits of their own, five losses and a fusion.

| what | function |
|---|---|
| ladder, g | `fsar.layers.ladder.Ladder` |
| R | `fsar.alignment.distance_correlation.channel_distances`, `TsFsarEncoder` |
| A, M, score | `fsar.methods.metric.TaskSpecificMatch` |
| texts | `TsFsar.text_logits` |
| loss | `TsFsar.loss` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| blocks over time | - | 7, 9 and 11 of 12 attend over the frames of each place | `temporal_blocks` |
| alpha | - | 0.4, on the squared distance | `alpha`: 0.4 |
| class texts | - | ten descriptions by a language model, each normalised, mean, normalised; classes without one are left out, which shifts all later classes | those of a template set, in the same way (`templates`) |
| probability | - | exponents v, t, s by benchmark and shots, chosen on the test classes; test and training files differ twice | `fusion`; [1, 0, 0] is the visual match alone |
| temperature, rho, weights, dropout | - | by benchmark and shots | `temperature`, `residual`, `class_weight`, `side_weight`, `clip_weight`, `distillation_temperature`, `dropout` |
| teacher of the KL | - | gets gradients | the code's |
| initial values | - | principal components of CLIP's own weights, random where that fails | the same, with fixed signs (`init`); where CLIP's are smaller, PyTorch's |
| precision | - | half in training, with a scaled gradient | as the recipe says |
| rates | - | by part: `frame_match` at half the rate on HMDB51, Kinetics and UCF101 5-shot; `clip_norm` and `clip_attention` at half on HMDB51, UCF101 and Kinetics | the recipes' `lr_factors` |
| AdamW's eps | - | 1e-6 | 1e-8, or the recipe's `eps` |
| resizing | - | squeezed to 256 x 256 | short side 256 (`framing: short-side`, `square-256`) |
| frames | - | random ones in the test, too | the recipe's: TSN, middle frames in the test |
| queries | - | each alone with the support | the same |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, kl_div, normalize

from fsar.alignment import video_text_similarity
from fsar.alignment.distance_correlation import ALPHA, channel_distances
from fsar.backbones import Backbone
from fsar.backbones.base import fingerprint
from fsar.config import ablation, as_yaml
from fsar.layers.adapters import attend, embed_frames, feed_forward, read_out, vision_transformer, width_of
from fsar.layers.ladder import Attention, Ladder
from fsar.layers.temporal import require_frames
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, FrameEncoder
from fsar.methods.episode import (
    IGNORED,
    Encoding,
    Episode,
    Prediction,
    Role,
    Targets,
    all_videos,
    class_cross_entropy,
    class_of_videos,
    query_cross_entropy,
)
from fsar.methods.metric import TaskSpecificMatch
from fsar.methods.training_text import TrainingText
from fsar.shapes import Clips, Logits, Tokens
from fsar.text.prompts import class_features, templates


class TsFsar(TrainingText):
    """Correlates distances between channels, frame by frame, weighed for every query; class texts guide and vote."""

    name = "ts-fsar"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of TS-FSAR."""

        least: ClassVar[dict[str, float]] = {
            "frames": 1,
            "dim": 1,
            "temporal_blocks": 1,
            "fusion": 0,
            "residual": 0,
            "class_weight": 0,
            "side_weight": 0,
            "clip_weight": 0,
        }
        above_zero = ("temperature", "distillation_temperature", "alpha")

        frames: int = 8
        """Frames per video: the side of the matrix that weighs pairs of frames."""
        dim: int = 256
        """Channels of the small network; the description of a frame has dim (dim + 1) / 2 numbers."""
        heads: int = 4
        """Heads of the small network's attentions; they must divide `dim`."""
        temporal_blocks: tuple[int, ...] = (7, 9, 11)
        """Blocks that attend over time: rising numbers from 1; none for []. Those that the encoder lacks do nothing."""
        templates: str = "clip-spm"
        """Template set of the class texts, or one template with `{}`."""
        fusion: tuple[float, float, float] = (0.15, 0.8, 0.05)
        """Exponents of the probabilities of match, CLIP's frames and side network; [1, 0, 0] is the match alone."""
        temperature: float = 50.0
        """Scale of the cosines with class texts."""
        residual: float = 0.4
        """rho, weight of the attention over CLIP's frame embeddings, which get 2 - rho; 0 to 2."""
        class_weight: float = 1.0
        """a, weight of the classifier of descriptions in the loss."""
        side_weight: float = 1.0
        """b, weight of the side network's class texts in the loss."""
        clip_weight: float = 6.0
        """k, weight of CLIP's class texts and of what the classifier learns from them."""
        distillation_temperature: float = 10.0
        """Both logits of the KL divergence are divided by it."""
        dropout: float = 0.7
        """Dropout on the descriptions before the classifier."""
        metric: Literal["distance-correlation", "cosine"] = ablation("distance-correlation")
        """What the match compares of two frames: distances between their channels, or the side network's tokens."""
        pair_weights: bool = ablation(True)
        """M: weigh the pairs of frames for every query; if false, all count alike."""
        alpha: float = ablation(ALPHA)
        """Power of the squared distances between channels."""
        init: Literal["pca", "random"] = "pca"
        """Start of side blocks and of the attention over CLIP's frames: principal components of CLIP's own weights, if
        these are large enough (seconds for a ViT-B), or random."""
        framing: Literal["short-side", "square-256"] = "short-side"
        """Resize the short side, or squeeze frames to 256 x 256 pixels whatever their shape, as in the public code."""

        def check(self) -> None:
            """Refuse values out of range."""
            templates(self.templates)
            if self.dim % self.heads:
                raise ValueError(f"ts-fsar: heads is {self.heads} and dim {self.dim}; expected heads that divide dim")
            if self.temporal_blocks != (rising := tuple(sorted(set(self.temporal_blocks)))):
                raise ValueError(
                    f"ts-fsar: temporal_blocks is {as_yaml(self.temporal_blocks)}; expected rising numbers: "
                    f"{as_yaml(rising)}"
                )
            if self.residual > 2:
                raise ValueError(
                    f"ts-fsar: residual is {self.residual}; expected at most 2, since CLIP's frames weigh 2 - residual"
                )
            if self.fusion[0] == 0:
                raise ValueError(
                    f"ts-fsar: fusion is {as_yaml(self.fusion)}; expected more than 0 at first, for the match"
                )

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Only weights of pairs count the frames; beside the match, only two terms of the loss read distances."""
            undescribed = self.metric == "cosine" and not (self.class_weight or self.clip_weight)
            return (
                (not self.pair_weights, "pair_weights: false", ("frames",)),
                (undescribed, "metric: cosine, class_weight: 0 and clip_weight: 0", ("alpha",)),
            )

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        visual = vision_transformer(backbone, self.name)
        blocks = len(visual.transformer.resblocks)
        self.ladder = Ladder(width_of(visual), blocks, config.dim, config.heads, config.temporal_blocks)
        self.frame_match = TaskSpecificMatch(config.dim, config.frames, config.pair_weights)
        self.clip_norm, self.clip_attention = nn.LayerNorm(backbone.dim), Attention(backbone.dim, 8)
        self.side_norm, self.side_up = nn.LayerNorm(config.dim), nn.Linear(config.dim, backbone.dim, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        if config.init == "pca" and not visual.class_embedding.is_meta:  # shapes alone have no components
            self.ladder.start_from(visual.transformer.resblocks)
            self.clip_attention.start_from(visual.transformer.resblocks[-1])

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """The small network trains; the mean token of the whole support weighs pairs of frames."""
        return Traits(
            trains=("own",), readouts=("fusion",), reads_text=True, framing=config.framing, episodes_per_match=8
        )

    def encoder(self) -> Encoder:
        """All of `encode`, because the small network reads every block of CLIP."""
        return TsFsarEncoder(self)

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim] of length 1."""
        return normalize(class_features(self.backbone, labels, self.config.templates), dim=-1)

    # ----------------------------------------------------------------------- an episode

    def scores(self, episode: Episode) -> Logits:
        """Weigh the correlations of the frames of every query and class.

        Args:
            episode: the input of `match`.
        """
        query, support = episode.query, episode.support
        name = "tokens" if self.config.metric == "cosine" else "relations"
        compared, tokens = ((query[part], support[part]) for part in (name, "tokens"))
        return self.frame_match(*compared, *tokens, episode.shot_mask)

    def text_logits(
        self, encoding: Encoding, text: Float[Tensor, "*#episode label dim"]
    ) -> tuple[Float[Tensor, "*videos label"], Float[Tensor, "*videos label"]]:
        """Compare videos with class texts: by CLIP's frames, and by the side network.

        Args:
            encoding: of the videos.
            text: of the classes, of length 1.
        """
        rho, frames = self.config.residual, encoding["clip"]
        adapted = (2 - rho) * frames + rho * self.clip_attention(self.clip_norm(frames))
        side = self.side_up(self.side_norm(encoding["tokens"]))
        by_clip, by_side = (video_text_similarity(rows, text) for rows in (adapted, side))
        return self.config.temperature * by_clip, self.config.temperature * by_side

    def match(self, episode: Episode) -> Prediction:
        """Logits: log-probabilities, weighed by `fusion`. Named outputs: `score`, `clip`, `side`, the three logits."""
        by_clip, by_side = self.text_logits(episode.query, episode.require_text())
        named = {"score": self.scores(episode), "clip": by_clip, "side": by_side}
        empty = ~episode.shot_mask.any(-1)[:, None]
        votes = [
            share * logits.masked_fill(empty, -torch.inf).log_softmax(-1).masked_fill(empty, 0.0)
            for share, logits in zip(self.config.fusion, named.values(), strict=True)
        ]
        return Prediction(torch.stack(votes).sum(0), named)

    # ----------------------------------------------------------------------- loss

    def begin_training(self, class_texts: Sequence[str], episodes_per_step: int = 1) -> None:
        """Encode the texts of all training classes, and make the classifier of descriptions."""
        super().begin_training(class_texts)
        pairs = self.config.dim * (self.config.dim + 1) // 2
        self.loss_heads["class"] = nn.Linear(pairs, len(class_texts), bias=False, device=self.device)

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: of the score; `class`, `side`, `clip` and `distill`: weighted, over support and query videos.

        Raises:
            ValueError: `begin_training` was not called.
        """
        config, training_text = self.config, self.require_training_text()
        videos = {name: all_videos(episode, name) for name in ("relations", "tokens", "clip")}
        classes = class_of_videos(targets, episode.shot_mask)
        with torch.autocast(self.device.type, enabled=False):  # its logits get gradients too large for half precision
            described = self.loss_heads["class"](self.dropout(videos["relations"].mean(-2)))
        by_clip, by_side = self.text_logits(videos, training_text)
        of_class, of_clip, of_side = (
            class_cross_entropy(logits, targets, episode.shot_mask) for logits in (described, by_clip, by_side)
        )
        present, soft = classes != IGNORED, config.distillation_temperature
        teacher, student = (logits[present] / soft for logits in (by_clip, described))
        distill = kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True)
        return {
            "match": query_cross_entropy(prediction.named["score"], targets),
            "class": config.class_weight * of_class,
            "side": config.side_weight * of_side,
            "clip": config.clip_weight * of_clip,
            "distill": config.clip_weight * soft**2 * distill,
        }


class TsFsarEncoder(FrameEncoder):
    """`relations` R, `tokens` g_cls and `clip` embeddings c, each [*clips, frame, ...].

    Args:
        method: its small network is used, not copied.
    """

    is_frozen = False

    def __init__(self, method: TsFsar):
        super().__init__(method.backbone)
        self.method = method

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Run CLIP without gradients, and the small network beside it.

        Raises:
            ValueError: pairs of frames have weights for another number of frames.
        """
        config = self.method.config
        if config.pair_weights:
            require_frames(config.frames, clips.shape[-4])
        visual = vision_transformer(self.backbone, self.method.name)
        videos = clips.reshape(-1, *clips.shape[-4:])
        with torch.no_grad():
            hidden = [embed_frames(visual, videos)]
            for block in visual.transformer.resblocks:
                tokens = hidden[-1] + attend(block, block.ln_1(hidden[-1]))
                hidden.append(tokens + feed_forward(block, block.ln_2(tokens)))
            embedding = read_out(visual, hidden[-1])
        encoding = {**describe(self.method.ladder(hidden), config.alpha), "clip": embedding}
        return {name: tensor.reshape(*clips.shape[:-4], *tensor.shape[1:]) for name, tensor in encoding.items()}

    def key(self) -> dict[str, Any]:
        """Name the backbone, the small network and the power of the distances."""
        config = self.method.config
        own: dict[str, Any] = {"own": fingerprint(self.method.ladder), "temporal_blocks": list(config.temporal_blocks)}
        if config.alpha != ALPHA:  # banks of versions without this option do not name it
            own["alpha"] = config.alpha
        return super().key() | {"encoding": "ts-fsar", "heads": config.heads} | own


def describe(tokens: Tokens, alpha: float = ALPHA) -> Encoding:
    """Take the class tokens of the small network, and the distances between the channels of weighed patches.

    Args:
        tokens: its last output; token 0 is the class token.
        alpha: power of the squared distances.

    Example:
        >>> {name: [*part.shape] for name, part in describe(torch.randn(2, 8, 10, 6)).items()}
        {'tokens': [2, 8, 6], 'relations': [2, 8, 21]}
    """
    first, patches = tokens[..., 0, :], tokens[..., 1:, :]
    weights = cosine_similarity(first.unsqueeze(-2), patches, dim=-1)
    channels = rearrange(weights.unsqueeze(-1) * patches, "... place channel -> ... channel place")
    return {"tokens": first.contiguous(), "relations": channel_distances(channels, alpha)}
