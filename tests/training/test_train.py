"""Training: what it promises when used, killed, and run on several processes."""

import json
import re
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from threading import enumerate as enumerate_threads

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from fsar import cli
from fsar.backbones import Backbone, clip, load_backbone
from fsar.backbones.clip import load_tiny
from fsar.cli import main
from fsar.cli.train import _where
from fsar.datasets import VideoDataset, load_folder
from fsar.methods import METHODS, build_method, default_traits
from fsar.results.identity import recipe_key, row_name
from fsar.results.result import Result
from fsar.training.checkpoint import load_pretrained
from fsar.training.loader import EpisodeLoader, Loaded
from fsar.training.loop import _Run, train
from fsar.training.parameters import freeze, group_of, make_optimizer, trained_groups
from fsar.training.recipes import Recipe, parse_recipe
from fsar.video.frame_cache import FrameCache
from fsar.video.transforms import Augmentation
from tests.processes import forked, forked_together, signal_at

SETTINGS = {
    **{"method": "ma-fsar", "options": {"hidden": 16, "frames": 4}, "backbone": "tiny", "data": "world", "frames": 4},
    **{"way": 3, "episodes": 8, "episodes_per_step": 2, "lr": {"own": 1e-3}, "cached_frames": True, "val_every": 4},
    **{"val_episodes": 20, "accelerator": "cpu", "clip_norm": 1.0, "weight_decay": 1e-3, "jitter": True},
}
FROM_BANK = {"method": "trx", "options": {"out_dim": 16}, "from_bank": True, "jitter": False}
"""What trains in no time, since the encoder is frozen: for what the loop does with any method."""


def recipe_of(**changes) -> Recipe:
    return parse_recipe({**SETTINGS, **changes})


