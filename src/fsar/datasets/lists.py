"""Published lists of videos: text files; each line names a video and its class.

| line | where |
|---|---|
| `class name/video id` | TRX's lists of HMDB51, UCF101, Kinetics, SSv2-Small |
| `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1` | UCF101; mmaction2, SlowFast and VideoMAE: path and class number |
| `/data/videos/abseiling/ID.mp4,4` | SlowFast and VideoMAE with a comma |
| `abseiling/ID 300 4` | mmaction2 and VideoMAE, folders of frames: path, number of frames, class number |
| `test18/195025`, `test18//195025` | SSv2-Full everywhere, D2ST: split and class number, video |
| `test0//train_256/blasting_sand/ID_START_END.mp4` | CLIP-FSAR, Kinetics: split and class number, path |
| `test8//clips_256/P01_11_100.MP4` | CLIP-FSAR, EPIC-Kitchens: the same, and the folder is not the class |
| `April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1` in `brush_hair_test_split1.txt` | HMDB51 |
| `label,youtube_id,time_start,time_end,split` (table) | Kinetics |

The class of a line is, in this order: the name of its number, if a file of names is given; the folder that changes
with the number; the number itself (`test18`); or the folder: the first one in which the listed paths differ.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.datasets.find import VideoIndex, folders_of, without_suffix
from fsar.text.words import class_text
from fsar.video.paths import display

_NUMBERED = re.compile(r"(train|val|test)(\d+)/(?P<path>/?.+)")
_LABELLED = re.compile(r"(?P<path>.*?[^\s,;])(?P<numbers>(?:[\s,;]+\d+)+)")
_BETWEEN = re.compile(r"[\s,;]")
_HMDB = re.compile(r"(?P<label>.+)_test_split[123]\.txt")
_SPLIT_WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "validate"), "test": ("test",)}


@dataclass(frozen=True)
class Line:
    """One line of a list: a video, and what the line says of its class."""

    path: str
    """The listed path of the video, without class, split and numbers."""
    split: str = ""
    """The split that the line itself names, if any."""
    number: int | None = None
    """The class number, if the line has one."""
    whole: str = ""
    """The whole line, if the number may also belong to the path (`run 2/take 7`)."""
    label: str | None = None
    """The name of the class, if the line or the file gives it."""
    other_name: str = ""
    """Another name that the video's file may have."""

    @cached_property
    def id(self) -> str:
        """The video's name, without folders and suffix."""
        return without_suffix(self.path.rpartition("/")[2])

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """The folders of the path."""
        return folders_of(self.path)

    @cached_property
    def folder(self) -> str | None:
        """The class if its name is given, else the last folder; None if there is neither."""
        return self.label or self.path.rpartition("/")[0].rpartition("/")[2] or None

    @property
    def place(self) -> tuple[str | None, str, int | None]:
        """All that the line says of its class: lines of equal places are of one class."""
        return self.folder, self.split, self.number


def read_line(line: str) -> Line:
    """Read one line of a list, in any format above that can be read line by line.

    Raises:
        ValueError: no format fits.

    Examples:
        >>> read_line("test18//195025")
        Line(path='195025', split='test', number=18, whole='', label=None, other_name='')
        >>> read_line("Archery/v_Archery_g01_c01.avi 3").id
        'v_Archery_g01_c01'
    """
    text = line if "/" in line else line.replace("\\", "/")
    if match := _NUMBERED.fullmatch(text):
        return Line(match["path"].lstrip("/"), match[1], int(match[2]))
    number, whole = None, ""
    if _BETWEEN.search(text) and (match := _LABELLED.fullmatch(text)):  # most lines have no number behind the path
        path = match["path"].strip("\"'")
        numbers = [int(number) for number in re.findall(r"\d+", match["numbers"])]
        is_file = without_suffix(path) != path
        if len(numbers) > (1 if is_file else 2):
            raise ValueError(
                f"{line!r} has {len(numbers)} numbers behind the path; expected one class number (before it, for a "
                f"folder of frames, their count); videos of several classes cannot be read"
            )
        number, whole, text = numbers[-1], "" if is_file else text, path
    read = Line(text, number=number, whole=whole)
    if not text or text.endswith("/") or (number is None and not read.folders):
        raise ValueError(f"cannot read {line!r}; expected class/video, test18/195025 or test0//path/video.mp4")
    return read


def split_of(file: Path) -> str:
    """Find the split in the name of a list file: `testlist03.txt`, `kinetics400_train_list_videos.txt`.

    Raises:
        ValueError: the name begins with no split and holds none, or several.

    Examples:
        >>> split_of(Path("val_few_shot.txt")), split_of(Path("ucf101_train_split_1_videos.txt"))
        ('val', 'train')
    """
    name = file.name.lower()
    for split in SPLITS:
        if name.startswith(split):
            return split
    words = re.findall(r"[a-z]+", name)
    held = [split for split in SPLITS if any(word in _SPLIT_WORDS[split] for word in words)]
    if len(held) != 1:
        raise ValueError(f"{file}: cannot tell its split from its name; name it train..., val... or test...")
    return held[0]


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Return the lines of a list that are not empty, by their number in the file.

    Raises:
        ValueError: a file that cannot be read, or no text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # some editors write a byte-order mark
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as a list ({error})") from error
    return ((number, line) for number, line in enumerate(map(str.strip, lines), start=1) if line)


