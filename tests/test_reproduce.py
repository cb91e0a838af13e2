"""`fsar reproduce` on stand-ins of the benchmarks: their own class names and lists, few and generated videos."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsar.backbones import Backbone
from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.datasets.benchmarks import benchmark
from fsar.video.writing import write_video
from tests.conftest import SHARED, needs_shared
from tests.processes import forked_together

LISTS = {
    "kinetics100@cmn": "trx/kinetics_CMN",
    "kinetics100@clip-fsar": "clip-fsar/kinetics100",
    "ssv2-small@cmn": "trx/ssv2_CMN",
    "ssv2-full@otam-67k": "trx/ssv2_OTAM",
}
SMALL = [
    "query=1", "val_query=1", "test_query=1", "episodes=2", "episodes_per_step=1", "val_every=2", "val_episodes=3",
    "jitter=false", "freeze_batch_norm=true",
]  # fmt: skip
FEW_FRAMES = ["frames=4", "options.frames=4"]


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`."""
    return small_for_tiny


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Short and small videos: what they show does not matter here."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(4):
        frames = np.random.default_rng(number).integers(0, 256, (12, 4, 4, 3), np.uint8)
        write_video(folder / f"{number}.mp4", frames.repeat(8, 1).repeat(8, 2), 10.0)
    return sorted(folder.iterdir())


def stand_in(name: str, clips: list[Path], root: Path, each: int = 2) -> Path:
    """Few videos of every test class and of six others per split, named and lying as people have the benchmark's."""
    root.mkdir(parents=True)
    classes = benchmark(name).classes
    used = {*classes["train"][:6], *classes["val"][:6], *classes["test"]}
    taken: Counter[str] = Counter()
    if name in LISTS:
        places = [(item.label, _place(name, item.label, item.id)) for item in benchmark(name).listed(root)]
    else:
        labels = [label for split in classes.values() for label in split]
        places = [(label, f"{label.replace(' ', '_')}/clip{i}.avi") for label in labels for i in range(each)]
    for label, place in places:
        if label in used and taken[label] < each:
            taken[label] += 1
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            number = sum(taken.values())
            another(clips[number % len(clips)], root / place, number)
    return root


def another(source: Path, path: Path, number: int = 1) -> None:
    """Write a video that shows the same and is no copy."""
    path.write_bytes(source.read_bytes() + b"\0" * number)


def _place(name: str, label: str, video_id: str) -> str:
    """SSv2 is one flat folder; Kinetics has folders of classes, and times in its names."""
    return f"{video_id}.webm" if name.startswith("ssv2") else f"{label}/{video_id}_000010_000020.mp4"


def import_lists(name: str) -> None:
    assert SHARED is not None
    assert main(["splits", "import", *map(str, sorted((SHARED / "splits" / LISTS[name]).glob("*.txt")))]) == 0


@pytest.fixture
def hmdb51(clips: list[Path], tmp_path: Path) -> Path:
    return stand_in("hmdb51@arn", clips, tmp_path / "HMDB51")


def words(method: str, name: str, root: Path, out: Path, *settings: str) -> list[str]:
    own = ["--skip-missing", "--shot", "1", "--episodes", "20", "--backbone", "tiny"]
    return ["reproduce", method, name, "--root", str(root), "--out", str(out), *own, "--set", *SMALL, *settings]


def stored(out: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(out.glob("*/results/*.json"))]


