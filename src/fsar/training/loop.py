"""Episodic training: recipe + labelled videos -> a folder with the best state on the val classes.

    for each step:
        for each of its episodes:  clips -> encode -> match -> loss -> gradients
        average the gradients, take a step; at intervals, validate and keep the best state

Everything random in an episode (videos, frames, crops, templates, dropout) depends only on (seed, number of the
episode). So a run is the same on any number of threads and devices, and a resumed run equals an uninterrupted one.
`setup` prepares a run, `validation` measures it, and `run_folder` keeps it on disk.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from fsar.datasets import VideoDataset
from fsar.devices import peak_memory
from fsar.progress import ahead, progress_bar
from fsar.training.loader import Loaded
from fsar.training.lock import sole_owner
from fsar.training.parameters import RunningStatistics
from fsar.training.recipes import Recipe
from fsar.training.run_folder import RunFolder, parameter_counts, require_same_run
from fsar.training.setup import Setup, for_features, make_fabric, prepare

SAVE_EVERY = 60.0
"""Seconds between saved states; does not change a result."""


def train(recipe: Recipe, dataset: VideoDataset, folder: Path, progress: bool = True) -> None:
    """Train on the train classes of a dataset, and select on its val classes (see `Recipe.protocol`).

    To resume after a kill, call it again with the same arguments; a finished run is not changed.
    `load_pretrained(folder)` loads the kept state.

    Args:
        recipe: every setting of the run.
        dataset: labelled videos with splits.
        folder: for the files of the run (see `fsar.training.run_folder`).
        progress: show progress bars.

    Raises:
        ValueError: the dataset has no such splits; the method has nothing to train; `folder` holds another run, or
            another process trains in it.

    Example:
        A few minutes on a laptop::

            from fsar import load_pretrained, load_world
            from fsar.training import load_recipe, train

            train(load_recipe("trx/world"), load_world(), Path("runs/trx"))
            method = load_pretrained("runs/trx")
    """
    recipe = for_features(recipe, dataset)
    require_same_run(recipe, folder)
    fabric = make_fabric(recipe)
    fabric.launch()
    with ExitStack() as stack:
        _lock(fabric, folder, stack)
        setup = prepare(fabric, recipe, dataset, progress)
        _Run(setup, stack.enter_context(closing(RunFolder(folder, setup)))).go()
        fabric.barrier()


def _lock(fabric: Fabric, folder: Path, stack: ExitStack) -> None:
    """The first process locks the folder; if it cannot, all processes stop."""
    refusal = ""
    if fabric.is_global_zero:
        try:
            stack.enter_context(sole_owner(folder))
        except ValueError as error:
            refusal = str(error)
    refusal = fabric.broadcast(refusal)
    if refusal:
        raise ValueError(refusal)


class _Run:
    """The loop of one process."""

    def __init__(self, setup: Setup, folder: RunFolder):
        self.setup, self.folder = setup, folder
        self.fabric, self.recipe, self.method = setup.fabric, setup.recipe, setup.method
        self.standing = folder.resume()

    def go(self) -> None:
        """Train from the saved state to the end."""
        standing, recipe = self.standing, self.recipe
        self.folder.begin(standing)
        if self.setup.shows:
            print(f"fsar: {parameter_counts(self.setup)}", file=sys.stderr)  # noqa: T201
        saved, begun_at = time.monotonic(), standing.step
        loaded = ahead(self.setup.loader.load, self._my_episodes(), recipe.workers or torch.get_num_threads())
        steps = range(standing.step, recipe.steps)
        if self.setup.shows and 0 < begun_at < recipe.steps:
            print(f"fsar: resumes after step {begun_at:,} of {recipe.steps:,}", file=sys.stderr)  # noqa: T201
        bar = progress_bar(steps, f"train {recipe.method}", "step", recipe.steps, self.setup.shows, begun_at)
        for step in bar:
            if standing.stopped_early(recipe):
                break
            bar.set_postfix_str(self._take_step(step, loaded), refresh=False)
            standing.step = step + 1
            if self._validate_if_due() or time.monotonic() - saved > SAVE_EVERY:
                self.folder.save(standing)
                saved = time.monotonic()
        self.folder.save(standing)
        if self.setup.validation is None and (standing.step > begun_at or not self.folder.has_checkpoint()):
            self.folder.keep(standing, selected=False)

    def _my_episodes(self) -> Iterator[int]:
        """Yield the numbers of this process's episodes, from the saved state."""
        per_step = self.recipe.episodes_per_step
        numbers = range(self.standing.step * per_step, self.recipe.steps * per_step)
        world, rank = self.fabric.world_size, self.fabric.global_rank
        return (number for number in numbers if number % world == rank)

    def _take_step(self, step: int, loaded: Iterator[Loaded]) -> str:
        """Run the episodes of a step and update the parameters; return the numbers for the progress bar."""
        begun = time.perf_counter()
        values = self._accumulate_gradients(step, loaded)
        for group in self.setup.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self.recipe.rate(step)
        if self.recipe.clip_norm is not None:
            self.fabric.clip_gradients(
                self.setup.module, self.setup.stepper, max_norm=self.recipe.clip_norm, error_if_nonfinite=False
            )
        self.setup.stepper.step()
        self.setup.stepper.zero_grad()
        return self._log_step(step, values, begun)

    def _accumulate_gradients(self, step: int, loaded: Iterator[Loaded]) -> dict[str, Tensor]:
        """Sum the gradients of this process's episodes of a step; return mean terms of the loss, and accuracy."""
        self.method.train()
        if "visual" not in self.setup.groups:
            self.method.backbone.eval()  # no dropout in frozen modules
        world, rank = self.fabric.world_size, self.fabric.global_rank
        own = self.recipe.episodes_per_step // world
        means: dict[str, Tensor] = {}
        statistics = RunningStatistics(self.method)
        for i in range(own):
            statistics.rewind()
            number = step * self.recipe.episodes_per_step + i * world + rank
            inputs = self._inputs(next(loaded), number)
            torch.manual_seed(int(np.random.SeedSequence((self.recipe.seed, number)).generate_state(1)[0]))
            with self.fabric.no_backward_sync(self.setup.module, enabled=i < own - 1):
                terms, right = self.setup.module(*inputs)
                statistics.collect(own)  # before activations are computed again, which would move them again
                self.fabric.backward(sum(terms.values(), torch.zeros((), device=self.fabric.device)) / own)
            for name, value in {**terms, "accuracy": right}.items():
                means[name] = means.get(name, 0) + value.detach() / own
        statistics.settle(self.fabric.all_reduce)
        return means

    def _inputs(self, loaded: Loaded, number: int) -> tuple[Any, ...]:
        """Return the arguments of `EpisodeLoss`, on the device; class texts have the template of the episode."""
        text = None
        if self.method.traits.reads_text:
            rng = np.random.default_rng((self.recipe.seed, number, 0))
            texts = self.setup.videos.train.texts
            text = self.method.text_input([texts[label] for label in loaded.labels], rng)[None]
        here, targets = self.fabric.to_device, loaded.targets
        inputs = (loaded.support, loaded.query, text, targets.query_way, targets.way_class, loaded.draws)
        return tuple(None if part is None else here(part) for part in inputs)

    def _validate_if_due(self) -> bool:
        """Validate if it is due, and keep the state if it is the best so far; return whether it was due."""
        validation, standing = self.setup.validation, self.standing
        if validation is None or not validation.due(standing.step):
            return False
        measured = validation.accuracy(self.method) if self.fabric.is_global_zero else (0.0, 0.0)
        mean, ci95 = self.fabric.broadcast(measured)
        if standing.add_validation(mean, ci95, standing.step * self.recipe.episodes_per_step):
            self.folder.keep(standing, selected=True)
        self.folder.log({"step": standing.step, "val_accuracy": mean, "val_ci95": ci95})
        return True

    def _log_step(self, step: int, values: Mapping[str, Tensor], begun: float) -> str:
        """Average over processes, write the log line of a step; return the numbers for the progress bar."""
        names = sorted(values)
        means = self.fabric.all_reduce(torch.stack([values[name].float() for name in names]), reduce_op="mean")
        assert isinstance(means, Tensor)
        terms = dict(zip(names, means.tolist(), strict=True))
        seconds = time.perf_counter() - begun  # reading the values has waited for the device
        right = terms.pop("accuracy")
        loss, memory = sum(terms.values()), peak_memory()
        if not np.isfinite(loss):
            raise ValueError(f"the loss became {loss} at step {step + 1} ({terms}); lower lr, or set clip_norm")
        line = {"step": step + 1, "loss": loss, "terms": terms, "accuracy": right, "rate": self.recipe.rate(step)}
        self.folder.log(line | {"seconds": round(seconds, 4), "memory_gb": round(memory, 3)})
        return f"loss {loss:.3f}, accuracy {100 * right:.0f} %, {memory:.1f} GB"
