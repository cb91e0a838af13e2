"""A folder of videos: one folder per class, and optionally `labels.csv` with their words and splits."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.names import many, unknown
from fsar.text.words import class_text
from fsar.video.kinds import OTHER_SUFFIXES, VIDEO_SUFFIXES, is_bookkeeping, is_frame_folder, is_hidden
from fsar.video.paths import VideoError, display
from fsar.video.reading import probe

_NAMED = 5  # how many names a message has
_HEAD = 4096  # the first bytes tell text from video


def load_folder(root: Path, name: str | None = None, groups: bool = False) -> VideoDataset:
    """Read `root/class/video` into a dataset.

    A video is a file that FFmpeg reads or a folder of frames. `labels.csv`, with the columns `folder`, `label` and
    optionally `split` (train, val, test, or empty), gives the words of a class; without the file, the words come
    from the folder's name.

    Args:
        root: the folder of class folders.
        name: of the dataset; by default the folder's.
        groups: enter the folders of a class, too: `root/class/group/video`. The group is a person, or a recording.

    Returns:
        The dataset. Its `notes` name what was ignored: other files, hidden ones, videos that lie deeper, classes
        without videos.

    Raises:
        ValueError: no such folder, or no videos in it; two classes that differ only in case; two videos of a class that
            differ only in suffix; a labels.csv that does not fit.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for file in ("wave/a.mp4", "clap/b.MTS", "clap/notes.txt"):
        ...         Path(folder, file).parent.mkdir(exist_ok=True)
        ...         Path(folder, file).touch()
        ...     dataset = load_folder(Path(folder))
        >>> [video.id for video in dataset.videos], dataset.notes
        (['clap/b', 'wave/a'], ('ignored 1 file that is no video: clap/notes.txt',))
    """
    if not root.is_dir():
        raise ValueError(f"{display(root)}: no such folder; expected one folder per class in it")
    passed = PassedOver(root)
    entries = passed.visible(root)
    folders = [path for path in entries if path.is_dir() and not passed.again(path)]
    passed.loose = [path for path in entries if path.is_file() and is_video(path)]
    refuse_clashes([folder.name for folder in folders], root)
    videos = [video for folder in folders for video in _videos_of(folder, passed, groups)]
    if not videos:
        raise ValueError(
            f"{display(root)}: no videos found; expected {display(root)}/CLASS/VIDEO with one folder per class "
            f"and files like .mp4, .avi, .webm or folders of .jpg frames" + "".join(f"; {n}" for n in passed.notes())
        )
    classes = [folder.name for folder in folders]
    texts = {label: class_text(_printable(label)) for label in classes}
    splits: dict[str, str] = {}
    labels = root / "labels.csv"
    if labels.is_file():
        read_labels(labels, classes, texts, splits)
    return VideoDataset(name or root.resolve().name, tuple(videos), texts, splits, notes=passed.notes())


@dataclass
class PassedOver:
    """Files and folders that were ignored; `notes` describes them.

    Args:
        root: names are relative to this folder.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    """Visible files that are no videos."""
    hidden: list[Path] = field(default_factory=list)
    """Hidden files and folders, and those that operating systems make."""
    deeper: dict[Path, int] = field(default_factory=dict)
    """Folder that is no video -> number of videos below it."""
    empty: list[Path] = field(default_factory=list)
    """Class folders without a video."""
    loose: list[Path] = field(default_factory=list)
    """Videos beside the class folders."""
    entered: list[str] = field(default_factory=list)
    """Names of folders whose videos were taken as a group."""
    circles: list[Path] = field(default_factory=list)
    """Links to folders that were entered already."""
    dangling: list[Path] = field(default_factory=list)
    """Links to what is missing."""
    seen: set[str] = field(init=False)
    """Real paths of the folders that were entered, and of those above the root."""

    def __post_init__(self) -> None:
        self.seen = {str(above) for above in Path(os.path.realpath(self.root)).parents}

    def again(self, folder: Path) -> bool:
        """Tell whether a folder was entered already, and remember it: links may lead round in circles."""
        if os.path.realpath(folder) not in self.seen:
            return False
        self.circles.append(folder)
        return True

    def visible(self, folder: Path) -> list[Path]:
        """List a folder's visible entries, sorted, and remember the hidden ones.

        Raises:
            ValueError: no permission to read the folder.
        """
        try:
            entries = sorted(folder.iterdir())
        except PermissionError as error:
            raise ValueError(
                f"{display(folder)}: no permission to read the folder; change its mode or owner"
            ) from error
        self.seen.add(os.path.realpath(folder))
        self.hidden += [path for path in entries if is_hidden(path.name) and not is_bookkeeping(path.name)]
        visible = [path for path in entries if not is_hidden(path.name)]
        self.dangling += [path for path in visible if _leads_nowhere(path)]
        return [path for path in visible if not _leads_nowhere(path)]

    def videos_in(self, folder: Path) -> list[Path]:
        """List the videos in a folder, sorted, and remember everything else."""
        videos = []
        for path in self.visible(folder):
            if is_video(path):
                videos.append(path)
            elif path.is_dir():
                if not self.again(path):
                    self.deeper[path] = _count_below(path)
            else:
                self.files.append(path)
        return videos

    def notes(self) -> tuple[str, ...]:
        """Describe what was ignored, in one line for each kind."""
        below = [f"{self._name(path)} ({count} deeper)" for path, count in self.deeper.items() if count]
        bare = [self._name(path) for path, count in self.deeper.items() if not count]
        kinds = (
            (list(map(self._name, self.files)), "file that is no video", "files that are no videos", ""),
            (list(map(self._name, self.hidden)), "hidden file or folder", "hidden files or folders", ""),
            (
                below,
                "folder whose videos lie too deep",
                "folders whose videos lie too deep",
                "; move them up, to CLASS/VIDEO",
            ),
            (
                list(map(self._name, self.circles)),
                "link to a folder that was entered already",
                "links to folders that were entered already",
                "",
            ),
            (
                list(map(self._name, self.dangling)),
                "link to what is missing",
                "links to what is missing",
                "; mend or remove " + ("it" if len(self.dangling) == 1 else "them"),
            ),
            (bare, "folder without videos or frames", "folders without videos or frames", ""),
            (
                list(map(self._name, self.loose)),
                "video outside of the class folders",
                "videos outside of the class folders",
                "; move "
                + ("it into the folder of its class" if len(self.loose) == 1 else "them into those of their classes"),
            ),
        )
        notes = [
            f"ignored {len(names)} {one if len(names) == 1 else many}: {_some(names)}{fix}"
            for names, one, many, fix in kinds
            if names
        ]
        if self.entered:
            names = sorted(set(self.entered))
            notes.append(f"took sub-folders as groups (persons or recordings): {_some(names)}")
        if self.empty:
            notes.append(
                f"no video of {many(len(self.empty), 'class', 'classes')}: {_some(list(map(self._name, self.empty)))}"
            )
        return tuple(notes)

    def _name(self, path: Path) -> str:
        return display(path.relative_to(self.root))


