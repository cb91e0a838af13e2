"""Finding listed videos below a folder: by the whole listed path, by a folder of the class, or by the name alone."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from fsar.datasets.folder import is_video
from fsar.text.prompts import class_text
from fsar.video.kinds import OTHER_SUFFIXES, VIDEO_SUFFIXES, is_frame_folder, is_hidden
from fsar.video.reading import display

_words = lru_cache(maxsize=None)(class_text)


def without_suffix(name: str) -> str:
    """Cut the suffix of a video off a name; any other dot belongs to the name.

    Examples:
        >>> [without_suffix(name) for name in ("v_Archery_g01_c01.avi", "clip.7")]
        ['v_Archery_g01_c01', 'clip.7']
    """
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot + suffix.lower() in VIDEO_SUFFIXES else name


class VideoIndex:
    """All videos below a folder, by their names without suffix; a folder of frames is one video.

    Args:
        root: the folder. Links to folders are followed.

    Raises:
        ValueError: no such folder.
    """

    def __init__(self, root: Path):
        if not root.is_dir():
            raise ValueError(f"{display(root)}: no such folder; expected the dataset's videos below it")
        self.root = root
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in _walk(root):
            self._by_name[path.name if path.is_dir() else path.stem].append(path)

    def named(self, name: str) -> list[Path]:
        """List the videos of a name (without suffix), sorted."""
        paths = self._by_name.get(name, ())
        return sorted(path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES or is_video(path))

    @property
    def names(self) -> Iterator[str]:
        """Names of all files and folders that may be videos."""
        yield from self._by_name

    @cached_property
    def _folders(self) -> set[str]:
        """Words of the names of all folders that hold videos."""
        return {_words(name) for paths in self._by_name.values() for path in paths for name in self._above(path)}

    def by_class(self, labels: Iterable[str]) -> bool:
        """Tell whether the videos lie in folders of their classes: whether some folder is called by a class."""
        return any(_words(label) in self._folders for label in labels)

    def _above(self, path: Path) -> tuple[str, ...]:
        """Names of the folders between the root and a video."""
        return path.relative_to(self.root).parts[:-1]

    def has(self, listed: str) -> bool:
        """Tell whether a video lies at the very path that a list names."""
        wanted = self._very(listed)
        return any(path.with_name(_name(path)) == wanted for path in self.named(wanted.name))

    def _very(self, listed: str) -> Path:
        """Where a listed path leads, without suffix."""
        return self.root / PurePosixPath(listed).with_name(without_suffix(PurePosixPath(listed).name))

    def find(self, listed: str, label: str, shared: int = 0, anywhere: bool = False) -> Path | None:
        """Find the video that a list names.

        The first of these rules that gives a video decides:

        1. the very path, below the root or absolute, with any suffix;
        2. the path that ends like the listed one: in its name and the last `shared` folders, or more; if there are
           several, the one that does so with all of its folders below the root;
        3. the name, in a folder of the class, at any depth;
        4. with `anywhere`, the name alone, as in datasets that lie in one flat folder.

        Args:
            listed: the path in the list, with or without suffix.
            label: the class, whose folder may be written in another way (`brush_hair`, `Brush Hair`).
            shared: folders before the name, from the class on; 0 if no listed folder is the class.
            anywhere: whether the folder need not tell the class; right unless the videos lie `by_class`.

        Returns:
            The path of the video; None if there is none.

        Raises:
            ValueError: several videos fit.
        """
        wanted = self._very(listed)
        return self.choose(self.named(wanted.name), listed, label, shared, anywhere)

    def choose(
        self, candidates: Sequence[Path], listed: str, label: str, shared: int = 0, anywhere: bool = False
    ) -> Path | None:
        """Choose among the videos of one name; see `find`.

        Raises:
            ValueError: several videos fit.
        """
        if not candidates:
            return None
        wanted = self._very(listed)
        very = [path for path in candidates if path.with_name(_name(path)) == wanted]
        tails = {path: _tail(path.parent.parts, wanted.parent.parts) for path in candidates}
        longest = max(tails.values())
        ending = [path for path, tail in tails.items() if shared and tail == longest >= shared]
        whole = [path for path in ending if tails[path] >= len(self._above(path))]
        within = [path for path in candidates if _words(label) in map(_words, self._above(path))]
        chosen = very or whole or ending or within or (candidates if anywhere else [])
        if len(chosen) > 1:
            raise ValueError(
                f"{len(chosen)} videos fit {label}/{wanted.name}: {', '.join(map(display, chosen[:3]))}; "
                f"keep one of them below {display(self.root)}, or name a folder that holds one of them"
            )
        return chosen[0] if chosen else None


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _tail(one: Sequence[str], other: Sequence[str]) -> int:
    """Count the last parts that two paths have in common."""
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _walk(root: Path) -> Iterator[Path]:
    """Give every file below a folder that may be a video, and every folder of frames; nothing hidden."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in seen:  # a link that leads back
            subfolders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        visible = sorted(name for name in subfolders if not is_hidden(name))
        frames = [name for name in visible if is_frame_folder(Path(folder, name))]
        subfolders[:] = [name for name in visible if name not in frames]  # the files of the others are frames
        yield from (Path(folder, name) for name in frames)
        for name in sorted(files):
            if not is_hidden(name) and Path(name).suffix.lower() not in OTHER_SUFFIXES:
                yield Path(folder, name)
