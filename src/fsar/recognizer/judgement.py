"""What a recogniser's state says of encoded videos: the one place where logits become probabilities."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.recognizer.answer import UNKNOWN
from fsar.recognizer.matching import Supports, episode, orders
from fsar.recognizer.state import State


class Judgement(NamedTuple):
    """What one encoded video shows."""

    action: str
    """The best action, or `unknown`."""
    probabilities: dict[str, float]
    """All actions in the order of enrolment and, if it could be fitted, `unknown`. They sum to one."""
    score: float
    threshold: float | None


class Measured(NamedTuple):
    """How similar encoded videos are to the enrolled actions."""

    logits: Float[Tensor, "query way"]
    """In standard deviations over background clips, if scores are measured against these."""
    scores: Float[Tensor, " query"]
    """Of the best action; what a threshold is compared with."""


@torch.no_grad()
def measure(state: State, query: Encoding) -> Measured:
    """Compare encoded videos with the enrolled actions: all that `judge` needs of the encodings.

    Args:
        state: with at least one action; it is fitted if it was not.
        query: encodings in the query role [query, ...].

    Returns:
        Logits and scores.
    """
    fit, method = state.fitted()
    logits, order = _matched(method, state.supports(), query)
    scores, ways = logits.max(-1)
    if fit.thresholds is not None:
        mean, deviation = state.cohort().statistics(method, query)
        scores = (scores - mean) / deviation + fit.order_weight * order.gather(-1, ways[:, None])[:, 0]
        logits = logits / deviation[:, None]
    return Measured(logits, scores)


@torch.no_grad()
def judge(state: State, query: Encoding, clips: bool = False) -> list[Judgement]:
    """Name encoded videos.

    Args:
        state: with at least one action; it is fitted if it was not.
        query: encodings in the query role [query, ...].
        clips: they are clips, each likely to show an action, so `Fit.doubt` counts. Most windows of a stream show none;
            the timeline weighs their evidence by itself.

    Returns:
        One judgement for each query. It does not depend on the other queries.
    """
    fit = state.fitted()[0]
    logits, scores = measure(state, query)
    names, made = list(state.actions), []
    for own, score, way in zip(logits, scores.tolist(), logits.argmax(-1).tolist(), strict=True):
        best = names[way]
        threshold, unknown = fit.threshold_of(best), fit.unknown_probability(score, best, doubt=clips)
        shares = ((fit.scale * own).softmax(-1) * (1 - (unknown or 0.0))).tolist()
        probabilities = dict(zip(names, shares, strict=True))
        if unknown is not None:
            probabilities[UNKNOWN] = unknown
        known = threshold is None or score >= threshold
        made.append(Judgement(best if known else UNKNOWN, probabilities, score, threshold))
    return made


def _matched(
    method: Method, supports: Supports, query: Encoding
) -> tuple[Float[Tensor, "query way"], Float[Tensor, "query way"]]:
    """Match queries with the enrolled actions, one by one if they would see each other: logits and orders."""
    count = len(next(iter(query.values())))
    size = 1 if method.traits.transductive else count
    parts = [{name: each[start : start + size] for name, each in query.items()} for start in range(0, count, size)]
    made = [method.match(episode(method, [(supports, part)])) for part in parts]
    return torch.cat([each.logits[0].cpu() for each in made]), torch.cat([each[0].cpu() for each in orders(made)])
