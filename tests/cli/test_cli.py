"""The command line: a process of its own, real files, exit codes."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fsar import cli
from fsar.backbones import Backbone
from fsar.datasets import VideoDataset
from fsar.datasets.world_actions import PAIRS
from fsar.progress import one_output
from fsar.video.writing import write_video
from tests.processes import as_a_user, forked


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`: commands do the same with any."""
    return small_for_tiny


@pytest.fixture(scope="module")
def examples(world: VideoDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two actions with three examples each, and `new/` with clips to name."""
    root = tmp_path_factory.mktemp("practitioner")
    for label in ("something_growing", "something_shrinking"):
        paths = [v.path for v in world.videos if v.label == label]
        for path in paths[:3]:
            (root / "examples" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / "examples" / label)
        for path in paths[3:5]:
            (root / "new").mkdir(exist_ok=True)
            shutil.copy(path, root / "new")
    return root


def test_help_and_listings() -> None:
    assert "recognize" in as_a_user("--help").stdout
    assert forked("evaluate", "--help").returncode == 0
    assert "place-motion" in forked("methods").stdout
    assert "lite0" in forked("backbones").stdout


def test_methods_explains_the_options_of_one() -> None:
    text = forked("methods", "otam").stdout
    assert "direction = both    both | query-to-support | support-to-query\n      Whose frames" in text
    assert "did you mean 'otam'" in forked("methods", "otan").stderr


def test_a_reader_that_closes_the_pipe_early_is_no_error() -> None:
    command = [sys.executable, "-m", "fsar.cli", "recipes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        process.stdout.close()  # type: ignore[union-attr]
        assert process.stderr.read() == b""  # type: ignore[union-attr]
    assert process.returncode == 141


def test_evaluate(little_world: VideoDataset, tmp_path: Path) -> None:
    root = little_world.videos[0].path.parents[1]
    common = ("evaluate", "--data", root, "--method", "protonet", "otam:per=prototype", "--episodes", 30)
    run = forked(*common, "--way", 2, 5, "--shot", 1, 2, "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("| method | 2-way 1-shot | 2-way 2-shot | 5-way 1-shot | 5-way 2-shot |")
    assert "otam per=prototype (tiny)" in run.stdout
    results = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("*.json"))]
    assert len(results) == 8 and {r["split"] for r in results} == {"test"}
    again = forked(*common, "--way", 2, 5, "--shot", 1, 2)
    assert again.stdout == run.stdout


def test_naive_and_manifest_give_the_same(little_world: VideoDataset, tmp_path: Path) -> None:
    root = little_world.videos[0].path.parents[1]
    common = ("evaluate", "--data", root, "--method", "otam", "--episodes", 4, "--seed", 3)
    first = forked(*common, "--save-manifest", tmp_path / "episodes.json", "--out", tmp_path / "a")
    naive = forked(*common, "--naive", "--out", tmp_path / "b")
    replay = forked(*common[:-2], "--seed", 9, "--manifest", tmp_path / "episodes.json", "--out", tmp_path / "c")
    assert first.returncode == naive.returncode == replay.returncode == 0, first.stderr + naive.stderr + replay.stderr
    results = [json.loads(next((tmp_path / run).glob("*.json")).read_text()) for run in "abc"]
    assert len({r["accuracy"] for r in results}) == 1
    assert len({r["episodes_fingerprint"] for r in results}) == 1
    assert [r["seed"] for r in results] == [3, 3, None]


def test_recognize(examples: Path) -> None:
    model = examples / "mine.fsar"
    run = forked(
        "recognize",
        "--examples",
        examples / "examples",
        examples / "new",
        "--backbone",
        "tiny",
        "--format",
        "json",
        "--save",
        model,
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert len(rows) == 4 and all(Path(row["video"]).name.startswith("something_") for row in rows)
    assert "of 6 clips left out" in run.stderr
    table = forked("recognize", "--model", model, examples / "new")
    assert table.returncode == 0 and table.stdout.startswith("video") and len(table.stdout.splitlines()) == 5
    listed = list(
        csv.DictReader(io.StringIO(forked("recognize", "--model", model, examples / "new", "--format", "csv").stdout))
    )
    assert [row["action"] for row in listed] == [row["action"] for row in rows]
    elsewhere = forked("recognize", "--model", model, examples / "new", "--device", "gpu")
    assert elsewhere.returncode == 2 and "no device 'gpu' here" in elsewhere.stderr


def test_recognize_says_that_layers_were_not_trained(examples: Path, tmp_path: Path) -> None:
    common = ("recognize", "--examples", examples / "examples", "--backbone", "tiny", "--save", tmp_path / "a.fsar")
    note = "fsar: hyrsm was not trained, so its own layers have their first, mostly random values; give --checkpoint"
    assert note in forked(*common, "--method", "hyrsm").stderr
    assert "not trained" not in forked(*common, "--method", "otam").stderr


def test_recognize_goes_on_after_a_broken_video_where_asked(examples: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    common = ("recognize", "--examples", examples / "examples", broken, examples / "new", "--backbone", "tiny")
    stopped = forked(*common)
    assert stopped.returncode == 2 and "broken.mp4" in stopped.stderr and not stopped.stdout
    skipped = forked(*common, "--on-error", "skip", "--format", "json")
    assert skipped.returncode == 1 and "left out" in skipped.stderr and len(json.loads(skipped.stdout)) == 4


def test_probe(small_video: Path) -> None:
    run = forked("probe", small_video)
    assert run.returncode == 0 and "frames 20" in run.stdout and "width 64" in run.stdout


def test_probe_rounds_to_milliseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((4, 48, 64, 3), np.uint8), 3.0)
    assert cli.main(["probe", str(tmp_path / "a.mp4")]) == 0
    assert "fps 3, duration 1.333, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evalute",), "did you mean 'evaluate'"),
        (("evaluate", "--shots", "1"), "did you mean '--shot'"),
        (("evaluate", "--method", "otan"), "did you mean 'otam'"),
        (("evaluate", "--backbone", "tiyn"), "did you mean 'tiny'"),
        (("evaluate", "--data", "nowhere"), "nowhere: no such folder"),
        (("evaluate", "--split", "tset"), "did you mean 'test'"),
        (("evaluate", "--device", "gpu"), "no device 'gpu' here"),
        (("recognize", "a.mp4"), "give either --examples"),
        (("recognize", "--model", "nothing.fsar", "a.mp4"), "no such recogniser file"),
        (("recognize", "--model", "nothing.fsar", "--backbone", "tiny", "a.mp4"), "--model has its own backbone"),
        (("recognize", "--model", ".", "a.mp4"), "a folder; expected a recogniser's file, such as mine.fsar"),
        (("recognize", "--examples", "nowhere", "--save", "."), "--save . is a folder; expected a file"),
        (("recognize", "--examples", ".", "a.mp4"), "a.mp4: no such file or folder"),
        (("evaluate", "--shot", "1", "50"), "50-shot episodes with 1 query per class need 51 videos"),
        (("probe", "nothing.mp4"), "no such file"),
        (("recognize", "--strictness", "abc"), "fsar recognize: argument --strictness: got 'abc', expected a number"),
        (("evaluate", "--seed", "1.5"), "fsar evaluate: argument --seed: got '1.5', expected a whole number; see"),
        (("count", "a.mp4", "--model"), "fsar count: argument --model: expected one argument; see `fsar count --help`"),
        (("recognize", "--format", "xml"), "fsar recognize: argument --format: got 'xml', expected one of: "),
        (("bank", "fill"), "fsar bank fill: the following arguments are required: --bank; see `fsar bank fill --help`"),
        (("forget", "m.fsar", "a", "b", "c"), "fsar forget: it does not take c; see `fsar forget --help`"),
        (("--foo",), "fsar: it does not take --foo; see `fsar --help`"),
    ],
)
def test_mistakes_are_named(
    arguments: tuple[str, ...], message: str, world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[:1] == ("evaluate",) and "--data" not in arguments:
        arguments = (*arguments, "--data", str(world.videos[0].path.parents[1]))
    run = as_a_user(*arguments) if arguments == ("evalute",) else forked(*arguments)
    assert run.returncode == 2
    assert message in run.stderr and "Traceback" not in run.stderr and "usage:" not in run.stderr


def test_demo_writes_a_report(world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    novel = [[action.name for action in pair] for pair in PAIRS if pair[0].split == "test"]
    few = world.only([name for pair in novel[:3] for name in pair])
    monkeypatch.setattr("fsar.report.demo.load_world", lambda: few)  # rendering all of it takes a minute
    run = forked("demo", "--out", tmp_path, "--episodes", 20)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "place-motion" in page and "http" not in page


def test_one_output_of_rows_and_bars_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "rows").open("w") as rows, (tmp_path / "bars").open("w") as bars:
        monkeypatch.setattr(sys, "stdout", rows)
        monkeypatch.setattr(sys, "stderr", bars)
        assert not one_output()
        monkeypatch.setattr(sys, "stderr", rows)
        assert one_output()
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert not one_output()
