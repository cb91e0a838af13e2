"""Lists of videos: every published format, and finding each listed video below a folder."""

import json
import re
from pathlib import Path

import pytest

from fsar.datasets import load_lists
from fsar.datasets.lists import Entry, Names, name_videos, read_line, split_of
from fsar.text.words import class_text
from tests.conftest import SHARED, needs_shared
from tests.datasets.test_datasets import ids, touch, write


def parse(lines: list[str], split: str, names: Names | None = None) -> list[tuple[str, str]]:
    """Class and id of each line of a list."""
    entries = [Entry(f"line {number}", read_line(line), split) for number, line in enumerate(lines, 1)]
    return [(label, video_id.removeprefix(f"{label}/")) for label, video_id, _ in name_videos(entries, names)]


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
    assert parse([line], split) == [(label, video)]


def test_class_numbers_with_names() -> None:
    names = {"test": {0: "Closing something", 1: "Opening something"}}
    assert parse(["test1/195025"], "test", names) == [("Opening something", "195025")]
    assert parse(["running/7"], "test", names) == [("running", "7")]
    with pytest.raises(ValueError, match="class number 2, but there are 2 test names"):
        parse(["test2/195025"], "test", names)
    with pytest.raises(ValueError, match="class number 0, but there are 0 train names"):
        parse(["train0/195025"], "train", names)


@pytest.mark.parametrize("line", ["195025", "run/", "/195025"])
def test_lines_that_are_none(line: str) -> None:
    with pytest.raises(ValueError, match=r"expected class/video, test18/195025 or test0//path/video.mp4"):
        read_line(line)


def test_split_of_a_lists_name() -> None:
    names = ["trainlist07.txt", "val_few_shot.txt", "Testlist03.txt", "ucf101_val_split_1_videos.txt", "k_valid.csv"]
    assert [split_of(Path("lists", name)) for name in names] == ["train", "val", "test", "val", "val"]
    with pytest.raises(ValueError, match="cannot tell its split from its name"):
        split_of(Path("my_train_test.txt"))
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
        read = parse(file.read_text(encoding="utf-8").splitlines(), split)
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
    content = json.loads((folder / "ssv2_full_class_names.json").read_text(encoding="utf-8"))
    names = {split: dict(enumerate(content[split])) for split in ("train", "val", "test")}
    for file in (folder / "trx" / "ssv2_OTAM").glob("*.txt"):
        split = split_of(file)
        lines = file.read_text(encoding="utf-8").splitlines()
        assert {label for label, _ in parse(lines, split, names)} == set(names[split].values())
    assert parse(["train8/78687"], "train", names) == [(names["train"][8], "78687")]


@needs_shared
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_both_formats_of_the_kinetics_lists_name_the_same_classes(split: str) -> None:
    assert SHARED is not None
    by_name, by_path = (
        (SHARED / "splits" / file).read_text(encoding="utf-8").splitlines()
        for file in (f"trx/kinetics_CMN/{split}list03.txt", f"clip-fsar/kinetics100/{split}_few_shot.txt")
    )
    classes = [{class_text(label) for label, _ in parse(lines, split)} for lines in (by_name, by_path)]
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


def found(root: Path, *lines: str, skip_missing: bool = False) -> dict[str, str]:
    """Id -> place of the videos that a list gives."""
    dataset = load_lists([write(root.with_name("test.txt"), *lines)], root, skip_missing=skip_missing)
    return {video.id: str(video.path.relative_to(root)) for video in dataset.videos}


def test_of_videos_with_one_name_the_one_in_its_class_is_taken(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "a/v1.mp4", "brush hair/v1.mp4", "z/v1.mp4", "z/v2.mp4", "wave/s1/001.mp4")
    touch(root, "clap/s1/001.mp4", "x/clap/s2/002.mp4")
    expected = {"brush_hair/v1": "brush hair/v1.mp4", "wave/001": "wave/s1/001.mp4", "clap/001": "clap/s1/001.mp4"}
    assert found(root, "brush_hair/v1", "wave/001", "clap/001") == expected
    assert found(root, "clap/002") == {"clap/002": "x/clap/s2/002.mp4"}
    with pytest.raises(ValueError, match="1 of 1 listed videos are not below .*among them brush_hair/v2"):
        found(root, "brush_hair/v2")  # only another class has it


