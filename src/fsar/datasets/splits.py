"""Get the lists of a benchmark: download them and check their hash, or recognise list files and keep them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import pooch

from fsar.datasets.base import SPLITS, list_hash
from fsar.datasets.benchmarks import BENCHMARKS, SHORT, Benchmark, Published, benchmark
from fsar.datasets.lists import Line, read_list
from fsar.files import atomic_path, write_text_atomic
from fsar.progress import progress_bar

GITHUB = "https://raw.githubusercontent.com"
_TIMEOUT = 30.0  # seconds; stops waiting if no byte arrives
_NAMED = 3  # examples of each kind in a message


def fetch_lists(name: str, base: str = GITHUB, progress: bool = True) -> list[Path]:
    """Download the lists of a benchmark that are not on this machine yet.

    A file is kept only if its hash is the registered one.

    Args:
        name: of the benchmark.
        base: address that stands before `repository/commit/path` of each file.
        progress: show a progress bar.

    Returns:
        The files that were written.

    Raises:
        ValueError: no such benchmark; no connection, or one that breaks off; an error page, or a file with another
            hash.
    """
    known = benchmark(name)
    lacking = [split for split in SPLITS if not is_here(known, split)]
    for split in progress_bar(lacking, known.name, " lists", len(lacking), progress and bool(lacking)):
        source = next(source for source in known.published if source.split == split)
        content = _download(source, base)
        with atomic_path(known.file(split)) as temporary:
            temporary.write_bytes(content)
    return [known.file(split) for split in lacking]


def is_here(known: Benchmark, split: str) -> bool:
    """Whether the list of a split is on this machine, whole."""
    try:
        return known.stored(split) is not None
    except ValueError:
        return False


def _download(source: Published, base: str) -> bytes:
    url = "/".join((base.rstrip("/"), source.repository, source.commit, source.path))
    fix = "try again, give another address by --mirror, or take files that you have by `fsar splits import FILE...`"
    with TemporaryDirectory() as folder:
        file = Path(folder, "list")
        try:
            pooch.HTTPDownloader(timeout=_TIMEOUT)(url, str(file), None)
        except OSError as error:
            raise ValueError(f"{url}: could not be fetched ({_cause(error)}); {fix}") from error
        came = pooch.file_hash(str(file))
        if came != source.sha256:
            raise ValueError(
                f"{url}: {file.stat().st_size} bytes with sha256 {came} came, but the published file has "
                f"{source.sha256}; nothing was kept; {fix}"
            )
        return file.read_bytes()


def _cause(error: BaseException) -> str:
    """The first error of a chain, in one line: `[Errno 111] Connection refused`."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True)
class Recognised:
    """Which registered lists some files are."""

    versions: tuple[str, ...]
    """Benchmarks with exactly these lists; several if they differ only in a split that was not given."""
    entries: Mapping[str, tuple[tuple[str, str], ...]]
    """Split -> (label, id), sorted."""

    @property
    def name(self) -> str:
        """Name of the benchmark; if several versions are possible, the part they share: `ssv2-full@otam`."""
        return self.versions[0] if len(self.versions) == 1 else self.versions[0].rpartition("-")[0]


def import_lists(files: Sequence[Path]) -> Recognised:
    """Recognise list files and keep them for `load_benchmark`; lists that are not registered are not kept.

    Args:
        files: the list files of one benchmark.

    Returns:
        What the lists are.

    Raises:
        ValueError: see `recognise`.
    """
    recognised = recognise(files)
    for known in map(benchmark, BENCHMARKS):
        for split, entries in recognised.entries.items():
            if _is(known, split, entries):  # versions can share a list: keep it for each of them
                text = "".join(f"{label}/{video_id}\n" for label, video_id in entries)
                write_text_atomic(known.file(split), text)
    return recognised


def recognise(files: Sequence[Path]) -> Recognised:
    """Find the benchmark whose lists these files are.

    A line may name its split. Otherwise the name of the file gives it, and otherwise the class of the line.

    Args:
        files: in any order, and in any format of `fsar.datasets.lists`.

    Returns:
        What the lists are.

    Raises:
        ValueError: a file cannot be read, or the lists are not registered; the message says how they differ from the
            most similar registered ones.
    """
    lines = [line for file in files for line in _lines(file)]
    if not lines:
        raise ValueError(f"{_names(files)}: no lines; expected lines like class/video or test18/195025")
    one_of_each = tuple({line.place: line for _, line in lines}.values())
    readings = [
        _Reading(benchmark(name), number, lines, one_of_each)
        for name in BENCHMARKS
        for number in benchmark(name).first_numbers or (None,)
    ]
    exact = [reading for reading in readings if reading.knows_all and reading.agreeing == reading.given]
    if not exact:
        raise ValueError(f"{_names(files)}: {_difference(readings)}")
    entries = {split: tuple(sorted(exact[0].entries[split])) for split in exact[0].given}
    return Recognised(tuple(dict.fromkeys(reading.known.name for reading in exact)), entries)


def _lines(file: Path) -> Iterator[tuple[str, Line]]:
    """Each line, after the split that the line or its file names; the split is '' if neither names one."""
    of_file = next((split for split in SPLITS if file.name.lower().startswith(split)), "")
    for _, line in read_list(file):
        yield line.split or of_file, line


def _names(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files[:_NAMED])) + (", ..." if len(files) > _NAMED else "")


