"""`fsar spot` on a recogniser of two directions and a video of both."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer, cli
from fsar.backbones import Backbone
from fsar.recognizer.timeline import WindowScores
from fsar.video.writing import write_video
from tests.recognizer.conftest import moving

Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Backbone) -> Path:
    """A folder with `mine.fsar` and `long.mp4`: stillness, right, stillness, left, stillness; 0.8 s each."""
    folder = tmp_path_factory.mktemp("spot")
    recognizer = Recognizer(tiny)
    for name, (start, end) in {"right": (0, 48), "left": (48, 0)}.items():
        for seed in range(3):
            write_video(folder / "clips" / name / f"{seed}.mp4", moving(start, end, seed), 10.0)
    recognizer.enroll_folder(folder / "clips")
    recognizer.fit()
    recognizer.save(folder / "mine.fsar")
    parts = [moving(0, 0), moving(0, 48), moving(48, 48), moving(48, 0), moving(0, 0)]
    write_video(folder / "long.mp4", np.concatenate(parts), 10.0)
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def spot(*words: str) -> int:
    return cli.main(["spot", *words, "--model", "mine.fsar"])


def test_the_table_names_both_directions(here: Path, capsys: Said) -> None:
    assert spot("long.mp4") == 0
    said = capsys.readouterr()
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[0] == ["video", "start", "end", "action", "probability"]
    assert [row[3] for row in rows[1:]] == ["right", "left"]
    assert "windows of 0.8 s at 10 frames per second" in said.err


def test_formats_and_scores(here: Path, tmp_path: Path, capsys: Said) -> None:
    assert spot("long.mp4", "--format", "json", "--scores", str(tmp_path)) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(each["video"], each["action"]) for each in found] == [("long.mp4", "right"), ("long.mp4", "left")]
    assert set(WindowScores.load(tmp_path / "long.npz").actions) == {"right", "left"}
    for form, suffix in (("vtt", "vtt"), ("eaf", "eaf"), ("csv", "csv"), ("label-studio", "json")):
        assert spot("long.mp4", "--format", form, "--out", str(tmp_path)) == 0
        assert "left" in (tmp_path / f"long.{suffix}").read_text()


def test_a_folder_is_spotted_and_a_broken_video_can_be_left_out(here: Path, tmp_path: Path, capsys: Said) -> None:
    for name in ("a", "b"):
        shutil.copy("long.mp4", tmp_path / f"{name}.mp4")
    (tmp_path / "c.mp4").write_bytes(b"broken")
    assert spot(str(tmp_path), "--format", "csv") == 2
    assert "c.mp4" in capsys.readouterr().err
    assert spot(str(tmp_path), "--format", "csv", "--on-error", "skip") == 1
    said = capsys.readouterr()
    assert said.out.count("a.mp4") == said.out.count("b.mp4") == 2 and "left out" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.mp4"], "missing.mp4: no such"),
        (["long.mp4", "--begin", "2"], "probabilities between 0 and 1"),
        (["long.mp4", "--window", "0"], "above 0"),
        (["long.mp4", "--rate", "-1"], "above 0"),
        (["long.mp4", "clips", "--format", "vtt"], "add --out DIR"),
        (["long.mp4", "long.mp4", "--out", "x"], "several videos would be written"),
    ],
)
def test_mistakes_are_named(here: Path, capsys: Said, words: list[str], message: str) -> None:
    assert spot(*words) == 2
    assert message in capsys.readouterr().err


def test_a_short_video_is_one_window(here: Path, tmp_path: Path, capsys: Said) -> None:
    write_video(tmp_path / "short.mp4", moving(0, 48)[:4], 10.0)
    assert spot(str(tmp_path / "short.mp4")) == 0
    assert "less than the shortest window" in capsys.readouterr().err


def test_black_pictures_show_nothing(here: Path, tmp_path: Path, capsys: Said) -> None:
    write_video(tmp_path / "black.mp4", [np.zeros((64, 64, 3), np.uint8)] * 200, 10.0)
    assert spot(str(tmp_path / "black.mp4"), "--format", "csv") == 0
    assert capsys.readouterr().out == "file,start,end,label,probability\n"
