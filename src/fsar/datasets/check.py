"""Check a benchmark: every listed video is found, can be decoded as in evaluation, and is long enough.

The cache remembers each video that was read, by path, size and time of change. So a killed check resumes, and a second
check only looks for changes. Broken videos are tried again each time.
"""

import json
import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path

from fsar.datasets.base import Video
from fsar.datasets.benchmarks import Benchmark, Listed, benchmark
from fsar.datasets.copies import Copies, find_copies
from fsar.files import cache_dir, write_text_atomic
from fsar.progress import ahead, progress_bar
from fsar.results.numbers import percent
from fsar.video.paths import VideoError, display, readable
from fsar.video.reading import probe, read_frames, stream_frames

VERSION = 2  # increase it with every change to what is accepted
_WAY, _VIDEOS = 5, 6  # a 5-way 5-shot episode needs so many classes, and so many videos of each


@dataclass(frozen=True)
class Count:
    """Numbers of videos, of a split or a class."""

    published: int
    """In the published list."""
    found: int
    readable: int
    short: int
    """Readable, but with fewer frames than are sampled."""


@dataclass(frozen=True)
class Report:
    """The outcome of `check_benchmark`."""

    benchmark: str
    root: str
    frames: int
    """Frames sampled per video, T."""
    splits: Mapping[str, Count]
    classes: Mapping[str, Mapping[str, int]]
    """Split -> class -> number of readable videos."""
    differing: Mapping[str, tuple[int, int]]
    """Class -> (readable, published), if the two numbers differ."""
    missing: tuple[str, ...]
    """Ids of the list that are not below the root."""
    unnamed: int
    """Number of missing videos without a name, because no list was fetched; `differing` has their classes."""
    broken: Mapping[str, str]
    """Id -> path and reason."""
    short: Mapping[str, int]
    """Id -> number of frames, of videos with fewer than are sampled."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Id -> reason, of videos with the same content as another one of their class."""
    shared: tuple[str, ...] = ()
    """Paths and classes of videos with the same content in several classes."""

    @property
    def complete(self) -> bool:
        """Whether every published video can be read."""
        return all(count.readable == count.published for count in self.splits.values())

    def verdict(self) -> list[str]:
        """Say whether accuracies on these videos can be compared with published ones."""
        said = [_of_split(split, count) for split, count in self.splits.items() if count.readable != count.published]
        if self.complete:
            said.append(f"complete: accuracy is comparable with other numbers on {self.benchmark}")
        if self.unnamed:
            said.append(
                "the class folders lack videos, and no list says which: the videos on disk may be others "
                f"than the published ones; `fsar splits fetch {self.benchmark}` downloads the list"
            )
        for split, classes in self.classes.items():
            few = [f"{label} ({count})" for label, count in classes.items() if count < _VIDEOS]
            if few:
                said.append(
                    f"{split}: classes with fewer than {_VIDEOS} videos, which cannot be in 5-shot episodes "
                    f"({len(few)}): {_first(few)}"
                )
            if len(classes) - len(few) < _WAY:
                said.append(f"{split}: no 5-way 5-shot episode can be drawn")
        if self.short:
            names = _first([display(Path(name)) for name in self.short])
            said.append(
                f"videos with fewer than {self.frames} frames, whose frames are repeated here and which "
                f"public codes with TRX's reader leave out ({len(self.short)}): {names}"
            )
        if self.copies:
            said.append(f"copies of videos in the same class, which count once here ({len(self.copies)})")
        if self.shared:
            said.append(
                f"the same content in several classes or splits ({len(self.shared)}): accuracy on it says nothing"
            )
        return said

    def text(self, limit: int = 10) -> str:
        """Counts, problems (the first `limit` of each kind), and whether accuracies can be compared."""
        lines = [f"{self.benchmark} below {self.root}", ""]
        lines.append(f"| split | classes | published | found | readable | under {self.frames} frames |")
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
        for split, count in self.splits.items():
            cells = (len(self.classes[split]), count.published, count.found, count.readable, count.short)
            lines.append(f"| {split} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
        differing = [f"{label}: {have:,} of {want:,}" for label, (have, want) in self.differing.items()]
        lines += _listing("classes that differ from the published list", differing, limit)
        lines += _listing("missing", self.missing, limit)
        if self.unnamed:
            lines += ["", f"missing, without names since no list was fetched: {self.unnamed:,}"]
        lines += _listing("cannot be read", list(self.broken.values()), limit)
        lines += _listing("copies in one class", list(self.copies.values()), limit)
        lines += _listing("the same content in several classes", self.shared, limit)
        return "\n".join([*lines, "", *self.verdict()])

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        whole = {"complete": self.complete, "verdict": self.verdict()} | asdict(self)
        write_text_atomic(path, json.dumps(whole, indent=1))


def _of_split(split: str, count: Count) -> str:
    share = f"{count.readable:,} of {count.published:,} videos ({percent(count.readable / count.published)} %)"
    effect = {
        "train": "a model trained here sees fewer videos than the published ones did",
        "val": "a model is selected on episodes from fewer videos",
        "test": "episodes are drawn from fewer videos, so the accuracy is not that of the benchmark; "
        "state this share beside it",
    }[split]
    return f"{split}: {share} can be read: {effect}"


def _listing(title: str, items: Iterable[str], limit: int) -> list[str]:
    items = list(items)
    more = [f"  ... and {len(items) - limit:,} more (--json FILE has all)"] if len(items) > limit else []
    return ["", f"{title} ({len(items):,}):", *(f"  {item}" for item in items[:limit]), *more] if items else []


def _first(items: list[str], limit: int = 5) -> str:
    return ", ".join(items[:limit]) + (", ..." if len(items) > limit else "")


def check_benchmark(
    name: str, root: Path, frames: int = 8, workers: int | None = None, progress: bool = True
) -> Report:
    """Find every video of a benchmark below `root` and decode the frames that evaluation samples.

    A video is decoded up to its last sampled frame, near its end. Damage after that frame does not matter.

    Args:
        name: of the benchmark.
        root: folder with the videos, at any depth.
        frames: per video, T; a readable video with fewer is reported as short.
        workers: threads; by default one per core.
        progress: show a progress bar.

    Raises:
        ValueError: an unknown name, no such folder, none of the videos in it, or `frames` or `workers` below 1.
    """
    for what, number in (("frames", frames), ("workers", workers)):
        if number is not None and number < 1:
            raise ValueError(f"{what} is {number}; expected at least 1")
    chosen = benchmark(name)
    listed = chosen.listed(root)
    there = [video for video in listed if video.path is not None]
    if not there:
        raise ValueError(
            f"none of the {len(listed)} videos of {chosen.name} is below {display(root)}; check the folder"
        )
    memo = _Memo(frames)
    outcomes = ahead(partial(_examine, memo), [video.path for video in there], workers or os.cpu_count() or 1)
    bar = progress_bar(zip(there, outcomes, strict=True), "check", "video", len(there), progress)
    examined = {_id(video): outcome for video, outcome in bar}
    videos = [Video(_id(video), video.path, video.label) for video in there if video.path is not None]
    return _report(chosen, root, frames, listed, examined, find_copies(videos, workers=workers, progress=progress))


def short_videos(
    videos: Sequence[Video], frames: int = 8, workers: int | None = None, progress: bool = True
) -> dict[str, str]:
    """Find the videos with fewer frames than are sampled, which TRX's reader leaves out: id -> reason.

    Broken videos are not among them; reading them raises an error.

    Args:
        videos: any.
        frames: sampled per video, T.
        workers: threads; by default one per core.
        progress: show a progress bar.
    """
    return {
        video.id: f"{display(video.path)}: {count} frames, fewer than the {frames} that are sampled"
        for video, count in _examined(videos, frames, workers, progress, "count frames")
        if isinstance(count, int) and count < frames
    }


def broken_videos(videos: Sequence[Video], workers: int | None = None, progress: bool = True) -> dict[str, str]:
    """Find the videos with a frame that cannot be read: id -> path and reason.

    Every frame is decoded, because training samples frames at random.

    Args:
        videos: any.
        workers: threads; by default one per core.
        progress: show a progress bar.
    """
    examined = _examined(videos, None, workers, progress, "check")
    return {video.id: str(outcome) for video, outcome in examined if isinstance(outcome, VideoError)}


def _examined(
    videos: Sequence[Video], frames: int | None, workers: int | None, progress: bool, what: str
) -> Iterator[tuple[Video, int | VideoError]]:
    memo = _Memo(frames)
    outcomes = ahead(lambda video: _examine(memo, video.path, video.span), videos, workers or os.cpu_count() or 1)
    yield from progress_bar(zip(videos, outcomes, strict=True), what, "video", len(videos), progress)


def _report(
    chosen: Benchmark,
    root: Path,
    frames: int,
    listed: tuple[Listed, ...],
    outcomes: Mapping[str, int | VideoError],
    copies: Copies,
) -> Report:
    """Count; `outcomes` has for each video on disk its number of frames, or its error."""
    found = Counter(video.split for video in listed if video.path is not None)
    good = {video: count for video in listed if isinstance(count := outcomes.get(_id(video)), int)}
    short = {video: count for video, count in good.items() if count < frames}
    readable_in, short_in = Counter(video.split for video in good), Counter(video.split for video in short)
    by_class = Counter(video.label for video in good)
    missing = [video for video in listed if video.path is None]
    return Report(
        benchmark=chosen.name,
        root=display(root),
        frames=frames,
        splits={
            split: Count(published, found[split], readable_in[split], short_in[split])
            for split, published in chosen.counts.items()
        },
        classes={split: {label: by_class[label] for label in labels} for split, labels in chosen.classes.items()},
        differing={label: (by_class[label], n) for label, n in chosen.videos.items() if by_class[label] != n},
        missing=tuple(_id(video) for video in missing if not _unnamed(video)),
        unnamed=sum(map(_unnamed, missing)),
        broken={name: str(outcome) for name, outcome in outcomes.items() if isinstance(outcome, VideoError)},
        short={_id(video): count for video, count in short.items()},
        copies=copies.repeated,
        shared=copies.told(chosen.splits),
    )


def _id(video: Listed) -> str:
    return f"{video.label}/{video.id}"


def _unnamed(video: Listed) -> bool:
    """Whether the id stands for a missing video whose name is unknown."""
    return video.path is None and video.id.startswith("unnamed-")


def _examine(memo: "_Memo", path: Path, span: tuple[float | None, float | None] = (None, None)) -> int | VideoError:
    """Return the number of frames of a video, or its error."""
    start, end = span
    try:
        state = memo.state(path, span)
        if state not in memo.known:
            if memo.frames is None:
                deque(stream_frames(path, 32, start, end), maxlen=0)
            else:
                read_frames(path, memo.frames, start=start, end=end, short_side=32)
            memo.add(state, probe(path, start, end).frames)
        return memo.known[state]
    except VideoError as error:
        return error


class _Memo:
    """Numbers of frames of videos that were read before; several processes may use it at once."""

    def __init__(self, frames: int | None):
        self.frames = frames  # how many frames are decoded; None for all
        self.file = cache_dir() / "checked.txt"
        self.known: dict[str, int] = {}
        try:
            lines = self.file.read_text(encoding="ascii").splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            if match := re.fullmatch(r"([0-9a-f]{32}) ([0-9]+)\n", line):  # ignores a line that a kill cut short
                self.known[match[1]] = int(match[2])

    def state(self, path: Path, span: tuple[float | None, float | None]) -> str:
        """Hash of path, size, time of change and segment; for a folder of frames, of each of its files."""
        with readable(path):
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            stats = [(os.fsencode(file), stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
        key = (VERSION, self.frames, os.fsencode(path.resolve()), stats, *(() if span == (None, None) else span))
        return blake2b(repr(key).encode(), digest_size=16).hexdigest()

    def add(self, state: str, count: int) -> None:
        """Write a count at once, so that a killed check loses none."""
        self.known[state] = count
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="ascii") as file:  # one short write: lines of two processes do not mix
            file.write(f"{state} {count}\n")
