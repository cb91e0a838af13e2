"""What is chosen on the examples: leave-one-out, scale, threshold, and what it costs."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.methods import Method, build_method
from fsar.methods.episode import Encoding, Episode, Prediction
from fsar.recognizer.background import Cohort
from fsar.recognizer.calibration import (
    ORDER,
    ORDER_VARIANCE,
    Fit,
    calibrate,
    choose_variant,
    fit_scale,
    fit_steepness,
    fit_threshold,
    weigh_order,
    wilson,
)
from fsar.recognizer.examples import Action, Actions, Example
from fsar.recognizer.judgement import measure
from fsar.recognizer.left_out import leave_one_out, strange_scores
from fsar.recognizer.matching import match, padded, queries
from fsar.recognizer.state import State
from tests.recognizer.conftest import Clips


def enrolled(counts: list[int], parts: dict[str, tuple[int, ...]], seed: int = 0) -> Actions:
    """Actions whose examples are random unit vectors, near 0 to each other."""
    generator = torch.Generator().manual_seed(seed)

    def encoding() -> Encoding:
        shapes = parts.items()
        return {
            part: torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1).half()
            for part, shape in shapes
        }

    def examples(way: int, count: int) -> list[Example]:
        made = ((f"{way}/{k}", encoding()) for k in range(count))
        return [Example(name, name, each, each) for name, each in made]

    return {f"action {way}": Action.of(examples(way, count)) for way, count in enumerate(counts)}


PLACE_MOTION = {"appearance": (8, 64), "place": (8, 128)}


@pytest.mark.parametrize("name", ["place-motion", "otam"])
def test_leave_one_out_never_shows_the_example_itself(name: str, tiny: Backbone) -> None:
    """An example among its own four would give 1/4, and so a far higher logit than any other."""
    method = build_method(name, tiny)
    parts = PLACE_MOTION if name == "place-motion" else {"frames": (8, 64)}
    every, ways, *_ = leave_one_out(method, enrolled([4] * 3, parts))
    for logits in every:
        own, best = logits[torch.arange(len(ways)), ways], logits.amax(-1)
        assert len(ways) == 12 and (own < best).sum() >= 3  # as likely to be last as any other
        assert (own.mean() - logits.mean()).abs() < 3 * logits.std() / 12**0.5


@pytest.mark.parametrize("name", ["place-motion", "protonet"])
def test_means_give_what_all_examples_would(name: str, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = PLACE_MOTION if name == "place-motion" else {"frames": (8, 64)}
    method, actions = build_method(name, tiny), enrolled([3, 1, 5], parts)
    by_means, ways, *_ = leave_one_out(method, actions)
    monkeypatch.setattr(type(method), "traits", method.traits.__class__(independent_ways=True))
    by_all, same, *_ = leave_one_out(method, actions)
    assert ways.tolist() == same.tolist() == [0, 2, 0, 2, 0, 2, 2, 2]
    for one, other in zip(by_means, by_all, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_fit_costs_examples_times_actions(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every left-out example meets one mean per action, in whatever batches."""
    seen: list[tuple[int, ...]] = []
    method = build_method("place-motion", tiny)
    whole = type(method).match_variants

    def counted(self: Method, episode: Episode) -> list[Prediction]:
        seen.append((*episode.shot_mask.shape, episode.query["place"].shape[1]))
        return whole(self, episode)

    monkeypatch.setattr(type(method), "match_variants", counted)
    calibrate(method, enrolled([20] * 5, PLACE_MOTION))
    assert all(shot == 1 for _, _, shot, _ in seen)
    assert sum(episode * way * query for episode, way, _, query in seen) == 100 * 5
    assert len(seen) < 10


