"""`fsar doctor` and `fsar cache`; and the command line on a system without the modules of POSIX."""

import ast
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import platformdirs
import pytest

import fsar
from fsar.cli import doctor, main


def test_doctor_finds_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An old package and a cache that cannot be written are problems; a missing extra is none."""
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path))
    wanted = ["numpy>=1.26", "paho-mqtt>=2; extra == 'mqtt'", "fsar[mqtt]; extra == 'all'", "av>=9000; extra == 'new'"]
    monkeypatch.setattr(doctor, "requires", lambda _: wanted)
    monkeypatch.setattr(doctor, "metadata", lambda _: _Extras("mqtt", "all", "new", "dev"))
    monkeypatch.setattr(doctor, "version", _version)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "all packages it needs are there" in told
    assert "extra all: paho-mqtt is missing; pip install 'fsar[all]'" in told
    assert "extra new: av is 14.0, and >=9000 is needed; pip install 'fsar[new]'" in told
    assert "extra dev" not in told
    assert (
        "video: written and read" in told
        and "encoder: tiny encodes a clip" in told
        and "everything that is needed works" in told
    )

    wanted[0] = "numpy>=9000"
    monkeypatch.setitem(sys.modules, "fsar.video.writing", None)  # as if two packages did not fit each other
    (tmp_path / "file").touch()
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "file"))
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "PROBLEM fsar 14.0: numpy is 14.0, and >=9000 is needed; run pip install --upgrade fsar" in told
    assert "PROBLEM cache: could not write" in told and "FSAR_CACHE" in told
    assert "PROBLEM codecs: ModuleNotFoundError: import of fsar.video.writing" in told
    assert "3 problems" in told


def test_doctor_tells_builds_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision fails beside a torch of another build."""
    (tmp_path / "torchvision.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    (finding,) = doctor._encoder()
    assert not finding.works and finding.words.endswith(
        "nms does not exist; torch and torchvision are of two builds: install both from one index"
    )


class _Extras:
    def __init__(self, *names: str):
        self.names = list(names)

    def get_all(self, _: str) -> list[str]:
        return self.names


def _version(name: str) -> str:
    if name == "paho-mqtt":
        raise metadata.PackageNotFoundError(name)
    return "14.0"


def test_cache_tells_its_size_and_removes_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path))
    now = time.time()
    for room, name, days in (("frames", "a.npy", 40), ("windows", "b.npz", 20), ("features", "c.safetensors", 1)):
        (tmp_path / room).mkdir()
        (tmp_path / room / name).write_bytes(bytes(10**6))
        os.utime(tmp_path / room / name, (now - days * 86400,) * 2)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "list.txt").write_text("a list that was fetched\n")
    assert main(["cache"]) == 0
    assert f"{tmp_path}: 0.00 GB; the limit for frames, features, windows is 10 GB" in (told := capsys.readouterr().out)
    assert "  features: 0.001 GB\n  frames: 0.001 GB\n  splits: 0.000 GB\n  windows: 0.001 GB\n" in told
    assert main(["cache", "--older", "30"]) == 0
    assert "removed 1 file;" in capsys.readouterr().out and not (tmp_path / "frames" / "a.npy").exists()
    assert main(["cache", "--to", "0.0015"]) == 0
    assert "removed 1 file;" in capsys.readouterr().out and not (tmp_path / "windows" / "b.npz").exists()
    assert main(["cache", "--clear"]) == 0
    assert "removed 1 file;" in capsys.readouterr().out
    assert (tmp_path / "splits" / "list.txt").exists()
    assert main(["cache", "--clear", "--to", "1"]) == 2
    assert main(["cache", "--to", "-1"]) == 2
    assert "--to is -1; expected 0 or more" in capsys.readouterr().err


def test_a_cache_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in its place, files that may not be removed, no home folder, a limit that is no number."""
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "frames" / "a.npy"))
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "a.npy").write_bytes(bytes(100))
    assert main(["cache"]) == 2
    assert "a.npy: Not a directory; expected a folder" in capsys.readouterr().err

    monkeypatch.setenv("FSAR_CACHE", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _refuse)
        assert main(["cache", "--clear"]) == main(["cache", "--older", "0"]) == 2
    assert "could not remove 1 files of the cache (removed 0), first [Errno 13] no" in capsys.readouterr().err

    monkeypatch.delenv("FSAR_CACHE")
    for found in (Path("~/.cache/fsar").as_posix, _no_home):
        monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _, found=found: found())
        assert main(["cache"]) == 2
        assert "no home folder is known for the cache; set FSAR_CACHE" in capsys.readouterr().err
    assert [finding.words for finding in doctor._cache()] == [
        "no home folder is known for the cache; set FSAR_CACHE to a folder that you may write"
    ]


def _refuse(path: Path) -> None:
    raise PermissionError(13, "no", str(path))


def _no_home() -> str:
    raise RuntimeError("no home")


POSIX = {"fcntl", "resource", "pwd", "grp", "termios"}
WITHOUT_POSIX = """
import os, subprocess, sys, types
import platformdirs  # knows on which system it is
held = set()
def locking(file, mode, count):
    key = os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR)
    if key in held:
        raise OSError(36, "locked")
    held.add(key)
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios")))
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
del os.fork, os.setsid, os.geteuid, os.getuid

from pathlib import Path
from fsar.cli import main
from fsar.files import locked, write_text_atomic
from fsar.training.lock import sole_owner
folder = Path(sys.argv[1])
write_text_atomic(folder / "count", "1")
with locked(folder / "count"):
    write_text_atomic(folder / "count", "2")
with sole_owner(folder / "run"):
    try:
        with sole_owner(folder / "run"):
            raise AssertionError("two owners")
    except ValueError as error:
        assert "trains in" in str(error), error
assert main(["cache"]) == 0
assert main(["serve", str(folder)]) == 2
print("done")
"""


def test_the_command_line_runs_without_modules_of_posix(tmp_path: Path) -> None:
    """As on Windows: locks hold, and the service says what it needs."""
    command = [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stderr
    assert "use Linux, macOS or WSL" in done.stderr
    assert (tmp_path / "count").read_text() == "2"


def test_modules_of_posix_are_imported_where_they_may_be_missing() -> None:
    """Only the service, which says so, imports one without `except ImportError`."""
    source = Path(fsar.__file__).parent
    for file in source.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.relative_to(source).parts[0] != "service" and any(f"import {name}" in text for name in POSIX):
            for node in ast.parse(text).body:
                names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
                assert not names & POSIX, f"{file} imports {names & POSIX}"