def test_another_class_s_video_is_not_taken(tmp_path: Path) -> None:
    """Though the class has no folder, the others have."""
    root = touch(tmp_path / "data", "clap/001.mp4", "run/002.mp4")
    with pytest.raises(ValueError, match="2 of 3 listed videos are not below .*among them wave/001, wave/002"):
        found(root, "wave/001", "wave/002", "clap/001")


def test_the_whole_listed_path_comes_before_the_class(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "wave/s1/1.avi", "wave/s2/1.avi", "clap/s1/1.avi", "old/clap/s1/1.avi")
    expected = {"wave/s1/1": "wave/s1/1.avi", "wave/s2/1": "wave/s2/1.avi", "clap/s1/1": "clap/s1/1.avi"}
    assert found(root, "wave/s1/1", "wave/s2/1", "clap/s1/1") == expected
    assert found(root, "/away/wave/s2/1.mp4", "/away/clap/s1/1.mp4") == {
        "wave/s2/1": "wave/s2/1.avi",
        "clap/s1/1": "clap/s1/1.avi",  # the very path, and not the one in `old`
    }


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (["a/wave/1.mp4", "b/wave/1.mp4"], "wave/1"),
        (["wave/s1/1.mp4", "wave/s2/1.mp4"], "wave/1"),
        (["one/7.mp4", "two/7.mp4"], "Closing it/7"),
        (["wave/1.mp4", "wave/1.avi"], "wave/1"),
        (["wave/1.mp4", "wave/1/0001.jpg"], "wave/1.mp4"),
    ],
)
def test_several_videos_of_one_line_are_refused(tmp_path: Path, files: list[str], line: str) -> None:
    root = touch(tmp_path / "data", *files)
    with pytest.raises(ValueError, match=r"test.txt, line 1: 2 videos fit .*/\d: .*; keep one of them below"):
        found(root, line)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.mp4")
    root = touch(tmp_path / "data", "clap/2.mp4")
    (root / "wave").symlink_to(tmp_path / "elsewhere")
    (root / "clap" / "back").symlink_to(root)
    assert found(root, "wave/1", "clap/2") == {"wave/1": "wave/1.mp4", "clap/2": "clap/2.mp4"}


def test_hidden_files_and_pictures_are_no_videos(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "wave/a.mp4", "wave/poster.jpg", "wave/@eaDir/a.mp4", "__MACOSX/wave/a.mp4")
    assert found(touch(root, "wave/._a.mp4"), "wave/a") == {"wave/a": "wave/a.mp4"}


# --------------------------------------------------------------------------- formats

UCF = ["Archery/v_Archery_g01_c01.mp4", "Biking/v_Biking_g01_c01.mp4"]
BY_FOLDER = {
    "UCF101, test": UCF,
    "UCF101, train": [f"{path} {number}" for number, path in enumerate(UCF, 3)],
    "mmaction2, videos": [f"videos/{path} {number}" for number, path in enumerate(UCF)],
    "mmaction2, frames": [f"{path.removesuffix('.mp4')} {300 + number} {number}" for number, path in enumerate(UCF)],
    "SlowFast": [f"/data/ucf/{path} {number}" for number, path in enumerate(UCF)],
    "VideoMAE": [f"/data/ucf/{path},{number}" for number, path in enumerate(UCF)],
    "quoted": [f'"ucf/{path}", {number}' for number, path in enumerate(UCF)],
    "Windows": ["D:\\ucf\\" + path.replace("/", "\\") + f" {number}" for number, path in enumerate(UCF)],
    "absolute, no suffix": [f"/data/ucf/{path.removesuffix('.mp4')}" for path in UCF],
    "in folders of splits": [f"{split}/{path}" for split, path in zip(("train", "val_256"), UCF, strict=True)],
    "CLIP-FSAR": [f"test{number}//test_256/{path}" for number, path in enumerate(UCF)],
}


@pytest.mark.parametrize("form", BY_FOLDER)
def test_the_class_is_the_folder_that_changes_with_the_number(tmp_path: Path, form: str) -> None:
    root = touch(tmp_path / "data", *UCF)
    assert found(root, *BY_FOLDER[form]) == {path.removesuffix(".mp4"): path for path in UCF}


