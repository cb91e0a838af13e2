"""Answers for many videos, as Parquet."""

from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer
from fsar.cli import main
from fsar.video.writing import write_video

parquet = pytest.importorskip("pyarrow.parquet")


def test_answers_are_those_of_predict_in_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 8, 32, 32, 3), np.uint8)
    recognizer = Recognizer("tiny")
    for i, name in enumerate(("clap", "wave")):
        recognizer.enroll(name, list(noise[2 * i : 2 * i + 2]))
    recognizer.save(tmp_path / "mine.fsar")
    for i in range(3):
        write_video(tmp_path / f"clips/{i}.mp4", noise[i], 10.0)
    (tmp_path / "clips/junk.mp4").write_bytes(b"no video" * 50)
    words = ["recognize", "--model", str(tmp_path / "mine.fsar"), str(tmp_path / "clips"), "--device", "cpu"]
    words += ["--out", str(tmp_path / "answers")]
    for _ in range(2):  # the second time, there is nothing to do
        assert main(words) == 1
        assert "3 videos in 1 shards, 1 broken" in capsys.readouterr().out
    table = parquet.read_table(tmp_path / "answers/answers/00000.parquet").to_pydict()
    assert table["id"] == ["0.mp4", "1.mp4", "2.mp4"]
    again = Recognizer.load(tmp_path / "mine.fsar")
    for i in range(3):
        expected = again.predict(tmp_path / f"clips/{i}.mp4")
        assert table["action"][i] == expected.action and table["score"][i] == pytest.approx(expected.score)
        assert table["p(wave)"][i] == pytest.approx(expected.probabilities["wave"])
    assert main(["recognize", "--model", str(tmp_path / "mine.fsar"), str(tmp_path), "--ray"]) == 2
    assert "--shard and --ray divide what goes to --out DIR" in capsys.readouterr().err
