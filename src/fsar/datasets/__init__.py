"""Labelled videos: folders, published split lists, registered benchmarks, and the generated world."""

from pathlib import Path

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.datasets.benchmarks import load_benchmark
from fsar.datasets.copies import drop_copies
from fsar.datasets.folder import load_folder
from fsar.datasets.lists import load_lists
from fsar.files import cache_dir

__all__ = [
    "SPLITS",
    "Video",
    "VideoDataset",
    "drop_copies",
    "load_benchmark",
    "load_folder",
    "load_lists",
    "load_world",
]


def load_world(folder: Path | None = None, progress: bool = True) -> VideoDataset:
    """Render what is missing of the generated world, by default in the cache folder, and load it."""
    from fsar.datasets.world import VERSION, render_world

    return load_folder(render_world(folder or cache_dir() / f"world-{VERSION}", progress=progress), "world")
