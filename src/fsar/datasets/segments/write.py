"""Segments -> text: tables and JSON, subtitles, and the files of ELAN, BORIS and Label Studio.

| format | what | read back by |
|---|---|---|
| `csv` | a `segments.csv` with the probability as last column | `--data`, `--examples` |
| `json` | a list of segments | `read_found` |
| `vtt`, `srt` | subtitles of one video: players show the action while it happens | - |
| `eaf` | ELAN, one video; the tier is called `actions` | `--data`, `--examples` |
| `boris` | BORIS, aggregated events (csv) | `--data`, `--examples` |
| `label-studio` | Label Studio, timeline labels at 24 frames per second | `--data`, `--examples` |
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

from fsar.datasets.segments.label_studio import DEFAULT_FPS
from fsar.datasets.segments.segment import Segment, clock
from fsar.datasets.segments.table import read_segments_csv, read_table, read_text
from fsar.video.paths import display
from fsar.video.picture import LARGEST_SHORT_SIDE
from fsar.video.reading import probe, stream_frames
from fsar.video.writing import write_video

COLUMNS = ("file", "start", "end", "label", "probability")
FPS = 25.0
"""Frames per second of a clip if those of the video are unknown."""
_MIME = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg"}


def in_order(segments: Iterable[Segment]) -> list[Segment]:
    """Sort segments by video and time."""
    return sorted(segments, key=lambda one: (one.video, one.start, one.end, one.action))


def to_csv(segments: Sequence[Segment]) -> str:
    """Write a `segments.csv`: seconds to the millisecond, and the probability.

    Example:
        >>> print(to_csv([Segment("a.mp4", 1.0, 2.5, "wave", 0.9)]), end="")
        file,start,end,label,probability
        a.mp4,1.000,2.500,wave,0.9000
    """
    rows = [
        (each.video, f"{each.start:.3f}", f"{each.end:.3f}", each.action, f"{each.probability:.4f}")
        for each in in_order(segments)
    ]
    return _table(COLUMNS, rows)


def to_json(segments: Sequence[Segment]) -> str:
    """Write a list, one segment a line.

    Example:
        >>> print(to_json([Segment("a.mp4", 1.0, 2.5, "wave", 0.9)]), end="")
        [{"video": "a.mp4", "start": 1.0, "end": 2.5, "action": "wave", "probability": 0.9}]
    """
    return "[" + ",\n".join(json.dumps(asdict(each)) for each in in_order(segments)) + "]\n"


def to_table(segments: Sequence[Segment]) -> str:
    """Write aligned columns for people.

    Example:
        >>> print(to_table([Segment("a.mp4", 1.0, 62.5, "wave", 0.9)]), end="")
        video  start  end     action  probability
        a.mp4  0:01.0 1:02.5  wave    90%
    """
    rows = [("video", "start", "end", "action", "probability")]
    rows += [
        (each.video, clock(each.start), clock(each.end), each.action, f"{each.probability:.0%}")
        for each in in_order(segments)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{video:{widths[0]}}  {start:{widths[1]}} {end:{widths[2]}}  {action:{widths[3]}}  {probability}"
        for video, start, end, action, probability in rows
    ]
    return "\n".join(lines) + "\n"


def to_vtt(segments: Sequence[Segment]) -> str:
    """Write subtitles in WebVTT, of one video.

    Example:
        >>> print(to_vtt([Segment("a.mp4", 1.0, 62.5, "<wave>", 0.9)]), end="")
        WEBVTT
        <BLANKLINE>
        00:00:01.000 --> 00:01:02.500
        &lt;wave&gt; 90%
    """
    plain = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "})
    cues = [f"{_times(each, '.')}\n{each.action.translate(plain)} {each.probability:.0%}\n" for each in segments]
    return "\n".join(["WEBVTT\n", *cues])


def to_srt(segments: Sequence[Segment]) -> str:
    """Write subtitles in SubRip, of one video.

    Example:
        >>> print(to_srt([Segment("a.mp4", 1.0, 2.5, "wave", 0.9)]), end="")
        1
        00:00:01,000 --> 00:00:02,500
        wave 90%
    """
    cues = [f"{i}\n{_times(each, ',')}\n{each.action} {each.probability:.0%}\n" for i, each in enumerate(segments, 1)]
    return "\n".join(cues)


def to_eaf(segments: Sequence[Segment], video: str | None = None) -> str:
    """Write an ELAN annotation file, of one video.

    Args:
        segments: of one video.
        video: its path; needed if there is no segment.
    """
    path = Path(video or segments[0].video)
    root = ElementTree.Element("ANNOTATION_DOCUMENT", AUTHOR="fsar", DATE="1970-01-01T00:00:00Z", FORMAT="3.0")
    root.set("VERSION", "3.0")
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    address = path.absolute().as_uri()
    mime = _MIME.get(path.suffix.lower(), f"video/{path.suffix.lower().lstrip('.') or 'mp4'}")
    media = {"MEDIA_URL": address, "RELATIVE_MEDIA_URL": f"./{path.name}", "MIME_TYPE": mime}
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    tier = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="default-lt", TIER_ID="actions")
    for i, each in enumerate(segments):
        slots = [f"ts{2 * i + 1}", f"ts{2 * i + 2}"]
        for slot, time in zip(slots, (each.start, each.end), strict=True):
            ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(round(1000 * time)))
        inner = ElementTree.SubElement(
            ElementTree.SubElement(tier, "ANNOTATION"),
            "ALIGNABLE_ANNOTATION",
            ANNOTATION_ID=f"a{i + 1}",
            TIME_SLOT_REF1=slots[0],
            TIME_SLOT_REF2=slots[1],
        )
        ElementTree.SubElement(inner, "ANNOTATION_VALUE").text = each.action
    kind = {"LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true", "GRAPHIC_REFERENCES": "false"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


def to_boris(segments: Sequence[Segment]) -> str:
    """Write aggregated events of BORIS.

    Example:
        >>> print(to_boris([Segment("a.mp4", 1.0, 2.5, "wave")]).splitlines()[1])
        a,a.mp4,a.mp4,fsar,wave,STATE,1.000,2.500,1.500
    """
    columns = ("Observation id", "Source", "Media file name", "Subject", "Behavior", "Behavior type")
    rows = [
        (Path(each.video).stem, each.video, each.video, "fsar", each.action, "STATE", *_seconds(each))
        for each in in_order(segments)
    ]
    return _table((*columns, "Start (s)", "Stop (s)", "Duration (s)"), rows)


def to_label_studio(segments: Sequence[Segment]) -> str:
    """Write tasks of Label Studio, one per video, with timeline labels as annotations that can be corrected.

    Label Studio counts frames, at the `frameRate` of the project's `Video` tag. The tasks use its default, 24.
    """
    tasks = []
    for video in dict.fromkeys(each.video for each in segments):
        result = [
            {
                "type": "timelinelabels",
                "from_name": "timelineLabels",
                "to_name": "video",
                "value": {"ranges": [_frames(each)], "timelinelabels": [each.action]},
                "score": each.probability,
            }
            for each in segments
            if each.video == video
        ]
        tasks.append({"data": {"video": video, "fps": DEFAULT_FPS}, "annotations": [{"result": result}]})
    return json.dumps(tasks, indent=1) + "\n"


FORMATS: dict[str, tuple[str, Callable[[Sequence[Segment]], str]]] = {
    "table": (".txt", to_table),
    "csv": (".csv", to_csv),
    "json": (".json", to_json),
    "vtt": (".vtt", to_vtt),
    "srt": (".srt", to_srt),
    "eaf": (".eaf", to_eaf),
    "boris": (".csv", to_boris),
    "label-studio": (".json", to_label_studio),
}
"""Name -> suffix of a file, and what gives its text."""
OF_ONE_VIDEO = ("vtt", "srt", "eaf")
"""Formats whose files are about one video."""


def cut(video: Path, segments: Sequence[Segment], folder: Path) -> list[Path]:
    """Cut segments out of a video, as FOLDER/ACTION/VIDEO_START-END.mp4; a clip that is there already stays.

    Args:
        video: a video file.
        segments: of it.
        folder: where to; it can be enrolled as it is.

    Returns:
        The clips.

    Raises:
        VideoError: the video cannot be read, or is a folder of frames.
        OSError: the folder cannot be written.
    """
    made = []
    fps = (probe(video).fps if segments else None) or FPS
    for each in segments:
        name = f"{video.stem}_{each.start:.2f}-{each.end:.2f}.mp4"
        path = folder / each.action.replace("/", "-") / name
        if not path.exists():
            write_video(path, stream_frames(video, LARGEST_SHORT_SIDE, each.start, each.end), fps)
        made.append(path)
    return made


def read_found(file: Path) -> list[Segment]:
    """Read segments with probabilities, as `to_csv` and `to_json` write them.

    Args:
        file: a csv or json file. A csv without the column `probability` counts as sure.

    Raises:
        ValueError: it cannot be read, or has another form.
    """
    if file.suffix.lower() == ".json":
        try:
            return [Segment(**each) for each in json.loads(read_text(file))]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{display(file)}: not segments that `fsar spot --format json` wrote ({error})") from error
    rows = read_segments_csv(file).rows
    raw = [row.get("probability") or "1" for _, row in read_table(file, ("file", "start", "end", "label")).rows]
    try:
        return [Segment(row.file, row.start, row.end, row.label, float(p)) for row, p in zip(rows, raw, strict=True)]
    except ValueError as error:
        raise ValueError(f"{display(file)}: a probability is no number ({error})") from error


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _seconds(segment: Segment) -> list[str]:
    return [f"{time:.3f}" for time in (segment.start, segment.end, segment.end - segment.start)]


def _times(segment: Segment, point: str) -> str:
    return " --> ".join(_long_clock(time, point) for time in (segment.start, segment.end))


def _long_clock(seconds: float, point: str) -> str:
    whole, thousandths = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{thousandths:03d}"


def _frames(segment: Segment) -> dict[str, int]:
    """First and last frame, counted from 1."""
    start = round(segment.start * DEFAULT_FPS)
    return {"start": start + 1, "end": max(start + 1, round(segment.end * DEFAULT_FPS))}
