"""Datasets: folders and published split lists."""

import json
import re
from pathlib import Path

import pytest

from fsar.datasets import Video, VideoDataset, load_folder, load_lists
from fsar.datasets.lists import parse_line, split_of
from fsar.text.prompts import class_text
from tests.conftest import SHARED, needs_shared


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
        (["folder,label", "c2,x"], "labels.csv, line 2: unknown folder 'c2'; did you mean 'c1'"),
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


# --------------------------------------------------------------------------- list lines


@pytest.mark.parametrize(
    ("line", "split", "label", "video"),
    [
        (
            "cartwheel/(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0",
            "val",
            "cartwheel",
            "(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0",
        ),
        ("BlowingCandles/v_BlowingCandles_g01_c01", "test", "BlowingCandles", "v_BlowingCandles_g01_c01"),
        ("blasting sand/-kYzxMKp514_000086_000096", "test", "blasting sand", "-kYzxMKp514_000086_000096"),
        (
            "Twisting (wringing) something wet until water comes out/88644",
            "test",
            "Twisting (wringing) something wet until water comes out",
            "88644",
        ),
        ("test18/195025", "test", "test18", "195025"),
        ("train24/51958", "train", "train24", "51958"),
        (
            "test0//train_256/blasting_sand/-kYzxMKp514_000086_000096.mp4",
            "test",
            "blasting_sand",
            "-kYzxMKp514_000086_000096",
        ),
        ("val0//val_256/baking_cookies/-514AQUrSow.mkv", "val", "baking_cookies", "-514AQUrSow"),
        ("training dog/abc_000001_000011", "train", "training dog", "abc_000001_000011"),
    ],
)
def test_published_lines(line: str, split: str, label: str, video: str) -> None:
    assert parse_line(line, split) == (label, video)


def test_class_numbers_with_names() -> None:
    names = {"test": ["Closing something", "Opening something"]}
    assert parse_line("test1/195025", "test", names) == ("Opening something", "195025")
    assert parse_line("running/7", "test", names) == ("running", "7")
    with pytest.raises(ValueError, match="class number 2, but there are 2 test names"):
        parse_line("test2/195025", "test", names)
    with pytest.raises(ValueError, match="class number 0, but there are 0 train names"):
        parse_line("train0/195025", "train", names)


@pytest.mark.parametrize("line", ["195025", "run/", "/195025"])
def test_lines_that_are_none(line: str) -> None:
    with pytest.raises(ValueError, match=r"expected class/video, test18/195025 or test0//path/video.mp4"):
        parse_line(line, "test")


def test_split_of_a_lists_name() -> None:
    names = ["trainlist07.txt", "val_few_shot.txt", "Testlist03.txt"]
    assert [split_of(Path("lists", name)) for name in names] == ["train", "val", "test"]
    with pytest.raises(ValueError, match="cannot tell its split from its name; name it train"):
        split_of(Path("train/list.txt"))


PUBLISHED = re.compile(r"\| (\S+\.txt) \| \S+ \| \S+ \| (\d+) \| (\d+) \|")


@needs_shared
def test_published_lists_have_the_lines_and_classes_of_their_table() -> None:
    assert SHARED is not None
    folder = SHARED / "splits"
    table = PUBLISHED.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert len(table) == len(list(folder.rglob("*.txt"))) == 22
    split_of_class: dict[tuple[Path, str], str] = {}
    for name, lines, classes in table:
        file = folder / name
        split = split_of(file)
        read = [parse_line(line, split) for line in file.read_text(encoding="utf-8").splitlines()]
        assert (len(read), len(set(read)), len({label for label, _ in read})) == (
            int(lines),
            int(lines),
            int(classes),
        ), name
        for label, _ in read:
            assert split_of_class.setdefault((file.parent, label), split) == split, name


@needs_shared
def test_ssv2_full_class_names_fit_its_lists() -> None:
    assert SHARED is not None
    folder = SHARED / "splits"
    names = json.loads((folder / "ssv2_full_class_names.json").read_text(encoding="utf-8"))
    for file in (folder / "trx" / "ssv2_OTAM").glob("*.txt"):
        split = split_of(file)
        lines = file.read_text(encoding="utf-8").splitlines()
        assert {parse_line(line, split, names)[0] for line in lines} == set(names[split])
    assert parse_line("train8/78687", "train", names) == (names["train"][8], "78687")


@needs_shared
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_both_formats_of_the_kinetics_lists_name_the_same_classes(split: str) -> None:
    assert SHARED is not None
    by_name, by_path = (
        (SHARED / "splits" / file).read_text(encoding="utf-8").splitlines()
        for file in (f"trx/kinetics_CMN/{split}list03.txt", f"clip-fsar/kinetics100/{split}_few_shot.txt")
    )
    classes = [{class_text(parse_line(line, split)[0]) for line in lines} for lines in (by_name, by_path)]
    assert classes[0] == classes[1]


# --------------------------------------------------------------------------- lists and their videos


def test_lists_of_videos_in_class_folders(tmp_path: Path) -> None:
    touch(tmp_path / "data", "Run_Fast/v1.avi", "Run_Fast/v2.avi", "Sit/v1.avi", "Sit/unlisted.avi")
    train = write(tmp_path / "trainlist03.txt", "Run_Fast/v1", "", "Run_Fast/v2", "Run_Fast/v2")
    test = write(tmp_path / "testlist03.txt", "Sit/v1")
    dataset = load_lists([train, test], tmp_path / "data", name="ucf")
    assert dataset.name == "ucf"
    assert ids(dataset) == ["Run_Fast/v1", "Run_Fast/v2", "Sit/v1"]
    assert dataset.texts == {"Run_Fast": "run fast", "Sit": "sit"}
    assert dataset.splits == {"Run_Fast": "train", "Sit": "test"}
    assert [video.path.parent.name for video in dataset.videos] == ["Run_Fast", "Run_Fast", "Sit"]