def _leads_nowhere(path: Path) -> bool:
    """Tell whether a path is a link to what is missing; reading a video by such a link raises the error."""
    return path.suffix.lower() not in VIDEO_SUFFIXES and path.is_symlink() and not path.exists()


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _count_below(folder: Path) -> int:
    """Count the files below a folder that have names of videos."""
    count = 0
    for place, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        count += sum(Path(name).suffix.lower() in VIDEO_SUFFIXES for name in files if not is_hidden(name))
        if Path(place) != folder and is_frame_folder(Path(place)):
            count += 1
    return count


def _printable(name: str) -> str:
    return display(Path(name))


def refuse_clashes(names: Sequence[str], root: Path) -> None:
    """Refuse classes whose names differ only in case.

    Raises:
        ValueError: names two such classes.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(
                f"{display(root)}: the classes {_printable(other)!r} and {_printable(name)!r} differ in case only, "
                f"and some systems hold them for one; rename or merge them"
            )


def _videos_of(folder: Path, passed: PassedOver, groups: bool) -> list[Video]:
    videos: dict[str, Video] = {}
    found: list[tuple[Path, str | None]] = [(path, None) for path in passed.videos_in(folder)]
    if groups:
        inner = [path for path, count in passed.deeper.items() if path.parent == folder and count]
        for place in inner:
            del passed.deeper[place]
            if passed.again(place):
                continue
            passed.entered.append(place.name)
            found += [(path, place.name) for path in passed.videos_in(place)]
    for path, group in found:
        name = path.stem if path.is_file() else path.name
        video = Video(f"{folder.name}/{f'{group}/' if group else ''}{name}", path, folder.name, group=group)
        if video.id in videos:
            raise ValueError(
                f"{display(path)} and {display(videos[video.id].path)} have the same name but for the suffix; "
                f"keep one of them"
            )
        videos[video.id] = video
    if not videos:
        passed.empty.append(folder)
    return list(videos.values())


def is_video(path: Path) -> bool:
    """Tell whether a path looks like a video: a file by its suffix, or a folder with frames.

    If the suffix is unknown or missing (`clip.001`), FFmpeg opens the file and looks for a video.

    Args:
        path: a file or folder; a file with the suffix of a video need not exist.

    Examples:
        >>> [is_video(Path(name)) for name in ("a.mp4", "a.MTS", "a.jpg", "a.txt")]
        [True, True, False, False]
    """
    if path.is_dir():
        try:
            return is_frame_folder(path)
        except PermissionError:
            return True  # reading it will raise the error
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return suffix != ".webp" or not _is_still(path)
    return suffix not in OTHER_SUFFIXES and path.is_file() and not _is_text(path) and _opens(path)


def _is_still(path: Path) -> bool:
    """Tell whether a file is a still picture."""
    try:
        with Image.open(path) as image:
            return not getattr(image, "is_animated", False)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _is_text(path: Path) -> bool:
    """Tell whether a file begins like a text; FFmpeg may read texts as text screens or as lists of files."""
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(_HEAD)
    except OSError:
        return False


def _opens(path: Path) -> bool:
    """Tell whether FFmpeg finds a video in a file that is not a picture."""
    try:
        probe(path)
    except VideoError:
        return False
    return not _is_still(path)


def read_labels(file: Path, classes: list[str], texts: dict[str, str], splits: dict[str, str]) -> None:
    """Read the words and the splits of classes from a `labels.csv` into `texts` and `splits`.

    Args:
        file: with the columns `folder` (the class), `label` (its words) and optionally `split`; or, if words need
            not be given, `label` (the class) and `split`.
        classes: all classes of the dataset.
        texts: class -> words, changed in place.
        splits: class -> split, changed in place.

    Raises:
        ValueError: the file is not such a table, or names a class or split that does not exist.
    """
    shown = display(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            columns = set(reader.fieldnames or ())
            if "label" not in columns or not {"folder", "split"} & columns:
                got = ", ".join(reader.fieldnames or ["nothing"])
                raise ValueError(f"{shown}: expected the columns folder, label and optionally split, got {got}")
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown}: not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{shown}: not a comma-separated table ({error})") from error
    for number, row in enumerate(rows, start=2):
        label, split = (row["label"] or "").strip(), (row.get("split") or "").strip()
        folder = (row["folder"] or "") if "folder" in columns else label
        if folder not in classes:
            raise ValueError(f"{shown}, line {number}: " + unknown(folder, map(_printable, classes), "folder"))
        if not label:
            raise ValueError(f"{shown}, line {number}: folder {folder!r} has no label; give its words")
        if split and split not in SPLITS:
            raise ValueError(f"{shown}, line {number}: " + unknown(split, SPLITS, "split"))
        if "folder" in columns:
            texts[folder] = class_text(label)
        if split:
            splits[folder] = split
