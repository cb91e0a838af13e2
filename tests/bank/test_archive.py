"""Banks of shards: the same files however they were made."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fsar.backbones import Backbone
from fsar.bank import fill_bank
from fsar.cli import main
from fsar.datasets import Video, load_features, load_folder
from fsar.datasets.features import save_features
from fsar.datasets.shards import ShardedBank
from fsar.methods import build_method
from fsar.video import apart
from fsar.video.frame_cache import FrameCache
from fsar.video.writing import write_video
from tests.processes import forked
from tests.video.test_apart import answer_or_not

PROTONET = ("--method", "protonet", "--backbone", "tiny", "--frames", "2", "--workers", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of two clips, and a file that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0)
    for name in ("clap/0", "clap/1", "wave/0", "wave/1"):
        write_video(folder / f"{name}.mp4", noise.integers(0, 256, (6, 32, 32, 3), np.uint8), 10.0)
    (folder / "wave/junk.mp4").write_bytes(b"no video" * 50)
    return folder


def fill(bank: Path, clips: Path, *more: str) -> int:
    return main(
        ["bank", "fill", "--bank", str(bank), "--data", str(clips), "--videos-per-shard", "2", *PROTONET, *more]
    )


@pytest.fixture(scope="module")
def whole(clips: Path, tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank that one machine made at once."""
    folder = tmp_path_factory.mktemp("whole") / "bank"
    assert fill(folder, clips) == 1
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_bank_holds_what_fill_bank_makes(clips: Path, whole: Path, tiny: Backbone) -> None:
    bank = ShardedBank(whole)
    table = bank.index().to_pydict()
    assert table["id"] == ["clap/0", "clap/1", "wave/0", "wave/1", "wave/junk"]
    assert table["row"] == [0, 1, 0, 1, None] and table["shard"] == [0, 0, 1, 1, 2]
    assert "junk.mp4: " in table["error"][4] and table["content"][4] is None
    videos = load_folder(clips).without(["wave/junk"]).videos
    made = fill_bank(build_method("protonet", tiny), videos, cache=FrameCache(frames=2), keep=False, progress=False)
    rows = torch.from_numpy(np.concatenate([part for _, part in bank.each("frames")]))
    assert torch.equal(rows, made.query["frames"].half())
    norms = np.linalg.norm(np.concatenate([part for _, part in bank.each("pooled")]).astype(float), axis=1)
    assert np.allclose(norms, 1, atol=1e-3)


