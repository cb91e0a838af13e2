"""BORIS: aggregated and tabular events, of old and new versions."""

from pathlib import Path

import pytest

from fsar.datasets import load_data, load_segments

OLD = (
    "Observation id,Observation date,Description,Media file,Total length,FPS,Subject,Behavior,Behavioral category,"
    "Modifiers,Behavior type,Start (s),Stop (s),Duration (s),Comment start,Comment stop"
)
NEW = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,"
    "Media duration (s),FPS (frame/s),Subject,Observation duration by subject by observation,Behavior,"
    "Behavioral category,Behavior type,Start (s),Stop (s),Duration (s),Media file name,Image index start,"
    "Image index stop,Image file path start,Image file path stop,Comment start,Comment stop"
)
TABULAR = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Media duration (s),"
    "FPS (frame/s),Subject,Behavior,Behavioral category,Behavior type,Time,Media file name,Image index,Comment"
)


def old(behavior: str, kind: str, start: str, stop: str, media: str = "T:/my videos/long.mp4") -> str:
    return f"obs1,2021-12-06 13:26:24,,{media},2.0,10.0,No focal subject,{behavior},,,{kind},{start},{stop},,,"


def new(
    behavior: str, kind: str, start: str, stop: str, source: str = "player #1:long.mp4", offset: str = "0.0"
) -> str:
    name = source.rpartition(":")[2]
    return (
        f"obs1,2024-01-15,,MEDIA,{source},{offset},2.0,2.0,10.0,A,2.0,{behavior},,{kind},{start},{stop},,{name},,,,,,"
    )


def event(behavior: str, kind: str, time: str, subject: str = "A") -> str:
    return f"obs1,2024-01-15,,MEDIA,1:long.mp4,0,2.0,10.0,{subject},{behavior},,{kind},{time},long.mp4,,"


def write(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


EXPECTED = ["wave/long@0.5-1.25", "clap/long@1.25-2"]
TABLES = {
    "aggregated, version 7": [OLD, old("wave", "STATE", "0.500", "1.250"), old("clap", "STATE", "1.250", "2")],
    "aggregated, version 8": [NEW, new("wave", "STATE", "0.5", "1.25"), new("clap", "STATE", "1.25", "2.0")],
    "clock times": [NEW, new("wave", "STATE", "00:00:00.500", "00:00:01.250"), new("clap", "STATE", "1.25", "2.0")],
    "tabular": [
        TABULAR,
        event("wave", "START", "0.5"),
        event("wave", "STOP", "1.25"),
        event("clap", "START", "1.25"),
        event("clap", "STOP", "2"),
    ],
    "tabular, version 7": [
        "Observation id,obs1",
        "",
        "Media file(s)",
        "Player #1,T:/long.mp4",
        "",
        "Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status",
        "0.5,T:/long.mp4,2.0,10,,wave,,,START",
        "1.25,T:/long.mp4,2.0,10,,wave,,,STOP",
        "1.25,T:/long.mp4,2.0,10,,clap,,,START",
        "2.0,T:/long.mp4,2.0,10,,clap,,,STOP",
    ],
}


@pytest.mark.parametrize("form", TABLES)
def test_state_events_are_segments(films: Path, form: str) -> None:
    dataset = load_data(write(films / "events.csv", *TABLES[form]))
    assert [video.id for video in dataset.videos] == EXPECTED and dataset.notes == ()
    tabs = write(films / "events.tsv", *(line.replace(",", "\t") for line in TABLES[form]))
    assert [video.id for video in load_data(tabs).videos] == EXPECTED


def test_events_may_overlap(films: Path) -> None:
    lines = [
        event("wave", "START", "0.5"),
        event("clap", "START", "0.6"),
        event("wave", "START", "0.7", "B"),
        event("clap", "STOP", "0.9"),
        event("wave", "STOP", "1.0", "B"),
        event("wave", "STOP", "1.2"),
    ]
    dataset = load_segments(write(films / "events.csv", TABULAR, *lines))
    assert [video.id for video in dataset.videos] == ["clap/long@0.6-0.9", "wave/long@0.7-1", "wave/long@0.5-1.2"]
    (note,) = dataset.notes
    assert note.startswith("1 segments share frames")


def test_point_events_are_ignored_and_counted(films: Path) -> None:
    lines = [OLD, old("wave", "STATE", "0.5", "1.25"), old("blink", "POINT", "1.0", "1.0")]
    file = write(films / "events.csv", *lines)
    assert load_segments(file).notes == (f"{file}: ignored 1 point events, which have no duration",)
    tabular = write(films / "t.csv", TABULAR, event("blink", "POINT", "1"), *TABLES["tabular"][1:])
    assert len(load_segments(tabular).videos) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [TABULAR, event("wave", "START", "0.5")],
            "events.csv, line 2: wave has no end; add it in BORIS",
        ),
        ([TABULAR, event("wave", "STOP", "0.5")], "line 2: wave has a STOP that fits no other row"),
        (
            [TABULAR, event("wave", "START", "0.5"), event("wave", "START", "1")],
            "line 3: wave has a START that fits no",
        ),
        ([NEW, new("wave", "STATE", "0.5", "1", offset="3.5")], "line 2: .* has a time offset of 3.5 s; set it to 0"),
        (
            [NEW, new("wave", "STATE", "0.5", "1", "1:long.mp4|1:at24.mp4")],
            "line 2: .* has 2 videos .long.mp4, at24.mp4.",
        ),
        ([NEW, new("wave", "STATE", "0.5", "1").replace("MEDIA", "LIVE")], "line 2: its observation has no video"),
        ([OLD, old("wave", "STATE", "0.5", "1", "")], "line 2: its observation has no video"),
        ([OLD, old("wave", "STATE", "0.5", "NA")], "line 2: 'NA' is not a time"),
        ([OLD, old("", "STATE", "0.5", "1")], "line 2: the segment has no label"),
        ([OLD], "events.csv: no segments"),
    ],
)
def test_tables_that_cannot_be_segments(films: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_segments(write(films / "events.csv", *lines))