@pytest.mark.parametrize("name", ["ma-fsar", "clip-spm"])
def test_strange_examples_are_matched_again_without_their_class(name: str, tiny: Backbone, clips: Clips) -> None:
    """Logits of these methods depend on the other classes: masking one is not the same as leaving its class out."""
    small: dict[str, Any] = {"hidden": 16} | ({"head_dim": 4} if name == "clip-spm" else {})
    made = Recognizer(tiny, name, **small)
    for label, paths in clips.items():
        made.enroll(label, paths[:2])
    actions, method = made._state.actions, made.method
    (logits,), ways, *_ = left_out = leave_one_out(method, actions)
    strange = strange_scores(method, actions, left_out, 0)
    masked = logits.masked_fill(torch.nn.functional.one_hot(ways, 3).bool(), -torch.inf).amax(-1)
    assert not torch.allclose(strange, masked, atol=1e-3)
    # the first left-out example, by hand: no example of its own class, no first example of the others
    others = {label: Action.of(action.examples[1:], action.text) for label, action in list(actions.items())[1:]}
    first = actions[next(iter(clips))].examples[0]
    with torch.no_grad():
        expected = match(method, padded(others), {part: tensor.float() for part, tensor in first.query.items()}).max()
    torch.testing.assert_close(strange[0], expected, rtol=1e-4, atol=1e-4)


def test_a_left_out_example_has_not_read_its_class_text(tiny: Backbone, clips: Clips) -> None:
    """Encoded as support it carries its own class's words, and would name itself by them."""
    made = Recognizer(tiny, "clip-fsar", hidden=16)
    for label, paths in clips.items():
        made.enroll(label, paths[:2])
    actions = made._state.actions
    first = actions["something_growing"].examples[0]
    assert not torch.allclose(first.support["enhanced"].float(), first.query["enhanced"].float(), atol=1e-3)
    spoiled = {
        label: Action.of([Example(e.video, e.content, e.support, e.support) for e in action.examples], action.text)
        for label, action in actions.items()
    }
    (logits,), ways, *_ = leave_one_out(made.method, actions)
    (other,), *_ = leave_one_out(made.method, spoiled)
    assert len(ways) == 6 and not torch.allclose(logits, other, atol=1e-4)


def test_scale_and_threshold() -> None:
    sure = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    ways = torch.tensor([0, 1, 0, 1])
    scale, _ = fit_scale(sure, ways)
    # Platt's targets for 4 examples: 5/6, so the log-odds are log 5
    assert scale * 2 == pytest.approx(torch.log(torch.tensor(5.0)).item(), rel=0.05)
    unsure, _ = fit_scale(sure, torch.tensor([0, 1, 1, 0]))
    assert unsure < 0.2 * scale
    assert fit_threshold(torch.tensor([0.8, 1.0]), torch.tensor([0.1, 0.3])) == pytest.approx(0.55)


def test_steepness_is_the_likeliest() -> None:
    """Four scores one above the threshold and four one below: log-odds of Platt's target 5/6, that is log 5."""
    slope = fit_steepness(torch.full((4,), 2.0), torch.zeros(4), 1.0)
    assert slope == pytest.approx(torch.log(torch.tensor(5.0)).item(), rel=0.05)


def test_one_example_per_action_is_not_fitted(tiny: Backbone) -> None:
    method = build_method("place-motion", tiny)
    fit, chosen = calibrate(method, enrolled([1, 1], PLACE_MOTION))
    assert chosen is method and fit.threshold is None and fit.unknown_probability(0.5) is None
    assert "at least two examples" in str(fit)


def test_only_options_that_the_examples_chose_are_named(tiny: Backbone) -> None:
    """The whole list of options read as if the examples had chosen defaults that nobody had tried."""
    fit, variant = calibrate(build_method("place-motion", tiny), enrolled([3, 3], PLACE_MOTION))
    weight, alignment = variant.config.weight, variant.config.alignment
    assert str(fit).splitlines()[-1] == f"chosen by these clips: weight={weight}, alignment={alignment}"
    fit, _ = calibrate(build_method("bi-mhm", tiny), enrolled([3, 3], {"frames": (8, 64)}))
    assert fit.options == {"per": "prototype"} and "chosen" not in str(fit)


