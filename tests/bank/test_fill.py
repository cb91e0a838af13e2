"""What a bank keeps on disk, how often a video is encoded, and in which precision."""

from dataclasses import replace
from pathlib import Path

import pytest

from fsar.backbones import Backbone
from fsar.bank import fill
from fsar.bank.fill import fill_bank
from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.loop import evaluate
from fsar.evaluation.matching import match_from_bank
from fsar.methods import METHODS, build_method
from fsar.methods.task_adapter import FrozenTokens
from fsar.results.identity import file_name, row_name
from fsar.results.result import Result


@pytest.fixture(scope="module")
def few(world: VideoDataset) -> VideoDataset:
    """Three clips of two classes."""
    novel = world.split("test")
    of_two = novel.only(novel.classes[:2])
    return replace(of_two, videos=tuple(video for video in of_two.videos if video.id[-1] in "012"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("place", "kept"), [("input", 0), ("first_adapted_block", 6)])
def test_tokens_of_one_checkpoint_alone_are_not_kept_on_disk(
    place: str, kept: int, few: VideoDataset, tiny: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the blocks before the first adapted one run once per video, though its roles differ."""
    method = build_method("task-adapter", tiny, temporal_embedding_at=place)
    runs: list[int] = []
    encode = FrozenTokens.encode
    monkeypatch.setattr(FrozenTokens, "encode", lambda *given, **more: runs.append(1) or encode(*given, **more))
    bank = fill_bank(method, few.videos, few.texts, progress=False)
    assert {"support": [*bank.support], "query": [*bank.query]} == {"support": ["tokens"], "query": ["frames"]}
    assert len(runs) == len(few.videos) == 6
    assert len([*cache.glob("features/**/*.safetensors")]) == kept
    fill_bank(method, few.videos, few.texts, progress=False)
    assert len(runs) == 12 - kept


def test_the_size_of_a_large_bank_is_told(
    few: VideoDataset, tiny: Backbone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fill, "LARGE", 1)
    fill_bank(build_method("protonet", tiny), few.videos)
    assert "the bank takes 0.0 GB, in a file that ends with this process; what other" in capsys.readouterr().err


@pytest.mark.parametrize("name", METHODS)
def test_every_method_computes_in_bf16(name: str, few: VideoDataset, tiny: Backbone) -> None:
    """Near float32, and the same from a bank as encoded again."""
    method = build_method(name, tiny, **({"out_dim": 16} if name == "trx" else {}))
    drawn = EpisodeSampler(dataset=few, way=2, shot=2).draw(3)
    exact, rounded = (
        match_from_bank(
            method,
            fill_bank(method, few.videos, few.texts, precision=precision, keep=False, progress=False),
            drawn,
            few.texts,
            progress=False,
        ).logits
        for precision in ("float32", "bf16")
    )
    assert (exact != rounded).any()
    assert abs(exact - rounded).max() <= 0.05 * max(1.0, abs(exact).max())


def test_banks_of_two_precisions_are_kept_apart_and_said(few: VideoDataset, tiny: Backbone, cache: Path) -> None:
    method = build_method("otam", tiny)
    results = [
        evaluate(method, few, "all", way=2, episodes=20, precision=precision, progress=False)
        for precision in ("float32", "bf16")
    ]
    assert [result.precision for result in results] == ["float32", "bf16"]
    assert len([*cache.glob("features/*/bank.json")]) == 2
    assert file_name(results[0]) != file_name(results[1])
    assert "bf16" in row_name(results[1]) and "float32" not in row_name(results[0])
    bank = fill_bank(method, few.videos, precision="bf16", progress=False)
    with pytest.raises(ValueError, match="precision is float32, and the bank was made in bf16"):
        evaluate(method, few, "all", way=2, bank=bank, precision="float32", progress=False)


def test_naive_matching_computes_in_the_banks_precision(few: VideoDataset, tiny: Backbone) -> None:
    method = build_method("protonet", tiny)
    results = [
        evaluate(method, few, "all", way=2, episodes=5, naive=naive, precision="bf16", progress=False)
        for naive in (False, True)
    ]
    assert results[0].right == results[1].right
    assert {result.precision for result in results} == {"bf16"}


def test_the_command_line_takes_a_precision(
    few: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(few.videos[0].path.parent.parent), "--classes", *few.classes, "--way", "2", "--episodes", "5"]
    start = ["evaluate", *data, "--method", "protonet", "--out", str(tmp_path), "--device", "cpu"]
    assert main([*start, "--precision", "bf16"]) == 0
    assert "bf16" in capsys.readouterr().out
    assert [Result.load(file).precision for file in tmp_path.glob("*.json")] == ["bf16"]
    assert main([*start, "--precision", "tf32"]) == 2
    assert "precision tf32 needs a GPU of 2020 or later, and this is cpu" in capsys.readouterr().err
