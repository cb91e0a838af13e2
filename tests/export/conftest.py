"""A recogniser of two directions, exported, and videos of them."""

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jaxtyping
import numpy as np
import open_clip
import pytest
import torch

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.backbones.clip import ClipBackbone
from fsar.export import export
from fsar.recognizer.background import generated_clips
from fsar.video.picture import Frames
from tests.conftest import SMALL_TEXT, SMALL_VISION, first_words

ALONE = """
import sys, runpy
sys.modules.update(dict.fromkeys(("torch", "torchvision", "fsar", "PIL")))  # importing one of them fails
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Exported(NamedTuple):
    """A recogniser and its folder."""

    recognizer: Recognizer
    folder: Path


def moving(start: int, end: int, seed: int = 0, frames: int = 12, height: int = 48, width: int = 64) -> Frames:
    """A square that moves from one column to another over noise, and stands still before and after."""
    made = np.random.default_rng(seed).integers(0, 40, (frames, height, width, 3)).astype(np.uint8)
    columns = np.interp(np.linspace(0, 1, frames), [0.2, 0.8], [start, end]).astype(int)
    for frame, column in zip(made, columns * width // 64, strict=True):
        frame[height // 3 : 2 * height // 3, column : column + width // 4] = (255, 200, 30)
    return made


def taught(recognizer: Recognizer) -> Recognizer:
    recognizer.enroll("right", [moving(0, 48 - seed, seed) for seed in range(3)])
    recognizer.enroll("left", [moving(48 - seed, 0, seed) for seed in range(3)])
    return recognizer


@pytest.fixture(autouse=True, scope="package")
def _shapes_are_not_checked() -> Iterator[None]:
    """The exporter follows a call with tensors in place of sizes, which the check of shapes refuses."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True, scope="package")
def _few_background_clips() -> Iterator[None]:
    """Three generated clips, as recogniser and export take them: rendering and encoding all takes seconds."""
    few = list(islice(generated_clips(), 3))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("fsar.recognizer.encoding", "fsar.export.bundle"):
            patch.setattr(f"{module}.generated_clips", lambda: iter(few))
        yield


@pytest.fixture(scope="package")
def shallow() -> Backbone:
    """One layer: the exporter and the quantiser take their time for each of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(embed_dim=32, vision_cfg=SMALL_VISION | {"layers": 1}, text_cfg=SMALL_TEXT)
    return ClipBackbone("small", clip.eval(), first_words)


@pytest.fixture(scope="package")
def exported(shallow: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    recognizer = taught(Recognizer(shallow))
    return Exported(recognizer, export(recognizer, tmp_path_factory.mktemp("export") / "small"))


def said(folder: Path, *words: str | Path, status: int = 0) -> list[dict[str, Any]]:
    """What the folder's own program prints, in a process that has neither PyTorch nor this package."""
    command: Sequence[str] = [sys.executable, "-c", ALONE, str(folder / "run.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"OMP_NUM_THREADS": "1"})
    assert done.returncode == status, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def said_here(folder: Path, *words: str | Path, status: int = 0) -> list[dict[str, Any]]:
    """What it prints, in this process, which has all packages loaded already."""
    printed = StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(printed),
        pytest.raises(SystemExit, match=f"^{status}$"),
    ):
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "frames", raising=False)
        patch.setattr(sys, "argv", ["run.py", *map(str, words)])
        runpy.run_path(str(folder / "run.py"), run_name="__main__")
    return [json.loads(line) for line in printed.getvalue().splitlines()]