def curve(folder: Path) -> list[dict]:
    """The log without what a clock or the machine says."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "memory_gb")} for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All that was trained, as it stood at the end, with the optimiser's state."""
    return load_file(folder / "state.safetensors")


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same tensors, bit for bit."""
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.fixture(scope="module")
def home(world: VideoDataset) -> Path:
    return world.videos[0].path.parent.parent


@pytest.fixture(scope="module")
def whole(world: VideoDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    train(recipe_of(), world, folder, progress=False)
    return folder


def words(folder: Path, home: Path, *more: str) -> list[str]:
    settings = {**SETTINGS, "data": str(home)}
    file = folder.parent / f"{folder.name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings))
    return ["train", "--config", str(file), "--out", str(folder), *more]


# --------------------------------------------------------------------------- a run


def test_a_run_leaves_what_it_says(whole: Path, world: VideoDataset) -> None:
    steps = [line for line in curve(whole) if "loss" in line]
    validations = [line for line in curve(whole) if "val_accuracy" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert [line["step"] for line in validations] == [2, 4]
    assert all(abs(line["loss"] - sum(line["terms"].values())) < 1e-9 for line in steps)
    assert list((whole / "tensorboard").iterdir())
    assert not [thread for thread in enumerate_threads() if type(thread).__module__.startswith("tensorboard")]
    assert (whole / "recipe.yaml").is_file()
    (ran_on,) = json.loads((whole / "environment.json").read_text())
    assert ran_on["device"].startswith("cpu") and ran_on["versions"]["torch"] == torch.__version__.split("+")[0]

    method = load_pretrained(whole)
    assert method.name == "ma-fsar" and not method.training
    assert method.provenance.classes == world.split("train").classes
    assert "val classes" in method.provenance.selection
    best = max(line["val_accuracy"] for line in validations)
    assert method.provenance.results[0]["accuracy"] == best
    first_best = next(line["step"] for line in validations if line["val_accuracy"] == best)
    assert method.provenance.episodes == 2 * first_best
    card = (whole / "checkpoint" / "README.md").read_text()
    assert f"{100 * best:.1f}" in card and "5 classes of world" in card


def test_only_what_trains_is_stored_and_changes(whole: Path, tiny: Backbone) -> None:
    stored = load_file(whole / "checkpoint" / "model.safetensors")
    fresh = build_method("ma-fsar", tiny, **SETTINGS["options"])
    own = {name: p for name, p in fresh.named_parameters() if not name.startswith("backbone.")}
    assert stored.keys() == own.keys()
    loaded = load_pretrained(whole)
    assert loaded.backbone.fingerprint() == tiny.fingerprint()
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in stored.items())
    ended = weights(whole)
    moved = [name for name, p in own.items() if not torch.equal(ended[f"trained.{name}"], p)]
    assert moved == list(own)


def test_the_same_recipe_gives_the_same_run(whole: Path, world: VideoDataset, tmp_path: Path) -> None:
    train(recipe_of(workers=1), world, tmp_path / "again", progress=False)
    assert curve(tmp_path / "again") == curve(whole)
    assert same(tmp_path / "again", whole)


def test_another_seed_gives_another_run(whole: Path, world: VideoDataset, tmp_path: Path) -> None:
    train(recipe_of(seed=1, episodes=2, val_every=0), world, tmp_path / "other", progress=False)
    assert curve(tmp_path / "other")[0]["loss"] != curve(whole)[0]["loss"]


def test_a_finished_run_is_not_run_again(whole: Path, world: VideoDataset) -> None:
    before = (whole / "state.safetensors").read_bytes(), curve(whole)
    train(recipe_of(), world, whole, progress=False)
    assert ((whole / "state.safetensors").read_bytes(), curve(whole)) == before


def test_results_of_an_unfinished_run_say_so(
    world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evaluated after 2 of 3 steps and again at the end: a row for each."""
    step = _Run._take_step
    recipe = recipe_of(**FROM_BANK, episodes=6, val_every=2)
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(_Run, "_take_step", lambda run, n, loaded: step(run, n, loaded) if n < 2 else _interrupt())
        train(recipe, world, tmp_path / "run", progress=False)
    home = str(world.videos[0].path.parent.parent)
    command = ["evaluate", "--data", home, "--checkpoint", str(tmp_path / "run"), "--episodes", "5", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "early")]) == 0
    assert "is not finished (4 of 6 training episodes)" in capsys.readouterr().err
    train(recipe, world, tmp_path / "run", progress=False)
    assert main([*command, "--out", str(tmp_path / "late")]) == 0
    assert "not finished" not in capsys.readouterr().err
    early, late = (Result.load(*(tmp_path / name).iterdir()) for name in ("early", "late"))
    assert early.training["unfinished_at"] == 4 and "unfinished: 4 of 6 episodes" in row_name(early)
    assert late.training["unfinished_at"] is None and recipe_key(early) != recipe_key(late)
    assert len(early.trained_weights) == len(late.trained_weights) == 16


