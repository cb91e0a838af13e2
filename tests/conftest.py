"""Shared parts of the tests: a cache of their own, small videos, the built-in backbone."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fsar.backbones import Backbone, load_backbone
from fsar.datasets import VideoDataset, load_folder
from fsar.datasets.world import render_world
from fsar.video.reading import write_video

SHARED = Path(os.environ["FSAR_SHARED"]) if os.environ.get("FSAR_SHARED") else None
GOLDEN = Path(os.environ.get("FSAR_GOLDEN_DIR", Path(__file__).parent / "golden"))
SUB_ACTIONS = str(Path(__file__).parent / "sub_actions.yaml")
needs_shared = pytest.mark.skipif(
    SHARED is None or not SHARED.is_dir(), reason="FSAR_SHARED names no folder of shared material"
)

torch.set_num_threads(1)  # one worker per core runs the suite
os.environ["OMP_NUM_THREADS"] = "1"  # and so in every process that a test starts


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["FSAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    """The generated world with few clips per class."""
    return load_folder(render_world(tmp_path_factory.mktemp("world"), clips_per_class=7, progress=False), "world")


@pytest.fixture
def small_video(tmp_path: Path) -> Path:
    """A readable H.264 file of 20 frames, 64 x 48 pixels; frame i has brightness 10 i + 20."""
    frames = np.stack([np.full((48, 64, 3), 10 * i + 20, np.uint8) for i in range(20)])
    write_video(tmp_path / "small.mp4", frames, 10.0)
    return tmp_path / "small.mp4"
