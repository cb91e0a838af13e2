"""What is chosen on the examples themselves: variant, scale of probabilities, thresholds, and what to expect.

All of it rests on leave-one-out (`fsar.recognizer.left_out`): examples are set aside and named by the remaining ones.

- **Variant** of the method (for place-motion: its weight and alignment). The variant with the lowest negative
  log-likelihood wins if it is lower by `EVIDENCE` than that of the variant as given. Otherwise the given one stays: a
  few examples must not choose by chance.
- **Scale** of the logits before softmax. The logits are divided by their standard deviation over background clips, so
  that scales of all recognisers can be compared: the logarithm of the scale is taken as normally distributed around
  `USUAL_SCALE`, and the most probable scale is used. A perfect result on few examples so does not give certainty.
- **Weight of the order** in the score (`fsar.recognizer.background`): `ORDER` over the variance of the order among
  left-out examples, which is drawn to `ORDER_VARIANCE` with the weight of `ORDER_PRIOR` examples, and not below.
  Gestures come in the same order every time, so that another order says "stranger". A movement that repeats may begin
  anywhere. Where the examples hardly resemble each other, the weight is smaller, so that the order does not decide
  alone.
- **Threshold** of "unknown". The score of a video is its best logit, measured against background clips and against
  other orders of its frames. Scores of known videos are taken as log-normally distributed, since their spread grows
  with their mean. The mean of an action is drawn to the mean of all, and the spread to the usual one (see
  `weigh_order`), each with the weight of `PRIOR` examples. The threshold lies where a share `strictness` of known
  videos falls below it. A user's own background clips raise it until one in ten of them is accepted, at most until
  twice the strictness.
- **Probability of "unknown"**: a logistic function of the logarithm of the score. It is one half at the threshold, and
  its slope is `STEEPNESS` over the spread. In answers for clips, it has a bound. A known video that the examples would
  not name right looks like a stranger, whatever its score. `Fit.doubt` is the share of such videos among the left-out
  examples, by Laplace's rule of succession. Known videos are taken as a mixture of both kinds. So the odds of "known"
  never fall below `doubt`, and where examples hardly name each other, "unknown" is hardly more likely than not.
- **What to expect**: the share of left-out examples that is answered right. The variant that answers for an example is
  chosen without its action, and the threshold without the example. The interval is Wilson's with `SURE` standard
  errors: left-out examples support each other, so their shares deviate more than those of independent trials. It is
  wider if the examples come from few groups. The share of strangers that are accepted has no narrower interval than as
  many trials as there are actions would have: strangers of one kind are accepted or refused together.

The constants were chosen on five gestures of EgoGestAR, five object manipulations of Something-Something V2 and four
movements of whole bodies (Weizmann), ten draws of 2, 3, 5 and 10 examples each; `ORDER` and `SPREAD` on all clips of
these collections, twelve draws that no table reports.

A method whose logits of classes depend on each other, or which reads class texts, cannot be measured against background
clips. Its scale is the one of highest likelihood with Platt's smoothed targets, (n + 1) / (n + 2). Its threshold parts
two kinds of score: of left-out examples matched with all classes, and of the same examples matched with all classes but
their own. It lies where the error rates of two normal distributions are equal, and lower if more than `strictness` of
known videos would be missed there.

If every action has a single example, nothing can be left out. Then the given variant is used, the probabilities are not
calibrated, and "unknown" is never answered. `Fit` says so.

Long: the rules of one fit stand together; a third of the file is documentation.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from fsar.config import as_yaml
from fsar.methods.base import Method
from fsar.recognizer.background import Cohort
from fsar.recognizer.examples import Actions, Example
from fsar.recognizer.left_out import Memory, leave_one_out, strange_scores
from fsar.recognizer.matching import episode, orders, queries, supports_of

STRICTNESS = 0.1
"""Share of known videos that may be called unknown, unless the user says another one."""
EVIDENCE = 0.05
"""Share by which another variant's negative log-likelihood must be lower than the given one's."""
PRIOR = 20
"""Examples that the prior of an action's level, and of the spread, counts for."""
SPREAD = 0.5
"""Standard deviation of the similarity of known videos, as a share of its mean, before any example is seen."""
STEEPNESS = 2.0
"""Slope of the log-odds of "known" over the logarithm of the score, times the spread."""
USUAL_SCALE, SCALE_SPREAD = 0.3, 0.5
"""Mean and standard deviation of the logarithm of the scale, before any example is seen."""
COARSE = 10
"""First, every so manieth scale is tried."""
CERTAIN = 0.99
"""Target probability of the true action when the scale is fitted: a single mistake must not decide."""
FLOOR = 0.1
"""Smallest score that counts as more similar than unrelated clips, in their standard deviations."""
LEAST_SPREAD = 0.33
"""Smallest spread that is expected before any example is seen. With a smaller one, windows of a stream in which an
action begins a little early or late would be refused."""
ORDER, ORDER_SHARE = 1.5, 0.25
"""The weight of the order times its variance; and the largest share of the mean similarity that this may be."""
ORDER_VARIANCE, ORDER_PRIOR = 0.5, 10
"""Variance of the order before any example is seen, for how many examples it counts, and the smallest one: examples
may resemble each other more than new videos do."""
SURE = 2.4
"""Width of the promised interval, in standard errors of independent trials; 1.96 of those that were observed."""


