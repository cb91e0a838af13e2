"""Which files may be videos, and which folders are the frames of one.

A file counts as a video by its suffix; a suffix that is in neither list below tells nothing, and then the content
decides (`fsar.datasets.folder.is_video`). A folder is a video if it holds visible images and no video: its images
are the frames.

Tools that extract frames write optical flow beside the pictures (`img_00001.jpg`, `flow_x_00001.jpg`,
`flow_y_00001.jpg`). Images are therefore grouped by their name without its numbers, and one group is the video.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
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
"""Files of these are videos. (A `.webp` may also be a picture, which its content tells.)"""

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
"""Files of these are no videos."""

_SYSTEM = frozenset(("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "#recycle"))
_BOOKKEEPING = frozenset((".ds_store", "thumbs.db", "desktop.ini", ".git", ".gitignore", ".gitattributes", ".gitkeep"))
_FLOW = frozenset(("flow", "flowx", "flowy", "x", "y", "flowu", "flowv", "u", "v"))


def is_hidden(name: str) -> bool:
    """Tell whether a name is hidden or one that a system writes for itself: `._a.mp4`, `@eaDir`, `__MACOSX`.

    Examples:
        >>> [is_hidden(name) for name in ("._0.jpg", "@eaDir", "wave")]
        [True, True, False]
    """
    return name.startswith(".") or name.lower() in _SYSTEM | _BOOKKEEPING


def is_bookkeeping(name: str) -> bool:
    """Tell whether a name is what systems write into every folder, which nobody misses: `.DS_Store`, `Thumbs.db`."""
    return name.lower() in _BOOKKEEPING or name.startswith(".writing-")


def is_frame_folder(folder: Path) -> bool:
    """Tell whether a folder is the frames of one video: it holds visible images, no video, and no such folder.

    Raises:
        OSError: there is no such folder, or no permission to read it.
    """
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    suffixes = {Path(entry.name).suffix.lower() for entry in visible if entry.is_file()}
    if not suffixes & FRAME_SUFFIXES or suffixes & VIDEO_SUFFIXES - {".webp"}:
        return False
    return not any(entry.is_dir() and _holds_pictures(Path(entry.path)) for entry in visible)


def _holds_pictures(folder: Path) -> bool:
    """Tell whether a folder holds visible images or videos."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not is_hidden(entry.name) and entry.is_file()]
    except OSError:
        return False
    return any(Path(name).suffix.lower() in FRAME_SUFFIXES | VIDEO_SUFFIXES for name in names)


def visible_images(folder: Path) -> list[Path]:
    """List the images of a folder that are not hidden, in no order.

    Raises:
        OSError: there is no such folder, or no permission to read it.
    """
    with os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if Path(entry.name).suffix.lower() in FRAME_SUFFIXES and not is_hidden(entry.name) and entry.is_file()
        ]


def one_sequence(images: Iterable[Path]) -> list[Path]:
    """Keep the images that are the frames of one video: those of one name pattern, optical flow left aside.

    Names follow one pattern if they agree but for their numbers (`img_00001.jpg`, `img_00002.jpg`); names without a
    number follow one pattern, too.

    Returns:
        The images of the pattern, in the order given.

    Raises:
        ValueError: there are several patterns, or flow of several directions alone. The message names them.

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
    """Name without its numbers; empty if it has none."""
    pattern, numbers = re.subn(r"[0-9]+(\.[0-9]+)?", "#", stem)
    return pattern if numbers else ""
