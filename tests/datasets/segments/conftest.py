"""Long videos to cut segments from."""

from pathlib import Path

import pytest

from tests.video.test_reading import encode, greys


@pytest.fixture(scope="session")
def _films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    encode(folder / "long.mp4", greys(20), fps=10)
    encode(folder / "at24.mp4", greys(20), fps=24)
    return folder


@pytest.fixture
def films(_films: Path, tmp_path: Path) -> Path:
    """A folder with `long.mp4`, 2 seconds at 10 frames per second, and `sub/at24.mp4`, 20 frames at 24 per second."""
    (tmp_path / "films" / "sub").mkdir(parents=True)
    (tmp_path / "films" / "long.mp4").symlink_to(_films / "long.mp4")
    (tmp_path / "films" / "sub" / "at24.mp4").symlink_to(_films / "at24.mp4")
    return tmp_path / "films"
