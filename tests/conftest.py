"""Shared parts of the tests: a cache of their own, small videos, the built-in backbone."""

import copy
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jaxtyping
import numpy as np
import open_clip
import pytest
import torch

from fsar.backbones import Backbone
from fsar.backbones.clip import TINY_VOCABULARY, ClipBackbone, load_tiny, tiny_tokenize
from fsar.datasets import VideoDataset, load_folder
from fsar.datasets.base import SPLITS
from fsar.datasets.world import FRAMES_PER_SECOND, render_clip
from fsar.datasets.world_actions import ACTIONS, Action
from fsar.files import atomic_path
from fsar.video.writing import write_video
from tests import processes

SHARED = Path(os.environ["FSAR_SHARED"]) if os.environ.get("FSAR_SHARED") else None
GOLDEN = Path(os.environ.get("FSAR_GOLDEN_DIR", Path(__file__).parent / "golden"))
SUB_ACTIONS = str(Path(__file__).parent / "sub_actions.yaml")
needs_shared = pytest.mark.skipif(
    SHARED is None or not SHARED.is_dir(), reason="FSAR_SHARED names no folder of shared material"
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep open where pytest prints, for processes that hang."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():  # type: ignore[union-attr]
        processes.TERMINAL = os.dup(2)


torch.set_num_threads(1)  # one worker per core runs the suite
os.environ["OMP_NUM_THREADS"] = "1"  # and so in every process that a test starts


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["FSAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _usual_priority() -> Iterator[None]:
    """SVT-AV1 makes the thread that encodes a real-time one, if it may: all other processes then wait for it."""
    yield
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


WHOLE_RUNS = {"cli", "datasets", "export", "papers", "report", "results", "studio", "test_recipes.py"}
"""Rooms and files whose tests run commands, recipes and pages from end to end, as those beside this file do."""


@pytest.fixture(autouse=True, scope="module")
def _shapes_are_checked_by_the_tests_of_parts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whole runs call the same functions again, and the check of shapes doubles their time."""
    *rooms, file = request.path.relative_to(Path(__file__).parent).parts
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", not rooms or not WHOLE_RUNS.isdisjoint([*rooms, file]))
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True, scope="session")
def _background_is_rendered_once(rendered: Path) -> Iterator[None]:
    """Each encoder of a recogniser encodes the 40 background clips; rendering them takes two seconds each time."""

    def rendered_clip(action: Action, seed: int) -> np.ndarray:
        file = rendered / f"{action.name}-{seed}.npy"
        if not file.exists():
            with atomic_path(file) as part, part.open("wb") as stream:
                np.save(stream, render_clip(action, seed))
        return np.load(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsar.recognizer.background.render_clip", rendered_clip)
        yield


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return load_tiny()  # as itself, also beside `small_for_tiny`


SMALL_VISION = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 6, "head_width": 8}
SMALL_TEXT = {"context_length": 24, "vocab_size": TINY_VOCABULARY, "width": 32, "heads": 4, "layers": 3}


@pytest.fixture(scope="session")
def small() -> ClipBackbone:
    """As deep as `tiny`, of 4 patches and 32 channels with random weights: for whatever does not ask what it knows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(embed_dim=32, vision_cfg=SMALL_VISION, text_cfg=SMALL_TEXT, quick_gelu=True)
    return ClipBackbone("small", clip.eval(), first_words)


@pytest.fixture(scope="module")
def small_for_tiny(small: ClipBackbone) -> Iterator[ClipBackbone]:
    """In a module that asks for this, `tiny` by name is the small one: in recipes, commands, and forks of the process.

    For modules in which the project must do what it promises with any encoder, good or bad.
    """

    def load(freeze_batch_norm: bool = True) -> ClipBackbone:
        one = copy.deepcopy(small)
        one.name = "tiny"
        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsar.backbones.clip.load_tiny", load)
        yield load()


def first_words(texts: list[str]) -> torch.Tensor:
    """Token ids of the first words of each text, and its end."""
    ids = tiny_tokenize(texts)
    return torch.cat([ids[:, : SMALL_TEXT["context_length"] - 1], ids.max().expand(len(ids), 1)], 1)


@pytest.fixture(scope="session")
def world(rendered: Path) -> VideoDataset:
    """The generated world with few clips: 7 of each test class, 3 of each other class."""
    return _render(rendered / "world", ACTIONS, {"train": 3, "val": 3, "test": 7})


@pytest.fixture(scope="session")
def little_world(rendered: Path) -> VideoDataset:
    """Three clips of each of five classes in every split of the generated world: enough for most tests."""
    by_split = [[action for action in ACTIONS if action.split == split] for split in SPLITS]
    chosen = [action for actions in by_split for action in actions[:5]]
    return _render(rendered / "little", chosen, dict.fromkeys(SPLITS, 3))


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where rendered clips lie, for all processes that run the suite: rendering takes seconds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "rendered"
    folder.mkdir(exist_ok=True)
    return folder


def _render(folder: Path, actions: Sequence[Action], clips: Mapping[str, int]) -> VideoDataset:
    """Render clips of actions into a folder, as many as `clips` says for their split; the first process does it."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = folder.with_suffix(".part")
            for action in actions:
                for index in range(clips[action.split]):
                    path = part / action.name / f"{action.name}_{index:03d}.mp4"
                    write_video(path, render_clip(action, index), FRAMES_PER_SECOND)
            rows = [f"{action.name},{action.text},{action.split}" for action in actions]
            (part / "labels.csv").write_text("\n".join(["folder,label,split", *rows]))
            part.rename(folder)
    return load_folder(folder, "world")


@pytest.fixture
def small_video(tmp_path: Path) -> Path:
    """A readable H.264 file of 20 frames, 64 x 48 pixels; frame i has brightness 10 i + 20."""
    frames = np.stack([np.full((48, 64, 3), 10 * i + 20, np.uint8) for i in range(20)])
    write_video(tmp_path / "small.mp4", frames, 10.0)
    return tmp_path / "small.mp4"
