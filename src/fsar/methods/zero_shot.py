"""Zero-shot CLIP: no example, only the class names.

Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, section 3.1. The
logit of a class is the cosine of the video feature and the text feature of the class, times exp(logit_scale), which is
100 in the released weights. The video feature is the mean of the frame features, and the text feature the mean over
templates; neither frames nor texts are normalised before the mean (MA-FSAR, section 3.4 and Table 11).

| what | function |
|---|---|
| text feature of a class, mean over templates | `ZeroShot.encode_text`, `fsar.text.prompts.class_features` |
| p(video = class): softmax of exp(logit_scale) cos(mean over frames, text) | `ZeroShot.match` |

Deviations: CLIP normalises the text features of the templates before their mean; MA-FSAR does not. We follow MA-FSAR,
so this method is the row of its Table 11.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fsar.alignment import video_text_similarity
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction
from fsar.text.prompts import class_features, templates


class ZeroShot(Method):
    """Compares a video with the class texts; support videos are not used."""

    name = "zero-shot"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of zero-shot CLIP."""

        templates: str = "ma-fsar"
        """Template set (`ma-fsar`, `clip-spm`), its first R as `name:R`, or one template that holds `{}`."""

        def check(self) -> None:
            """Refuse a template set that is unknown."""
            templates(self.templates)

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Only class names are read; nothing trains."""
        return Traits(reads_text=True, reads_text_alone=True, trains=(), independent_ways=True, matches_means=True)

    def encode_text(self, labels: list[str], rng: np.random.Generator | None = None) -> Tensor:
        """Text features [label, dim]: the mean over templates, also in training."""
        return class_features(self.backbone, labels, self.config.templates)

    def match(self, episode: Episode) -> Prediction:
        """Logits: scaled cosine of the video's mean frame feature and each class text."""
        texts = episode.require_text()
        return Prediction(self.backbone.logit_scale * video_text_similarity(episode.query["frames"], texts))
