"""Several devices share an evaluation, and its numbers stay those of one; copies on the CPU take the place of GPUs."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fsar import devices
from fsar.backbones import Backbone
from fsar.bank.fill import fill_bank
from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.devices import copies_on
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.loop import evaluate
from fsar.evaluation.matching import match_from_bank
from fsar.methods import METHODS, build_method
from fsar.methods.encoder import FrameEncoder
from fsar.methods.protonet import ProtoNet
from fsar.results.result import Result


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`."""
    return small_for_tiny


@pytest.fixture(scope="module")
def few(little_world: VideoDataset) -> VideoDataset:
    """Two clips of two classes."""
    novel = little_world.split("test")
    of_two = novel.only(novel.classes[:2])
    return replace(of_two, videos=tuple(video for video in of_two.videos if video.id[-1] in "01"))


@pytest.mark.parametrize("name", METHODS)
def test_two_devices_equal_one(name: str, few: VideoDataset, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: encodings, and logits of batches of one episode."""
    monkeypatch.setattr("fsar.evaluation.matching._BATCH_BYTES", 1)
    method = build_method(name, tiny, **({"out_dim": 16} if name == "trx" else {}))
    drawn = EpisodeSampler(dataset=few, way=2, shot=1).draw(2)
    banks = [fill_bank(method, few.videos, few.texts, keep=False, devices=n, progress=False) for n in (1, 2)]
    for role in ("support", "query"):
        one, two = (getattr(bank, role) for bank in banks)
        assert one.keys() == two.keys() and all(torch.equal(one[part], two[part]) for part in one)
    one, two = (match_from_bank(method, banks[0], drawn, few.texts, devices=n, progress=False) for n in (1, 2))
    assert (one.logits == two.logits).all()


@pytest.mark.parametrize("naive", [False, True])
def test_every_device_takes_its_turn(
    naive: bool, few: VideoDataset, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the precision that is asked for, which every thread has to be told."""
    monkeypatch.setattr("fsar.evaluation.matching._BATCH_BYTES", 1)
    matched: list[tuple[int, int]] = []
    match = ProtoNet.match
    monkeypatch.setattr(
        ProtoNet,
        "match",
        lambda self, episode: matched.append((id(self), threading.get_ident())) or match(self, episode),
    )
    precisions: list[bool] = []
    encode = FrameEncoder.encode
    monkeypatch.setattr(
        FrameEncoder,
        "encode",
        lambda *given: precisions.append(torch.is_autocast_enabled("cpu")) or encode(*given),
    )
    how = {"way": 2, "episodes": 2, "precision": "bf16", "naive": naive, "progress": False}
    method = build_method("protonet", tiny)
    one = evaluate(method, few, "all", **how)
    assert set(matched) == {(id(method), threading.get_ident())}
    matched.clear()
    precisions.clear()
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path))  # every video is encoded again
    two = evaluate(method, few, "all", devices=2, **how)
    assert len(matched) == len({copy for copy, _ in matched}) == len({thread for _, thread in matched}) == 2
    assert precisions and all(precisions)
    assert two.right == one.right and two.device == f"2 x {one.device}"


def test_the_command_line_takes_several_devices(
    few: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(few.videos[0].path.parent.parent), "--classes", *few.classes, "--way", "2", "--episodes", "9"]
    start = ["evaluate", *data, "--method", "otam", "--device", "cpu"]
    assert main([*start, "--out", str(tmp_path / "one")]) == 0
    assert main([*start, "--out", str(tmp_path / "two"), "--devices", "2"]) == 0
    one, two = (Result.load(next((tmp_path / folder).glob("*.json"))) for folder in ("one", "two"))
    assert one.right == two.right and two.device == f"2 x {one.device}"
    assert main([*start, "--devices", "0"]) == 2
    assert "devices is 0; expected 1 or more" in capsys.readouterr().err


def test_more_gpus_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "device_of", lambda module: torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="devices is 3, and this machine has 2 GPUs; expected at most so many"):
        copies_on(nn.Linear(2, 2), 3)
