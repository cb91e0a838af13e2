"""Copies of a video in one class count once, and the same content in two classes is named."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer, cli, evaluate
from fsar.backbones import Backbone
from fsar.datasets import Video, VideoDataset, drop_copies, load_folder
from fsar.datasets.copies import find_copies
from fsar.methods import build_method
from fsar.results import Result
from fsar.video import FrameCache
from tests.video.test_reading import encode


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    return FrameCache(tmp_path / "cache")


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def videos(root: Path, **contents: str) -> list[Video]:
    """`wave_1="a"` is the video wave/1 with content a."""
    made = []
    for name, content in contents.items():
        label, _, number = name.partition("_")
        made.append(Video(f"{label}/{number}", put(root / label / f"{number}.mp4", content), label))
    return made


# --------------------------------------------------------------------------- finding them


def test_of_copies_in_a_class_the_first_by_id_counts(tmp_path: Path, cache: FrameCache) -> None:
    given = videos(tmp_path, wave_3="a", wave_2="b", wave_1="a", clap_1="c", wave_4="a")
    found = find_copies(given, cache, progress=False)
    assert list(found.repeated) == ["wave/3", "wave/4"] and found.shared == ()
    assert found.repeated["wave/3"] == f"{given[0].path} has the content of {given[2].path}"
    assert found == find_copies(given[::-1], cache, progress=False)


def test_the_same_content_in_two_classes_is_named(tmp_path: Path, cache: FrameCache) -> None:
    given = videos(tmp_path, wave_1="a", wave_2="a", clap_1="a", run_1="b")
    found = find_copies(given, cache, progress=False)
    assert list(found.repeated) == ["wave/2"]
    assert [[video.id for video in group] for group in found.shared] == [["clap/1", "wave/1"]]
    (_, note) = found.notes({"wave": "train", "clap": "test"})
    assert f"{tmp_path}/clap/1.mp4 (clap, test), {tmp_path}/wave/1.mp4 (wave, train)" in note


def test_links_and_other_spellings_are_copies(tmp_path: Path, cache: FrameCache) -> None:
    path = put(tmp_path / "wave" / "1.mp4", "a")
    (tmp_path / "wave" / "2.mp4").symlink_to(path)
    os.link(path, tmp_path / "wave" / "3.mp4")
    spelled = tmp_path / "wave" / ".." / "wave" / "1.mp4"
    given = [Video(f"wave/{i}", p, "wave") for i, p in enumerate([path, path.with_name("2.mp4"), spelled])]
    assert list(find_copies(given, cache, progress=False).repeated) == ["wave/1", "wave/2"]
    assert len(drop_copies(load_folder(tmp_path), cache, progress=False).videos) == 1


def test_only_videos_of_one_size_are_hashed(tmp_path: Path, cache: FrameCache, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    monkeypatch.setattr(FrameCache, "content", lambda self, path, *span: hashed.append(path.stem) or path.stem)
    find_copies(videos(tmp_path, wave_1="a", wave_2="bb", wave_3="cc", wave_4="ddd"), cache, progress=False)
    assert sorted(hashed) == ["2", "3"]


def test_folders_of_frames_are_compared_by_their_frames(tmp_path: Path, cache: FrameCache) -> None:
    for name, content in (("one", "a"), ("two", "a"), ("three", "b")):
        put(tmp_path / "wave" / name / "1.jpg", content)
        put(tmp_path / "wave" / name / "2.jpg", "z")
    put(tmp_path / "wave" / "two" / ".DS_Store", "what a system writes")
    assert drop_copies(load_folder(tmp_path), cache, progress=False).copies == ("wave/two",)


def test_segments_are_compared_by_their_times(tmp_path: Path, cache: FrameCache) -> None:
    one, copy = put(tmp_path / "one.mp4", "a"), put(tmp_path / "copy.mp4", "a")
    given = [
        Video("wave/1", one, "wave", 1.0, 2.0),
        Video("wave/2", copy, "wave", 1.0, 2.0),
        Video("wave/3", one, "wave", 1.0, 2.5),
        Video("clap/4", one, "clap", 1.0, 2.0),
    ]
    found = find_copies(given, cache, progress=False)
    assert found.repeated == {"wave/2": f"{copy} 1-2 s has the content of {one} 1-2 s"}
    assert [[video.id for video in group] for group in found.shared] == [["clap/4", "wave/1"]]


def test_what_cannot_be_read_is_no_copy(tmp_path: Path, cache: FrameCache) -> None:
    gone = [Video(f"wave/{i}", tmp_path / f"gone{i}.mp4", "wave") for i in range(3)]
    (tmp_path / "empty").mkdir()
    given = [*gone, Video("wave/9", tmp_path / "empty", "wave"), *videos(tmp_path, wave_a="a", wave_b="b")]
    assert find_copies(given, cache, progress=False).repeated == {}


def test_a_dataset_keeps_count(tmp_path: Path, cache: FrameCache) -> None:
    given = videos(tmp_path, wave_1="a", wave_2="a", clap_1="b", clap_2="b", clap_3="b", run_1="b")
    dataset = VideoDataset("x", tuple(given), {}, {"wave": "train", "clap": "test", "run": "test"}, notes=("a note",))
    kept = drop_copies(dataset, cache, progress=False)
    assert kept.copies == ("clap/2", "clap/3", "wave/2") and len(kept.videos) == 3
    assert kept.split("test").copies == ("clap/2", "clap/3") and kept.only(["wave"]).copies == ("wave/2",)
    assert kept.notes[0] == "a note"
    assert kept.notes[1].startswith("left out 3 copies of a video in the same class: ")
    assert kept.notes[2].startswith("1 content is in several classes, ")
    assert drop_copies(kept, cache, progress=False) == kept  # told once


# --------------------------------------------------------------------------- where it matters


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of three clips that have nothing in common."""
    root, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for label in ("clap", "run", "wave"):
        (root / label).mkdir()
        for i in range(3):
            encode(root / label / f"{i}.mp4", rng.integers(0, 255, (4, 48, 64, 3), np.uint8))
    return root


