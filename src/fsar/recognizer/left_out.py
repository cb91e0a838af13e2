"""Leave-one-out: examples are left out and predicted from the remaining ones.

The examples are left out in rounds. A round leaves out one example of every action, so the actions stay balanced. If
the user named groups of examples (a person, a recording), a round leaves out one group in all actions: otherwise,
examples of one recording would support each other, and the estimate would be too high. An example is only predicted if
its action has other examples left.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from fsar.methods.base import Method
from fsar.methods.episode import Episode
from fsar.recognizer.examples import Action, Actions, Example
from fsar.recognizer.matching import BATCH_BYTES, Supports, episode, match, means, orders, padded, queries, size

Item = TypeVar("Item")


class LeftOut(NamedTuple):
    """Left-out examples, each matched with the remaining examples of its round."""

    logits: Float[Tensor, "variant example way"]
    """Logits, for every variant of the method."""
    ways: Int[Tensor, " example"]
    """The true way of each."""
    examples: Sequence[Example]
    orders: Float[Tensor, "variant example way"]
    """How much each logit rests on the order of the frames (`fsar.recognizer.matching.order`)."""


class Round(NamedTuple):
    """Examples that are left out together."""

    left: Mapping[int, tuple[Example, ...]]
    """Way -> examples that are left out of the support in this round; some others remain."""

    @property
    def queries(self) -> list[tuple[int, Example]]:
        """Way and example of each example to predict."""
        return [(way, example) for way, examples in self.left.items() for example in examples]


def rounds(actions: Actions) -> list[Round]:
    """Decide which examples are left out together.

    Args:
        actions: the examples.

    Returns:
        Rounds with examples to predict. Groups are ignored if they leave nothing to predict, like a single group.

    Example:
        >>> def made(*groups): return Action.of([Example(f"{i}", None, {}, {}, g) for i, g in enumerate(groups)])
        >>> by_person = rounds({"wave": made("Ann", "Ann", "Bob"), "clap": made("Ann", "Bob")})
        >>> [len(each.queries) for each in by_person]
        [3, 2]
    """
    grouped = list(_by_group(actions))
    if not grouped and any(example.group for action in actions.values() for example in action.examples):
        return list(_by_rank([action.examples for action in actions.values()], actions))
    single = [tuple(e for e in action.examples if e.group is None) for action in actions.values()]
    return [*_by_rank(single, actions), *grouped]


def _by_rank(single: Sequence[Sequence[Example]], actions: Actions) -> Iterator[Round]:
    """Leave out the first example of every action, then the second, and so on."""
    sizes = [len(action.examples) for action in actions.values()]
    for k in range(max(map(len, single), default=0)):
        left = {way: (group[k],) for way, group in enumerate(single) if len(group) > k and sizes[way] > 1}
        if left:
            yield Round(left)


def _by_group(actions: Actions) -> Iterator[Round]:
    """Leave out all examples of one group."""
    names = sorted({example.group for action in actions.values() for example in action.examples if example.group})
    for name in names:
        left = {}
        for way, action in enumerate(actions.values()):
            out = tuple(example for example in action.examples if example.group == name)
            if 0 < len(out) < len(action.examples):
                left[way] = out
        if left:
            yield Round(left)


class Memory:
    """Known logits and orders: an edit changes one action, so most of them stay."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, ...], Tensor] = {}
        self.kept: list[object] = []
        """Objects that keys identify by `id`; kept so that no `id` is used twice."""


def leave_one_out(
    method: Method, actions: Actions, known: Memory | None = None, fresh: Memory | None = None
) -> LeftOut:
    """Predict examples from the others, with every variant of the method.

    A left-out example is encoded as a query, so it has not read the text of its class. If `match` depends on the means
    of the classes alone, and on each by itself, the support is one mean per class, from which the left-out examples are
    subtracted. So everything together costs (examples x classes), and an edit costs its own class and examples.

    Args:
        method: a method with its variants.
        actions: the examples.
        known: logits from an earlier call with the same method.
        fresh: receives the logits that a later call may need.

    Returns:
        Logits, sorted by round. They do not depend on `known`.
    """
    plan, traits = rounds(actions), method.traits
    named = [pair for each in plan for pair in each.queries]
    ways, examples = torch.tensor([way for way, _ in named]), [example for _, example in named]
    with torch.no_grad():
        if traits.matches_means and traits.independent_ways and not traits.transductive:
            logits, order = _by_class(method, actions, plan, known or Memory(), fresh or Memory())
        else:
            logits, order = _by_round(method, actions, plan)
    return LeftOut(logits, ways, examples, order)


def _matched(method: Method, episode: Episode) -> Float[Tensor, "kind=2 variant episode query way"]:
    """Logits and orders of every variant, on the CPU."""
    made = method.match_variants(episode)
    return torch.stack([torch.stack([each.logits for each in made]), torch.stack(orders(made))]).cpu()


