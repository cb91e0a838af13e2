"""Your own methods and backbones: `my_metric.py:Mine`, or a name that an installed package registers.

Code runs only if the user named its file: in a call, in an option of the command line, or with `name_files`. Recipes,
checkpoints and recognisers of other people may mention a file, but this runs nothing. They record the name of the file
and the hash of its content, and can be used after the user named a file with this hash.

A package enters its parts in its `pyproject.toml`:

    [project.entry-points."fsar.methods"]
    mine = "my_package.my_metric:Mine"
    [project.entry-points."fsar.backbones"]
    my-net = "my_package.my_net:build"
"""

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

_MARK = ".py:"
_named: dict[str, Path] = {}
"""Hash -> file, for all files that the user named."""


@dataclass(frozen=True)
class Origin:
    """Origin of a method or backbone."""

    file: str
    """Name of the file, without folder; or of the package that registers it."""
    name: str
    """Of the class or function in the file, or of the entry."""
    hash: str
    """Of the file's content; the package's version for an entry."""

    def __str__(self) -> str:
        return f"{self.file}:{self.name} {self.hash}"

    @classmethod
    def read(cls, stored: str) -> "Origin":
        """Read what `str` wrote."""
        place, _, code = stored.rpartition(" ")
        file, _, name = place.rpartition(":")
        return cls(file, name, code)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, not an installed package."""
        return self.file.endswith(".py")


def is_own(name: str) -> bool:
    """Whether a name is `FILE.py:NAME`.

    Example:
        >>> is_own("my_metric.py:Mine"), is_own("otam")
        (True, False)
    """
    return _MARK in name


def split_spec(spec: str) -> tuple[str, str]:
    """Split `FILE.py:NAME:rest`, or `name:rest`, into the name and the rest.

    Example:
        >>> split_spec("a/my.py:Mine:scale=2,k=1"), split_spec("otam:per=video"), split_spec("otam")
        (('a/my.py:Mine', 'scale=2,k=1'), ('otam', 'per=video'), ('otam', ''))
    """
    file, mark, after = spec.partition(_MARK)
    name, _, rest = (after if mark else spec).partition(":")
    return file + mark + name if mark else name, rest


def name_files(files: Iterable[str | Path]) -> None:
    """Allow these files to run: recipes, checkpoints and recognisers that mention them can then be used.

    Args:
        files: your Python files, or `FILE.py:NAME`.

    Raises:
        ValueError: no such file, or no Python file.
    """
    for file in files:
        path = Path(str(file).partition(_MARK)[0] + _MARK[:-1] if is_own(str(file)) else str(file))
        if path.suffix != ".py" or not path.is_file():
            raise ValueError(f"{path}: no such Python file; expected a file of your own, as my_metric.py")
        _named[file_hash(path)] = path


def file_hash(path: Path) -> str:
    """Hash of a file's content, 16 hexadecimal digits."""
    return blake2b(path.read_bytes(), digest_size=8).hexdigest()


def require_named(*specs: str) -> None:
    """Check that the user named the files of these parts; other names are skipped.

    Args:
        specs: names of methods or backbones, as a recipe has them.

    Raises:
        ValueError: a file that the user has not named, or no such file.
    """
    for spec in filter(is_own, specs):
        _named_file(spec)


def _named_file(spec: str) -> tuple[Path, str]:
    """The file of `FILE.py:NAME`, and its hash."""
    path = Path(spec.partition(_MARK)[0] + _MARK[:-1])
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected FILE.py:NAME, as my_metric.py:Mine")
    code = file_hash(path)
    if code not in _named:
        raise ValueError(
            f"{spec} is code of a file that you have not named, so it is not run; read it, then add --own {path} "
            f"(in Python: fsar.own.name_files([{str(path)!r}]))"
        )
    return path, code


def load_own(spec: str) -> tuple[Any, Origin]:
    """Import a part from a file that the user named.

    Args:
        spec: `FILE.py:NAME`.

    Returns:
        The class or function, and where it comes from.

    Raises:
        ValueError: no such file or name, the file was not named by the user, or it fails when it is imported.
    """
    path, code = _named_file(spec)
    module, name = _import(path, code), spec.partition(_MARK)[2]
    if not hasattr(module, name):
        there = sorted(
            key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
        )
        raise ValueError(f"{path} has no {name!r}; it has {', '.join(there) or 'nothing'}")
    return getattr(module, name), Origin(path.name, name, code)


def find_named(origin: Origin, where: str) -> str:
    """Find the file that a checkpoint or recogniser was made with, among those that the user named.

    Args:
        origin: as the checkpoint recorded it.
        where: the checkpoint or recogniser, for the message.

    Returns:
        `FILE.py:NAME`, or the name of an entry of a package.

    Raises:
        ValueError: the file is not among those named, or has changed since.
    """
    if not origin.is_file:
        return origin.name
    if origin.hash in _named:
        return f"{_named[origin.hash]}:{origin.name}"
    for code, path in _named.items():
        if path.name == origin.file:
            raise ValueError(
                f"{where} was made with {origin.file} of hash {origin.hash}, and {path} has changed since ({code}); "
                f"restore that version, or train again"
            )
    raise ValueError(
        f"{where} was made with code of its author, {origin.file}:{origin.name} (hash {origin.hash}), which is not run "
        f"unasked; read the file, then add --own {origin.file} (in Python: fsar.own.name_files([{origin.file!r}]))"
    )


def entered(group: str) -> Mapping[str, EntryPoint]:
    """Parts that installed packages enter.

    Args:
        group: `fsar.methods` or `fsar.backbones`.
    """
    return {entry.name: entry for entry in entry_points(group=group)}


def load_entered(entry: EntryPoint) -> tuple[Any, Origin]:
    """Import a part that an installed package enters, and say where it comes from.

    Raises:
        ValueError: it cannot be imported.
    """
    package = "unknown" if entry.dist is None else entry.dist.name
    version = "" if entry.dist is None else entry.dist.version
    try:
        return entry.load(), Origin(package, entry.name, version)
    except Exception as error:
        raise ValueError(f"{entry.name} of package {package} cannot be imported: {_short(error)}") from error


def _import(path: Path, code: str) -> Any:
    """Import a file under a name of its content: two versions of a file never mix."""
    name = f"fsar_own_{code}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # settings classes look their types up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} fails when it is imported: {_short(error)}") from error
    return module


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