def read_list(file: Path) -> Iterator[tuple[int, Line]]:
    """Read a list of any format above, with the number of each line in the file.

    Raises:
        ValueError: a file that cannot be read, or a line in an unknown format. The message names file and line.
    """
    lines = list(numbered_lines(file))
    if lines and re.match(r"(label|youtube_id),", lines[0][1]):
        yield from _kinetics(file, lines)
        return
    hmdb = _HMDB.fullmatch(file.name)
    for number, text in lines:
        flagged = re.fullmatch(r"([^/]+)\s+([012])", text) if hmdb else None
        if hmdb and flagged:
            if flagged[2] != "0":  # a number of neither train nor test
                yield number, Line(f"{hmdb['label']}/{flagged[1].strip()}", label=hmdb["label"])
            continue
        try:
            yield number, read_line(text)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error


def _kinetics(file: Path, lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, Line]]:
    """Read rows of Kinetics' own table; a file is called `ID_START_END` or `ID`."""
    rows = csv.DictReader(text for _, text in lines)
    for (number, _), row in zip(lines[1:], rows, strict=True):
        try:
            label, name, split = row["label"], row["youtube_id"], row.get("split") or ""
            start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{file}, line {number}: expected the columns label, youtube_id, time_start, time_end; the test lists "
                f"of Kinetics have no labels"
            ) from error
        known = next((known for known, words in _SPLIT_WORDS.items() if split in words), "")
        yield number, Line(f"{label}/{name}_{start:06d}_{end:06d}", known, label=label, other_name=name)


class Entry(NamedTuple):
    """A line with its place in the file, and the split that the line or the file names."""

    place: str
    line: Line
    split: str
    """Empty for HMDB51's own lists, whose splits share their classes."""


def load_lists(
    files: Sequence[Path],
    root: Path,
    names_file: Path | None = None,
    name: str | None = None,
    skip_missing: bool = False,
) -> VideoDataset:
    """Read list files into a dataset, finding each video anywhere below `root` (see `VideoIndex.find`).

    Args:
        files: lists in the formats above. The split is in the name of a file, or in its lines.
        root: folder with the videos, at any depth.
        names_file: names of the classes that the lists give by number: JSON (`{"test": ["name of test0", ...]}`,
            `["name of 0", ...]`, `{"name": 0}`) or text with one name, or a number and a name, per line.
        name: of the dataset; by default the folder's.
        skip_missing: leave out missing videos, and keep their ids as `absent`.

    Raises:
        ValueError: a list or names file that cannot be read, a class in two splits, several videos that fit one
            line, or videos that are missing (unless `skip_missing`).

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "test.txt").write_text("wave/a.avi 0\\n")
        ...     Path(folder, "wave").mkdir()
        ...     Path(folder, "wave/a.mp4").touch()
        ...     dataset = load_lists([Path(folder, "test.txt")], Path(folder))
        >>> [(video.id, video.label) for video in dataset.videos], dataset.splits
        ([('wave/a', 'wave')], {'wave': 'test'})
    """
    names = _read_names(names_file) if names_file else None
    index = VideoIndex(root)
    entries = [entry for file in files for entry in _entries(file, index)]
    videos: dict[str, Video] = {}
    places: dict[str, str] = {}
    texts: dict[str, str] = {}
    splits: dict[str, str] = {}
    missing: dict[str, None] = {}
    named = list(name_videos(entries, names))
    anywhere = not index.by_class({label for label, _, _ in named})
    for entry, (label, video_id, shared) in zip(entries, named, strict=True):
        _note_split(splits, label, entry)
        texts.setdefault(label, class_text(label))
        listed = without_suffix(entry.line.path)
        if places.setdefault(video_id, listed) != listed:
            raise ValueError(
                f"{entry.place}: {listed} and {places[video_id]} are both called {video_id}; "
                f"rename one of them, or load their lists one at a time"
            )
        try:
            path = index.find(entry.line.path, label, shared, anywhere)
            if path is None and entry.line.other_name:
                path = index.find(f"{label}/{entry.line.other_name}", label, 1, anywhere)
        except ValueError as error:
            raise ValueError(f"{entry.place}: {error}") from error
        if path is None:
            missing[video_id] = None
        else:
            videos[video_id] = Video(video_id, path, label)
    if missing and not skip_missing:
        raise ValueError(
            f"{len(missing)} of {len(missing) + len(videos)} listed videos are not below {display(root)}, among them "
            f"{', '.join(list(missing)[:3])}; check the folder, or leave them out with skip_missing (--skip-missing)"
        )
    if not videos:
        raise ValueError(f"no listed video is below {display(root)}; check the folder")
    absent = tuple(missing)
    return VideoDataset(name or root.resolve().name, tuple(videos.values()), texts, splits, absent=absent)


