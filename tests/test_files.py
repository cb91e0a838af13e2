"""Files on disk are whole or absent."""

from pathlib import Path

import pytest

from fsar.files import atomic_path, locked, write_text_atomic
from tests.processes import child, waited


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "text.txt"
    write_text_atomic(file, "första\r\nzweite\n")
    assert file.read_bytes() == "första\r\nzweite\n".encode()
    write_text_atomic(file, "other")
    assert file.read_text() == "other" and list(file.parent.iterdir()) == [file]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    write_text_atomic(file, "before")
    with pytest.raises(UnicodeEncodeError):
        write_text_atomic(file, "half \udcff")
    with pytest.raises(KeyboardInterrupt), atomic_path(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


def test_processes_that_change_a_file_take_turns(tmp_path: Path) -> None:
    """Forty additions by four processes: without the lock, some would read the same number and lose one."""
    file = tmp_path / "count"
    write_text_atomic(file, "0")

    def add_ten() -> None:
        for _ in range(10):
            with locked(file):
                write_text_atomic(file, str(int(file.read_text()) + 1))

    children = [child(add_ten) for _ in range(4)]
    assert all(waited(pid) == 0 for pid in children)
    assert file.read_text() == "40" and list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = r"could not write .*text\.txt: .*file cannot be made: choose another folder"
    with pytest.raises(OSError, match=words):
        write_text_atomic(tmp_path / "file" / "text.txt", "")


def test_a_folder_is_no_name_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it is a folder: give another name"):
        write_text_atomic(tmp_path, "")