@dataclass(frozen=True)
class _Reading:
    """The lines, read as entries of one benchmark with one numbering of its classes."""

    known: Benchmark
    first_number: Mapping[str, int] | None
    lines: Sequence[tuple[str, Line]]
    """Each after its split, if the line or its file names it."""
    one_of_each: Sequence[Line]
    """A line of each class."""

    @cached_property
    def knows_all(self) -> bool:
        """Whether the benchmark has every class of the lines; few are told apart by more than that."""
        return all(self.known.class_of(line, self.first_number) is not None for line in self.one_of_each)

    @cached_property
    def _read(self) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
        entries: dict[str, list[tuple[str, str]]] = defaultdict(list)
        foreign = []
        read = self.known.entries((line for _, line in self.lines), self.first_number)
        for (split, line), (label, video_id) in zip(self.lines, read, strict=True):
            if label is None:
                foreign.append(line.folder or f"{line.split}{line.number}")
            else:
                entries[split or self.known.splits[label]].append((label, video_id))
        return entries, foreign

    @property
    def entries(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Split -> (label, id) of the lines whose class is known."""
        return self._read[0]

    @property
    def foreign(self) -> Sequence[str]:
        """Class of each other line, as the file writes it."""
        return self._read[1]

    @property
    def given(self) -> list[str]:
        """Splits that have lines."""
        return [split for split in SPLITS if split in self.entries]

    @cached_property
    def agreeing(self) -> list[str]:
        """Splits whose lines equal the registered list."""
        return [split for split in self.given if _is(self.known, split, self.entries[split])]

    @cached_property
    def differing(self) -> dict[tuple[str, str], list[str]]:
        """(Split, label) -> ids in the files, for each class whose ids differ from the registered ones."""
        here: dict[tuple[str, str], list[str]] = {
            (split, label): [] for split in self.given for label in self.known.classes[split]
        }
        for split, entries in self.entries.items():
            for label, video_id in entries:
                here.setdefault((split, label), []).append(video_id)
        return {place: ids for place, ids in here.items() if self._class_differs(place, ids)}

    def _class_differs(self, place: tuple[str, str], ids: Sequence[str]) -> bool:
        split, label = place
        return _hash(split, [(label, video_id) for video_id in ids])[:SHORT] != self.known.class_hashes[label]

    @property
    def nearness(self) -> tuple[int, int, int]:
        """Sort key, larger = more similar: lines of equal classes, of known classes, minus differences in counts."""
        lines = sum(map(len, self.entries.values()))
        unlike = sum(map(len, self.differing.values()))
        counts = sum(abs(len(ids) - self.known.videos[label]) for (_, label), ids in self.differing.items())
        return lines - unlike, lines, -counts


def _hash(split: str, entries: Sequence[tuple[str, str]]) -> str:
    return list_hash((split, label, f"{label}/{video_id}") for label, video_id in entries)


def _is(known: Benchmark, split: str, entries: Sequence[tuple[str, str]]) -> bool:
    """Whether the entries equal the registered list of a split."""
    return len(entries) == known.counts[split] and _hash(split, entries) == known.hashes[split]


def _difference(readings: Sequence[_Reading]) -> str:
    """Describe how unregistered lists differ from the most similar registered ones."""
    nearest = max(readings, key=lambda reading: reading.nearness)
    if not nearest.entries:
        return (
            f"no class of these files ({', '.join(map(repr, dict.fromkeys(nearest.foreign[:_NAMED])))}) is in a "
            f"registered benchmark; to use the lists as they are, give them to --lists"
        )
    mixed = {split: [r.known.name for r in readings if split in r.agreeing] for split in nearest.given}
    if all(mixed.values()) and len({name for names in mixed.values() for name in names}) > 1:
        told = "; ".join(f"{split} is from {', '.join(dict.fromkeys(names))}" for split, names in mixed.items())
        return f"these lists are of several benchmarks or versions ({told}); import the lists of one at a time"
    name = nearest.known.name
    whole = f"; its {', '.join(nearest.agreeing)} list is equal" if nearest.agreeing else ""
    return (
        f"not registered lists; the most similar are those of {name}, and {_classes(nearest)}{_ids(nearest)}{whole}; "
        f"nothing was stored. `fsar splits fetch {name}` downloads the registered lists; to use these lists as they "
        f"are, give them to --lists"
    )


def _classes(nearest: _Reading) -> str:
    """Name the classes that differ, with their numbers of videos, and the classes that the benchmark lacks."""
    moved, told = [], []
    for (split, label), ids in nearest.differing.items():
        expected = nearest.known.videos[label]
        if nearest.known.splits[label] != split:
            moved.append(f"{label!r} is in {split}, not in {nearest.known.splits[label]}")
        elif len(ids) == expected:
            told.append(f"{label!r} has other videos")
        else:
            told.append(f"{label!r} has {len(ids)} videos, not {expected}")
    strange = [repr(name) for name in dict.fromkeys(nearest.foreign)]
    told = moved + told
    parts = [f"{len(told)} of its classes differ: {_some(told)}"] if told else []
    parts += [f"{len(nearest.foreign)} lines are of classes that it lacks: {_some(strange)}"] if strange else []
    return ", and ".join(parts)


def _ids(nearest: _Reading) -> str:
    """Name missing and extra videos, if the registered list is on this machine."""
    missing, extra = [], []
    for split in nearest.given:
        if is_here(nearest.known, split):
            theirs = {f"{label}/{video_id}" for label, video_id in nearest.known.stored(split) or ()}
            ours = {f"{label}/{video_id}" for label, video_id in nearest.entries[split]}
            missing += sorted(theirs - ours)
            extra += sorted(ours - theirs)
    told = [f"{len(missing)} missing: {_some(missing)}"] if missing else []
    told += [f"{len(extra)} extra: {_some(extra)}"] if extra else []
    return f" ({'; '.join(told)})" if told else ""


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:_NAMED]) + (", ..." if len(items) > _NAMED else "")
