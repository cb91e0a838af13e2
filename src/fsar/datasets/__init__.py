"""Labelled videos: folders, segments of long videos, published lists, registered benchmarks, the generated world."""

from pathlib import Path

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.datasets.benchmarks import load_benchmark
from fsar.datasets.copies import drop_copies
from fsar.datasets.folder import load_folder
from fsar.datasets.lists import load_lists
from fsar.datasets.segments import is_segments, load_segments, split_options
from fsar.files import cache_dir

__all__ = [
    "SPLITS",
    "Video",
    "VideoDataset",
    "drop_copies",
    "load_benchmark",
    "load_data",
    "load_folder",
    "load_lists",
    "load_segments",
    "load_world",
]


def load_data(data: str | Path, groups: bool = False) -> VideoDataset:
    """Load your own videos, as `--data` does.

    Args:
        data: a folder of class folders (`load_folder`); or a file of segments, or a folder of such files
            (`load_segments`), with an option after a colon: `talks.eaf:tier=Gesture`, `export.json:fps=30`.
        groups: in a folder of class folders, enter the folders of groups, too (see `load_folder`).

    Raises:
        ValueError: a folder or file cannot be read. The message names file and line.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "wave").mkdir()
        ...     Path(folder, "wave/a.mp4").touch()
        ...     load_data(folder).videos[0].id
        'wave/a'
    """
    path, options = split_options(data)
    return load_segments(path, **options) if options or is_segments(path) else load_folder(path, groups=groups)


def load_world(folder: Path | None = None, progress: bool = True) -> VideoDataset:
    """Render the missing clips of the generated world, and load it.

    Args:
        folder: for the clips; by default in the cache folder.
        progress: show a progress bar.

    Returns:
        40 classes with 20 clips each, in splits train, val and test.
    """
    from fsar.datasets.world import VERSION, render_world

    return load_folder(render_world(folder or cache_dir() / f"world-{VERSION}", progress=progress), "world")
