"""Logistic regression on one frozen vector per video, solved anew for every episode.

Tian, Wang, Krishnan, Tenenbaum, Isola, "Rethinking few-shot image classification: a good embedding is all you need?",
ECCV 2020. The vector of a video is its mean frame feature at length 1.

| what | function |
|---|---|
| vectors x of the videos at length 1 (section 3.2), with the mean of the class means subtracted | `fsar.layers.linear_heads.head_input`, `centred` |
| W = argmin sum -log softmax(x W)[class] + strength / 2 |W|^2, with R(W) of section 3.2 | `fsar.layers.linear_heads.logistic_coefficients` |
| logits x W | `Logistic.match` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| solver | not said | scikit-learn's L-BFGS, at most 1,000 steps | steps under a bound of the Hessian, to 1e-7 |
| strength | not said | 1 (C = 1 of scikit-learn) | `strength`, 0.1 by default |
| intercept | yes | yes, not penalised | none; the vectors are centred |
| support | the images | five augmented copies of each | the videos |
"""  # noqa: E501

from dataclasses import dataclass
from typing import ClassVar

import torch

from fsar.layers.linear_heads import centred, head_input, logistic_coefficients
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction


class Logistic(Method):
    """Logistic regression on the support's mean frame features; ignores the order of frames."""

    name = "logistic"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of logistic regression."""

        least: ClassVar[dict[str, float]] = {"strength": 1e-4}  # less is singular in single precision

        strength: float = 0.1
        """Of the penalty on the weights; vectors have length 1."""

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Nothing trains before the episode; every class is an example of what the others are not."""
        return Traits(trains=())

    def match(self, episode: Episode) -> Prediction:
        """Logits: those of the regression."""
        query, support = episode.query["frames"], episode.support["frames"]
        with torch.autocast(query.device.type, enabled=False):
            given = centred(head_input(query, support, episode.shot_mask))
            weights = logistic_coefficients(given.support @ given.support.mT, given.classes, self.config.strength)
            return Prediction(given.query @ given.support.mT @ weights)