@pytest.fixture
def doubled(noise: Path, tmp_path: Path) -> Path:
    """The same with a copy of every clip."""
    root = Path(shutil.copytree(noise, tmp_path / "doubled"))
    for path in root.rglob("*.mp4"):
        shutil.copy(path, path.with_name(f"{path.stem} (1).mp4"))
    return root


def test_copies_do_not_change_an_accuracy(noise: Path, doubled: Path, tiny: Backbone) -> None:
    method = build_method("protonet", tiny)
    one, two = (
        evaluate(method, load_folder(root, "noise"), "all", way=3, episodes=50, progress=False)
        for root in (noise, doubled)
    )
    assert (one.copies, two.copies, two.videos) == (0, 9, 9)
    assert (one.accuracy, one.episodes_fingerprint) == (two.accuracy, two.episodes_fingerprint)


def test_evaluate_tells_what_it_left_out(doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(doubled / "run" / "0.mp4", doubled / "wave" / "of another class.mp4")
    words = ["evaluate", "--data", str(doubled), "--split", "all", "--way", "3", "--method", "protonet"]
    assert cli.main([*words, "--episodes", "5", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "fsar: left out 9 copies of a video in the same class: " in said.err
    assert "run/0.mp4 (run), " in said.err and "wave/of another class.mp4 (wave)" in said.err
    assert ", 9 copies left out)" in said.out
    (file,) = (tmp_path / "out").glob("*.json")
    assert Result.load(file).copies == 9
    assert cli.main([*words, "--shot", "3"]) == 2
    assert "need 4 videos in every class; clap has 3, run has 3 (9 copies are left out)" in capsys.readouterr().err


def test_a_manifest_is_replayed_as_it_is(doubled: Path, tmp_path: Path, tiny: Backbone) -> None:
    from fsar.evaluation import EpisodeSampler

    dataset = load_folder(doubled)
    drawn = EpisodeSampler(dataset=dataset, way=3, shot=3).draw(5)
    result = evaluate(build_method("protonet", tiny), dataset, "all", episodes=drawn, progress=False)
    assert (result.copies, result.videos) == (0, 18)
    drawn.save(tmp_path / "episodes.json")
    words = ["evaluate", "--data", str(doubled), "--split", "all", "--method", "protonet"]
    assert cli.main([*words, "--manifest", str(tmp_path / "episodes.json")]) == 0


def test_the_recogniser_counts_copies_once(noise: Path, doubled: Path, tiny: Backbone, tmp_path: Path) -> None:
    one, two = Recognizer(tiny), Recognizer(tiny)
    for label in ("clap", "run"):
        one.enroll(label, sorted((noise / label).iterdir()))
        two.enroll(label, sorted((doubled / label).iterdir()))
    assert one.actions == two.actions == {"clap": 3, "run": 3} and one.fit() == two.fit()
    two.save(tmp_path / "mine.fsar")
    again = Recognizer.load(tmp_path / "mine.fsar", tiny)
    again.enroll("clap", doubled / "clap" / "0.mp4")  # known by its content
    assert again.actions == one.actions and again.fit() == one.fit()
    with pytest.raises(ValueError, match=r"clap/1.mp4 has the content of .*, an example of 'clap'; .*leave it out of"):
        again.enroll("run", [noise / "run" / "0.mp4", noise / "clap" / "1.mp4"])
    assert again.actions == one.actions


def test_a_changed_file_replaces_the_example(noise: Path, tiny: Backbone, tmp_path: Path) -> None:
    path = Path(shutil.copy(noise / "clap" / "0.mp4", tmp_path / "a.mp4"))
    made = Recognizer(tiny)
    made.enroll("clap", path)
    shutil.copy(noise / "clap" / "1.mp4", path)
    made.enroll("clap", path)
    assert made.actions == {"clap": 1}
    made.enroll("clap", noise / "clap" / "0.mp4")  # no longer there
    assert made.actions == {"clap": 2}


def test_recognize_names_copies(doubled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recognize", "--backbone", "tiny", "--method", "protonet", "--examples", str(doubled)]
    new = str(doubled / "run" / "0.mp4")
    assert cli.main([*words, new]) == 0
    assert "fsar: left out 9 copies of a video in the same class: " in capsys.readouterr().err
    shutil.copy(doubled / "run" / "0.mp4", doubled / "wave" / "x.mp4")
    assert cli.main([*words, new]) == 2
    said = capsys.readouterr().err
    assert "x.mp4 has the content of" in said and "run/0.mp4, an example of 'run'" in said


def test_training_leaves_copies_out_and_names_them(
    doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(doubled / "run" / "0.mp4", doubled / "wave" / "x.mp4")
    labels = "folder,label,split\nclap,clap,train\nrun,run,train\nwave,wave,test\n"
    (doubled / "labels.csv").write_text(labels)
    changes = ["way=2", "query=1", "episodes=2", "episodes_per_step=1", "val_every=0", "lr.visual=1e-5"]
    words = ["train", "--config", "otam/hmdb51", "--backbone", "tiny", "--data", str(doubled), "--set", *changes]
    assert cli.main([*words, "accelerator=cpu", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "fsar: left out clap/0 (1): " in said and "has the content of" in said
    assert "run/0.mp4 (run, train), " in said and "wave/x.mp4 (wave, test)" in said
    assert len(json.loads((tmp_path / "run" / "left_out.json").read_text())) == 6


def test_results_of_older_versions_have_no_copies(noise: Path, tiny: Backbone, tmp_path: Path) -> None:
    result = evaluate(build_method("protonet", tiny), load_folder(noise), "all", way=3, episodes=3, progress=False)
    replace(result, copies=4).save(tmp_path / "new.json")
    content = json.loads((tmp_path / "new.json").read_text())
    assert content.pop("copies") == 4
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert Result.load(tmp_path / "old.json").copies == 0