@dataclass(frozen=True)
class Fit:
    """What was chosen on the examples, and how well the examples name each other."""

    options: dict[str, Any]
    """Options of the chosen variant."""
    scale: float
    """Factor on the logits before softmax; on logits over their standard deviation over background clips, if there are
    `thresholds`."""
    threshold: float | None
    """Score below which an answer is unknown; None if it could not be fitted."""
    left_out: int
    """Number of examples that were left out and named by the others."""
    accuracy: float | None
    """Share of left-out examples that were named correctly, before any is called unknown; None if there were none."""
    known_missed: float | None
    """Share of left-out examples that the threshold calls unknown."""
    unknown_accepted: float | None
    """Share of left-out examples that are accepted as another class if their own class is removed."""
    steepness: float | None = None
    """Slope of the log-odds of "known" over the score, or over its logarithm; None if it was not fitted."""
    thresholds: Mapping[str, float] | None = None
    """The threshold of each action, of scores against background clips; None for scores that are logits."""
    right: int | None = None
    """Left-out examples that were answered right, "unknown" included; None in files of older versions."""
    expected: tuple[float, float] | None = None
    """Share of right answers to expect on new videos of enrolled actions: from, to."""
    groups: int | None = None
    """Persons or recordings that were left out in turn; None if nobody said them."""
    strictness: float = STRICTNESS
    """Share of known videos that may be called unknown."""
    doubt: float = 0.0
    """Share of known videos that look like strangers: those that the examples would not name right. It bounds the
    probability of "unknown". 0 in files of older versions, and for scores that are logits."""
    order_weight: float = 1.0
    """How much the order of the frames counts in the score; 1 in files of older versions."""
    chosen: Mapping[str, Any] | None = None
    """Those of `options` that the examples chose; None if there was no choice, and in files of older versions."""

    @property
    def missed_at_most(self) -> float | None:
        """Largest share of known videos that must be expected to be called unknown; None if nothing was left out."""
        return None if self.known_missed is None else wilson(self.known_missed * self.left_out, self.left_out)[1]

    @property
    def accepted_at_most(self) -> float | None:
        """Largest share of videos of other actions, like the enrolled ones, that must be expected to be accepted."""
        if self.unknown_accepted is None:
            return None
        kinds = self.left_out if self.thresholds is None else len(self.thresholds)
        return wilson(self.unknown_accepted * kinds, kinds)[1]

    def threshold_of(self, action: str) -> float | None:
        """Score below which a video is not this action."""
        return self.threshold if self.thresholds is None else self.thresholds[action]

    def unknown_probability(self, score: float, action: str | None = None, doubt: bool = True) -> float | None:
        """Probability that a video shows no enrolled action.

        Args:
            score: of its best action.
            action: the best action; None for the threshold of all.
            doubt: bound it by `self.doubt`.

        Returns:
            The probability; None if it was not fitted.
        """
        threshold = self.threshold if action is None else self.threshold_of(action)
        if threshold is None or self.steepness is None:
            return None
        if self.thresholds is None:
            odds = self.steepness * (score - threshold)
        else:
            odds = self.steepness * math.log(max(score, FLOOR / 100) / threshold)
        if doubt and self.doubt and odds < 0:
            odds = math.log((1 - self.doubt) * math.exp(odds) + self.doubt)
        return torch.sigmoid(torch.tensor(-odds, dtype=torch.float64)).item()

    @property
    def brief(self) -> str:
        """What to expect, in one sentence."""
        if self.accuracy is None:
            return (
                "with one example per action, nothing can be left out: probabilities are not calibrated and the answer "
                "is never 'unknown'. Give at least two examples of one action."
            )
        if self.thresholds is not None and len(self.thresholds) == 1:  # to name the only action right says nothing
            return (
                f"of {self.left_out} clips left out, {self.known_missed:.0%} were called unknown (expect up to "
                f"{self.missed_at_most:.0%})"
            )
        right = round(self.accuracy * self.left_out) if self.right is None else self.right
        low, high = self.expected or wilson(right, self.left_out)
        kind = f" ({self.groups} persons or recordings in turn)" if self.groups else ""
        return (
            f"of {self.left_out} clips left out{kind}, {right} were named right; expect {100 * low:.0f} to "
            f"{100 * high:.0f} % on new recordings of the same kind"
        )

    def __str__(self) -> str:
        lines = [self.brief]
        if self.accuracy is not None:
            lines += [
                f"known actions called unknown: {self.known_missed:.0%} (expect up to {self.missed_at_most:.0%}); "
                f"other actions taken for an enrolled one: {self.unknown_accepted:.0%} (expect up to "
                f"{self.accepted_at_most:.0%}, and more if they resemble one)"
            ]
            if not self.groups:
                lines += [
                    "expect less if clips of one action come from one recording or person: sort them into folders, "
                    "ACTION/PERSON/CLIP"
                ]
        if self.chosen:
            listed = (f"{key}={as_yaml(value)}" for key, value in self.chosen.items())
            lines += [f"chosen by these clips: {', '.join(listed)}"]
        return "\n".join(lines)