def test_going_on_elsewhere_is_noted(world: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each machine that did some of the work; a run that is at its end notes nothing."""
    stop = lambda standing, recipe: standing.step == 2  # noqa: E731
    for machine, stopped in (("here", True), ("here", True), ("there", False), ("elsewhere", False)):
        with monkeypatch.context() as patch:
            patch.setattr("platform.machine", lambda machine=machine: machine)
            if stopped:
                patch.setattr("fsar.training.standing.Standing.stopped_early", stop)
            train(recipe_of(**FROM_BANK, episodes=6, val_every=0), world, tmp_path, progress=False)
    ran_on = json.loads((tmp_path / "environment.json").read_text())
    assert [entry["device"] for entry in ran_on] == ["cpu (here)", "cpu (there)"]


def test_a_run_of_an_older_version_is_the_same_run(whole: Path, world: VideoDataset, tmp_path: Path) -> None:
    """Its recipe has no keys of later versions; it ran with their defaults."""
    shutil.copytree(whole, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    later = ("betas", "freeze_batch_norm", "eps", "lr_factors")
    older = {k: v for k, v in yaml.safe_load(recipe.read_text()).items() if k not in later}
    recipe.write_text(yaml.safe_dump(older))
    train(recipe_of(), world, tmp_path / "run", progress=False)
    assert curve(tmp_path / "run") == curve(whole)


def test_the_videos_of_a_run_may_move(
    world: VideoDataset, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run resumes with its videos elsewhere, and not with other videos."""
    step = _Run._take_step
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(_Run, "_take_step", lambda run, n, loaded: step(run, n, loaded) if n < 1 else _interrupt())
        train(recipe_of(episodes=4, val_every=2, data="here"), world, tmp_path / "run", progress=False)
    shutil.copytree(home, tmp_path / "there")
    moved = load_folder(tmp_path / "there", "world")
    with pytest.raises(ValueError, match="holds a run on other training videos"):
        fewer = moved.without([moved.split("train").videos[0].id])
        train(recipe_of(episodes=4, val_every=2, data="there"), fewer, tmp_path / "run", progress=False)
    train(recipe_of(episodes=4, val_every=2, data="there"), moved, tmp_path / "run", progress=False)
    assert [line["step"] for line in curve(tmp_path / "run") if "loss" in line] == [1, 2]
    assert "data: there" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_another_recipe_may_not_go_on_in_the_folder(whole: Path, world: VideoDataset) -> None:
    with pytest.raises(ValueError, match=r"holds another run: lr is .*0.001.* there, .*0.01.* here.*--out"):
        train(recipe_of(lr={"own": 1e-2}), world, whole, progress=False)


def test_early_stopping_ends_the_run(world: VideoDataset, tmp_path: Path) -> None:
    recipe = recipe_of(**FROM_BANK, episodes=12, lr={"own": 0.0}, patience=1)
    train(recipe, world, tmp_path / "run", progress=False)
    assert [line["step"] for line in curve(tmp_path / "run") if "loss" in line] == [1, 2, 3, 4]


def test_without_validation_the_last_state_is_kept(world: VideoDataset, tmp_path: Path) -> None:
    train(recipe_of(**FROM_BANK, val_every=0, episodes=4), world, tmp_path / "run", progress=False)
    method = load_pretrained(tmp_path / "run")
    assert method.provenance.selection.startswith("none") and method.provenance.episodes == 4
    state = weights(tmp_path / "run")
    assert all(torch.equal(p, state[f"trained.{n}"]) for n, p in method.named_parameters() if "backbone" not in n)


# --------------------------------------------------------------------------- killed, and several processes


def test_killed_at_any_moment_it_goes_on_as_if_nothing_happened(
    home: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], after: int = 4
) -> None:
    """Kill -9 after so many lines of the log, then run the same command: same curve, same weights, bit for bit."""
    killed = tmp_path / "killed"
    run = forked(*words(killed, home), before=signal_at("open", r"log\.jsonl', 'a'", after + 1))
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert (killed / "log.jsonl").read_text().count("\n") == after
    assert cli.main(words(killed, home)) == 0
    assert re.search(r"fsar: resumes after step [1-4] of \d+\n", capsys.readouterr().err)
    assert curve(killed) == curve(whole)
    assert same(killed, whole)
    first, second = (load_file(run / "checkpoint" / "model.safetensors") for run in (killed, whole))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_next_command_finds_the_videos_of_this_one() -> None:
    recipe = recipe_of(data="videos", lists=["a.txt", "b.txt"], class_names="names.json")
    next_words = "--data videos --lists a.txt b.txt --class-names names.json --skip-missing"
    assert _where(recipe, skip_missing=True) == next_words
    assert _where(recipe_of(data="videos", benchmark="ucf101@arn"), skip_missing=False) == (
        "--data videos --benchmark ucf101@arn"
    )


