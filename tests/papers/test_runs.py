"""Every published cell has a run of ours or a reason, and the run is one that can be started."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache

import open_clip
import pytest
import torch

from fsar.backbones import Backbone, load_backbone
from fsar.backbones.clip import ClipBackbone
from fsar.cli import _parsers
from fsar.methods import METHODS, build_method, default_traits, effective_options, parse_method
from fsar.papers import FAMILIES, Cell, load_papers
from fsar.papers.compare import beside
from fsar.papers.measured import of_result, of_run
from fsar.papers.runs import BACKBONES, LISTS, WHERE, Run, other_runs_of, runs_of, why_not
from fsar.training.parameters import trained_groups
from fsar.training.recipes import load_recipe
from tests.papers.made import result_of

CELLS = {cell.id: cell for cell in load_papers()}
OURS = [cell for cell in CELLS.values() if cell.method in METHODS]


def runs_behind(cell: Cell) -> tuple[Run, ...]:
    return (*runs_of(cell), *other_runs_of(cell))


def distinct_runs() -> Iterator[tuple[Cell, Run]]:
    """Runs that differ in more than benchmark, shots and seeds."""
    seen = set()
    for cell in OURS:
        for run in runs_behind(cell):
            changes = {key: value for key, value in run.changes.items() if key not in ("shot", "val_shot", "resplit")}
            key = repr([run.method, run.recipe is None, run.backbone, changes, run.options, run.readout])
            if key not in seen:
                seen.add(key)
                yield cell, run


@cache
def hollow(name: str) -> Backbone:
    """A backbone of its full size without any weights."""
    with torch.device("meta"):
        if name.startswith("timm/"):
            return load_backbone(f"{name}/random")
        config = open_clip.get_model_config(name.replace("/openai", "-quickgelu"))
        return ClipBackbone(name, open_clip.CLIP(**config), lambda texts: torch.zeros(len(texts), 77))


# --------------------------------------------------------------------------- all cells


def test_every_cell_has_a_run_or_a_reason() -> None:
    assert len(CELLS) == 1378
    for cell in CELLS.values():
        reason = why_not(cell)
        assert bool(runs_of(cell)) is (reason is None), cell
        assert reason is None or reason == f"{cell.method} is not a method of this project"
    assert len(OURS) == 1378 - 245


def test_the_run_of_every_accuracy_stands_beside_it() -> None:
    """Each run measures what the cell did, so that the difference is printed; a cell's every alternative, too."""
    checked, found = 0, {}
    for cell in OURS:
        if cell.accuracy is None:
            assert cell.quantity in WHERE, cell
            continue
        for run in runs_behind(cell):
            key = repr(run)
            if key not in found:
                made = result_of(run)
                found[key] = beside([made])
                assert of_result(made).groups == of_run(cell, run).groups
            [value] = [value for value in found[key] if cell in value.cells]
            assert value.comparable, (cell, [d.words for d in value.differences if d.blocks])
            checked += 1
    assert checked == 1032 and len(found) > 400


def test_the_runs_can_be_started() -> None:
    """The recipe takes the changes, and the method of full size is built and trains what the key says."""
    built = 0
    for cell, run in distinct_runs():
        options = effective_options(run.method, run.tested_options, keep=run.readout)  # as a checkpoint is read
        with torch.device("meta"):
            tested = build_method(run.method, hollow(run.backbone), **options)
        key = of_run(cell, run)
        assert tested.traits.transductive is key.transductive, cell
        assert tested.traits.leaks_labels is key.leaks, cell
        if run.recipe is None:
            assert key.groups == () and not {name for name, _ in tested.named_parameters() if "backbone" not in name}
        else:
            assert set(run.readout) <= set(default_traits(run.method).readouts)
            train = shlex.split(run.commands()[0])
            changes = train[train.index("--set") + 1 :] if "--set" in train else []
            recipe = load_recipe(run.recipe, [*changes, f"backbone={run.backbone}"])
            assert json.loads(json.dumps(asdict(recipe))) == {**(run.settings or {}), "resplit": None}, cell
            trained = tested
            if run.readout:
                with torch.device("meta"):
                    trained = build_method(recipe.method, hollow(recipe.backbone), **recipe.options)
            assert tuple(sorted(trained_groups(recipe, trained))) == key.groups, cell
        built += 1
    assert built > 100


def test_the_commands_are_read_by_the_command_line() -> None:
    parser, _ = _parsers()
    seen = {command for cell in OURS for run in runs_behind(cell) for command in run.commands("VIDEOS", "RUN")}
    for command in seen:
        program, *words = shlex.split(command)
        options = parser.parse_args(words)
        assert program == "fsar" and options.benchmark in (*LISTS.values(), "ssv2-full@otam-77k")
        if options.verb == "evaluate":
            assert options.way == [5] and len(options.shot) == 1
            for spec in (options.method or []) + (options.checkpoint or []):
                parse_method(spec)
    assert len(seen) > 300


def test_backbones_and_lists_are_ours() -> None:
    assert set(LISTS) == set(FAMILIES)
    for name in BACKBONES.values():
        assert hollow(name).dim > 0


