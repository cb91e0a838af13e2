"""Write files whole or not at all; lock files; find the cache folder; refuse a recogniser that is not there."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import platformdirs
from safetensors import SafetensorError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor

LOCKED_BYTE = 2**30
"""On Windows a lock covers bytes and keeps others from reading them; no lock file is so long."""


def cache_dir() -> Path:
    """Return the folder for files that can be made again: `FSAR_CACHE`, or the user's cache folder.

    Raises:
        ValueError: `FSAR_CACHE` is not set, and this user has no home folder, as in some containers.
    """
    if named := os.environ.get("FSAR_CACHE"):
        return Path(named)
    try:
        folder = Path(platformdirs.user_cache_dir("fsar"))
    except RuntimeError:  # newer releases of platformdirs; older ones leave "~" as it is
        folder = Path("~")
    if folder.parts[0] == "~":
        raise ValueError("no home folder is known for the cache; set FSAR_CACHE to a folder that you may write")
    return folder


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; after the block, rename it to `path`.

    If writing fails or is killed, `path` stays as it was. The temporary name has the same suffix, since some writers
    choose the format by the suffix.

    Args:
        path: the file or folder to write; its parent is made if there is none.

    Yields:
        The temporary path.

    Raises:
        OSError: the folder cannot be written or the disk is full; the message says where.
    """
    temporary = path.with_name(
        f".writing-{uuid4().hex}{path.suffix}"
    )  # the writer creates it, so that the user's umask applies
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"could not write {path}: {getattr(error, 'strerror', None) or error}. Nothing was half-written; "
            f"{_way_out(path)}, then run the same command again."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _way_out(path: Path) -> str:
    if path.is_dir():
        return "it is a folder: give another name"
    if not path.parent.is_dir():
        return f"its folder {path.parent} cannot be made: choose another folder"
    return "make room or choose another folder"


def require_folder(folder: Path, option: str) -> None:
    """Make a folder and try to write into it, before the work whose result goes there.

    Args:
        folder: made if there is none.
        option: that names it, for the message.

    Raises:
        ValueError: it cannot be made or written.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     require_folder(Path(file.name), "--out")
        Traceback (most recent call last):
        ValueError: --out: ... is a file, and a folder is needed; choose another one
    """
    try:
        if file := next((place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()), None):
            raise ValueError(f"{option}: {file} is a file, and a folder is needed; choose another one")
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{option}: the folder {folder} cannot be made or written ({error.strerror}); choose another one"
        ) from error


def write_tensors_atomic(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all, with the mode that the user's umask gives.

    Args:
        path: the file.
        tensors: by name.
        metadata: texts for the file's header.

    Raises:
        OSError: the folder cannot be written or the disk is full; the message says where.
    """
    from safetensors.torch import save_file  # imports torch, which takes seconds

    with atomic_path(path) as temporary:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        save_file(dict(tensors), temporary, dict(metadata))  # it would create a file that only the owner can read
        temporary.chmod(mode)


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; make its folder if there is none.

    Args:
        path: the file.
        text: all of its content; line ends are written as they are.

    Raises:
        OSError: the folder cannot be written or the disk is full; the message says where.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text_atomic(Path(folder) / "new" / "note.txt", "ready")
        ...     (Path(folder) / "new" / "note.txt").read_text()
        'ready'
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def require_recognizer(path: Path) -> None:
    """Refuse a path that is no file of a recogniser; it is not opened.

    Raises:
        ValueError: no such file, or a folder.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected a recogniser's file, such as {path / 'mine.fsar'}")
    if not path.is_file():
        raise ValueError(
            f"{path}: no such recogniser file; check the name, or make one with "
            f"`fsar recognize --examples DIR --save {path}`"
        )


def lock(file: IO[Any], wait: bool = True) -> None:
    """Lock an open file for this process, until the file is closed or the process ends.

    Args:
        file: open for reading or writing.
        wait: until no other process holds the lock.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as first:
        ...     lock(first)
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    else:
        _lock_on_windows(file, wait)


def _lock_on_windows(file: IO[Any], wait: bool) -> None:
    import msvcrt

    while True:
        place = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        os.lseek(file.fileno(), LOCKED_BYTE, os.SEEK_SET)
        try:
            return msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError as error:
            if not wait:
                raise BlockingIOError(error.errno, "another process holds the lock") from error
        finally:
            os.lseek(file.fileno(), place, os.SEEK_SET)
        time.sleep(0.05)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time read, change and replace a file; others that ask for the lock wait.

    The lock lies on the file itself. Whoever waited finds that the file was replaced, and locks the new one. Processes
    that only read need no lock, since the file is replaced as a whole. Windows replaces no file that is open, so the
    lock there lies on a file `.NAME.lock` beside it, which stays.

    Args:
        path: an existing file.

    Raises:
        OSError: there is no such file, or no permission to read it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "count"
        ...     write_text_atomic(path, "1")
        ...     with locked(path):
        ...         write_text_atomic(path, str(int(path.read_text()) + 1))
        ...     path.read_text()
        '2'
    """
    if fcntl is None:
        path.stat()  # raises if there is no such file
        with path.with_name(f".{path.name}.lock").open("ab") as file:
            lock(file)
            yield
        return
    while True:
        with path.open("rb") as file:
            lock(file)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return
