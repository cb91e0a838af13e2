"""Protocol: val selects, random splits of the classes, several seeds; what departs from it is said."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.training.recipes import parse_recipe
from fsar.video.writing import write_video


def test_random_splits_have_the_sizes_of_the_published_ones(world: VideoDataset) -> None:
    sizes = Counter(world.splits.values())
    dealt = [world.resplit(seed) for seed in range(5)]
    assert all(Counter(d.splits.values()) == sizes and d.splits.keys() == world.splits.keys() for d in dealt)
    assert len({d.split("test").classes for d in dealt}) == 5
    assert dealt[0].split("test").classes == world.resplit(0).split("test").classes
    assert len({d.fingerprint() for d in (world, *dealt)}) == 6


def test_classes_without_splits_are_split_as_benchmarks_are(world: VideoDataset) -> None:
    """40 classes: 64 : 12 : 24 of a hundred; by the names of the classes, in whatever order they come."""
    bare = replace(world, splits={})
    dealt = bare.resplit(0)
    assert Counter(dealt.splits.values()) == {"train": 25, "val": 5, "test": 10} and dealt.resplit_seed == 0
    assert replace(bare, videos=bare.videos[::-1]).resplit(0).splits == dealt.splits != bare.resplit(1).splits
    assert bare.only(bare.classes[:6]).resplit(0).split("val").classes
    with pytest.raises(ValueError, match="world has 5 classes and no splits; a random split needs six: two each"):
        bare.only(bare.classes[:5]).resplit(0)


def test_a_folder_without_labels_is_split_trained_and_tested(
    little_world: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    home = tmp_path / "mine"
    for label in little_world.classes[:6]:
        (home / label).mkdir(parents=True)
        for video in little_world.only([label]).videos:
            (home / label / video.path.name).symlink_to(video.path)
    run, settings = str(tmp_path / "run"), ["way=2", "shot=1", "episodes=2", "episodes_per_step=1", "val_episodes=5"]
    words = ["train", "--config", "trx/world", "--data", str(home), "--out", run, "--set", *settings]
    assert main([*words, "options.out_dim=16", "accelerator=cpu"]) == 2
    assert "mine has no class in split 'train' (splits there: none); give a column `split`" in capsys.readouterr().err
    assert main([*words, "options.out_dim=16", "accelerator=cpu", "--resplit", "7"]) == 0
    assert "classes split at random by seed 7: 2 train, 2 val, 2 test" in capsys.readouterr().err
    words = ["evaluate", "--data", str(home), "--checkpoint", run, "--way", "2", "--episodes", "20"]
    assert main(words) == 0
    (file,) = (tmp_path / "run" / "results").glob("*.json")
    result = json.loads(file.read_text())
    assert result["resplit"] == 7 and len(result["confusion"]["classes"]) == 2 and not result["seen_classes"]
    assert "mine test (2 classes, classes split at random by seed 7, 6 videos" in capsys.readouterr().out


def test_random_splits_and_seeds_are_evaluated_one_by_one(
    little_world: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    home = str(little_world.videos[0].path.parent.parent)
    words = ["--data", home, "--method", "protonet", "--episodes", "20", "--out", str(tmp_path)]
    assert main(["evaluate", *words, "--resplit", "1", "2", "--seed", "0", "1", "2"]) == 0
    stored = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert sorted((r["resplit"], r["seed"]) for r in stored) == [(d, s) for d in (1, 2) for s in (0, 1, 2)]
    assert "(6 seeds: sd" in capsys.readouterr().out


def test_a_checkpoint_brings_its_own_split(
    little_world: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    home = str(little_world.videos[0].path.parent.parent)
    settings = ["way=3", "shot=1", "episodes=2", "episodes_per_step=1", "val_episodes=5", "options.out_dim=16"]
    words = ["train", "--config", "trx/world", "--data", home, "--out", str(tmp_path / "run"), "--resplit", "3"]
    assert main([*words, "--protocol", "paper", "--set", *settings]) == 0
    words = ["evaluate", "--data", home, "--checkpoint", str(tmp_path / "run"), "--episodes", "20", "--way", "3"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    (file,) = (tmp_path / "out").glob("*.json")
    result = json.loads(file.read_text())
    assert result["resplit"] == 3 and not result["seen_classes"]
    assert result["protocol"] == "paper: selected on the test classes"
    assert "on the test classes" in result["selection"]
    assert "[paper: selected on the test classes]" in capsys.readouterr().out
    assert main([*words, "--resplit", "4"]) == 2
    assert "was trained on --resplit 3, not on --resplit 4" in capsys.readouterr().err


def test_selecting_on_test_without_selecting_is_refused() -> None:
    with pytest.raises(ValueError, match="val_every is 0"):
        parse_recipe({"method": "ma-fsar", "protocol": "paper", "val_every": 0})


def test_short_videos_repeat_frames_or_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for label in ("wave", "clap"):
        for clip, frames in enumerate((3, 12, 12)):
            pixels = np.random.default_rng(clip).integers(0, 255, (frames, 48, 64, 3), np.uint8)
            write_video(tmp_path / "videos" / label / f"{clip}.mp4", pixels, 10.0)
    words = ["evaluate", "--data", str(tmp_path / "videos"), "--split", "all", "--way", "2", "--method", "protonet"]
    for options, left_out in (([], 0), (["--drop-short"], 2)):
        out = tmp_path / f"out{left_out}"
        assert main([*words, "--episodes", "5", "--out", str(out), *options]) == 0
        (result,) = (json.loads(file.read_text()) for file in out.glob("*.json"))
        assert len(result["skipped"]) == left_out
        assert capsys.readouterr().err.count("3 frames, fewer than the 8 that are sampled") == left_out


def test_classes_of_another_split_are_refused(world: VideoDataset, capsys: pytest.CaptureFixture) -> None:
    other, *chosen = world.split("val").classes[0], *world.split("test").classes[:2]
    words = ["evaluate", "--data", str(world.videos[0].path.parent.parent), "--way", "2", "--classes", *chosen]
    assert main([*words, other]) == 2
    assert f"--classes names {other}, which are not in the test split" in capsys.readouterr().err


def test_what_cannot_be_kept_is_told_before_the_work(world: VideoDataset, capsys: pytest.CaptureFixture) -> None:
    home = world.videos[0].path.parent.parent
    assert main(["evaluate", "--data", str(home), "--out", str(world.videos[0].path / "out")]) == 2
    assert "match" not in capsys.readouterr().err
