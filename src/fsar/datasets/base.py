"""Labelled videos: the data that every dataset holds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.names import unknown

if TYPE_CHECKING:
    import numpy as np

    from fsar.video.frame_cache import FrameCache

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Video:
    """One labelled video: a whole file, a folder of frames, or a segment of a file.

    Examples:
        >>> whole = Video("wave/a", Path("wave/a.mp4"), "wave")
        >>> segment = Video("wave/long@2.5-4", Path("long.mp4"), "wave", start=2.5, end=4.0)
        >>> whole.span, segment.span
        ((None, None), (2.5, 4.0))
        >>> segment.place
        'long.mp4 2.5-4 s'
    """

    id: str
    """Unique in the dataset and equal on every machine: `class/name`, without suffix."""
    path: Path
    label: str
    """Its class; must not contain a slash."""
    start: float | None = None
    """Start of a segment, in seconds; None for the start of the file."""
    end: float | None = None
    """End of a segment, in seconds; None for the end of the file."""
    group: str | None = None
    """What videos have in common besides their class, such as a person or a recording; None if nobody said."""
    features: "np.ndarray | None" = field(default=None, compare=False, repr=False)
    """Its features [frame, dim] if they were made elsewhere (`load_features`); `path` is then the file of features."""
    content: str = ""
    """Hash of these features; empty for a video that is read."""

    def hashed(self, cache: "FrameCache") -> str:
        """Hash of the content: of the features made elsewhere, or of the file and the times of a segment.

        Raises:
            VideoError: there is no such video, or no permission to read it.
        """
        return self.content or cache.content(self.path, *self.span)

    @property
    def span(self) -> tuple[float | None, float | None]:
        """Start and end, as the readers of `fsar.video` take them."""
        return self.start, self.end

    @property
    def place(self) -> str:
        """Path of the video, with the times of a segment."""
        if self.content:
            return self.id
        if self.span == (None, None):
            return str(self.path)
        return f"{self.path} {self.start or 0:g}-{'end' if self.end is None else format(self.end, 'g')} s"


@dataclass(frozen=True)
class VideoDataset:
    """Labelled videos, the words of their classes and, if there are splits, the split of each class."""

    name: str
    videos: tuple[Video, ...]
    texts: Mapping[str, str]
    """Class -> its words, as a text encoder reads them."""
    splits: Mapping[str, str]
    """Class -> train, val or test; a class without a split is not a key."""
    resplit_seed: int | None = None
    """Seed of a random split of the classes (`resplit`); None for the dataset's own splits."""
    absent: tuple[str, ...] = ()
    """Ids of videos in the dataset's list that do not exist on disk."""
    copies: tuple[str, ...] = ()
    """Ids of videos that were left out because another video of their class has the same content (`drop_copies`)."""
    notes: tuple[str, ...] = ()
    """Sentences for the user on how the videos were found, for example on files that were ignored."""

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Classes that have videos, sorted."""
        return tuple(sorted({video.label for video in self.videos}))

    @cached_property
    def counts(self) -> Counter[str]:
        """Videos per class."""
        return Counter(video.label for video in self.videos)

    def split(self, name: str) -> "VideoDataset":
        """Return the videos of the classes of one split, or of all classes for `all`.

        Raises:
            ValueError: no such split, no class in it, or no video of its classes.
        """
        if name == "all":
            return self
        if name not in SPLITS:
            raise ValueError(unknown(name, [*SPLITS, "all"], "split"))
        chosen = self.only(label for label in self.classes if self.splits.get(label) == name)
        if not chosen.videos and name in self.splits.values():
            raise ValueError(f"dataset {self.name}: no video of its {name} classes is there; check the folder")
        if not chosen.videos:
            have = ", ".join(sorted(set(self.splits.values()))) or "none"
            raise ValueError(
                f"dataset {self.name} has no class in split {name!r} (splits there: {have}); give a column `split` "
                f"in its labels.csv, split its classes at random (--resplit SEED), or use split `all`"
            )
        absent, copies = (
            tuple(video_id for video_id in ids if self.splits.get(label_of(video_id)) == name)
            for ids in (self.absent, self.copies)
        )
        return replace(chosen, absent=absent, copies=copies)

    def only(self, classes: Iterable[str]) -> "VideoDataset":
        """Return the videos of the named classes.

        Raises:
            ValueError: a class that the dataset lacks.
        """
        kept = set(classes)
        for label in sorted(kept - set(self.classes)):
            raise ValueError(unknown(label, self.classes, f"class of {self.name}"))
        return replace(
            self,
            videos=tuple(video for video in self.videos if video.label in kept),
            absent=tuple(video_id for video_id in self.absent if label_of(video_id) in kept),
            copies=tuple(video_id for video_id in self.copies if label_of(video_id) in kept),
        )

    def without(self, ids: Iterable[str]) -> "VideoDataset":
        """Return all videos but those named."""
        gone = set(ids)
        return replace(self, videos=tuple(video for video in self.videos if video.id not in gone))

    def resplit(self, seed: int) -> "VideoDataset":
        """Split the classes again, at random, into splits of the same sizes (MA-FSAR, Table 14).

        The new split depends only on the seed and the names of the classes. Classes without a split stay without. If
        no class has a split, all are split as the benchmarks of 100 classes are: 64 : 12 : 24, two classes at least.

        Args:
            seed: of the split.

        Raises:
            ValueError: no class has a split, and fewer than six classes have videos.

        Example:
            >>> videos = tuple(Video(f"{c}/1", Path(f"{c}/1.mp4"), c) for c in "abcdefgh")
            >>> dealt = VideoDataset("mine", videos, {c: c for c in "abcdefgh"}, {}).resplit(0)
            >>> [len(dealt.split(name).classes) for name in ("train", "val", "test")]
            [4, 2, 2]
        """
        places = sorted(self.splits.values(), key=SPLITS.index) or self._usual_splits()
        dealt = sorted(
            self.splits or self.classes,
            key=lambda label: sha256(f"{seed}\t{label}".encode("utf-8", "surrogateescape")).digest(),
        )
        return replace(self, splits=dict(zip(dealt, places, strict=True)), resplit_seed=seed)

    def _usual_splits(self) -> list[str]:
        """A split for each class of a dataset without splits."""
        count = len(self.classes)
        val, test = (max(2, round(share * count)) for share in (0.12, 0.24))
        if count < val + test + 2:
            raise ValueError(
                f"dataset {self.name} has {count} classes and no splits; a random split needs six: two each for train, "
                f"val and test. Evaluate split `all`"
            )
        return ["train"] * (count - val - test) + ["val"] * val + ["test"] * test

    def fingerprint(self) -> str:
        """Hash over the sorted lines (split, class, video id): equal lists have equal hashes."""
        return list_hash((self.splits.get(video.label, ""), video.label, video.id) for video in self.videos)


def list_hash(lines: Iterable[tuple[str, str, str]]) -> str:
    """Hash lines (split, class, video id); their order does not matter."""
    joined = "\n".join(sorted("\t".join(line) for line in lines))
    return sha256(joined.encode("utf-8", "surrogateescape")).hexdigest()


def label_of(video_id: str) -> str:
    """Return the class in a video's id, `class/name`."""
    return video_id.partition("/")[0]
