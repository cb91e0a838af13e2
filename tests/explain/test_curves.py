"""Curves and bars: places on the axis, joined seeds, paired differences, sweeps of an option."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from fsar import build_method, cli
from fsar.backbones.clip import ClipBackbone
from fsar.cli.evaluate import _swept
from fsar.datasets import VideoDataset
from fsar.explain.curves import classes_picture, curves_picture, place_of, reliability_picture, trained_parameters
from fsar.explain.picture import Picture, save_picture
from fsar.recognizer.score import Bin
from fsar.results.result import Result
from fsar.results.tables import joined
from tests.results.test_results import RESULT, TRAINING


def test_curves_over_shots_and_options() -> None:
    """Each curve has one method; what the axis shows is no part of its name."""
    results = [
        replace(RESULT, shot=shot, accuracy=shot / 10, changed={"smoothing": s}, options={"smoothing": s})
        for shot in (1, 5)
        for s in (0.1, 0.5)
    ]
    shots = curves_picture(results, "shot").data
    assert shots["shot"].tolist() == [1, 5, 1, 5] and len(set(shots["curve"])) == 2
    smoothing = curves_picture(results, "smoothing").data
    assert smoothing["smoothing"].tolist() == [0.1, 0.5, 0.1, 0.5]
    assert sorted(set(smoothing["curve"])) == [
        f"otam (tiny) on ssv2-full@otam-67k 2-way {shot}-shot" for shot in (1, 5)
    ]
    assert smoothing["accuracy"].tolist() == [10.0, 10.0, 50.0, 50.0]
    np.testing.assert_allclose(smoothing["ci95"], [100 * joined([results[0]])[0].ci95] * 4)
    picture = curves_picture(results, "shot")
    (legend,) = picture.figure.legends
    names = [f"otam smoothing={s} (tiny) on ssv2-full@otam-67k 2-way" for s in (0.1, 0.5)]
    assert [text.get_text() for text in legend.get_texts()] == names
    assert picture.title == "Accuracy over shot: ssv2-full@otam-67k 2-way"
    assert place_of(replace(RESULT, options={"templates": "clip-spm:4"}), "templates") == 4
    with pytest.raises(ValueError, match="no result has a number 'depth'"):
        curves_picture(results, "depth")


def test_trainings_of_a_sweep_are_one_curve() -> None:
    """The number on the axis is another in each recipe, so each recipe has another hash."""

    def trained(weight: float, shot: int = 1) -> Result:
        options = {"distill_weight": weight}
        recipe = {**TRAINING["recipe"], "episodes": 1600, "options": options}
        training = {**TRAINING, "recipe": recipe, "unfinished_at": 40}
        result = replace(RESULT, method="clip-mdmf", options=options, changed=options, training=training, shot=shot)
        return replace(result, accuracy=0.3 + weight / 10)

    picture = curves_picture([trained(1), trained(0.5), trained(0)], "distill_weight")
    assert picture.data["distill_weight"].tolist() == [0, 0.5, 1] and len(set(picture.data["curve"])) == 1
    np.testing.assert_allclose(picture.data["accuracy"], [30, 35, 40])
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["clip-mdmf, unfinished: 40 of 1,600 episodes"]
    both = curves_picture([trained(0), trained(0, shot=5)], "distill_weight")
    said = [" ".join(text.get_text().split()) for text in both.figure.legends[0].get_texts()]
    assert [words.partition("episodes, ")[2] for words in said] == [
        f"ssv2-full@otam-67k 2-way {shot}-shot" for shot in (1, 5)
    ]


def test_svg_has_one_title_and_one_description(tmp_path: Path) -> None:
    """Programs that read a picture aloud take the first children of its root."""
    picture = replace(curves_picture([RESULT], "shot"), title="a < b", words="b & c")
    save_picture(picture, tmp_path / "curve.svg")
    root = ElementTree.parse(tmp_path / "curve.svg").getroot()
    said = [(one.tag.rpartition("}")[2], one.text) for one in root if one.tag.endswith(("}title", "}desc"))]
    assert said == [("title", "a < b"), ("desc", "b & c")] and root.get("role") == "img"


def test_trained_parameters_are_those_of_the_groups(small_for_tiny: ClipBackbone) -> None:
    training = {**TRAINING, "groups": ["own"]}
    built = build_method("ma-fsar", small_for_tiny, hidden=8)
    own = sum(p.numel() for name, p in built.named_parameters() if not name.startswith("backbone."))
    result = replace(RESULT, method="ma-fsar", options=built.options(), training=training)
    assert trained_parameters(result) == own
    assert trained_parameters(replace(result, training={**training, "trained_parameters": 0})) == own  # older versions
    assert trained_parameters(replace(result, training={**training, "trained_parameters": own + 7})) == own + 7
    assert trained_parameters(RESULT) == 0
    picture = curves_picture([result, RESULT], "parameters")
    assert sorted(picture.data["parameters"].tolist()) == [0, own]
    assert f"ma-fsar: 62.5 % with {own:,} trained parameters" in picture.words


def test_classes_are_compared_in_pairs() -> None:
    def answers(right: list[list[int]]) -> dict[str, object]:
        actual = [[0, 1]] * 4
        return {"video_ids": [], "classes": ["clap", "wave"], "query": [], "actual": actual, "predicted": right}

    a = replace(RESULT, predictions=answers([[0, 1], [0, 0], [0, 1], [1, 0]]), per_class={"clap": 0.75, "wave": 0.5})
    b = replace(RESULT, predictions=answers([[1, 1], [0, 0], [1, 1], [1, 0]]), per_class={"clap": 0.25, "wave": 0.5})
    picture = classes_picture(a, b, ("a", "b"))
    data = picture.data
    assert data["class"].tolist() == ["clap", "wave"]
    assert data["accuracy of a in percent"].tolist() == [75.0, 50.0] and data["accuracy of b in percent"].tolist() == [
        25.0,
        50.0,
    ]
    assert data["difference in points"].tolist() == [50.0, 0.0]
    np.testing.assert_allclose(data["half interval in points"], [196 * np.std([1, 0, 1, 0], ddof=1) / 2, 0])
    assert difference_label(picture) == "a minus b, points (95 % interval)" and "interval" not in picture.words
    alone = classes_picture(a, replace(b, predictions=None), ("a", "b"))
    assert difference_label(alone) == "a minus b, points (no intervals: need --predictions)"
    assert alone.words.endswith("The differences have no intervals: evaluate both with --predictions.")
    with pytest.raises(ValueError, match="other episodes"):
        classes_picture(a, replace(b, episodes_fingerprint="f"), ("a", "b"))


def difference_label(picture: Picture) -> str:
    return " ".join(picture.figure.axes[1].get_xlabel().split())


def saved(path: Path, **changes: Any) -> str:
    replace(RESULT, **changes).save(path)
    return str(path)


def drawn_classes(a: str, b: str, folder: Path) -> list[str]:
    """The first row of the numbers that `fsar explain classes` writes."""
    assert cli.main(["explain", "classes", a, b, "--out", str(folder / "classes.svg")]) == 0
    return (folder / "classes.csv").read_text().splitlines()[0].split(",")


def said_of_classes(a: str, b: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What `fsar explain classes` prints."""
    cli.main(["explain", "classes", a, b, *options, "--out", str(Path(a).with_suffix(".svg"))])
    said = capsys.readouterr()
    return said.out + said.err


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"method": "trx"}, ["otam", "trx"]),
        ({"options": {"per": "frame"}, "changed": {"per": "frame"}}, ["otam per=video", "otam per=frame"]),
        ({"accuracy": 0.5}, ["otam (q1)", "otam (q2)"]),
    ],
)
def test_runs_of_one_folder_name_are_told_apart(changes: dict[str, Any], names: list[str], tmp_path: Path) -> None:
    a = saved(tmp_path / "q1" / "results" / "one.json")
    b = saved(tmp_path / "q2" / "results" / "one.json", **changes)
    header = drawn_classes(str(Path(a).parent), str(Path(b).parent), tmp_path)
    assert header[1:3] == [f"accuracy of {name} in percent" for name in names]


