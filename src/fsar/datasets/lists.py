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
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.datasets.folder import is_video
from fsar.prompts import class_text
from fsar.video import display

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


def parse_line(line: str, split: str, names: Mapping[str, Sequence[str]] | None = None) -> tuple[str, str]:
    """Read one line of any format above: (class, video id).

    Raises:
        ValueError: neither format fits, or a class number beyond the names.
    """
    match = _NUMBERED.fullmatch(line)
    if match is None:
        label, _, video = line.rpartition("/")
        if not label or not video:
            raise ValueError(f"cannot read {line!r}; expected class/video, test18/195025 or test0//path/video.mp4")
        return label, video
    path = match["path"]
    if path.startswith("/"):
        whole = PurePosixPath(path.lstrip("/"))
        return whole.parent.name, whole.stem
    number = int(match[2])
    if names is None:
        return f"{match[1]}{number}", path
    if split not in names or number >= len(names[split]):
        raise ValueError(f"{line!r} has class number {number}, but there are {len(names.get(split, ()))} {split} names")
    return names[split][number], path


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
    found = _index(root)
    videos: dict[str, Video] = {}
    splits: dict[str, str] = {}
    missing: list[str] = []
    for file in files:
        split = split_of(file)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: cannot be read as a list ({error})") from error
        for number, line in enumerate(map(str.strip, lines), start=1):
            if not line:
                continue
            try:
                label, video_id = parse_line(line, split, names)
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from error
            if splits.setdefault(label, split) != split:
                raise ValueError(f"{file}, line {number}: class {label!r} is in {splits[label]} and in {split}; "
                                 f"splits must not share classes")  # fmt: skip
            path = _find(found, label, video_id)
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


def _index(root: Path) -> dict[str, list[Path]]:
    """All videos below `root` by id; folders of frames count as one video."""
    if not root.is_dir():
        raise ValueError(f"{display(root)}: no such folder; expected the dataset's videos below it")
    found: dict[str, list[Path]] = defaultdict(list)
    for folder, subfolders, files in os.walk(root):
        for file in map(Path(folder).joinpath, files):
            if is_video(file):
                found[file.stem].append(file)
        for subfolder in list(subfolders):
            path = Path(folder, subfolder)
            if is_video(path):
                found[subfolder].append(path)
                subfolders.remove(subfolder)  # its files are frames
    return found


def _find(found: Mapping[str, list[Path]], label: str, video_id: str) -> Path | None:
    paths = found.get(video_id, [])
    in_class = [path for path in paths if class_text(path.parent.name) == class_text(label)]
    return min(in_class or paths, default=None)  # the same one on every machine