def test_two_processes_give_the_curve_of_one(home: Path, whole: Path, tmp_path: Path) -> None:
    done = forked_together(*words(tmp_path / "two", home, "--devices", "2"))
    assert [run.returncode for run in done] == [0, 0], done
    one, two = curve(whole), curve(tmp_path / "two")
    assert len(one) == len(two)
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys()
        for key in left.keys() & {"loss", "accuracy", "val_accuracy"}:
            assert left[key] == pytest.approx(right[key], abs=1e-5), (key, left["step"])
    final_one, final_two = weights(whole), weights(tmp_path / "two")
    for name, tensor in final_one.items():
        torch.testing.assert_close(tensor, final_two[name], atol=1e-5, rtol=1e-4)


WITH_STATISTICS = FROM_BANK | {"method": "clip-mdmf", "options": {"hidden": 16, "frames": 4}, "query": 2}


@pytest.fixture(scope="module")
def with_statistics(world: VideoDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a method with BatchNorm, with the real `tiny`: another process repeats it."""
    folder = tmp_path_factory.mktemp("statistics") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsar.backbones.clip.load_tiny", load_tiny)
        train(recipe_of(**WITH_STATISTICS), world, folder, progress=False)
    return folder


def test_running_statistics_go_on_after_a_kill(
    world: VideoDataset, with_statistics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsar.backbones.clip.load_tiny", load_tiny)
    recipe, step = recipe_of(**WITH_STATISTICS), _Run._take_step
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(_Run, "_take_step", lambda run, n, loaded: step(run, n, loaded) if n < 3 else _interrupt())
        train(recipe, world, tmp_path / "run", progress=False)
    train(recipe, world, tmp_path / "run", progress=False)
    assert curve(tmp_path / "run") == curve(with_statistics)
    ours, theirs = weights(tmp_path / "run"), weights(with_statistics)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
    counts = [tensor for name, tensor in ours.items() if name.endswith("num_batches_tracked")]
    assert counts and all(count == 4 for count in counts)  # steps


def _interrupt() -> str:
    raise InterruptedError


def test_running_statistics_are_those_of_all_processes(home: Path, with_statistics: Path, tmp_path: Path) -> None:
    """The command starts its second process itself, as `python -m fsar.cli` does."""
    changes = [f"{key}={json.dumps(value)}" for key, value in WITH_STATISTICS.items()]
    command = words(tmp_path / "two", home, "--devices", "2", "--set", *changes)

    def as_a_user() -> None:
        sys.modules["__main__"].__spec__, sys.argv = find_spec("fsar.cli.__main__"), ["fsar", *command]
        clip.load_tiny = load_tiny  # as in the second process

    done = forked(*command, before=as_a_user)
    assert done.returncode == 0, done.stderr
    two = weights(tmp_path / "two")
    statistics = {name: tensor for name, tensor in weights(with_statistics).items() if "running" in name}
    assert statistics
    for name, tensor in statistics.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"checkpoint_activations": True}])
def test_cheaper_ways_to_the_same_run(world: VideoDataset, whole: Path, tmp_path: Path, change: dict) -> None:
    """Half precision comes near, recomputed activations give the same numbers."""
    train(recipe_of(episodes=4, val_every=0, **change), world, tmp_path / "run", progress=False)
    ours, theirs = (
        [line["loss"] for line in curve(folder) if "loss" in line][:2] for folder in (tmp_path / "run", whole)
    )
    assert ours == pytest.approx(theirs, rel=0.1 if "precision" in change else 1e-6)


# --------------------------------------------------------------------------- what trains


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return load_backbone("timm/resnet18/random")


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_is_under_exactly_one_rule(name: str, tiny: Backbone, resnet: Backbone) -> None:
    for backbone in (tiny, resnet):
        if (default_traits(name).reads_text and not backbone.has_text) or (
            name in ("ma-fsar", "aim", "ts-fsar") and backbone is not tiny
        ):
            continue
        method = build_method(name, backbone)
        groups = {group_of(parameter) for parameter, _ in method.named_parameters()}
        assert groups <= {"own", "visual", "text"}
        assert set(method.traits.trains) <= groups
        towers = {n: group_of(n) for n, _ in method.named_parameters() if n.startswith("backbone.")}
        assert "own" not in towers.values()
        assert towers.get("backbone.clip.logit_scale", "text") == "text"


def test_gradients_reach_exactly_the_trained_groups(world: VideoDataset) -> None:
    backbone = load_backbone("tiny")
    for groups in (("own",), ("own", "visual"), ("visual",)):
        method = build_method("clip-fsar", backbone, hidden=16)
        recipe = recipe_of(method="clip-fsar", lr=dict.fromkeys(groups, 1e-3))
        freeze(method, trained_groups(recipe, method))
        assert {group_of(n) for n, p in method.named_parameters() if p.requires_grad} == set(groups)
        in_optimizer = {id(p) for group in make_optimizer(recipe, method).param_groups for p in group["params"]}
        assert in_optimizer == {id(p) for p in method.parameters() if p.requires_grad}


def test_weight_decay_may_leave_out_norms() -> None:
    method = build_method("clip-fsar", load_backbone("tiny"), hidden=16)
    recipe = recipe_of(method="clip-fsar", lr={"own": 1e-3, "visual": 1e-4}, decay_norms=False)
    freeze(method, ("own", "visual"))
    spared = {id(p) for g in make_optimizer(recipe, method).param_groups if not g["weight_decay"] for p in g["params"]}
    names = {n for n, p in method.named_parameters() if id(p) in spared}
    assert "context.norm.weight" in names and "backbone.clip.visual.ln_post.bias" in names
    assert not any("attn" in n or "mlp" in n or "feed_forward" in n for n in names)


def test_adapters_keep_fewer_activations_than_full_fine_tuning() -> None:
    def kept_bytes(**options) -> int:
        method = build_method("ma-fsar", load_tiny(), hidden=16, **options)  # whose activations count
        freeze(method, ("own",) if options.get("fgma", True) else ("own", "visual"))
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        clips, text = torch.randn(2, 8, 3, 64, 64), method.encode_text(["waving", "clapping"])
        parameters = {p.data_ptr() for p in method.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            method.encode(clips, "support", text)
        return sum(size for pointer, size in kept.items() if pointer not in parameters)

    assert kept_bytes() < 0.9 * kept_bytes(fgma=False)


def test_a_frozen_encoder_keeps_no_activations(tiny: Backbone) -> None:
    method = build_method("trx", tiny, out_dim=16)
    freeze(method, ("own",))
    assert not method.encode(torch.randn(1, 8, 3, 16, 16))["frames"].requires_grad
    freeze(method, ("own", "visual"))
    assert method.encode(torch.randn(1, 8, 3, 16, 16))["frames"].requires_grad
    tiny.requires_grad_(False)


# --------------------------------------------------------------------------- the other methods, and the bank


@pytest.mark.parametrize(
    ("method", "options", "lr"),
    [
        ("trx", {"out_dim": 16}, {"own": 1e-3, "visual": 1e-4}),
        ("hyrsm", {}, {"own": 1e-3, "visual": 1e-4}),
        ("clip-fsar", {"hidden": 16}, {"own": 1e-3, "visual": 1e-4}),
        ("aim", {"metric": "trx", "frames": 4}, {"own": 1e-3}),
        ("otam", {}, {"visual": 1e-4}),
        ("ma-fsar", {"fgma": False, "hidden": 16}, {"own": 1e-3, "visual": 1e-4}),
        ("task-adapter", {"layers": 1, "frames": 4}, {"own": 1e-3}),
        ("task-adapter-pp", {"layers": 1, "frames": 4, "sub_actions": "world"}, {"own": 1e-3}),
        (
            "task-adapter-pp",
            {"variant": "official-leaky", "layers": 1, "frames": 4, "sub_actions": "world"},
            {"own": 1e-3},
        ),
        ("task-adapter-pp", {"layers": 0, "text_layers": 0, "sub_actions": "world"}, {"visual": 1e-4, "text": 1e-4}),
    ],
)
def test_every_trainable_method_trains(
    world: VideoDataset, tmp_path: Path, method: str, options: dict, lr: dict
) -> None:
    query = 1 if options.get("variant") == "official-leaky" else 2
    recipe = recipe_of(method=method, options=options, lr=lr, episodes=2, episodes_per_step=1, val_every=0, query=query)
    train(recipe, world, tmp_path / "run", progress=False)
    assert all(np.isfinite(line["loss"]) for line in curve(tmp_path / "run"))
    loaded = load_pretrained(tmp_path / "run")
    assert loaded.provenance.groups == tuple(lr)
    kept = sum(p.numel() for name, p in loaded.named_parameters() if group_of(name) in lr)
    of_the_loss = (loaded.backbone.dim + 1) * len(loaded.provenance.classes) if method == "hyrsm" else 0
    assert loaded.provenance.trained_parameters == kept + of_the_loss
    assert not any(name.startswith("loss_heads") for name in load_file(tmp_path / "run/checkpoint/model.safetensors"))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("trx", {"out_dim": 16, "dropout": 0.0}),
        ("clip-fsar", {"hidden": 16}),
        (
            "task-adapter-pp",
            {"layers": 1, "frames": 4, "temporal_embedding_at": "first_adapted_block", "sub_actions": "world"},
        ),
    ],
)
def test_training_from_the_bank_is_training_on_evaluation_frames(
    world: VideoDataset, tmp_path: Path, method: str, options: dict
) -> None:
    """The first loss equals one computed from the clips as evaluation sees them."""
    recipe = recipe_of(method=method, options=options, from_bank=True, jitter=False, episodes=4, episodes_per_step=1)
    train(recipe, world, tmp_path / "run", progress=False)
    if method != "clip-fsar":  # which has dropout
        fresh = build_method(method, load_backbone("tiny"), **options)
        videos = world.split("train")
        loader = EpisodeLoader(recipe_of(crop=False, jitter=False, cached_frames=True), videos, fresh, None)
        loader._frames = lambda video, rng: FrameCache(frames=4).read(video.path).copy()  # the centres, not random ones
        support, query, labels, targets, _ = loader.load(0)
        with torch.no_grad():
            text = (
                fresh.encode_text([videos.texts[label] for label in labels])[None] if fresh.traits.reads_text else None
            )
            episode = fresh.encode_episode(support, query, text)
            terms = fresh.loss(episode, fresh.match(episode), targets)
        assert curve(tmp_path / "run")[0]["loss"] == pytest.approx(float(sum(terms.values())), abs=1e-4)


# --------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "place-motion", "options": {}}, "place-motion has nothing to train"),
        ({"lr": {}}, r"gives no learning rate; ma-fsar trains by lr: \{own: 1e-5\}"),
        ({"lr": {"owm": 1e-3}}, "did you mean 'own'"),
        (
            {"method": "otam", "options": {}, "lr": {"own": 1e-3}},
            "group 'own', of which otam on tiny has no parameters",
        ),
        ({"from_bank": True, "jitter": False}, "ma-fsar trains what encodes"),
        ({"way": 30}, "validation takes 30-way episodes and world has 5 val classes"),
        ({"val_way": 7}, r"validation takes 7-way episodes and world has 5 val classes: .*--set val_way=5"),
        ({"options": {"hiden": 3}}, "did you mean 'hidden'"),
    ],
)
def test_mistakes_are_named(world: VideoDataset, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(recipe_of(**changes), world, tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 1}, "1 episodes do not fill one step of 2"),
        ({"devices": 3}, "2 episodes per step do not divide over 3 devices"),
        ({"from_bank": True}, "leave out flip, jitter"),
        ({"metod": "otam"}, "did you mean 'method'"),
        ({"optimizer": "adan"}, "optimizer"),
    ],
)
def test_contradictions_in_a_recipe_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe_of(**changes)


def test_a_dataset_without_val_classes_is_refused(world: VideoDataset, tmp_path: Path) -> None:
    from dataclasses import replace

    without = replace(world, splits={k: v for k, v in world.splits.items() if v != "val"})
    with pytest.raises(ValueError, match="no class in split 'val'"):
        train(recipe_of(), without, tmp_path / "run", progress=False)
    train(recipe_of(val_every=0, episodes=2), without, tmp_path / "run", progress=False)


def test_a_loss_that_explodes_is_an_error(world: VideoDataset, tmp_path: Path) -> None:
    recipe = recipe_of(lr={"own": 1e30}, clip_norm=None, val_every=0)
    with pytest.raises(ValueError, match=r"the loss became nan at step 2.*lower lr"):
        train(recipe, world, tmp_path / "run", progress=False)


# --------------------------------------------------------------------------- augmentation


def test_one_draw_per_clip() -> None:
    """Every frame of a clip of equal frames comes out equal, whatever was drawn."""
    frame = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    frames = np.stack([frame] * 4)
    augment = Augmentation(flip=True, jitter=True)
    clips = [augment(frames, 64, (0.5,) * 3, (0.5,) * 3, "bicubic", np.random.default_rng(seed)) for seed in (1, 2, 1)]
    assert clips[0].shape == (4, 3, 64, 64)
    assert all(torch.equal(clips[0][0], image) for image in clips[0])
    assert torch.equal(clips[0], clips[2]) and not torch.equal(clips[0], clips[1])


def test_switched_off_it_is_what_evaluation_sees() -> None:
    from fsar.video.transforms import to_clip

    frames = np.random.default_rng(0).integers(0, 256, (4, 90, 120, 3), dtype=np.uint8)
    arguments = (64, (0.5,) * 3, (0.5,) * 3, "bicubic")
    plain = Augmentation(crop=False)(frames, *arguments, np.random.default_rng(0))
    torch.testing.assert_close(plain, to_clip(frames, *arguments), atol=1e-6, rtol=1e-6)


def test_colours_change_as_strongly_as_asked() -> None:
    assert Recipe.jitter_strength == Augmentation.strength
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)

    def clip(seed: int, **settings) -> torch.Tensor:
        augment = Augmentation(crop=False, jitter=True, **settings)
        return augment(frames, 56, (0.0,) * 3, (1.0,) * 3, "bilinear", np.random.default_rng(seed))

    plain = Augmentation(crop=False)(frames, 56, (0.0,) * 3, (1.0,) * 3, "bilinear", np.random.default_rng(0))
    weak, strong = (clip(0, strength=each) for each in ((0.05, 0.05, 0.05, 0.01), (0.5, 0.5, 0.5, 0.25)))
    assert 0 < (weak - plain).abs().mean() < (strong - plain).abs().mean()
    grey = [bool((image := clip(seed, gray=0.3)[0])[0].allclose(image[1])) for seed in range(60)]
    assert 5 < sum(grey) < 35


def test_only_queries_are_mirrored_and_recoloured_if_asked(world: VideoDataset) -> None:
    """The clips of the support come out as without any; crops stay."""
    method = build_method("otam", load_backbone("tiny"))

    def clips(**changes) -> Loaded:
        recipe = recipe_of(**{"method": "otam", "options": {}, "lr": {"visual": 1e-5}, "flip": True, **changes})
        return EpisodeLoader(recipe, world.split("train"), method, None).load(3)

    plain, queries, both = clips(flip=False, jitter=False), clips(augment="queries"), clips()
    assert queries.support.equal(plain.support) and not both.support.equal(plain.support)
    assert queries.query.equal(both.query) and not queries.query.equal(plain.query)


def test_flips_half_of_the_clips() -> None:
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    frames[:, :, :32] = 255
    augment = Augmentation(crop=False, flip=True)
    flipped = [
        float(augment(frames, 56, (0.5,) * 3, (0.5,) * 3, "bilinear", np.random.default_rng(seed))[0, 0, 20, 5]) < 0
        for seed in range(200)
    ]
    assert 70 < sum(flipped) < 130
