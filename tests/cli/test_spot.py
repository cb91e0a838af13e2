"""`fsar spot` on a recogniser of two directions and a video of both."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fsar import Recognizer, cli
from fsar.backbones import Backbone
from fsar.recognizer.timeline import WindowScores
from fsar.video import probe
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
    said = capsys.readouterr()
    assert said.out == "file,start,end,label,probability\n"
    assert re.search(
        r"black.mp4: no segment; the surest window shows .* 0:\d\d.\d .*, below 0.25 \(--begin\)", said.err
    )
    assert spot("long.mp4", "--shortest", "5") == 0
    assert "long.mp4: no segment lasts 5 s or more" in capsys.readouterr().err


def test_from_joined_clips_to_measures(here: Path, tmp_path: Path, capsys: Said) -> None:
    """`fsar data join`, and `fsar evaluate --spotting` by the recogniser and by a file."""
    shutil.copytree(here / "clips", tmp_path / "clips")
    (tmp_path / "clips" / "still").mkdir()
    write_video(tmp_path / "clips" / "still" / "0.mp4", moving(20, 20, 5), 10.0)
    out = tmp_path / "streams"
    join = ["data", "join", str(tmp_path / "clips"), "--out", str(out), "--strangers", "still", "--streams", "2"]
    assert cli.main([*join, "--fps", "10"]) == 0
    made = (out / "stream_1.mp4").read_bytes()
    rows = (out / "segments.csv").read_text().splitlines()
    assert len(rows) == 15 and sum(",unknown," in row for row in rows) == 2
    capsys.readouterr()
    assert cli.main(join) == 2  # at another rate, which would replace the videos
    assert "segments.csv is already there" in capsys.readouterr().err
    assert (out / "stream_1.mp4").read_bytes() == made
    (out / "segments.csv").unlink()
    assert cli.main([*join, "--fps", "10"]) == 0 and (out / "stream_1.mp4").read_bytes() == made
    truth = str(out / "segments.csv")
    assert cli.main(["evaluate", "--spotting", truth, "--model", "mine.fsar", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "12 true segments" in said and "2 videos" in said
    by_model = json.loads((tmp_path / "spotting.json").read_text())
    assert by_model["f1"]["0.25"] > 0.8
    assert spot(str(out), "--format", "csv") == 0
    (tmp_path / "found.csv").write_text(capsys.readouterr().out)
    found = ["--found", str(tmp_path / "found.csv")]
    assert cli.main(["evaluate", "--spotting", truth, *found, "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "spotting.json").read_text()) == by_model


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("long.mp4,3,2,left", "line 2: the segment from 3 to 2 s"),
        ("long.mp4,1,99,left", "beyond the end"),
        ("none.mp4,1,2,left", "no such video"),
    ],
)
def test_wrong_annotations_are_named(here: Path, capsys: Said, row: str, message: str) -> None:
    (here / "segments.csv").write_text(f"file,start,end,label\n{row}\n")
    assert cli.main(["evaluate", "--spotting", "segments.csv", "--model", "mine.fsar"]) == 2
    assert message in capsys.readouterr().err


def test_options_of_spotting_alone_are_refused(capsys: Said) -> None:
    assert cli.main(["evaluate", "--model", "mine.fsar"]) == 2
    assert cli.main(["evaluate", "--spotting", "segments.csv"]) == 2
    said = capsys.readouterr().err
    assert "belong to --spotting" in said and "needs either --model" in said


def test_tuning_is_kept_in_the_file(here: Path, tmp_path: Path, capsys: Said) -> None:
    shutil.copy("mine.fsar", tmp_path / "own.fsar")
    (here / "truth.csv").write_text("file,start,end,label\nlong.mp4,0.8,1.6,right\nlong.mp4,2.4,3.2,left\n")
    own = ["--model", str(tmp_path / "own.fsar")]
    assert cli.main(["spot", "--tune", "truth.csv", *own]) == 0
    assert "100.0 with a probability of" in capsys.readouterr().err
    tuned = Recognizer.load(tmp_path / "own.fsar").tuned
    assert tuned is not None and set(tuned.contract.spans) == {"left", "right"}
    assert cli.main(["spot", "long.mp4", *own]) == 0
    (here / "truth.csv").write_text("file,start,end,label\nlong.mp4,0.8,1.6,up\n")
    assert cli.main(["spot", "--tune", "truth.csv", *own]) == 2
    assert "Give segments of other actions the label 'unknown'" in capsys.readouterr().err


def test_clips_picture_and_page(here: Path, tmp_path: Path, capsys: Said) -> None:
    more = ["--clips", str(tmp_path / "cut"), "--picture", str(tmp_path), "--report", str(tmp_path / "page.html")]
    assert spot("long.mp4", "--format", "json", *more) == 0
    found = json.loads(capsys.readouterr().out)
    cut = sorted((tmp_path / "cut").glob("*/*.mp4"))
    assert [path.parent.name for path in cut] == ["left", "right"]
    by_action = {each["action"]: each["end"] - each["start"] for each in found}
    assert all(abs((probe(path).duration or 0) - by_action[path.parent.name]) < 0.15 for path in cut)
    ElementTree.fromstring((tmp_path / "long.svg").read_text())
    page = (tmp_path / "page.html").read_text()
    starts = [float(start) for start in re.findall(r'data-start="([\d.]+)"', page)]
    assert set(starts) == {each["start"] for each in found} and len(starts) == 4
    address = re.search(r'<video id="film-0" src="([^"]+)"', page)
    assert address is not None and (tmp_path / address.group(1)).resolve() == (here / "long.mp4").resolve()
