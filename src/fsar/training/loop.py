"""Episodic training: recipe + labelled videos -> a folder with the state that did best on the val classes.

    for each step:
        for each of its episodes:  clips -> encode -> match -> loss -> gradients
        average the gradients, take a step; now and then validate, and keep the best

Everything random about an episode (its videos, frames, crops, templates, dropout) is drawn from (seed, number of
the episode). So a run is the same on any number of threads and devices, and goes on after a kill as if nothing had
happened. A run's folder:

    recipe.yaml          every setting; running it again gives the same run
    environment.json     versions, platform and device; one entry more where a killed run went on elsewhere
    left_out.json        videos that `drop_short` and `on_error: skip` left out, and why
    log.jsonl            a line per step and per validation
    tensorboard/         the same as curves
    state.safetensors    where a killed run goes on
    checkpoint/          the best state (fsar/training/checkpoint.py)
"""

import json
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from fsar.backbones import load_backbone
from fsar.bank.fill import fill_bank
from fsar.datasets import Video, VideoDataset
from fsar.datasets.check import broken_videos, short_videos
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.loop import accuracy, match_from_bank
from fsar.files import atomic_path, write_text_atomic
from fsar.methods import build_method
from fsar.methods.base import Encoding, Episode, Method, Targets
from fsar.progress import ahead, progress_bar
from fsar.results.result import environment
from fsar.training.checkpoint import Provenance, save_pretrained
from fsar.training.loader import EpisodeLoader, Loaded
from fsar.training.parameters import RunningStatistics, freeze, group_of, make_optimizer, trained_groups, trained_state
from fsar.training.recipes import Recipe, parse_recipe
from fsar.video.frame_cache import FrameCache

SAVE_EVERY = 60.0
"""Seconds between saved states; never changes a result."""
RECIPE, LOG, STATE, CHECKPOINT = "recipe.yaml", "log.jsonl", "state.safetensors", "checkpoint"
ENVIRONMENT, LEFT_OUT = "environment.json", "left_out.json"
_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16-mixed": "16-mixed",
}
_FREE = ("devices", "nodes", "workers", "checkpoint_activations")  # change no result


def train(recipe: Recipe, dataset: VideoDataset, folder: Path, progress: bool = True) -> None:
    """Train by a recipe on the train classes of a dataset, selecting on its val classes (see `Recipe.protocol`).

    Call it again with the same arguments to go on after a kill; of a finished run nothing is done again.
    `load_pretrained(folder)` gives the method as kept.

    Raises:
        ValueError: the dataset has no such splits, the method nothing to train, or `folder` holds another run.
    """
    _require_same_run(recipe, folder)
    try:
        fabric = Fabric(
            accelerator=recipe.accelerator,
            devices=recipe.devices,
            num_nodes=recipe.nodes,
            strategy="ddp_find_unused_parameters_true" if recipe.devices * recipe.nodes > 1 else "auto",
            precision=_PRECISIONS[recipe.precision],
        )
    except (RuntimeError, TypeError, ValueError, MisconfigurationException) as error:
        raise ValueError(
            f"cannot run on accelerator {recipe.accelerator!r} with {recipe.devices} devices: {error}. "
            f"Lower devices, or set accelerator=cpu"
        ) from error
    fabric.launch()
    backbone = load_backbone(recipe.backbone, recipe.freeze_batch_norm)
    method = build_method(recipe.method, backbone, init_seed=recipe.seed, **recipe.options)
    _Run(fabric, recipe, dataset, method, folder, progress).go()
    fabric.barrier()


