"""The files of a bank of shards."""

from pathlib import Path

import numpy as np
import pytest

from fsar.datasets import Video, load_features
from fsar.datasets.shards import ShardedBank, is_bank

HEADER = {"tensors": {"frames": {"dtype": "float16", "shape": [2, 3]}}, "videos_per_shard": 2}


def video(i: int) -> Video:
    return Video(f"wave/{i}", Path(f"/{i}.mp4"), "wave")


@pytest.fixture
def bank(tmp_path: Path) -> ShardedBank:
    """Shards of two, two and one video; video i has the number i everywhere."""
    bank = ShardedBank.create(tmp_path / "bank", HEADER)
    assert bank.add(map(video, range(5))) == 5
    for number in bank.missing():
        rows = [row | {"row": i, "content": "c"} for i, row in enumerate(bank.listed(number))]
        frames = np.stack([np.full((2, 3), float(row["id"][-1]), np.float16) for row in rows])
        bank.write(number, {"frames": frames}, rows)
    return bank


def test_rows_are_read_at_random(bank: ShardedBank) -> None:
    assert bank.done() == [0, 1, 2] and bank.missing() == []
    table = bank.index()
    assert table["id"].to_pylist() == [f"wave/{i}" for i in range(5)]
    assert bank.rows("frames", [2, 0, 1], [0, 1, 1])[:, 0, 0].tolist() == [4, 1, 3]
    assert isinstance(bank.part("frames", 0), np.memmap)
    dataset = load_features(bank.place.folder)
    assert [video.features[0, 0] for video in dataset.videos] == [*range(5)]  # type: ignore[index]


def test_new_videos_make_new_shards(bank: ShardedBank) -> None:
    before = (bank.place.folder / "index/00002.parquet").read_bytes()
    assert bank.add(map(video, [5, 1, 6, 7])) == 3  # video 1 is there already
    assert bank.missing() == [3, 4]
    assert [row["id"] for row in bank.listed(3)] == ["wave/5", "wave/6"]
    assert (bank.place.folder / "index/00002.parquet").read_bytes() == before


def test_a_deleted_video_leaves_no_numbers(bank: ShardedBank) -> None:
    assert bank.delete(["wave/1", "wave/4"]) == ["wave/1", "wave/4"]
    assert bank.delete(["wave/1"]) == []
    assert not bank.part("frames", 0)[1].any() and bank.part("frames", 0)[0].any() == False  # noqa: E712 - video 0 is 0
    assert not bank.part("frames", 2).any() and bank.part("frames", 1).all()
    assert [video.id for video in load_features(bank.place.folder).videos] == ["wave/0", "wave/2", "wave/3"]
    with pytest.raises(ValueError, match="lacks wave/9"):
        bank.delete(["wave/9"])


def test_what_is_wrong_with_a_bank_is_said(bank: ShardedBank, tmp_path: Path) -> None:
    folder = bank.place.folder
    with pytest.raises(ValueError, match="another bank: videos_per_shard is 2 there, 3 here"):
        ShardedBank.create(folder, HEADER | {"videos_per_shard": 3})
    with pytest.raises(ValueError, match="no bank, and not empty"):
        ShardedBank.create(tmp_path, HEADER)
    with pytest.raises(ValueError, match="no bank .there is no bank.json"):
        load_features(tmp_path)
    assert is_bank(folder) and not is_bank(tmp_path)
    (folder / "frames/00001.npy").write_bytes((folder / "frames/00001.npy").read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"00001.npy: missing or damaged .*remove index/00001.parquet"):
        bank.part("frames", 1)
    np.save(folder / "frames/00002.npy", np.zeros((1, 9), np.float16))
    with pytest.raises(ValueError, match=r"float16 \[1, 9\]; expected float16 \[row, 2, 3\]"):
        bank.part("frames", 2)
    (folder / "index/00000.parquet").write_bytes(b"cut")
    with pytest.raises(ValueError, match="00000.parquet: damaged"):
        bank.index()
