"""A folder of files on this machine, or below a URL such as s3://bucket/archive (through fsspec)."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fsar.files import atomic_path, cache_dir


def is_url(path: object) -> bool:
    """Tell a URL from a path.

    Args:
        path: str or `os.PathLike`.

    Example:
        >>> is_url("s3://bucket/archive"), is_url("clips/a.mp4")
        (True, False)
    """
    return "://" in os.fspath(path) if isinstance(path, str | os.PathLike) else False


def url_of(path: Path) -> str | None:
    """Return the URL that a path stands for; None if it is a path. A path has no `//`, so a URL loses one `/` in it.

    Args:
        path: of a video, perhaps made of a URL.

    Example:
        >>> url_of(Path("s3://bucket/a.mp4")), url_of(Path("clips/a.mp4"))
        ('s3://bucket/a.mp4', None)
    """
    scheme, found, rest = os.fspath(path).partition(":/")
    return f"{scheme}://{rest}" if found and len(scheme) > 1 and "/" not in scheme else None


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn the errors of an object store into `OSError`, whatever its library raises.

    Args:
        url: for the message.

    Raises:
        OSError: names the URL and the reason.
        ValueError: the library for this kind of URL is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{url}: {error}; for s3://, pip install 'fsar[s3]'") from error
    except (OSError, ValueError):
        raise
    except Exception as error:  # each library of a store has its own
        raise OSError(f"{url}: {error}") from error


def open_url(url: str) -> tuple[Any, str]:
    """Find the file system of a URL.

    Args:
        url: of a file or folder.

    Returns:
        The file system of fsspec, and the path in it.

    Raises:
        ValueError: unknown kind of URL, or its library is missing.
    """
    with reaching(url):
        from fsspec.core import url_to_fs

        return url_to_fs(url)


class Place:
    """A folder, in which files are written whole or not at all.

    Args:
        url: a path, or a URL that fsspec knows.

    Raises:
        ValueError: unknown kind of URL, or its library is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     place = Place(folder)
        ...     with place.writing("notes/1.txt") as path:
        ...         _ = path.write_text("ready")
        ...     place.names("notes"), place.local("notes/1.txt").read_text()
        (['1.txt'], 'ready')
    """

    def __init__(self, url: str | os.PathLike[str]):
        self.url = os.fspath(url).rstrip("/") or "/"
        self.remote = is_url(self.url)
        if self.remote:
            self._store, self._root = open_url(self.url)

    def __str__(self) -> str:
        return self.url

    @property
    def folder(self) -> Path:
        """The folder on this machine.

        Raises:
            ValueError: the place is a URL.
        """
        if self.remote:
            raise ValueError(f"{self.url} is a URL, and this needs a folder on this machine; copy it")
        return Path(self.url)

    def exists(self, name: str) -> bool:
        """Tell whether there is a file of this name."""
        if not self.remote:
            return (self.folder / name).is_file()
        with reaching(self.url):
            self._store.invalidate_cache()  # other machines write, too
            return bool(self._store.isfile(f"{self._root}/{name}"))

    def names(self, folder: str) -> list[str]:
        """List the files of an inner folder, sorted, without those that are being written; nothing if it is missing."""
        try:
            if not self.remote:
                found = os.listdir(self.folder / folder)
            else:
                with reaching(self.url):
                    self._store.invalidate_cache()
                    listed = self._store.ls(f"{self._root}/{folder}", detail=False)
                    found = [path.rsplit("/", 1)[-1] for path in listed]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if name and not name.startswith("."))

    def local(self, name: str) -> Path:
        """Give a path on this machine; a file below a URL is copied into the cache once per version.

        Args:
            name: of the file.

        Raises:
            OSError: no such file, or it cannot be read.
        """
        if not self.remote:
            return self.folder / name
        with reaching(self.url):
            path = f"{self._root}/{name}"
            version = blake2b(f"{self.url} {name} {self._store.ukey(path)}".encode(), digest_size=16).hexdigest()
            copy = cache_dir() / "remote" / version[:2] / f"{version}{Path(name).suffix}"
            if not copy.is_file():
                with atomic_path(copy) as temporary:
                    self._store.get_file(path, str(temporary))
            return copy

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path with the same suffix; after the block, the file takes its name.

        Args:
            name: of the file, with inner folders.

        Raises:
            OSError: it cannot be written.
        """
        if not self.remote:
            with atomic_path(self.folder / name) as temporary:
                yield temporary
            return
        with TemporaryDirectory(prefix="fsar-") as folder:
            temporary = Path(folder) / Path(name).name
            yield temporary
            with reaching(self.url):
                self._store.put_file(str(temporary), f"{self._root}/{name}")  # a store shows an object when it is whole


def fetch(url: str, to: Path) -> None:
    """Copy a file from a URL.

    Args:
        url: of the file.
        to: the new file; its folder exists.

    Raises:
        OSError: no such file, or it cannot be read.
    """
    store, path = open_url(url)
    with reaching(url), store.open(path, "rb") as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
