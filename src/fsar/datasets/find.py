"""Find listed videos below a folder: by the listed path, by name in a folder of the class, or by name alone."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from fsar.datasets.folder import is_video
from fsar.text.words import class_text
from fsar.video.kinds import OTHER_SUFFIXES, VIDEO_SUFFIXES, is_frame_folder, is_hidden
from fsar.video.paths import display

_words = lru_cache(maxsize=None)(class_text)


def without_suffix(name: str) -> str:
    """Remove the suffix of a video from a name; another dot belongs to the name.

    Examples:
        >>> [without_suffix(name) for name in ("v_Archery_g01_c01.avi", "clip.7")]
        ['v_Archery_g01_c01', 'clip.7']
    """
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot + suffix.lower() in VIDEO_SUFFIXES else name


def folders_of(listed: str) -> tuple[str, ...]:
    """Return the folders of a listed path.

    Examples:
        >>> folders_of("/data/Archery/v_Archery_g01_c01.avi")
        ('data', 'Archery')
    """
    return tuple(part for part in listed.split("/")[:-1] if part not in ("", "."))


class FoundVideo(NamedTuple):
    """A video below a folder."""

    path: Path
    folders: tuple[str, ...]
    """Names of the folders between root and video."""


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
        self._by_name: dict[str, list[FoundVideo]] = defaultdict(list)
        for name, video in _walk(root):
            self._by_name[name].append(video)

    def named(self, name: str) -> list[FoundVideo]:
        """List the videos of a name (without suffix), sorted."""
        videos = self._by_name.get(name, ())
        return sorted(video for video in videos if video.path.suffix.lower() in VIDEO_SUFFIXES or is_video(video.path))

    @property
    def names(self) -> Iterator[str]:
        """Names of all files and folders that may be videos."""
        yield from self._by_name

    @cached_property
    def _folders(self) -> set[str]:
        """Words of the names of all folders that hold videos."""
        folders = {video.folders for videos in self._by_name.values() for video in videos}
        return {_words(name) for names in folders for name in names}

    @cached_property
    def _place(self) -> tuple[str, ...]:
        return tuple(self.root.absolute().parts[1:])

    def by_class(self, labels: Iterable[str]) -> bool:
        """Tell whether some folder has the name of a class."""
        return any(_words(label) in self._folders for label in labels)

    def has(self, listed: str) -> bool:
        """Tell whether a video exists at exactly the listed path, with any suffix."""
        return any(self._very(video, listed) for video in self.named(_name(listed)))

    def _very(self, video: FoundVideo, listed: str) -> bool:
        before = self._place if listed.startswith("/") else ()
        return (*before, *video.folders) == folders_of(listed)

    def find(self, listed: str, label: str, shared: int = 0, anywhere: bool = False) -> Path | None:
        """Find the video that a list names.

        The rules are tried in this order; the first that finds a video decides:

        1. exactly the listed path, below the root or absolute, with any suffix;
        2. a path with the same end: the name and at least the last `shared` folders. If there are several, the one
           whose folders below the root are all in the listed path;
        3. the name, in a folder of the class, at any depth;
        4. with `anywhere`, the name alone, as in datasets with one flat folder.

        Args:
            listed: the path in the list, with or without suffix.
            label: the class; its folder may be written differently (`brush_hair`, `Brush Hair`).
            shared: number of folders from the class to the name; 0 if no listed folder is the class.
            anywhere: whether to apply rule 4; set it unless the folders are `by_class`.

        Returns:
            The path of the video; None if there is none.

        Raises:
            ValueError: several videos fit.
        """
        return self.choose(self.named(_name(listed)), listed, label, shared, anywhere)

    def choose(
        self, candidates: Sequence[FoundVideo], listed: str, label: str, shared: int = 0, anywhere: bool = False
    ) -> Path | None:
        """Choose among the videos with one name; see `find`.

        Args:
            candidates: the videos.
            listed: the path in the list.
            label: the class in the list.
            shared: as `find` takes it.
            anywhere: as `find` takes it.

        Returns:
            The chosen video's path; None if there is none.

        Raises:
            ValueError: several videos fit.
        """
        if not candidates:
            return None
        folders = folders_of(listed)
        very = [video for video in candidates if self._very(video, listed)]
        tails = {video: _tail((*self._place, *video.folders), folders) for video in candidates}
        longest = max(tails.values())
        ending = [video for video, tail in tails.items() if shared and tail == longest >= shared]
        whole = [video for video in ending if tails[video] >= len(video.folders)]
        within = [video for video in candidates if _words(label) in map(_words, video.folders)]
        chosen = very or whole or ending or within or (candidates if anywhere else [])
        if len(chosen) > 1:
            raise ValueError(
                f"{len(chosen)} videos fit {label}/{_name(listed)}: "
                f"{', '.join(display(video.path) for video in chosen[:3])}; "
                f"keep one of them below {display(self.root)}, or name a folder that holds one of them"
            )
        return chosen[0].path if chosen else None


def _name(listed: str) -> str:
    return without_suffix(listed.rpartition("/")[2])


def _tail(one: Sequence[str], other: Sequence[str]) -> int:
    """Count the equal parts at the end of two paths."""
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _walk(root: Path) -> Iterator[tuple[str, FoundVideo]]:
    """Yield each file that may be a video and each folder of frames, with its name; hidden ones are ignored."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in seen:  # a link to a folder above
            subfolders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        above = Path(folder).relative_to(root).parts
        visible = sorted(name for name in subfolders if not is_hidden(name))
        frames = {name: None for name in visible if is_frame_folder(Path(folder, name))}
        subfolders[:] = [name for name in visible if name not in frames]  # in other folders, files are frames
        yield from ((name, FoundVideo(Path(folder, name), above)) for name in frames)
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if not is_hidden(name) and suffix.lower() not in OTHER_SUFFIXES:
                yield stem, FoundVideo(Path(folder, name), above)