def calibrate(
    method: Method,
    actions: Actions,
    cohort: Cohort | None = None,
    own_background: Sequence[Example] = (),
    strictness: float = STRICTNESS,
    known: Memory | None = None,
    fresh: Memory | None = None,
) -> tuple[Fit, Method]:
    """Choose variant, scale and threshold by leave-one-out.

    Args:
        method: a method; its `variants` are tried.
        actions: at least two; or one with a cohort.
        cohort: background clips; None if the method cannot use them.
        own_background: those of the cohort that the user gave.
        strictness: share of known videos that may be called unknown.
        known: what an earlier fit with the same method computed (see `leave_one_out`).
        fresh: is filled with what a later fit may need.

    Returns:
        The fit and the chosen variant. Without left-out examples, the given variant and no threshold.
    """
    variants = method.variants()
    if all(len(action.examples) == 1 for action in actions.values()):
        fit = Fit(plain(variants[0].options()), 1.0, None, 0, None, None, None, strictness=strictness)
        return fit, variants[0]
    left_out = leave_one_out(method, actions, known, fresh)
    choice = choose_variant(left_out.logits, left_out.ways)
    variant = variants[choice.order]
    logits, scale = left_out.logits[choice.order], choice.scale
    order_weight = 1.0
    if cohort is None:
        strange = strange_scores(variant, actions, left_out, choice.order)
        bounds = _by_strangers(logits.amax(-1), strange, strictness)
    else:
        statistics = _statistics(cohort, variant, choice.order, left_out.examples, known, fresh)
        mean, deviation = statistics[:, None].unbind(-1)
        similar, order = (logits - mean) / deviation, left_out.orders[choice.order]
        scale = probable_scale(similar, left_out.ways)
        order_weight, usual = weigh_order(similar, order)
        negatives = _negatives(own_background, variant, actions, cohort, order_weight)
        named = Scored(left_out.ways, similar, order_weight * order)
        bounds = _by_background(named, list(actions), negatives, strictness, usual)
    right = int((choice.right & bounds.kept).sum())
    groups = {example.group for example in left_out.examples}
    fit = Fit(
        options=plain(variant.options()),
        scale=scale,
        threshold=bounds.threshold,
        left_out=len(left_out.ways),
        accuracy=choice.right.float().mean().item(),
        known_missed=1 - bounds.kept.float().mean().item(),
        unknown_accepted=bounds.accepted.float().mean().item(),
        steepness=bounds.steepness,
        thresholds=bounds.thresholds,
        right=right,
        expected=wilson(right, len(left_out.ways), None if None in groups else len(groups)),
        groups=None if None in groups or len(groups) < 2 else len(groups),
        strictness=strictness,
        doubt=0.0 if cohort is None else (int((~choice.right).sum()) + 1) / (len(choice.right) + 2),
        order_weight=order_weight,
        chosen=_chosen(variant, variants),
    )
    return fit, variant


