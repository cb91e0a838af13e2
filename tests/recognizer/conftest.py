"""Clips of three actions, and a recogniser that knows them."""

from pathlib import Path

import pytest

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.datasets import VideoDataset

Clips = dict[str, list[Path]]


@pytest.fixture(scope="module")
def clips(world: VideoDataset) -> Clips:
    labels = ("something_growing", "something_shrinking", "moving_something_from_left_to_right")
    return {label: [v.path for v in world.videos if v.label == label] for label in labels}


@pytest.fixture
def recognizer(tiny: Backbone, clips: Clips) -> Recognizer:
    made = Recognizer(tiny)
    for label, paths in clips.items():
        made.enroll(label, paths[:4])
    return made
