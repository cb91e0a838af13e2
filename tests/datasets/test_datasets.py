"""Datasets: folders, and what every dataset does."""

from pathlib import Path

import pytest

from fsar.datasets import Video, VideoDataset, load_folder


def touch(root: Path, *names: str) -> Path:
    """Make files that look like videos or frames; loading a dataset opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def ids(dataset: VideoDataset) -> list[str]:
    return [video.id for video in dataset.videos]


# --------------------------------------------------------------------------- folders


def test_folder_names_give_classes_and_words(tmp_path: Path) -> None:
    touch(tmp_path, "tai_chi/b.mp4", "tai_chi/a.AVI", "Jumping Jack/x.y.webm")
    dataset = load_folder(tmp_path)
    assert dataset.name == tmp_path.name
    assert dataset.classes == ("Jumping Jack", "tai_chi")
    assert dataset.texts == {"Jumping Jack": "jumping jack", "tai_chi": "tai chi"}
    assert ids(dataset) == ["Jumping Jack/x.y", "tai_chi/a", "tai_chi/b"]
    assert dataset.videos[1] == Video("tai_chi/a", tmp_path / "tai_chi" / "a.AVI", "tai_chi")
    assert dataset.counts == {"tai_chi": 2, "Jumping Jack": 1}
    assert dataset.splits == {}
    assert load_folder(tmp_path, "mine").name == "mine"


def test_labels_csv_gives_words_and_splits(tmp_path: Path) -> None:
    touch(tmp_path, "c1/a.mp4", "c2/a.mp4", "c3/a.mp4", "c4/a.mp4")
    rows = ["label,folder,split", '"Waving, twice",c1,train', "Clap_Hands,c2,test", "Run,c3,"]
    for encoding in ("utf-8", "utf-8-sig"):  # spreadsheets write a mark first
        (tmp_path / "labels.csv").write_text("\n".join(rows), encoding=encoding)
        dataset = load_folder(tmp_path)
        assert dataset.texts == {"c1": "waving, twice", "c2": "clap hands", "c3": "run", "c4": "c4"}
        assert dataset.splits == {"c1": "train", "c2": "test"}
        assert dataset.split("train").classes == ("c1",)
        assert dataset.split("all") is dataset


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["name,label", "c1,x"], "expected the columns folder, label and optionally split, got name, label"),
        ([""], "got nothing"),
        (["folder,label", "c2,x"], "labels.csv, line 2: unknown folder 'c2'; expected one of: c1"),
        (["folder,label", "c1_,x"], "labels.csv, line 2: unknown folder 'c1_'; did you mean 'c1'"),
        (["folder,label,split", "c1,x,tset"], "line 2: unknown split 'tset'; did you mean 'test'"),
    ],
)
def test_labels_csv_that_does_not_fit(tmp_path: Path, rows: list[str], message: str) -> None:
    touch(tmp_path, "c1/a.mp4")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


def test_labels_csv_of_another_encoding(tmp_path: Path) -> None:
    touch(tmp_path, "c1/a.mp4")
    (tmp_path / "labels.csv").write_bytes("folder,label\nc1,Gähnen".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8 text; save it as UTF-8"):
        load_folder(tmp_path)


def test_hidden_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "run/._a.mp4", "run/.hidden.mp4", "run/notes.txt", ".git/x.mp4", "loose.mp4")
    touch(tmp_path, "run/empty/readme.md")
    dataset = load_folder(tmp_path)
    assert dataset.classes == ("run",) and ids(dataset) == ["run/a"]


def test_folders_of_frames_are_videos(tmp_path: Path) -> None:
    touch(tmp_path, "run/clip.1/0001.jpg", "run/clip.1/0002.JPG", "run/clip2/1.png", "run/file.mp4")
    dataset = load_folder(tmp_path)
    assert ids(dataset) == ["run/clip.1", "run/clip2", "run/file"]
    assert dataset.videos[0].path.is_dir()


@pytest.mark.parametrize("other", ["run/a.avi", "run/a/1.jpg"])
def test_two_videos_of_one_name_are_refused(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "run/a.mp4", other)
    with pytest.raises(ValueError, match="have the same name but for the suffix; keep one of them"):
        load_folder(tmp_path)


def test_classes_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "Run/b.mp4")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system holds the two for one")
    with pytest.raises(ValueError, match="differ in case only"):
        load_folder(tmp_path)


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; expected one folder per class"):
        load_folder(tmp_path / "none")
    touch(tmp_path, "a.mp4")
    with pytest.raises(ValueError, match=r"no videos found; expected .*CLASS/VIDEO"):
        load_folder(tmp_path)


# --------------------------------------------------------------------------- what every dataset does


@pytest.fixture
def small(tmp_path: Path) -> VideoDataset:
    videos = tuple(Video(f"{c}/{i}", tmp_path / c / f"{i}.mp4", c) for c in ("run", "jump", "sit") for i in "012")
    return VideoDataset("small", videos, {c: c for c in ("run", "jump", "sit")}, {"run": "train", "jump": "test"})


def test_fingerprint_is_canonical(small: VideoDataset) -> None:
    other_order = VideoDataset("other name", small.videos[::-1], {}, dict(reversed(small.splits.items())))
    assert other_order.fingerprint() == small.fingerprint()
    assert len(small.fingerprint()) == 64
    moved = VideoDataset("small", small.videos, small.texts, small.splits | {"sit": "val"})
    first = small.videos[0]
    renamed = (Video("run/9", first.path, "run"), *small.videos[1:])
    relabelled = (Video(first.id, first.path, "sit"), *small.videos[1:])
    changed = [VideoDataset("small", videos, small.texts, small.splits) for videos in (renamed, relabelled)]
    changed += [moved, small.without(["run/0"]), small.only(["run", "jump"])]
    assert len({small.fingerprint(), *(dataset.fingerprint() for dataset in changed)}) == 6


def test_fingerprint_does_not_know_where_the_files_lie(tmp_path: Path) -> None:
    here = load_folder(touch(tmp_path / "here", "run/a.mp4", "sit/b.mp4"))
    there = load_folder(touch(tmp_path / "there", "sit/b.avi", "run/a.webm"))
    assert here.fingerprint() == there.fingerprint()


def test_splits(small: VideoDataset) -> None:
    assert small.split("train").classes == ("run",) and small.split("test").classes == ("jump",)
    assert small.split("all") is small
    with pytest.raises(ValueError, match=r"no class in split 'val' \(splits there: test, train\)"):
        small.split("val")
    with pytest.raises(ValueError, match="unknown split 'tests'; did you mean 'test'"):
        small.split("tests")
    with pytest.raises(ValueError, match="splits there: none"):
        VideoDataset("bare", small.videos, {}, {}).split("test")


def test_only_and_without(small: VideoDataset) -> None:
    assert small.only(["sit", "run"]).classes == ("run", "sit")
    assert small.only(["sit"]).texts == small.texts
    with pytest.raises(ValueError, match="unknown class of small 'jmp'; did you mean 'jump'"):
        small.only(["sit", "jmp"])
    left = small.without(["run/0", "sit/2", "nothing"])
    assert len(left.videos) == 7 and left.counts == {"run": 2, "jump": 3, "sit": 2}
    assert small.counts["run"] == 3
