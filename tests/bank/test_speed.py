"""How fast a bank is filled: the parts are measured on the same videos, and nothing stays on disk."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fsar.backbones import Backbone
from fsar.bank.speed import Speeds, measure
from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.methods import build_method


def test_the_slower_part_is_named() -> None:
    assert Speeds(threads=10, processes=20, encode=30, both=9).slower == "decoding"
    assert Speeds(threads=30, processes=20, encode=10, both=9).slower == "encoding"


def test_no_video_is_told(tiny: Backbone) -> None:
    with pytest.raises(ValueError, match="there is no video to measure with"):
        measure(build_method("protonet", tiny), [])


def test_the_verb_prints_every_part(
    little_world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fsar.bank.speed.SECONDS", 0.01)
    # a process takes seconds to start
    monkeypatch.setattr("fsar.bank.speed.ProcessPoolExecutor", lambda workers, context: ThreadPoolExecutor(workers))
    data = str(little_world.videos[0].path.parents[1])
    assert main(["benchmark", "bank", "--data", data, "--videos", "3", "--batch", "2", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    for part in ("decode, in threads", "decode, in processes", "encode", "both: files to bank"):
        (row,) = [line for line in said.splitlines() if line.startswith(f"| {part} |")]
        assert float(row.split("|")[2].replace(",", "")) > 0
    assert "3 videos, 8 frames, tiny, float32, batches of 2" in said and "coding is the slower part" in said
    assert not (tmp_path / "cache" / "features").exists()
    assert main(["benchmark", "bank", "--data", data, "--batch", "0"]) == 2
    assert "batch is 0; expected 1 or more" in capsys.readouterr().err