def _chosen(variant: Method, variants: Sequence[Method]) -> dict[str, Any] | None:
    """Options of a variant that are not the same in all variants; None if there is one variant."""
    options = plain(variant.options())
    others = [plain(other.options()) for other in variants]
    return {key: value for key, value in options.items() if any(other[key] != value for other in others)} or None


# ----------------------------------------------------------------------- variant


class Choice(NamedTuple):
    """A variant that was chosen on left-out examples."""

    order: int
    """Number of the variant."""
    scale: float
    right: Tensor
    """Whether each left-out example is named right by the variant that the other actions' examples choose. Those of its
    own action were named with its help: two examples of an action name each other by one similarity."""


def choose_variant(logits: Float[Tensor, "variant example way"], ways: Int[Tensor, " example"]) -> Choice:
    """Choose the variant of lowest negative log-likelihood, if it is clearly lower than that of the first one.

    Args:
        logits: of left-out examples.
        ways: the true way of each.

    Example:
        >>> first, second = torch.tensor([[1.0, 0.9], [0.9, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> choose_variant(torch.stack([first, first + 0.01 * second]), torch.tensor([0, 1])).order
        0
        >>> noisy = torch.tensor([[1.0, 0.9], [1.0, 0.9]])
        >>> choose_variant(torch.stack([noisy, second]), torch.tensor([0, 1])).order
        1
    """
    if logits.shape[-1] == 1:  # nothing to tell apart
        return Choice(0, 1.0, torch.ones(len(ways), dtype=torch.bool))
    scales, losses = zip(*(fit_scale(each, ways) for each in logits), strict=True)
    loss = torch.stack(losses)  # variant example
    total = loss.sum(-1, keepdim=True)
    own = torch.zeros(len(loss), logits.shape[-1]).index_add(1, ways, loss)
    rest = total - own  # variant way
    without_own = _clearly_lowest(torch.where(rest > 0, rest, total))[ways]
    named = logits.argmax(-1)[without_own, torch.arange(len(ways))]
    order = int(_clearly_lowest(total)[0])
    return Choice(order, scales[order], named == ways)


def _clearly_lowest(losses: Float[Tensor, "variant choice"]) -> Int[Tensor, " choice"]:
    lowest, best = losses.min(0)
    return torch.where(lowest < (1 - EVIDENCE) * losses[0], best, 0)


# ----------------------------------------------------------------------- threshold


class Bounds(NamedTuple):
    """A threshold, and what it does to left-out examples."""

    threshold: float
    thresholds: Mapping[str, float] | None
    steepness: float
    kept: Tensor
    """Whether each left-out example is not called unknown, by a threshold that was set without it."""
    accepted: Tensor
    """Whether each is taken for another action if its own is removed."""


class Scored(NamedTuple):
    """Left-out examples, measured against background clips."""

    ways: Int[Tensor, " example"]
    similar: Float[Tensor, "example way"]
    """Logits in standard deviations over background clips."""
    order: Float[Tensor, "example way"]
    """Times its weight."""

    def best(self, without_own: bool = False) -> tuple[Float[Tensor, " example"], Int[Tensor, " example"]]:
        """Score and way of the best logit, maybe of other actions than the true one."""
        logits = self.similar
        if without_own:
            logits = logits.masked_fill(one_hot(self.ways, logits.shape[-1]).bool(), -torch.inf)
        best, way = logits.max(-1)
        return best + self.order.gather(-1, way[:, None])[:, 0], way


def _by_background(
    named: Scored, names: Sequence[str], negatives: tuple[Tensor, Tensor], strictness: float, usual: float
) -> Bounds:
    """Set the threshold of each action by its level, the spread and the strictness."""
    logs, ways = named.best()[0].clamp(min=FLOOR).log(), named.ways
    count = torch.bincount(ways, minlength=len(names))
    total = torch.zeros(len(names)).index_add(0, ways, logs)
    levels = (total + PRIOR * logs.mean()) / (count + PRIOR)
    squares = ((logs - levels[ways]) ** 2).sum().item()
    spread = math.sqrt((PRIOR * usual**2 + squares) / (PRIOR + len(logs)))
    below = _standard_errors(levels, spread, negatives, strictness)
    bounds = (levels - below * spread).exp().clamp(min=FLOOR)
    others = (logs.sum() - logs) / max(len(logs) - 1, 1)
    own = (total[ways] - logs + PRIOR * others) / (count[ways] - 1 + PRIOR)
    strange, other_way = named.best(without_own=True)
    return Bounds(
        threshold=_rounded(math.exp(logs.mean().item() - below * spread)),
        thresholds=dict(zip(names, map(_rounded, bounds.tolist()), strict=True)),
        steepness=_rounded(STEEPNESS / spread),
        kept=logs >= own - below * spread,
        accepted=strange >= bounds[other_way],
    )