def test_the_threshold_keeps_the_share_that_was_asked_for(tiny: Backbone) -> None:
    """Scores of many known examples: about the asked share of them falls below it."""
    method, actions = build_method("place-motion", tiny), enrolled([30] * 3, PLACE_MOTION)
    alike = {
        name: Action.of([_near(action.examples[0], example) for example in action.examples])
        for name, action in actions.items()
    }
    cohort = Cohort(enrolled([20], PLACE_MOTION, seed=9)["action 0"].examples)
    for strictness in (0.1, 0.4):
        fit, _ = calibrate(method, alike, cohort, strictness=strictness)
        assert fit.known_missed == pytest.approx(strictness, abs=0.1)
        assert fit.accuracy == 1 and fit.unknown_accepted < 0.1  # type: ignore[operator]
        assert fit.accepted_at_most == wilson(fit.unknown_accepted * 3, 3)[1]  # type: ignore[operator]
        threshold = fit.threshold_of("action 0")
        assert fit.unknown_probability(threshold, "action 0") == pytest.approx(0.5)  # type: ignore[arg-type]
        assert fit.unknown_probability(-1.0, "action 0", doubt=False) > 0.99  # type: ignore[operator]
        assert fit.unknown_probability(-1.0, "action 0") == pytest.approx(92 / 93)  # one of 92 would not be named right


def test_the_order_counts_less_where_it_varies() -> None:
    """By hand: ten examples of the prior and four left out; never more than the prior alone, nor than similarity."""
    similar, alike = torch.full((4, 2), 8.0), torch.full((4, 2), 3.0)
    similar[:, 1] = 0  # the first way is named; orders of the other one do not count
    alike[:, 1] = torch.tensor([9.0, -9.0, 9.0, -9.0])
    assert weigh_order(similar, alike)[0] == pytest.approx(ORDER / ORDER_VARIANCE)
    varied = torch.tensor([[4.0], [2.0], [4.0], [2.0]])  # a sum of squares of 4
    assert weigh_order(similar[:, :1], 3 * varied)[0] == pytest.approx(ORDER / ((10 * 0.5 + 36) / 14), rel=1e-3)
    assert weigh_order(similar / 8, alike)[0] == pytest.approx(0.25 / ORDER_VARIANCE)


def test_scores_hold_the_order_by_its_weight(tiny: Backbone) -> None:
    method, actions = build_method("place-motion", tiny), enrolled([3, 3], PLACE_MOTION)
    cohort = tuple(enrolled([5], PLACE_MOTION, seed=9)["action 0"].examples)
    fit, variant = calibrate(method, actions, Cohort(cohort))
    asked = queries(actions["action 1"].examples)

    def scores(weight: float) -> torch.Tensor:
        state = State(method, actions, generated=lambda: cohort, fitted=(replace(fit, order_weight=weight), variant))
        return measure(state, asked).scores

    assert (scores(1) - scores(0)).abs().min() > 0.01
    torch.testing.assert_close(scores(3) - scores(0), 3 * (scores(1) - scores(0)))
    assert Fit({}, 1.0, None, 0, None, None, None).order_weight == 1  # as in files of older versions


def _near(centre: Example, other: Example) -> Example:
    """An example that resembles the centre, more or less."""
    mixed = {part: (centre.query[part] + 2 * other.query[part]).half() for part in centre.query}
    return Example(other.video, other.content, mixed, mixed)


def test_an_example_has_no_vote_on_the_variant_that_names_it() -> None:
    """The first variant is right on all but one example, which only the second one names."""
    ways = torch.tensor([0, 1] * 10)
    first = torch.nn.functional.one_hot(ways, 2).float()
    first[0] = 1 - first[0]
    second = 0.01 * torch.nn.functional.one_hot(ways, 2).float() - 0.5 * first
    choice = choose_variant(torch.stack([first, second]), ways)
    assert choice.order == 0 and choice.right.tolist() == [False] + [True] * 19


def test_the_examples_of_an_action_do_not_choose_their_variant() -> None:
    """Two examples of an action name each other by one similarity: one of them must not vouch for the other."""
    ways = torch.tensor([0, 0, 1, 1, 2, 2])
    right = torch.nn.functional.one_hot(ways, 3).float()
    first, second = right.clone(), 0.2 * right
    first[:2], second[:2] = torch.tensor([0.0, 1.0, 0.0]), right[:2]
    choice = choose_variant(torch.stack([first, second]), ways)
    assert choice.order == 1 and choice.right.tolist() == [False, False, True, True, True, True]


def test_the_interval_is_wider_for_few_groups() -> None:
    assert wilson(10, 10)[0] == pytest.approx(0.635, abs=0.01) and wilson(10, 10)[1] == 1
    assert wilson(10, 10, 2)[0] < wilson(10, 10)[0]
