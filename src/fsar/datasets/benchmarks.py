"""The public few-shot benchmarks, by name, version and hash: two results with one name used one list.

The package knows of each (`src/fsar/datasets/registered/`): the classes per split, the number of videos per class,
hashes, and the addresses of the published lists. The lists of UCF101 and HMDB51 follow from the class folders. Other
lists are fetched or imported once (`fsar splits`) and then kept in the cache.

A label is the words of a class (`class_text`). An id is the part of a listed name that is the same in all formats: the
number of a Something-Something video, the 11 characters of a YouTube video without its time stamp, and otherwise the
name of the file without its suffix.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from fsar.config import read_yaml
from fsar.datasets.base import SPLITS, Video, VideoDataset, list_hash
from fsar.datasets.find import FoundVideo, VideoIndex, without_suffix
from fsar.datasets.lists import Line, numbered_lines, read_line
from fsar.files import cache_dir
from fsar.names import unknown
from fsar.video.paths import display

BENCHMARKS = (
    "ucf101@arn",
    "hmdb51@arn",
    "kinetics100@cmn",
    "kinetics100@clip-fsar",
    "ssv2-small@cmn",
    "ssv2-full@otam-67k",
    "ssv2-full@otam-77k",
)
_PACKAGED = resources.files("fsar.datasets") / "registered"
_YOUTUBE = re.compile(r"([\w-]{11})(?:_\d+_\d+)?")
SHORT = 12
"""Number of digits of a class's hash in the registry."""


class Listed(NamedTuple):
    """One video of a list, and its path."""

    split: str
    label: str
    id: str
    """Without its class."""
    path: Path | None
    """None if it was not found."""


class Published(NamedTuple):
    """One published list."""

    split: str
    repository: str
    """On GitHub."""
    commit: str
    path: str
    sha256: str
    """Hash of the published file."""
    format: str
    """Form of a line."""