def test_the_class_is_the_number_if_no_folder_changes_with_it(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", *(f"clips_256/P01_{i}.MP4" for i in range(4)))
    epic = ["test8//clips_256/P01_0.MP4", "test8//clips_256/P01_1.MP4", "test9//clips_256/P01_2.MP4"]
    assert list(found(root, *epic)) == ["test8/P01_0", "test8/P01_1", "test9/P01_2"]
    flat = ["P01_0.MP4 4", "P01_1.MP4 4", "P01_2.MP4 7"]
    assert list(found(root, *flat)) == ["4/P01_0", "4/P01_1", "7/P01_2"]
    d2st = ["test18//P01_0", "test17//P01_3"]
    assert list(found(root, *d2st)) == ["test18/P01_0", "test17/P01_3"]


NAMES = {
    "names.json": ['{"test": ["sit", "run"]}', '["sit", "run"]', '{"sit": 0, "run": "1"}'],
    "classInd.txt": ["sit\nrun\n", "1 run\n0 sit\n", "0,sit\n1,run\n"],
}


@pytest.mark.parametrize(("file", "content"), [(file, text) for file, texts in NAMES.items() for text in texts])
def test_files_of_class_names(tmp_path: Path, file: str, content: str) -> None:
    root = touch(tmp_path / "data", "videos/a.mp4", "videos/b.mp4")
    (tmp_path / file).write_text(content)
    for lines in (["videos/a.mp4 1", "videos/b.mp4 0"], ["test1//videos/a.mp4", "test0//videos/b.mp4"]):
        dataset = load_lists([write(tmp_path / "test.txt", *lines)], root, tmp_path / file)
        assert ids(dataset) == ["run/a", "sit/b"]


def test_kinetics_tables(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "data", "train/blasting_sand/-kYzxMKp514_000086_000096.mp4", "train/surfing/1663fIopl7c.mkv"
    )
    rows = ["blasting sand,-kYzxMKp514,86,96,train", "surfing,1663fIopl7c,35,45,train"]
    for name, header in (
        ("k400.csv", "label,youtube_id,time_start,time_end,split"),
        ("train.csv", "label,youtube_id,time_start,time_end,split,is_cc"),
    ):
        dataset = load_lists([write(tmp_path / name, header, *rows)], root)
        assert ids(dataset) == ["blasting sand/-kYzxMKp514_000086_000096", "surfing/1663fIopl7c_000035_000045"]
        assert dataset.splits == {"blasting sand": "train", "surfing": "train"}
        assert [video.path.suffix for video in dataset.videos] == [".mp4", ".mkv"]
    write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split", "1663fIopl7c,35,45,test")
    with pytest.raises(ValueError, match=r"test.csv, line 2: .*the test lists of Kinetics have no labels"):
        load_lists([tmp_path / "test.csv"], root)


def test_hmdb51_lists(tmp_path: Path) -> None:
    names = ["April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "a_brush_hair_b.avi", "c_brush_hair_d.avi"]
    root = touch(tmp_path / "data", *(f"brush_hair/{name}" for name in names))
    lines = [f"{name} {flag} " for name, flag in zip(names, (1, 0, 2), strict=True)]
    dataset = load_lists([write(tmp_path / "brush_hair_test_split1.txt", *lines)], root)
    assert ids(dataset) == ["brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0", "brush_hair/c_brush_hair_d"]
    assert dataset.splits == {}  # they divide the videos of a class, not the classes


def test_a_number_may_belong_to_the_path(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "run 2/take 7.mp4", "sit/take 8.mp4")
    assert found(root, "run 2/take 7", "sit/take 8.mp4") == {
        "run 2/take 7": "run 2/take 7.mp4",
        "sit/take 8": "sit/take 8.mp4",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("some/video.mp4 1 3 5", "has 3 numbers behind the path; expected one class number"),
        ("some/video.mp4 163 1", "has 2 numbers behind the path"),
        ("some/frames 12 163 3", "has 3 numbers behind the path; .* videos of several classes cannot be read"),
    ],
)
def test_lines_with_several_classes(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_line(line)


def test_two_listed_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "a/1.mp4", "b/1.mp4")
    with pytest.raises(ValueError, match=r"test.txt, line 2: b/1 and a/1 are both called 3/1"):
        found(root, "a/1.mp4 3", "b/1.mp4 3", "b/1.mp4 4")


def test_missing_videos_are_kept_as_absent(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "wave/1.mp4")
    test = write(tmp_path / "test.txt", "wave/1", "wave/2", "wave/2")
    assert load_lists([test], root, skip_missing=True).absent == ("wave/2",)


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
