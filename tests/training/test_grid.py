"""Several seeds and swept values in one command: a folder of runs that resumes and ends with a table."""

import csv
from pathlib import Path

import numpy as np
import pytest

from fsar.cli import main
from fsar.datasets.features import save_features
from fsar.training.grid import cells
from fsar.training.loop import _Run

SHORT = ["way=2", "val_way=2", "episodes=4", "episodes_per_step=2", "val_every=2", "val_episodes=10", "workers=1",
         "options.out_dim=4", "accelerator=cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    label = np.repeat(["a", "b", "c", "d", "e", "f"], 4)
    rows = np.random.default_rng(0).normal(size=(24, 3, 8)).astype(np.float32)
    file = tmp_path_factory.mktemp("grid") / "features.npz"
    save_features(file, {"features": rows, "label": label, "split": np.repeat(["train", "val", "test"], 8)})
    return str(file)


def command(features: str, out: Path, *more: str) -> list[str]:
    settings = ["--features", features, "--out", str(out), "--set", *SHORT]
    return ["train", "--config", "trx/features", *settings, *more]


def test_a_grid_is_every_combination(
    features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = command(features, tmp_path / "grid", "--seed", "0", "1", "--sweep", "lr.own=1e-3,1e-2")
    step, taken = _Run._take_step, []

    def killed(run: _Run, number: int, loaded) -> str:
        taken.append(number)
        if len(taken) == 5:  # in the third of four runs
            raise KeyboardInterrupt
        return step(run, number, loaded)

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_take_step", killed)
        assert main(words) == 130
    assert main(words) == 0
    out = capsys.readouterr().out
    names = [f"lr.own={rate}_seed={seed}" for rate in ("1e-3", "1e-2") for seed in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "grid").iterdir()) == sorted([*names, "grid.csv", "grid.md"])
    with (tmp_path / "grid" / "grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == names and all(0 <= float(row["val_accuracy"]) <= 1 for row in rows)
    assert (rows[0]["lr.own"], rows[1]["seed"]) == ("1e-3", "1")
    mean = (float(rows[0]["val_accuracy"]) + float(rows[1]["val_accuracy"])) / 2
    assert f"| lr.own=1e-3 | {100 * mean:.1f} |" in out and out.splitlines()[2].count("|") == 6
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "grid").rglob("state.safetensors")}
    monkeypatch.setattr(_Run, "_take_step", lambda *parts: pytest.fail("a finished run is not run again"))
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in before}.keys() == before.keys()


def test_a_grid_is_evaluated_as_one(features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(features, tmp_path / "grid", "--seed", "0", "1")) == 0
    evaluate = ["evaluate", "--features", features, "--checkpoint", str(tmp_path / "grid"), "--way", "2"]
    assert main([*evaluate, "--episodes", "20", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "(2 training seeds: sd" in out and "95 % interval over training seeds and episodes" in out
    assert len(list((tmp_path / "grid").glob("seed=*/results/*.json"))) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sweep", "lr.own"], "--sweep got 'lr.own'; expected KEY=VALUE,VALUE"),
        (["--sweep", "lr.own=1e-3", "lr.own=1e-4"], "with each key once"),
        (["--sweep", "shot=1,1"], "expected each value once"),
        (["--sweep", "seed=0,1"], "use --seed 0 1 2"),
        (["--seed", "1", "1"], "expected each seed once"),
        (["--sweep", "sot=1,5"], "unknown recipe key 'sot'; did you mean 'shot'"),
        (["--sweep", "shot=1,0"], "shot is 0; expected at least 1"),
    ],
)
def test_mistakes_come_before_the_first_run(
    more: list[str], message: str, features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(features, tmp_path / "grid", *more)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "grid").exists()


def test_a_list_is_one_value() -> None:
    assert [cell.name for cell in cells(["options.cardinalities=[2],[2,3]"], [])] == [
        "options.cardinalities=[2]", "options.cardinalities=[2,3]"
    ]  # fmt: skip


def test_a_grid_does_not_mix_with_a_run(features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(features, tmp_path / "run", "--seed", "3")) == 0
    assert main(command(features, tmp_path / "run", "--seed", "0", "1")) == 2
    assert "holds a single run of trx; choose another --out" in capsys.readouterr().err
