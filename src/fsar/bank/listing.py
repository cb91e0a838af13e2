"""Lists of videos without labels: folders of any depth, and tables of paths or URLs."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fsar.datasets import Video
from fsar.datasets.folder import is_video
from fsar.datasets.place import Place, is_url
from fsar.video.paths import display

_COLUMNS = ("path", "id", "label", "start", "end")


def videos_at(paths: Iterable[str]) -> list[Video]:
    """List videos.

    Args:
        paths: of videos, folders of any depth, or tables (`.csv`, `.parquet`) with a column `path`, and if there are
            such `id`, `label`, `start` and `end` (seconds).

    Returns:
        The videos, sorted by id within each path. Without an id, a video's id is its path below the folder, or its
        path or URL.

    Raises:
        ValueError: no such path, no video in a folder, a table without paths, or two videos with one id.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("2026/a.mp4", "2026/b.mp4", "notes.txt"):
        ...         Path(folder, name).parent.mkdir(exist_ok=True)
        ...         Path(folder, name).touch()
        ...     [video.id for video in videos_at([folder])]
        ['2026/a.mp4', '2026/b.mp4']
    """
    found: dict[str, Video] = {}
    for path in paths:
        for video in _at(path):
            if video.id in found:
                raise ValueError(f"two videos have the id {video.id!r}; give a table with a column `id`")
            found[video.id] = video
    return list(found.values())


def _at(path: str) -> Sequence[Video]:
    if Path(path).suffix.lower() in (".csv", ".parquet"):
        return _of_table(path)
    if is_url(path):
        return [Video(path, Path(path), "")]
    folder = Path(path)
    if not folder.exists():
        raise ValueError(f"{path}: no such file or folder")
    if is_video(folder) or not folder.is_dir():
        return [Video(path, folder, "")]
    videos = []
    for home, inner, files in os.walk(folder):
        inner.sort()
        inner[:] = [name for name in inner if not name.startswith(".")]
        frames = [name for name in inner if is_video(Path(home, name))]
        inner[:] = [name for name in inner if name not in frames]
        videos += [Path(home, name) for name in (*files, *frames) if is_video(Path(home, name))]
    if not videos:
        raise ValueError(f"{path}: no videos in this folder; expected files such as a.mp4 or folders of frames")
    each = sorted((display(video.relative_to(folder)), video) for video in videos)
    return [Video(name, video, "") for name, video in each]


def _of_table(path: str) -> list[Video]:
    parent, _, name = path.rpartition("/")
    file = Place(parent).local(name) if is_url(path) else Path(path)
    try:
        rows = _csv(file) if file.suffix.lower() == ".csv" else _parquet(file)
        if not rows or "path" not in rows[0]:
            raise ValueError("no column `path`, or no rows")
        return [_video(row, file) for row in rows]
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; expected the columns path, and if you have them id, label, start, end"
        ) from error


def _video(row: Mapping[str, Any], file: Path) -> Video:
    path = str(row["path"])
    whole = path if is_url(path) else os.path.join(file.parent, path)
    start, end = (None if row.get(name) in (None, "") else float(row[name]) for name in ("start", "end"))
    times = "" if start is None and end is None else f"@{start or 0:g}-{'end' if end is None else format(end, 'g')}"
    return Video(str(row.get("id") or f"{path}{times}"), Path(whole), str(row.get("label") or ""), start, end)


def _csv(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        return list(csv.DictReader(lines))


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("parquet files need pyarrow: pip install 'fsar[parquet]'") from error
    try:
        schema = parquet.read_schema(file)
        return parquet.read_table(file, columns=[name for name in schema.names if name in _COLUMNS]).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"no parquet file ({error})") from error
