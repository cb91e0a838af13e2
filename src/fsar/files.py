"""Files on disk: whole or absent, never half-written; and where the cache lives."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Folder of everything that can be made again: `FSAR_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("FSAR_CACHE") or platformdirs.user_cache_dir("fsar"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it to `path` if all went well.

    A failed or killed write leaves `path` as it was. The temporary name keeps the suffix, which some
    writers go by.

    Raises:
        OSError: the folder cannot be written or the disk is full; the message says where.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OSError(
            f"could not write {path}: {error.strerror or error}. Nothing was half-written; "
            f"make room or choose another folder, then run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
