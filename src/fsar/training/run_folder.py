"""The files of a training run, and how a killed run resumes.

recipe.yaml          every setting; running it again gives the same run
environment.json     versions, platform and device; another entry for each machine that resumed the run
left_out.json        copies, and videos that `drop_short` and `on_error: skip` left out; with the reason
log.jsonl            a line per step and per validation
tensorboard/         the same as curves
state.safetensors    from here a killed run resumes
checkpoint/          the best state (fsar/training/checkpoint.py)
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fsar.config import read_yaml
from fsar.datasets import VideoDataset
from fsar.datasets.features import clip_settings
from fsar.devices import device_name
from fsar.files import atomic_path, write_text_atomic
from fsar.results.identity import OF_THE_TEST, PLACES, WITHOUT_EFFECT
from fsar.results.result import environment, short_hash
from fsar.training.checkpoint import Provenance, save_pretrained
from fsar.training.parameters import group_of, trained_state
from fsar.training.recipes import Recipe
from fsar.training.standing import CHECKPOINT, RECIPE, STATE, STATE_HEADER, Standing, read_recipe, read_state

if TYPE_CHECKING:
    from fsar.training.setup import Setup

LOG, ENVIRONMENT, LEFT_OUT = "log.jsonl", "environment.json", "left_out.json"


class RunFolder:
    """The folder of a run. Every process reads it, and only the first one writes.

    Args:
        path: the folder.
        setup: the run.
    """

    def __init__(self, path: Path, setup: "Setup"):
        self.path, self.setup = path, setup
        self.writes = setup.fabric.is_global_zero
        self._curves: Any = None  # a SummaryWriter, once the run has begun

    def begin(self, standing: Standing) -> None:
        """Write recipe and environment, and cut the log back to the saved state."""
        if not self.writes:
            return
        from torch.utils.tensorboard import SummaryWriter

        write_text_atomic(self.path / RECIPE, self.setup.recipe.dump())
        self._tell_left_out()
        if not standing.finished(self.setup.recipe):
            _add_environment(self.path / ENVIRONMENT, self.setup.fabric.device)
        self._cut_log(standing.step)
        self._curves = SummaryWriter(str(self.path / "tensorboard"), purge_step=standing.step + 1)

    def close(self) -> None:
        """End the threads that write the curves."""
        if self._curves is not None:
            self._curves.close()

    def log(self, line: Mapping[str, Any]) -> None:
        """Add a line to the log, and its numbers to the curves."""
        if not self.writes:
            return
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if isinstance(value, float):
                self._curves.add_scalar(name, value, line["step"])
        for name, value in line.get("terms", {}).items():
            self._curves.add_scalar(f"terms/{name}", value, line["step"])

    def save(self, standing: Standing) -> None:
        """Write everything that a resumed run needs."""
        if not self.writes:
            return
        setup = self.setup
        tensors = {f"trained.{k}": v.detach().cpu().contiguous() for k, v in self._trained().items()}
        for name, parameter in setup.method.named_parameters():
            for key, value in setup.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"optimizer.{name}:{key}"] = torch.as_tensor(value).cpu().contiguous()
        header = {
            "step": standing.step,
            "best": standing.best,
            "since_best": standing.since_best,
            "train_set": _identity(setup.videos.train),
            "own": setup.method.origins(),
            "precision": setup.fabric.strategy.precision.state_dict(),
        }
        with atomic_path(self.path / STATE) as temporary:
            save_file(tensors, temporary, {STATE_HEADER: json.dumps(header)})

    def resume(self) -> Standing:
        """Load the saved state into method and optimiser, if there is one.

        Raises:
            ValueError: the state is damaged, or belongs to a run on other videos.
        """
        if not (self.path / STATE).is_file():
            return Standing()
        header, tensors = read_state(self.path / STATE)
        if header["train_set"] != _identity(self.setup.videos.train):
            raise ValueError(f"{self.path} holds a run on other training videos; choose another folder, or delete it")
        if header.get("own", {}) != self.setup.method.origins():
            raise ValueError(
                f"{self.path} holds a run of other code ({header.get('own')} there, {self.setup.method.origins()} "
                f"here); restore that version, choose another --out, or delete the folder"
            )
        own = {key.removeprefix("trained."): value for key, value in tensors.items() if key.startswith("trained.")}
        assert own.keys() == self._trained().keys()
        self.setup.method.load_state_dict(own, strict=False)
        self._resume_optimizer(tensors)
        self.setup.fabric.strategy.precision.load_state_dict(header["precision"])
        return Standing(header["step"], header["best"], header["since_best"])

    def keep(self, standing: Standing, *, selected: bool) -> None:
        """Write the present state as checkpoint.

        Args:
            standing: progress of the run.
            selected: whether validation chose the state; False if it is kept because it is the last one.
        """
        if self.writes:
            save_pretrained(self.setup.method, self.path / CHECKPOINT, _provenance(self.setup, standing, selected))

    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was written."""
        return (self.path / CHECKPOINT).is_dir()

    def _tell_left_out(self) -> None:
        left_out = self.setup.videos.left_out
        if left_out:
            write_text_atomic(self.path / LEFT_OUT, json.dumps(left_out, indent=1) + "\n")
        for name, reason in left_out.items():
            print(f"fsar: left out {name}: {reason}", file=sys.stderr)  # noqa: T201
        for note in self.setup.videos.notes:
            print(f"fsar: {note}", file=sys.stderr)  # noqa: T201

    def _cut_log(self, step: int) -> None:
        """Drop the lines after a step; the run will write them again."""
        kept = []
        if (self.path / LOG).is_file():
            lines = (self.path / LOG).read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= step]
        write_text_atomic(self.path / LOG, "".join(line + "\n" for line in kept))

    def _trained(self) -> dict[str, Tensor]:
        return trained_state(self.setup.method, self.setup.groups)

    def _resume_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = dict(self.setup.method.named_parameters())
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                name, _, part = key.removeprefix("optimizer.").partition(":")
                # Adam counts its steps on the CPU
                here = value if part == "step" else value.to(self.setup.fabric.device)
                self.setup.optimizer.state[parameters[name]][part] = here


