"""MoLo: frames and motion each attend with a token of their video; frames are drawn to the token of a like video.

Wang et al., "MoLo: Motion-augmented long-short contrastive learning for few-shot action recognition", CVPR 2023. X are the
feature maps of T frames, F their means over the places; v and u are learned tokens, A and B as in HyRSM:

    R = Conv3d(X), R' = Conv2d(R);   D[t] = R'[t+1] - R[t];   G = mean over the places of relu(Conv1x1(D))
    Z = relu(Transformer(place [v; F])),  Y = relu(Transformer(place [u; G]))    row 0 is long, the others are short
    logits = -(Bi-MHM(short rows of Z) + b Bi-MHM(short rows of Y))              with class means
    s2q = -k sum over t of 1 - cos(class Z[t], query Z[0]),  q2s = -k sum over t of 1 - cos(query Z[t], class Z[0])
    reconstruction: mean square of Decoder(D) - (x[t+1] - x[t]), x the pixels that go into the encoder
    loss = CE + w CE(training class of mean Z + mean Y) + 0.05 (CE of s2q and q2s, of Z and Y) + r reconstruction

Long: MoLo has motion maps, two encoders, four contrasts and a decoder.

| what | function |
|---|---|
| D, G | `Motion` |
| place, Z, Y | `Molo.enhance`, `RowEncoder` |
| logits | `Molo.match` |
| long-short contrast | `Molo.contrast` |
| reconstruction | `Decoder`, `Molo.loss` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| b | - | 0.3, never set | `balance`: 0.3 |
| distance | Bi-MHM; also OTAM | Bi-MHM, not divided by frames | `metric: bi-mhm` (default), `otam` |
| w | - | HMDB51 0.4, UCF101 0.6, Kinetics 0.1, SSv2-Small 0.15, SSv2-Full 0.8 | `class_weight`: 0.4, or the recipe's |
| A, B | - | 10, 1; Kinetics 2048, 0.02 | `frame_scale`, `position_scale`: 10, 1, or the recipe's |
| queries per class | - | 6 in training, for any number of shots | the recipes' `query` |
| cosine | - | 0.01 added to the product of norms | `cos_eps` |
| k | - | learned, 1 at first, one of Z and one of Y; fixed on request (TEMP_COFF) | learned |
| directions of the contrast | - | both; q2s alone on request (SINGLE_DIRECT) | both |
| r | - | 0.05 (Kinetics, SSv2-Full 0.1), not divided by the 4 episodes of a step, as all else is | `reconstruction_weight`: four times that |
| target | - | differences of pixels; of optical flow on request | of pixels; the decoder's output is resized to the clip, if it must |
| contrast of 0 | - | breaks | left out |
| classifier | - | reads the sum of both mean rows, the token's included; of single frames on request | the sum |
| decoder | - | only in training; its BatchNorm sees support and queries together | the code's |
| 5-shot | - | trained with one shot | the recipes' `for_shot` |
| BatchNorm of a ResNet | - | trains | the same in the recipes (`freeze_batch_norm: false`) |
| reader, augmentation, weight decay, course of the rate | - | as HyRSM's code | as `hyrsm.py` |
"""  # noqa: E501

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from fsar.alignment import bi_mhm, frame_similarity, otam
from fsar.backbones import Backbone
from fsar.layers.temporal import TemporalTransformer
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, MapEncoder
from fsar.methods.episode import (
    Encoding,
    Episode,
    Prediction,
    Role,
    Targets,
    all_videos,
    class_cross_entropy,
    mean_over_shots,
    present_videos,
    query_cross_entropy,
)
from fsar.methods.hyrsm import placed
from fsar.shapes import Clips, FeatureMap, Logits

LONG, SHORT = 0, 1
"""Rows of an encoded video: its token, then its frames (or motion)."""
STREAMS = ("visual", "motion")
SMOOTHING = 0.5
"""Lambda of OTAM's soft minimum."""
UPSAMPLINGS = (2, 4, 4)
"""Factors of the decoder's three steps: 7 x 7 places become 224 x 224 pixels."""

MotionMaps = Float[Tensor, "*clips frame_pair row column change"]


