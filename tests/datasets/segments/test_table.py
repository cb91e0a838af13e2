"""`segments.csv`, and what every file of segments has in common: finding videos, times, names, splits."""

from pathlib import Path

import pytest

from fsar.datasets import Video, VideoDataset, load_data, load_segments
from fsar.datasets.segments.table import seconds


def write(file: Path, *lines: str, encoding: str = "utf-8") -> Path:
    file.write_bytes("\n".join(lines).encode(encoding))
    return file


def spans(dataset: VideoDataset) -> list[tuple[str, str, float | None, float | None]]:
    return [(video.label, video.path.name, *video.span) for video in dataset.videos]


ROWS = ["file,start,end,label", "long.mp4,0.5,1.25,wave", "sub/at24.mp4,0,0.5,Clap Hands"]
EXPECTED = [("wave", "long.mp4", 0.5, 1.25), ("Clap Hands", "at24.mp4", 0.0, 0.5)]


def test_a_table_of_segments(films: Path) -> None:
    dataset = load_data(str(write(films / "segments.csv", *ROWS)))
    assert spans(dataset) == EXPECTED and dataset.name == "segments" and dataset.notes == ()
    assert dataset.videos[0] == Video("wave/long@0.5-1.25", films / "long.mp4", "wave", 0.5, 1.25, "long")
    assert dataset.videos[1].id == "Clap Hands/sub/at24@0-0.5"
    assert dataset.texts == {"wave": "wave", "Clap Hands": "clap hands"}
    assert dataset.splits == {} and dataset.split("all") is dataset


def test_segments_of_a_file_or_of_a_named_person_are_a_group(films: Path) -> None:
    rows = ["file,start,end,label,group", "long.mp4,0.5,1.25,wave,ann", "sub/at24.mp4,0,0.5,clap,"]
    dataset = load_data(str(write(films / "segments.csv", *rows)))
    assert [video.group for video in dataset.videos] == ["ann", "sub/at24"]


TABLES = {
    "semicolons and commas": (
        ["file;start;end;label", "long.mp4;0,5;1,25;wave", "sub/at24.mp4;0;0,5;Clap Hands"],
        "utf-8",
    ),
    "tabs, a mark first": (["\t".join(row.split(",")) for row in ROWS], "utf-8-sig"),
    "other order, capitals, more columns, empty lines": (
        ["Label,who,End,Start,File", "wave,me,1.25,0.5,long.mp4", "", " , , , ,", "Clap Hands,,0.5,0,sub/at24.mp4"],
        "utf-8",
    ),
    "clock times, spaces": (
        ["file,start,end,label", " long.mp4 , 0:00.5 , 0:0:1.25 ,wave", "sub/at24.mp4,0:00:00,.5,Clap Hands"],
        "utf-8",
    ),
    "quotes": (['"file","start","end","label"', '"long.mp4","0.5","1.25","wave"', *ROWS[2:]], "utf-8"),
    "Windows": (["file,start,end,label\r", "long.mp4,0.5,1.25,wave\r", "sub\\at24.mp4,0,0.5,Clap Hands\r"], "utf-8"),
}


@pytest.mark.parametrize("form", TABLES)
def test_forms_of_tables(films: Path, form: str) -> None:
    lines, encoding = TABLES[form]
    assert spans(load_segments(write(films / "s.csv", *lines, encoding=encoding))) == EXPECTED


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "expected a header with the columns file, start, end, label; the first line is nothing"),
        (
            ["long.mp4,0.5,1.25,wave"],
            "with the columns file, start, end, label; the first line is 'long.mp4,0.5,1.25,w",
        ),
        (["file,begin,end,label", "long.mp4,0,1,wave"], "the first line is 'file,begin,end,label'"),
        (["file,start,end,label"], "no segments"),
        (
            ["file,start,end,label", "long.mp4,1.5,0.5,wave"],
            "s.csv, line 2: the segment from 1.5 to 0.5 s; expected 0 <=",
        ),
        (["file,start,end,label", "long.mp4,1,1,wave"], "line 2: the segment from 1 to 1 s"),
        (["file,start,end,label", "long.mp4,-1,1,wave"], "line 2: '-1' is not a time; expected seconds like 12.5"),
        (
            ["file,start,end,label", "", "long.mp4,1,3,wave"],
            "line 3: .* lies beyond the end of .*long.mp4 .2 s.; correct",
        ),
        (
            ["file,start,end,label", "long.mp4,2.1,2.2,wave"],
            "line 2: the segment from 2.1 to 2.2 s lies beyond the end",
        ),
        (["file,start,end,label", "long.mp4,nan,1,wave"], "line 2: 'nan' is not a time"),
        (["file,start,end,label", "long.mp4,1e999,2,wave"], "line 2: '1e999' is not a time"),
        (["file,start,end,label", 'long.mp4,"0,5",2,wave'], "line 2: '0,5' is not a time"),
        (
            ["file,start,end,label", "long.mp4,0,1"],
            "line 2: the column label is empty; give a value, or delete the line",
        ),
        (["file,start,end,label", ",0,1,wave"], "line 2: the column file is empty"),
        (
            ["file,start,end,label", "lnog.mp4,0,1,wave"],
            "line 2: no such video: lnog.mp4; expected it at .*films/lnog.mp4",
        ),
        (
            ["file,start,end,label", "s.csv,0,1,wave"],
            "line 2: .*s.csv is not a video; name the video that was labelled",
        ),
        (["file,start,end,label", "frames,0,1,wave"], "line 2: .*frames is a folder of frames, which has no times"),
        (
            ["file,start,end,label", "long.mp4,0,1,wave", "long.mp4,1,2,Wave"],
            "classes 'Wave' and 'wave' differ in case",
        ),
        (
            ["file,start,end,label", "a.avi,0,1,wave", "a.mp4,0,1,wave"],
            "line 3: .*a.avi and .*a.mp4 differ only in the suffix",
        ),
    ],
)
def test_tables_that_do_not_fit(films: Path, lines: list[str], message: str) -> None:
    from PIL import Image

    (films / "frames").mkdir()
    Image.new("RGB", (64, 48)).save(films / "frames" / "1.jpg")
    for name in ("a.avi", "a.mp4"):
        (films / name).symlink_to(films / "long.mp4")
    with pytest.raises(ValueError, match=message):
        load_segments(write(films / "s.csv", *lines))


