"""Prepare a run: devices, videos, method, bank and optimiser; each is checked before the next costs work."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException

from fsar.backbones import load_backbone
from fsar.bank.fill import check_features, fill_bank
from fsar.bank.store import Bank
from fsar.datasets import VideoDataset
from fsar.datasets.base import SPLITS
from fsar.datasets.check import broken_videos, short_videos
from fsar.datasets.copies import find_copies
from fsar.methods import build_method
from fsar.methods.base import Method
from fsar.own import require_named
from fsar.training.episode_loss import EpisodeLoss
from fsar.training.loader import EpisodeLoader
from fsar.training.parameters import freeze, make_optimizer, trained_groups
from fsar.training.recipes import Recipe
from fsar.training.validation import Validation
from fsar.video.frame_cache import FrameCache

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16-mixed": "16-mixed",
}


@dataclass(frozen=True, kw_only=True)
class Videos:
    """The videos of a run."""

    train: VideoDataset
    val: VideoDataset | None
    """None if the run has no validation."""
    val_split: str
    """`val`; `test` under the protocol `paper`."""
    left_out: Mapping[str, str]
    """id -> reason, of copies and of videos that the recipe leaves out."""
    notes: tuple[str, ...]
    """Sentences on content in several classes."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that a run needs on one process."""

    fabric: Fabric
    recipe: Recipe
    videos: Videos
    method: Method
    groups: tuple[str, ...]
    """Groups of parameters that train."""
    cache: FrameCache
    loader: EpisodeLoader
    validation: Validation | None
    module: Any
    """`EpisodeLoss`, compiled and wrapped for the devices as the recipe says."""
    optimizer: torch.optim.Optimizer
    stepper: Any
    """The optimiser, wrapped for the devices."""
    shows: bool
    """Whether this process shows progress."""


def make_fabric(recipe: Recipe) -> Fabric:
    """Choose devices, precision and the strategy for several processes.

    Raises:
        ValueError: this machine has no such devices.
    """
    environment = cluster_environment(recipe)
    try:
        return Fabric(
            accelerator=recipe.accelerator,
            devices=recipe.devices,
            num_nodes=recipe.nodes,
            strategy="ddp_find_unused_parameters_true" if recipe.devices * recipe.nodes > 1 else "auto",
            precision=_PRECISIONS[recipe.precision],
            plugins=environment,
        )
    except (RuntimeError, TypeError, ValueError, MisconfigurationException) as error:
        raise ValueError(
            f"cannot run on accelerator {recipe.accelerator!r} with {recipe.devices} devices: {error}. "
            f"Lower devices, or set accelerator=cpu"
        ) from error