def test_the_whole_way_and_again(hmdb51: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    command = words("clip-mdmf", "hmdb51@arn", hmdb51, out, "options.hidden=16", *FEW_FRAMES)
    command += ["--seed", "0", "1", "--prepare", str(tmp_path / "prepared")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "5-way 1-shot" in printed and "(2 training seeds: sd" in printed
    results = stored(out)
    assert len(results) == 2
    for result in results:
        assert result["dataset"] == "hmdb51@arn" and result["split"] == "test" and result["protocol"] == "clean"
        assert len(result["per_class"]) <= 10 and result["episodes"] == 20
        assert result["absent"] == 1292 - 20  # the published list's test videos, of which two per class lie here
        assert result["training"]["recipe"]["benchmark"] == "hmdb51@arn"
    page = (out / "report.html").read_text()
    assert "hmdb51@arn" in page and "clip-mdmf" in page
    before = {file: file.stat().st_mtime_ns for file in out.glob("*/results/*.json")}
    assert main(command) == 0  # what is done is passed over
    assert {file: file.stat().st_mtime_ns for file in out.glob("*/results/*.json")} == before


def test_what_is_missing_stops_it_unless_told(hmdb51: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = words("clip-mdmf", "hmdb51@arn", hmdb51, tmp_path / "out")
    command.remove("--skip-missing")
    assert main(command) == 2
    assert "--skip-missing" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "check.json").read_text())


def test_a_method_without_training_is_tested(hmdb51: Path, tmp_path: Path) -> None:
    command = words("place-motion", "hmdb51@arn", hmdb51, tmp_path / "out")
    assert main(command[: command.index("--set")]) == 0
    (result,) = stored(tmp_path / "out")
    assert result["training"] is None and result["backbone"] == "tiny"


def test_broken_videos_are_counted_and_too_few_are_told_before_training(
    hmdb51: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for i, clip in enumerate(("pick/clip0.avi", "pick/clip1.avi", "kick/clip1.avi")):
        (hmdb51 / clip).write_bytes((hmdb51 / clip).read_bytes()[: 300 + i])  # no copies of each other
    command = words("place-motion", "hmdb51@arn", hmdb51, tmp_path / "out")
    assert main([*command[: command.index("--set")], "--shot", "5"]) == 2
    assert "test episodes cannot be drawn" in capsys.readouterr().err
    write_video(tmp_path / "whole.mp4", np.full((12, 64, 64, 3), 99, np.uint8), 10.0)
    shutil.copyfile(tmp_path / "whole.mp4", hmdb51 / "kick/clip1.avi")
    assert main(command[: command.index("--set")]) == 0
    assert "listed videos absent, 2 left out)" in capsys.readouterr().out
    (result,) = stored(tmp_path / "out")
    assert sorted(result["skipped"]) == ["pick/clip0", "pick/clip1"] and result["videos"] == 18
    assert "2 unreadable" in (tmp_path / "out" / "report.html").read_text()
    copies = ["--prepare", str(tmp_path / "small"), "--out", str(tmp_path / "copies")]
    assert main([*command[: command.index("--set")], *copies]) == 0
    (of_copies,) = stored(tmp_path / "copies")  # what was broken has no copy, and is counted once
    assert (of_copies["skipped"], of_copies["absent"], of_copies["videos"]) == ({}, result["absent"] + 2, 18)


def test_short_videos_are_left_out_where_the_recipe_does_and_late_damage_is_found(hmdb51: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", np.zeros((4, 64, 64, 3), np.uint8), 10.0)
    for i, clip in enumerate(("pick/clip0.avi", "pick/clip1.avi")):
        (hmdb51 / clip).unlink()
        another(tmp_path / "short.mp4", hmdb51 / clip, i)
    train = benchmark("hmdb51@arn").classes["train"]
    folders = [hmdb51 / label.replace(" ", "_") for label in train[:2]]
    for folder in folders:
        another(folder / "clip1.avi", folder / "clip2.avi")
    late = folders[0] / "clip0"  # damaged where evaluation does not look
    late.with_suffix(".avi").unlink()
    late.mkdir()
    for i in range(20):
        Image.new("RGB", (64, 64)).save(late / f"{i}.png")
    (late / "19.png").write_bytes(b"")
    shutil.copyfile(tmp_path / "short.mp4", folders[1] / "clip0.avi")
    command = words("clip-mdmf", "hmdb51@arn", hmdb51, tmp_path / "out", "options.hidden=16", "drop_short=true")
    assert main(command) == 0
    (left_out,) = (json.loads(file.read_text()) for file in (tmp_path / "out").glob("*/left_out.json"))
    assert "4 frames" in left_out[f"{train[1]}/clip0"] and f"{train[0]}/clip0" not in left_out  # gone before
    (result,) = stored(tmp_path / "out")
    assert result["videos"] == 18 and sorted(result["skipped"]) == ["pick/clip0", "pick/clip1"]
    assert all("4 frames" in reason for reason in result["skipped"].values())


def test_mistakes_are_told_before_any_work(hmdb51: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for wrong, told in {
        ("clip-mdfm", "hmdb51@arn"): "clip-mdmf",
        ("clip-mdmf", "hmdb51@cmn"): "hmdb51@arn",
        ("clip-mdmf", "kinetics100"): "kinetics100@clip-fsar",
    }.items():
        assert main(words(*wrong, hmdb51, tmp_path / "out")) == 2
        assert told in capsys.readouterr().err
    assert main(words("place-motion", "hmdb51@arn", hmdb51, tmp_path / "out")) == 2
    assert "no recipe" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize(
    "method, name, settings",
    [
        ("clip-spm", "ucf101@arn", ["options.hidden=16", "frames=4"]),
        ("ma-fsar", "kinetics100@cmn", ["options.hidden=16", *FEW_FRAMES]),
        ("clip-mdmf", "kinetics100@clip-fsar", ["options.hidden=16", *FEW_FRAMES]),
        ("task-adapter-pp", "ssv2-small@cmn", ["options.layers=1", *FEW_FRAMES]),
        ("ma-fsar", "ssv2-full@otam-67k", ["options.hidden=16", *FEW_FRAMES]),
    ],
)
def test_every_benchmark_by_a_method_of_each_paper(
    method: str, name: str, settings: list[str], clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    if name in LISTS:
        import_lists(name)
    root = stand_in(name, clips, tmp_path / "videos")
    assert main(words(method, name, root, tmp_path / "out", *settings)) == 0, capsys.readouterr().err
    for result in stored(tmp_path / "out"):
        assert result["dataset"] == name and result["absent"] > 0
        assert set(result["confusion"]["classes"]) == set(benchmark(name).classes["test"])
    assert name in (tmp_path / "out" / "report.html").read_text()


def test_the_generated_world_needs_no_videos(
    little_world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("fsar.reproduce.load_world", lambda progress: little_world)
    small = ["--set", "episodes=2", "episodes_per_step=1", "val_every=0", "options.out_dim=16", "accelerator=cpu"]
    command = ["reproduce", "trx", "world", "--out", str(tmp_path), "--shot", "1", "--episodes", "10", *small]
    assert main(command) == 0
    (result,) = stored(tmp_path)
    assert result["dataset"] == "world" and result["training"]["recipe"]["data"] == "world"
    assert main(["reproduce", "protonet", "world", "--out", str(tmp_path / "p"), *command[5:9]]) == 0
    assert [result["method"] for result in stored(tmp_path / "p")] == ["protonet"]
    assert main([*command, "--root", str(tmp_path)]) == 2
    assert "leave --root and --prepare out" in capsys.readouterr().err
    assert main(["reproduce", "trx", "hmdb51@arn", "--out", str(tmp_path)]) == 2
    assert "hmdb51@arn needs the folder of its videos; add --root DIR" in capsys.readouterr().err


def test_one_process_tests_what_two_have_trained(
    little_world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsar.reproduce.load_world", lambda progress: little_world)
    small = ["episodes=2", "episodes_per_step=2", "val_every=0", "options.out_dim=16", "accelerator=cpu", "devices=2"]
    command = ["reproduce", "trx", "world", "--out", str(tmp_path), "--shot", "1", "--episodes", "10", "--set", *small]
    first, second = forked_together(*command)
    assert [first.returncode, second.returncode] == [0, 0], (first.stderr, second.stderr)
    assert "5-way 1-shot" in first.stdout and "report.html" in first.stdout and not second.stdout
    assert len(stored(tmp_path)) == 1
