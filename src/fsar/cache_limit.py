"""The limit of the cache folder: the files that were used least recently are removed first.

`FSAR_CACHE_LIMIT` is in GB, 10 by default; 0 stands for no limit. Frames and encodings count and go. A reader sets the
time of reading of what it uses, since many systems do not.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from fsar.files import cache_dir

DEFAULT = 10.0
"""GB."""
ROOMS = ("frames", "features", "windows")
"""Folders in the cache whose large files may be removed."""
SUFFIXES = (".npy", ".npz", ".safetensors")
EVERY = 2**28
"""Bytes that this process writes between two checks of the folder."""
KEPT = 0.9
"""Share of the limit that is kept after removal."""

_lock = Lock()
_written = EVERY  # so that the first written file checks the folder


def cache_limit() -> int | None:
    """Read the limit, in bytes; None for no limit.

    Raises:
        ValueError: `FSAR_CACHE_LIMIT` is not a number of GB.
    """
    text = os.environ.get("FSAR_CACHE_LIMIT") or str(DEFAULT)
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0 <= size < float("inf"):
        raise ValueError(f"FSAR_CACHE_LIMIT is {text!r}; expected a number of GB such as 10, or 0 for no limit")
    return round(size * 1e9) or None


def used(path: Path) -> None:
    """Mark a file of the cache as used now; its time of change stays."""
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))


def written(path: Path) -> None:
    """Count a new file of the cache, and remove files if the limit is exceeded.

    Args:
        path: the file. Files outside the cache folder do not count.
    """
    global _written
    if not path.is_relative_to(cache_dir()):
        return
    with _lock:
        with suppress(OSError):
            _written += path.stat().st_size
        if _written < EVERY:
            return
        _written = 0
    limit = cache_limit()
    if limit is not None:
        with suppress(OSError):  # what this process may not remove is no fault of its work
            make_room(cache_dir(), limit)


def make_room(folder: Path, limit: int) -> int:
    """Remove the files that were used least recently until `KEPT` of the limit is left.

    Args:
        folder: the cache folder.
        limit: bytes.

    Returns:
        Number of files removed.

    Raises:
        OSError: some files could not be removed; the others that should go are removed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i, name in enumerate("abc"):
        ...         file = Path(folder) / "frames" / f"{name}.npy"
        ...         file.parent.mkdir(exist_ok=True)
        ...         _ = file.write_bytes(bytes(10))
        ...         os.utime(file, (i, i))
        ...     make_room(Path(folder), 25), sorted(path.name for path in file.parent.iterdir())
        (1, ['b.npy', 'c.npy'])
    """
    found = sorted(files_of(folder))
    total = sum(file.size for file in found)
    return 0 if total <= limit else _remove(found, total - KEPT * limit)


def remove_older(folder: Path, seconds: float) -> int:
    """Remove the files that nothing has used for some time.

    Args:
        folder: the cache folder.
        seconds: since the last use.

    Returns:
        Number of files removed.

    Raises:
        OSError: some files could not be removed; the others that should go are removed.
    """
    last = time.time_ns() - round(seconds * 1e9)
    return _remove(sorted(file for file in files_of(folder) if file.used < last), math.inf)


class CachedFile(NamedTuple):
    """A file of the cache that may be removed; those used least recently come first in order."""

    used: int
    """Time of the last use, in ns since 1970."""
    size: int
    """Bytes."""
    path: Path


def files_of(folder: Path) -> Iterator[CachedFile]:
    """Yield the files of a cache that may be removed, in any order.

    Args:
        folder: the cache folder.
    """
    for room in ROOMS:
        for place, _, names in os.walk(folder / room):
            for path in (Path(place, name) for name in names if name.endswith(SUFFIXES)):
                with suppress(OSError):  # another process may have removed it
                    stat = path.stat()
                    yield CachedFile(max(stat.st_atime_ns, stat.st_mtime_ns), stat.st_size, path)


def _remove(files: Sequence[CachedFile], enough: float) -> int:
    """Remove files in order until enough bytes are gone; what another process removed meanwhile is gone, too."""
    gone, removed, refused = 0, 0, []
    for file in files:
        if gone >= enough:
            break
        try:
            file.path.unlink()
            removed += 1
        except FileNotFoundError:
            pass
        except OSError as error:  # no permission or, on Windows, a file in use
            refused.append(error)
            continue
        gone += file.size
    if refused:
        raise OSError(f"could not remove {len(refused)} files of the cache (removed {removed}), first {refused[0]}")
    return removed
