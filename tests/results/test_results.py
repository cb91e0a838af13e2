"""Results: read back as written, never mixed, compared over the same episodes, exported whole."""

import csv
import io
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsar.backbones import Backbone
from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.results.comparison import compare, compare_runs, comparison_tables
from fsar.results.identity import file_name, row_name, save_result
from fsar.results.numbers import percent
from fsar.results.result import Result, load_results
from fsar.results.tables import listing, table, tables
from fsar.results.typeset import Table, render
from fsar.training.checkpoint import save_pretrained
from tests.training.test_checkpoint import provenance, trained

RESULT = Result(
    method="otam", options={"per": "video"}, changed={}, transductive=False, backbone="tiny", weights="f3b40c1d",
    clip={"frames": 8, "sampling": "tsn"}, dataset="ssv2-full@otam-67k", dataset_fingerprint="a" * 64, split="test",
    protocol="clean", selection="none: nothing was trained or chosen", way=2, shot=1, query=1, episodes=4, seed=0,
    episodes_fingerprint="e" * 64, accuracy=0.625, ci95=0.4, per_class={"wave": 0.5, "clap": 0.75},
    confusion={"classes": ["clap", "wave"], "counts": [[3, 1], [2, 2]]}, training=None, seen_classes=(), skipped={},
    seconds=0.5, versions={"python": "3.11", "fsar": "0.1.0"}, right=(2, 1, 1, 1),
)  # fmt: skip
TRAINING = {
    "recipe": {"way": 5, "shot": 1, "seed": 0, "devices": 1, "lr": {"own": 0.1}},
    "dataset": "world",
    "dataset_fingerprint": "b" * 64,
}


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`."""
    return small_for_tiny


def seeded(seed: int, **changes: Any) -> Result:
    """The result of a training run with this seed."""
    training = {**TRAINING, "recipe": {**TRAINING["recipe"], "seed": seed}}
    return replace(RESULT, **{"method": "trx", "training": training, "selection": "on the val classes", **changes})


def keep(folder: Path, *results: Result) -> Path:
    for result in results:
        save_result(result, folder)
    return folder


# --------------------------------------------------------------------------- files


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Thousands of counts stay on one line, so that the file can be looked at."""
    result = replace(RESULT, episodes=10_000, right=(2, 0, 1, 1) * 2500, resplit=3, absent=2)
    result.save(tmp_path / "result.json")
    assert Result.load(tmp_path / "result.json") == result
    lines = (tmp_path / "result.json").read_text().splitlines()
    assert len(lines) < 100 and sum("2,0,1,1,2" in line for line in lines) == 1


def test_options_are_called_the_same_before_and_after(tmp_path: Path) -> None:
    result = replace(RESULT, method="trx", changed={"cardinalities": (2, 3)})
    result.save(tmp_path / "result.json")
    names = [row_name(one) for one in (result, Result.load(tmp_path / "result.json"))]
    assert names == ["trx cardinalities=[2, 3] (tiny)"] * 2


def test_results_of_before_still_load(tmp_path: Path) -> None:
    old = {key: value for key, value in asdict(RESULT).items() if key not in ("right", "absent", "resplit")}
    (tmp_path / "old.json").write_text(json.dumps(old, indent=1))
    assert Result.load(tmp_path / "old.json") == replace(RESULT, right=())


def test_folders_are_walked_for_results(tmp_path: Path) -> None:
    """What a file holds counts, not what it is called; each file is read once."""
    keep(tmp_path / "run" / "results", RESULT, replace(RESULT, shot=5))
    RESULT.save(tmp_path / "mine.json")
    (tmp_path / "run" / "episodes.json").write_text('{"format": 1, "episodes": []}')
    (tmp_path / "run" / "list.json").write_text("[1, 2]")
    (tmp_path / "run" / "broken.json").write_text('{"method": ')
    RESULT.save(tmp_path / ".hidden" / "mine.json")
    found = load_results([tmp_path, tmp_path / "run" / ".." / "mine.json", tmp_path / "run"])
    assert [one.path.name for one in found] == [
        "mine.json",
        *sorted(file_name(replace(RESULT, shot=shot)) for shot in (1, 5)),
    ]
    assert {one.result.shot for one in found} == {1, 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "not a result; expected a JSON file that `fsar evaluate` wrote"),
        ("{", "not a result that fsar wrote"),
        (json.dumps({**asdict(RESULT), "colour": "red"}), "another version of fsar: it holds colour, which is unknown"),
        (json.dumps({k: v for k, v in asdict(RESULT).items() if k != "training"}), "it lacks training. Evaluate again"),
        (json.dumps({**asdict(RESULT), "right": [1]}), "damaged: 4 episodes, but counts of 1"),
    ],
)
def test_a_named_file_that_is_no_result_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(ValueError, match=rf"file\.json: .*{message}"):
        load_results([tmp_path / "file.json"])
    with pytest.raises(ValueError, match="nothing: no such file or folder"):
        load_results([tmp_path / "nothing"])


def test_a_file_is_named_by_its_settings() -> None:
    """The same settings overwrite, others never do; what is measured changes no name."""
    assert file_name(RESULT).startswith("otam_test_2way_1shot_")
    same = {"accuracy": 0.1, "ci95": 0.2, "seconds": 9.0, "versions": {}, "right": (), "per_class": {}}
    assert file_name(replace(RESULT, **same)) == file_name(RESULT)
    others = {
        "method": "trx", "options": {"per": "prototype"}, "transductive": True, "backbone": "lite0", "weights": "0",
        "clip": {"frames": 16, "sampling": "tsn"}, "dataset": "ssv2-full@otam-77k", "dataset_fingerprint": "b" * 64,
        "split": "val", "protocol": "leaky", "way": 5, "shot": 5, "query": 2, "episodes": 5, "seed": None,
        "episodes_fingerprint": "f" * 64, "training": TRAINING, "resplit": 1, "trained_weights": "c" * 16,
    }  # fmt: skip
    names = {file_name(replace(RESULT, **{key: value})) for key, value in others.items()}
    assert len(names | {file_name(RESULT)}) == len(others) + 1
    assert file_name(seeded(0)) != file_name(seeded(1))
    on_card = {**TRAINING, "results": [{"accuracy": 0.5}]}  # --add-to-card changes the checkpoint, not the settings
    assert file_name(seeded(0, training=on_card)) == file_name(seeded(0))


# --------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.7775, "77.8"),
        (0.77749999999999997, "77.8"),
        (0.7725, "77.3"),
        (-0.0725, "-7.3"),
        (-1e-6, "0.0"),
        (1.0, "100.0"),
    ],
)
def test_one_rounding(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_number_is_the_same_in_every_table() -> None:
    """311 of 400 queries; the order of summation has no effect."""
    right = (2,) * 150 + (1,) * 11 + (0,) * 39
    one = replace(RESULT, episodes=200, right=right, accuracy=0.77749999999999997, ci95=0.05)
    two = replace(one, method="trx", right=right[::-1])
    assert "77.8 ± 5.0" in table([one])
    (shown,) = comparison_tables([compare([one], [two])], "a", "b")
    assert shown.rows[0][2:4] == ("77.8", "77.8")


# --------------------------------------------------------------------------- tables


def test_seeds_are_averaged_and_their_spread_is_said() -> None:
    results = [seeded(0, accuracy=0.6, ci95=0.02), seeded(1, accuracy=0.7, ci95=0.04)]
    assert "65.0 ± 63.6 (2 training seeds: sd 7.1)" in table(results)
    assert table([results[0], results[0]]) == table(results[:1])  # a copy is no second seed
    (row,) = csv.DictReader(io.StringIO(render(tables(results), "csv")))
    assert (row["training_seed"], row["seed"], row["dataset_fingerprint"]) == ("0 1", "0", "a" * 64)
    assert float(row["accuracy"]) == pytest.approx(0.65) and float(row["sd"]) == pytest.approx(0.1 / math.sqrt(2))
    assert "(2 runs: sd 7.1)" in table([results[0], replace(results[0], accuracy=0.7)])


def test_weights_of_one_seed_are_never_mixed() -> None:
    """A run that was evaluated before and after its end, or trained twice with one seed."""
    early = {**TRAINING, "unfinished_at": 11, "recipe": {**TRAINING["recipe"], "episodes": 20}}
    late = {**TRAINING, "unfinished_at": None, "recipe": {**TRAINING["recipe"], "episodes": 20}}
    results = [
        seeded(0, training=early, trained_weights="a" * 16, accuracy=0.6),
        seeded(0, training=late, trained_weights="b" * 16, shot=5, accuracy=0.8),
    ]
    (made,) = tables(results)
    assert [row[1:] for row in made.rows] == [("60.0 ± 40.0", ""), ("", "80.0 ± 40.0")]
    assert "unfinished: 11 of 20 episodes" in made.rows[0][0] and "unfinished" not in made.rows[1][0]
    twice = [replace(results[1], shot=1), replace(results[1], trained_weights="c" * 16)]
    (made,) = tables(twice)
    assert [name[-18:] for name, *_ in made.rows] == [f", weights {sign * 8}" for sign in "bc"]
    older = replace(results[1], trained_weights="", shot=1)  # nobody knows which weights these were
    assert len(tables([older, results[1]])[0].rows) == 1
    other_seed = replace(twice[0], training={**late, "recipe": {**late["recipe"], "seed": 1}}, trained_weights="d" * 16)
    assert len(tables([twice[0], other_seed])[0].rows) == 1
    with pytest.raises(ValueError, match="A holds 2 kinds of results"):
        compare(twice, twice[:1])


def of_shots(trained: int, tested: int) -> Result:
    training = {**TRAINING, "recipe": {**TRAINING["recipe"], "shot": trained}}
    return seeded(0, training=training, shot=tested, accuracy=trained / 10)


def test_a_recipe_trained_for_each_shot_makes_one_row() -> None:
    (made,) = tables([of_shots(1, 1), of_shots(5, 5)])
    assert len(made.rows) == 1 and "5-way K-shot" in made.rows[0][0]
    assert made.rows[0][1:] == ("10.0 ± 40.0", "50.0 ± 40.0")
    (made,) = tables([of_shots(1, 1)])
    assert "5-way 1-shot" in made.rows[0][0]


def test_a_recipe_that_says_how_it_trains_for_more_shots_makes_one_row() -> None:
    """As CLIP-FSAR, whose 5-shot model is trained on 1-shot episodes, and HyRSM, with fewer queries."""
    by_shot = {"for_shot": {"5": {"shot": 1, "query": 3}}}
    one, five = of_shots(1, 1), of_shots(1, 5)
    recipes = {"shot": 1, "query": 7, "val_shot": None, **by_shot}, {"shot": 1, "query": 3, "val_shot": 5, **by_shot}
    both = [
        replace(result, training={**TRAINING, "recipe": {**TRAINING["recipe"], **recipe}})
        for result, recipe in zip((one, five), recipes, strict=True)
    ]
    (made,) = tables(both)
    assert len(made.rows) == 1 and "5-way for K shots as its recipe says" in made.rows[0][0]
    otherwise = replace(both[1], training={**TRAINING, "recipe": {**both[1].training["recipe"], "shot": 5}})
    assert len(tables([both[0], otherwise])[0].rows) == 2


def test_a_model_tested_at_other_shots_keeps_its_row() -> None:
    (made,) = tables([of_shots(1, 1), of_shots(1, 5), of_shots(5, 5)])
    assert [name.partition(",")[2].partition(",")[0][-6:] for name, *_ in made.rows] == ["1-shot", "5-shot"]


def test_independent_episodes_narrow_the_interval() -> None:
    lists = [replace(RESULT, seed=i, episodes_fingerprint=str(i) * 64, accuracy=0.6, ci95=0.03) for i in range(3)]
    assert f"60.0 ± {3 / math.sqrt(3):.1f} (3 episode seeds: sd 0.0)" in table(lists)


def test_copies_of_videos_are_other_videos() -> None:
    both = [replace(RESULT, files="a" * 16), replace(RESULT, files="b" * 16)]
    assert len(tables(both)) == 2 and file_name(both[0]) != file_name(both[1])


def test_random_splits_share_a_row() -> None:
    own = [{"dataset_fingerprint": str(i) * 64, "episodes_fingerprint": str(i) * 64} for i in range(2)]
    splits = [replace(RESULT, resplit=i, accuracy=0.6 + i / 10, **own[i]) for i in range(2)]
    assert "65.0 ± 63.5 (2 splits: sd 7.1)" in table(splits)
    assert "split at random by seed 0, 1, videos 00000000, 11111111" in tables(splits)[0].heading
    assert len(tables([*splits, replace(splits[0], dataset_fingerprint="c" * 64)])) == 3  # not the same videos dealt


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "ssv2-full@otam-77k"}, "ssv2-full@otam-77k test"),
        ({"dataset_fingerprint": "b" * 64}, "videos bbbbbbbb"),
        ({"split": "val"}, "ssv2-full@otam-67k val"),
        ({"protocol": "paper: selected on the test classes"}, "protocol paper: selected on the test classes"),
        ({"seen_classes": ("wave",)}, "protocol trained on 1 of these classes"),
        ({"episodes": 5}, "5 episodes (seed 0)"),
        ({"query": 3}, "3 queries per class"),
        ({"resplit": 4}, "split at random by seed 4"),
    ],
)
def test_what_may_not_be_compared_never_shares_a_table(change: dict[str, Any], said: str) -> None:
    made = tables([RESULT, replace(RESULT, **change)])
    assert [len(one.rows) for one in made] == [1, 1]
    assert said in made[1].heading and said not in made[0].heading
    assert all(one.heading in table([RESULT, replace(RESULT, **change)]) for one in made)


@pytest.mark.parametrize("change", [{"weights": "0123456789"}, {"clip": {"frames": 16, "sampling": "trx"}}])
def test_rows_that_would_be_called_the_same_say_what_differs(change: dict[str, Any]) -> None:
    (one,) = tables([RESULT, replace(RESULT, **change)])
    assert len({row[0] for row in one.rows}) == 2 and "8 frames tsn, weights f3b40c1d" in one.rows[0][0]


# --------------------------------------------------------------------------- comparison


def test_the_interval_of_a_paired_difference_by_hand() -> None:
    """Two queries an episode: differences 0.5, 0, 0.5, -0.5 with mean 0.125 and standard deviation 0.4787."""
    one = compare([RESULT], [replace(RESULT, method="trx", right=(1, 1, 0, 2))])
    assert (one.accuracy_a, one.accuracy_b, one.difference) == (0.625, 0.5, 0.125)
    variance = (0.375**2 + 0.125**2 + 0.375**2 + 0.625**2) / 3
    assert one.ci95 == pytest.approx(1.96 * math.sqrt(variance) / 2)
    assert one.verdict == "no difference shown"


def test_seeds_are_averaged_per_episode_before_they_are_compared() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(4, 11, (3, 500)), rng.integers(0, 11, (2, 500))
    settings = {"way": 5, "query": 2, "episodes": 500}
    sides = [
        [
            seeded(i, right=tuple(map(int, row)), accuracy=float(row.mean() / 10), method=method, **settings)
            for i, row in enumerate(counts)
        ]
        for method, counts in (("trx", a), ("hyrsm", b))
    ]
    one = compare(*sides)
    differences = (a.mean(0) - b.mean(0)) / 10
    assert one.difference == pytest.approx(differences.mean())
    over_episodes = 1.96 * differences.std(ddof=1) / math.sqrt(500)
    of_a, of_b = ((counts.mean(1) / 10).var(ddof=1) / len(counts) for counts in (a, b))
    freedom = math.floor((of_a + of_b) ** 2 / (of_a**2 / 2 + of_b**2 / 1))  # Welch's, of 3 and of 2 trainings
    over_trainings = {1: 12.706, 2: 4.303, 3: 3.182}[freedom] * math.sqrt(of_a + of_b)
    assert one.ci95 == pytest.approx(math.hypot(over_episodes, over_trainings))
    assert one.verdict == "A is better" and compare(*sides[::-1]).verdict == "B is better"
    assert compare([replace(r, right=()) for r in sides[0]] + sides[0], sides[1]) == one  # evaluated again since
    assert compare(sides[0], sides[0]).difference == 0 and compare(sides[0], sides[0]).verdict == "no difference shown"


def test_several_lists_of_episodes_are_joined() -> None:
    """Each seed of the episodes pairs with its own; which comes first does not matter."""
    second = {"seed": 1, "episodes_fingerprint": "f" * 64, "right": (0, 0, 0, 0), "accuracy": 0.0}
    other = replace(RESULT, method="trx", right=(2, 2, 2, 2), accuracy=1.0)
    one = compare([RESULT, replace(RESULT, **second)], [replace(other, **second), other])
    assert one.episodes == 8 and one.difference == pytest.approx(-(0 + 1 + 1 + 1) / 2 / 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes_fingerprint": "f" * 64, "seed": 1}, "episodes differ: seed is 0 in A, 1 in B"),
        (
            {"episodes_fingerprint": "f" * 64, "dataset": "world", "dataset_fingerprint": "b" * 64},
            "dataset is ssv2-full@otam-67k in A, world in B, videos is aaaaaaaa in A, bbbbbbbb in B",
        ),
        ({"episodes_fingerprint": "f" * 64, "way": 3, "shot": 5}, "way is 2 in A, 3 in B, shot is 1 in A, 5 in B"),
        ({"episodes_fingerprint": "f" * 64}, "although all settings are equal; another version of fsar drew them"),
        ({"dataset": "ssv2-full@otam-77k"}, "ssv2-full@otam-67k and ssv2-full@otam-77k are different benchmarks"),
        ({"right": ()}, "B (trx (tiny)) does not hold which queries were named right .* evaluate it again"),
    ],
)
def test_a_comparison_that_would_mislead_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        compare_runs([RESULT], [replace(RESULT, method="trx", **change)])


def test_runs_are_paired_by_setting_and_mode() -> None:
    five = {"shot": 5, "episodes_fingerprint": "5" * 64}
    a = [RESULT, replace(RESULT, **five), replace(RESULT, split="val", episodes_fingerprint="9" * 64)]
    other = replace(RESULT, method="task-adapter", right=(0, 0, 0, 0))
    b = [other, replace(other, transductive=True), replace(other, **{**five, "seed": 1, "episodes_fingerprint": "6"})]
    made, left_out = compare_runs(a, b)
    assert [(one.a[0].shot, one.a[0].split, one.b[0].transductive) for one in made] == [(1, "test", False)]
    assert any("2-way 5-shot inductive: the episodes differ: seed is 0 in A, 1 in B" in why for why in left_out)
    assert any("2-way 1-shot transductive: only B has it" in why for why in left_out)
    assert any("val 2-way 1-shot inductive: the episodes differ: split is val in A, test in B" in w for w in left_out)
    (alone,), _ = compare_runs([other], [replace(other, transductive=True)])  # two single results: as they are
    assert alone.difference == 0
    with pytest.raises(ValueError, match="A holds 2 kinds of results.* narrow by --where, as options.per=video"):
        compare_runs([RESULT, replace(RESULT, options={"per": "prototype"}, accuracy=0.1)], [other])
    with pytest.raises(ValueError, match="name one file .* narrow by --where, as method=otam"):
        compare_runs([RESULT, replace(RESULT, method="trx", accuracy=0.1)], [other])


# --------------------------------------------------------------------------- formats


def test_latex_escapes_what_it_would_read() -> None:
    words = r"50% of a_b & #1 {x} \y ~ ^ $ ±"
    one = Table(
        columns=("name", "n"),
        rows=((words, "1"), ("b", "2")),
        records=(),
        heading="a_b",
        words=frozenset({"name"}),
        best=frozenset({(1, 1)}),
    )
    text = render([one], "latex")
    escaped = r"50\% of a\_b \& \#1 \{x\} \textbackslash{}y \textasciitilde{} \textasciicircum{} \$ $\pm$"
    assert escaped + r" & 1 \\" in text and r"b & \textbf{2} \\" in text and r"\caption{a\_b}" in text
    rules = (r"\begin{tabular}{lr}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}")
    assert [text.index(rule) for rule in rules] == sorted(text.index(rule) for rule in rules)


def test_markdown_keeps_its_columns() -> None:
    one = Table(columns=("name",), rows=(("a|b\nc",),), records=(), words=frozenset({"name"}))
    assert render([one], "markdown").splitlines() == ["| name |", "| --- |", r"| a\|b c |"]
    with pytest.raises(ValueError, match="did you mean 'latex'"):
        render([one], "latx")


def test_the_best_of_each_column_is_bold_in_latex() -> None:
    (one,) = tables([RESULT, replace(RESULT, method="trx", accuracy=0.7)])
    assert r"trx (tiny) & \textbf{70.0 $\pm$ 40.0}" in render([one], "latex")


def test_csv_has_all_that_identifies_a_result_in_full_precision(tmp_path: Path) -> None:
    third = seeded(2, accuracy=1 / 3, changed={"note": 'a, "b"'})
    rows = list(csv.DictReader(io.StringIO(render([listing(load_results([keep(tmp_path, RESULT, third)]))], "csv"))))
    assert [row["method"] for row in rows] == ["otam", "trx"]
    assert float(rows[1]["accuracy"]) == 1 / 3 and json.loads(rows[1]["changed"]) == {"note": 'a, "b"'}
    assert rows[1]["dataset_fingerprint"] == "a" * 64 and rows[1]["training_fingerprint"] == "b" * 64
    assert (rows[1]["seed"], rows[1]["training_seed"], rows[0]["training_seed"]) == ("0", "2", "")
    assert rows[0]["versions"] == rows[1]["versions"] != "" and rows[0]["absent"] == "0"
    assert Result.load(Path(rows[1]["file"])) == third


# --------------------------------------------------------------------------- the command line


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs below `runs/`: one untrained, two seeds of a trained method."""
    monkeypatch.chdir(tmp_path)
    keep(tmp_path / "runs" / "plain", RESULT, replace(RESULT, shot=5, way=10, episodes_fingerprint="5" * 64))
    for seed, right in enumerate([(2, 2, 2, 2), (2, 2, 2, 1)]):
        accuracy = sum(right) / 8
        keep(tmp_path / "runs" / "trx" / str(seed) / "results", seeded(seed, right=right, accuracy=accuracy))
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("where", "methods"),
    [
        ((), ["otam", "otam", "trx", "trx"]),
        (("method=otam",), ["otam", "otam"]),
        (("method=otam", "shot=05"), ["otam"]),
        (("backbone=tiny", "split=test", "transductive=False", "seed=0", "way=2"), ["otam", "trx", "trx"]),
        (("protocol=clean", "dataset=ssv2-full@otam-67k"), ["otam", "otam", "trx", "trx"]),
    ],
)
def test_filters(where: tuple[str, ...], methods: list[str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--format", "csv", *(["--where", *where] if where else [])]) == 0
    assert [row["method"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == methods


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--where", "metod=otam"), "unknown key of --where 'metod'; did you mean 'method'"),
        (("--where", "method=otan"), "unknown method of the results in runs 'otan'; did you mean 'otam'"),
        (("--where", "way=five"), "--where way=five: expected a whole number"),
        (("--where", "transductive=maybe"), "expected true or false"),
        (("--where", "runs"), "expected KEY=VALUE"),
        (("--where", "per=video"), "unknown key of --where 'per'; expected one of: method, "),
        (("--where", "options.per=vidoe"), "options.per of the results in runs 'vidoe'; did you mean 'video'?"),
        (("--where", "options.pre=video"), "unknown option of the results in runs 'pre'; did you mean 'per'?"),
        (("--where", "method=trx", "shot=5"), "none of the 4 results in runs has method=trx and shot=5"),
        (("--compare", "runs/plain", "runs/trx", "--table"), "leave --table out"),
        (("runs", "--compare", "runs/plain", "runs/trx"), "leave path runs out"),
        (("--compare", "runs/plain", "nowhere"), "nowhere: no such file or folder"),
        (("--format", "html"), "unknown format 'html'"),
        (("--tabel",), "did you mean '--table'"),
        (("empty",), "no results in empty; `fsar evaluate --checkpoint RUN` writes them to RUN/results"),
    ],
)
def test_mistakes_are_named(
    words: tuple[str, ...], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs.parent / "empty").mkdir()
    assert main(["results", *words]) == 2
    assert message in capsys.readouterr().err


def test_list_table_and_comparison_as_printed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "protocol" not in lines[0]  # all are clean
    assert "| trx | tiny | world 5-way 1-shot, recipe " in lines[5] and "seed 1 |" in lines[5]
    assert lines[2].startswith(
        "| otam | tiny |  | ssv2-full@otam-67k | aaaaaaaa | test | 2 | 1 | 1 | 4 | 0 | inductive"
    )
    assert main(["results", "runs", "--table"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("ssv2-full@otam-67k test (2 classes, videos aaaaaaaa), 4 episodes (seed 0), 1 query per")
    assert "| method | 2-way 1-shot | 10-way 5-shot |" in said and "93.8 ± 88.9 (2 training seeds: sd 8.8)" in said
    assert main(["results", "--compare", "runs/trx", "runs/plain"]) == 0
    out, wrong = capsys.readouterr()
    assert "| 2-way 1-shot | inductive | 93.8 | 62.5 | +31.25 |" in out and "mean of 2 results [runs/trx]" in out
    assert "10-way 5-shot inductive: only B has it" in wrong
    keep(runs / "plain", replace(RESULT, method="protonet"))
    assert main(["results", "--compare", "runs/trx", "runs/plain"]) == 2
    assert "B holds 2 kinds of results" in capsys.readouterr().err
    assert main(["results", "--compare", "runs/trx", "runs/plain", "--where", "method=otam"]) == 0
    assert "B: otam (tiny) [runs/plain]" in capsys.readouterr().out


def test_an_option_is_compared_with_its_default(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both values lie in one folder, as after `fsar evaluate --method otam otam:smoothing=0.5`."""
    small = {"smoothing": 1e-4, "per": "prototype"}
    keep(runs / "plain", replace(RESULT, options={**RESULT.options, **small}, changed=small, right=(0, 0, 0, 0)))
    words = ["results", "--compare", "runs/trx", "runs/plain", "--where"]
    for option in ("smoothing=1e-4", "smoothing=0.0001", "per=prototype"):
        assert main([*words, f"options.{option}"]) == 0
        assert "B: otam smoothing=0.0001, per=prototype (tiny) [runs/plain]" in capsys.readouterr().out
    assert main([*words, "options.per=video"]) == 0
    assert "B: otam (tiny) [runs/plain]" in capsys.readouterr().out


def test_rows_are_called_as_one_likes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All seeds of a row, wherever its name stands; and a label hides nothing."""
    names = ["--name", "runs/trx/0=TRX (ours)", "runs/plain=OTAM"]
    assert main(["results", "--table", *names]) == 0
    said = capsys.readouterr().out
    assert "| TRX (ours) | 93.8 ± 88.9 (2 training seeds: sd 8.8) |" in said and "| OTAM | 62.5" in said
    assert main(["results", "--compare", "runs/trx", "runs/plain", *names]) == 0
    assert "A: TRX (ours), mean of 2 results [runs/trx]; B: OTAM [runs/plain]" in capsys.readouterr().out
    assert main(["report", "runs", "--out", "page.html", *names]) == 0
    assert "OTAM</b>" in Path("page.html").read_text()
    unfinished = {**TRAINING, "unfinished_at": 11, "recipe": {**TRAINING["recipe"], "episodes": 20}}
    keep(runs / "early", replace(RESULT, training=unfinished, protocol="paper: selected on the test classes"))
    assert main(["results", "runs/early", "--table", "--name", "runs/early=Mine"]) == 0
    assert "| Mine, unfinished: 11 of 20 episodes [paper: selected on the test" in capsys.readouterr().out
    finished = {**unfinished, "unfinished_at": None}
    keep(runs / "early", replace(RESULT, training=finished, protocol="paper: selected on the test classes"))
    assert main(["results", "runs/early", "--table", "--name", "runs/early=Mine"]) == 0
    said = capsys.readouterr().out  # the finished run has the same label
    assert "| Mine, unfinished: 11 of 20 episodes [paper" in said and "| Mine [paper: selected on" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--name", "Mine"), "--name got 'Mine'; expected RUN=LABEL, as runs/ma=MA-FSAR"),
        (("--name", "runs/none=A"), "--name runs/none=A: none of these results is in runs/none"),
        (("--name", "runs=A"), "--name calls 2 rows 'A' (otam (tiny) | trx (tiny, trained on world 5-way 1-shot, "),
        (("--name", "runs/trx/0=A", "runs/trx/1=B"), "--name gives one row several names (A, B): trx (tiny, trained"),
        (("--caption", "A"), "--caption has no effect on markdown; add --format latex, or leave it out"),
        (("--label", "tab:a", "--format", "latex"), "--label is of one table, and these results make 2; narrow them"),
    ],
)
def test_names_that_fit_no_row_are_refused(
    words: tuple[str, ...], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--label" in words:
        keep(runs / "other", replace(RESULT, dataset="world"))
    assert main(["results", "--table", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_table_has_a_caption_and_a_label_of_its_own(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--caption", r"Accuracy on \emph{SSv2}.", "--label", "tab:main"]
    assert main(["results", "--table", "--format", "latex", *own]) == 0
    said = capsys.readouterr().out
    assert r"\caption{Accuracy on \emph{SSv2}.}" + "\n" + r"\label{tab:main}" in said
    assert said.splitlines()[1].startswith("% ssv2-full@otam-67k test (2 classes, videos aaaaaaaa), 4 episodes")


@pytest.mark.parametrize("form", ["markdown", "csv", "latex"])
@pytest.mark.parametrize("words", [(), ("--table",), ("--compare", "runs/trx", "runs/plain")])
def test_every_view_in_every_format(form: str, words: tuple[str, ...], runs: Path) -> None:
    assert main(["results", *words, "--format", form, "--out", "made/file"]) == 0
    text = (runs.parent / "made" / "file").read_text()
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert rows and all(None not in row and None not in row.values() for row in rows)
        if "--compare" in words:
            assert float(rows[0]["difference"]) == 0.3125 and rows[0]["episodes_fingerprint"] == "e" * 64
    else:
        assert text.count(r"\begin{tabular}") == (form == "latex") and "trx" in text


def test_evaluations_are_kept_listed_and_compared(
    tiny: Backbone,
    little_world: VideoDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A checkpoint's results lie in its run, once for each setting however often it is evaluated."""
    monkeypatch.chdir(tmp_path)
    save_pretrained(trained(tiny), tmp_path / "runs" / "ma" / "checkpoint", provenance(little_world))
    common = ["evaluate", "--data", str(little_world.videos[0].path.parents[1]), "--episodes", "20", "--device", "cpu"]
    for shots in (("1", "2"), ("1",)):
        assert main([*common, "--checkpoint", "runs/ma", "--add-to-card", "--shot", *shots]) == 0
    assert main([*common, "--method", "otam", "--out", "runs/otam"]) == 0
    files = sorted((tmp_path / "runs").rglob("*shot_*.json"))
    assert [file.parent.name for file in files] == ["results", "results", "otam"]
    one = Result.load(files[0])
    assert file_name(one) == files[0].name and len(one.right) == 20
    assert sum(one.right) / (20 * 5) == pytest.approx(one.accuracy)
    capsys.readouterr()
    assert main(["results", "--compare", "runs/ma", "runs/otam"]) == 0
    out, wrong = capsys.readouterr()
    assert "| 5-way 1-shot | inductive |" in out and "5-way 2-shot inductive: only A has it" in wrong