def test_files_of_one_folder_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = saved(tmp_path / "one.json"), saved(tmp_path / "two.json", accuracy=0.5)
    assert len(set(drawn_classes(a, b, tmp_path))) == 5
    assert "by class: otam (one) and otam (two)" in capsys.readouterr().out
    assert cli.main(["explain", "classes", a, a, "--out", str(tmp_path / "same.svg")]) == 2
    assert "hold the same result (one.json); expected two different ones" in capsys.readouterr().err


def test_transductive_results_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with both modes gives the inductive result; one with a transductive result alone gives that."""
    modes = {"options": {"inductive": False}, "transductive": True}
    a, b = (saved(tmp_path / method / "both.json", **modes, method=method) for method in ("otam", "hyrsm"))
    assert drawn_classes(a, b, tmp_path)[1:3] == ["accuracy of otam in percent", "accuracy of hyrsm in percent"]
    assert "otam and hyrsm, 2-way 1-shot, transductive." in capsys.readouterr().out
    saved(tmp_path / "otam" / "single.json", options={"inductive": True})
    assert "by class: otam, transductive and otam, inductive" in said_of_classes(a, str(Path(a).parent), capsys)


def test_results_that_are_not_there_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    a = saved(tmp_path / "run" / "a.json")
    empty = str(tmp_path / "empty")
    assert "there are no results in " + empty in said_of_classes(a, empty, capsys)
    assert cli.main(["explain", "curves", empty, "--out", str(tmp_path / "curve.svg")]) == 2
    assert f"there are no results in {empty}; `fsar evaluate" in capsys.readouterr().err
    assert "no result of --way 3 --shot any; it has 2-way 1-shot" in said_of_classes(a, a, capsys, "--way", "3")
    saved(tmp_path / "run" / "b.json", changed={"per": "frame"})
    said = said_of_classes(a, str(tmp_path / "run"), capsys)
    assert "several results (otam (tiny) 2-way 1-shot | otam per=frame (tiny) 2-way 1-shot); choose" in said


def test_reliability_has_all_answers() -> None:
    bins = [Bin(0.5, 0.6, 4, 0.55, 0.5, 0.2), Bin(0.9, 1.0, 6, 0.95, 1.0, 0.1)]
    picture = reliability_picture(bins, "mine.fsar", 0.05)
    assert "10 answers, expected calibration error 0.050" in picture.words
    assert picture.data["mean probability"].tolist() == [0.55, 0.95]
    assert picture.data["share right"].tolist() == [0.5, 1.0]
    np.testing.assert_allclose(picture.data["expected share low"], [0.55 - 1.96 * 0.2, 0.95 - 1.96 * 0.1], rtol=1e-4)
    np.testing.assert_allclose(picture.data["expected share high"], [0.55 + 1.96 * 0.2, 1.0], rtol=1e-4)
    assert picture.figure.get_suptitle() == "mine.fsar\nexpected calibration error 0.050"
    assert reliability_picture(bins, "mine.fsar", None).figure.get_suptitle() == "mine.fsar"
    with pytest.raises(ValueError, match="no answers to draw"):
        reliability_picture([], "mine.fsar", None)


def test_sweeps_name_each_value() -> None:
    assert _swept("ma-fsar", "alpha=0:0.3:0.1") == [f"ma-fsar:alpha={v}" for v in ("0", "0.1", "0.2", "0.3")]
    assert _swept("runs/ma:readout=mix", "alpha=0.5,1") == [f"runs/ma:readout=mix,alpha={v}" for v in ("0.5", "1")]
    assert _swept("hf-hub:me/mine", "alpha=1")[0] == "hf-hub:me/mine:alpha=1"
    assert _swept("clip-spm", "templates=clip-spm:2,clip-spm:4")[1] == "clip-spm:templates=clip-spm:4"
    for wrong in ("alpha", "alpha=", "=1", "alpha=1:0:0.1", "alpha=0:1:0", "alpha=0.1,"):
        with pytest.raises(ValueError, match="FROM:TO:STEP"):
            _swept("otam", wrong)


def test_from_a_sweep_to_a_curve(
    small_for_tiny: ClipBackbone, little_world: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, out = str(little_world.videos[0].path.parents[1]), str(tmp_path / "out")
    words = ["evaluate", "--data", home, "--method", "otam", "--sweep", "smoothing=0.1,0.5", "--frames", "2"]
    assert cli.main([*words, "--way", "2", "--episodes", "5", "--out", out, "--device", "cpu"]) == 0
    picture = str(tmp_path / "curve.svg")
    assert cli.main(["explain", "curves", out, "--x", "smoothing", "--out", picture]) == 0, capsys.readouterr().err
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert rows[0] == "curve,smoothing,accuracy,ci95" and len(rows) == 3
