"""Labelled videos: what every dataset is."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from fsar.names import unknown

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Video:
    """One labelled video."""

    id: str
    """Unique in its dataset and the same on every machine: `class/name`, no suffix."""
    path: Path
    label: str
    """Its class."""


@dataclass(frozen=True)
class VideoDataset:
    """Labelled videos with the words of their classes and, where there are splits, each class's split."""

    name: str
    videos: tuple[Video, ...]
    texts: Mapping[str, str]
    """Class -> its words, as a text encoder reads them."""
    splits: Mapping[str, str]
    """Class -> train, val or test; classes without a split are in none."""

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Classes that have videos, sorted."""
        return tuple(sorted({video.label for video in self.videos}))

    @cached_property
    def counts(self) -> Counter[str]:
        """Videos per class."""
        return Counter(video.label for video in self.videos)

    def split(self, name: str) -> "VideoDataset":
        """Return the videos of one split's classes; `all` for every class.

        Raises:
            ValueError: no such split, or no class in it.
        """
        if name == "all":
            return self
        if name not in SPLITS:
            raise ValueError(unknown(name, [*SPLITS, "all"], "split"))
        chosen = self.only(label for label in self.classes if self.splits.get(label) == name)
        if not chosen.videos:
            have = ", ".join(sorted(set(self.splits.values()))) or "none"
            raise ValueError(
                f"dataset {self.name} has no class in split {name!r} (splits there: {have}); give a column `split` "
                f"in its labels.csv, or use split `all`"
            )
        return chosen

    def only(self, classes: Iterable[str]) -> "VideoDataset":
        """Return the videos of the named classes.

        Raises:
            ValueError: a class that the dataset lacks.
        """
        kept = set(classes)
        for label in sorted(kept - set(self.classes)):
            raise ValueError(unknown(label, self.classes, f"class of {self.name}"))
        return replace(self, videos=tuple(video for video in self.videos if video.label in kept))

    def without(self, ids: Iterable[str]) -> "VideoDataset":
        """Return all videos but those named."""
        gone = set(ids)
        return replace(self, videos=tuple(video for video in self.videos if video.id not in gone))

    def fingerprint(self) -> str:
        """Canonical hash over sorted (split, class, video id) lines: the same list, the same hash."""
        lines = sorted(f"{self.splits.get(v.label, '')}\t{v.label}\t{v.id}" for v in self.videos)
        return sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
