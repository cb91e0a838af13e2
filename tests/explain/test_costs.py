"""Costs: operations against a count by hand, trained parameters against the groups, nothing of the method changes."""

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fsar import build_method, cli
from fsar.backbones.base import fingerprint
from fsar.backbones.clip import ClipBackbone
from fsar.explain.costs import Setting, _flops, _peak, measure
from fsar.training.parameters import group_of

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


@pytest.mark.parametrize("name", ["ma-fsar", "hyrsm", "clip-fsar", "place-motion"])
def test_measuring_changes_nothing(small: ClipBackbone, name: str) -> None:
    options = {"ma-fsar": {"frames": 2, "hidden": 8}}.get(name, {})
    method = build_method(name, small, **options)
    filled = [name for name, _ in method.named_buffers()]
    before, needed = fingerprint(method), [p.requires_grad for p in method.parameters()]
    costs = measure(method, name, SETTING)
    assert fingerprint(method) == before and not method.training
    assert [name for name, _ in method.named_buffers()] == filled
    assert [p.requires_grad for p in method.parameters()] == needed and len(method.loss_heads) == 0
    own = sum(p.numel() for key, p in method.named_parameters() if not key.startswith("backbone."))
    visual = sum(p.numel() for p in small.clip.visual.parameters())
    assert costs.trained == {"ma-fsar": own, "hyrsm": own + visual, "clip-fsar": own + visual, "place-motion": 0}[name]
    assert (costs.train_seconds is None) == (name == "place-motion")


@pytest.mark.parametrize("name", ["ma-fsar", "task-adapter", "clip-cpm2c"])  # the last one expands a parameter
def test_counting_without_timing(small: ClipBackbone, name: str) -> None:
    """The same counts; matching costs the same as with an episode of different videos."""
    options = {"ma-fsar": {"hidden": 8, "frames": 2}, "task-adapter": {"frames": 2}, "clip-cpm2c": {"hidden": 8}}
    method = build_method(name, small, **options[name])
    counted, timed = (measure(method, name, replace(SETTING, repeats=times, training=False)) for times in (0, 1))
    assert (counted.memory_mb, counted.train_seconds, counted.clip_seconds, counted.match_seconds) == (None,) * 4
    assert timed.train_seconds is None and timed.clip_seconds and timed.match_seconds
    assert (counted.clip_gflops, counted.trained) == (timed.clip_gflops, timed.trained)
    support, query = torch.randn(1, 2, 1, 2, 3, 16, 16), torch.randn(1, 2, 2, 3, 16, 16)
    with torch.no_grad():
        text = method.encode_text(["wave", "clap"])[None] if method.traits.reads_text else None
        episode = method.encode_episode(support, query, text)
        assert counted.episode_gflops * 1e9 == pytest.approx(_flops(lambda: method.match(episode)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_memory_that_is_used_again_counts() -> None:
    """Blocks that were freed stay with the process, and the next run takes them without growing."""
    for _ in range(3):
        torch.ones(2_500_000)
    peak = _peak(lambda: torch.ones(2_000_000), torch.device("cpu"))
    assert peak == pytest.approx(8, abs=2)  # megabytes


def test_command(small_for_tiny: ClipBackbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MA-FSAR fully fine-tuned beside its frozen encoder: a row for each choice of what trains."""
    words = ["benchmark", "methods", "--method", "ma-fsar:fgma=false,hidden=8", "--trains", "own", "own,visual"]
    size = ["--way", "2", "--frames", "2", "--repeats", "1", "--device", "cpu"]
    assert cli.main([*words, *size, "--out", str(tmp_path / "costs.csv")]) == 0
    said = capsys.readouterr().out
    assert "| ma-fsar:fgma=false,hidden=8 | tiny | cpu" in said and "| own, visual |" in said and "trained, M" in said
    with (tmp_path / "costs.csv").open(newline="") as file:
        frozen, full = csv.DictReader(file)
    visual = sum(p.numel() for p in small_for_tiny.clip.visual.parameters())
    assert int(full["trained"]) - int(frozen["trained"]) == visual and float(full["train_seconds"]) > 0
    assert torch.backends.mha.get_fastpath_enabled()


def test_only_the_named_groups_train(small: ClipBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients reach them in the measured step; a group that the method lacks is refused."""
    method = build_method("ma-fsar", small, fgma=False, hidden=8)
    seen: list[set[str]] = []

    def step_once(run: Callable[[], object], device: torch.device) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(method, "zero_grad", lambda **_: None)
            run()
        seen.append({group_of(name) for name, p in method.named_parameters() if p.grad is not None})
        method.zero_grad()

    monkeypatch.setattr("fsar.explain.costs._peak", step_once)
    for trains in (None, ["own", "visual"]):
        measure(method, "ma-fsar", SETTING, trains)
    assert seen == [{"own"}, {"own", "visual"}]
    with pytest.raises(ValueError, match="trains names group 'text', but ma-fsar keeps the text tower frozen"):
        measure(method, "ma-fsar", SETTING, ["text"])
