"""Search by example: what is planted is found, feedback counts, and the shortlist is measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fsar.backbones import Backbone
from fsar.bank.nearest import NearestIndex
from fsar.bank.pooled import pooled
from fsar.bank.search import Search
from fsar.cli import main
from fsar.datasets import Video
from fsar.datasets.shards import ShardedBank
from fsar.methods import build_method
from fsar.video.writing import write_video

FRAMES, DIM = 4, 32


def clip(kind: int, number: int) -> torch.Tensor:
    """Features of a clip: those of its kind, and noise."""
    kinds = torch.from_numpy(np.random.RandomState(kind).standard_normal((FRAMES, DIM))).float()
    return kinds + 0.3 * torch.from_numpy(np.random.RandomState(1000 + number).standard_normal((FRAMES, DIM))).float()


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> ShardedBank:
    """400 clips, of which 8 are of kind 1, 8 of kind 2, and every other one of a kind of its own."""
    specs = {"frames": [FRAMES, DIM], "pooled": [64]}
    tensors = {name: {"dtype": "float16", "shape": shape} for name, shape in specs.items()}
    bank = ShardedBank.create(tmp_path_factory.mktemp("bank") / "b", {"tensors": tensors, "videos_per_shard": 100})
    kinds = [1 if i % 50 == 7 else 2 if i % 50 == 9 else 100 + i for i in range(400)]
    names = {1: "one", 2: "two"}
    bank.add(Video(f"{names.get(kind, 'other')}{i}", Path(f"{i}.mp4"), "") for i, kind in enumerate(kinds))
    for number in bank.missing():
        numbers = range(100 * number, 100 * number + 100)
        frames = torch.stack([clip(kinds[i], i) for i in numbers])
        made = {"frames": frames.half().numpy(), "pooled": pooled({"frames": frames}, 64).half().numpy()}
        bank.write(number, made, [row | {"row": i} for i, row in enumerate(bank.listed(number))])
    return bank


def test_what_is_planted_is_found(bank: ShardedBank, tiny: Backbone) -> None:
    search = Search(bank, build_method("otam", tiny))
    examples = {"frames": torch.stack([clip(1, 5000), clip(1, 5001)])}
    answer = search(examples, top=8, shortlist=40)
    assert {one.id[:3] for one in answer.found} == {"one"} and answer.recall == 1 and answer.of == 400
    assert answer.found == search(examples, top=8, shortlist=400).found
    few = search(examples, top=20, shortlist=4, exact=True)  # the shortlist bounds what is found, and that is said
    assert len(few.found) == 4 and few.recall == 4 / 20 and few.of == 400


def test_feedback_refines(bank: ShardedBank, tiny: Backbone) -> None:
    search = Search(bank, build_method("otam", tiny))
    both = {"frames": (clip(1, 5000) + clip(2, 5001))[None]}
    ids = [one.id for one in search(both, top=10).found]
    assert {name[:3] for name in ids} >= {"one", "two"}
    wanted, unwanted = (next(name for name in ids if name.startswith(kind)) for kind in ("one", "two"))
    refined = [one.id for one in search(both, yes=[wanted], no=[unwanted], top=7).found]
    assert {name[:3] for name in refined} == {"one"} and wanted not in refined
    with pytest.raises(ValueError, match="lacks 'nine'"):
        search(both, yes=["nine"])


def test_an_index_follows_the_bank(bank: ShardedBank, tiny: Backbone) -> None:
    pytest.importorskip("usearch")
    method, examples = build_method("otam", tiny), {"frames": clip(2, 5000)[None]}
    scanned = Search(bank, method)(examples, top=8, shortlist=20)
    indexed = Search(bank, method, NearestIndex(bank, progress=False))
    assert indexed(examples, top=8, shortlist=20).found == scanned.found
    bank.delete([scanned.found[0].id])
    bank.add([Video("new", Path("new.mp4"), "")])
    frames = clip(2, 6000)[None]
    made = {"frames": frames.half().numpy(), "pooled": pooled({"frames": frames}, 64).half().numpy()}
    bank.write(4, made, [bank.listed(4)[0] | {"row": 0}])
    ids = [one.id for one in Search(bank, method, NearestIndex(bank, progress=False))(examples, top=8).found]
    assert "new" in ids and scanned.found[0].id not in ids


def test_a_method_that_compares_classes_is_refused(bank: ShardedBank, tiny: Backbone) -> None:
    with pytest.raises(ValueError, match="hyrsm does not rank videos by examples alone"):
        Search(bank, build_method("hyrsm", tiny))


def test_the_command_finds_moments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bright patch that moves to the right, in the middle of a long video in which it stands still."""

    def frames(offsets: list[int]) -> list[np.ndarray]:
        pictures = np.zeros((len(offsets), 32, 32, 3), np.uint8)
        for picture, offset in zip(pictures, offsets, strict=True):
            picture[8:16, offset : offset + 8] = 255
        return [*pictures]

    moves = [2, 5, 8, 11, 14, 17, 20, 23, 24, 24]
    write_video(tmp_path / "wave/1.mp4", frames(moves), 10.0)
    write_video(tmp_path / "long/a.mp4", frames([2] * 20 + moves + [24] * 20), 10.0)
    maker = ["--method", "place-motion", "--backbone", "tiny", "--frames", "2", "--workers", "1", "--device", "cpu"]
    fill = ["bank", "fill", "--bank", str(tmp_path / "b"), "--videos", str(tmp_path / "long")]
    assert main([*fill, *maker, "--windows", "1", "--hop", "0.5"]) == 0
    search = ["search", "--examples", str(tmp_path / "wave"), "--bank", str(tmp_path / "b"), "--device", "cpu"]
    capsys.readouterr()
    assert main([*search, "--top", "3", "--format", "json"]) == 0
    said = capsys.readouterr()
    first = json.loads(said.out)[0]
    assert (first["start"], first["end"], first["rank"]) == (2.0, 3.0, 1)
    assert "9 rows; recall of the shortlist at 3: 1.00" in said.err
