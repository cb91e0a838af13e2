"""Split lists as the field publishes them: text files that name a class and a video per line.

| line | where |
|---|---|
| `class name/video id` | TRX lists of HMDB51, UCF101, Kinetics, SSv2-Small |
| `test18/195025` (split name + class number / id) | SSv2-Full everywhere; CLIP-FSAR and CLIP-SPM SSv2-Small |
| `test0//folder/blasting_sand/ID_START_END.mp4` (split + number // path) | CLIP-FSAR Kinetics |

A numbered class is called by its folder in the path, by a JSON file of names (`{"test": ["name of test0",
...]}`), or else `test18`.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.datasets.folder import is_video
from fsar.text.prompts import class_text
from fsar.video.reading import display

_NUMBERED = re.compile(r"(train|val|test)(\d+)/(?P<path>/?.+)")


def split_of(file: Path) -> str:
    """Tell the split from a list's file name: `testlist03.txt`, `val_few_shot.txt`.

    Raises:
        ValueError: the name starts with no split.
    """
    for split in SPLITS:
        if file.name.lower().startswith(split):
            return split
    raise ValueError(f"{file}: cannot tell its split from its name; name it train..., val... or test...")


class Line(NamedTuple):
    """One line as it stands in a list: a class by name, or by split and number, and a video."""

    id: str
    label: str | None
    """None where only split and number tell the class."""
    split: str = ""
    number: int = -1
    """-1 in a line without numbers."""


def read_line(line: str) -> Line:
    """Read one line of any format above.

    Raises:
        ValueError: neither format fits.
    """
    match = _NUMBERED.fullmatch(line)
    if match is None:
        label, _, video = line.rpartition("/")
        if not label or not video:
            raise ValueError(f"cannot read {line!r}; expected class/video, test18/195025 or test0//path/video.mp4")
        return Line(video, label)
    if match["path"].startswith("/"):
        whole = PurePosixPath(match["path"].lstrip("/"))
        return Line(whole.stem, whole.parent.name, match[1], int(match[2]))
    return Line(match["path"], None, match[1], int(match[2]))


def parse_line(line: str, split: str, names: Mapping[str, Sequence[str]] | None = None) -> tuple[str, str]:
    """Read one line of any format above: (class, video id).

    Raises:
        ValueError: neither format fits, or a class number beyond the names.
    """
    read = read_line(line)
    if read.label is not None:
        return read.label, read.id
    if names is None:
        return f"{read.split}{read.number}", read.id
    if split not in names or read.number >= len(names[split]):
        raise ValueError(
            f"{line!r} has class number {read.number}, but there are {len(names.get(split, ()))} {split} names"
        )
    return names[split][read.number], read.id


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a list that hold something, by their number in the file.

    Raises:
        ValueError: a file that cannot be read, or no text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # some editors write a mark first
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as a list ({error})") from error
    return ((number, line) for number, line in enumerate(map(str.strip, lines), start=1) if line)


def load_lists(
    files: Sequence[Path],
    root: Path,
    names_file: Path | None = None,
    name: str | None = None,
    skip_missing: bool = False,
) -> VideoDataset:
    """Read list files into a dataset, finding each video anywhere below `root`.

    A video is found by its id: a file `id.suffix` or a folder of frames `id`; where several fit, the one
    whose folder is the class.

    Raises:
        ValueError: a list or names file that cannot be read, a class in two splits, or videos that are
            missing (unless `skip_missing`).
    """
    names = _read_names(names_file) if names_file else None
    found = index_videos(root)
    videos: dict[str, Video] = {}
    splits: dict[str, str] = {}
    missing: list[str] = []
    for file in files:
        split = split_of(file)
        for number, line in numbered_lines(file):
            try:
                label, video_id = parse_line(line, split, names)
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from error
            if splits.setdefault(label, split) != split:
                raise ValueError(f"{file}, line {number}: class {label!r} is in {splits[label]} and in {split}; "
                                 f"splits must not share classes")  # fmt: skip
            path = find_video(found, label, video_id)
            if path is None:
                missing.append(f"{label}/{video_id}")
            else:
                videos[f"{label}/{video_id}"] = Video(f"{label}/{video_id}", path, label)
    if missing and not skip_missing:
        raise ValueError(
            f"{len(missing)} of {len(missing) + len(videos)} listed videos are not below {display(root)}, among them "
            f"{', '.join(missing[:3])}; check the folder, or leave them out with skip_missing (--skip-missing)"
        )
    if not videos:
        raise ValueError(f"no listed video is below {display(root)}; check the folder")
    texts = {label: class_text(label) for label in splits}
    return VideoDataset(name or root.resolve().name, tuple(videos.values()), texts, splits)


def _read_names(file: Path) -> dict[str, list[str]]:
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
        return {split: names[split] for split in SPLITS if split in names}
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read as class names ({error}); expected JSON like "
                         f'{{"test": ["name of test0", "name of test1"]}}') from error  # fmt: skip


def index_videos(root: Path) -> dict[str, list[Path]]:
    """Find all videos below `root`, by name without suffix; a folder of frames counts as one video.

    Raises:
        ValueError: no such folder.
    """
    if not root.is_dir():
        raise ValueError(f"{display(root)}: no such folder; expected the dataset's videos below it")
    found: dict[str, list[Path]] = defaultdict(list)
    for folder, subfolders, files in os.walk(root):
        # hidden are files half written, and what some systems put beside a file
        subfolders[:] = [subfolder for subfolder in subfolders if not subfolder.startswith(".")]
        for file in (Path(folder, name) for name in files if not name.startswith(".")):
            if is_video(file):
                found[file.stem].append(file)
        for subfolder in list(subfolders):
            path = Path(folder, subfolder)
            if is_video(path):
                found[subfolder].append(path)
                subfolders.remove(subfolder)  # its files are frames
    return found


def find_video(found: Mapping[str, list[Path]], label: str, video_id: str) -> Path | None:
    """Choose among the videos of one id, where there are any: the one whose folder is the class."""
    paths = found.get(video_id, [])
    in_class = [path for path in paths if class_text(path.parent.name) == class_text(label)]
    return min(in_class or paths, default=None)  # the same one on every machine
