"""Segments from Label Studio: the JSON or JSON-MIN export of a project that labels parts of videos.

- Timeline labels hold frame numbers, starting at 1, at the frame rate of the project's `Video` tag (24 by default). The
  export does not contain this rate. It comes from the `fps` of the task, or else from the argument `fps`. Without both,
  the videos must have 24 frames per second.
- Labels on the sound of a video hold seconds.

If a task has several annotations, the ground truth is used, or else the first that was not cancelled.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fsar.datasets.segments.table import Row, Segments, read_text
from fsar.video.kinds import VIDEO_SUFFIXES
from fsar.video.paths import display

DEFAULT_FPS = 24.0
"""Default of Label Studio's `Video` tag."""
_RATES = ("fps", "frameRate", "framerate", "frame_rate")


class FrameRow(Row):
    """A segment whose times are frames at the unknown frame rate of a project."""


def read_label_studio(file: Path, fps: float | None = None) -> Segments:
    """Read a Label Studio export.

    Args:
        file: the JSON file.
        fps: frame rate of the project's `Video` tag.

    Returns:
        The segments. If the frame rate is unknown, rows are of the class `FrameRow`, at 24 frames per second.

    Raises:
        ValueError: not such an export, or a task without a video.
    """
    shown, text = display(file), read_text(file)
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown}: not JSON ({error}); export the project again") from error
    tasks = [tasks] if isinstance(tasks, dict) else tasks
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError(f"{shown}: not an export of Label Studio; expected a list of tasks")
    rows: list[Row] = []
    notes: list[str] = []
    strange = 0
    for number, task in enumerate(tasks, start=1):
        place = f"{shown}, task {task.get('id', number)}"
        regions, note = _regions(task)
        notes += [f"{place}: {note}"] if note else []
        for region in regions:
            found = list(_rows(region, task, place, fps))
            strange += not found
            rows += found
    if strange:
        notes.append(f"{shown}: ignored {strange} regions that are no labelled parts of a video")
    return Segments(rows, notes)


def _regions(task: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Return the labelled parts of a task, and a note if other annotations were left out."""
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list):  # JSON-MIN: each control tag is a key
        lists = (value for value in task.values() if isinstance(value, list))
        return [item for items in lists for item in items if isinstance(item, dict)], ""
    valid = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    if not valid:
        return [], ""
    chosen = next((a for a in valid if a.get("ground_truth")), valid[0])
    regions = [region for region in chosen.get("result") or () if isinstance(region, dict)]
    return regions, f"it has {len(valid)} annotations; one is used" if len(valid) > 1 else ""


def _rows(region: dict[str, Any], task: dict[str, Any], place: str, fps: float | None) -> Iterator[Row]:
    """Return the segments of a region, one per label; none if it is no labelled part of a video."""
    value = region.get("value", region)
    data = task["data"] if isinstance(task.get("data"), dict) else task
    kind: type[Row] = Row
    try:
        if isinstance(value.get("ranges"), list) and value.get("timelinelabels"):
            given = next((data[key] for key in _RATES if data.get(key)), fps)
            kind, rate = (FrameRow, DEFAULT_FPS) if given is None else (Row, float(given))
            labels = value["timelinelabels"]
            times = [((float(part["start"]) - 1) / rate, float(part["end"]) / rate) for part in value["ranges"]]
        elif value.get("labels") and "start" in value and "end" in value:
            labels, times = value["labels"], [(float(value["start"]), float(value["end"]))]
        else:
            return
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{place}: a region that is not in the form of Label Studio ({error!r}); export again"
        ) from error
    video = _video(data, task, place)
    yield from (kind(place, video, start, end, str(label).strip()) for start, end in times for label in labels)


def _video(data: dict[str, Any], task: dict[str, Any], place: str) -> str:
    """Return the name of a task's video: of an upload, a local file, or an address."""
    values = [data.get("video"), *data.values(), task.get("file_upload")]
    for value in values:
        if not isinstance(value, str):
            continue
        address = urlsplit(value)
        inner = parse_qs(address.query).get("d", [""])[0]  # /data/local-files/?d=videos/a.mp4
        name = inner or unquote(address.path)
        if Path(name).suffix.lower() in VIDEO_SUFFIXES:
            return name
    raise ValueError(f"{place}: no video in its data; add one, and export again")
