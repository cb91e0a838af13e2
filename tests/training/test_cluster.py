"""A Slurm cluster, simulated: who starts the processes, and the packaged sbatch script on two tasks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

from fsar.datasets.features import save_features
from fsar.training.recipes import Recipe, load_recipe
from fsar.training.setup import cluster_environment
from tests.processes import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.sbatch"
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fsar", "SLURM_NNODES": "1"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}


def recipe_of(devices: int, nodes: int = 1) -> Recipe:
    return load_recipe("trx/world", [f"devices={devices}", f"nodes={nodes}"])


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "")  # so that what is set in the test is taken back
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")


def test_one_task_starts_the_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In `sbatch --ntasks=1` all GPUs of the machine are used, with `srun` or without."""
    assert cluster_environment(recipe_of(2)) is None
    for job in (BATCH, BATCH | STEP | {"SLURM_STEP_NUM_TASKS": "1"}):
        with monkeypatch.context() as patch:
            for name, value in job.items():
                patch.setenv(name, value)
            assert isinstance(cluster_environment(recipe_of(2)), LightningEnvironment)
            assert isinstance(cluster_environment(recipe_of(1)), LightningEnvironment)
            patch.setenv("TORCHELASTIC_RUN_ID", "1")
            assert cluster_environment(recipe_of(2)) is None


def test_slurm_starts_one_task_per_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (BATCH | STEP | {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}).items():
        monkeypatch.setenv(name, value)
    found = cluster_environment(recipe_of(4, nodes=2))
    assert isinstance(found, SLURMEnvironment) and found.world_size() == 8


@pytest.mark.parametrize(("tasks", "devices", "nodes"), [(2, 1, 1), (4, 8, 1), (1, 4, 2)])
def test_another_number_of_tasks_is_refused(
    tasks: int, devices: int, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`srun` with two tasks and no --devices would train twice in one folder."""
    for name, value in (BATCH | STEP | {"SLURM_STEP_NUM_TASKS": str(tasks)}).items():
        monkeypatch.setenv(name, value)
    message = rf"Slurm started {tasks} tasks for a run on {nodes} x {devices} devices. .*--ntasks-per-node={devices}"
    with pytest.raises(ValueError, match=message):
        cluster_environment(recipe_of(devices, nodes))


SRUN = """#!/bin/bash
# srun, simulated: starts the tasks that the job asks for, each with its number; if one fails, it ends the others
export SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=$SLURM_NTASKS MASTER_PORT=%d
ranks=$(seq 0 $((SLURM_NTASKS - 1)))
for rank in $ranks; do SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NODEID=0 "$@" & done
for rank in $ranks; do wait -n || { kill $(jobs -p); exit 1; }; done
"""


@pytest.mark.slow
def test_the_sbatch_script_trains_on_every_task(tmp_path: Path) -> None:
    options = dict(line.split(maxsplit=1)[1].split("=") for line in SCRIPT.read_text().splitlines()
                   if line.startswith("#SBATCH") and "=" in line)  # fmt: skip
    assert options["--ntasks-per-node"] == options["--gpus-per-node"]
    label = np.repeat(["a", "b", "c", "d"], 4)
    rows = np.random.default_rng(0).normal(size=(16, 3, 8)).astype(np.float32)
    save_features(tmp_path / "rows.npz", {"features": rows, "label": label, "split": np.repeat(["train", "val"], 8)})
    tools = tmp_path / "bin"
    tools.mkdir()
    fsar = f'#!/bin/bash\nexec {sys.executable} -m fsar.cli "$@"\n'
    for name, text in (("srun", SRUN % free_port()), ("fsar", fsar)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job = {**BATCH, "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "PATH": f"{tools}:{os.environ['PATH']}"}
    settings = ["way=2", "val_way=2", "episodes=8", "episodes_per_step=2", "val_every=4", "val_episodes=10",
                "options.out_dim=4", "accelerator=cpu"]  # fmt: skip
    command = ["--config", "trx/features", "--features", str(tmp_path / "rows.npz"), "--set", *settings, "--out"]
    done = subprocess.run(
        ["bash", str(SCRIPT), *command, str(tmp_path / "run")],
        env={**os.environ, **job}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "loss" in line] == [1, 2, 3, 4]  # one log, of one run
    assert "devices: 2" in (tmp_path / "run" / "recipe.yaml").read_text()