def test_lists_of_flat_files(tmp_path: Path) -> None:
    touch(tmp_path / "data", "88644.webm", "7.webm", "README.txt")
    test = write(tmp_path / "testlist03.txt", "Twisting [something]/88644", "Closing [something]/7")
    dataset = load_lists([test], tmp_path / "data")
    assert [video.path.name for video in dataset.videos] == ["88644.webm", "7.webm"]
    assert dataset.texts["Twisting [something]"] == "twisting something"


def test_lists_of_frame_folders(tmp_path: Path) -> None:
    touch(tmp_path / "data", "88644/00001.jpg", "88644/00002.jpg", "sub/v.7/1.png", "sub/v.7/notes.txt")
    dataset = load_lists([write(tmp_path / "test.txt", "Twisting/88644", "Closing/v.7")], tmp_path / "data")
    assert [video.path for video in dataset.videos] == [tmp_path / "data/88644", tmp_path / "data/sub/v.7"]


def test_lists_of_class_numbers(tmp_path: Path) -> None:
    touch(tmp_path / "data", "88644.webm", "7.webm", "8.webm")
    names = write(tmp_path / "names.json", json.dumps({"comment": "x", "test": ["Closing [it]", "Opening [it]"]}))
    test = write(tmp_path / "test.txt", "test1/88644", "test0/7")
    named = load_lists([test], tmp_path / "data", names)
    assert ids(named) == ["Opening [it]/88644", "Closing [it]/7"]
    assert named.texts == {"Opening [it]": "opening it", "Closing [it]": "closing it"}
    assert ids(load_lists([test], tmp_path / "data")) == ["test1/88644", "test0/7"]
    with pytest.raises(ValueError, match=r"test2.txt, line 3: 'test2/8' has class number 2"):
        load_lists([write(tmp_path / "test2.txt", "test0/7", "", "test2/8")], tmp_path / "data", names)


@pytest.mark.parametrize("content", ["{broken", "7"])
def test_names_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    touch(tmp_path / "data", "7.webm")
    names, test = write(tmp_path / "names.json", content), write(tmp_path / "test.txt", "test0/7")
    for file in (names, tmp_path / "none.json"):
        with pytest.raises(ValueError, match=rf"{file.name}: cannot be read as class names .*expected JSON"):
            load_lists([test], tmp_path / "data", file)


def test_clip_fsar_kinetics_lists(tmp_path: Path) -> None:
    touch(tmp_path / "data", "train_256/blasting_sand/a_000086_000096.mp4", "val_256/blasting_sand/b.mkv")
    lines = ["test0//train_256/blasting_sand/a_000086_000096.mp4", "test0//train_256/blasting_sand/b.mp4"]
    dataset = load_lists([write(tmp_path / "test_few_shot.txt", *lines)], tmp_path / "data")
    assert ids(dataset) == ["blasting_sand/a_000086_000096", "blasting_sand/b"]
    assert dataset.texts == {"blasting_sand": "blasting sand"}


def test_of_videos_with_one_name_the_one_in_its_class_is_taken(tmp_path: Path) -> None:
    touch(tmp_path / "data", "a/v1.mp4", "brush hair/v1.mp4", "z/v1.mp4", "z/v2.mp4", "a/v2.mp4")
    test = write(tmp_path / "test.txt", "brush_hair/v1", "brush_hair/v2")
    dataset = load_lists([test], tmp_path / "data")
    assert [str(video.path.relative_to(tmp_path / "data")) for video in dataset.videos] == [
        "brush hair/v1.mp4",
        "a/v2.mp4",  # none is: the first by name, on every machine
    ]


def test_missing_videos_are_counted_and_named_or_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "data", "run/v1.mp4")
    test = write(tmp_path / "test.txt", "run/v1", "run/v2", "sit/v3")
    message = "2 of 3 listed videos are not below .*data, among them run/v2, sit/v3; .*--skip-missing"
    with pytest.raises(ValueError, match=message):
        load_lists([test], tmp_path / "data")
    dataset = load_lists([test], tmp_path / "data", skip_missing=True)
    assert ids(dataset) == ["run/v1"] and dataset.classes == ("run",)
    with pytest.raises(ValueError, match="no listed video is below"):
        load_lists([write(tmp_path / "test9.txt", "sit/v3")], tmp_path / "data", skip_missing=True)


def test_a_class_in_two_splits_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "data", "run/v1.mp4", "run/v2.mp4")
    train, test = write(tmp_path / "train.txt", "run/v1"), write(tmp_path / "test.txt", "", "run/v2")
    with pytest.raises(ValueError, match=r"test.txt, line 2: class 'run' is in train and in test"):
        load_lists([train, test], tmp_path / "data")


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    touch(tmp_path / "data", "run/v1.mp4")
    with pytest.raises(ValueError, match=r"test.txt: cannot be read as a list"):
        load_lists([tmp_path / "test.txt"], tmp_path / "data")
    (tmp_path / "test.txt").write_bytes(b"g\xe4hnen/v1\n")
    with pytest.raises(ValueError, match=r"test.txt: cannot be read as a list"):
        load_lists([tmp_path / "test.txt"], tmp_path / "data")
    with pytest.raises(ValueError, match=r"test1.txt, line 2: cannot read 'run'"):
        load_lists([write(tmp_path / "test1.txt", "run/v1", "run")], tmp_path / "data")
    with pytest.raises(ValueError, match="no such folder; expected the dataset's videos below it"):
        load_lists([write(tmp_path / "test1.txt", "run/v1")], tmp_path / "none")
