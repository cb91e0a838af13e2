"""Checkpoints: only what was trained, on top of a named backbone, loaded strictly; and the hub."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import fsar.training.checkpoint
from fsar.backbones import Backbone, load_backbone
from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.evaluation.loop import evaluate
from fsar.methods import Method, build_method
from fsar.training.checkpoint import Provenance, _header, load_pretrained, model_card, push_to_hub, save_pretrained

GROUPS = ("own",)


def provenance(world: VideoDataset, groups: tuple[str, ...] = GROUPS) -> Provenance:
    train = world.split("train")
    return Provenance(
        groups=groups,
        clip={"frames": 8, "sampling": "tsn"},
        recipe={"way": 5, "shot": 1, "seed": 0},
        dataset="world",
        dataset_fingerprint=train.fingerprint(),
        classes=train.classes,
        selection="best on the val classes",
        episodes=32,
        results=(
            {"dataset": "world", "split": "val", "way": 5, "shot": 1, "accuracy": 0.5, "ci95": 0.01, "episodes": 100},
        ),
    )


def trained(tiny: Backbone, **options) -> Method:
    """A method as if it had been trained."""
    method = build_method("ma-fsar", tiny, hidden=16, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if not name.startswith("backbone."):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return method


@pytest.fixture
def folder(tiny: Backbone, world: VideoDataset, tmp_path: Path) -> Path:
    save_pretrained(trained(tiny), tmp_path / "checkpoint", provenance(world))
    return tmp_path / "checkpoint"


def test_what_is_saved_is_loaded(folder: Path, tiny: Backbone, world: VideoDataset) -> None:
    method = load_pretrained(folder)
    original = trained(tiny)
    assert all(torch.equal(tensor, original.state_dict()[name]) for name, tensor in method.state_dict().items())
    assert method.provenance == provenance(world)
    assert method.options() == original.options()
    assert load_pretrained(folder.parent).provenance == method.provenance  # a run's folder will do


def test_it_holds_nothing_frozen(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    header = json.loads((folder / "fsar.json").read_text())
    assert not any(name.startswith("backbone.") for name in stored)
    assert header["trained"] == sum(tensor.numel() for tensor in stored.values())
    assert header["backbone"] == "tiny" and len(header["frozen"]) == 16


def test_a_trained_tower_is_stored(world: VideoDataset, tmp_path: Path) -> None:
    method = build_method("clip-fsar", load_backbone("tiny"), hidden=16)
    with torch.no_grad():
        method.backbone.clip.visual.proj.mul_(2)
    save_pretrained(method, tmp_path, provenance(world, ("own", "visual")))
    again = load_pretrained(tmp_path)
    assert torch.equal(again.backbone.clip.visual.proj, method.backbone.clip.visual.proj)
    assert not any(name.startswith("backbone.clip.token") for name in load_file(tmp_path / "model.safetensors"))


def test_only_the_read_out_may_be_changed(folder: Path) -> None:
    assert load_pretrained(folder, readout="text").config.readout == "text"
    with pytest.raises(ValueError, match=r"gta.*readout"):
        load_pretrained(folder, gta=False)
    with pytest.raises(ValueError, match="did you mean 'readout'"):
        load_pretrained(folder, readaut="text")


def test_another_backbone_is_refused(folder: Path) -> None:
    other = load_backbone("tiny")
    with torch.no_grad():
        other.clip.visual.proj.add_(1e-3)
    with pytest.raises(ValueError, match=r"trained on backbone tiny \(frozen part \w{16}\).*use the same weights"):
        load_pretrained(folder, other)


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "cut", "header", "format", "nothing"])
def test_damage_is_named(folder: Path, damage: str) -> None:
    weights, header = folder / "model.safetensors", folder / "fsar.json"
    state = load_file(weights)
    first = sorted(state)[0]
    if damage == "missing":
        save_file({name: tensor for name, tensor in state.items() if name != first}, weights)
    if damage == "extra":
        save_file({**state, "more": torch.zeros(1)}, weights)
    if damage == "shape":
        save_file({**state, first: torch.zeros(3)}, weights)
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    if damage == "header":
        header.write_text("{")
    if damage == "format":
        header.write_text(json.dumps({**json.loads(header.read_text()), "format": 99}))
    if damage == "nothing":
        shutil.rmtree(folder)
    expected = {
        "missing": "do not fit",
        "extra": "do not fit",
        "shape": "do not fit",
        "cut": "cut short",
        "header": "not a checkpoint's header",
        "format": "format 99",
        "nothing": "no such folder",
    }[damage]
    with pytest.raises(ValueError, match=expected):
        load_pretrained(folder)


def test_results_say_how_it_was_trained(folder: Path, world: VideoDataset) -> None:
    result = evaluate(load_pretrained(folder), world, episodes=20, progress=False)
    assert result.selection == "best on the val classes"
    assert result.training is not None and result.training["dataset"] == "world"
    assert result.seen_classes == ()
    on_train = evaluate(load_pretrained(folder), world, "train", episodes=20, progress=False)
    assert set(on_train.seen_classes) == set(world.split("train").classes)


def test_the_command_line_evaluates_checkpoints_beside_untrained(
    folder: Path, world: VideoDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(world.videos[0].path.parent.parent)
    shared = ["evaluate", "--data", home, "--episodes", "20", "--device", "cpu"]
    assert main([*shared, "--checkpoint", str(folder), f"{folder}:readout=text", "--method", "otam"]) == 0
    out = capsys.readouterr().out
    assert out.count("| ma-fsar") == 2 and "| otam (tiny) |" in out and "readout=text" in out
    lines = [line for line in out.splitlines() if line.startswith("selection of ")]
    assert lines[0] == "selection of otam (tiny): none: nothing was trained or chosen"
    assert lines[1].startswith("selection of ma-fsar ") and "; ma-fsar " in lines[1]
    assert lines[1].endswith("): best on the val classes") and len(lines) == 2
    assert main([*shared, "--method", "otam", "protonet"]) == 0
    assert "\nselection: none: nothing was trained or chosen\n" in capsys.readouterr().out
    assert main([*shared, "--checkpoint", str(folder), "--split", "train"]) == 0
    assert "was trained on 5 of the 5 classes" in capsys.readouterr().err
    assert main([*shared, "--checkpoint", str(folder), "--frames", "4"]) == 2
    assert "was trained with --frames 8, not 4; leave --frames out" in capsys.readouterr().err
    assert main([*shared, "--checkpoint", str(folder), "--backbone", "tiny"]) == 2
    assert "--backbone has no effect on checkpoints" in capsys.readouterr().err


def test_seeds_of_one_recipe_share_a_row(tiny: Backbone, world: VideoDataset) -> None:
    from dataclasses import replace

    from fsar.results.tables import table

    method = trained(tiny)
    results = []
    for seed, settings in ((0, {}), (1, {}), (0, {"episodes": 7})):
        own = provenance(world)
        method.provenance = replace(own, recipe={**own.recipe, "seed": seed, **settings})
        results.append(evaluate(method, world, episodes=20, progress=False))
    lines = table(results).splitlines()
    assert len(lines) == 4 and "(2 training seeds: sd 0.0)" in lines[2] and "seeds" not in lines[3]


class _Hub:
    """Stands in for the hub's client: keeps what it is given."""

    def __init__(self, refusal: Exception | None = None):
        self.refusal, self.calls = refusal, []

    def create_repo(self, repo_id: str, **options: Any) -> None:
        if self.refusal:
            raise self.refusal
        self.calls.append(("create", repo_id, options))

    def upload_folder(self, **options: Any) -> str:
        self.calls.append(("upload", options))
        return "commit"