class Motion(nn.Module):
    """Differences between neighbouring feature maps after convolutions, and one feature per difference.

    Args:
        dim: channels of a map.
        inside: channels of a difference.
    """

    def __init__(self, dim: int, inside: int):
        super().__init__()
        self.reduce = nn.Conv3d(dim, inside, 3, padding=1)
        self.convolution = nn.Conv2d(inside, inside, 3, padding=1)
        self.up = nn.Conv2d(inside, dim, 1)

    def forward(self, maps: FeatureMap) -> MotionMaps:
        """Subtract from each frame's convolved map the map of the frame before it: D.

        Raises:
            ValueError: a video has one frame.
        """
        if maps.shape[-4] < 2:
            raise ValueError(
                f"molo got {maps.shape[-4]} frame per video and needs motion between at least 2; sample more frames"
            )
        reduced = self.reduce(maps.reshape(-1, *maps.shape[-4:]).movedim(-1, 1)).movedim(
            1, 2
        )  # clip frame channel row column
        convolved = self.convolution(reduced.flatten(0, 1)).unflatten(0, reduced.shape[:2])
        change = convolved[:, 1:] - reduced[:, :-1]
        change = change.movedim(2, -1)
        return change.reshape(*maps.shape[:-4], *change.shape[1:])

    def features(self, changes: MotionMaps) -> Float[Tensor, "*clips frame_pair dim"]:
        """Return one feature per difference: G."""
        rows = self.up(changes.flatten(0, -4).movedim(-1, 1)).relu().mean((-2, -1))
        return rows.unflatten(0, changes.shape[:-3])


class RowEncoder(nn.Module):
    """Rows and a learned token, with the positional encoding of HyRSM, attend to each other.

    Args:
        dim: channels of a row.
        heads: of the attention.
        hidden: channels inside the transformer's feed-forward part.
        scales: A and B of HyRSM.
        dropout: on the rows with their positional encoding.
    """

    def __init__(self, dim: int, heads: int, hidden: int, scales: tuple[float, float], dropout: float):
        super().__init__()
        self.token = nn.Parameter(torch.randn(dim))
        self.temperature = nn.Parameter(torch.ones(()))  # k of the contrast
        self.transformer = TemporalTransformer(dim, heads, hidden=hidden)
        self.scales = scales
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Float[Tensor, "*clips row dim"]) -> Float[Tensor, "*clips token_and_row dim"]:
        """Encode a video; row 0 is its token."""
        token = self.token.expand(*rows.shape[:-2], 1, -1)
        x = torch.cat([token.to(rows), rows], -2)
        return self.transformer(self.dropout(placed(x, *self.scales))).relu()


class Decoder(nn.Module):
    """Makes pixels of differences of maps: three times upsampled and convolved.

    Args:
        dim: channels of a difference.
        channels: after each step.
    """

    def __init__(self, dim: int, channels: tuple[int, int, int]):
        super().__init__()
        steps: list[nn.Module] = []
        for factor, before, after in zip(UPSAMPLINGS, (dim, *channels[:-1]), channels, strict=True):
            steps.append(nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True))
            steps += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.steps = nn.Sequential(*steps, nn.Conv2d(channels[-1], 3, 1))

    def forward(
        self, changes: Float[Tensor, "map row column channel"], size: tuple[int, int]
    ) -> Float[Tensor, "map rgb=3 height width"]:
        """Decode differences to pixels.

        Args:
            changes: differences of maps.
            size: height and width of the pixels.
        """
        # contiguous: on a CPU, BatchNorm's sums over millions of pixels are only then exact to six digits
        made = self.steps(changes.movedim(-1, 1).contiguous())
        return made if made.shape[-2:] == size else interpolate(made, size, mode="bilinear", align_corners=True)


