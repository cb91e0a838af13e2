"""Label Studio: JSON and JSON-MIN, frames and seconds, and which video a task names."""

import json
from pathlib import Path
from typing import Any

import pytest

from fsar.datasets import load_data, load_segments


def timeline(label: str, start: int, end: int) -> dict[str, Any]:
    """A region of timeline labels: frames from `start` to `end`, counted from 1."""
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": [label]}
    return {
        "id": "x",
        "type": "timelinelabels",
        "from_name": "label",
        "to_name": "video",
        "origin": "manual",
        "value": value,
    }


def sound(label: str, start: float, end: float) -> dict[str, Any]:
    """A region of labels on a video's sound, in seconds."""
    return {"id": "y", "type": "labels", "value": {"start": start, "end": end, "channel": 0, "labels": [label]}}


def task(*regions: dict[str, Any], video: str = "/data/upload/3/3d3ad63e-at24.mp4", **data: Any) -> dict[str, Any]:
    annotation = {"id": 5, "was_cancelled": False, "ground_truth": False, "result": list(regions)}
    return {"id": 7, "annotations": [annotation], "predictions": [], "data": {"video": video, **data}}


def export(folder: Path, *tasks: Any) -> Path:
    (folder / "export.json").write_text(json.dumps(list(tasks)))
    return folder / "export.json"


WAVE = timeline("wave", 5, 12)  # at 24 frames per second: the frames that begin from 4/24 to before 12/24 seconds


def test_timeline_labels_are_segments(films: Path) -> None:
    dataset = load_data(export(films, task(WAVE, timeline("clap", 13, 20))))
    assert [(video.id, *video.span) for video in dataset.videos] == [
        ("wave/sub/at24@0.167-0.5", 0.167, 0.5),
        ("clap/sub/at24@0.5-0.833", 0.5, 0.833),
    ]
    assert dataset.name == "export" and dataset.notes == ()


def test_the_frames_are_those_that_were_labelled(films: Path) -> None:
    from fsar.video import read_frames
    from tests.video.test_reading import index_of

    (video,) = load_segments(export(films, task(WAVE))).videos
    assert index_of(read_frames(video.path, None, start=video.start, end=video.end)) == list(range(4, 12))


def test_json_min(films: Path) -> None:
    labels = [WAVE["value"] | {"duration": None}]
    dataset = load_segments(
        export(films, {"video": "/data/upload/at24.mp4", "id": 1, "videoLabels": labels, "lead_time": 3.2})
    )
    assert [video.id for video in dataset.videos] == ["wave/sub/at24@0.167-0.5"]


def test_labels_on_the_sound_hold_seconds(films: Path) -> None:
    dataset = load_segments(export(films, task(sound("wave", 0.25, 1.5), video="s3://bucket/long.mp4?x=1")))
    assert [video.id for video in dataset.videos] == ["wave/long@0.25-1.5"]


@pytest.mark.parametrize(
    "video",
    [
        "/data/upload/3/3d3ad63e-at24.mp4",
        "/data/local-files/?d=sub/at24.mp4",
        "/data/local-files/?d=home%2Fme%2Fat24.mp4",
        "https://example.org/films/at24.mp4",
        "sub/at24.mp4",
    ],
)
def test_the_video_of_a_task(films: Path, video: str) -> None:
    assert load_segments(export(films, task(WAVE, video=video))).videos[0].path == films / "sub" / "at24.mp4"
    by_another_key = task(WAVE, video="", title="no video", clip=video)
    assert load_segments(export(films, by_another_key)).videos[0].path == films / "sub" / "at24.mp4"


def test_frames_need_the_frame_rate_of_the_project(films: Path) -> None:
    file = export(films, task(timeline("wave", 6, 10), video="long.mp4"))
    message = "task 7: .*the video has 10 frames per second, and Label Studio takes 24 .*export.json:fps=24"
    with pytest.raises(ValueError, match=message):
        load_data(file)
    assert load_data(f"{file}:fps=10").videos[0].span == (0.5, 1.0)
    for key in ("fps", "frameRate"):
        told = export(films, task(timeline("wave", 6, 10), video="long.mp4", **{key: 10}))
        assert load_data(told).videos[0].span == (0.5, 1.0)


def test_of_several_annotations_one_is_taken(films: Path) -> None:
    both = task(WAVE)
    both["annotations"].append({"id": 6, "result": [timeline("clap", 5, 12)]})
    file = export(films, both)
    dataset = load_segments(file)
    assert [video.label for video in dataset.videos] == ["wave"]
    assert dataset.notes == (f"{file}, task 7: it has 2 annotations; one is used",)
    both["annotations"][1]["ground_truth"] = True
    assert [video.label for video in load_segments(export(films, both)).videos] == ["clap"]
    both["annotations"][1]["was_cancelled"] = True
    assert load_segments(export(films, both)).notes == ()


def test_other_regions_are_ignored_and_counted(films: Path) -> None:
    box = {"type": "videorectangle", "value": {"framesCount": 20, "sequence": [], "labels": ["hand"]}}
    file = export(
        films, task(WAVE, box, {"type": "choices", "value": {"choices": ["good"]}}), {"id": 8, "annotations": []}
    )
    dataset = load_segments(file)
    assert len(dataset.videos) == 1
    assert dataset.notes == (f"{file}: ignored 2 regions that are no labelled parts of a video",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "export.json: not JSON"),
        ("7", "not an export of Label Studio; expected a list of tasks"),
        ("[7]", "not an export of Label Studio"),
        ("[]", "no segments"),
        ("[" * 100_000, "not JSON"),
        (json.dumps([task(WAVE, video="at24.wav")]), "task 7: no video in its data; add one"),
        (json.dumps([task(WAVE, video="gone.mp4")]), "task 7: no such video: gone.mp4"),
        (
            json.dumps([task(timeline("wave", 12, 5))]),
            r"task 7: the segment from 0.458333 to 0.208333 s; expected 0 <=",
        ),
        (json.dumps([task(timeline("wave", 1, 999))]), "task 7: .* lies beyond the end of"),
        (json.dumps([task(timeline(" ", 1, 5))]), "task 7: the segment has no label"),
        (
            json.dumps([task({"value": {"ranges": [{"start": 1}], "timelinelabels": ["x"]}})]),
            "not in the form of Label Studio .KeyError",
        ),
        (
            json.dumps([task({"value": {"start": "x", "end": 2, "labels": ["x"]}})]),
            "not in the form of Label Studio .ValueError",
        ),
    ],
)
def test_exports_that_cannot_be_segments(films: Path, content: str, message: str) -> None:
    (films / "export.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_segments(films / "export.json")
