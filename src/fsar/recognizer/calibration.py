"""What is chosen on the examples themselves: the method's variant, the scale of probabilities, and the threshold.

All three rest on leave-one-out: one example of every class is set aside and named by the remaining examples.

- **Variant** of the method (for place-motion: its weight and alignment). The variant with the highest accuracy wins. If
  accuracies are equal, the lowest negative log-likelihood decides.
- **Scale** of the logits before softmax: the scale of highest likelihood. Its targets are smoothed as in Platt scaling,
  (n + 1) / (n + 2), so that a perfect score on few examples does not give certainty.
- **Threshold** of "unknown": an answer is unknown if the logit of the best class is below the threshold. Left-out
  examples give two kinds of score. Matched with all classes, they show how known videos score. Matched with all classes
  but their own, they show how unknown videos score. Both kinds are taken as normally distributed, and the threshold is
  where the two error rates are equal. It is lower if more than one in ten known videos would be missed there: enrolled
  actions resemble each other more than unrelated videos do, so the estimate for unknown videos is pessimistic.

If every class has a single example, nothing can be left out. Then the default variant is used, the probabilities are
not calibrated, and "unknown" is never answered. `Fit` says so.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fsar.methods.base import Encoding, Episode, Method

MOST_MISSED = 0.1
"""Largest share of known videos that the threshold may call unknown, estimated on the examples."""


@dataclass(frozen=True)
class Fit:
    """What was chosen on the examples, and how well the examples name each other."""

    options: dict[str, Any]
    """Options of the chosen variant."""
    scale: float
    """Factor on the logits before softmax."""
    threshold: float | None
    """Logit below which an answer is unknown; None if it could not be fitted."""
    left_out: int
    """Number of examples that were left out and named by the others."""
    accuracy: float | None
    """Share of left-out examples that were named correctly; None if there were none."""
    known_missed: float | None
    """Share of left-out examples that the threshold calls unknown."""
    unknown_accepted: float | None
    """Share of left-out examples that are accepted as another class if their own class is removed."""

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        if self.accuracy is None:
            return (
                f"{options}; with one example per action, nothing can be left out: probabilities are not calibrated "
                f"and the answer is never 'unknown'. Give at least two examples of one action."
            )
        return (
            f"{options}; on {self.left_out} left-out examples: accuracy {self.accuracy:.0%}, called unknown by mistake "
            f"{self.known_missed:.0%}, accepted without their class {self.unknown_accepted:.0%}"
        )


def match(
    method: Method, supports: tuple[Encoding, Tensor], query: Encoding, text: Tensor | None
) -> Float[Tensor, "query way"]:
    """Match queries with the examples of all classes.

    Args:
        method: the method, or one of its variants.
        supports: encodings [way, shot, ...] and the mask [way, shot] of real examples, as `padded` gives them.
        query: encodings [query, ...].
        text: class texts [way, ...], if the method reads them.

    Returns:
        Logits, on the CPU.
    """
    encodings, mask = supports
    episode = Episode(
        {part: tensor[None].to(method.device) for part, tensor in encodings.items()},
        {part: tensor[None].to(method.device) for part, tensor in query.items()},
        mask[None].to(method.device),
        None if text is None else text[None].to(method.device),
    )
    return method.match(episode).logits[0].cpu()


def leave_one_out(
    method: Method, supports: tuple[Encoding, Tensor], queries: Encoding, text: Tensor | None
) -> tuple[Float[Tensor, "example way"], Int[Tensor, " example"]]:
    """Name examples by the others: round k sets aside the k-th example of every class that has at least two.

    Setting one aside in every class at once keeps the classes balanced. It needs as many rounds as the largest class
    has examples. A left-out example is encoded as a query, which has not read the text of its class.

    Args:
        method: the method, or one of its variants.
        supports: all examples in the support role, as `padded` gives them.
        queries: all examples in the query role, tensors [way, shot, ...].
        text: class texts [way, ...], if the method reads them.

    Returns:
        Logits of the left-out examples and their true ways; both are empty if no class has two examples.
    """
    encodings, mask = supports
    enough = mask.sum(-1) > 1
    logits, ways = [], []
    for k in range(mask.shape[1]):
        out = (enough & mask[:, k]).nonzero()[:, 0]
        if len(out) == 0:
            continue
        rest = mask.clone()
        rest[out, k] = False
        # one query at a time, as in `Recognizer.predict`
        for way in out.tolist():
            query = {part: tensor[way, k][None] for part, tensor in queries.items()}
            logits.append(match(method, (encodings, rest), query, text))
            ways.append(way)
    stacked = torch.cat(logits) if logits else torch.empty(0, len(mask))
    return stacked, torch.tensor(ways, dtype=torch.long)


def choose(runs: Sequence[tuple[Method, Tensor, Tensor]]) -> tuple[Fit, Method]:
    """Choose the variant that names left-out examples best, and fit its scale and threshold.

    Args:
        runs: each variant with its logits [example, way] and true ways [example], as `leave_one_out` gives them.

    Returns:
        The fit and the chosen variant. Without left-out examples, the first variant and no threshold.
    """
    rated = []
    for order, (method, logits, ways) in enumerate(runs):
        if len(ways) == 0:
            return Fit(plain(method.options()), 1.0, None, 0, None, None, None), method
        scale, loss = fit_scale(logits, ways)
        accuracy = (logits.argmax(-1) == ways).float().mean().item()
        rated.append(((-accuracy, loss, order), scale, method, logits, ways))
    (minus_accuracy, _, _), scale, method, logits, ways = min(rated, key=lambda run: run[0])
    own = torch.nn.functional.one_hot(ways, logits.shape[1]).bool()
    known = logits.amax(-1)
    strange = logits.masked_fill(own, -torch.inf).amax(-1)
    threshold = fit_threshold(known, strange)
    fit = Fit(
        options=plain(method.options()),
        scale=scale,
        threshold=threshold,
        left_out=len(ways),
        accuracy=-minus_accuracy,
        known_missed=(known < threshold).float().mean().item(),
        unknown_accepted=(strange >= threshold).float().mean().item(),
    )
    return fit, method


def fit_scale(logits: Float[Tensor, "example way"], ways: Int[Tensor, " example"]) -> tuple[float, float]:
    """Find the scale of highest likelihood with Platt's smoothed targets.

    Args:
        logits: of left-out examples.
        ways: the true way of each.

    Returns:
        The scale, and its mean negative log-likelihood.
    """
    examples, classes = logits.shape
    right = (examples + 1) / (examples + 2)
    target = torch.full_like(logits, (1 - right) / (classes - 1)).scatter(1, ways[:, None], right)
    scales = torch.logspace(-2, 3, 201) / max(logits.std().item(), 1e-12)
    losses = torch.stack([-(target * (s * logits).log_softmax(-1)).sum(-1).mean() for s in scales])
    best = int(losses.argmin())
    return scales[best].item(), losses[best].item()


def fit_threshold(known: Float[Tensor, " example"], strange: Float[Tensor, " example"]) -> float:
    """Find the score at which both error rates are equal if both kinds of score are normally distributed.

    The best cut through the few scores themselves would jump with every example. If known and strange scores overlap
    much, the threshold stops where `MOST_MISSED` of the known scores fall below it.

    Args:
        known: best logits of left-out examples.
        strange: best logits of left-out examples without their own class.

    Returns:
        The threshold.

    Example:
        >>> round(fit_threshold(torch.tensor([0.8, 1.0]), torch.tensor([0.1, 0.3])), 2)
        0.55
    """
    spread_known, spread_strange = (max(x.std(correction=0).item(), 1e-6) for x in (known, strange))
    share = spread_strange / (spread_known + spread_strange)
    equal = share * known.mean().item() + (1 - share) * strange.mean().item()
    return min(equal, NormalDist(known.mean().item(), spread_known).inv_cdf(MOST_MISSED))


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Convert options to what JSON gives back, so that saved and fresh ones compare equal (tuples become lists)."""
    return json.loads(json.dumps(options))
