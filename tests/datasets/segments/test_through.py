"""Segments go wherever videos go: bank, evaluation, training, recogniser and the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fsar import Recognizer, cli
from fsar.backbones import Backbone
from fsar.bank import fill_bank
from fsar.datasets import Video, load_segments
from fsar.methods import build_method
from fsar.video import FrameCache
from tests.video.test_reading import encode

LABELS = ("clap", "run", "wave")
FRAMES = 6  # of a segment, at 10 per second


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`."""
    return small_for_tiny


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless video of nine takes, three of each class, and its table of segments."""
    folder = tmp_path_factory.mktemp("film")
    takes = np.random.default_rng(0).integers(0, 255, (9, FRAMES, 48, 64, 3), np.uint8)
    encode(folder / "long.mkv", np.concatenate(takes), "ffv1", "bgr0", fps=10)
    rows = [f"long.mkv,{0.6 * i:.1f},{0.6 * (i + 1):.1f},{LABELS[i % 3]}" for i in range(9)]
    (folder / "segments.csv").write_text("\n".join(["file,start,end,label", *rows]) + "\n")
    (folder / "takes").mkdir()
    for i, take in enumerate(takes):
        encode(folder / "takes" / f"{i}.mkv", take, "ffv1", "bgr0", fps=10)
    return folder


def test_a_segment_is_encoded_as_a_file_of_its_frames_is(film: Path, tiny: Backbone, tmp_path: Path) -> None:
    method, cache = build_method("protonet", tiny), FrameCache(tmp_path, frames=4)
    segments = load_segments(film / "segments.csv").videos
    files = [Video(f"x/{i}", film / "takes" / f"{i}.mkv", "x") for i in range(9)]
    one, other = (
        fill_bank(method, videos, cache=cache, folder=tmp_path / "bank", progress=False) for videos in (segments, files)
    )
    assert len(one.video_ids) == 9
    for name, tensor in one.query.items():
        assert torch.equal(tensor, other.query[name])
        assert len({tuple(row.flatten().tolist()) for row in tensor}) == 9  # each segment has its own encoding


def test_evaluate_takes_segments(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--data", str(film / "segments.csv"), "--split", "all", "--way", "3", "--method", "protonet"]
    assert cli.main([*words, "--episodes", "5", "--out", str(tmp_path)]) == 0
    assert "segments all (3 classes, 9 videos" in capsys.readouterr().out
    (result,) = (json.loads(file.read_text()) for file in tmp_path.glob("*.json"))
    assert result["videos"] == 9
    assert cli.main([*words, "--episodes", "5", "--naive"]) == 0


def test_training_takes_segments(film: Path, tmp_path: Path) -> None:
    (film / "labels.csv").write_text("label,split\nclap,train\nrun,train\nwave,train\n")
    changes = ["way=2", "query=1", "episodes=2", "episodes_per_step=1", "val_every=0", "lr.visual=1e-5"]
    words = ["train", "--config", "otam/hmdb51", "--backbone", "tiny", "--data", str(film / "segments.csv")]
    words += ["--on-error", "skip", "--set", *changes, "accelerator=cpu", "--out", str(tmp_path / "run")]
    try:
        assert cli.main(words) == 0
    finally:
        (film / "labels.csv").unlink()


def test_the_recogniser_takes_segments(
    film: Path, tiny: Backbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = load_segments(film / "segments.csv").videos
    made = Recognizer(tiny, "protonet")
    for label in LABELS:
        made.enroll(label, [video for video in segments if video.label == label][:2])
    assert made.actions == dict.fromkeys(LABELS, 2)
    made.enroll("clap", segments[0])  # given twice
    assert made.actions["clap"] == 2
    answer = made.predict(segments[0])
    assert answer.video == f"{film / 'long.mkv'} 0-0.6 s"
    made.save(tmp_path / "mine.fsar")
    assert Recognizer.load(tmp_path / "mine.fsar", tiny).predict(segments[0]) == answer

    table = str(film / "segments.csv")
    words = ["recognize", "--backbone", "tiny", "--method", "protonet", "--examples", table, table, "--format", "json"]
    assert cli.main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["video"] for row in rows[:2]] == [f"{film / 'long.mkv'} 0-0.6 s", f"{film / 'long.mkv'} 0.6-1.2 s"]
    assert len(rows) == 9


def test_mistakes_end_in_one_message(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.csv").write_text("file,start,end,label\nlong.mkv,3,1,wave\n")
    for words in (["evaluate", "--data"], ["recognize", "--backbone", "tiny", "--examples"]):
        more = [str(film / "long.mkv")] if words[0] == "recognize" else []
        assert cli.main([*words, str(tmp_path / "bad.csv"), *more]) == 2
        said = capsys.readouterr().err
        assert "bad.csv, line 2: " in said and "Traceback" not in said
