"""Which files may be videos, and which folders hold the frames of one video.

The suffix tells whether a file is a video. If the suffix is in neither list below, the content decides
(`fsar.datasets.folder.is_video`). A folder is a video if it has visible images and no video; the images are its frames.

Tools that extract frames write optical flow beside the pictures (`img_00001.jpg`, `flow_x_00001.jpg`,
`flow_y_00001.jpg`). So images are grouped by their names without numbers, and one group is the video.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mj2"),
        *(".mkv", ".webm", ".avi", ".divx", ".xvid", ".wmv", ".asf", ".flv", ".rm", ".rmvb", ".ogv", ".ogm", ".nut"),
        *(
            ".mpg",
            ".mpeg",
            ".mpe",
            ".m1v",
            ".m2v",
            ".mpv",
            ".vob",
            ".ts",
            ".mts",
            ".m2ts",
            ".m2t",
            ".trp",
            ".mod",
            ".tod",
        ),
        *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".ivf", ".obu", ".mjpeg", ".mjpg", ".y4m"),
        *(".mxf", ".dv", ".amv", ".wtv", ".nsv", ".gif", ".apng", ".webp"),
    )
)
"""Suffixes of videos. (A `.webp` may also be a picture; its content tells.)"""

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})

OTHER_SUFFIXES = FRAME_SUFFIXES | frozenset(
    (
        *(".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".ico", ".svg", ".psd"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"),
        *(".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wma", ".aif", ".aiff", ".amr"),
        *(".srt", ".vtt", ".ass", ".ssa", ".sub", ".idx", ".lrc", ".thm", ".lrv"),
        *(".txt", ".md", ".rst", ".nfo", ".log", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml"),
        *(".html", ".htm", ".pdf", ".doc", ".docx", ".odt", ".xls", ".xlsx", ".ods", ".ppt", ".pptx", ".ini", ".cfg"),
        *(".eaf", ".pfsx", ".boris", ".textgrid", ".py", ".ipynb", ".m", ".sh", ".bat", ".exe", ".dll", ".so"),
        *(".npy", ".npz", ".pt", ".pth", ".pkl", ".pickle", ".h5", ".hdf5", ".mat", ".safetensors", ".lmdb", ".db"),
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".part", ".crdownload", ".tmp", ".lnk", ".url"),
    )
)
"""Suffixes of other files."""

_SYSTEM = frozenset(("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "#recycle"))
_BOOKKEEPING = frozenset((".ds_store", "thumbs.db", "desktop.ini", ".git", ".gitignore", ".gitattributes", ".gitkeep"))
_FLOW = frozenset(("flow", "flowx", "flowy", "x", "y", "flowu", "flowv", "u", "v"))


def is_hidden(name: str) -> bool:
    """Tell whether a name is hidden or made by an operating system: `._a.mp4`, `@eaDir`, `__MACOSX`.

    Examples:
        >>> [is_hidden(name) for name in ("._0.jpg", "@eaDir", "wave")]
        [True, True, False]
    """
    return name.startswith(".") or name.lower() in _SYSTEM | _BOOKKEEPING


def is_bookkeeping(name: str) -> bool:
    """Tell whether a file is one that operating systems write into every folder: `.DS_Store`, `Thumbs.db`."""
    return name.lower() in _BOOKKEEPING or name.startswith(".writing-")


def is_frame_folder(folder: Path) -> bool:
    """Tell whether a folder holds the frames of one video: visible images, no video, and no such folder.

    Raises:
        OSError: there is no such folder, or no permission to read it.
    """
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    suffixes = {Path(entry.name).suffix.lower() for entry in visible if _is(entry.is_file)}
    if not suffixes & FRAME_SUFFIXES or suffixes & VIDEO_SUFFIXES - {".webp"}:
        return False
    return not any(_is(entry.is_dir) and _holds_pictures(Path(entry.path)) for entry in visible)


def _is(kind: Callable[[], bool]) -> bool:
    """Ask an entry of a folder for its kind; a link that leads to itself is of no kind."""
    try:
        return kind()
    except OSError:
        return False


def _holds_pictures(folder: Path) -> bool:
    """Tell whether a folder holds visible images or videos."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not is_hidden(entry.name) and _is(entry.is_file)]
    except OSError:
        return False
    return any(Path(name).suffix.lower() in FRAME_SUFFIXES | VIDEO_SUFFIXES for name in names)


def visible_images(folder: Path) -> list[Path]:
    """List the visible images of a folder, in any order.

    Raises:
        OSError: there is no such folder, or no permission to read it.
    """
    with os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if Path(entry.name).suffix.lower() in FRAME_SUFFIXES and not is_hidden(entry.name) and _is(entry.is_file)
        ]


def one_sequence(images: Iterable[Path]) -> list[Path]:
    """Keep the images of one video: those with one name pattern, without optical flow.

    Names have one pattern if they differ only in their numbers (`img_00001.jpg`, `img_00002.jpg`). All names without a
    number have one pattern.

    Returns:
        The images of the pattern, in the order given.

    Raises:
        ValueError: several patterns, or only flow of several directions. The message names them.

    Examples:
        >>> names = [Path(f"{kind}_0000{i}.jpg") for i in (1, 2) for kind in ("img", "flow_x", "flow_y")]
        >>> [path.name for path in one_sequence(names)]
        ['img_00001.jpg', 'img_00002.jpg']
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        groups[_pattern(image.stem)].append(image)
    pictures = [pattern for pattern in groups if re.sub(r"[\W_#]+", "", pattern).lower() not in _FLOW]
    chosen = pictures if len(groups) > 1 else list(groups)
    if len(chosen) == 1:
        return groups[chosen[0]]
    told = ", ".join(f"{len(groups[pattern])} like {groups[pattern][0].name}" for pattern in sorted(groups)[:5])
    raise ValueError(
        f"its images are of {len(groups)} kinds by their names ({told}), and one video was expected; "
        f"keep one kind per folder"
    )


def _pattern(stem: str) -> str:
    """Return a name without its numbers; empty if it has no number."""
    pattern, numbers = re.subn(r"[0-9]+(\.[0-9]+)?", "#", stem)
    return pattern if numbers else ""