def _rounded(value: float) -> float:
    """Keep four digits: the others depend on how examples were batched, and so on the way to the same examples."""
    return float(f"{value:.4g}")


def _standard_errors(levels: Tensor, spread: float, negatives: tuple[Tensor, Tensor], strictness: float) -> float:
    """How many spreads the threshold lies below the level; the user's background clips may raise it."""
    asked, most = (-NormalDist().inv_cdf(share) for share in (strictness, min(2 * strictness, 0.5)))
    scores, named = negatives
    if not len(scores):
        return asked
    above = ((scores.clamp(min=FLOOR).log() - levels[named]) / spread).quantile(0.9).item()
    return min(asked, max(-above, most))


def weigh_order(similar: Float[Tensor, "example way"], orders: Float[Tensor, "example way"]) -> tuple[float, float]:
    """Tell how much the order of the frames counts: the more, the less it varies among videos of one action.

    Args:
        similar: logits of left-out examples, in standard deviations over background clips.
        orders: of the same.

    Returns:
        The weight of the order; and the standard deviation of the logarithm of known scores that is to be expected with
        it, if the first part of the score varies by `SPREAD`.

    Example:
        >>> similar, alike = torch.full((3, 1), 5.0), torch.full((3, 1), 3.0)
        >>> weigh_order(similar, alike)[0] > weigh_order(similar, torch.tensor([[6.0], [3.0], [0.0]]))[0]
        True
    """
    best, way = similar.max(-1)
    order = orders.gather(-1, way[:, None])[:, 0]
    squares = (order - order.mean()).square().sum().item()
    variance = max(ORDER_VARIANCE, (ORDER_PRIOR * ORDER_VARIANCE + squares) / (ORDER_PRIOR + len(order)))
    first = max(best.mean().item(), FLOOR)
    weight = _rounded(min(ORDER, ORDER_SHARE * first) / variance)
    deviation = math.hypot(SPREAD * first, weight * math.sqrt(variance))
    share = deviation / max(first + weight * order.mean().item(), deviation)
    return weight, max(share, LEAST_SPREAD)


def _statistics(
    cohort: Cohort, method: Method, order: int, examples: Sequence[Example], known: Memory | None, fresh: Memory | None
) -> Float[Tensor, "example statistic=2"]:
    """Statistics of the left-out examples' logits for background clips; those that are known are taken."""
    keys: list[tuple[int, ...]] = [(order, id(cohort), id(example)) for example in examples]
    found = {key: known.rows[key] for key in keys if key in known.rows} if known else {}
    missing = [(key, example) for key, example in zip(keys, examples, strict=True) if key not in found]
    if missing:
        made = cohort.of_examples(method, [example for _, example in missing])
        found |= {key: row for (key, _), row in zip(missing, made, strict=True)}
    if fresh is not None:
        fresh.rows |= found
        fresh.kept.append(cohort)
    return torch.stack([found[key] for key in keys])


@torch.no_grad()
def _negatives(
    examples: Sequence[Example], method: Method, actions: Actions, cohort: Cohort, order_weight: float
) -> tuple[Float[Tensor, " example"], Int[Tensor, " example"]]:
    """Score and best action of the user's background clips."""
    if not examples:
        return torch.zeros(0), torch.zeros(0, dtype=torch.long)
    prediction = method.match(episode(method, [(supports_of(method, actions), queries(examples))]))
    best, named = prediction.logits[0].cpu().max(-1)
    mean, deviation = cohort.of_examples(method, examples).unbind(-1)
    order = orders([prediction])[0][0].cpu().gather(-1, named[:, None])[:, 0]
    return (best - mean) / deviation + order_weight * order, named