@dataclass(frozen=True)
class Benchmark:
    """One version of one benchmark; `benchmark(name)` gives it."""

    name: str
    """`ssv2-full@otam-67k`"""
    title: str
    id_kind: str
    """Kind of the ids: `stem`, `youtube` or `number`."""
    derived: bool
    """Whether the lists follow from the class folders."""
    classes: Mapping[str, tuple[str, ...]]
    """Split -> labels, in the order of their numbers."""
    videos: Mapping[str, int]
    """Label -> number of listed videos."""
    class_hashes: Mapping[str, str]
    """Label -> first digits of the hash of its lines."""
    hashes: Mapping[str, str]
    """Split, and `all` -> hash of its (split, label, label/id) lines, as `VideoDataset.fingerprint` gives it."""
    published: tuple[Published, ...]
    """Sources. If a list is published twice, `fetch` takes the first."""
    first_numbers: tuple[Mapping[str, int], ...] = field(default=())
    """For each numbering of classes in published lists: split -> number of its first class."""

    @property
    def family(self) -> str:
        """`ssv2-full`."""
        return self.name.partition("@")[0]

    @property
    def fingerprint(self) -> str:
        """Hash of the whole list; a complete dataset has the same."""
        return self.hashes["all"]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Split -> number of listed videos."""
        return {split: sum(self.videos[label] for label in labels) for split, labels in self.classes.items()}

    @cached_property
    def splits(self) -> dict[str, str]:
        """Label -> its split."""
        return {label: split for split, labels in self.classes.items() for label in labels}

    @cached_property
    def _by_letters(self) -> dict[str, str]:
        return {_letters(label): label for label in self.splits}

    def label(self, name: str) -> str | None:
        """Find the class of a name, however the name is written: `HandStandPushups`, `handstand_pushups`."""
        return self._by_letters.get(_letters(name))

    def canonical(self, name: str) -> str:
        """Find the id in the name of a video, with or without suffix and time stamp."""
        name = without_suffix(name)
        stamped = _YOUTUBE.fullmatch(name) if self.id_kind == "youtube" else None
        return stamped[1] if stamped else name

    def entries(
        self, lines: Iterable[Line], first_number: Mapping[str, int] | None = None
    ) -> Iterator[tuple[str | None, str]]:
        """Read lines as (label, id). The label is None if the benchmark has no such class.

        Args:
            lines: with names or numbers of classes.
            first_number: split -> number of its first class.
        """
        labels: dict[tuple[str | None, str, int | None], str | None] = {}  # one look-up per class, not per line
        for line in lines:
            place = line.place
            if place not in labels:
                labels[place] = self.class_of(line, first_number)
            label = labels[place]
            yield label, line.id if label is None else self.canonical(line.id)

    def class_of(self, line: Line, first_number: Mapping[str, int] | None = None) -> str | None:
        """Find the class of a line; None if the benchmark has no such class.

        Args:
            line: with the name or number of a class.
            first_number: split -> number of its first class.
        """
        if line.folder is not None:
            return self.label(line.folder)
        if first_number is None or line.number is None:
            return None
        place, labels = line.number - first_number[line.split], self.classes[line.split]
        return labels[place] if 0 <= place < len(labels) else None

    def file(self, split: str) -> Path:
        """Path of the fetched or imported list of a split; it need not exist."""
        return cache_dir() / "splits" / self.name / f"{split}.txt"

    def stored(self, split: str) -> list[tuple[str, str]] | None:
        """Read the fetched or imported list of a split as (label, id); None if there is none.

        Raises:
            ValueError: the file is not the registered list.
        """
        file = self.file(split)
        if not file.is_file():
            return None
        facts = file.stat()
        state = file, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size
        if state not in self._read:
            self._read[state] = self._checked(file, split)
        return list(self._read[state])

    @cached_property
    def _read(self) -> dict[tuple[Path, int, int, int], list[tuple[str, str]]]:
        """Lists read so far, by file and its state: a command asks for each several times."""
        return {}

    def _checked(self, file: Path, split: str) -> list[tuple[str, str]]:
        """Read a stored list, and check its hash."""
        with suppress(ValueError):
            lines = [read_line(line) for _, line in numbered_lines(file)]
            for first_number in (None, *self.first_numbers):
                entries = self.entries(lines, first_number)
                known = [(label, video_id) for label, video_id in entries if label is not None]
                if len(known) == len(lines) == self.counts[split] and self.hash_of(known) == self.hashes[split]:
                    return known
        raise ValueError(
            f"{file}: not the {split} list of {self.name}, hash {self.hashes[split][:SHORT]}; it was changed since it "
            f"was stored: `fsar splits fetch {self.name}` or `fsar splits import FILE...` stores it again"
        )

    def hash_of(self, entries: Sequence[tuple[str, str]]) -> str:
        """Hash (label, id) pairs."""
        return list_hash((self.splits[label], label, f"{label}/{video_id}") for label, video_id in entries)

    def listed(self, root: Path) -> tuple[Listed, ...]:
        """Look up every listed video below `root`, sorted by split, label and id.

        A video is a file or a folder of frames, at any depth in a folder of its class. If no folder has the name of a
        class, it may be anywhere (see `VideoIndex.find`). If the list is derived from the folders, missing videos have
        no names; their ids are `unnamed-1`, `unnamed-2`, ...

        Raises:
            ValueError: no such folder; the list must be fetched first; several videos fit one id; or the list is
                derived and a class folder holds videos that were not published.
        """
        lists = {split: self.stored(split) for split in SPLITS}
        lacking = [split for split, entries in lists.items() if entries is None]
        if lacking and not self.derived:
            raise ValueError(
                f"{self.name}: its {', '.join(lacking)} list is not here; `fsar splits fetch {self.name}` downloads "
                f"it, `fsar splits import FILE...` imports it from your files"
            )
        index = VideoIndex(root)
        names: dict[str, list[str]] = defaultdict(list)
        for name in index.names:
            names[self.canonical(name)].append(name)

        def candidates(video_id: str) -> list[FoundVideo]:
            return [video for name in names.get(video_id, ()) for video in index.named(name)]

        if lacking:
            return self._from_folders({video_id: candidates(video_id) for video_id in sorted(names)})
        anywhere = not index.by_class(self.splits)

        def path_of(label: str, video_id: str) -> Path | None:
            return index.choose(candidates(video_id), f"{label}/{video_id}", label, anywhere=anywhere)

        return tuple(
            Listed(split, label, video_id, path_of(label, video_id))
            for split, entries in lists.items()
            for label, video_id in sorted(entries or ())
        )

    def _from_folders(self, found: Mapping[str, Sequence[FoundVideo]]) -> tuple[Listed, ...]:
        here: dict[str, dict[str, Path]] = {label: {} for label in self.splits}
        for video_id, videos in found.items():
            for path, _ in videos:
                label = self.label(path.parent.name)
                if label is None:
                    continue
                other = here[label].setdefault(video_id, path)
                if other != path:
                    raise ValueError(
                        f"{display(other)} and {display(path)} are both {label}/{video_id} of {self.name}; keep one "
                        f"of them below the folder"
                    )
        listed = []
        for label, split in self.splits.items():
            self._check_class(label, here[label])
            listed += [Listed(split, label, video_id, path) for video_id, path in here[label].items()]
            missing = self.videos[label] - len(here[label])
            listed += [Listed(split, label, f"unnamed-{number}", None) for number in range(1, missing + 1)]
        return tuple(sorted(listed, key=lambda video: (SPLITS.index(video.split), *video[1:3])))

    def _check_class(self, label: str, ids: Mapping[str, Path]) -> None:
        """Refuse a class folder with videos that were not published."""
        expected = self.videos[label]
        whole = self.hash_of([(label, video_id) for video_id in ids])[:SHORT] == self.class_hashes[label]
        if len(ids) < expected or whole:
            return
        folder = display(next(iter(ids.values())).parent)
        what = f"{len(ids)} videos" if len(ids) > expected else f"{expected} videos of other names"
        raise ValueError(
            f"{folder}: {what}, but {self.name} has {expected} of {label!r}; keep the published files and their names, "
            f"or `fsar splits fetch {self.name}`, after which only the listed videos are used"
        )


def _letters(name: str) -> str:
    """Reduce a class name to the form that all ways of writing share."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def benchmark(name: str) -> Benchmark:
    """Look up a benchmark: `ssv2-full@otam-67k`, or `hmdb51` if there is only one version.

    Raises:
        ValueError: no such benchmark, or several versions of it.
    """
    versions = [known for known in BENCHMARKS if known.partition("@")[0] == name]
    if len(versions) > 1:
        raise ValueError(f"{name!r} has several versions, whose lists differ: {', '.join(versions)}; name one of them")
    chosen = versions[0] if versions else name
    if chosen not in BENCHMARKS:
        raise ValueError(unknown(name, BENCHMARKS, "benchmark"))
    return _registered(chosen)


