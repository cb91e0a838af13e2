"""The recogniser: enrol, predict, remove, save, load; with methods that read class texts or were trained."""

import io
import json
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.backbones.clip import TINY_CONFIG, ClipBackbone, tiny_tokenize
from fsar.datasets import VideoDataset
from fsar.methods.episode import Episode, Prediction
from fsar.methods.place_motion import PlaceMotion
from fsar.recognizer import ExampleWarning
from fsar.text.prompts import dump_sub_actions
from fsar.text.words import class_text
from fsar.video.paths import VideoError
from fsar.video.reading import read_frames
from tests.recognizer.conftest import Clips, moving


def test_names_clips_that_were_not_enrolled(recognizer: Recognizer, clips: Clips) -> None:
    truth = [(label, path) for label, paths in clips.items() for path in paths[4:]]
    answers = [(label, recognizer.predict(path)) for label, path in truth]
    right = sum(answer.best == label for label, answer in answers)
    assert right >= 0.8 * len(answers)
    for _, answer in answers:
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
        assert answer.threshold is not None and answer.unknown is not None
        assert (answer.action == "unknown") == (answer.score < answer.threshold) == (answer.unknown > 0.5)


def test_unknown_is_answered_for_what_was_never_shown(recognizer: Recognizer, world: VideoDataset) -> None:
    strange = [v.path for v in world.videos if v.label == "something_appearing"]
    refused = [recognizer.predict(path).action == "unknown" for path in strange]
    assert sum(refused) >= len(refused) / 2


def test_fit_says_what_it_picked(recognizer: Recognizer) -> None:
    fit = recognizer.fit()
    assert fit.left_out == 12 and 0 <= fit.accuracy <= 1  # type: ignore[operator]
    assert fit.options["weight"] in (1.0, 0.8, 0.5, 0.2, 0.0)
    assert "weight=" in str(fit) and "of 12 clips left out, " in str(fit) and "ACTION/PERSON/CLIP" in str(fit)
    low, high = fit.expected  # type: ignore[misc]
    assert 0 <= low < fit.right / 12 <= high <= 1  # type: ignore[operator]


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
    for action in recognizer.actions:
        recognizer.remove(action)
    with pytest.raises(ValueError, match="no action is enrolled"):
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
    kept = weight.detach().clone()
    with torch.no_grad():
        weight += 1
        try:
            with pytest.raises(ValueError, match="made with backbone tiny .*use the same weights, or enrol again"):
                Recognizer.load(tmp_path / "mine.fsar", other)
        finally:
            weight.copy_(kept)  # the other tests' backbone


def test_an_example_is_removed_or_moved(recognizer: Recognizer, clips: Clips, tiny: Backbone) -> None:
    growing, shrinking = clips["something_growing"], clips["something_shrinking"]
    recognizer.remove("something_growing", growing[3].name)
    recognizer.relabel("something_shrinking", shrinking[3], "something_growing")
    recognizer.relabel("something_shrinking", shrinking[2], "something else")
    assert recognizer.examples["something_growing"] == (*map(str, growing[:3]), str(shrinking[3]))
    expected = Recognizer(tiny)
    for label, paths in [
        ("something_growing", [*growing[:3], shrinking[3]]),
        ("something_shrinking", shrinking[:2]),
        ("moving_something_from_left_to_right", clips["moving_something_from_left_to_right"][:4]),
        ("something else", shrinking[2:3]),
    ]:
        expected.enroll(label, paths)
    query = growing[5]
    assert recognizer.predict(query) == expected.predict(query) and recognizer.fit() == expected.fit()
    recognizer.remove("something else", shrinking[2])
    assert "something else" not in recognizer.actions
    for edit in (
        lambda: recognizer.remove("something_growing", "nine.mp4"),
        lambda: recognizer.relabel("something_growing", "nine.mp4", "x"),
        lambda: recognizer.relabel("growing", growing[0], "x"),
        lambda: recognizer.relabel("something_growing", growing[0], "unknown"),
    ):
        with pytest.raises(ValueError, match="unknown"):
            edit()
    assert recognizer.actions["something_growing"] == 4