# --------------------------------------------------------------------------- single ones


@pytest.mark.parametrize("cell,commands", [
    ("ma-fsar/table-3/1", ["fsar evaluate --method ma-fsar:alpha=0.25,fgma=false,prototype=none --backbone "
                           "ViT-B-32/openai --data V --benchmark ssv2-small@cmn --shot 1 --out R"]),
    ("ma-fsar/table-4/6", ["fsar train --config ma-fsar/ssv2-small --data V --benchmark ssv2-small@cmn --out R --set "
                           """'lr={"own": 5e-05, "visual": 5e-05}' options.fgma=false""",
                           "fsar evaluate --checkpoint R --data V --benchmark ssv2-small@cmn --shot 1"]),
    ("ma-fsar/table-9/1", ["fsar train --config ma-fsar/ssv2-small --data V --benchmark ssv2-small@cmn --out R --set "
                           """'options.templates="{}"'""",
                           "fsar evaluate --checkpoint R --data V --benchmark ssv2-small@cmn --shot 1"]),
    ("ma-fsar/table-11/7", ["fsar train --config clip-fsar/hmdb51 --data V --benchmark hmdb51@arn --out R --backbone "
                            "ViT-B-32/openai --set freeze_batch_norm=true",
                            "fsar evaluate --checkpoint R:readout=text --data V --benchmark hmdb51@arn --shot 1"]),
    ("clip-spm/table-3/1", ["fsar train --config clip-spm/hmdb51 --data V --benchmark hmdb51@arn --out R --set "
                            "'lr={\"visual\": 1e-05}' options.hsmr=false options.spm=false options.padm=false "
                            "options.inductive=true options.ensemble=null",
                            "fsar evaluate --checkpoint R --data V --benchmark hmdb51@arn --shot 1 --query 4"]),
])  # fmt: skip
def test_commands(cell: str, commands: list[str]) -> None:
    assert list(runs_of(CELLS[cell])[0].commands("V", "R")) == commands


def test_options_of_the_recipe_that_a_row_leaves_idle_are_taken_back() -> None:
    """Without SPM no ensemble of texts is read, with the label alone no sub-actions."""
    [row] = [cell for cell in OURS if cell.id == "clip-spm/table-3/7"]
    assert runs_of(row)[0].changes["options.ensemble"] is None
    label = next(cell for cell in OURS if (cell.options or {}).get("text") == "label")
    assert runs_of(label)[0].changes["options.sub_actions"] is None


def test_the_list_of_a_row_is_that_of_its_public_code() -> None:
    """CLIP-MEI's code has the list of 77,500 videos, as CLIP-SPM's, in whose paper it stands, too."""
    lists = {
        (cell.paper, cell.method): run.benchmark for cell in OURS for run in runs_of(cell) if "full" in run.benchmark
    }
    assert lists["pages", "clip-mei"] == lists["clip-spm", "clip-mei"] == lists["clip-spm", "otam"]
    assert lists["pages", "clip-mei"] == "ssv2-full@otam-77k" and lists["pages", "strm"] == "ssv2-full@otam-67k"


def test_molo_by_otam_is_molo() -> None:
    """MA-FSAR prints "MoLo (OTAM)"; Task-Adapter++ has its numbers on SSv2 under the name of MoLo."""
    of_ma_fsar = [cell for cell in OURS if cell.variant == "MoLo (OTAM)"]
    [cell] = [cell for cell in of_ma_fsar if (cell.benchmark, cell.shot) == ("ssv2-small", 1)]
    assert runs_of(cell)[0].tested_options["metric"] == "otam"
    [same] = [
        other
        for other in OURS
        if (other.paper, other.method, other.benchmark, other.shot) == ("task-adapter-pp", "molo", "ssv2-small", 1)
    ]
    assert same.accuracy == cell.accuracy == 41.9
    assert runs_of(same)[0].tested_options.get("metric", "bi-mhm") == "bi-mhm"
    assert other_runs_of(same)[0].tested_options["metric"] == "otam"


def test_several_runs_make_a_mean() -> None:
    [average] = [cell for cell in OURS if cell.id == "ma-fsar/table-1/153"]
    assert average.quantity and [run.benchmark.partition("@")[0] for run in runs_of(average)] == [
        "hmdb51",
        "ucf101",
        "kinetics100",
    ]
    rounds = [cell for cell in OURS if cell.variant == "random split, average of 5 rounds"]
    assert [run.changes["resplit"] for run in runs_of(rounds[0])] == [1, 2, 3, 4, 5]


def test_five_shot_models_are_trained_as_the_public_code_does() -> None:
    at = {(cell.method, cell.shot): runs_of(cell)[0] for cell in OURS if cell.accuracy and cell.variant is None}
    assert (at["clip-fsar", 5].settings or {})["shot"] == 1 and (at["clip-fsar", 5].settings or {})["val_shot"] == 5
    assert (at["hyrsm", 5].settings or {})["query"] == 3 and (at["hyrsm", 1].settings or {})["query"] == 7
    assert (at["clip-mdmf", 5].settings or {})["shot"] == 5