class EpisodeLoss(nn.Module):
    """Encode, match and loss in one forward pass: what a device runs, and what is wrapped for several."""

    def __init__(self, method: Method):
        super().__init__()
        self.method = method

    def forward(
        self,
        support: Tensor | Encoding,
        query: Tensor | Encoding,
        text: Tensor | None,
        query_way: Int[Tensor, "episode query"],
        way_class: Int[Tensor, "episode way"],
        draws: Float[Tensor, "episode query way"] | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the loss, and the share of queries named right; of clips, or of encodings begun in a bank."""
        text = None if text is None else self.method.adapt_text(text)
        if isinstance(support, Tensor) and isinstance(query, Tensor):
            episode = self.method.encode_episode(support, query, text, draws)
        else:
            assert not isinstance(support, Tensor) and not isinstance(query, Tensor)
            episode = self._from_bank(support, query, text, draws)
        prediction = self.method.match(episode)
        right = (prediction.logits.argmax(-1) == query_way).float().mean()
        return self.method.loss(episode, prediction, Targets(query_way, way_class)), right

    def _from_bank(
        self, support: Encoding, query: Encoding, text: Tensor | None, draws: Float[Tensor, "episode query way"] | None
    ) -> Episode:
        shape = next(iter(support.values())).shape[:3]
        mask = torch.ones(shape, dtype=torch.bool, device=self.method.device)
        enhanced = self.method.enhance(support, "support", self.method.text_of_shots(text, shape[-1]))
        return Episode(enhanced, self.method.enhance(query, "query"), mask, text, draws)


class _Run:
    """One training run on one process."""

    def __init__(
        self, fabric: Fabric, recipe: Recipe, dataset: VideoDataset, method: Method, folder: Path, progress: bool
    ):
        self.fabric, self.recipe, self.method, self.folder = fabric, recipe, method, folder
        dataset = dataset if recipe.resplit is None else dataset.resplit(recipe.resplit)
        self.val_split = "val" if recipe.protocol == "clean" else "test"
        read = [video for video in dataset.videos if dataset.splits.get(video.label) in ("train", self.val_split)]
        self.left_out = _to_leave_out(recipe, read, progress)
        dataset = dataset.without(self.left_out)
        self.train_set = dataset.split("train")
        self.val_set = dataset.split(self.val_split) if recipe.val_every else None
        if self.val_set is not None:  # at once, since drawing may be impossible
            way, shot = recipe.val_way or recipe.way, recipe.val_shot or recipe.shot
            self.val_sampler = EpisodeSampler(dataset=self.val_set, way=way, shot=shot)
        for videos in (self.train_set, self.val_set or self.train_set):
            method.check_texts([videos.texts[label] for label in videos.classes])
        self.shows = progress and fabric.is_global_zero
        self.groups = trained_groups(recipe, method)
        self.cache = FrameCache.of_clip(recipe.clip)
        self.encoder_is_frozen = method.encoder().is_frozen and "visual" not in self.groups
        method.to(fabric.device)
        bank = None
        if recipe.from_bank:
            _require_frozen_encoder(method, self.encoder_is_frozen)
            if not fabric.is_global_zero:
                fabric.barrier()  # the first process encodes, the others read what it wrote
            bank = fill_bank(method, self.train_set.videos, None, self.cache, progress=self.shows, enhance=False)
            if fabric.is_global_zero:
                fabric.barrier()
        self.loader = EpisodeLoader(recipe, self.train_set, method, bank)
        self.classes = self.train_set.classes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            method.begin_training([self.train_set.texts[label] for label in self.classes])
        freeze(method, self.groups)
        if recipe.checkpoint_activations:
            method.backbone.checkpoint_activations()
        self.optimizer = make_optimizer(recipe, method)
        module: Any = EpisodeLoss(method)
        if recipe.compile:
            module = torch.compile(module)
        self.module, self.stepper = fabric.setup(module, self.optimizer)
        self.step = 0
        self.best: dict[str, Any] = {"accuracy": -1.0, "ci95": 0.0, "episodes": 0}
        self.since_best = 0

    # ------------------------------------------------------------------- the loop

    def go(self) -> None:
        """Train from where the folder stands to the end."""
        self._resume()
        if self.fabric.is_global_zero:
            self._begin_folder()
        saved, begun_at = time.monotonic(), self.step
        numbers = self._my_episodes()
        loaded = ahead(self.loader.load, numbers, self.recipe.workers or torch.get_num_threads())
        steps = range(self.step, self.recipe.steps)
        bar = progress_bar(steps, f"train {self.recipe.method}", "step", len(steps), self.shows)
        for step in bar:
            if self._stopped():
                break
            bar.set_postfix_str(self._take_step(step, loaded), refresh=False)
            self.step = step + 1
            if self._validation_due():
                self._validate()
                saved = time.monotonic()
            if time.monotonic() - saved > SAVE_EVERY:
                self._save()
                saved = time.monotonic()
        self._save()
        if self.val_set is None and (self.step > begun_at or not (self.folder / CHECKPOINT).is_dir()):
            self._keep(None)

    def _my_episodes(self) -> Iterator[int]:
        """Numbers of this process's episodes, from where the run stands."""
        first, last = self.step * self.recipe.episodes_per_step, self.recipe.steps * self.recipe.episodes_per_step
        world, rank = self.fabric.world_size, self.fabric.global_rank
        return (number for number in range(first, last) if number % world == rank)

    def _take_step(self, step: int, loaded: Iterator[Loaded]) -> str:
        """Average the gradients of a step's episodes and follow them; returns what the bar shows."""
        begun = time.perf_counter()
        self.method.train()
        if "visual" not in self.groups:
            self.method.backbone.eval()  # nothing frozen drops anything
        world, rank = self.fabric.world_size, self.fabric.global_rank
        own = self.recipe.episodes_per_step // world
        totals: dict[str, Tensor] = {}
        statistics = RunningStatistics(self.method)
        for i in range(own):
            statistics.rewind()
            number = step * self.recipe.episodes_per_step + i * world + rank
            inputs = self._inputs(next(loaded), number)
            torch.manual_seed(int(np.random.SeedSequence((self.recipe.seed, number)).generate_state(1)[0]))
            with self.fabric.no_backward_sync(self.module, enabled=i < own - 1):
                terms, right = self.module(*inputs)
                self.fabric.backward(sum(terms.values(), torch.zeros((), device=self.fabric.device)) / own)
            statistics.collect(own)
            for name, value in {**terms, "accuracy": right}.items():
                totals[name] = totals.get(name, 0) + value.detach() / own
        statistics.settle(self.fabric.all_reduce)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self.recipe.rate(step)
        if self.recipe.clip_norm is not None:
            self.fabric.clip_gradients(
                self.module, self.stepper, max_norm=self.recipe.clip_norm, error_if_nonfinite=False
            )
        self.stepper.step()
        self.stepper.zero_grad()
        return self._log_step(step, totals, begun)

    def _inputs(self, loaded: Loaded, number: int) -> tuple[Any, ...]:
        """What `EpisodeLoss` takes, on the device; the texts of the ways with the episode's own template."""
        text = None
        if self.method.traits.reads_text:
            rng = np.random.default_rng((self.recipe.seed, number, 0))
            text = self.method.text_input([self.train_set.texts[label] for label in loaded.labels], rng)[None]
        here, targets = self.fabric.to_device, loaded.targets
        inputs = (loaded.support, loaded.query, text, targets.query_way, targets.way_class, loaded.draws)
        return tuple(None if part is None else here(part) for part in inputs)

    # ------------------------------------------------------------------- validation

    def _validation_due(self) -> bool:
        if self.val_set is None:
            return False
        every = max(1, self.recipe.val_every // self.recipe.episodes_per_step)
        return self.step % every == 0 or self.step == self.recipe.steps

    def _stopped(self) -> bool:
        return self.recipe.patience is not None and self.since_best >= self.recipe.patience

    def _validate(self) -> None:
        """Name val queries; keep the state if it is the best so far."""
        mean, ci95 = self.fabric.broadcast(self._val_accuracy() if self.fabric.is_global_zero else (0.0, 0.0))
        better = mean > self.best["accuracy"]
        self.since_best = 0 if better else self.since_best + 1
        if better:
            episodes = self.step * self.recipe.episodes_per_step
            self.best = {"accuracy": mean, "ci95": ci95, "episodes": episodes}
            self._keep(self.best)
        self._log({"step": self.step, "val_accuracy": mean, "val_ci95": ci95})
        self._save()

    def _val_accuracy(self) -> tuple[float, float]:
        assert self.val_set is not None
        self.method.eval()
        episodes = self.method.order_queries(self.val_sampler.draw(self.recipe.val_episodes))
        videos, texts = self.val_set.videos, self.val_set.texts
        # what lies on disk is the part that never changes; its key names the whole backbone
        keep = self.encoder_is_frozen and "text" not in self.groups
        bank = fill_bank(self.method, videos, texts, self.cache, progress=False, keep=keep)
        return accuracy(match_from_bank(self.method, bank, episodes, self.val_set.texts, progress=False), episodes)

    # ------------------------------------------------------------------- what stays

    def _begin_folder(self) -> None:
        write_text_atomic(self.folder / RECIPE, self.recipe.dump())
        if self.left_out:
            write_text_atomic(self.folder / LEFT_OUT, json.dumps(self.left_out, indent=1) + "\n")
            for name, reason in self.left_out.items():
                print(f"fsar: left out {name}: {reason}", file=sys.stderr)  # noqa: T201
        if self.step < self.recipe.steps and not self._stopped():
            _add_environment(self.folder / ENVIRONMENT, self.fabric.device)
        kept = []
        if (self.folder / LOG).is_file():  # lines after the saved state will be written again
            lines = (self.folder / LOG).read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= self.step]
        write_text_atomic(self.folder / LOG, "".join(line + "\n" for line in kept))
        self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1)
        counts = {g: sum(p.numel() for n, p in self.method.named_parameters() if group_of(n) == g) for g in self.groups}
        total = sum(p.numel() for p in self.method.parameters())
        listed = ", ".join(f"{count:,} {group}" for group, count in counts.items())
        if self.shows:
            print(f"fsar: trains {listed} of {total:,} parameters in all", file=sys.stderr)  # noqa: T201

    def _log_step(self, step: int, totals: Mapping[str, Tensor], begun: float) -> str:
        names = sorted(totals)
        means = self.fabric.all_reduce(torch.stack([totals[name].float() for name in names]), reduce_op="mean")
        assert isinstance(means, Tensor)
        values = dict(zip(names, means.tolist(), strict=True))
        seconds = time.perf_counter() - begun  # reading the values has waited for the device
        right = values.pop("accuracy")
        loss, memory = sum(values.values()), peak_memory()
        if not np.isfinite(loss):
            raise ValueError(f"the loss became {loss} at step {step + 1} ({values}); lower lr, or set clip_norm")
        line = {"step": step + 1, "loss": loss, "terms": values, "accuracy": right, "rate": self.recipe.rate(step)}
        self._log(line | {"seconds": round(seconds, 4), "memory_gb": round(memory, 3)})
        return f"loss {loss:.3f}, accuracy {100 * right:.0f} %, {memory:.1f} GB"

    def _log(self, line: Mapping[str, Any]) -> None:
        if not self.fabric.is_global_zero:
            return
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if isinstance(value, float):
                self.writer.add_scalar(name, value, line["step"])
        for name, value in line.get("terms", {}).items():
            self.writer.add_scalar(f"terms/{name}", value, line["step"])

    def _keep(self, score: Mapping[str, Any] | None) -> None:
        """Write the checkpoint: the present state is the one to use so far."""
        if not self.fabric.is_global_zero:
            return
        recipe, results, selection = self.recipe, [], "none: the last state was kept"
        if score is not None:
            selection = f"best of the validations every {recipe.val_every} episodes, on the {self.val_split} classes"
            way, shot = recipe.val_way or recipe.way, recipe.val_shot or recipe.shot
            results = [{
                "dataset": self.train_set.name, "split": self.val_split, "way": way, "shot": shot,
                "accuracy": score["accuracy"], "ci95": score["ci95"], "episodes": recipe.val_episodes,
            }]  # fmt: skip
        provenance = Provenance(
            groups=self.groups,
            clip=self.cache.settings(),
            recipe=yaml.safe_load(recipe.dump()),
            dataset=self.train_set.name,
            dataset_fingerprint=self.train_set.fingerprint(),
            classes=self.classes,
            selection=selection,
            episodes=self.step * recipe.episodes_per_step,
            results=tuple(results),
        )
        save_pretrained(self.method, self.folder / CHECKPOINT, provenance)

    def _save(self) -> None:
        """Write everything that going on needs."""
        if not self.fabric.is_global_zero:
            return
        tensors = {f"trained.{k}": v.detach().cpu().contiguous() for k, v in self._trained().items()}
        for name, parameter in self.method.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"optimizer.{name}:{key}"] = torch.as_tensor(value).cpu().contiguous()
        header = {
            "step": self.step,
            "best": self.best,
            "since_best": self.since_best,
            "train_set": self.train_set.fingerprint(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        with atomic_path(self.folder / STATE) as temporary:
            save_file(tensors, temporary, {"fsar.state": json.dumps(header)})

    def _trained(self) -> dict[str, Tensor]:
        return trained_state(self.method, self.groups)

    def _resume(self) -> None:
        """Go on from the saved state, if there is one."""
        if not (self.folder / STATE).is_file():
            return
        try:
            with safe_open(self.folder / STATE, "pt") as file:
                header = json.loads(file.metadata()["fsar.state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.folder / STATE}: damaged ({error}); delete it to begin the run again") from error
        if header["train_set"] != self.train_set.fingerprint():
            raise ValueError(f"{self.folder} holds a run on other training videos; choose another folder, or delete it")
        own = {key.removeprefix("trained."): value for key, value in tensors.items() if key.startswith("trained.")}
        assert own.keys() == self._trained().keys()
        self.method.load_state_dict(own, strict=False)
        parameters = dict(self.method.named_parameters())
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                name, _, part = key.removeprefix("optimizer.").partition(":")
                # Adam counts its steps on the CPU
                on = value if part == "step" else value.to(self.fabric.device)
                self.optimizer.state[parameters[name]][part] = on
        self.fabric.strategy.precision.load_state_dict(header["precision"])
        self.step, self.best, self.since_best = header["step"], header["best"], header["since_best"]


def _to_leave_out(recipe: Recipe, videos: Sequence[Video], progress: bool) -> dict[str, str]:
    """What the recipe does without: id -> reason."""
    short = short_videos(videos, recipe.frames, recipe.workers, progress) if recipe.drop_short else {}
    broken = broken_videos(videos, recipe.workers, progress) if recipe.on_error == "skip" else {}
    return short | broken


def _add_environment(file: Path, device: torch.device) -> None:
    """Note what the run goes on on, where that is not what it ran on before."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    here = environment(name)
    if here not in known[-1:]:
        write_text_atomic(file, json.dumps([*known, here], indent=1) + "\n")


def _step_of(line: str) -> float:
    """Step of a line of the log; infinity for one that a kill cut short."""
    try:
        return float(json.loads(line)["step"])
    except (KeyError, TypeError, ValueError):
        return float("inf")


def peak_memory() -> float:
    """Most memory used so far in GB: the GPU's where there is one, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e9


def _require_frozen_encoder(method: Method, is_frozen: bool) -> None:
    if not is_frozen:
        raise ValueError(
            f"from_bank trains on encodings made once, but {method.name} trains what encodes; leave from_bank out"
        )


def _require_same_run(recipe: Recipe, folder: Path) -> None:
    """Refuse a folder in which another run stands."""
    file = folder / RECIPE
    if not file.is_file():
        return
    stored = parse_recipe(yaml.safe_load(file.read_text(encoding="utf-8")))  # of an older version: keys may lack
    found, wanted = (yaml.safe_load(each.dump()) for each in (stored, recipe))
    differing = [key for key in wanted if key not in _FREE and found[key] != wanted[key]]
    if differing:
        listed = "; ".join(f"{key} is {found[key]!r} there, {wanted[key]!r} here" for key in differing)
        raise ValueError(f"{folder} holds another run: {listed}. Give another --out, or delete that folder")
