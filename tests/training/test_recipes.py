"""Recipes: the packaged files, their schedules, and what a mistake in one is answered by."""

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fsar.backbones import Backbone, load_backbone
from fsar.cli import main
from fsar.config import settings_of
from fsar.datasets import VideoDataset
from fsar.methods import build_method, default_traits, method_class, parse_options
from fsar.papers.origins import origins
from fsar.training.checkpoint import load_pretrained
from fsar.training.loop import train
from fsar.training.parameters import freeze, group_of, make_optimizer, trained_groups
from fsar.training.recipes import HARDWARE, Recipe, load_recipe, parse_recipe, recipe_names
from fsar.video.sampling import SAMPLINGS
from tests.methods.entries import SMALL
from tests.methods.test_entries import BENCHMARKS
from tests.papers.test_runs import hollow

PAPERS = [name for name in recipe_names() if name.partition("/")[2] in BENCHMARKS]
BACKBONES = ("RN50/openai", "ViT-B-32/openai", "ViT-B-16/openai", "timm/resnet50.tv_in1k")
FEW_LAYERS = {
    "task-adapter": {"layers": 1},
    "task-adapter-pp": {"layers": 1, "text_layers": 1, "sub_actions": "world"},
}
SHORT = [
    "backbone=tiny", "data=world", "way=3", "shot=1", "query=1", "episodes=2", "episodes_per_step=1", "val_every=0",
    "accelerator=cpu", "workers=1", "freeze_batch_norm=true",
]  # fmt: skip


@cache
def small(name: str) -> Recipe:
    """A packaged recipe shrunk to two steps on the built-in backbone; its optimiser, options and frames stay."""
    method = name.partition("/")[0]
    options = SMALL.get(method, {}) | FEW_LAYERS.get(method, {})
    if name == "molo/world":  # it rebuilds no pixels
        options = {key: value for key, value in options.items() if key != "decoder"}
    return load_recipe(name, [*SHORT, *(f"options.{key}={value}" for key, value in options.items())])


# --------------------------------------------------------------------------- the packaged files


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_named_after_its_method_and_gives_a_rate_to_what_it_trains(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.method == name.partition("/")[0]
    assert recipe.sampling in SAMPLINGS
    trains = default_traits(recipe.method).trains
    assert recipe.lr and set(recipe.lr) <= set(trains), f"lr may name what {recipe.method} trains: {trains}"
    assert all(0 < rate < 0.1 for rate in recipe.lr.values())
    assert all(0 < milestone < 1 for milestone in recipe.milestones)
    assert list(recipe.milestones) == sorted(recipe.milestones)
    assert recipe.warmup < 1 and 0 < recipe.warmup_factor <= 1
    if recipe.schedule == "multi-step" and recipe.warmup:
        assert recipe.warmup <= recipe.milestones[0]
    if recipe.val_every:
        assert recipe.val_every <= recipe.episodes // 2
    config = method_class(recipe.method).Config  # has `frames` where the encoder looks over time
    assert recipe.options.get("frames", getattr(config, "frames", recipe.frames)) == recipe.frames


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_recipe_leaves_the_data_to_the_user(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.data is None and recipe.lists == () and not recipe.cached_frames
    assert (recipe.way, recipe.frames, recipe.precision, recipe.devices) == (5, 8, "32", 1)


@pytest.mark.parametrize("name", recipe_names())
def test_only_data_without_left_and_right_is_flipped(name: str) -> None:
    """Task-Adapter++ names random crops alone."""
    spatial = name.partition("/")[2].removesuffix("-ma-fsar") in ("hmdb51", "ucf101", "kinetics100")
    assert load_recipe(name).flip is (spatial and not name.startswith("task-adapter"))


RESNET_LINE = ["backbone=RN50/openai", "options.fgma=false", "query=5", "lr.own=1e-5", "lr.visual=1e-5"]
"""What the head of MA-FSAR's recipes says for its third encoder."""


@pytest.mark.parametrize("backbone", BACKBONES)
def test_options_and_rates_fit_the_recipes_own_backbone(backbone: str) -> None:
    recipes = [load_recipe(name) for name in PAPERS] + [load_recipe("ma-fsar/hmdb51", RESNET_LINE)]
    chosen = [recipe for recipe in recipes if recipe.backbone == backbone]
    for recipe in chosen:
        with torch.device("meta"):
            method = build_method(recipe.method, hollow(backbone), **recipe.options)
        assert set(trained_groups(recipe, method)) == set(recipe.lr)
    assert {recipe.backbone for recipe in recipes} == set(BACKBONES) and chosen


def _one_of_each_kind() -> list[str]:
    """One recipe of those that differ in numbers alone: rates, weights, lengths. Other tests look at the numbers."""
    kinds: dict[tuple[object, ...], str] = {}
    for name in recipe_names():
        recipe = small(name)
        switches = {key: value for key, value in recipe.options.items() if not isinstance(value, float)}
        kind = (recipe.method, repr(switches), frozenset(recipe.lr), recipe.optimizer, recipe.decay_norms)
        kinds.setdefault((*kind, recipe.from_bank, recipe.sampling, recipe.drop_short), name)
    return list(kinds.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", _one_of_each_kind())
def test_a_recipe_trains_what_it_names(name: str, world: VideoDataset, tmp_path: Path) -> None:
    recipe = small(name)
    train(recipe, world, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in lines)
    trained = load_pretrained(tmp_path / "run")
    assert trained.provenance.groups == tuple(recipe.lr)
    before = build_method(recipe.method, load_backbone("tiny"), init_seed=recipe.seed, **recipe.options)
    after = dict(trained.named_parameters())
    moved = {group_of(key) for key, value in before.named_parameters() if not value.equal(after[key])}
    assert moved == set(recipe.lr)


def public_code_lines(title: str = "The public code") -> Iterator[tuple[str, list[str]]]:
    """What the heads of the packaged recipes say for the public code, by recipe."""
    for name in recipe_names():
        head = (resources.files("fsar.training") / "recipes" / f"{name}.yaml").read_text().replace("\\\n#", "")
        for line in head.splitlines():
            if line.startswith(f"# {title}: --set "):
                yield name, shlex.split(line.partition("--set ")[2])


PUBLIC = yaml.safe_load((resources.files("fsar.training") / "recipes" / "public.yaml").read_text())
LINES = dict(public_code_lines())
RESNET_LINES = dict(public_code_lines("The public code with its ResNet-50"))
NOT_OF_A_CODE = {
    "method", "options", "data", "benchmark", "lists", "class_names", "resplit", "on_error", "cached_frames",
    "from_bank", "val_way", "val_shot", "patience", "clip_norm", "precision", "accelerator", "devices", "nodes",
    "checkpoint_activations", "compile", "workers", "seed", "shot", "for_shot", "val_query", "decay_norms",
    "decay_spares", "augment", "jitter_strength", "gray", "features", "eps", "lr_factors",
}  # fmt: skip
"""Keys that a code need not tell: places, hardware, and what most codes have at its default."""
ONLY_WITH = {
    "freeze_batch_norm": ("backbone", ("timm/resnet50.tv_in1k",)),  # of CLIP's own, some codes move it halfway
    "betas": ("optimizer", ("adam", "adamw")),
    "milestones": ("schedule", ("multi-step",)),
    "factors": ("schedule", ("multi-step",)),
    "warmup": ("schedule", ("multi-step",)),
    "warmup_factor": ("schedule", ("multi-step",)),
    "val_episodes": ("protocol", ("paper",)),
}


def test_every_public_code_has_its_line_and_its_settings() -> None:
    assert set(LINES) == {f"{method}/{benchmark}" for method in PUBLIC for benchmark in BENCHMARKS}
    coded = {name for name, origin in origins().items() if origin.code}
    ports = {name for name, code in PUBLIC.items() if code.get("port")}
    assert coded == set(PUBLIC) - ports and ports <= set(origins())


@pytest.mark.parametrize("name", LINES)
def test_a_line_gives_what_the_public_code_runs_with(name: str) -> None:
    """Every key that a code decides is written down, or named as unknown; and the recipe with its line has it."""
    method, _, benchmark = name.partition("/")
    code, recipe = PUBLIC[method], load_recipe(name, LINES[name])
    written = {**code["settings"], **code["benchmarks"].get(benchmark, {})}
    settings = json.loads(json.dumps(asdict(recipe)))
    options = json.loads(json.dumps(asdict(parse_options(method, recipe.options))))
    settings |= {f"options.{key}": value for key, value in options.items()}
    settings |= {f"for_shot.{key}": value for key, value in settings["for_shot"].items()}
    assert {key: settings[key] for key in written} == written
    needed = {item.name for item in fields(Recipe)} - NOT_OF_A_CODE
    needed -= {key for key, (other, values) in ONLY_WITH.items() if settings[other] not in values}
    assert needed - set(written) == set(code.get("unknown", {}).get(benchmark, ())) & needed
    if code.get("port"):  # what the authors kept is not known
        return
    kept = "last" if recipe.val_every == 0 else "test" if recipe.protocol == "paper" else "val"
    assert kept == origins()[method].keeps
    assert recipe.test_query in origins()[method].queries


OF_A_RESNET = {
    "hmdb51": (2.0, 8_000, 400, {4: 0.1, 6: 0.05, 8: 0.01}),
    "ucf101": (1.5, 8_000, 400, {2: 0.5, 5: 0.1, 8: 0.05}),
    "kinetics100": (1.5, 10_000, 500, {2: 0.1, 5: 0.05, 8: 0.01}),
    "ssv2-small": (0.5, 40_000, 2_000, {4: 0.1, 6: 0.05, 8: 0.01}),
    "ssv2-full": (1.0, 120_000, 6_000, {4: 0.5, 6: 0.1, 8: 0.05}),
}
"""Of D2ST-Adapter's ResNet-50 files: class weight, iterations, iterations of an epoch, factors from an epoch on."""


@pytest.mark.parametrize("benchmark", OF_A_RESNET)
def test_the_line_for_a_resnet_gives_what_its_file_says(benchmark: str) -> None:
    """An iteration is an episode on each of 2 GPUs; the epochs beyond the last step keep its rate."""
    weight, iterations, period, factors = OF_A_RESNET[benchmark]
    name = f"d2st-adapter/{benchmark}"
    recipe, vit = load_recipe(name, RESNET_LINES[name]), load_recipe(name, LINES[name])
    assert recipe.options == {"class_weight": weight, "framing": "square-256"}
    assert (recipe.backbone, recipe.lr, recipe.episodes) == ("timm/resnet50.tv_in1k", {"own": 2e-3}, 2 * iterations)
    assert (recipe.val_every, recipe.warmup * iterations, recipe.warmup_factor) == (iterations, period, 0.2)
    assert {recipe.milestones[i] * iterations / period: f for i, f in enumerate(recipe.factors)} == pytest.approx(
        factors
    )
    differing = {item.name for item in fields(Recipe) if getattr(recipe, item.name) != getattr(vit, item.name)}
    assert differing <= {
        "options", "backbone", "lr", "episodes", "milestones", "factors", "val_every", "decay_spares",
    }  # fmt: skip


RATES_OF_TS_FSAR = {
    "hmdb51": ((2e-4, 1e-4, 1e-4), (2e-4, 1e-4, 1e-4)),
    "ucf101": ((1e-4, 1e-4, 5e-5), (1e-4, 5e-5, 5e-5)),
    "kinetics100": ((2e-4, 1e-4, 1e-4), (1e-4, 5e-5, 5e-5)),
    "ssv2-small": ((2.5e-4,) * 3, (3e-4,) * 3),
    "ssv2-full": ((2e-4,) * 3, (2e-4,) * 3),
}
"""Rates of side network, map of frame pairs and attention over CLIP's frames: for 1 and for 5 shots."""


@pytest.mark.parametrize("benchmark", RATES_OF_TS_FSAR)
def test_ts_fsars_parts_train_at_the_rates_of_the_public_code(benchmark: str) -> None:
    for shot, (side, pairs, clip) in zip((1, 5), RATES_OF_TS_FSAR[benchmark], strict=True):
        recipe = load_recipe(f"ts-fsar/{benchmark}", shot=shot)
        with torch.device("meta"):
            method = build_method(recipe.method, hollow("ViT-B-16/openai"), **recipe.options)
            method.loss_heads["class"] = torch.nn.Linear(2, 2)
        freeze(method, ("own",))
        groups = make_optimizer(recipe, method).param_groups
        names = {id(parameter): name.partition(".")[0] for name, parameter in method.named_parameters()}
        rates = {(names[id(p)], group["base_lr"]) for group in groups for p in group["params"]}
        usual = dict.fromkeys(("ladder", "side_norm", "side_up", "loss_heads"), side)
        expected = usual | {"frame_match": pairs, "clip_norm": clip, "clip_attention": clip}
        assert len(rates) == len(expected) and dict(rates) == pytest.approx(expected)
        assert all(group["eps"] == 1e-6 for group in groups)


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_inside_a_backbone_move_on_request(frozen: bool, world: VideoDataset, tmp_path: Path) -> None:
    line = ["backbone=timm/test_resnet/random", "episodes=3", "episodes_per_step=2", "lr.visual=1e-5", "frames=2"]
    recipe = load_recipe("otam/hmdb51", [*SHORT, *line, f"freeze_batch_norm={str(frozen).lower()}"])
    train(recipe, world, tmp_path / "run", progress=False)
    kept, before = load_pretrained(tmp_path / "run"), load_backbone("timm/test_resnet/random")
    after = kept.backbone.state_dict()
    moved = {key for key, value in before.state_dict().items() if "running" in key and not value.equal(after[key])}
    assert bool(moved) is not frozen
    counts = {value.item() for key, value in after.items() if key.endswith("num_batches_tracked")}
    assert counts == {0 if frozen else 2}  # of the one step: its support and its queries are encoded apart


def test_statistics_move_once_if_activations_are_computed_again(world: VideoDataset, tmp_path: Path) -> None:
    line = ["backbone=timm/test_resnet/random", "lr.visual=1e-5", "frames=2", "freeze_batch_norm=false"]
    kept = []
    for again in ("false", "true"):
        recipe = load_recipe("otam/hmdb51", [*SHORT, *line, f"checkpoint_activations={again}"])
        train(recipe, world, tmp_path / again, progress=False)
        kept.append(load_pretrained(tmp_path / again).backbone.state_dict())
    statistics = [key for key in kept[0] if "running" in key or "tracked" in key]
    assert statistics and all(kept[0][key].equal(kept[1][key]) for key in statistics)


def test_a_backbone_without_statistics_has_none_to_move(world: VideoDataset, tmp_path: Path) -> None:
    recipe = load_recipe("otam/hmdb51", [*SHORT, "lr.visual=1e-5", "freeze_batch_norm=false"])
    with pytest.raises(ValueError, match="no effect on tiny, which has no BatchNorm"):
        train(recipe, world, tmp_path / "run", progress=False)


def test_one_recipe_trains(world: VideoDataset, tmp_path: Path) -> None:
    """The quick run's share of the test above."""
    test_a_recipe_trains_what_it_names("clip-fsar/kinetics100", world, tmp_path)


# --------------------------------------------------------------------------- the papers' numbers


@pytest.mark.parametrize("name", [name for name in PAPERS if name.partition("/")[0] in ("ma-fsar", "aim", "otam")])
def test_ma_fsars_protocol(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.episodes == (100_000 if "ssv2" in name else 10_000)
    assert (recipe.shot, recipe.query, recipe.episodes_per_step, recipe.jitter) == (1, 1, 16, True)
    if recipe.method == "ma-fsar":
        assert recipe.options["alpha"] == (0.25 if "ssv2" in name else 0.75)
    if recipe.method == "aim":
        assert (recipe.options["temporal_adapters"], recipe.options["scale"]) == (
            (2, 1) if "ssv2" in name else (1, 0.5)
        )


def published_rate(lr: float, start: float, period: int, factors: dict[int, float], iteration: int) -> float:
    """The rate in the code of CLIP-FSAR and HyRSM, whose epoch counts whole periods twice."""
    epoch = iteration // period + iteration / period
    if epoch < 1:
        return start + (lr - start) * epoch
    return lr * ([1.0] + [factor for step, factor in factors.items() if epoch >= step])[-1]


TENTHS = {4: 0.1, 6: 0.01}
PUBLISHED = {
    "clip-fsar/hmdb51": (1e-5, 1e-6, 700, TENTHS),
    "clip-fsar/ucf101": (2e-6, 1e-7, 600, TENTHS),
    "clip-fsar/kinetics100": (1e-5, 5e-6, 250, {6: 0.1, 9: 0.01}),
    "clip-fsar/ssv2-small": (5e-5, 2e-5, 2000, TENTHS),
    "clip-fsar/ssv2-full": (5e-5, 1e-5, 4000, TENTHS),
    "hyrsm/hmdb51": (5e-5, 1e-5, 300, {2: 0.5, 3: 0.1, 7: 0.01}),
    "hyrsm/ucf101": (5e-5, 1e-5, 700, {3: 0.5, 5: 0.1, 7: 0.01}),
    "hyrsm/kinetics100": (2.2e-5, 5e-6, 100, {4: 0.5, 6: 0.1, 9: 0.05}),
    "hyrsm/ssv2-small": (1e-4, 2e-5, 1500, {4: 0.1, 8: 0.01}),
    "hyrsm/ssv2-full": (1e-4, 2e-5, 3000, {6: 0.1, 9: 0.01}),
    "hyrsm-pp/hmdb51": (5e-5, 1e-5, 300, {2: 0.5, 3: 0.1, 7: 0.01}),
    "hyrsm-pp/ucf101": (5e-5, 1e-5, 700, {3: 0.5, 5: 0.1, 7: 0.01}),
    "hyrsm-pp/kinetics100": (2.2e-5, 5e-6, 100, {4: 0.5, 6: 0.1, 9: 0.05}),
    "hyrsm-pp/ssv2-small": (1e-4, 2e-5, 1500, {4: 0.1, 8: 0.01}),
    "hyrsm-pp/ssv2-full": (1e-4, 2e-5, 3000, {6: 0.1, 9: 0.01}),
    "molo/hmdb51": (5e-5, 1e-5, 500, {3: 0.5, 5: 0.1, 7: 0.01}),
    "molo/ucf101": (5e-5, 1e-5, 2000, {3: 0.1, 6: 0.01}),
    "molo/kinetics100": (2e-5, 5e-6, 350, {4: 0.1, 6: 0.01}),
    "molo/ssv2-small": (1e-4, 2e-5, 1500, {4: 0.1, 8: 0.01}),
    "molo/ssv2-full": (1e-4, 2e-5, 6000, {6: 0.1, 9: 0.01}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_shares_of_the_run_give_the_published_schedule(name: str) -> None:
    """At every step but those next to a fall."""
    recipe = load_recipe(name)
    lr, start, period, factors = PUBLISHED[name]
    assert recipe.lr == {"own": lr, "visual": lr}
    per_step = 2 if name == "hyrsm/hmdb51" else 4  # iterations
    wrong = []
    for step in range(recipe.steps):
        ours = lr * recipe.rate(step)
        theirs = published_rate(lr, start, period, factors, step * per_step)
        if not math.isclose(ours, theirs, rel_tol=0.01):
            wrong.append(step)
    assert len(wrong) <= len(factors)


def test_trx_takes_the_step_of_a_loss_summed_over_queries() -> None:
    for benchmark in BENCHMARKS:
        recipe = load_recipe(f"trx/{benchmark}")
        assert recipe.optimizer == "sgd"  # Adam would not see the factor
        assert recipe.lr == pytest.approx(dict.fromkeys(("own", "visual"), 1e-3 * recipe.way * recipe.query))


# --------------------------------------------------------------------------- the schedule


def schedule(**settings) -> Recipe:
    return Recipe(method="otam", episodes=1000, episodes_per_step=10, **settings)


def test_a_constant_rate() -> None:
    recipe = schedule()
    assert recipe.steps == 100
    assert [recipe.rate(step) for step in range(100)] == [1.0] * 100


def test_episodes_that_fill_no_step_are_left_out() -> None:
    assert Recipe(method="otam", episodes=1007, episodes_per_step=10).steps == 100


def test_multi_step_falls_at_its_shares() -> None:
    recipe = schedule(schedule="multi-step", milestones=(0.6, 0.8), factors=(0.1, 0.01))
    rates = [recipe.rate(step) for step in range(100)]
    assert rates == pytest.approx([1.0] * 60 + [0.1] * 20 + [0.01] * 20)


def test_every_milestone_has_its_factor() -> None:
    recipe = schedule(schedule="multi-step", milestones=(0.5, 0.7, 0.9), factors=(0.5, 0.1, 0.01))
    assert [recipe.rate(step) for step in (49, 50, 69, 70, 90)] == [1.0, 0.5, 0.5, 0.1, 0.01]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "multi-step", "milestones": (0.5,)}, "1 milestones and 2 factors"),
        ({"milestones": (0.8, 0.6)}, "expected rising shares"),
        ({"milestones": (0.6, 1.5)}, "expected rising shares"),
        ({"warmup": 2.0}, "warmup is 2.0"),
        ({"lr": {"own": -1.0}}, "rates of 0 or more"),
        ({"val_every": -5}, "val_every is -5"),
        ({"betas": (0.9, 1.0)}, r"betas are \(0.9, 1.0\); expected two numbers in"),
        ({"betas": (0.5, 0.999), "optimizer": "sgd"}, "sgd has none"),
        ({"eps": 0.0}, "eps is 0; expected a small number above 0"),
        ({"eps": 1e-6, "optimizer": "sgd"}, "eps is 1e-06, and sgd has none"),
        ({"lr_factors": {"scale": 0.0}}, "expected factors above 0"),
        ({"freeze_batch_norm": False}, "set lr.visual too"),
        ({"for_shot": {5: {"shots": 1}}}, "for_shot, 5: unknown recipe key 'shots'; did you mean 'shot'"),
        ({"for_shot": {0: {"shot": 1}}}, "for_shot has changes for 0 shots"),
        ({"val_query": 0}, "val_query is 0; expected at least 1"),
        ({"decay_spares": ("bn",), "decay_norms": False}, "decay_norms has no effect"),
        ({"jitter": True, "jitter_strength": (0.5, 0.5, 0.5, 0.6)}, "at most 0.5 for the hue"),
        ({"gray": 0.3}, "no effect without jitter: true"),
        ({"augment": "queries"}, "no effect without flip or jitter"),
        ({"way": 0}, "way is 0; expected at least 1"),
        ({"sampling": "tsm"}, "did you mean 'tsn'"),
    ],
)
def test_values_that_mean_nothing_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(**settings)


@pytest.mark.parametrize(
    ("override", "message"),
    [("lists=[a", "cannot read the value"), ("shot=", "shot has no value"), ("lr=null", "lr has no value")],
)
def test_overrides_that_cannot_be_read_are_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_recipe("ma-fsar/world", [override])


def test_options_of_the_file_that_an_override_leaves_idle_are_left_out() -> None:
    """A row of a table is then one override; what the user asks for is never left out."""
    assert "ensemble" in load_recipe("clip-spm/ucf101").options
    assert load_recipe("clip-spm/ucf101", ["options.spm=false", "options.hsmr=false"]).options == {
        "inductive": False,
        "spm": False,
        "hsmr": False,
    }
    kept = load_recipe("clip-spm/ucf101", ["options.spm=false", "options.ensemble=mean"]).options
    with pytest.raises(ValueError, match="ensemble: mean, which has no effect with spm: false"):
        build_method("clip-spm", load_backbone("tiny"), **kept)


def test_precision_may_be_a_number() -> None:
    assert load_recipe("ma-fsar/world", ["precision=32"]).precision == "32"


def test_cosine_falls_to_zero_along_half_a_wave() -> None:
    recipe = schedule(schedule="cosine")
    assert [recipe.rate(step) for step in (0, 25, 50, 75)] == pytest.approx(
        [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )
    assert recipe.rate(99) == pytest.approx(math.sin(math.pi / 200) ** 2)


@pytest.mark.parametrize("kind", ["constant", "multi-step", "cosine"])
def test_warm_up_rises_linearly_and_then_leaves_the_schedule_alone(kind: str) -> None:
    warm = schedule(schedule=kind, warmup=0.2, warmup_factor=0.1)
    plain = schedule(schedule=kind)
    expected = [plain.rate(step) * min(1.0, 0.1 + 0.9 * step / 20) for step in range(100)]
    assert [warm.rate(step) for step in range(100)] == pytest.approx(expected)


def test_the_schedule_reaches_the_optimiser(world: VideoDataset, tmp_path: Path) -> None:
    changes = [
        "episodes=4",
        "schedule=multi-step",
        "milestones=[0.5]",
        "factors=[0.1]",
        "warmup=0.5",
        "warmup_factor=0.2",
    ]
    train(load_recipe("otam/hmdb51", [*SHORT, *changes]), world, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["rate"] for line in lines] == pytest.approx([0.2, 0.6, 0.1, 0.1])


def test_each_group_gets_its_rate_and_its_decay() -> None:
    recipe = load_recipe("trx/hmdb51", [*SHORT, "options.out_dim=16", "lr.own=1e-2", "weight_decay=1e-4"])
    method = build_method(recipe.method, load_backbone("tiny"), **recipe.options)
    freeze(method, trained_groups(recipe, method))
    optimizer = make_optimizer(recipe, method)
    assert {(group["base_lr"], group["weight_decay"]) for group in optimizer.param_groups} == {
        (1e-2, 1e-4),
        (2.5e-2, 1e-4),
    }
    assert all(group["momentum"] == 0 for group in optimizer.param_groups)


def test_parts_of_a_group_have_rates_of_their_own() -> None:
    """By beginnings of names: a longer one counts beside a shorter one."""
    line = ["options.hidden=16", "lr.own=1e-3", "lr_factors={context: 0.5, context.norm: 0.5, scale: 3}"]
    recipe = load_recipe("clip-fsar/hmdb51", [*SHORT, *line])
    method = build_method(recipe.method, load_backbone("tiny"), **recipe.options)
    freeze(method, ("own",))
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    groups = make_optimizer(recipe, method).param_groups
    rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert rates["context.to_query.weight"] == 5e-4 and rates["context.norm.bias"] == 2.5e-4
    assert rates["scale"] == pytest.approx(3e-3)
    with pytest.raises(ValueError, match="lr_factors names 'backbone', and no trained parameter .* one of: context, s"):
        make_optimizer(replace(recipe, lr_factors={"backbone": 0.5}), method)


def test_weight_decay_spares_temperatures_and_what_the_method_names(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("clip-fsar/hmdb51", [*SHORT, "options.hidden=16", "weight_decay=0.1", "decay_spares=null"])
    method = build_method(recipe.method, load_backbone("tiny"), **recipe.options)
    freeze(method, trained_groups(recipe, method))
    names = {id(parameter): name for name, parameter in method.named_parameters()}

    def spared() -> set[str]:
        groups = [group for group in make_optimizer(recipe, method).param_groups if not group["weight_decay"]]
        return {names[id(parameter)] for group in groups for parameter in group["params"]}

    assert spared() == {"scale"}
    monkeypatch.setattr(method, "no_weight_decay", lambda: {"context.norm.bias"})
    assert spared() == {"scale", "context.norm.bias"}


def test_betas_reach_the_optimiser() -> None:
    recipe = load_recipe("clip-fsar/hmdb51", [*SHORT, "options.hidden=16", "betas=[0.5, 0.99]"])
    method = build_method(recipe.method, load_backbone("tiny"), **recipe.options)
    freeze(method, trained_groups(recipe, method))
    assert all(group["betas"] == (0.5, 0.99) for group in make_optimizer(recipe, method).param_groups)
    assert all(group["eps"] == 1e-8 for group in make_optimizer(recipe, method).param_groups)


def spared(recipe: Recipe, backbone: Backbone) -> set[str]:
    """Names of the parameters that weight decay leaves out."""
    method = build_method(recipe.method, backbone, **recipe.options)
    freeze(method, tuple(recipe.lr))
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    groups = make_optimizer(recipe, method).param_groups
    return {names[id(p)] for group in groups if not group["weight_decay"] for p in group["params"]}


def test_decay_by_names_is_that_of_the_public_codes() -> None:
    """They leave out what is called `bn` or `norm`, so a temperature, a ViT's `ln_...` and `downsample.1` decay."""
    recipe = load_recipe("clip-fsar/hmdb51", ["options.hidden=16"])
    by_name = spared(recipe, load_backbone("tiny"))
    assert by_name == {"context.norm.weight", "context.norm.bias"}
    by_kind = spared(replace(recipe, decay_spares=None, decay_norms=False), load_backbone("tiny"))
    assert by_name < by_kind and {"scale", "backbone.clip.visual.ln_pre.weight"} <= by_kind
    residual = spared(load_recipe("hyrsm/hmdb51"), load_backbone("timm/resnet18/random"))
    assert "backbone.model.bn1.weight" in residual and "backbone.model.layer2.0.downsample.1.weight" not in residual


PARTS = ("weight", "bias")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_d2st_adapters_norms_decay_as_in_the_public_code(benchmark: str) -> None:
    """There a ViT's norms are called `s_ln`, `t_ln` and `ln_post`; a ResNet's lie in modules called `norm`."""
    name = f"d2st-adapter/{benchmark}"
    for line, norms in ((LINES[name], {"offset_norm"}), (RESNET_LINES[name], {"offset_norm", "norms"})):
        recipe = load_recipe(name, line)
        with torch.device("meta"):
            backbone = hollow(recipe.backbone)
            method, found = build_method(recipe.method, backbone, **recipe.options), spared(recipe, backbone)
        layers = [name for name, module in method.named_modules() if isinstance(module, torch.nn.LayerNorm)]
        assert found == {f"{layer}.{part}" for layer in layers if set(layer.split(".")) & norms for part in PARTS}


# --------------------------------------------------------------------------- reading one


def test_a_recipe_says_how_it_trains_for_more_shots() -> None:
    five, three = load_recipe("hyrsm/hmdb51", shot=5), load_recipe("hyrsm/hmdb51", shot=3)
    assert [(r.shot, r.query, r.validation_shot) for r in (five, three)] == [(5, 3, 5), (3, 5, 3)]
    assert load_recipe("hyrsm/hmdb51", ["query=2"], shot=5).query == 2
    once = load_recipe("clip-fsar/hmdb51", shot=5)
    assert (once.shot, once.val_shot) == (1, 5)
    assert (load_recipe("trx/hmdb51", ["shot=1"], shot=5).shot, load_recipe("trx/hmdb51", shot=1).shot) == (1, 1)


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_dumped_is_read_as_the_same_recipe(name: str) -> None:
    recipe = load_recipe(name)
    assert parse_recipe(yaml.safe_load(recipe.dump())) == recipe


def test_a_dump_holds_every_key(tmp_path: Path) -> None:
    recipe = Recipe(
        method="trx", options={"cardinalities": [2], "out_dim": 8}, data="world", lists=("a.txt", "b.txt"),
        class_names="n.json", episodes=32, lr={"own": 1e-7}, milestones=(0.1, 0.9), factors=(0.3, 0.2), clip_norm=0.5,
        patience=3, val_way=4, val_shot=2, workers=2, precision="16-mixed", schedule="cosine", optimizer="sgd",
    )  # fmt: skip
    (tmp_path / "mine.yaml").write_text(recipe.dump())
    assert set(yaml.safe_load(recipe.dump())) == {item.name for item in fields(Recipe)}
    assert load_recipe(str(tmp_path / "mine.yaml")) == recipe


@pytest.mark.parametrize("preset", HARDWARE)
@pytest.mark.parametrize("name", PAPERS)
def test_hardware_never_changes_how_many_episodes_make_a_step(name: str, preset: str) -> None:
    plain = load_recipe(name)
    if plain.episodes_per_step % HARDWARE[preset]["devices"]:
        with pytest.raises(ValueError, match=r"\d episodes per step do not divide over [48] devices"):
            load_recipe(name, hardware=preset)
        return
    fitted = load_recipe(name, hardware=preset)
    differing = {item.name for item in fields(Recipe) if getattr(plain, item.name) != getattr(fitted, item.name)}
    assert differing <= {"devices", "precision", "checkpoint_activations"}
    assert fitted.steps == plain.steps and fitted.episodes_per_step % fitted.devices == 0


def test_overrides_stand_above_the_hardware_and_the_file() -> None:
    recipe = load_recipe(
        "ma-fsar/hmdb51",
        ["shot=5", "lr.own=1e-4", "lr.visual=1e-6", "options.alpha=0.5", "devices=2", "lists=[a.txt, b.txt]"],
        hardware="4x24gb",
    )
    assert (recipe.shot, recipe.devices, recipe.precision) == (5, 2, "16-mixed")
    assert recipe.lr == {"own": 1e-4, "visual": 1e-6}
    assert recipe.options == {"alpha": 0.5} and recipe.lists == ("a.txt", "b.txt")


def test_a_quoted_option_stays_the_text_that_it_is() -> None:
    recipe = load_recipe("ma-fsar/hmdb51", ['options.templates="{}"', 'options.a="off"', "options.b=1e-4"])
    assert recipe.options == {"alpha": 0.75, "templates": "{}", "a": "off", "b": 1e-4}
    assert parse_recipe(yaml.safe_load(recipe.dump())) == recipe


def test_an_override_may_begin_a_group_and_hold_an_equals_sign() -> None:
    recipe = load_recipe("hyrsm/hmdb51", ["options={}", "options.heads=4", "data=/videos/a=b"])
    assert recipe.options == {"heads": 4} and recipe.data == "/videos/a=b"


@pytest.mark.parametrize("name", ["ma-fsar/world", "ma-fsar/world.yaml", "recipes/ma-fsar/world.yaml"])
def test_a_packaged_recipe_is_found_from_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe(name) == load_recipe("ma-fsar/world") and load_recipe(name).data == "world"


def test_a_file_of_ones_own_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "recipes" / "ma-fsar" / "world.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("method: otam\n")
    assert load_recipe("recipes/ma-fsar/world.yaml") == load_recipe(str(mine)) == Recipe(method="otam")
    assert load_recipe("ma-fsar/world").method == "ma-fsar"


def test_numbers_may_be_written_without_a_dot() -> None:
    """PyYAML reads 1e-3 as text."""
    recipe = parse_recipe({"method": "trx", "lr": {"own": "1e-3"}, "weight_decay": "5e-5"})
    assert recipe.lr == {"own": 1e-3} and recipe.weight_decay == 5e-5


def test_a_recipe_is_printed_with_its_comments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "ts-fsar/hmdb51"]) == 0
    packaged = resources.files("fsar.training") / "recipes" / "ts-fsar" / "hmdb51.yaml"
    assert capsys.readouterr().out == packaged.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("ts-fsr/world",),
            "no recipe 'ts-fsr/world': neither a file nor a packaged one; did you mean 'ts-fsar/world'",
        ),
        (("trx/world", "--keys"), "leave one of them out"),
    ],
)
def test_mistakes_about_recipes_are_named(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", *words]) == 2
    assert message in capsys.readouterr().err


def test_every_key_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Type, choices, default and words, from the docstrings under the fields."""
    assert main(["recipes", "--keys"]) == 0
    printed = capsys.readouterr().out
    for setting in settings_of(Recipe):
        assert setting.words, f"{setting.name} has no docstring"
        assert f"  {setting.name} = {setting.default or '(required)'}    {setting.type}\n" in printed
    assert "  schedule = constant    constant | multi-step | cosine\n" in printed
    assert "  lr = {}    mapping of text to float\n" in printed


# --------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("metod=otam", "unknown recipe key 'metod'; did you mean 'method'"),
        ("lr_own=1", "unknown recipe key 'lr_own'"),
        ("learning.own=1", "unknown recipe key 'learning'"),
        ("steps=40", "unknown recipe key 'steps'; expected one of"),
        ("alpha=0.5", "alpha is an option of ma-fsar, not a key of the recipe; give options.alpha=0.5"),
        ("shot", r"cannot read 'shot'; expected key=value, as in shot=5"),
        ("shot=five", "shot is five; expected int"),
        ("shot=1.5", r"shot is 1\.5; expected int"),
        ("lr=0.1", r"lr is 0\.1; expected mapping of text to float"),
        ("lr.own=fast", "lr is {own: fast}; expected mapping of text to float"),
        ("lr.own.first=1", "cannot set lr.own.first: own is not a group of keys"),
        ("options=alpha", "options is alpha; expected mapping"),
        ("optimizer=adan", r"optimizer is adan; did you mean 'adam'\? expected adam \| adamw \| sgd"),
        ("schedule=step", r"schedule is step; did you mean 'multi-step'\? expected constant \| multi-step \| cosine"),
        ("milestones=0.5", r"milestones is 0\.5; expected list of float"),
        ("flip=1", "flip is 1; expected true or false"),
        ("episodes=0", "episodes is 0; expected at least 1"),
        ("episodes=3", "3 episodes do not fill one step of 16; give more, or lower episodes_per_step"),
        ("devices=3", "16 episodes per step do not divide over 3 devices; choose a divisor"),
        ("from_bank=true", "leave out flip, jitter, lr.visual and lr.text"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_recipe("ma-fsar/hmdb51", [override])


def test_a_crop_has_no_effect_on_a_bank() -> None:
    with pytest.raises(ValueError, match="crop=true has no effect with from_bank"):
        load_recipe("trx/world", ["crop=true"])
    assert load_recipe("trx/world", ["crop=false"]).from_bank


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown hardware preset '1x8'; did you mean '1x8gb'"):
        load_recipe("ma-fsar/hmdb51", hardware="1x8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- method: otam\n", r"mine.yaml: expected `key: value` lines, got list"),
        ("", r"mine.yaml: expected `key: value` lines, got NoneType"),
        ("method: [otam\n", "mine.yaml: not YAML"),
        ("method: otam\nqueries: 5\n", "unknown recipe key 'queries'; did you mean 'query'"),
        ("method: otam\nlr: [1.0e-5]\n", "lr is .*; expected mapping of text to float"),
    ],
)
def test_a_wrong_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_a_missing_recipe_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no recipe 'ma-fsar/hmdb'.*did you mean 'ma-fsar/hmdb51'.*`fsar recipes`"):
        load_recipe("ma-fsar/hmdb")
    with pytest.raises(ValueError, match=r"'otm/worl'.*did you mean 'otam/world'\?"):
        load_recipe("otm/worl")
    with pytest.raises(ValueError, match="neither a file nor a packaged one; `fsar recipes`"):  # no name is like it
        load_recipe("maml/world")


@pytest.mark.parametrize("name", [name for name in PAPERS if name.startswith("task-adapter")])
def test_task_adapters_settings(name: str) -> None:
    """Task-Adapter++, sections 4.1 and 4.3, and its code where the paper is silent."""
    recipe = load_recipe(name)
    assert (recipe.optimizer, recipe.lr, recipe.schedule, recipe.weight_decay) == ("sgd", {"own": 1e-3}, "constant", 0)
    assert (recipe.episodes, recipe.episodes_per_step, recipe.query, recipe.val_every) == (10_000, 1, 1, 1000)
    temporal = "ssv2" in name
    assert recipe.options["layers"] == (6 if temporal else 2) and (recipe.crop, recipe.jitter) == (True, False)
    if recipe.method == "task-adapter-pp":
        assert recipe.options["text_layers"] == (2 if temporal else 8)
        assert recipe.options["sub_actions"] == name.partition("/")[2]


def test_a_method_without_recipes_says_so() -> None:
    with pytest.raises(ValueError, match="protonet has no recipe, since it is used as it is: fsar evaluate --method"):
        load_recipe("protonet/world")