def _entries(file: Path, index: VideoIndex) -> Iterator[Entry]:
    """Read the lines of a file, each with its split."""
    try:
        of_file = split_of(file)
    except ValueError:
        of_file = ""
    for number, line in read_list(file):
        place = f"{file}, line {number}"
        split = of_file or line.split
        if _HMDB.fullmatch(file.name) and line.label:
            split = ""
        elif not split:
            split_of(file)  # raises the error
        if line.whole and index.has(line.whole):  # the number is part of the path
            line = Line(line.whole)
        yield Entry(place, line, split)


def _note_split(splits: dict[str, str], label: str, entry: Entry) -> None:
    if entry.split and splits.setdefault(label, entry.split) != entry.split:
        raise ValueError(
            f"{entry.place}: class {label!r} is in {splits[label]} and in {entry.split}; splits must not share "
            f"classes. If each list has videos of every class, load the lists one at a time"
        )


# --------------------------------------------------------------------------- which class

Names = Mapping[str, Mapping[int, str]]
"""Split -> class number -> name; the split is '' if the names hold for all splits."""


def name_videos(entries: Sequence[Entry], names: Names | None) -> Iterator[tuple[str, str, int]]:
    """Return for every entry its class, its id, and the number of folders from the class to the name."""
    level = _level_of_numbers([entry.line for entry in entries])
    common = _common([entry.line.folders for entry in entries if entry.line.number is None])
    for entry in entries:
        line = entry.line
        if line.label is not None:
            yield line.label, f"{line.label}/{line.id}", 1
        elif line.number is not None and (names is not None or level is None):
            label = _name_of(entry, names) if names is not None else f"{line.split}{line.number}"
            yield label, f"{label}/{line.id}", 0
        else:
            by_number = line.number is not None and level is not None
            at = len(line.folders) - 1 - level if by_number else _class_folder(line.folders, common)  # type: ignore
            label, *below = line.folders[at:]
            yield label, "/".join((label, *below, line.id)), len(line.folders) - at


def _level_of_numbers(lines: Sequence[Line]) -> int | None:
    """Find the folder that changes with the class number, counted upwards from the video; None if there is none."""
    numbered = [line for line in lines if line.number is not None]
    for level in range(min((len(line.folders) for line in numbered), default=0)):
        pairs = {((line.split, line.number), line.folders[-1 - level]) for line in numbered}
        if len(pairs) == len({number for number, _ in pairs}) == len({folder for _, folder in pairs}):
            return level
    return None


def _common(folders: Sequence[tuple[str, ...]]) -> int:
    """Count the equal folders at the start of all paths."""
    count = 0
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        count += 1
    return count


def _class_folder(folders: tuple[str, ...], common: int) -> int:
    """Return the index of the class folder: the first that differs between the paths, or else the last.

    The name of a split is no class (`train/abseiling/a`, `val/abseiling/b`).
    """
    at = min(common, len(folders) - 1)
    while at < len(folders) - 1 and re.fullmatch(r"(train|val|test)[a-z]*[_-]?\d*", folders[at], re.IGNORECASE):
        at += 1
    return at


def _name_of(entry: Entry, names: Names) -> str:
    """Look up the name of a class number."""
    line = entry.line
    assert line.number is not None
    known = names.get(entry.split) or names.get("") or {}
    if line.number not in known:
        shown = f"{line.split}{line.number}/{line.path}" if line.split else f"{line.path} {line.number}"
        raise ValueError(
            f"{entry.place}: {shown!r} has class number {line.number}, but there are {len(known)} {entry.split} names"
        )
    return known[line.number]


def _read_names(file: Path) -> Names:
    """Read the names of class numbers.

    Raises:
        ValueError: the file has no such names.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        names = _names_of_json(json.loads(text)) if file.suffix.lower() == ".json" else _names_of_text(text)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: cannot be read as class names ({error}); expected JSON like "
            f'{{"test": ["name of test0", "name of test1"]}}, or text with one name per line'
        ) from error
    return names


def _names_of_json(content: object) -> Names:
    if isinstance(content, list):
        return {"": dict(enumerate(map(str, content)))}
    if not isinstance(content, dict):
        raise TypeError(f"it holds {content!r}")
    if any(isinstance(content.get(split), list) for split in SPLITS):
        return {split: dict(enumerate(content[split])) for split in SPLITS if split in content}
    return {"": {int(number): str(name) for name, number in content.items()}}


def _names_of_text(text: str) -> Names:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d+)[\s,;]+(.+)", line) for line in lines]
    if all(numbered):
        return {"": {int(match[1]): match[2] for match in numbered if match}}
    return {"": dict(enumerate(lines))}