@cache
def _registered(name: str) -> Benchmark:
    family, _, version = name.partition("@")
    content = _family(family)
    own = content["versions"][version]
    facts = {label: fact for labels in own["classes"].values() for label, fact in labels.items()}
    return Benchmark(
        name=name,
        title=content["title"],
        id_kind=content["ids"],
        derived=content.get("derived", False),
        classes={split: tuple(own["classes"][split]) for split in SPLITS},
        videos={label: count for label, (count, _) in facts.items()},
        class_hashes={label: digits for label, (_, digits) in facts.items()},
        hashes=own["hashes"],
        published=tuple(Published(**source) for source in own["published"]),
        first_numbers=tuple(content.get("first_numbers", ())),
    )


@cache
def _family(name: str) -> dict[str, Any]:
    return dict(read_yaml((_PACKAGED / f"{name}.yaml").read_text(encoding="utf-8")))


def load_benchmark(name: str, root: Path, skip_missing: bool = False) -> VideoDataset:
    """Load a benchmark's videos.

    Args:
        name: as `benchmark` takes it.
        root: folder with the videos, at any depth.
        skip_missing: leave out missing videos, and keep their ids as `absent`.

    Raises:
        ValueError: no such benchmark or folder; lists that must be fetched first (see `Benchmark.listed`); missing
            videos (unless `skip_missing`).
    """
    known = benchmark(name)
    listed = known.listed(root)
    absent = tuple(f"{video.label}/{video.id}" for video in listed if video.path is None)
    if len(absent) == len(listed):
        raise ValueError(f"none of the {len(listed)} videos of {known.name} is below {display(root)}; check the folder")
    if absent and not skip_missing:
        raise ValueError(
            f"{len(absent)} of {len(listed)} videos of {known.name} are not below {display(root)}, among them "
            f"{_some(known.name, absent)}; check the folder, or leave them out with skip_missing (--skip-missing)"
        )
    videos = tuple(Video(f"{v.label}/{v.id}", v.path, v.label) for v in listed if v.path is not None)
    texts = {label: label for label in known.splits}
    return VideoDataset(known.name, videos, texts, known.splits, absent=absent)


def _some(name: str, absent: Sequence[str]) -> str:
    """Name some missing videos; where folders take the place of lists, only their classes are known."""
    if "/unnamed-" not in absent[0]:
        return ", ".join(absent[:3])
    counts = Counter(video.partition("/")[0] for video in absent)
    classes = ", ".join(f"{count} of {label!r}" for label, count in list(counts.items())[:3])
    return f"{classes} (the folders do not say which; `fsar splits fetch {name}` gets lists with their names)"


def refuse_mixing(trained_on: str, evaluated_on: str) -> None:
    """Refuse to evaluate a method on another version of the benchmark than it was trained on.

    Args:
        trained_on, evaluated_on: names of datasets; datasets that are not registered are never refused.

    Raises:
        ValueError: two versions of one benchmark.
    """
    registered = trained_on in BENCHMARKS and evaluated_on in BENCHMARKS
    if registered and trained_on != evaluated_on and trained_on.partition("@")[0] == evaluated_on.partition("@")[0]:
        raise ValueError(
            f"the checkpoint was trained on {trained_on}, and {evaluated_on} is another version of that benchmark; "
            f"evaluate it with --benchmark {trained_on}, or train on {evaluated_on}"
        )
