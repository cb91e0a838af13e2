"""Training is tested on few videos."""

import pytest

from fsar.datasets import VideoDataset


@pytest.fixture(scope="session")
def world(little_world: VideoDataset) -> VideoDataset:
    """In this folder, the little world stands in for the world."""
    return little_world