def is_first_process() -> bool:
    """Whether this process speaks for all that train together; true if it trains alone."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not together or torch.distributed.get_rank() == 0


def cluster_environment(recipe: Recipe) -> ClusterEnvironment | None:
    """Say who starts the processes of a run in a Slurm job: Slurm, one task per device, or fsar itself.

    Args:
        recipe: says how many devices and machines.

    Returns:
        None outside of Slurm, or under torchrun: Fabric finds its own way.

    Raises:
        ValueError: Slurm started another number of tasks than there are devices.
    """
    job = os.environ
    if "SLURM_JOB_ID" not in job or "TORCHELASTIC_RUN_ID" in job:
        return None
    wanted = recipe.devices * recipe.nodes
    tasks = int(job.get("SLURM_STEP_NUM_TASKS", job.get("SLURM_NTASKS", "1"))) if "SLURM_STEP_ID" in job else 1
    if tasks == wanted > 1:
        job.setdefault("SLURM_NTASKS_PER_NODE", str(recipe.devices))  # Fabric asks for it
        return SLURMEnvironment(auto_requeue=False)
    if tasks == 1 and recipe.nodes == 1:
        return LightningEnvironment()
    each = f"On one machine, give each a device by --devices {tasks}. Or start" if recipe.nodes == 1 else "Start"
    raise ValueError(
        f"Slurm started {tasks} tasks for a run on {recipe.nodes} x {recipe.devices} devices. {each} one task per "
        f"device (srun --nodes={recipe.nodes} --ntasks-per-node={recipe.devices}, with --set nodes={recipe.nodes} "
        f"devices={recipe.devices}), or on one machine a single task, which starts the others (--ntasks=1)"
    )


def for_features(recipe: Recipe, dataset: VideoDataset) -> Recipe:
    """Complete a recipe for features made elsewhere: they decide backbone and frames, and each video is encoded.

    Args:
        recipe: any.
        dataset: the videos; if they are read from files, the recipe stays as it is.

    Raises:
        ValueError: the recipe trains an encoder or changes pixels.
    """
    given = dataset.videos[0].features if dataset.videos else None
    if given is None:
        return recipe
    file, (frames, dim) = str(dataset.videos[0].path), given.shape
    return replace(recipe, features=file, data=None, backbone=f"features/{dim}", frames=frames, from_bank=True)


def prepare(fabric: Fabric, recipe: Recipe, dataset: VideoDataset, progress: bool) -> Setup:
    """Prepare a run on a process that `fabric` has launched.

    Args:
        fabric: devices and processes.
        recipe: every setting.
        dataset: all labelled videos; the recipe chooses the splits for training and selection.
        progress: show progress bars; only the first process does.

    Raises:
        ValueError: recipe, method, backbone and videos do not fit each other.
    """
    require_named(recipe.method, recipe.backbone)
    backbone = load_backbone(recipe.backbone, recipe.freeze_batch_norm)
    method = build_method(recipe.method, backbone, init_seed=recipe.seed, **recipe.options)
    groups = trained_groups(recipe, method)
    videos = _choose_videos(recipe, dataset, progress)
    cache = FrameCache.of_clip(recipe.clip)
    encoder_is_frozen = method.encoder().is_frozen and "visual" not in groups
    validation = _validation(recipe, videos, cache, keep_bank=encoder_is_frozen and "text" not in groups)
    for of_split in (videos.train, videos.val or videos.train):
        check_features(method, of_split.videos)
        method.check_texts([of_split.texts[label] for label in of_split.classes])
    method.to(fabric.device)
    shows = progress and fabric.is_global_zero
    bank = None
    if recipe.from_bank:
        _require_frozen_encoder(method, encoder_is_frozen)
        bank = _encode_once(fabric, method, videos.train, cache, shows)
    loader = EpisodeLoader(recipe, videos.train, method, bank)
    _ready_to_train(recipe, method, groups, videos.train)
    optimizer = make_optimizer(recipe, method)
    loss: Any = EpisodeLoss(method)
    compiled: Any = torch.compile(loss) if recipe.compile else loss
    module, stepper = fabric.setup(compiled, optimizer)
    return Setup(
        fabric=fabric,
        recipe=recipe,
        videos=videos,
        method=method,
        groups=groups,
        cache=cache,
        loader=loader,
        validation=validation,
        module=module,
        optimizer=optimizer,
        stepper=stepper,
        shows=shows,
    )


def _choose_videos(recipe: Recipe, dataset: VideoDataset, progress: bool) -> Videos:
    """Split the classes and leave out videos, as the recipe says."""
    dataset = dataset if recipe.resplit is None else dataset.resplit(recipe.resplit)
    val_split = "val" if recipe.protocol == "clean" else "test"
    read = [video for video in dataset.videos if dataset.splits.get(video.label) in ("train", val_split)]
    given = bool(read) and read[0].features is not None  # checked when their file was read
    short = short_videos(read, recipe.frames, recipe.workers, progress) if recipe.drop_short else {}
    broken = broken_videos(read, recipe.workers, progress) if recipe.on_error == "skip" and not given else {}
    copies = find_copies(dataset.videos, workers=recipe.workers, progress=progress)
    left_out = short | broken | copies.reasons(read)
    notes = (*_split_words(dataset), *replace(copies, repeated={}).notes(dataset.splits))
    dataset = dataset.without(left_out)
    return Videos(
        train=dataset.split("train"),
        val=dataset.split(val_split) if recipe.val_every else None,
        val_split=val_split,
        left_out=left_out,
        notes=notes,
    )


def _split_words(dataset: VideoDataset) -> tuple[str, ...]:
    """Say how many classes each split has, if it is random."""
    if dataset.resplit_seed is None:
        return ()
    counts = Counter(dataset.splits.values())
    listed = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    return (f"classes split at random by seed {dataset.resplit_seed}: {listed}",)


def _validation(recipe: Recipe, videos: Videos, cache: FrameCache, keep_bank: bool) -> Validation | None:
    return None if videos.val is None else Validation(recipe, videos.val, cache, keep_bank=keep_bank)


def _require_frozen_encoder(method: Method, is_frozen: bool) -> None:
    if not is_frozen:
        raise ValueError(
            f"from_bank trains on encodings made once, but {method.name} trains what encodes; leave from_bank out"
        )


def _encode_once(fabric: Fabric, method: Method, videos: VideoDataset, cache: FrameCache, shows: bool) -> Bank:
    """Encode the training videos with the frozen encoder: in the first process; the others read its files."""
    if not fabric.is_global_zero:
        fabric.barrier()
    bank = fill_bank(method, videos.videos, cache=cache, enhance=False, progress=shows)
    if fabric.is_global_zero:
        fabric.barrier()
    return bank


def _ready_to_train(recipe: Recipe, method: Method, groups: tuple[str, ...], videos: VideoDataset) -> None:
    """Prepare the loss, and let gradients reach only the groups that train."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        method.begin_training([videos.texts[label] for label in videos.classes], recipe.episodes_per_step)
    freeze(method, groups)
    if recipe.checkpoint_activations:
        method.backbone.checkpoint_activations()
