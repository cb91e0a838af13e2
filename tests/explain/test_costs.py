"""Costs: operations against a count by hand, trained parameters against the groups, nothing of the method changes."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from fsar import build_method, cli
from fsar.backbones.base import fingerprint
from fsar.backbones.clip import ClipBackbone
from fsar.explain.costs import Setting, measure

SETTING = Setting(way=2, frames=2, repeats=1)


def test_operations_are_those_of_a_count_by_hand(small: ClipBackbone) -> None:
    """A ViT of 6 blocks, 32 channels, 5 tokens; two operations per multiplication and addition."""
    tokens, width, patch = 5, 32, 3 * 8 * 8
    block = tokens * width * (3 * width + width + 8 * width) + 2 * tokens * tokens * width
    frame = 4 * patch * width + 6 * block + width * 32
    costs = measure(build_method("protonet", small, similarity="frame-wise"), "protonet", SETTING)
    assert costs.clip_gflops * 1e9 == pytest.approx(2 * 2 * frame)
    assert costs.episode_gflops * 1e9 == pytest.approx(2 * (2 * 2) * (2 * 2) * 32)  # every frame with every frame
    assert costs.trained == sum(p.numel() for p in small.clip.visual.parameters())
    assert costs.train_seconds is not None and costs.train_seconds > 0


@pytest.mark.parametrize("name", ["ma-fsar", "hyrsm", "place-motion"])
def test_measuring_changes_nothing(small: ClipBackbone, name: str) -> None:
    options = {"ma-fsar": {"frames": 2, "hidden": 8}}.get(name, {})
    method = build_method(name, small, **options)
    before, needed = fingerprint(method), [p.requires_grad for p in method.parameters()]
    costs = measure(method, name, SETTING)
    assert fingerprint(method) == before and not method.training
    assert [p.requires_grad for p in method.parameters()] == needed and len(method.loss_heads) == 0
    own = sum(p.numel() for key, p in method.named_parameters() if not key.startswith("backbone."))
    visual = sum(p.numel() for p in small.clip.visual.parameters())
    assert costs.trained == {"ma-fsar": own, "hyrsm": own + visual, "place-motion": 0}[name]
    assert (costs.train_seconds is None) == (name == "place-motion")


def test_without_numbers_everything_but_time_is_counted(small: ClipBackbone) -> None:
    """On the device `meta`, as on a real one."""
    method = build_method("ma-fsar", small, frames=2, hidden=8)
    real, counted = measure(method, "ma-fsar", SETTING), measure(deepcopy(method).to("meta"), "ma-fsar", SETTING)
    assert counted.device.startswith("meta") and counted.clip_gflops == real.clip_gflops > 0
    assert (counted.episode_gflops, counted.trained) == (real.episode_gflops, real.trained)
    assert (counted.memory_mb, counted.train_seconds, counted.clip_seconds, counted.match_seconds) == (None,) * 4


def test_command(small_for_tiny: ClipBackbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "methods", "--method", "aim", "--way", "2", "--frames", "2", "--repeats", "1"]
    assert cli.main([*words, "--device", "cpu", "--out", str(tmp_path / "costs.csv")]) == 0
    said = capsys.readouterr().out
    assert "| aim | tiny | cpu" in said and "trained, M" in said
    assert (tmp_path / "costs.csv").read_text().count("\n") == 2
    assert torch.backends.mha.get_fastpath_enabled()