def test_pushing_uploads_the_three_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = _Hub()
    monkeypatch.setattr(fsar.training.checkpoint, "HfApi", lambda: hub)
    assert push_to_hub(folder, "me/model", private=True) == "commit"
    assert hub.calls[0] == ("create", "me/model", {"private": True, "exist_ok": True})
    assert sorted(hub.calls[1][1]["allow_patterns"]) == ["README.md", "fsar.json", "model.safetensors"]
    monkeypatch.setattr(fsar.training.checkpoint, "HfApi", lambda: _Hub(OSError("no route to host")))
    with pytest.raises(ValueError, match=r"refused me/model: no route to host.*hf auth login"):
        push_to_hub(folder, "me/model")
    with pytest.raises(ValueError, match="no such folder"):
        push_to_hub(folder / "nowhere", "me/model")
    with pytest.raises(ValueError, match="a file, no checkpoint; a recogniser answers by `fsar recognize --model"):
        push_to_hub(Path(__file__), "me/model")


def test_the_card_that_is_pushed_names_the_repository(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = _Hub()
    monkeypatch.setattr(fsar.training.checkpoint, "HfApi", lambda: hub)
    before = (folder / "README.md").read_text()
    assert main(["push", str(folder), "me/model", "--license", "cc-by-4.0", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert 'load_pretrained("hf-hub:me/model")' in shown and "license: cc-by-4.0" in shown
    assert "nothing was uploaded" in shown and not hub.calls and (folder / "README.md").read_text() == before
    push_to_hub(folder, "me/model", license="cc-by-4.0")
    assert (folder / "README.md").read_text() == shown.partition("\nnothing was uploaded")[0]
    header = {**_header(folder), "backbone": "ViT-B-16/openai"}
    assert "base_model: openai/clip-vit-base-patch16" in model_card(header, "me/model")
    header["provenance"] = {**header["provenance"], "dataset": "hmdb51@arn"}
    assert "datasets: [hmdb51]" in model_card(header) and "datasets:" not in shown  # of a benchmark, not of a folder
    with pytest.raises(ValueError, match="cannot push to 'model'; expected ORG/NAME"):
        push_to_hub(folder, "model", dry_run=True)
    (folder / "README.md").write_text(before)


def test_loading_from_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo_id: str, allow_patterns: list[str]) -> str:
        asked.append((repo_id, allow_patterns))
        return str(folder)

    monkeypatch.setattr(fsar.training.checkpoint, "snapshot_download", download)
    assert load_pretrained("hf-hub:me/model").name == "ma-fsar"
    assert asked == [("me/model", ["fsar.json", "model.safetensors"])]
    monkeypatch.setattr(
        fsar.training.checkpoint, "snapshot_download", lambda *a, **k: (_ for _ in ()).throw(OSError("offline"))
    )
    with pytest.raises(ValueError, match="could not get hf-hub:me/model: offline"):
        load_pretrained("hf-hub:me/model")


def test_evaluation_adds_to_the_card(folder: Path, world: VideoDataset) -> None:
    home = str(world.videos[0].path.parent.parent)
    for episodes, read_out in (("20", ""), ("20", ""), ("30", ""), ("20", ":readout=text")):
        assert main(["evaluate", "--data", home, "--episodes", episodes, "--checkpoint", f"{folder}{read_out}",
                     "--add-to-card", "--device", "cpu"]) == 0  # fmt: skip
    card = (folder / "README.md").read_text()
    assert card.count(" test (5 classes) | 5-way 1-shot |") == 2
    assert card.count(" test (5 classes), readout=text | 5-way 1-shot |") == 1
    assert "world val" in card
    load_pretrained(folder)


def test_the_card_carries_the_results(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "| world val | 5-way 1-shot | 50.0 ± 1.0 | 100 |" in card
    assert card.startswith("---\nlibrary_name: fsar")
