"""What version 0.1.0 wrote stays readable, and gives the numbers that it gave: see `old_files/README.md`."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.bank.fill import fill_bank
from fsar.cli import main
from fsar.datasets import VideoDataset, load_folder
from fsar.evaluation.loop import evaluate
from fsar.methods import METHODS, Method, build_method
from fsar.results.identity import file_name
from fsar.results.result import Result
from fsar.training.checkpoint import load_pretrained
from fsar.training.parameters import kept_state
from fsar.video.frame_cache import FrameCache
from tests.old_files.inputs import TEXTS, clips, weight

OLD = Path(__file__).parent / "old_files"
EXPECTED = json.loads((OLD / "expected.json").read_text())
CLIP = FrameCache(frames=4)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, to work in."""
    folder = shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def videos() -> VideoDataset:
    return load_folder(OLD / "videos")


# --------------------------------------------------------------------------- files


def test_a_checkpoint_gives_the_stored_result(old: Path, videos: VideoDataset) -> None:
    (file,) = (old / "runs/finished/results").iterdir()
    stored = Result.load(file)
    method = load_pretrained("runs/finished")
    result = evaluate(method, videos, way=2, episodes=20, cache=CLIP, progress=False)
    assert result.right == stored.right and result.accuracy == stored.accuracy
    assert result.dataset_fingerprint == stored.dataset_fingerprint
    options = json.loads(json.dumps(result.options))
    assert options | stored.options == options  # options that came later are at their defaults
    assert method.provenance.dataset_fingerprint == videos.split("train").fingerprint()
    assert result.training is not None and len(result.trained_weights) == 16
    without_hash = replace(result, trained_weights="", options=stored.options)  # as results of that version are
    assert file_name(without_hash) == file_name(stored) == file.name != file_name(result)


def test_a_bank_is_read_and_nothing_encoded_again(
    old: Path, videos: VideoDataset, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: Any) -> None:
        raise AssertionError("the bank holds this video")

    monkeypatch.setattr(tiny, "encode_images", encode)
    test = videos.split("test").videos
    bank = fill_bank(build_method("otam", tiny), test, cache=CLIP, folder=old / "bank", progress=False)
    assert torch.equal(bank.query["frames"], load_file(OLD / "encodings.safetensors")["frames"])


@pytest.mark.parametrize("name", EXPECTED["answers"])
def test_a_recognizer_answers_as_it_did(name: str, videos: VideoDataset, tiny: Backbone) -> None:
    recognizer = Recognizer.load(OLD / f"{name}.fsar", backbone=tiny)
    assert len(EXPECTED["answers"][name]) == 6
    for label, (action, probabilities, score, threshold) in EXPECTED["answers"][name].items():
        answer = recognizer.predict(OLD / "videos" / label / "0.mp4")
        assert answer.action == action and list(answer.probabilities) == list(probabilities)
        assert answer.probabilities == pytest.approx(probabilities, abs=1e-4)
        assert (answer.score, answer.threshold) == pytest.approx((score, threshold), abs=1e-3)


def test_results_are_listed(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "runs", "results", "--format", "csv"]) == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == 1 + 3
    assert all(f",{method}," in listed or f"\n{method}," in listed for method in ("trx", "otam", "protonet"))


def test_a_finished_run_is_not_trained_again(old: Path) -> None:
    log = (old / "runs/finished/log.jsonl").read_text()
    weights = (old / "runs/finished/checkpoint/model.safetensors").stat()
    assert main(["train", "--config", "recipe.yaml", "--out", "runs/finished"]) == 0
    assert (old / "runs/finished/log.jsonl").read_text() == log
    assert (old / "runs/finished/checkpoint/model.safetensors").stat() == weights


def test_a_killed_run_resumes_and_ends_as_the_whole_one(old: Path) -> None:
    assert main(["train", "--config", "recipe.yaml", "--out", "runs/killed"]) == 0
    whole, resumed = (
        [json.loads(line) for line in (old / "runs" / run / "log.jsonl").read_text().splitlines()]
        for run in ("finished", "killed")
    )
    assert [line["step"] for line in resumed] == [line["step"] for line in whole] == [1, 2, 2, 3, 4, 4]
    for line, expected in zip(resumed, whole, strict=True):
        for key in ("loss", "accuracy", "rate", "val_accuracy"):
            assert line.get(key) == pytest.approx(expected.get(key), abs=1e-4)
    states = [load_file(old / "runs" / run / "state.safetensors") for run in ("finished", "killed")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.allclose(states[0][key], states[1][key], atol=1e-4) for key in states[0])


# --------------------------------------------------------------------------- methods


@pytest.fixture(scope="module")
def methods(tiny: Backbone) -> dict[str, Method]:
    """Every method of that version, with the weights that `write.py` gave it."""
    made = {}
    for name, old in EXPECTED["methods"].items():
        made[name] = build_method(name, tiny, **old["changed"])
        state = {key: weight(key, torch.empty(shape)) for key, shape in old["state"].items()}
        own = kept_state(made[name], ("own",))
        assert {key: list(value.shape) for key, value in own.items()} == old["state"], name
        made[name].load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()}, strict=False)
    return made


def test_parameters_keep_their_names_and_options_theirs(methods: dict[str, Method]) -> None:
    """The first is checked where they are made: what a checkpoint holds is found by name."""
    assert set(EXPECTED["methods"]) <= set(METHODS)
    for name, method in methods.items():
        options = json.loads(json.dumps(method.options()))
        assert EXPECTED["methods"][name]["options"].items() <= options.items(), name


@pytest.mark.parametrize("name", EXPECTED["methods"])
def test_the_same_weights_give_the_same_logits(name: str, methods: dict[str, Method]) -> None:
    method, (support, query) = methods[name], clips()
    with torch.no_grad():
        text = method.encode_text(list(TEXTS))[None] if method.traits.reads_text else None
        draws = torch.full((1, 3, 2), 0.5) if method.traits.draws else None
        logits = method.match(method.encode_episode(support, query, text, draws)).logits
    assert torch.allclose(logits[0], torch.tensor(EXPECTED["methods"][name]["logits"]), rtol=1e-4, atol=1e-4)


def of_one_checkpoint(methods: dict[str, Method]) -> set[str]:
    """Methods whose bank is not kept on disk any more, since no other method and no other checkpoint could use it."""
    return {name for name, method in methods.items() if not method.encoder().on_disk}


@pytest.mark.parametrize("name", EXPECTED["methods"])
def test_banks_keep_their_header(name: str, methods: dict[str, Method], videos: VideoDataset, tmp_path: Path) -> None:
    """A bank with another header is refused, or filled again."""
    if name in of_one_checkpoint(methods):
        return
    fill_bank(methods[name], videos.videos[:1], videos.texts, folder=tmp_path, progress=False)
    header = json.loads((tmp_path / "bank.json").read_text())
    assert header.pop("clip")["frames"] == 8 and header.pop("format") == 1
    assert header == EXPECTED["methods"][name]["encoder"]


def test_old_banks_of_one_checkpoint_are_refused(
    methods: dict[str, Method], videos: VideoDataset, tmp_path: Path
) -> None:
    assert of_one_checkpoint(methods)
    for name in of_one_checkpoint(methods):
        header = {"format": 1, "clip": FrameCache().settings(), **EXPECTED["methods"][name]["encoder"]}
        folder = tmp_path / name
        folder.mkdir()
        (folder / "bank.json").write_text(json.dumps(header))
        with pytest.raises(ValueError, match="holds a bank of another encoder: .*Give another folder, or none"):
            fill_bank(methods[name], videos.videos[:1], videos.texts, folder=folder, progress=False)
