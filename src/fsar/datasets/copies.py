"""Videos with the same content: copies in one class count once, and content in two classes is reported.

If a query is a copy of a support video, its accuracy says nothing. Content is the hash of a file, of the frames in a
folder, or of a segment's file and times. Only videos with equal sizes can be copies, so only these are hashed. The
cache remembers the hashes.
"""

import os
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fsar.datasets.base import Video, VideoDataset
from fsar.progress import ahead, progress_bar
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError, display
from fsar.video.stills import frame_files

_NAMED = 3  # how many groups a message names
_MANY = 100  # show a progress bar for at least so many videos


@dataclass(frozen=True)
class Copies:
    """Videos with the same content."""

    repeated: Mapping[str, str]
    """Id -> reason, for each video with the same content as an earlier one of its class."""
    shared: tuple[tuple[Video, ...], ...]
    """Groups of videos with the same content in several classes, one video of each class."""

    def reasons(self, videos: Sequence[Video]) -> dict[str, str]:
        """Return the copies among some videos: id -> reason to leave the video out."""
        return {video.id: self.repeated[video.id] for video in videos if video.id in self.repeated}

    def told(self, splits: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Name paths and classes of videos with the same content in several classes.

        Args:
            splits: class -> split, for the text.
        """
        return tuple(", ".join(f"{_shown(v)} ({_where(v, splits or {})})" for v in group) for group in self.shared)

    def notes(self, splits: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Describe the copies, in one sentence for each kind.

        Args:
            splits: class -> split, for the text.
        """
        notes = []
        if self.repeated:
            count = f"{len(self.repeated)} copies" if len(self.repeated) > 1 else "1 copy"
            notes.append(f"left out {count} of a video in the same class: {_some(list(self.repeated.values()))}")
        if self.shared:
            told = self.told(splits)
            notes.append(
                f"{len(told)} {'contents are' if len(told) > 1 else 'content is'} in several classes, which no method "
                f"can tell apart: {_some(told, '; ')}; remove each from the classes where it does not belong"
            )
        return tuple(notes)


def find_copies(
    videos: Sequence[Video], cache: FrameCache | None = None, workers: int | None = None, progress: bool = True
) -> Copies:
    """Find videos with the same content. Among the copies in a class, the one with the shortest id is kept.

    A copy usually has the longer name, as in `a (1).mp4` or `a copy.mp4`. Of ids of one length, the first is kept.
    Videos that cannot be read are ignored here; reading them later raises an error.

    Args:
        videos: of one dataset.
        cache: remembers hashes; by default in the cache folder.
        workers: threads; by default one per core.
        progress: show a progress bar, if there is much to hash.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("a.mp4", "a (1).mp4", "b.mp4"):
        ...         _ = Path(folder, name).write_text(name[0])
        ...     videos = [Video(f"wave/{name}", Path(folder, name), "wave") for name in os.listdir(folder)]
        ...     list(find_copies(videos, FrameCache(Path(folder, "cache")), progress=False).repeated)
        ['wave/a (1).mp4']
    """
    cache = cache or FrameCache()
    alike: dict[Hashable, list[Video]] = defaultdict(list)
    for video in sorted(videos, key=lambda video: video.id):
        alike[_size(video)].append(video)
    doubtful = [video for size, group in alike.items() if size is not None and len(group) > 1 for video in group]
    same: dict[str, list[Video]] = defaultdict(list)
    for video, content in _contents(doubtful, cache, workers or os.cpu_count() or 1, progress):
        same[content].append(video)
    repeated, shared = {}, []
    for group in same.values():
        first: dict[str, Video] = {}
        for video in group:
            first[video.label] = min(first.get(video.label, video), video, key=lambda each: (len(each.id), each.id))
        for video in group:
            kept = first[video.label]
            if kept is not video:
                repeated[video.id] = f"{_shown(video)} has the content of {_shown(kept)}"
        if len(first) > 1:
            shared.append(tuple(first.values()))
    return Copies(repeated, tuple(shared))


def drop_copies(
    dataset: VideoDataset, cache: FrameCache | None = None, workers: int | None = None, progress: bool = True
) -> VideoDataset:
    """Leave out the copies in each class. The notes of the dataset then name copies and content in several classes.

    Args:
        dataset: its `copies` keep what was left out before.
        cache, workers, progress: as for `find_copies`.

    Returns:
        The dataset without copies; their ids are its `copies`.
    """
    found = find_copies(dataset.videos, cache, workers, progress)
    kept = dataset.without(found.repeated)
    notes = tuple(dict.fromkeys((*dataset.notes, *found.notes(dataset.splits))))
    return replace(kept, copies=(*dataset.copies, *found.repeated), notes=notes)


def _contents(videos: Sequence[Video], cache: FrameCache, workers: int, progress: bool) -> Iterator[tuple[Video, str]]:
    """Hash the content of each video that can be read."""

    def content(video: Video) -> str | None:
        try:
            return video.hashed(cache)
        except VideoError:
            return None

    hashed = ahead(content, videos, workers)
    bar = progress_bar(
        zip(videos, hashed, strict=True), "find copies", "video", len(videos), progress and len(videos) >= _MANY
    )
    yield from ((video, found) for video, found in bar if found is not None)


def _size(video: Video) -> Hashable:
    """Properties that copies share, without reading the video: size and times; None if it cannot be read."""
    if video.content:
        return video.content
    try:
        files = frame_files(video.path) if os.path.isdir(video.path) else [video.path]
        return len(files), sum(file.stat().st_size for file in files), video.span
    except (OSError, VideoError):
        return None


def _shown(video: Video) -> str:
    return display(Path(video.place))


def _where(video: Video, splits: Mapping[str, str]) -> str:
    split = splits.get(video.label)
    return f"{video.label}, {split}" if split else video.label


def _some(items: Sequence[str], separator: str = ", ") -> str:
    return separator.join(items[:_NAMED]) + (f"{separator}..." if len(items) > _NAMED else "")
