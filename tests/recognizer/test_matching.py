"""How logits are measured against other orders of the frames; logits alone."""

from itertools import permutations

import pytest
import torch

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.methods import build_method
from fsar.methods.episode import Episode
from fsar.recognizer.background import Cohort
from fsar.recognizer.calibration import calibrate, probable_scale
from fsar.recognizer.examples import Action, Example
from fsar.recognizer.judgement import judge
from fsar.recognizer.matching import order
from fsar.recognizer.state import State
from fsar.video.frame_cache import FrameCache
from tests.recognizer.test_calibration import PLACE_MOTION, enrolled


def test_the_order_of_frames_is_measured_against_all_orders() -> None:
    similarity = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(5)
    every = torch.stack([similarity[..., list(each), numbers].mean(-1) for each in permutations(range(5))])
    expected = (every[0] - every.mean(0)) / every.std(0, correction=0)
    torch.testing.assert_close(order(similarity), expected)


def test_an_order_that_cannot_be_compared_counts_nothing() -> None:
    for shape in ((2, 1, 1), (2, 4, 5)):
        assert order(torch.rand(shape)).tolist() == [0, 0]
    assert order(torch.full((8, 8), 0.3)).item() == 0


@pytest.mark.parametrize("alignment", ["frame-wise", "otam"])
def test_logits_alone_are_those_of_the_match(alignment: str, tiny: Backbone) -> None:
    method = build_method("place-motion", tiny, alignment=alignment)
    support = {part: torch.rand(2, 3, 4, *shape) for part, shape in PLACE_MOTION.items()}
    query = {part: torch.rand(2, 5, *shape) for part, shape in PLACE_MOTION.items()}
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[0, 1, 2:], mask[1, 2] = False, False
    episode = Episode(support, query, mask, None)
    torch.testing.assert_close(method.logits(episode), method.match(episode).logits)


def test_frames_in_another_order_are_less_known(tiny: Backbone) -> None:
    """Clips of one scene, whose frames are alike in any order; but the actions have an order."""
    method, generator = build_method("place-motion", tiny), torch.Generator().manual_seed(0)
    scene = {part: torch.randn(shape[-1], generator=generator) for part, shape in PLACE_MOTION.items()}
    steps = [{part: torch.randn(shape, generator=generator) for part, shape in PLACE_MOTION.items()} for _ in range(3)]

    def clip(name: str, action: int) -> Example:
        parts = {
            part: torch.nn.functional.normalize(
                scene[part] + steps[action][part] + torch.randn(shape, generator=generator), dim=-1
            ).half()
            for part, shape in PLACE_MOTION.items()
        }
        return Example(name, name, parts, parts)

    actions = {f"{way}": Action.of([clip(f"{way}{k}", way) for k in range(3)]) for way in range(3)}
    background = tuple(enrolled([20], PLACE_MOTION, seed=9)["action 0"].examples)
    state = State(method, actions, generated=lambda: background)
    query = {part: each[None].float() for part, each in clip("new", 0).query.items()}
    mixed = {part: each[:, [3, 6, 1, 4, 0, 7, 2, 5]] for part, each in query.items()}
    (known,), (other,) = judge(state, query), judge(state, mixed)
    assert known.action == "0" and other.score < known.score - 5
    assert other.probabilities["unknown"] > known.probabilities["unknown"]


def test_the_scale_starts_at_the_usual_one(tiny: Backbone) -> None:
    ways = torch.tensor([0, 1, 2, 0])
    logits = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    assert 0.5 < probable_scale(logits, ways) < 3  # four examples say little
    cohort = Cohort(enrolled([20], PLACE_MOTION, seed=9)["action 0"].examples)
    fit, _ = calibrate(build_method("place-motion", tiny), enrolled([2] * 3, PLACE_MOTION), cohort)
    assert 0.3 < fit.scale < 5


def test_background_clips_are_rendered_once_per_machine(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FrameCache(frames=4)  # as no other test takes them
    assert len(Recognizer(tiny, cache=cache)._generated()) == 40

    def rendered(*clip: object) -> None:
        raise AssertionError("its encoding was kept")

    monkeypatch.setattr("fsar.recognizer.background.render_clip", rendered)
    assert len(Recognizer(tiny, cache=cache)._generated()) == 40
