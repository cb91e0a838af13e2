"""The practitioner's door: enrol, fit, predict, remove, save, load."""

from pathlib import Path

import pytest
import torch

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.datasets import VideoDataset
from fsar.recognizer import _fit_scale, _fit_threshold, leave_one_out

Clips = dict[str, list[Path]]


@pytest.fixture(scope="module")
def clips(world: VideoDataset) -> Clips:
    labels = ("something_growing", "something_shrinking", "moving_something_from_left_to_right")
    return {label: [v.path for v in world.videos if v.label == label] for label in labels}


@pytest.fixture
def recognizer(tiny: Backbone, clips: Clips) -> Recognizer:
    made = Recognizer(tiny)
    for label, paths in clips.items():
        made.enroll(label, paths[:4])
    return made


def test_names_clips_that_were_not_enrolled(recognizer: Recognizer, clips: Clips) -> None:
    truth = [(label, path) for label, paths in clips.items() for path in paths[4:]]
    answers = [(label, recognizer.predict(path)) for label, path in truth]
    right = sum(next(iter(answer.probabilities)) == label for label, answer in answers)
    assert right >= 0.8 * len(answers)
    for _, answer in answers:
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
        assert (answer.action == "unknown") == (answer.score < answer.threshold)  # type: ignore[operator]


def test_unknown_is_answered_for_what_was_never_shown(recognizer: Recognizer, world: VideoDataset) -> None:
    strange = [v.path for v in world.videos if v.label == "something_appearing"]
    refused = [recognizer.predict(path).action == "unknown" for path in strange]
    assert sum(refused) >= len(refused) / 2


def test_fit_says_what_it_picked(recognizer: Recognizer) -> None:
    fit = recognizer.fit()
    assert fit.left_out == 12 and 0 <= fit.accuracy <= 1  # type: ignore[operator]
    assert fit.options["weight"] in (1.0, 0.8, 0.5, 0.2, 0.0)
    assert "weight=" in str(fit) and "12 left-out examples" in str(fit)


def test_one_example_per_action_works_and_says_so(tiny: Backbone, clips: Clips) -> None:
    made = Recognizer(tiny)
    for label, paths in clips.items():
        made.enroll(label, paths[:1])
    fit = made.fit()
    assert fit.accuracy is None and fit.threshold is None
    assert "at least two examples" in str(fit)
    assert made.predict(clips["something_growing"][5]).action != "unknown"


def test_actions_may_have_different_numbers_of_examples(tiny: Backbone, clips: Clips) -> None:
    made = Recognizer(tiny)
    for count, (label, paths) in enumerate(clips.items(), start=1):
        made.enroll(label, paths[:count])
    assert list(made.actions.values()) == [1, 2, 3]
    assert made.fit().left_out == 2 + 3
    assert made.predict(clips["something_growing"][6]).probabilities


def test_enrolling_in_steps_equals_at_once(tiny: Backbone, clips: Clips, recognizer: Recognizer) -> None:
    made = Recognizer(tiny)
    for label, paths in clips.items():
        made.enroll(label, paths[:2])
        made.enroll(label, paths[1:4])  # one of them given twice
    assert made.actions == recognizer.actions
    path = clips["something_growing"][6]
    assert made.predict(path) == recognizer.predict(path)


def test_remove(recognizer: Recognizer, clips: Clips) -> None:
    recognizer.remove("something_shrinking")
    assert "something_shrinking" not in recognizer.predict(clips["something_growing"][5]).probabilities
    with pytest.raises(ValueError, match="unknown action 'something_growin'; did you mean 'something_growing'"):
        recognizer.remove("something_growin")
    recognizer.remove("something_growing")
    with pytest.raises(ValueError, match="at least two actions; enrolled: moving_something_from_left_to_right"):
        recognizer.predict(clips["something_growing"][5])


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("method", ["place-motion", "otam", "zero-shot", "trx"])
def test_save_and_load(tiny: Backbone, clips: Clips, tmp_path: Path, method: str, fitted: bool) -> None:
    made = Recognizer(tiny, method)
    for label, paths in clips.items():
        made.enroll(label, paths[:2])
    query = clips["something_growing"][5]
    expected = made.predict(query) if fitted else None
    made.save(tmp_path / "mine.fsar")
    loaded = Recognizer.load(tmp_path / "mine.fsar", tiny)
    assert loaded.actions == made.actions
    assert loaded.predict(query) == (expected or made.predict(query))
    loaded.enroll("something_shrinking", clips["something_shrinking"][2:4])
    assert loaded.actions["something_shrinking"] == 4


def test_loading_refuses_another_backbone(recognizer: Recognizer, tmp_path: Path) -> None:
    recognizer.save(tmp_path / "mine.fsar")
    other = type(recognizer)(recognizer.backbone).backbone
    weight = next(other.parameters())
    with torch.no_grad():
        weight += 1
        try:
            with pytest.raises(ValueError, match="made with backbone tiny .*use the same weights, or enrol again"):
                Recognizer.load(tmp_path / "mine.fsar", other)
        finally:
            weight -= 1


def test_names_it_cannot_take(recognizer: Recognizer, clips: Clips) -> None:
    with pytest.raises(ValueError, match="'unknown' is the answer"):
        recognizer.enroll("unknown", clips["something_growing"])
    with pytest.raises(ValueError, match="came without a video"):
        recognizer.enroll("empty", [])


def test_a_broken_example_changes_nothing(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    before = recognizer.actions
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        recognizer.enroll("new", [tmp_path / "broken.mp4"])
    assert recognizer.actions == before


def test_leave_one_out_never_shows_the_example_itself(recognizer: Recognizer) -> None:
    """Random unit vectors are near 0 to each other; an example among its own four would give 1/4."""
    encodings, mask = recognizer._supports()
    generator = torch.Generator().manual_seed(0)
    noise = {
        part: torch.nn.functional.normalize(torch.randn(t.shape, generator=generator), dim=-1)
        for part, t in encodings.items()
    }
    logits, ways = leave_one_out(recognizer.method, (noise, mask), None)
    assert logits[torch.arange(len(ways)), ways].max() < 0.12


def test_scale_and_threshold() -> None:
    sure = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    ways = torch.tensor([0, 1, 0, 1])
    scale, _ = _fit_scale(sure, ways)
    # Platt's targets for 4 examples: 5/6, so the log-odds are log 5
    assert scale * 2 == pytest.approx(torch.log(torch.tensor(5.0)).item(), rel=0.05)
    unsure, _ = _fit_scale(sure, torch.tensor([0, 1, 1, 0]))
    assert unsure < 0.2 * scale
    assert _fit_threshold(torch.tensor([0.8, 1.0]), torch.tensor([0.1, 0.3])) == pytest.approx(0.55)
