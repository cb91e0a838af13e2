"""Answers for many videos, as Parquet."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer
from fsar.bank.cluster import Actors, Work
from fsar.cli import main
from fsar.video import apart
from fsar.video.writing import write_video
from tests.bank.test_archive import contents
from tests.video.test_apart import answer_or_not

parquet = pytest.importorskip("pyarrow.parquet")


def as_an_actor(make: Callable[[], Work], numbers: list[int], actors: Actors) -> None:
    """What an actor of Ray does, in this process: the work travels as bytes."""
    work = pickle.loads(pickle.dumps(make))()
    for number in numbers:
        work(number)


def test_answers_are_those_of_predict_in_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "answer", answer_or_not)
    noise = np.random.default_rng(0).integers(0, 256, (4, 8, 32, 32, 3), np.uint8)
    recognizer = Recognizer("tiny")
    for i, name in enumerate(("clap", "wave")):
        recognizer.enroll(name, list(noise[2 * i : 2 * i + 2]))
    recognizer.save(tmp_path / "mine.fsar")
    for i in range(3):
        write_video(tmp_path / f"clips/{i}.mp4", noise[i], 10.0)
    write_video(tmp_path / "clips/hang.mp4", noise[3], 10.0)
    (tmp_path / "clips/junk.mp4").write_bytes(b"no video" * 50)
    words = ["recognize", "--model", str(tmp_path / "mine.fsar"), str(tmp_path / "clips"), "--device", "cpu"]
    words += ["--out", str(tmp_path / "answers")]
    for _ in range(2):  # the second time, there is nothing to do
        assert main(words) == 1
        assert "3 videos in 1 shard, 2 broken" in capsys.readouterr().out
    errors = parquet.read_table(tmp_path / "answers/index/00000.parquet")["error"].to_pylist()
    assert "hang.mp4: decoding it takes more than 60 s" in errors[3] and "junk.mp4: " in errors[4]
    table = parquet.read_table(tmp_path / "answers/answers/00000.parquet").to_pydict()
    assert table["id"] == ["0.mp4", "1.mp4", "2.mp4"]
    monkeypatch.setattr("fsar.bank.cluster.on_ray", as_an_actor)
    monkeypatch.setattr(apart, "PROGRAM", None)  # a fork costs less than a program
    assert main([*words[:-1], str(tmp_path / "of-actors"), "--ray"]) == 1
    assert contents(tmp_path / "of-actors") == contents(tmp_path / "answers")
    again = Recognizer.load(tmp_path / "mine.fsar")
    for i in range(3):
        expected = again.predict(tmp_path / f"clips/{i}.mp4")
        assert table["action"][i] == expected.action and table["score"][i] == pytest.approx(expected.score)
        assert table["p(wave)"][i] == pytest.approx(expected.probabilities["wave"])
    assert main(["recognize", "--model", str(tmp_path / "mine.fsar"), str(tmp_path), "--ray"]) == 2
    assert "--shard and --ray divide what goes to --out DIR" in capsys.readouterr().err
