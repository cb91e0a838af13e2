"""Rows of a segment file -> dataset: find the videos, check the times, name the segments."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from fsar.datasets.base import Video, VideoDataset
from fsar.datasets.folder import is_video, read_labels, refuse_clashes
from fsar.datasets.segments.boris import is_boris, read_boris
from fsar.datasets.segments.elan import read_eaf
from fsar.datasets.segments.label_studio import DEFAULT_FPS, FrameRow, read_label_studio
from fsar.datasets.segments.table import Row, Segments, read_segments_csv, read_text
from fsar.progress import progress_bar
from fsar.text.words import class_text
from fsar.video.kinds import is_hidden
from fsar.video.paths import VideoError, as_path, display
from fsar.video.reading import VideoInfo, probe

SUFFIXES = (".csv", ".tsv", ".eaf", ".json")
TABLE = "segments.csv"
_LATE = 0.5  # seconds; a segment may end so much after the last picture, since the sound may be longer
_HEAD = 100_000  # the first characters tell the kind of a table
_NAMED = 3
_MANY = 20  # show a progress bar for at least so many videos


def is_segments(path: Path) -> bool:
    """Tell whether a path is a segment file, or a folder with a `segments.csv` or ELAN files.

    Examples:
        >>> is_segments(Path("talks.eaf")), is_segments(Path("talks.mp4"))
        (True, False)
    """
    return path.suffix.lower() in SUFFIXES if not path.is_dir() else bool(_files(path))


def split_options(data: str | Path) -> tuple[Path, dict[str, Any]]:
    """Split the argument of `--data` into a path and the option after it.

    Raises:
        ValueError: the frame rate is not a number, or the path is a URL.

    Examples:
        >>> split_options("talks.eaf:tier=Right hand")[1], split_options("export.json:fps=30")[1]
        ({'tier': 'Right hand'}, {'fps': 30.0})
    """
    match = re.fullmatch(r"(.+?):(tier|fps)=(.+)", str(data))
    if match is None:
        return as_path(data), {}
    path, option, value = match.groups()
    if option == "tier":
        return Path(path), {"tier": value}
    rate = float(value) if re.fullmatch(r"\d*\.?\d+", value) else 0.0
    if rate == 0:
        raise ValueError(f"{data}: fps is {value!r}; expected frames per second, like 24 or 29.97")
    return Path(path), {"fps": rate}


def load_segments(
    path: Path,
    tier: str | None = None,
    fps: float | None = None,
    name: str | None = None,
    progress: bool = True,
) -> VideoDataset:
    """Read segments of long videos into a dataset; each segment is a video like any other.

    Args:
        path: a file of segments, or a folder with a `segments.csv` or ELAN files (see `fsar.datasets.segments`).
        tier: tier of the ELAN files whose annotations are the classes; needed if several tiers hold annotations.
        fps: frame rate of the Label Studio project; not needed if it is 24, or if the tasks contain it.
        name: of the dataset; by default the file's.
        progress: show a progress bar while many videos are measured.

    Returns:
        The dataset. Its `notes` describe what was ignored, and which segments share frames.

    Raises:
        ValueError: the file cannot be read, or a segment has no video, ends before its start or after its video, or
            has no label. The message names file and line.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from fsar.video import write_video
        >>> with TemporaryDirectory() as folder:
        ...     write_video(Path(folder, "long.mp4"), np.zeros((30, 48, 64, 3), np.uint8), fps=10)
        ...     table = Path(folder, "segments.csv")
        ...     _ = table.write_text("file,start,end,label\\nlong.mp4,0.5,1.2,wave\\nlong.mp4,1.2,3,clap\\n")
        ...     dataset = load_segments(table)
        >>> [video.id for video in dataset.videos]
        ['wave/long@0.5-1.2', 'clap/long@1.2-3']
    """
    files = _files(path) if path.is_dir() else [path]
    read = [_read(file, tier, fps) for file in files]
    rows = [(file, row) for file, segments in zip(files, read, strict=True) for row in segments.rows]
    notes = [note for segments in read for note in segments.notes]
    if path.is_dir():
        notes.append(
            f"{display(path)}: read as segments: {', '.join(file.name for file in files[:_NAMED])}"
            + (", ..." if len(files) > _NAMED else "")
        )
    if not rows:
        raise ValueError(f"{display(path)}: no segments{''.join(f'; {note}' for note in notes)}")
    videos: dict[str, Video] = {}
    texts: dict[str, str] = {}
    finders = {file.parent: _Finder(file.parent) for file in files}
    measured = _Measured()
    repeated = 0
    shows = progress and len({row.file for _, row in rows}) >= _MANY
    for file, row in progress_bar(rows, "measure", "segment", len(rows), shows):
        video = _video(row, finders[file.parent], measured)
        other = videos.setdefault(video.id, video)
        if other.path != video.path:
            raise ValueError(
                f"{row.place}: {display(other.path)} and {display(video.path)} differ only in the suffix; "
                f"rename one of them"
            )
        repeated += other is not video
        texts.setdefault(video.label, class_text(row.label))
    if repeated:
        notes.append(f"ignored {repeated} repeated segments")
    notes += _overlaps(list(videos.values()))
    refuse_clashes(sorted(texts), path)
    splits: dict[str, str] = {}
    labels = (path if path.is_dir() else path.parent) / "labels.csv"
    if labels.is_file():
        read_labels(labels, sorted(texts), texts, splits)
    stem = path.resolve().name if path.is_dir() else path.stem
    return VideoDataset(name or stem, tuple(videos.values()), texts, splits, notes=tuple(notes))


def _files(folder: Path) -> list[Path]:
    """Return the segment files of a folder: its `segments.csv`, or else its ELAN files."""
    if (folder / TABLE).is_file():
        return [folder / TABLE]
    return sorted(path for path in folder.glob("*.[eE][aA][fF]") if not is_hidden(path.name))


def _read(file: Path, tier: str | None, fps: float | None) -> Segments:
    """Read a file by its kind; refuse an option that this kind does not have."""
    suffix = file.suffix.lower()
    for option, given, kind in (("tier", tier, ".eaf"), ("fps", fps, ".json")):
        if given is not None and suffix != kind:
            raise ValueError(f"{display(file)}: `{option}` is an option of {kind} files; leave it out")
    if not file.is_file():
        raise ValueError(f"{display(file)}: no such file; check the name")
    if suffix == ".eaf":
        return read_eaf(file, tier)
    if suffix == ".json":
        return read_label_studio(file, fps)
    if suffix not in SUFFIXES:
        raise ValueError(f"{display(file)}: not a segment file; expected one of {', '.join(SUFFIXES)}")
    return read_boris(file) if is_boris(read_text(file)[:_HEAD]) else read_segments_csv(file)


def _video(row: Row, finder: "_Finder", measured: "_Measured") -> Video:
    """Find a segment's video, check its times, and name it.

    Raises:
        ValueError: no such video, or the segment is not inside it.
    """
    path = finder.find(row)
    start, end = row.start, row.end
    info = measured.info(path)
    if isinstance(row, FrameRow) and info and abs((info.fps or 0) - DEFAULT_FPS) > 0.01:
        raise ValueError(
            f"{row.place}: its times are frames at the frame rate of the project, which the export does not say; the "
            f"video has {info.fps or 0:g} frames per second, and Label Studio takes {DEFAULT_FPS:g} unless the project "
            f"sets frameRate. Say which, as in --data export.json:fps={DEFAULT_FPS:g}"
        )
    if not 0 <= start < end:
        raise ValueError(f"{row.place}: the segment from {start:g} to {end:g} s; expected 0 <= start < end")
    if info and info.duration is None:
        raise ValueError(f"{row.place}: {display(path)} is a folder of frames, which has no times; give the video file")
    if info and info.duration is not None and (start >= info.duration or end > info.duration + _LATE):
        raise ValueError(
            f"{row.place}: the segment from {start:g} to {end:g} s lies beyond the end of {display(path)} "
            f"({info.duration:g} s); correct the segment"
        )
    if not row.label:
        raise ValueError(f"{row.place}: the segment has no label; give its class")
    label = row.label.replace("/", "-")
    start, end = round(start, 3), round(end, 3)
    name = finder.name(path)
    return Video(f"{label}/{name}@{_plain(start)}-{_plain(end)}", path, label, start, end, row.group or name)


def _plain(time: float) -> str:
    """Write seconds, rounded to milliseconds, without zeros at the end: `12.5`."""
    return f"{time:.3f}".rstrip("0").rstrip(".")


class _Finder:
    """Finds the videos of a segment file.

    Args:
        base: the folder of the segment file.
    """

    def __init__(self, base: Path):
        self.base = base
        self.known: dict[str, Path] = {}

    def find(self, row: Row) -> Path:
        """Find the video of a row: at its path, absolute or from the folder of the file; or by name below that folder.

        Raises:
            ValueError: no such file, several files with this name, or not a video.
        """
        if row.file not in self.known:
            self.known[row.file] = self._find(row)
        return self.known[row.file]

    def _find(self, row: Row) -> Path:
        named = re.sub(r"^file:(//)?", "", row.file.replace("\\", "/"))
        listed = PurePosixPath(named)
        # Label Studio puts eight digits before the name of an upload
        names = dict.fromkeys([listed.name, re.sub(r"^[0-9a-f]{8}-", "", listed.name)])
        places = [self.base / named, *(self.base / name for name in names)]
        found = [path for path in places if path.exists()][:1]
        for name in names:
            found = found or self._below.get(name, [])
        if len(found) > 1:
            told = ", ".join(display(path) for path in found[:_NAMED])
            raise ValueError(f"{row.place}: {len(found)} files are called {listed.name} ({told}); give the path of one")
        if not found:
            raise ValueError(
                f"{row.place}: no such video: {row.file}; expected it at {display(places[0])}, or anywhere below "
                f"{display(self.base)}"
            )
        if not is_video(found[0]):
            raise ValueError(f"{row.place}: {display(found[0])} is not a video; name the video that was labelled")
        return found[0]

    @cached_property
    def _below(self) -> dict[str, list[Path]]:
        """Name -> the files with this name below the folder."""
        found: dict[str, list[Path]] = defaultdict(list)
        for folder, subfolders, files in os.walk(self.base):
            subfolders[:] = sorted(name for name in subfolders if not is_hidden(name))
            for name in sorted(files):
                found[name].append(Path(folder, name))
        return found

    def name(self, path: Path) -> str:
        """Return a video's name for ids: its path from the folder of the segment file, without suffix."""
        inside = path.relative_to(self.base) if path.is_relative_to(self.base) else Path(path.name)
        return inside.with_suffix("").as_posix()


class _Measured:
    """Frame rates and durations; each video is measured once."""

    def __init__(self) -> None:
        self.known: dict[Path, VideoInfo | None] = {}

    def info(self, path: Path) -> VideoInfo | None:
        """Measure a video; None for a broken one (reading it later raises an error)."""
        if path not in self.known:
            try:
                self.known[path] = probe(path)
            except VideoError:
                self.known[path] = None
        return self.known[path]


def _overlaps(videos: Sequence[Video]) -> Iterator[str]:
    """Name the segments that share frames with the previous one of their class."""
    key: Callable[[Video], tuple] = lambda v: (v.label, v.path, v.start, v.end)  # noqa: E731
    ordered = sorted(videos, key=key)
    shared = [
        f"{one.id} and {other.id}"
        for one, other in pairwise(ordered)
        if one.label == other.label and one.path == other.path and (other.start or 0) < (one.end or 0)
    ]
    if shared:
        told = ", ".join(shared[:_NAMED]) + (", ..." if len(shared) > _NAMED else "")
        yield f"{len(shared)} segments share frames with another one of their class, which raises accuracy: {told}"
