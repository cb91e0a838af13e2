"""Files on disk are whole or absent."""

from pathlib import Path

import pytest

from fsar.files import atomic_path, write_text_atomic


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


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not write .*text\.txt: .*choose another folder"):
        write_text_atomic(tmp_path / "file" / "text.txt", "")
