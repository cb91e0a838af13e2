"""What stands beside a result of ours, and what is said of the difference: every reason true, on either side."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from fsar.papers import Cell, load_papers
from fsar.papers.compare import Printed, beside
from fsar.papers.runs import Run, runs_of
from fsar.reproduce import Plan, recipes_of
from fsar.results.result import Result
from tests.papers.made import result_beside, result_of

CELLS = {cell.id: cell for cell in load_papers()}


def cell(method: str, benchmark: str, shot: int = 1, variant: str | None = None, **keys: Any) -> Cell:
    """The first accuracy of a method as its own paper prints it."""
    wanted = {"method": method, "benchmark": benchmark, "shot": shot, "variant": variant, **keys}
    return next(
        each
        for each in CELLS.values()
        if each.accuracy is not None
        and all(getattr(each, key) == value for key, value in wanted.items())
        and (keys or each.paper == {"task-adapter": "task-adapter-pp"}.get(method, method) or method not in CELLS)
    )


def accuracies(*results: Result) -> list[float]:
    return [value.accuracy for value in beside(results)]


def said(made: Result, of: Cell) -> dict[str, bool]:
    """The differences to a cell: words -> whether they block."""
    [value] = [value for value in beside([made]) if of in value.cells]
    return {difference.words: difference.blocks for difference in value.differences}


def blocking(made: Result) -> list[str]:
    [value, *_] = beside([made])
    return [difference.words for difference in value.differences if difference.blocks]


MDMF = cell("clip-mdmf", "hmdb51", paper="clip-mdmf")
SPM = cell("clip-spm", "hmdb51", paper="clip-spm")
PP = cell("task-adapter-pp", "ssv2-small", paper="task-adapter-pp")


def run_of(of: Cell) -> Run:
    return runs_of(of)[0]


# --------------------------------------------------------------------------- what `fsar reproduce` makes


@pytest.mark.parametrize("method", ["clip-spm", "clip-mdmf", "ma-fsar", "task-adapter", "clip-fsar", "hyrsm", "aim"])
def test_what_reproduce_makes_is_accepted(method: str, tmp_path: Path) -> None:
    """Its recipes train and test as the papers do, for one shot and for five."""
    for shot in (1, 5):
        plan = Plan(method=method, benchmark="hmdb51@arn", root=tmp_path, folder=tmp_path, shots=(shot,))
        [recipe] = recipes_of(plan)
        settings = json.loads(json.dumps(asdict(recipe)))
        run = Run(method=method, recipe=f"{method}/hmdb51", backbone=recipe.backbone, benchmark="hmdb51@arn",
                  way=5, shot=shot, query=recipe.test_query)  # fmt: skip
        [value, *_] = beside([result_of(run, settings)])
        assert value.comparable, (shot, value.differences)


# --------------------------------------------------------------------------- what was measured


def test_what_was_trained_tells_frozen_from_fine_tuned() -> None:
    """One set of options, two published rows: the trained groups decide."""
    frozen, tuned = CELLS["ma-fsar/table-4/3"], CELLS["ma-fsar/table-4/6"]
    assert (frozen.accuracy, tuned.accuracy) == (42.3, 53.9)
    for of, other in ((frozen, tuned), (tuned, frozen)):
        [value] = beside([result_beside(of)])
        assert value.comparable and of in value.cells and other not in value.cells
    frozen, tuned = (
        cell("task-adapter", "ssv2-small", variant="frozen backbone"),
        cell("task-adapter-pp", "ssv2-small", variant="full fine-tuning"),
    )
    assert accuracies(result_beside(frozen)) == [36.0] and accuracies(result_beside(tuned)) == [47.8]
    assert blocking(replace(result_beside(frozen), training=result_beside(PP).training)) == [
        "trained here: what the method adds; there: nothing"
    ]
    untrained = replace(result_beside(MDMF), training=None)
    assert "trained here: nothing; there: what the method adds and the visual encoder" in blocking(untrained)


@pytest.mark.parametrize(
    "method,variant",
    [
        ("task-adapter", "frozen backbone"),
        ("task-adapter", "AIM, all layers"),
        ("task-adapter", "AIM, last layers"),
        ("task-adapter-pp", "full fine-tuning"),
        ("clip-spm", "HSMR on, SPM on, PADM off"),
        ("clip-spm", "HSMR off, SPM off, PADM off"),
    ],
)
def test_rows_in_which_no_query_can_see_another_are_inductive(method: str, variant: str) -> None:
    of = cell(method, "ssv2-small", variant=variant)
    made = result_beside(of)
    [value] = beside([made])
    assert not made.transductive and value.comparable and of in value.cells


@pytest.mark.parametrize(
    "variant", ["AIM and task-specific adaptation, last layers", "task-specific adaptation without AIM, last layers"]
)
def test_rows_in_which_queries_meet_are_transductive(variant: str) -> None:
    of = cell("task-adapter", "ssv2-small", variant=variant)
    settings = run_of(of).settings or {}
    alone = result_of(run_of(of).with_option("inductive", True))
    assert settings["options"]["inductive"] is False and not alone.transductive
    assert said(alone, of)[
        "each query is named alone (inductive) here; there the queries of an episode see each other (transductive)"
    ]


def test_training_with_each_query_alone_is_not_the_published_training() -> None:
    options = {key: value for key, value in (run_of(SPM).settings or {})["options"].items() if key != "inductive"}
    made = result_beside(SPM, recipe={"options": options}, transductive=True)
    assert blocking(made) == [
        "trained with each query alone (inductive) and tested with queries that see each other "
        "here; there they do in both"
    ]


@pytest.mark.parametrize(
    "of", ["ma-fsar/table-11/11", "ma-fsar/table-11/15", "ma-fsar/table-11/7", "ma-fsar/table-11/3"]
)
@pytest.mark.parametrize("shot", [1, 5])
def test_a_text_read_out_stands_beside_zero_shot_rows(of: str, shot: int) -> None:
    """AIM with its text head, MA-FSAR with alpha 1, CLIP-FSAR read out by text, and CLIP as it is; at any shot."""
    made = replace(result_beside(CELLS[of]), shot=shot)
    [value] = beside([made])
    assert CELLS[of] in value.cells and value.comparable and value.accuracy == CELLS[of].accuracy


def test_a_text_read_out_by_either_option_is_the_same() -> None:
    of = CELLS["ma-fsar/table-11/15"]
    by_option = replace(run_of(of), readout={"readout": "text"})
    assert accuracies(result_of(by_option)) == [73.2] and not blocking(result_of(by_option))
    mixed = replace(run_of(of), changes={}, readout={"alpha": 1.0})
    assert blocking(result_of(mixed)) == [
        "options of the method in training differ: alpha 0.75 (there 1.0), readout mix (there text)"
    ]


def test_the_row_without_adapters_and_prototypes_may_be_either_read_out() -> None:
    of = CELLS["ma-fsar/table-3/1"]
    mixed = run_of(of)
    for run in (mixed, mixed.with_option("readout", "text")):
        assert accuracies(result_of(run)) == [28.8] and not blocking(result_of(run))
    full = CELLS["ma-fsar/table-3/2"]
    zero_shot = replace(run_of(CELLS["ma-fsar/table-11/1"]), benchmark=run_of(full).benchmark)
    assert accuracies(result_of(zero_shot)) == [30.2] and not blocking(result_of(zero_shot))


def test_video_text_scores_have_rows_at_one_shot() -> None:
    for method, value in (("task-adapter", 50.4), ("task-adapter-pp", 54.3)):
        of = cell(method, "ssv2-small", variant="video-text matching score")
        assert accuracies(result_beside(of)) == [value] and not blocking(result_beside(of))


def test_a_variant_stands_beside_its_own_row() -> None:
    [found] = beside([result_beside(cell("task-adapter-pp", "ssv2-small", variant="Conv1d"))])
    assert (found.accuracy, [each.variant for each in found.cells]) == (55.4, ["Conv1d"])
    [full] = beside([result_beside(cell("ma-fsar", "ssv2-small", backbone="ResNet-50"))])
    assert (full.accuracy, full.comparable) == (52.5, True)  # on RN50 the model as proposed has no adapters


def test_unimodal_rows_have_runs() -> None:
    rows = [each for each in CELLS.values() if each.variant == "unimodal, visual encoder fully fine-tuned"]
    assert len(rows) == 12
    for of in rows:
        [value] = beside([result_beside(of)])
        assert value.comparable and value.cells == (of,)
    words = [d.words for d in beside([result_beside(rows[0])])[0].differences]
    assert any("which have seen ImageNet-21K; the paper does not say which" in each for each in words)


# --------------------------------------------------------------------------- either variant


@pytest.mark.parametrize("of", [MDMF, SPM])
@pytest.mark.parametrize(
    "variant,words", [("paper", "the paper's equations"), ("official", "the public code, step by step")]
)
def test_either_variant_stands_for_the_published_row(of: Cell, variant: str, words: str) -> None:
    made = result_of(run_of(of).with_option("variant", variant))
    [value] = [value for value in beside([made]) if of in value.cells]
    assert value.comparable
    [told] = [d.words for d in value.differences if d.words.startswith("variant here")]
    assert told.startswith(f"variant here: {variant} ({words}); either variant stands")


def test_a_point_of_the_other_variant_is_told_and_another_value_blocks() -> None:
    told = said(result_of(run_of(SPM).with_option("pixels", "unit")), SPM)
    [words] = [each for each in told if each.startswith("variant here")]
    assert "but for pixels unit (there normalized)" in words and not any(told.values())
    assert blocking(result_of(run_of(SPM).with_option("alpha", 3.0))) == [
        "options of the method differ from those of the published row: alpha 3.0 (there 1.0)"
    ]
    ablated = result_of(run_of(SPM).with_option("consistency", "off"))
    assert accuracies(ablated) == [75.7]  # a row of its own


def test_the_audit_of_a_leak_is_compared_and_anything_else_is_not() -> None:
    audit = result_beside(PP)
    assert audit.protocol.startswith("leaky") and not blocking(audit)
    assert (
        said(audit, PP)["labels of the queries reach the scores on both sides: neither number is an accuracy"] is False
    )
    for variant in ("paper", "official"):
        made = result_of(run_of(PP).with_option("variant", variant))
        assert [words[:63] for words in blocking(made)] == [
            "the public code of Task-Adapter++ lets the labels of the querie"
        ]
    visual = cell("task-adapter-pp", "ssv2-small", variant="video matching score")
    assert not blocking(result_beside(visual)) and result_beside(visual).protocol == "clean"
    leaky = replace(result_beside(MDMF), protocol="leaky: labels reach the scores")
    assert "protocol here: leaky: labels reach the scores" in blocking(leaky)


# --------------------------------------------------------------------------- the test


def test_queries_of_clip_spm() -> None:
    """The paper tests with 4, its public code with 1; only of its own rows is that said."""
    for queries, stands in ((4, True), (1, True), (2, False)):
        assert (not blocking(result_beside(SPM, query=queries))) is stands
    assert said(result_beside(SPM, query=2), SPM)["2 queries per class in testing here, 4 or 1 there"]
    reprinted = cell("clip-mdmf", "hmdb51", paper="clip-spm")
    assert not any("per class in testing" in words for words in said(result_beside(reprinted), reprinted))


@pytest.mark.parametrize(
    "of,recipe,protocol,words",
    [
        (MDMF, {}, "clean", "evaluates its states on the test classes (protocol=paper is the equal here)"),
        (MDMF, {}, "paper: selected on the test classes", None),
        (PP, {}, "clean", "keeps the last state (val_every=0 is the equal here)"),
        (PP, {}, "paper: selected on the test classes", "the last state, so ours is the more optimistic (val_every=0"),
        (PP, {"val_every": 0}, "clean", None),
    ],
)
def test_selection(of: Cell, recipe: dict[str, Any], protocol: str, words: str | None) -> None:
    found = [each for each in said(result_beside(of, recipe, protocol=protocol), of) if each.startswith("selection")]
    assert found == [] if words is None else words in found[0]


def test_training_shots() -> None:
    """CLIP-FSAR's 5-shot numbers are of 1-shot training, CLIP-MDMF's of 5-shot training."""
    for method, right, wrong in (("clip-fsar", 1, 5), ("clip-mdmf", 5, 1)):
        of = cell(method, "hmdb51", 5, paper="clip-mdmf")
        assert not blocking(result_beside(of, {"shot": right}))
        words = f"for the 5-shot test trained on {wrong}-shot episodes here, on {right}-shot ones by the public code"
        assert blocking(result_beside(of, {"shot": wrong})) == [words]
    of = cell("hyrsm", "hmdb51", 5, paper="ma-fsar")
    assert not any("query" in words for words in said(result_beside(of), of))
    assert any("query 7 (there 3)" in words for words in said(result_beside(of, {"query": 7}), of))


# --------------------------------------------------------------------------- what else is told


@pytest.mark.parametrize("recipe,changes,words,blocks", [
    ({}, {"backbone": "tiny"}, "backbone tiny here, ResNet-50 pre-trained on CLIP", True),
    ({}, {"backbone": "RN50/random"}, "backbone RN50/random here", True),
    ({}, {"backbone": "RN50-quickgelu@w.safetensors"}, "its file is taken to hold the weights of RN50/openai", False),
    ({}, {"split": "val"}, "measured on the val classes", True),
    ({"episodes": 100}, {}, "100 training episodes here, 20,000 by the recipe of the published row", True),
    ({"flip": False, "lr": {"own": 1.0, "visual": 1.0}}, {}, 'lr {"own": 1.0, "visual": 1.0} (there', False),
    ({"sampling": "trx"}, {}, "sampling trx (there tsn)", False),
    ({"options": {"alpha1": 3.0}}, {}, "differ from those of the published row: alpha1 3.0 (there 1.0)", True),
    ({}, {"clip": {"frames": 16, "sampling": "tsn"}}, "16 frames per video here, 8 there", True),
    ({}, {"query": 5}, "5 queries per class in testing here, 1 there", False),
    ({}, {"episodes": 600}, "600 test episodes here, 10,000 there", False),
    ({}, {"absent": 3}, "3 videos of the list were not there", False),
    ({}, {"absent": 300}, "300 videos of the list were not there", True),
    ({}, {"skipped": {"a": "b"}}, "1 videos could not be read", False),
    ({}, {"dataset_fingerprint": "f" * 64}, "not those of the benchmark's list", True),
    ({}, {"confusion": {"classes": ["run"], "counts": [[1]]}}, "1 classes here, 10 in the benchmark's test", True),
    ({}, {"resplit": 4}, "split at random here (seed 4)", True),
    ({}, {"seen_classes": ("run",)}, "trained on 1 of the classes it is tested on", True),
])  # fmt: skip
def test_differences_are_named(recipe: dict[str, Any], changes: dict[str, Any], words: str, blocks: bool) -> None:
    found = said(result_beside(MDMF, recipe, **changes), MDMF)
    named = [difference for difference in found if words in difference]
    assert named and all(found[name] is blocks for name in named)


@pytest.mark.parametrize("method,stated", [("ts-fsar", "10,000"), ("clip-mei", "a number not stated")])
def test_test_episodes_beside_pages_of_methods(method: str, stated: str) -> None:
    page = cell(method, "hmdb51", paper="pages")
    assert said(result_beside(page, episodes=30), page)[f"30 test episodes here, {stated} there"] is False


def test_training_on_other_videos_blocks() -> None:
    made = result_beside(MDMF)
    elsewhere = replace(made, training={**(made.training or {}), "dataset": "world"})
    assert blocking(elsewhere) == ["trained on world here, on the benchmark's own train classes there"]


def test_weights_of_the_same_architecture_are_told_apart() -> None:
    of = cell("trx", "hmdb51", 5, paper="ma-fsar")
    assert run_of(of).backbone == "timm/resnet50.tv_in1k" and not blocking(result_beside(of))
    assert blocking(result_beside(of, backbone="timm/resnet50")) == [
        "weights timm/resnet50.a1_in1k here, timm/resnet50.tv_in1k in the public codes"
    ]


def test_half_precision_tokens_and_the_corpus_are_told_and_do_not_block() -> None:
    made = result_of(run_of(PP).with_option("half_tokens", True))
    told = said(made, PP)
    assert told["the frozen tokens were kept in half precision here"] is False
    assert said(replace(made, precision="bf16"), PP)["evaluated in bf16 here"] is False
    assert told["sub-actions here: ssv2-small; there: written by GPT-4"] is False
    other = said(result_of(run_of(PP).with_option("sub_actions", "mine.yaml")), PP)
    assert other["sub-actions here: mine.yaml; there: written by GPT-4"] is False
    label = cell(
        "task-adapter-pp", "ssv2-small", shot=1, variant="three sub-actions off, order adaptation off, alignment on"
    )
    assert not any("GPT-4" in words for words in said(result_beside(label), label))


def test_lists_are_told_of_the_papers_that_write_of_them() -> None:
    def told(dataset: str, of: Cell) -> list[str]:
        made = result_of(replace(run_of(of), benchmark=dataset))
        return [words for words in said(made, of) if "77,500" in words]

    assert told("ssv2-full@otam-67k", cell("ma-fsar", "ssv2-full", paper="ma-fsar", backbone="ViT-B/16")) == []
    assert told("ssv2-full@otam-67k", cell("task-adapter-pp", "ssv2-full", paper="task-adapter-pp")) == []
    [mdmf] = told("ssv2-full@otam-67k", cell("clip-mdmf", "ssv2-full", paper="clip-mdmf", backbone="ViT-B/16"))
    assert mdmf.startswith("the train list here has 67,013 videos, as the list of CLIP-MDMF's code")
    [spm] = told("ssv2-full@otam-67k", cell("clip-spm", "ssv2-full", paper="clip-spm"))
    assert spm.startswith("the train list here has 67,013 videos; CLIP-SPM's paper writes of 77,500")
    assert told("ssv2-full@otam-67k", cell("otam", "ssv2-full", paper="clip-spm")) == []


def test_random_splits_stand_beside_random_splits() -> None:
    found = beside([result_beside(CELLS["ma-fsar/table-14/1"])])
    assert {each.table for value in found for each in value.cells} == {"Table 14"}
    assert len(found) == 5 and all(value.comparable for value in found)
    fixed = beside([result_beside(cell("ma-fsar", "kinetics100", paper="ma-fsar", backbone="ViT-B/32"))])
    assert all(not each.resplit for value in fixed for each in value.cells)


def test_what_is_not_published_has_no_neighbour() -> None:
    assert beside([replace(result_beside(MDMF), way=10)]) == []
    assert beside([replace(result_beside(MDMF), method="place-motion", options={}, training=None)]) == []
    nearest: Printed = beside([replace(result_beside(MDMF), backbone="ViT-L-14/openai")])[0]
    assert not nearest.comparable and MDMF in nearest.cells