def test_one_video_shows_one_action(recognizer: Recognizer, clips: Clips, tmp_path: Path) -> None:
    """By its content, whatever its name."""
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clips["something_growing"][0].read_bytes())
    before = recognizer.actions
    recognizer.enroll("something_growing", copy)
    recognizer.enroll("something_growing", copy.read_bytes())
    assert recognizer.actions == before
    with pytest.raises(
        ValueError, match=r"copy.mp4 has the content of .*, an example of 'something_growing'; .* relabel"
    ):
        recognizer.enroll("something_shrinking", [clips["something_shrinking"][5], copy])
    assert recognizer.actions == before


def test_folders_are_enrolled_and_scored(
    tiny: Backbone, clips: Clips, world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(root: Path, chosen: dict[str, list[Path]]) -> Path:
        for label, paths in chosen.items():
            (root / label).mkdir(parents=True)
            for path in paths:
                (root / label / path.name).symlink_to(path)
        return root

    strangers = [v.path for v in world.videos if v.label == "something_appearing"]
    examples = fill(tmp_path / "examples", {label: paths[:4] for label, paths in clips.items()})
    tests = fill(tmp_path / "tests", {label: paths[4:] for label, paths in clips.items()} | {"unknown": strangers})
    (examples / "something_growing" / "broken.mp4").write_text("no video")
    (tests / "something_growing" / "broken.mp4").write_text("no video")
    made = Recognizer(tiny)
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        made.enroll_folder(examples)
    assert made.actions == {}
    assert [error.path.name for error in made.enroll_folder(examples, return_errors=True)] == ["broken.mp4"]
    assert list(made.actions.values()) == [4, 4, 4]
    one_by_one = Recognizer(tiny)
    for label in sorted(clips):
        one_by_one.enroll(label, examples / label if label != "something_growing" else clips[label][:4])
    assert one_by_one.fit() == made.fit()

    score = made.score(tests, return_errors=True)
    assert len(score.answers) == 9 + len(strangers) and len(score.errors) == 1
    alone = {answer.video: one_by_one.predict(answer.video).action for _, answer in score.answers}
    assert alone == {answer.video: answer.action for _, answer in score.answers}
    assert score.accuracy is not None and score.accuracy >= 0.5
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        made.score(tests)
    (tests / "unknown").rename(tests / "somethin_growing")
    with pytest.raises(ValueError, match="'somethin_growing'; did you mean 'something_growing'.* a folder 'unknown'"):
        made.score(tests)

    monkeypatch.setattr("fsar.recognizer.faults.UNBALANCED", 4)
    single = fill(tmp_path / "single", {"once": strangers[:1]})
    with pytest.warns(ExampleWarning, match=r"action 'once' has 1 example where '\w+' has 4; add examples"):
        made.enroll_folder(single)


def test_many_answers_are_those_of_each_alone(recognizer: Recognizer, clips: Clips, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    paths = [clips["something_growing"][5], broken, clips["something_shrinking"][5]]
    answers = list(recognizer.predict_many(paths, return_errors=True))
    assert answers[0] == recognizer.predict(paths[0]) and answers[2] == recognizer.predict(paths[2])
    assert isinstance(answers[1], VideoError)
    answers = []
    with pytest.raises(VideoError, match="broken"):
        for answer in recognizer.predict_many(paths):
            answers.append(answer)
    assert [answer.video for answer in answers] == [str(paths[0])]  # what came before is not lost


def test_an_answer_names_the_nearest_examples(recognizer: Recognizer, clips: Clips) -> None:
    enrolled = clips["something_growing"][1]
    answer = recognizer.predict(enrolled, nearest=3)
    first, second, third = answer.nearest
    assert (first.action, first.video) == ("something_growing", str(enrolled))
    assert first.similarity > second.similarity >= third.similarity
    assert first.frames == tuple(range(8)) and len(second.frames or ()) == 8  # its own frames, one by one
    assert recognizer.predict(enrolled).nearest == ()
    plain = json.loads(json.dumps(answer.to_dict()))
    assert plain["nearest"][0]["video"] == str(enrolled) and plain["best"] == answer.best
    assert plain["unknown"] == answer.unknown and plain["seconds"] > 0


def test_frames_in_memory_are_named_as_the_file(recognizer: Recognizer, clips: Clips) -> None:
    path = clips["something_growing"][5]
    of_file = recognizer.predict(path)
    for video in (path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert recognizer.predict(video).probabilities == pytest.approx(of_file.probabilities, abs=1e-5)
    frames = read_frames(path, None)
    assert recognizer.predict(frames).probabilities == pytest.approx(of_file.probabilities, abs=1e-5)


def test_an_answer_costs_no_hash_and_meets_means_alone(small: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    small.predict(moving(0, 40, 7))
    shots: list[int] = []
    match, alone = PlaceMotion.match, PlaceMotion.logits

    def watched(self: PlaceMotion, episode: Episode) -> Prediction:
        shots.append(episode.shot_mask.shape[-1])
        return match(self, episode)

    def watched_alone(self: PlaceMotion, episode: Episode) -> Tensor:
        shots.append(episode.shot_mask.shape[-1])
        return alone(self, episode)

    def hashed(self: Backbone) -> str:
        raise AssertionError("the weights were hashed already")

    monkeypatch.setattr(PlaceMotion, "match", watched)
    monkeypatch.setattr(PlaceMotion, "logits", watched_alone)
    monkeypatch.setattr(type(small.backbone), "fingerprint", hashed)
    small.predict(moving(0, 40, 8))
    small.enroll("left", moving(44, 0, 5))
    small.predict(moving(0, 40, 9))
    assert len(shots) >= 4 and set(shots) == {1}  # means of the classes, and background clips


def test_names_it_cannot_take(recognizer: Recognizer, clips: Clips) -> None:
    with pytest.raises(ValueError, match="'unknown' is the answer"):
        recognizer.enroll("unknown", clips["something_growing"])
    with pytest.raises(ValueError, match="give it a name"):
        recognizer.enroll(" ", clips["something_growing"])
    with pytest.raises(ValueError, match="came without a video"):
        recognizer.enroll("empty", [])


def test_a_broken_example_changes_nothing(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    before = recognizer.actions
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        recognizer.enroll("new", [tmp_path / "broken.mp4"])
    assert recognizer.actions == before


# --------------------------------------------------------------------------- methods that read the class text


@pytest.mark.parametrize("groups", [("own",), ("own", "visual")])
def test_a_trained_method_recognises(
    groups: tuple[str, ...], world: VideoDataset, clips: Clips, tmp_path: Path
) -> None:
    from fsar.training.checkpoint import load_pretrained
    from fsar.training.loop import train
    from fsar.training.recipes import parse_recipe

    recipe = parse_recipe(
        {
            "method": "clip-fsar",
            "options": {"hidden": 16},
            "lr": dict.fromkeys(groups, 1e-3),
            "way": 3,
            "episodes": 1,
            "episodes_per_step": 1,
            "val_every": 0,
            "accelerator": "cpu",
        }
    )
    train(recipe, world, tmp_path / "run", progress=False)
    made = Recognizer(method=load_pretrained(tmp_path / "run"))
    for label, paths in clips.items():
        made.enroll(label, paths[:2])
    answer = made.predict(clips["something_growing"][5])
    made.save(tmp_path / "mine.fsar")
    again = Recognizer.load(tmp_path / "mine.fsar")
    assert again.predict(clips["something_growing"][5]) == answer
    assert again.fit() == made.fit() and again.method.provenance == made.method.provenance
    with pytest.raises(ValueError, match="has its own backbone and options"):
        Recognizer("tiny", method=load_pretrained(tmp_path / "run"))


def test_the_command_line_recognises_with_a_checkpoint(
    world: VideoDataset, clips: Clips, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fsar.cli import main
    from fsar.training.loop import train
    from fsar.training.recipes import parse_recipe

    recipe = parse_recipe(
        {
            "method": "ma-fsar",
            "options": {"hidden": 16},
            "lr": {"own": 1e-3},
            "way": 3,
            "episodes": 1,
            "episodes_per_step": 1,
            "val_every": 0,
            "accelerator": "cpu",
        }
    )
    train(recipe, world, tmp_path / "run", progress=False)
    examples = tmp_path / "examples"
    for label, paths in clips.items():
        (examples / label).mkdir(parents=True)
        for path in paths[:2]:
            (examples / label / path.name).symlink_to(path)
    new = str(clips["something_growing"][5])
    assert main(["recognize", "--examples", str(examples), "--checkpoint", str(tmp_path / "run"), new]) == 0
    out, err = capsys.readouterr()
    assert "something_growing" in out and "ma-fsar on tiny" in err
    assert (
        main(["recognize", "--examples", str(examples), "--checkpoint", str(tmp_path / "run"), "--frames", "4", new])
        == 2
    )
    assert "--checkpoint has its own method" in capsys.readouterr().err


def test_texts_are_kept_with_the_examples(tiny: Backbone, clips: Clips, tmp_path: Path) -> None:
    """A recogniser still works if the file of sub-actions no longer exists."""
    words = {class_text(label): ("it starts", "it goes on", f"{label} ends") for label in clips}
    corpus = tmp_path / "mine.yaml"
    corpus.write_text(dump_sub_actions(words))
    made = Recognizer(tiny, "task-adapter-pp", sub_actions=str(corpus))
    for label, paths in clips.items():
        made.enroll(label, paths[:2])
    new = clips["something_growing"][5]
    answer = made.predict(new)
    made.save(tmp_path / "mine.fsar")
    corpus.unlink()
    again = Recognizer.load(tmp_path / "mine.fsar", tiny)
    assert again.predict(new) == answer
    with pytest.raises(ValueError, match="unknown corpus of sub-actions"):
        again.enroll("something else", clips["something_growing"][6])
    again.remove("something_growing")
    assert set(again.predict(new).probabilities) - {"unknown"} == set(clips) - {"something_growing"}


def test_a_method_that_leaks_labels_is_refused(tiny: Backbone) -> None:
    with pytest.raises(ValueError, match="reads labels of queries.*variant=paper"):
        Recognizer(tiny, "task-adapter-pp", variant="official-leaky")


def test_a_backbone_of_another_size_is_named(tiny: Backbone, clips: Clips, tmp_path: Path) -> None:
    made = Recognizer(tiny, "clip-fsar", hidden=16)
    for label, paths in clips.items():
        made.enroll(label, paths[:1])
    made.save(tmp_path / "mine.fsar")
    vision = TINY_CONFIG["vision_cfg"] | {"width": 64}
    other = ClipBackbone(
        "small", open_clip.CLIP(**TINY_CONFIG | {"embed_dim": 64, "vision_cfg": vision}), tiny_tokenize
    )
    with pytest.raises(ValueError, match="made with backbone tiny, but the sizes of small differ"):
        Recognizer.load(tmp_path / "mine.fsar", other)


def test_a_trained_method_takes_ones_own_sub_actions(
    world: VideoDataset, clips: Clips, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fsar.cli import main
    from fsar.training.loop import train
    from fsar.training.recipes import parse_recipe

    recipe = parse_recipe(
        {
            "method": "task-adapter-pp",
            "options": {"layers": 1, "sub_actions": "world"},
            "lr": {"own": 1e-3},
            "way": 3,
            "episodes": 1,
            "episodes_per_step": 1,
            "val_every": 0,
            "accelerator": "cpu",
        }
    )
    train(recipe, world, tmp_path / "run", progress=False)
    for label, name in zip(clips, ("juggling a cat", "feeding a fish", "walking a snail"), strict=True):
        (tmp_path / "examples" / name).mkdir(parents=True)
        for path in clips[label][:2]:
            (tmp_path / "examples" / name / path.name).symlink_to(path)
    new = ["--examples", str(tmp_path / "examples"), str(clips["something_growing"][5])]
    assert main(["recognize", "--checkpoint", str(tmp_path / "run"), *new]) == 2
    assert "no sub-actions for 1 of 1 classes" in capsys.readouterr().err
    words = {
        name: ("it starts", "it goes on", f"{name} ends")
        for name in ("juggling a cat", "feeding a fish", "walking a snail")
    }
    (tmp_path / "mine.yaml").write_text(dump_sub_actions(words))
    spec = f"{tmp_path / 'run'}:sub_actions={tmp_path / 'mine.yaml'}"
    assert main(["recognize", "--checkpoint", spec, *new]) == 0, capsys.readouterr().err


def test_this_or_nothing(tiny: Backbone, clips: Clips, world: VideoDataset) -> None:
    """One action works, since unrelated clips say how similar a stranger is; not with methods that compare classes."""
    made = Recognizer(tiny)
    right = "moving_something_from_left_to_right"
    made.enroll(right, clips[right][:4])
    answers = [made.predict(path) for path in clips[right][4:]]
    assert [answer.action for answer in answers] == [right] * 3
    assert all(set(answer.probabilities) == {right, "unknown"} for answer in answers)
    strange = [*clips["something_growing"], *clips["something_shrinking"]]
    assert [answer.action for answer in made.predict_many(strange)].count("unknown") >= 0.8 * len(strange)
    other = Recognizer(tiny, "zero-shot")
    other.enroll(right, clips[right][:2])
    with pytest.raises(
        ValueError, match="needs at least two actions with zero-shot; enrolled: moving_something_from_left"
    ):
        other.predict(clips[right][5])


def test_strictness_moves_the_threshold(recognizer: Recognizer, tiny: Backbone, tmp_path: Path) -> None:
    recognizer.fit()
    recognizer.save(tmp_path / "mine.fsar")
    strict = Recognizer.load(tmp_path / "mine.fsar", tiny, strictness=0.4).fit()
    for action, threshold in recognizer.fit().thresholds.items():  # type: ignore[union-attr]
        assert strict.threshold_of(action) > threshold  # type: ignore[operator]
    assert strict.known_missed > recognizer.fit().known_missed  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"strictness is 2; expected a share"):
        Recognizer(tiny, strictness=2)


def test_clips_of_no_action_raise_the_threshold(
    recognizer: Recognizer, tiny: Backbone, clips: Clips, world: VideoDataset, tmp_path: Path
) -> None:
    before = recognizer.fit()
    strange = [v.path for v in world.videos if v.label == "something_appearing"]
    recognizer.enroll_background(strange[:4])
    after = recognizer.fit()
    assert len(recognizer.background) == 4 and "background" not in recognizer.actions
    assert after.threshold > before.threshold  # type: ignore[operator]
    recognizer.save(tmp_path / "mine.fsar")
    loaded = Recognizer.load(tmp_path / "mine.fsar", tiny)
    query = clips["something_growing"][5]
    assert loaded.background == tuple(path.name for path in strange[:4])
    assert loaded.predict(query) == recognizer.predict(query)
    loaded.correct(strange[0], "something_growing")
    assert len(loaded.background) == 3 and loaded.actions["something_growing"] == 5
    loaded.remove("background")
    assert not loaded.background
    with pytest.raises(ValueError, match="zero-shot cannot use clips of no action"):
        Recognizer(tiny, "zero-shot").enroll_background(strange[0])
