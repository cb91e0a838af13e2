"""200 broken files of every container: frames or a VideoError, within time and memory (see `benchmarks/fuzz.py`)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    specification = importlib.util.spec_from_file_location("fuzz", FUZZ)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["fuzz"] = module  # a worker process looks it up by name
    specification.loader.exec_module(module)
    return module


def test_broken_files_give_frames_or_a_video_error(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FUZZ.parent)
    seeds = fuzz.write_seeds(tmp_path)
    outcomes = list(fuzz.run(range(200), seeds, tmp_path))
    assert [outcome for outcome in outcomes if outcome.failed] == []
    kinds = {outcome.kind for outcome in outcomes}
    assert kinds == {"frames", "VideoError"} and len({outcome.name for outcome in outcomes}) > 20


def test_a_mutation_is_a_function_of_its_number(fuzz: ModuleType) -> None:
    seeds = {"a.mp4": bytes(range(256)) * 8, "b.avi": bytes(range(200)) * 9}
    made = [fuzz.mutated(seeds, number) for number in range(60)]
    assert made == [fuzz.mutated(seeds, number) for number in range(60)]
    assert len({content for _, content in made}) > 55
