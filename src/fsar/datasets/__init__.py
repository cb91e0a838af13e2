"""Labelled videos: folders, segments of long videos, published lists, registered benchmarks, the generated world."""

from collections.abc import Sequence
from pathlib import Path

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.datasets.benchmarks import load_benchmark
from fsar.datasets.copies import drop_copies
from fsar.datasets.features import load_features
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
    "load_dataset",
    "load_features",
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


def load_dataset(
    data: str | Path | None = None,
    *,
    benchmark: str | None = None,
    lists: Sequence[str | Path] | None = None,
    class_names: str | Path | None = None,
    skip_missing: bool = False,
    features: str | Path | None = None,
) -> VideoDataset:
    """Load labelled videos of any kind, as the options of the command line of the same names do.

    Args:
        data: a folder of class folders, a file or folder of segments, or `world`; with `benchmark` or `lists`: the
            folder that the videos lie in.
        benchmark: name of a registered benchmark (`fsar splits list`).
        lists: files of split lists: train, val, test.
        class_names: JSON file with the names of classes that the lists give by number.
        skip_missing: leave out listed videos that are missing.
        features: a file of features made elsewhere, which takes the place of all others.

    Raises:
        ValueError: no such folder, list, benchmark or file, or arguments that contradict each other.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "wave").mkdir()
        ...     Path(folder, "wave/a.mp4").touch()
        ...     load_dataset(folder).classes
        ('wave',)
    """
    if features is not None:
        given = {"--data": data, "--lists": lists, "--class-names": class_names, "--benchmark": benchmark}
        for option, value in given.items():
            if value:
                raise ValueError(f"--features {features} takes the place of videos; leave {option} out")
        return load_features(features)
    if data is None:
        raise ValueError("no videos are named; add --data DIR (and --benchmark NAME or --lists ...)")
    if benchmark and (lists or class_names):
        raise ValueError("--benchmark has its own lists and class names; leave --lists and --class-names out")
    if benchmark and data == "world":
        raise ValueError(f"--benchmark {benchmark} needs --data DIR, the folder of its videos")
    if benchmark:
        return load_benchmark(benchmark, Path(data), skip_missing)
    if lists:
        names = None if class_names is None else Path(class_names)
        return load_lists([Path(path) for path in lists], Path(data), names, None, skip_missing)
    return load_world() if data == "world" else load_data(data)


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