def require_same_run(recipe: Recipe, folder: Path) -> None:
    """Check that a folder is new, or holds a run of this recipe. The videos may have moved: `resume` compares them.

    Raises:
        ValueError: it holds another run; the message names the keys that differ.
    """
    stored = read_recipe(folder)
    if stored is None:
        return
    found, wanted = (read_yaml(each.dump()) for each in (stored, recipe))
    free = (*WITHOUT_EFFECT, *OF_THE_TEST, *PLACES)
    differing = [key for key in wanted if key not in free and found[key] != wanted[key]]
    if differing:
        listed = "; ".join(f"{key} is {found[key]!r} there, {wanted[key]!r} here" for key in differing)
        raise ValueError(f"{folder} holds another run: {listed}. Give another --out, or delete that folder")


def parameter_counts(setup: "Setup") -> str:
    """Describe how many parameters train."""
    total = sum(p.numel() for p in setup.method.parameters())
    listed = ", ".join(f"{count:,} {group}" for group, count in _trained_parameters(setup).items())
    return f"trains {listed} of {total:,} parameters in all"


def _trained_parameters(setup: "Setup") -> dict[str, int]:
    """Group -> number of its parameters, with those of `loss_heads`."""
    sizes = [(group_of(name), p.numel()) for name, p in setup.method.named_parameters()]
    return {group: sum(size for other, size in sizes if other == group) for group in setup.groups}


def _provenance(setup: "Setup", standing: Standing, selected: bool) -> Provenance:
    """Build the provenance of the present state."""
    recipe, train_set, val_split = setup.recipe, setup.videos.train, setup.videos.val_split
    results, selection = [], "none: the last state was kept"
    if selected:
        selection = f"best of the validations every {recipe.val_every} episodes, on the {val_split} classes"
        results = [
            {
                "dataset": train_set.name,
                "split": val_split,
                "way": recipe.validation_way,
                "shot": recipe.validation_shot,
                "accuracy": standing.best["accuracy"],
                "ci95": standing.best["ci95"],
                "episodes": recipe.val_episodes,
            }
        ]
    return Provenance(
        groups=setup.groups,
        clip=clip_settings(train_set.videos, setup.cache),
        recipe=read_yaml(recipe.dump()),
        dataset=train_set.name,
        dataset_fingerprint=train_set.fingerprint(),
        files=_files(train_set),
        classes=train_set.classes,
        selection=selection,
        episodes=standing.step * recipe.episodes_per_step,
        results=tuple(results),
        trained_parameters=sum(_trained_parameters(setup).values()),
    )


def _identity(train_set: VideoDataset) -> str:
    """Which videos a run trains on."""
    return train_set.fingerprint() + _files(train_set)


def _files(train_set: VideoDataset) -> str:
    """Hash of features made elsewhere; empty for videos, whose ids stand for them."""
    contents = [(video.id, video.content) for video in train_set.videos if video.content]
    return short_hash(contents, 8) if contents else ""


def _add_environment(file: Path, device: torch.device) -> None:
    """Record the new environment if it differs from the last one."""
    name = device_name(device)
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    here = environment(name)
    if here not in known[-1:]:
        write_text_atomic(file, json.dumps([*known, here], indent=1) + "\n")


def _step_of(line: str) -> float:
    """Return the step of a log line; infinity for a line that a kill cut short."""
    try:
        return float(json.loads(line)["step"])
    except (KeyError, TypeError, ValueError):
        return float("inf")
