"""What the README shows runs as it stands there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from fsar import cli
from fsar.datasets import VideoDataset
from fsar.methods import METHODS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.fixture
def folder(tmp_path: Path, world: VideoDataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the README speaks of, made of clips of the world."""
    monkeypatch.chdir(tmp_path)
    by_class = [[v.path for v in world.videos if v.label == label] for label in world.split("test").classes[:2]]
    for name, paths in zip(("wave", "clap"), by_class, strict=True):
        for i, path in enumerate(paths, start=1):
            (tmp_path / "my_actions" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "my_actions" / name / f"{i}.mp4")
            shutil.copy(path, tmp_path / f"{name}{i}.mp4")
    (tmp_path / "new_clips").mkdir()
    for place in ("new.mp4", "new_clips/new.mp4"):
        shutil.copy(by_class[0][6], tmp_path / place)
    return tmp_path


def test_the_python_lines(folder: Path) -> None:
    (code,) = blocks("python")
    exec(code.replace("lite0", "tiny"), {})
    assert (folder / "mine.fsar").is_file()


def test_the_command_lines(folder: Path, capsys: pytest.CaptureFixture[str], world: VideoDataset) -> None:
    lines = [line.split("#")[0] for block in blocks("bash") for line in block.splitlines() if line.startswith("fsar")]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.replace("lite0", "tiny").replace("10000", "20"))[1:]
        words = [str(world.videos[0].path.parents[1]) if word == "world" else word for word in words]
        if words[0] == "recognize":
            words += ["--backbone", "tiny"]
        elif "--episodes" not in words:
            words += ["--episodes", "20"]
        assert cli.main(words) == 0, capsys.readouterr().err


def test_every_method_has_its_row() -> None:
    assert all(f"| `{name}` | [{name.replace('-', '_')}.py]" in README for name in METHODS)
