"""Tip-Adapter: a cache of the support videos beside CLIP's class texts, training-free or with a few steps.

Zhang et al., "Tip-Adapter: training-free adaption of CLIP for few-shot classification", ECCV 2022. The vector of a
video is its mean frame feature at length 1.

| what | function |
|---|---|
| keys F_train and values L_train, eq. 3-4 | `fsar.layers.linear_heads.head_input` |
| affinities A = exp(-beta (1 - f F_train^T)), eq. 5 | `_affinities` |
| logits alpha A L_train + f W_c^T, eq. 6 | `TipAdapter.match` |
| Tip-Adapter-F: the keys are trained (section 3.2) | `tuned_keys` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| text classifier W_c | class texts, mean over templates | unit vectors before and after the mean | mean over templates, then unit vectors (`templates`) |
| without texts | - | - | `text: false` leaves out f W_c^T; any backbone will do |
| scale of the text logits | not written | 100 | the backbone's, which is 100 in CLIP's released weights |
| alpha, beta | chosen on validation images | the same, from 1 and 5.5 for ImageNet | `alpha: 1`, `beta: 5.5` |
| training of the keys | 20 epochs of AdamW, lr 1e-3, cosine to 0, on augmented images | the same | `tuned: true`: 20 `steps` on the support itself |
| eps of AdamW | not said | 1e-4 | 1e-4 |
"""  # noqa: E501

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fsar.layers.linear_heads import HeadInput, head_input
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction
from fsar.shapes import Logits
from fsar.text.prompts import class_features, templates

BETAS, EPS, WEIGHT_DECAY = (0.9, 0.999), 1e-4, 0.01
"""Of AdamW."""


class TipAdapter(Method):
    """Class texts, and a cache of the support's mean frame features; ignores the order of frames."""

    name = "tip-adapter"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of Tip-Adapter."""

        alpha: float = 1.0
        """Weight of the cache beside the class texts."""
        beta: float = 5.5
        """How fast the affinity to a support video falls with the distance."""
        text: bool = True
        """Add the logits of zero-shot CLIP; false needs no text tower."""
        templates: str = "ma-fsar"
        """Template set (`ma-fsar`, `clip-spm`), its first R as `name:R`, or one template that holds `{}`."""
        tuned: bool = False
        """Train the keys on the support of the episode (Tip-Adapter-F)."""
        steps: int = 20
        """Number of steps of that training."""
        lr: float = 1e-3
        """Learning rate of the steps, falling to 0 on a cosine."""

        def check(self) -> None:
            """Refuse values out of range, and a template set that is unknown."""
            if self.alpha <= 0 or self.beta <= 0 or self.steps < 1 or self.lr <= 0:
                raise ValueError(
                    f"tip-adapter got alpha {self.alpha}, beta {self.beta}, steps {self.steps}, lr {self.lr}; expected "
                    f"numbers above 0"
                )
            templates(self.templates)

        def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
            """Templates are for texts, and a learning rate is for steps."""
            return ((not self.text, "text: false", ("templates",)), (not self.tuned, "tuned: false", ("steps", "lr")))

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Nothing trains before the episode; unless keys are tuned, a class depends on its own videos and words."""
        return Traits(trains=(), reads_text=config.text, independent_ways=not config.tuned)

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim]: the mean over templates."""
        return class_features(self.backbone, labels, self.config.templates)

    def match(self, episode: Episode) -> Prediction:
        """Logits: affinities to the support videos of a class, added up, plus those of its text."""
        query, support = episode.query["frames"], episode.support["frames"]
        with torch.autocast(query.device.type, enabled=False):
            given = head_input(query, support, episode.shot_mask)
            text = episode.require_text() if self.config.text else None
            keys = given.support
            if self.config.tuned:
                keys = tuned_keys(given, self._of_text(keys, text), self.config)
            cached = _affinities(given.query, keys, self.config.beta) @ given.classes
            return Prediction(self.config.alpha * cached + self._of_text(given.query, text))

    def _of_text(self, vectors: Float[Tensor, "episode video dim"], text: Tensor | None) -> Tensor:
        """Logits of zero-shot CLIP, [episode, video, way]; without texts, a zero."""
        if text is None:
            return vectors.new_zeros(())
        return self.backbone.logit_scale.to(vectors) * vectors @ F.normalize(text.to(vectors), dim=-1).mT


def _affinities(
    vectors: Float[Tensor, "episode query dim"], keys: Float[Tensor, "episode video dim"], beta: float
) -> Float[Tensor, "episode query video"]:
    return (-beta * (1 - vectors @ keys.mT)).exp()


def tuned_keys(
    given: HeadInput, of_text: Logits | Float[Tensor, ""], config: TipAdapter.Config
) -> Float[Tensor, "episode video dim"]:
    """Train the keys on the support itself: AdamW on the mean cross-entropy, as Tip-Adapter-F does.

    The gradient is written out, since evaluation computes none: with slopes G = (P - Y) / videos of the logits, that
    of the keys is alpha beta (A * (G L^T))^T X.

    Args:
        given: the support videos are both keys and training examples.
        of_text: logits of the class texts for the support videos, [episode, video, way].
        config: `alpha`, `beta`, `steps` and `lr`.

    Returns:
        The trained keys.
    """
    keys, (vectors, classes) = given.support, (given.support, given.classes)
    videos = given.present.sum(-2, keepdim=True).clamp(min=1)
    absent = given.counts[:, None] == 0
    first, second = torch.zeros_like(keys), torch.zeros_like(keys)
    for step in range(config.steps):
        affinities = _affinities(vectors, keys, config.beta)
        logits = config.alpha * affinities @ classes + of_text
        probabilities = logits.masked_fill(absent, -torch.inf).softmax(-1) * given.present
        slopes = (probabilities - classes) / videos
        slope = config.alpha * config.beta * (affinities * (slopes @ classes.mT)).mT @ vectors
        first = BETAS[0] * first + (1 - BETAS[0]) * slope
        second = BETAS[1] * second + (1 - BETAS[1]) * slope.square()
        rate = config.lr * (1 + math.cos(math.pi * step / config.steps)) / 2
        unbiased = first / (1 - BETAS[0] ** (step + 1)), second / (1 - BETAS[1] ** (step + 1))
        keys = (1 - rate * WEIGHT_DECAY) * keys - rate * unbiased[0] / (unbiased[1].sqrt() + EPS)
    return keys
