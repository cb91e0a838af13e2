"""Ridge regression on one frozen vector per video, solved anew for every episode.

Bertinetto, Henriques, Torr, Vedaldi, "Meta-learning with differentiable closed-form solvers", ICLR 2019 (R2-D2). The
vector of a video is its mean frame feature at length 1.

| what | function |
|---|---|
| vectors x of the videos, centred | `fsar.layers.linear_heads.head_input`, `centred` |
| W = X^T (X X^T + strength I)^-1 Y, eq. 6 | `fsar.layers.linear_heads.ridge_coefficients` |
| logits x W, eq. 7 without scale and bias | `Ridge.match` |

Deviations:
| point | paper | public code | ours (switch) |
|---|---|---|---|
| image encoder | trained through the solution | the same | frozen, whatever the backbone |
| strength | learned | learned | `strength`, 0.1 by default |
| targets | one-hot | one-hot | one-hot minus their mean over classes, which shifts all logits of a query alike |
| intercept | a constant 1 beside x, penalised | the same | none; the vectors are centred |
| scale and bias of the logits | learned | learned | none |
"""

from dataclasses import dataclass

import torch

from fsar.layers.linear_heads import centred, head_input, ridge_coefficients
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction


class Ridge(Method):
    """Ridge regression from the support's mean frame features to their classes; ignores the order of frames."""

    name = "ridge"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of ridge regression."""

        strength: float = 0.1
        """Of the penalty on the weights; vectors have length 1."""

        def check(self) -> None:
            """Refuse a strength of 0 or less."""
            if self.strength <= 0:
                raise ValueError(f"ridge got strength {self.strength}; expected a number above 0")

    config: Config

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Nothing trains before the episode; every class is an example of what the others are not."""
        return Traits(trains=())

    def match(self, episode: Episode) -> Prediction:
        """Logits: the regression's value for each class, near 1 minus a share of 1 for the class of a query."""
        query, support = episode.query["frames"], episode.support["frames"]
        with torch.autocast(query.device.type, enabled=False):
            given = centred(head_input(query, support, episode.shot_mask))
            known = (given.counts > 0).sum(-1).clamp(min=1)[:, None, None]
            targets = given.classes - given.present / known
            weights = ridge_coefficients(given.support @ given.support.mT, targets, self.config.strength)
            return Prediction(given.query @ given.support.mT @ weights)
