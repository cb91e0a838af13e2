"""Paths of videos, and errors that name them."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

VideoPath = str | bytes | os.PathLike[Any]
"""A video file, or a folder of frames."""


class VideoError(ValueError):
    """A video that cannot be read.

    The message names the path and the reason.

    Args:
        path: the video, as the user gave it.
        reason: the problem, and the fix.

    Example:
        >>> str(VideoError(Path("clips/a.mp4"), "the file is empty; copy it again from its source"))
        'clips/a.mp4: the file is empty; copy it again from its source'
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{display(path)}: {reason}")
        self.path, self.reason = path, reason


def display(path: Path) -> str:
    """Turn a path into printable text, even if its name is not valid UTF-8.

    Example:
        >>> display(Path("clips/a.mp4"))
        'clips/a.mp4'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def as_path(video: object) -> Path:
    """Turn a user's argument for a video into a path.

    Args:
        video: str, bytes or an `os.PathLike`.

    Raises:
        ValueError: an empty path, a URL, or not a path.

    Example:
        >>> as_path(b"clips/a.mp4").name
        'a.mp4'
        >>> as_path("https://a.org/a.mp4")
        Traceback (most recent call last):
            ...
        ValueError: https://a.org/a.mp4 is a URL, and only files are read; download it; `fsar live` takes streams
    """
    if not isinstance(video, str | bytes | os.PathLike):
        raise ValueError(
            f"got {type(video).__name__} for a video; expected the path of a video file or of a folder of frames, "
            f"as str, bytes or os.PathLike"
        )
    text = os.fsdecode(video)
    if not text:
        raise ValueError("got an empty path for a video; give a video file or a folder of frames")
    url = re.match(r"([A-Za-z][A-Za-z0-9+.-]+:)/+(.*)", text)  # `c:/` is a drive; a Path has lost a slash
    if url and not os.path.lexists(text):
        raise ValueError(
            f"{url[1]}//{url[2]} is a URL, and only files are read; download it; `fsar live` takes streams"
        )
    return Path(text)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the system's error on opening a video into a VideoError with the fix."""
    try:
        yield
    except FileNotFoundError as error:
        raise VideoError(path, _missing(path)) from error
    except NotADirectoryError as error:
        raise VideoError(path, "a part of its path is a file; check the name") from error
    except PermissionError as error:
        raise VideoError(path, "no permission to read it; change its mode or owner") from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise VideoError(path, "a link that leads to itself; link to the file") from error


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"a link to {os.fsdecode(os.readlink(path))}, which is missing; link to the file"
    return "no such file; check the name"


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn an error of a decoder into a VideoError with path and reason."""
    try:
        yield
    except VideoError:
        raise
    except MemoryError as error:
        raise VideoError(path, "it asks for more memory than there is; the file is broken or too large") from error
    except (av.FFmpegError, EOFError, OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(path, f"{reason[0].lower()}{reason[1:]}; the file is broken or not a video") from error


def require_file(path: Path) -> None:
    """Refuse anything but a regular file with content: reading a pipe or a device might never end.

    Raises:
        VideoError: no such file, no permission, not a regular file, or an empty file.
    """
    with readable(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise VideoError(path, "it is a pipe, socket or device; give a regular file")
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoError(path, "the file is empty; copy it again from its source")
