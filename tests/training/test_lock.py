"""Two processes never train in one folder."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from fsar.training import lock
from fsar.training.lock import LOCK, sole_owner


def test_a_folder_has_one_owner_who_is_named(tmp_path: Path) -> None:
    with sole_owner(tmp_path / "run"):
        told = pytest.raises(ValueError, match=rf"process {os.getpid()} on .* trains in .*run already; .*--out")
        with told, sole_owner(tmp_path / "run"):
            pass
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert (tmp_path / "run" / LOCK).read_text() == ""
    with sole_owner(tmp_path / "run"):
        pass


def test_an_error_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), sole_owner(tmp_path):
        raise KeyboardInterrupt
    assert (tmp_path / LOCK).read_text() == ""


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from fsar.training.lock import sole_owner\n"
        "with sole_owner(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / LOCK).read_text()
    with sole_owner(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_another_machine_is_watched_for_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / LOCK
    file.write_text(json.dumps({"host": "node7", "pid": 12}))
    monkeypatch.setattr(lock, "WATCH", 0.0)
    with sole_owner(tmp_path):  # no sign: it is dead
        pass
    file.write_text(json.dumps({"host": "node7", "pid": 12}))
    monkeypatch.setattr(lock, "WATCH", 600.0)
    ended = Event()
    thread = Thread(target=lambda: [os.utime(file, ns=(0, n)) for n in iter(_count(ended), None)])
    thread.start()
    try:
        with pytest.raises(ValueError, match="process 12 on node7 trains in"), sole_owner(tmp_path):
            pass
    finally:
        ended.set()
        thread.join()
    with file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the refused process holds nothing


def _count(ended: Event):
    numbers = iter(range(10**9))
    return lambda: None if ended.wait(0.05) else next(numbers)