class Molo(Method):
    """Frames and motion with a token of their video; nearest short rows decide, long rows guide the training."""

    name = "molo"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of MoLo."""

        least: ClassVar[dict[str, float]] = {
            "balance": 0,
            "class_weight": 0,
            "contrast_weight": 0,
            "reconstruction_weight": 0,
            "position_scale": 0,
            "reduction": 1,
            "decoder": 1,
        }
        above_zero = ("frame_scale",)

        metric: Literal["bi-mhm", "otam"] = "bi-mhm"
        """How the rows of a query and of a class mean are compared."""
        balance: float = 0.3
        """Weight of the motion's distance in the logits."""
        class_weight: float = 0.4
        """Weight of the class loss, which classifies every video into the training classes; 0 leaves it out."""
        contrast_weight: float = 0.05
        """Weight of each of the four terms of the long-short contrast; 0 leaves it out."""
        reconstruction_weight: float = 0.2
        """Weight of the reconstruction of pixel differences in training; 0 leaves it out, for training on a bank."""
        frame_scale: float = 10.0
        """A: rows are multiplied by sqrt(dim / A) before the positional encoding is added; above 0."""
        position_scale: float = 1.0
        """B: factor on the positional encoding."""
        reduction: int = 8
        """The differences of maps have a channel for so many channels of the maps."""
        decoder: tuple[int, int, int] = (128, 32, 16)
        """Channels of the decoder's steps."""
        heads: int = 8
        """Heads of both attentions; they must divide the map's channels."""
        hidden: int = 2048
        """Channels inside the transformers' feed-forward part."""
        cos_eps: float = 0.01
        """Added to the product of norms in every cosine."""
        position_dropout: float = 0.1
        """Dropout on the rows with their positional encoding."""
        pixels: Literal["normalized", "slowfast"] = "normalized"
        """By the backbone's mean and deviation, or by 0.45 and 0.225 in every channel, as in HyRSM's public code."""
        framing: Literal["short-side", "square-256"] = "short-side"
        """Resize the short side, or squeeze frames to 256 x 256 pixels whatever their shape, as in the public code."""

        def idle(self) -> list[tuple[bool, str, Sequence[str]]]:
            """The decoder makes the reconstruction alone."""
            return [(self.reconstruction_weight == 0, "reconstruction_weight: 0", ("decoder",))]

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        dim = backbone.map_dim
        if dim % config.reduction or dim % config.heads:
            raise ValueError(
                f"molo got reduction {config.reduction} and heads {config.heads} for the {dim} channels of the maps of "
                f"backbone {backbone.name!r}; expected divisors of {dim}"
            )
        self.motion = Motion(dim, dim // config.reduction)
        scales = (config.frame_scale, config.position_scale)
        self.rows = nn.ModuleDict(
            {
                stream: RowEncoder(dim, config.heads, config.hidden, scales, config.position_dropout)
                for stream in STREAMS
            }
        )

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Motion, transformers and visual tower train; class means are compared, each for itself."""
        return Traits(
            trains=("own", "visual"),
            independent_ways=True,
            matches_means=True,
            pixels=config.pixels,
            framing=config.framing,
            episodes_per_match=64,
        )

    def encoder(self) -> Encoder:
        """The feature maps; everything that trains comes after."""
        return MapEncoder(self.backbone, self.config.pixels)

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Encode videos; in training, keep the clips as the target of the reconstruction."""
        encoding = super().encode(clips, role, text)
        return {**encoding, "pixels": clips} if self._reconstructs else encoding

    @property
    def _reconstructs(self) -> bool:
        return self.training and self.config.reconstruction_weight > 0

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Compute all rows of a video.

        Returns:
            `visual` Z and `motion` Y, both [*clips, row, dim]; in training also `changes`, the differences of maps.
        """
        maps = encoding["maps"]
        changes = self.motion(maps)
        rows = {"visual": maps.mean((-3, -2)), "motion": self.motion.features(changes)}
        enhanced = {stream: self.rows[stream](rows[stream]) for stream in STREAMS}
        return enhanced | ({"changes": changes} if self._reconstructs else {})

    # ----------------------------------------------------------------------- an episode

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the weighted distances of the short rows. Named outputs: `STREAM_distances`."""
        named = {}
        for stream in STREAMS:
            query, classes = (rows[..., SHORT:, :] for rows in self._rows(episode, stream))
            similarity = frame_similarity(query, classes, self.config.cos_eps)
            distances = bi_mhm(similarity) if self.config.metric == "bi-mhm" else otam(1 - similarity, SMOOTHING)
            named[f"{stream}_distances"] = distances
        return Prediction(-(named["visual_distances"] + self.config.balance * named["motion_distances"]), named)

    def _rows(self, episode: Episode, stream: str) -> tuple[Tensor, Tensor]:
        """The rows of the queries and of the class means."""
        return episode.query[stream], mean_over_shots(episode.support[stream], episode.shot_mask)

    def contrast(self, episode: Episode) -> dict[str, Logits]:
        """Compare long rows with short rows, of every stream in both directions.

        Args:
            episode: the input of `match`.

        Returns:
            `visual_s2q` compares short rows of the class mean with the query's long row, `visual_q2s` the reverse;
            and so for `motion`.
        """
        found = {}
        for stream in STREAMS:
            query, classes = self._rows(episode, stream)
            temperature = self.rows[stream].get_parameter("temperature")
            for name, of_query, of_class in (
                ("s2q", query[..., :SHORT, :], classes[..., SHORT:, :]),
                ("q2s", query[..., SHORT:, :], classes[..., :SHORT, :]),
            ):
                similarity = frame_similarity(of_query, of_class, self.config.cos_eps)
                found[f"{stream}_{name}"] = temperature * (similarity - 1).sum((-2, -1))
        return found

    # ----------------------------------------------------------------------- loss

    def begin_training(self, class_texts: Sequence[str], episodes_per_step: int = 1) -> None:
        """Make the classifier of videos and the decoder."""
        dim, device = self.backbone.map_dim, self.device
        if self.config.class_weight:
            self.loss_heads["class"] = nn.Linear(dim, len(class_texts), device=device)
        if self.config.reconstruction_weight:
            self.loss_heads["decoder"] = Decoder(dim // self.config.reduction, self.config.decoder).to(device)

    def loss(self, episode: Episode, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        """`match`: cross-entropy; weighted: `class`, `contrast` and, in training, `reconstruction`.

        Raises:
            ValueError: `begin_training` was not called; or the reconstruction has no clips, as in training on a bank.
        """
        terms = {"match": query_cross_entropy(prediction.logits, targets)}
        if self.config.class_weight:
            logits = self._head("class")(self._videos(episode))
            terms["class"] = self.config.class_weight * class_cross_entropy(logits, targets, episode.shot_mask)
        if self.config.contrast_weight:
            contrasts = [query_cross_entropy(logits, targets) for logits in self.contrast(episode).values()]
            terms["contrast"] = self.config.contrast_weight * torch.stack(contrasts).sum()
        if self._reconstructs:
            terms["reconstruction"] = self.config.reconstruction_weight * self._reconstruction(episode)
        return terms

    def _head(self, name: str) -> nn.Module:
        if name not in self.loss_heads:
            raise ValueError(
                f"molo has no {name} for its loss; expected begin_training(class_texts) before the first loss: call "
                f"it, or build with {'class' if name == 'class' else 'reconstruction'}_weight 0"
            )
        return self.loss_heads[name]

    def _videos(self, episode: Episode) -> Float[Tensor, "video dim"]:
        """Mean row of every video, of both streams added; support, then queries."""
        return sum((all_videos(episode, stream).mean(-2) for stream in STREAMS), torch.zeros(()))

    def _reconstruction(self, episode: Episode) -> Float[Tensor, ""]:
        """Mean square of what the decoder misses, over the pixels of all videos."""
        if "pixels" not in episode.query:
            raise ValueError(
                "molo reconstructs pixels in training and got encodings without their clips, as from a bank; set "
                "options.reconstruction_weight=0, or train on the clips (from_bank: false)"
            )
        present = present_videos(episode)
        pixels = all_videos(episode, "pixels")[present]  # video frame rgb height width
        changes = all_videos(episode, "changes")[present]
        target = (pixels[:, 1:] - pixels[:, :-1]).flatten(0, 1)
        made = self._head("decoder")(changes.flatten(0, 1), (target.shape[-2], target.shape[-1]))
        return mse_loss(made, target.to(made))
