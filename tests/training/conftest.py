"""Training is tested on few videos and a small encoder."""

import pytest

from fsar.backbones import Backbone
from fsar.datasets import VideoDataset


@pytest.fixture(scope="session")
def world(little_world: VideoDataset) -> VideoDataset:
    """In this folder, the little world stands in for the world."""
    return little_world


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this folder, the small encoder stands in for `tiny`."""
    return small_for_tiny