def test_another_encoding_is_told(films: Path) -> None:
    for encoding in ("utf-16", "latin-1"):
        with pytest.raises(ValueError, match="s.csv: not UTF-8 text; save it as UTF-8"):
            load_segments(write(films / "s.csv", *ROWS[:2], "long.mp4,0,1,gähnen", encoding=encoding))


def test_files_that_are_not_there_or_of_another_kind(films: Path) -> None:
    with pytest.raises(ValueError, match="none.csv: no such file; check the name"):
        load_data(films / "none.csv")
    with pytest.raises(ValueError, match="long.mp4: not a segment file; expected one of .csv, .tsv, .eaf, .json"):
        load_segments(films / "long.mp4")
    table = write(films / "s.csv", *ROWS)
    for option in ("tier=x", "fps=24"):
        with pytest.raises(ValueError, match=f"s.csv: `{option[:3]}.*` is an option of .* files; leave it out"):
            load_data(f"{table}:{option}")
    for rate in ("0", "fast", "nan", "-3"):
        with pytest.raises(ValueError, match=f"fps is '{rate}'; expected frames per second"):
            load_data(f"{films}/x.json:fps={rate}")


def test_videos_are_found_below_the_folder_by_their_name(films: Path, tmp_path: Path) -> None:
    lines = ["file,start,end,label", r"C:\Users\me\at24.mp4,0,0.5,clap", f"{films}/long.mp4,0,1,wave"]
    assert [video.id for video in load_segments(write(films / "s.csv", *lines)).videos] == [
        "clap/sub/at24@0-0.5",
        "wave/long@0-1",
    ]
    elsewhere = write(tmp_path / "s.csv", "file,start,end,label", "at24.mp4,0,0.5,clap")
    assert [video.id for video in load_segments(elsewhere).videos] == ["clap/films/sub/at24@0-0.5"]
    (films / "other").mkdir()
    (films / "other" / "at24.mp4").symlink_to(films / "long.mp4")
    with pytest.raises(ValueError, match=r"s.csv, line 2: 2 files are called at24.mp4 \(.*\); give the path of one"):
        load_segments(write(films / "s.csv", *lines))


def test_segments_that_repeat_or_share_frames_are_told(films: Path) -> None:
    lines = ["file,start,end,label", "long.mp4,0,1,wave", "long.mp4,0.0001,1.0,wave", "long.mp4,0.5,1.5,wave"]
    dataset = load_segments(write(films / "s.csv", *lines, "long.mp4,0.5,1.5,clap", "long.mp4,1.5,2,wave"))
    assert len(dataset.videos) == 4
    assert dataset.notes == (
        "ignored 1 repeated segments",
        "1 segments share frames with another one of their class, which raises accuracy: "
        "wave/long@0-1 and wave/long@0.5-1.5",
    )


def test_labels_csv_beside_the_table_gives_words_and_splits(films: Path) -> None:
    table = write(films / "segments.csv", *ROWS, "long.mp4,1.5,2,open/close")
    write(films / "labels.csv", "label,split", "wave,train", "Clap Hands,test", "open-close,")
    dataset = load_segments(table)
    assert dataset.splits == {"wave": "train", "Clap Hands": "test"}
    assert dataset.split("train").classes == ("wave",) and dataset.texts["open-close"] == "open/close"
    write(films / "labels.csv", "folder,label,split", "wave,waving a hand,val")
    assert load_segments(table).texts["wave"] == "waving a hand"
    write(films / "labels.csv", "label,split", "wvae,train")
    with pytest.raises(ValueError, match="labels.csv, line 2: unknown folder 'wvae'; did you mean 'wave'"):
        load_segments(table)


def test_a_folder_with_a_table_is_read_as_segments(films: Path) -> None:
    write(films / "segments.csv", *ROWS)
    dataset = load_data(films)
    assert spans(dataset) == EXPECTED and dataset.name == "films"
    assert dataset.notes == (f"{films}: read as segments: segments.csv",)


def test_a_broken_video_is_for_its_reader_to_tell(films: Path) -> None:
    (films / "broken.mp4").write_text("no video")
    assert len(load_segments(write(films / "s.csv", "file,start,end,label", "broken.mp4,0,1,wave")).videos) == 1


@pytest.mark.parametrize(
    ("text", "value"), [("12.5", 12.5), ("1:02", 62), ("1:03:07.25", 3787.25), ("0", 0), (".5", 0.5), ("1e2", 100)]
)
def test_times(text: str, value: float) -> None:
    assert seconds(text, "here") == value


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2:3:4", "1.2.3", "inf", "1 s", "٣"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="here: .* is not a time"):
        seconds(text, "here")
