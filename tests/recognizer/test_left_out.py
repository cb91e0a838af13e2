"""Which examples are left out together, and what an edit computes again."""

import pytest
import torch

from fsar.backbones import Backbone
from fsar.methods import Method, build_method
from fsar.methods.episode import Episode, Prediction
from fsar.recognizer.examples import Action, Actions, Example
from fsar.recognizer.left_out import Memory, leave_one_out, rounds
from tests.recognizer.test_calibration import PLACE_MOTION, enrolled


def grouped(**groups: str) -> Actions:
    """Actions with one example for each letter, the name of its group; `-` for none."""

    def example(name: str, group: str) -> Example:
        return Example(name, name, {}, {}, None if group == "-" else group)

    return {
        action: Action.of([example(f"{action}{i}", group) for i, group in enumerate(each)])
        for action, each in groups.items()
    }


def left(actions: Actions) -> list[str]:
    return [" ".join(example.video for _, example in each.queries) for each in rounds(actions)]


def test_one_example_of_every_action_is_left_out_at_a_time() -> None:
    assert left(grouped(a="---", b="-", c="--")) == ["a0 c0", "a1 c1", "a2"]


def test_a_person_is_left_out_of_all_actions() -> None:
    assert left(grouped(a="xxy", b="yx", c="z")) == ["a0 a1 b1", "a2 b0"]
    assert left(grouped(a="x-y", b="xx")) == ["a1", "a0", "a2"]


def test_a_group_that_is_everywhere_alone_is_not_respected() -> None:
    assert left(grouped(a="xx", b="xx")) == ["a0 b0", "a1 b1"]


def test_a_left_out_group_supports_nothing(tiny: Backbone) -> None:
    """Two clips of one person are nearly copies. Left out one by one, they would name each other."""
    actions = enrolled([4, 4], PLACE_MOTION)

    def twins(action: Action, group: bool) -> Action:
        first, _, *others = action.examples
        names = ("x", "x", "y", "z") if group else (None,) * 4
        copies = [Example(f"{first.video}{i}", f"{i}", first.support, first.query) for i in range(2)]
        together = zip([*copies, *others], names, strict=True)
        return Action.of([Example(e.video, e.content, e.support, e.query, name) for e, name in together])

    method = build_method("place-motion", tiny)
    for group in (False, True):
        out = leave_one_out(method, {name: twins(action, group) for name, action in actions.items()})
        own = out.logits[0][torch.arange(8), out.ways]
        twin = torch.tensor([example.video[-2] == "0" and len(example.video) > 3 for example in out.examples])
        assert twin.sum() == 4 and bool((own[twin] > 0.2).all()) != group


@pytest.mark.parametrize("counts", [[4, 4, 4], [3, 1, 5]])
def test_an_edit_gives_what_a_new_fit_would_and_costs_less(
    counts: list[int], tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, asked = build_method("place-motion", tiny), 0
    whole = type(method).match_variants

    def counted(self: Method, episode: Episode) -> list[Prediction]:
        nonlocal asked
        asked += episode.shot_mask.shape[0] * episode.shot_mask.shape[1] * episode.query["place"].shape[1]
        return whole(self, episode)

    monkeypatch.setattr(type(method), "match_variants", counted)
    actions, memory = enrolled(counts, PLACE_MOTION), Memory()
    leave_one_out(method, actions, fresh=memory)
    more = enrolled([1], PLACE_MOTION, seed=5)["action 0"].examples[0]
    changed = {**actions, "action 2": actions["action 2"].with_example(more)}
    asked = 0
    again = leave_one_out(method, changed, memory, fresh := Memory())
    edit, asked = asked, 0
    new = leave_one_out(method, changed)
    torch.testing.assert_close(again.logits, new.logits)
    assert [example.video for example in again.examples] == [example.video for example in new.examples]
    assert edit < 0.6 * asked and len(fresh.rows) == len(new.examples) * 3
    without = {**changed, "action 2": changed["action 2"].without(changed["action 2"].examples[0])}
    torch.testing.assert_close(leave_one_out(method, without, fresh).logits, leave_one_out(method, without).logits)