def test_banks_of_two_precisions_stay_apart(clips: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "precision" not in ShardedBank(whole).header["encoder"]  # float32, as before there was a choice
    assert fill(whole, clips, "--precision", "bf16") == 2
    assert "holds another bank: encoder is" in capsys.readouterr().err


def test_killed_and_divided_runs_end_with_the_same_files(clips: Path, whole: Path, tmp_path: Path) -> None:
    def die_at_the_second() -> None:
        write = ShardedBank._write_index

        def killed(bank: ShardedBank, number: int, rows: list[dict[str, object]]) -> None:
            if number == 1:  # its tensors are written
                os.kill(os.getpid(), signal.SIGKILL)
            write(bank, number, rows)

        ShardedBank._write_index = killed  # type: ignore[method-assign, assignment]

    words = ("bank", "fill", "--bank", tmp_path / "killed", "--data", clips, "--videos-per-shard", 2, *PROTONET)
    assert forked(*words, before=die_at_the_second).returncode == -signal.SIGKILL
    assert ShardedBank(tmp_path / "killed").done() == [0]
    stamp = (tmp_path / "killed/index/00000.parquet").stat().st_mtime_ns
    assert fill(tmp_path / "killed", clips, "--shard", "2/2") == 0  # the shard 1, in which nothing is broken
    assert fill(tmp_path / "killed", clips, "--shard", "1/2") == 1
    assert contents(tmp_path / "killed") == contents(whole)
    assert (tmp_path / "killed/index/00000.parquet").stat().st_mtime_ns == stamp


def test_a_file_that_hangs_or_crashes_its_decoder_is_a_row_with_a_reason(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(apart, "answer", answer_or_not)
    for name in ("crash", "good", "hang"):
        shutil.copy(clips / "wave/0.mp4", tmp_path / f"{name}.mp4")
    words = ["bank", "fill", "--bank", str(tmp_path / "bank"), "--videos", str(tmp_path), *PROTONET]
    assert main(words) == 1
    assert ShardedBank(tmp_path / "bank").index()["row"].to_pylist() == [None, 0, None]
    said = capsys.readouterr()
    assert "1 video in 1 shard, 2 broken" in said.out and "hang.mp4: decoding it takes more than 60 s" in said.err


def test_nothing_read_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave/empty.mp4").touch()
    for _ in range(2):  # also the second time, when there is nothing to do
        assert fill(tmp_path / "bank", tmp_path) == 2
        assert "not one of 1 videos could be read" in capsys.readouterr().err
    assert fill(tmp_path / "bank", tmp_path, "--shard", "0/2") == 2
    assert "--shard is '0/2'; expected I/N" in capsys.readouterr().err


def test_a_bank_of_single_files_is_converted(clips: Path, whole: Path, tmp_path: Path, tiny: Backbone) -> None:
    videos = load_folder(clips).without(["wave/junk"]).videos
    method = build_method("protonet", tiny)
    fill_bank(method, videos, cache=FrameCache(frames=2), folder=tmp_path / "old", progress=False)
    words = ["--bank", str(tmp_path / "new"), "--data", str(clips), "--videos-per-shard", "2", *PROTONET]
    assert main(["bank", "convert", str(tmp_path / "old"), *words]) == 1
    assert contents(tmp_path / "new") == contents(whole)


def test_evaluation_takes_a_bank(clips: Path, whole: Path, tmp_path: Path) -> None:
    dataset = load_features(whole)
    assert [video.id for video in dataset.videos] == ["clap/0", "clap/1", "wave/0", "wave/1"]
    words = ["evaluate", "--features", str(whole), "--split", "all", "--way", "2", "--episodes", "5"]
    assert main([*words, "--method", "otam", "--device", "cpu"]) == 0


def test_training_from_a_bank_is_that_from_its_features(tmp_path: Path) -> None:
    label, split = np.repeat([*"abcd"], 4).tolist(), np.repeat(["train", "val"], 8)
    rows = np.random.default_rng(0).normal(size=(16, 3, 8)).astype(np.float16)
    header = {"tensors": {"frames": {"dtype": "float16", "shape": [3, 8]}}, "videos_per_shard": 8, "encoder": {"v": 1}}
    bank = ShardedBank.create(tmp_path / "bank", header)
    videos = [Video(f"{name}/{i:02}", tmp_path / f"{i}.mp4", name) for i, name in enumerate(label)]
    bank.add(videos, dict(zip(label, split.tolist(), strict=True)))
    for number in range(2):
        listed = [{**row, "row": i, "content": row["id"]} for i, row in enumerate(bank.listed(number))]
        bank.write(number, {"frames": rows[8 * number : 8 * number + 8]}, listed)
    ids = [video.id for video in videos]
    save_features(tmp_path / "f.npz", {"features": rows.astype(np.float32), "label": label, "id": ids, "split": split})
    settings = [
        "way=2",
        "val_way=2",
        "episodes=4",
        "episodes_per_step=2",
        "val_every=2",
        "val_episodes=10",
        "workers=1",
    ]
    for name in ("bank", "f.npz"):
        words = [
            "train",
            "--config",
            "trx/features",
            "--features",
            str(tmp_path / name),
            "--out",
            str(tmp_path / f"of-{name}"),
        ]
        assert main([*words, "--set", *settings, "options.out_dim=4", "accelerator=cpu"]) == 0
    trained, expected = (load_file(tmp_path / f"of-{name}" / "state.safetensors") for name in ("bank", "f.npz"))
    assert all(torch.equal(trained[name], expected[name]) for name in expected)
    evaluated = ["evaluate", "--checkpoint", str(tmp_path / "of-bank"), "--features", str(tmp_path / "bank")]
    assert main([*evaluated, "--split", "val", "--way", "2", "--episodes", "5", "--device", "cpu"]) == 0
    other = ShardedBank.create(tmp_path / "other", header | {"encoder": {"v": 2}})
    other.add(videos[:1])
    other.write(0, {"frames": rows[:1]}, [{**other.listed(0)[0], "row": 0, "content": videos[0].id}])
    first, second = (load_features(bank.place.folder).videos[0] for bank in (bank, other))
    assert first.id == second.id and first.content != second.content  # results say which encoder made the features


def test_moments_of_long_videos_are_rows(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bank", "fill", "--bank", str(tmp_path / "bank"), "--videos", str(clips / "wave"), *PROTONET]
    assert main([*words, "--windows", "0.3", "--hop", "0.2"]) == 1
    table = ShardedBank(tmp_path / "bank").index()
    spans = [*zip(table["start"].to_pylist(), table["end"].to_pylist(), strict=True)]
    assert spans == [(0.0, 0.3), (0.2, 0.5), (0.4, 0.6)] * 2 + [(None, None)]
    assert table["id"].to_pylist()[1] == "0.mp4@0.2-0.5"
    frames = ShardedBank(tmp_path / "bank").part("frames", 0)
    assert len(frames) == 6 and not np.array_equal(frames[0], frames[1])
    assert main(["bank", "show", str(tmp_path / "bank")]) == 0
    assert "6 videos, 1 broken, 0 deleted; 1 shard, 0 missing" in capsys.readouterr().out
