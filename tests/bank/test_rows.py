"""Large banks lie in files without names, hold what small ones hold, and leave nothing behind."""

from pathlib import Path

import pytest
import torch

from fsar.bank import rows
from fsar.bank.rows import Rows
from fsar.files import cache_dir


def _filled(dtype: torch.dtype) -> Rows:
    made = Rows(5)
    for i in range(4):
        made.append({"tokens": torch.full((2, 3), i + 0.5, dtype=dtype), "frames": torch.full((2,), float(i))})
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_holds_what_memory_holds(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = _filled(dtype).tensors
    monkeypatch.setattr(rows, "LARGE", 1)
    before = set(cache_dir().glob("*"))
    in_file = _filled(dtype)
    assert set(cache_dir().glob("*")) == before  # the file has no name, so even a killed process leaves none
    assert in_file.bytes == 5 * (6 * dtype.itemsize + 2 * 4)
    for name, expected in in_memory.items():
        assert in_file.tensors[name].dtype == expected.dtype
        assert torch.equal(in_file.tensors[name], expected)


def test_a_disk_without_room_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"bank of 1,000,000,000,000 videos takes 8000\.0 GB, and .*set FSAR_CACHE"):
        Rows(10**12).append({"frames": torch.zeros(2)})
