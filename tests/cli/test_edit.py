"""`fsar enroll`, `forget`, `correct`, `test`, `check-examples` and `model`: the life of a recogniser's file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer, cli
from fsar.backbones import Backbone
from fsar.datasets import VideoDataset
from fsar.video.writing import write_video


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`."""
    return small_for_tiny


@pytest.fixture
def model(tiny: Backbone, world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`mine.fsar` with two actions, and folders `more`, `tests` with clips of them."""
    monkeypatch.chdir(tmp_path)
    made = Recognizer(tiny)
    for label in ("something_growing", "something_shrinking"):
        clips = [video.path for video in world.videos if video.label == label]
        made.enroll(label, clips[:3])
        for folder, some in (("more", clips[3:5]), ("tests", clips[5:])):
            (tmp_path / folder / label).mkdir(parents=True)
            for clip in some:
                shutil.copy(clip, tmp_path / folder / label)
    made.save("mine.fsar")
    return tmp_path / "mine.fsar"


def ask(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert cli.main(words) == status
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_a_recogniser_grows_is_corrected_and_forgets(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(capsys, "enroll", "mine.fsar", "--examples", "more")
    assert "something_growing: 2 added, now 5 examples" in said and "of 10 clips left out" in said
    assert "nothing added" in ask(capsys, "enroll", "mine.fsar", "--examples", "more")
    assert Recognizer.load(model).actions == {"something_growing": 5, "something_shrinking": 5}

    clip = next(Path("tests/something_growing").iterdir())
    assert f"{clip} is now an example of something_shrinking\n" in ask(
        capsys, "correct", "mine.fsar", str(clip), "something_shrinking"
    )
    assert f"{clip} is now an example of something_growing, no longer of something_shrinking" in ask(
        capsys, "correct", "mine.fsar", str(clip), "something_growing"
    )
    assert "an example of something_growing already" in ask(
        capsys, "correct", "mine.fsar", clip.name, "something_growing"
    )
    said = ask(capsys, "correct", "mine.fsar", clip.name, "something_growin")
    assert f"if you meant 'something_growing': fsar correct mine.fsar {clip.name} something_growing" in said
    assert "is a new action" not in ask(capsys, "correct", "mine.fsar", clip.name, "something_growing")
    assert "5 examples left" in ask(capsys, "forget", "mine.fsar", "something_growing", clip.name)
    assert "something_growing: forgotten" in ask(capsys, "forget", "mine.fsar", "something_growing")
    assert Recognizer.load(model).actions == {"something_shrinking": 5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("enroll", "nothing.fsar", "--examples", "more"), "nothing.fsar: no such recogniser file"),
        (("enroll", "mine.fsar", "--examples", "nowhere"), "nowhere: no such folder"),
        (("forget", "mine.fsar", "growing"), "did you mean 'something_growing'"),
        (("forget", "mine.fsar", "something_growing", "x.mp4"), "unknown example of 'something_growing' 'x.mp4'"),
        (("correct", "mine.fsar", "x.mp4", "something_growing"), "unknown example or file 'x.mp4'"),
        (("correct", "mine.fsar", "more", "unknown"), "give the action another name"),
        (("test", "mine.fsar", "nowhere"), "nowhere: no such folder"),
        (("check-examples", "nowhere", "--backbone", "tiny"), "nowhere: no such folder"),
        (("model", "nothing.fsar"), "nothing.fsar: no such recogniser file"),
        *(
            (words, "https://a.org/a.mp4 is a URL, and only files are read; download it; `fsar live` takes streams")
            for words in (
                ("recognize", "--model", "mine.fsar", "https://a.org/a.mp4"),
                ("recognize", "--examples", "https://a.org/a.mp4", "--save", "other.fsar"),
                ("enroll", "mine.fsar", "--examples", "https://a.org/a.mp4"),
                ("test", "mine.fsar", "https://a.org/a.mp4"),
                ("correct", "mine.fsar", "https://a.org/a.mp4", "something_growing"),
                ("spot", "--model", "mine.fsar", "https://a.org/a.mp4"),
                ("count", "--model", "mine.fsar", "https://a.org/a.mp4"),
                ("probe", "https://a.org/a.mp4"),
                ("check-examples", "https://a.org/a.mp4", "--backbone", "tiny"),
            )
        ),
    ],
)
def test_a_mistake_leaves_the_file_as_it_was(
    words: tuple[str, ...], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = model.read_bytes()
    assert message in ask(capsys, *words, status=2)
    assert model.read_bytes() == before


def test_a_broken_example_leaves_the_file_as_it_was_unless_it_is_skipped(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("more/something_growing/broken.mp4").write_text("no video")
    write_video(Path("more/something_growing/black.mp4"), np.zeros((8, 64, 64, 3), np.uint8), 8.0)
    before = model.read_bytes()
    assert "broken.mp4" in ask(capsys, "enroll", "mine.fsar", "--examples", "more", status=2)
    assert model.read_bytes() == before
    said = ask(capsys, "enroll", "mine.fsar", "--examples", "more", "--on-error", "skip")
    assert "broken.mp4" in said and "black.mp4: all its frames are black" in said
    assert Recognizer.load(model).actions["something_growing"] == 6


def test_labelled_clips_are_counted(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(capsys, "test", "mine.fsar", "tests")
    assert "of 4 videos of known actions were named correctly" in said and "off by" in said
    assert cli.main(["test", "mine.fsar", "tests", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["answers"]) == 4


def test_a_file_says_what_it_holds(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(capsys, "model", "mine.fsar", "--clips")
    assert "place-motion on tiny, 8 frames per clip" in said and "not fitted yet" in said
    assert "something_growing    3 examples\n" in said and "something_growing_000.mp4" in said


def test_an_action_that_loses_its_last_example_is_said_to_be_gone(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, last = Recognizer.load(model).examples["something_growing"]
    for clip in (first, second):
        assert "is gone" not in ask(capsys, "correct", "mine.fsar", clip, "something_shrinking")
    said = ask(capsys, "correct", "mine.fsar", last, "something_shrinking")
    assert "something_growing has no example left and is gone\n" in said
    assert "of 6 clips left out, " in said and " were called unknown" in said and "named right" not in said


def test_background_clips_are_counted_listed_and_forgotten(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("more/something_growing").rename("more/unknown")
    said = ask(capsys, "enroll", "mine.fsar", "--examples", "more")
    assert "background: 2 added, now 2 background clips (folder unknown/)\n" in said
    assert "nothing added" in ask(capsys, "enroll", "mine.fsar", "--examples", "more")
    clip = next(Path("more/unknown").iterdir()).name
    said = ask(capsys, "model", "mine.fsar", "--clips")
    assert "2 background clips, which show none of the actions\n" in said and f"    {clip}\n" in said
    assert clip not in ask(capsys, "model", "mine.fsar")
    assert "background: 1 example left\n" in ask(capsys, "forget", "mine.fsar", "background", clip)

    said = ask(capsys, "recognize", "--examples", "more", "--backbone", "tiny", "--save", "bg.fsar")
    assert "on tiny, 1 action and 2 background clips (folder unknown/); " in said
    video = next(Path("tests/something_shrinking").iterdir())
    assert "on tiny, 1 action and 2 background clips; " in ask(capsys, "recognize", "--model", "bg.fsar", str(video))


def test_examples_are_checked(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2 actions, 4 examples" in ask(capsys, "check-examples", "more", "--backbone", "tiny")


@pytest.mark.parametrize("verb", ["recognize", "enroll"])
def test_help_tells_of_the_folder_of_background(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    assert "a folder `background` or `unknown` for clips" in " ".join(capsys.readouterr().out.split())


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("enroll", "forget", "correct", "test", "check-examples", "model", "recognize"):
        with pytest.raises(SystemExit):
            cli.main([verb, "--help"])
        assert f"examples:\n  fsar {verb} " in capsys.readouterr().out
