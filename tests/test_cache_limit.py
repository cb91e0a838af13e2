"""The cache folder stays below its limit, and what is used stays."""

import os
from pathlib import Path

import numpy as np
import pytest

from fsar import cache_limit
from fsar.bank.store import BankStore
from fsar.video.frame_cache import FrameCache


def test_what_was_used_least_recently_goes_first(
    small_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three clips fill the limit. The first one is used again, so that the second one goes."""
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_limit, "EVERY", 0)
    clips = [FrameCache(frames=count) for count in (8, 9, 10)]
    for i, clip in enumerate(clips):
        clip.read(small_video)
        path = clip.root / clip.key(small_video)[:2] / f"{clip.key(small_video)}.npy"
        os.utime(path, (i + 1, i + 1))
    clips[0].read(small_video)
    size = 64 * 48 * 3 * (8 + 9 + 10 + 4) + 4 * 128
    monkeypatch.setenv("FSAR_CACHE_LIMIT", str((size - 1) / 1e9))
    FrameCache(frames=4).read(small_video)
    counts = sorted(len(np.load(path)) for path in (tmp_path / "cache").rglob("*.npy"))
    assert counts == [4, 8, 10]


def test_encodings_count_and_headers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path))
    store = BankStore({"encoder": "a"})
    (store.folder / "00").mkdir()
    for i in range(4):
        (store.folder / "00" / f"{i}.safetensors").write_bytes(bytes(100))
        os.utime(store.folder / "00" / f"{i}.safetensors", (i, i))
    assert cache_limit.make_room(tmp_path, 250) == 2
    assert {path.name for path in store.folder.rglob("*.*")} == {"bank.json", "2.safetensors", "3.safetensors"}


def test_the_limit_is_read_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FSAR_CACHE_LIMIT", raising=False)
    assert cache_limit.cache_limit() == 10_000_000_000
    for text, expected in (("0.5", 500_000_000), ("0", None)):
        monkeypatch.setenv("FSAR_CACHE_LIMIT", text)
        assert cache_limit.cache_limit() == expected
    monkeypatch.setenv("FSAR_CACHE_LIMIT", "ten")
    with pytest.raises(ValueError, match="FSAR_CACHE_LIMIT is 'ten'; expected a number of GB"):
        cache_limit.cache_limit()