def _by_strangers(known: Float[Tensor, " example"], strange: Float[Tensor, " example"], strictness: float) -> Bounds:
    """Set one threshold for logits, between those of known examples and of the same ones without their class."""
    threshold = fit_threshold(known, strange, strictness)
    return Bounds(threshold, None, fit_steepness(known, strange, threshold), known >= threshold, strange >= threshold)


def wilson(right: float, count: int, groups: int | None = None) -> tuple[float, float]:
    """Wilson's interval of a share.

    Args:
        right: number of successes.
        count: number of trials.
        groups: of how many groups the trials are. Trials of one group resemble each other: they count as the geometric
            mean of both numbers.

    Returns:
        From, to.

    Example:
        >>> [round(bound, 2) for bound in wilson(17, 20)]
        [0.59, 0.96]
        >>> [round(bound, 2) for bound in wilson(17, 20, groups=5)]
        [0.47, 0.97]
    """
    n = count if groups is None else math.sqrt(count * groups)
    share = right / count
    centre = share + SURE**2 / (2 * n)
    half = SURE * math.sqrt(share * (1 - share) / n + SURE**2 / (4 * n**2))
    return max(0.0, (centre - half) / (1 + SURE**2 / n)), min(1.0, (centre + half) / (1 + SURE**2 / n))


# ----------------------------------------------------------------------- scale, logits


def fit_scale(
    logits: Float[Tensor, "example way"], ways: Int[Tensor, " example"]
) -> tuple[float, Float[Tensor, " example"]]:
    """Find the scale of highest likelihood with Platt's smoothed targets.

    Args:
        logits: of left-out examples.
        ways: the true way of each.

    Returns:
        The scale, and the negative log-likelihood of each example.
    """
    examples, classes = logits.shape
    right = (examples + 1) / (examples + 2)
    target = torch.full_like(logits, (1 - right) / (classes - 1)).scatter(1, ways[:, None], right)
    scales = torch.logspace(-2, 3, 201) / max(logits.std().item(), 1e-12)

    def best_of(numbers: Tensor) -> tuple[int, Tensor]:
        losses = -(target * (scales[numbers, None, None] * logits).log_softmax(-1)).sum(-1)
        best = int(losses.mean(-1).argmin())
        return int(numbers[best]), losses[best]

    near = best_of(torch.arange(0, 201, COARSE))[0]  # the loss is convex in the scale
    best, losses = best_of(torch.arange(max(0, near - COARSE), min(200, near + COARSE) + 1))
    return scales[best].item(), losses


def probable_scale(similar: Float[Tensor, "example way"], ways: Int[Tensor, " example"]) -> float:
    """Find the most probable scale of logits that were measured against background clips.

    Args:
        similar: of left-out examples.
        ways: the true way of each.

    Example:
        >>> similar, ways = 3 * torch.eye(4), torch.arange(4)
        >>> probable_scale(similar, ways) > probable_scale(similar, ways.flip(0))  # named right, named wrong
        True
    """
    classes = similar.shape[-1]
    wrong = (1 - CERTAIN) / max(classes - 1, 1)
    target = torch.full_like(similar, wrong).scatter(1, ways[:, None], CERTAIN)
    logs = torch.linspace(-3, 4, 141)
    losses = -(target * (logs.exp()[:, None, None] * similar).log_softmax(-1)).sum((1, 2))
    prior = (logs - USUAL_SCALE) ** 2 / (2 * SCALE_SPREAD**2)
    return math.exp(logs[int((losses + prior).argmin())].item())


def fit_threshold(
    known: Float[Tensor, " example"], strange: Float[Tensor, " example"], strictness: float = STRICTNESS
) -> float:
    """Find the score at which both error rates are equal if both kinds of score are normally distributed.

    The best cut through the few scores themselves would jump with every example. If known and strange scores overlap
    much, the threshold stops where a share `strictness` of the known scores falls below it.

    Args:
        known: best logits of left-out examples.
        strange: best logits of left-out examples without their own class.
        strictness: share of known scores that may fall below the threshold.

    Returns:
        The threshold.

    Example:
        >>> round(fit_threshold(torch.tensor([0.8, 1.0]), torch.tensor([0.1, 0.3])), 2)
        0.55
    """
    spread_known, spread_strange = (max(x.std(correction=0).item(), 1e-6) for x in (known, strange))
    share = spread_strange / (spread_known + spread_strange)
    equal = share * known.mean().item() + (1 - share) * strange.mean().item()
    return min(equal, NormalDist(known.mean().item(), spread_known).inv_cdf(strictness))


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