def _by_class(
    method: Method, actions: Actions, plan: Sequence[Round], known: Memory, fresh: Memory
) -> Float[Tensor, "kind=2 variant example way"]:
    """Match classes by themselves; what is known is not computed again."""
    classes = list(actions.values())
    queried = [(each, example) for each in plan for _, example in each.queries]
    keys = [[_key(each, way, action, example) for way, action in enumerate(classes)] for each, example in queried]
    found = {key: known.rows[key] for row in keys for key in row if key in known.rows}
    asked = [one for each in plan for one in _missing(each, classes, found)]
    for chunk in _chunks(asked, [((len(one.queries), len(one.ways)), one.bytes) for one in asked]):
        pairs = [(one.supports(classes), queries(one.queries)) for one in chunk]
        made = _matched(method, episode(method, pairs)).permute(2, 3, 4, 0, 1).contiguous()
        for e, one in enumerate(chunk):
            for q, example in enumerate(one.queries):
                for w, way in enumerate(one.ways):
                    found[_key(one.round, way, classes[way], example)] = made[e, q, w]
    fresh.rows |= found
    fresh.kept += [*classes, *(example for _, example in queried)]
    every = torch.stack([found[key] for row in keys for key in row])  # one call: a call for each example takes longer
    return every.unflatten(0, (len(keys), len(classes))).permute(2, 3, 0, 1).contiguous()


class Asked(NamedTuple):
    """Queries of a round, and the classes that they must be matched with."""

    round: Round
    ways: tuple[int, ...]
    queries: list[Example]

    @property
    def bytes(self) -> int:
        """Size of means and queries."""
        return (len(self.ways) + len(self.queries)) * size(self.queries[0].support)

    def supports(self, classes: Sequence[Action]) -> Supports:
        """Means of the classes without what the round leaves out."""
        left = {i: self.round.left.get(way, ()) for i, way in enumerate(self.ways)}
        return means({str(way): classes[way] for way in self.ways}, left)


def _missing(each: Round, classes: Sequence[Action], found: Mapping[tuple[int, ...], Tensor]) -> list[Asked]:
    """Gather the queries of a round with the same missing classes."""
    alike: dict[tuple[int, ...], list[Example]] = {}
    for _, query in each.queries:
        ways = tuple(way for way, action in enumerate(classes) if _key(each, way, action, query) not in found)
        alike.setdefault(ways, []).append(query)
    return [Asked(each, ways, examples) for ways, examples in alike.items() if ways]


def _key(each: Round, way: int, action: Action, query: Example) -> tuple[int, ...]:
    """Return the key of the logits of a query for a class in a round."""
    return (id(action), *map(id, each.left.get(way, ())), id(query))


def _by_round(method: Method, actions: Actions, plan: Sequence[Round]) -> Float[Tensor, "kind=2 variant example way"]:
    """Match round by round, each with all classes. If queries see each other, each is alone, as in an answer."""
    everything = None if method.traits.matches_means else padded(actions)
    asked = []
    for each in plan:
        supports = means(actions, each.left) if everything is None else _masked(everything, actions, each)
        left_out = [example for _, example in each.queries]
        turns = [[example] for example in left_out] if method.traits.transductive else [left_out]
        asked += [(supports, queries(turn)) for turn in turns]
    parts = []
    for chunk in _chunks(asked, [(len(next(iter(query.values()))), supports.bytes) for supports, query in asked]):
        parts.append(_matched(method, episode(method, chunk)).flatten(2, 3))
    return torch.cat(parts, 2)


def strange_scores(method: Method, actions: Actions, left_out: LeftOut, variant: int) -> Float[Tensor, " example"]:
    """Score left-out examples as if their class were not enrolled.

    If the logit of a class does not depend on the other classes, the example's own class is dropped from its logits.
    Otherwise the example is matched again, with every class but its own.

    Args:
        method: the chosen variant.
        actions: the same as for `leave_one_out`.
        left_out: output of `leave_one_out`.
        variant: index of the chosen variant.

    Returns:
        The best logit of each example without its own class.
    """
    if method.traits.independent_ways:
        logits = left_out.logits[variant]
        return logits.masked_fill(one_hot(left_out.ways, logits.shape[1]).bool(), -torch.inf).amax(-1)
    everything = None if method.traits.matches_means else padded(actions)
    scores = []
    for each in rounds(actions):
        supports = means(actions, each.left) if everything is None else _masked(everything, actions, each)
        for way, example in each.queries:
            query = {part: tensor.float() for part, tensor in example.query.items()}
            scores.append(match(method, supports.without_way(way), query).max())
    return torch.stack(scores)


def _masked(everything: Supports, actions: Actions, each: Round) -> Supports:
    """Mask the examples that a round leaves out."""
    mask = everything.mask.clone()
    for way, action in enumerate(actions.values()):
        out = each.left.get(way, ())
        for shot, example in enumerate(action.examples):
            mask[way, shot] &= not any(example is other for other in out)
    return everything._replace(mask=mask)


def _chunks(items: Sequence[Item], sizes: Sequence[tuple[Hashable, int]]) -> Iterator[list[Item]]:
    """Gather consecutive items of equal shape, up to `BATCH_BYTES`.

    Args:
        items: what is matched.
        sizes: shape, and bytes, of each.
    """
    chunk: list[Item] = []
    for i, item in enumerate(items):
        shape, weight = sizes[i]
        if chunk and ((len(chunk) + 1) * weight > BATCH_BYTES or shape != sizes[i - 1][0]):
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk
