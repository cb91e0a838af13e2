"""A folder of videos: one folder per class, and optionally `labels.csv` with their words and splits."""

import csv
from pathlib import Path

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.names import unknown
from fsar.text.prompts import class_text
from fsar.video.kinds import FRAME_SUFFIXES, VIDEO_SUFFIXES
from fsar.video.reading import display


def load_folder(root: Path, name: str | None = None) -> VideoDataset:
    """Read `root/class/video` into a dataset.

    A video is a file FFmpeg may read (by suffix) or a folder of frames. `labels.csv`, with the columns
    `folder`, `label` and optionally `split` (train, val, test, or empty), names the words of a class;
    without it the folder's name is read as words.

    Raises:
        ValueError: no such folder, nothing in it, two classes that differ in case only, two videos of a
            class that differ in suffix only, or a labels.csv that does not fit.
    """
    if not root.is_dir():
        raise ValueError(f"{display(root)}: no such folder; expected one folder per class in it")
    try:
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except PermissionError as error:
        raise ValueError(f"{display(root)}: no permission to read the folder; change its mode or owner") from error
    _refuse_clashes([folder.name for folder in folders], root)
    videos = [video for folder in folders for video in _videos_of(folder)]
    if not videos:
        raise ValueError(
            f"{display(root)}: no videos found; expected {display(root)}/CLASS/VIDEO with one folder per class "
            f"and files like .mp4, .avi, .webm or folders of .jpg frames"
        )
    classes = [folder.name for folder in folders]
    texts = {label: class_text(_printable(label)) for label in classes}
    splits: dict[str, str] = {}
    labels = root / "labels.csv"
    if labels.is_file():
        _read_labels(labels, classes, texts, splits)
    return VideoDataset(name or root.resolve().name, tuple(videos), texts, splits)


def _printable(name: str) -> str:
    return display(Path(name))


def _refuse_clashes(names: list[str], root: Path) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(
                f"{display(root)}: the classes {_printable(other)!r} and {_printable(name)!r} differ in case only, "
                f"and some systems hold them for one; rename or merge them"
            )


def _videos_of(folder: Path) -> list[Video]:
    try:
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except PermissionError as error:
        raise ValueError(f"{display(folder)}: no permission to read the folder; change its mode or owner") from error
    videos: dict[str, Video] = {}
    for path in entries:
        if not is_video(path):
            continue
        video = Video(f"{folder.name}/{path.stem if path.is_file() else path.name}", path, folder.name)
        if video.id in videos:
            raise ValueError(
                f"{display(path)} and {display(videos[video.id].path)} have the same name but for the suffix; "
                f"keep one of them"
            )
        videos[video.id] = video
    return list(videos.values())


def is_video(path: Path) -> bool:
    """Whether a path looks like a video: by suffix, or a folder that holds frames."""
    if path.is_dir():
        try:
            return any(p.suffix.lower() in FRAME_SUFFIXES for p in path.iterdir())
        except PermissionError:
            return True  # reading it will say why not
    return path.suffix.lower() in VIDEO_SUFFIXES


def _read_labels(file: Path, classes: list[str], texts: dict[str, str], splits: dict[str, str]) -> None:
    shown = display(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            if not {"folder", "label"} <= set(reader.fieldnames or ()):
                raise ValueError(f"{shown}: expected the columns folder, label and optionally split, got "
                                 f"{', '.join(reader.fieldnames or ['nothing'])}")  # fmt: skip
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown}: not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{shown}: not a comma-separated table ({error})") from error
    for number, row in enumerate(rows, start=2):
        folder, label, split = row["folder"] or "", (row["label"] or "").strip(), (row.get("split") or "").strip()
        if folder not in classes:
            raise ValueError(f"{shown}, line {number}: " + unknown(folder, map(_printable, classes), "folder"))
        if not label:
            raise ValueError(f"{shown}, line {number}: folder {folder!r} has no label; give its words")
        if split and split not in SPLITS:
            raise ValueError(f"{shown}, line {number}: " + unknown(split, SPLITS, "split"))
        texts[folder] = class_text(label)
        if split:
            splits[folder] = split
