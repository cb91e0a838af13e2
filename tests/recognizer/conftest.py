"""Clips of three actions, a recogniser that knows them, and frames in memory."""

from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.datasets import VideoDataset
from fsar.video.picture import Frames

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


def moving(start: int, end: int, seed: int = 0) -> Frames:
    """Frames of a bright square that moves from one column to another over noise."""
    frames = np.random.default_rng(seed).integers(0, 40, (8, 64, 64, 3)).astype(np.uint8)
    for frame, column in zip(frames, np.linspace(start, end, 8).astype(int), strict=True):
        frame[24:40, column : column + 16] = 255
    return frames


@pytest.fixture
def small(tiny: Backbone) -> Recognizer:
    """A recogniser of frames in memory: two directions with three examples each."""
    made = Recognizer(tiny)
    made.enroll("right", [moving(0, 48, seed) for seed in range(3)])
    made.enroll("left", [moving(48, 0, seed) for seed in range(3)])
    return made
