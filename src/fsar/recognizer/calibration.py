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
- **Probability of "unknown"**: a logistic function of the same score. It is one half at the threshold. Its steepness is
  the one of highest likelihood on both kinds of score, with Platt's targets.

If every class has a single example, nothing can be left out. Then the default variant is used, the probabilities are
not calibrated, and "unknown" is never answered. `Fit` says so.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.recognizer.examples import Actions
from fsar.recognizer.matching import BATCH_BYTES, Supports, episode, match, means, padded, queries

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
    steepness: float | None = None
    """Slope of the log-odds of "known" over the score; None if it was not fitted."""

    def unknown_probability(self, score: float) -> float | None:
        """Probability that a video shows no enrolled action, by its best logit; None if it was not fitted."""
        if self.threshold is None or self.steepness is None:
            return None
        return torch.sigmoid(torch.tensor(-self.steepness * (score - self.threshold))).item()

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


def calibrate(method: Method, actions: Actions) -> tuple[Fit, Method]:
    """Choose variant, scale and threshold by leave-one-out.

    Args:
        method: a method; its `variants` are tried.
        actions: at least two.

    Returns:
        The fit and the chosen variant. Without left-out examples, the first variant and no threshold.
    """
    variants = method.variants()
    if all(len(action.examples) == 1 for action in actions.values()):
        return Fit(plain(variants[0].options()), 1.0, None, 0, None, None, None), variants[0]
    logits_of, ways = leave_one_out(method, actions)
    rated = []
    for order, logits in enumerate(logits_of):
        scale, loss = fit_scale(logits, ways)
        accuracy = (logits.argmax(-1) == ways).float().mean().item()
        rated.append(((-accuracy, loss, order), scale, logits))
    (minus_accuracy, _, order), scale, logits = min(rated, key=lambda entry: entry[0])
    known, strange = logits.amax(-1), strange_scores(variants[order], actions, logits, ways)
    threshold = fit_threshold(known, strange)
    fit = Fit(
        options=plain(variants[order].options()),
        scale=scale,
        threshold=threshold,
        left_out=len(ways),
        accuracy=-minus_accuracy,
        known_missed=(known < threshold).float().mean().item(),
        unknown_accepted=(strange >= threshold).float().mean().item(),
        steepness=fit_steepness(known, strange, threshold),
    )
    return fit, variants[order]


# ----------------------------------------------------------------------- leave one out


def leave_one_out(
    method: Method, actions: Actions
) -> tuple[list[Float[Tensor, "example way"]], Int[Tensor, " example"]]:
    """Name examples by the others, with every variant of the method.

    Args:
        method: a method with its variants.
        actions: at least one of them has two examples.

    Returns:
        For each variant, the logits of the left-out examples; and their true ways.
    """
    parts, ways = [], []
    with torch.no_grad():
        for chunk in _chunks(left_out_rounds(method, actions)):
            made = method.match_variants(episode(method, [(each.supports, each.query) for each in chunk]))
            parts.append([logits.flatten(0, 1).cpu() for logits in made])
            ways += [way for each in chunk for way in each.ways]
    return [torch.cat(each) for each in zip(*parts, strict=True)], torch.tensor(ways)


def strange_scores(
    method: Method, actions: Actions, logits: Float[Tensor, "example way"], ways: Int[Tensor, " example"]
) -> Float[Tensor, " example"]:
    """Score left-out examples as if their class were not enrolled.

    If the logit of a class does not depend on the other classes, the example's own class is dropped from its logits.
    Otherwise the example is matched again, with every class but its own.

    Args:
        method: the chosen variant.
        actions: the same as for `leave_one_out`.
        logits: what `leave_one_out` gave for this variant.
        ways: what it gave beside them.

    Returns:
        The best logit of each example without its own class.
    """
    if method.traits.independent_ways:
        return logits.masked_fill(one_hot(ways, logits.shape[1]).bool(), -torch.inf).amax(-1)
    scores = []
    for each in left_out_rounds(method, actions):
        for i, way in enumerate(each.ways):
            query = {part: tensor[i] for part, tensor in each.query.items()}
            scores.append(match(method, each.supports.without_way(way), query).max())
    return torch.stack(scores)


class Round(NamedTuple):
    """Queries that are matched with one choice of support examples."""

    supports: Supports
    query: Encoding
    """Each [query, ...], float32."""
    ways: Sequence[int]
    """The true way of each query."""


def left_out_rounds(method: Method, actions: Actions) -> Iterator[Round]:
    """Leave examples out: round k sets aside the k-th example of every class that has at least two.

    Setting one aside in every class at once keeps the classes balanced. It needs as many rounds as the largest class
    has examples. A left-out example is encoded as a query, which has not read the text of its class.

    If `match` depends on the means of the classes alone, the support of a round is one mean per class, from which the
    example is subtracted. So all rounds together cost (examples x classes).

    Args:
        method: the method.
        actions: the examples.

    Yields:
        The rounds. If queries see each other, each is alone, as in `Recognizer.predict`.
    """
    groups = [action.examples for action in actions.values()]
    everything = None if method.traits.matches_means else padded(actions)
    for k in range(max(map(len, groups))):
        out = {way: group[k] for way, group in enumerate(groups) if 1 < len(group) > k}
        if everything is None:
            supports = means(actions, out)
        else:
            mask = everything.mask.clone()
            mask[list(out), k] = False
            supports = everything._replace(mask=mask)
        turns = [[way] for way in out] if method.traits.transductive else [list(out)]
        for turn in turns:
            if turn:
                yield Round(supports, queries([out[way] for way in turn]), turn)


def _chunks(rounds: Iterable[Round]) -> Iterator[list[Round]]:
    """Gather consecutive rounds with as many queries each, up to `BATCH_BYTES`."""
    chunk: list[Round] = []
    for each in rounds:
        full = (len(chunk) + 1) * each.supports.bytes > BATCH_BYTES
        if chunk and (full or len(each.ways) != len(chunk[0].ways)):
            yield chunk
            chunk = []
        chunk.append(each)
    if chunk:
        yield chunk


# ----------------------------------------------------------------------- fit


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


def fit_steepness(known: Float[Tensor, " example"], strange: Float[Tensor, " example"], threshold: float) -> float:
    """Find the steepness of highest likelihood for "known" as a logistic function of the score.

    Args:
        known: best logits of left-out examples.
        strange: best logits of left-out examples without their own class.
        threshold: score at which "known" and "unknown" are equally likely.

    Returns:
        The slope of the log-odds of "known", above zero.

    Example:
        >>> apart = fit_steepness(torch.tensor([0.8, 1.0]), torch.tensor([0.1, 0.3]), 0.55)
        >>> mixed = fit_steepness(torch.tensor([0.3, 1.0]), torch.tensor([0.1, 0.8]), 0.55)
        >>> apart > mixed > 0
        True
    """
    scores = torch.cat([known, strange]) - threshold
    right = (len(known) + 1) / (len(known) + 2)
    target = torch.cat([torch.full_like(known, right), torch.full_like(strange, 1 - right)])
    slopes = torch.logspace(-2, 3, 201) / max(scores.std(correction=0).item(), 1e-12)
    odds = slopes[:, None] * scores
    losses = -(target * logsigmoid(odds) + (1 - target) * logsigmoid(-odds)).mean(-1)
    return slopes[int(losses.argmin())].item()


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Convert options to what JSON gives back, so that saved and fresh ones compare equal (tuples become lists)."""
    return json.loads(json.dumps(options))
