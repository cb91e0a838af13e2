"""What a method costs on this machine: trained parameters, operations, memory, seconds.

Inputs are random clips of the right size, since costs do not depend on what a clip shows. Operations are counted by
`torch.utils.flop_counter`, with two operations per multiplication and addition; it counts matrix products, convolutions
and attention. Seconds are the median of some repetitions after a first one. On a CPU with one thread they are processor
seconds, so other programs do not count.
"""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fsar.datasets.world_actions import ACTIONS
from fsar.methods.base import Method
from fsar.methods.episode import Episode
from fsar.training.episode_loss import EpisodeLoss
from fsar.training.parameters import freeze, group_of, require_groups


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured."""

    way: int = 5
    shot: int = 1
    query: int = 1
    """Queries per class."""
    frames: int = 8
    repeats: int = 3
    """Repetitions, after a first one that is not counted; 0 counts parameters and operations, and times nothing."""
    training: bool = True
    """Whether a training episode is measured, which takes most of the time."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of one method. None: there is nothing of this kind, or it cannot be measured here."""

    method: str
    backbone: str
    device: str
    parameters: int
    """All parameters, of both towers and the method."""
    trains: str
    """Groups of parameters that train: `own` (what the method adds), `visual`, `text` (the towers)."""
    trained: int
    """Parameters in these groups, without layers that only the loss has: their size depends on the training classes."""
    clip_gflops: float
    """Billions of operations for one encoded clip (a query)."""
    episode_gflops: float
    """Billions of operations for matching one episode of encoded clips."""
    memory_mb: float | None
    """Peak memory of a training episode (of an evaluated one, if none is measured) beyond what lay there before."""
    train_seconds: float | None
    """Forward and backward pass of one episode of clips."""
    clip_seconds: float | None
    """Encoding one clip."""
    match_seconds: float | None
    """Matching one episode of encoded clips."""


def measure(method: Method, name: str, setting: Setting, trains: Sequence[str] | None = None) -> Costs:
    """Measure the costs of a method.

    Args:
        method: on its device; its parameters keep their values.
        name: of the row.
        setting: size of the episode.
        trains: groups of parameters that train; None: those that the method's paper trains.

    Returns:
        The costs.

    Raises:
        ValueError: the method cannot train these groups.

    Example:
        >>> from fsar import build_method, load_backbone
        >>> otam = build_method("otam", load_backbone("tiny"))
        >>> costs = measure(otam, "otam", Setting(way=2, frames=2, repeats=1))
        >>> costs.trained, costs.clip_gflops > 0.1
        (1239552, True)
    """
    groups = method.traits.trains if trains is None else tuple(trains)
    require_groups(method, groups if trains else (), "trains")
    device, side = method.device, method.backbone.image_size
    generator = torch.Generator().manual_seed(0)

    def clips(*axes: int) -> Tensor:
        return torch.randn(*axes, setting.frames, 3, side, side, generator=generator).to(device)

    words = _words(setting)
    support, query = clips(1, setting.way, setting.shot), clips(1, setting.way * setting.query)
    with torch.no_grad(), _frozen(method):
        text = method.encode_text(words)[None].to(device) if method.traits.reads_text else None
        draws = torch.full((1, query.shape[1], setting.way), 0.5, device=device) if method.traits.draws else None
        episode = _episode(method, support, query, text, draws)
        one = query[:, :1]
        clip_flops = _flops(lambda: method.encode(one))
        match_flops = _flops(lambda: method.match(episode))
        timed = setting.repeats > 0
        clip_seconds = _seconds(lambda: method.encode(one), device, setting.repeats) if timed else None
        match_seconds = _seconds(lambda: method.match(episode), device, setting.repeats) if timed else None
    trained = sum(p.numel() for key, p in method.named_parameters() if group_of(key) in groups)
    train_seconds, memory = None, None
    if trained and timed and setting.training:
        train_seconds, memory = _training(method, groups, support, query, draws, setting)
    elif timed:
        with torch.no_grad():
            memory = _peak(lambda: method.encode_episode(support, query, text, draws), device)
    return Costs(
        method=name,
        backbone=method.backbone.name,
        device=_device_name(device),
        parameters=sum(p.numel() for p in method.parameters()),
        trains=", ".join(groups),
        trained=trained,
        clip_gflops=clip_flops / 1e9,
        episode_gflops=match_flops / 1e9,
        memory_mb=memory,
        train_seconds=train_seconds,
        clip_seconds=clip_seconds,
        match_seconds=match_seconds,
    )


def _words(setting: Setting) -> list[str]:
    return [action.text for action in ACTIONS[: setting.way]]


def _episode(method: Method, support: Tensor, query: Tensor, text: Tensor | None, draws: Tensor | None) -> Episode:
    """Encode one support video and one query, and repeat them: what matching costs does not depend on their content."""
    shots = support.shape[2]
    own_text = method.text_of_shots(text, shots)
    first_text = None if own_text is None else own_text[:, :1, :1]
    shown, asked = method.encode(support[:, :1, :1], "support", first_text), method.encode(query[:, :1], "query")
    return Episode(
        {name: part.expand(1, *support.shape[1:3], *part.shape[3:]).contiguous() for name, part in shown.items()},
        {name: part.expand(1, query.shape[1], *part.shape[2:]).contiguous() for name, part in asked.items()},
        torch.ones(support.shape[:3], dtype=torch.bool, device=support.device),
        text,
        draws,
    )


def _training(
    method: Method, groups: tuple[str, ...], support: Tensor, query: Tensor, draws: Tensor | None, setting: Setting
) -> tuple[float, float | None]:
    """Seconds and peak memory of the forward and backward pass of an episode."""
    device, words = method.device, _words(setting)
    needed = {name: parameter.requires_grad for name, parameter in method.named_parameters()}
    heads, state = dict(method.loss_heads), {name: buffer.clone() for name, buffer in method.named_buffers()}
    method.begin_training(words)
    freeze(method, groups)
    loss = EpisodeLoss(method.train())
    text = method.text_input(words, np.random.default_rng(0))[None].to(device) if method.traits.reads_text else None
    target = torch.arange(setting.way, device=device).repeat(setting.query)[None]
    classes = torch.arange(setting.way, device=device)[None]

    def step() -> None:
        terms, _ = loss(support, query, text, target, classes, draws)
        torch.stack([term for term in terms.values()]).sum().backward()
        method.zero_grad(set_to_none=True)

    try:
        memory = _peak(step, device)  # the first step, whose time does not count: one step less
        return _median(step, device, setting.repeats), memory
    finally:
        method.eval()
        for name in set(method.loss_heads) - set(heads):
            del method.loss_heads[name]
        for name, parameter in method.named_parameters():
            parameter.requires_grad_(needed[name])
        with torch.no_grad():
            for name, buffer in list(method.named_buffers()):
                if name in state:
                    buffer.copy_(state[name])
                else:  # training fills it, such as CLIP-FSAR's texts of all classes
                    module, _, own_name = name.rpartition(".")
                    setattr(method.get_submodule(module), own_name, None)


@contextmanager
def _frozen(method: Method) -> Iterator[None]:
    """Let no parameter need a gradient: the counter of operations fails at a view of one, such as an expanded token."""
    needed = [parameter for parameter in method.parameters() if parameter.requires_grad]
    try:
        for parameter in needed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in needed:
            parameter.requires_grad_(True)


@contextmanager
def _countable() -> Iterator[None]:
    """Let attention run as matrix products, which the counter knows."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _flops(run: Callable[[], object]) -> int:
    """Count the operations of one run."""
    with _countable(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of some runs, after a first one."""
    run()
    return _median(run, device, repeats)


def _median(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of some runs."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for _ in range(repeats):
        _wait(device)
        begun = clock()
        run()
        _wait(device)
        times.append(clock() - begun)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(run: Callable[[], object], device: torch.device) -> float | None:
    """Megabytes that a run needs beyond what lay in memory before; None if the system does not tell.

    On a GPU by torch's own count. On Linux without a GPU, by how much the process grows at its peak, which the system
    can reset. What earlier runs have freed goes back to the system first: if it was used again, it would not count.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        run()
        _wait(device)
        return (torch.cuda.max_memory_allocated(device) - allocated) / 1e6
    if sys.platform != "linux":
        return None
    try:
        _return_freed_memory()
        Path("/proc/self/clear_refs").write_text("5")
        before = _process_memory("VmRSS")
        run()
        return max(0.0, _process_memory("VmHWM") - before)
    except (OSError, ValueError, StopIteration):
        return None


def _return_freed_memory() -> None:
    """Give memory that was freed back to the system. Only glibc keeps large blocks, and has a function for it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _process_memory(field: str) -> float:
    """One line of this process's memory, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1000


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads" if torch.get_num_threads() > 1 else "cpu, 1 thread"


COLUMNS = {
    "method": "method",
    "backbone": "backbone",
    "device": "device",
    "trains": "trains",
    "trained": "trained, M",
    "clip_gflops": "clip, GFLOP",
    "episode_gflops": "match, GFLOP",
    "memory_mb": "peak memory, MB",
    "train_seconds": "training episode, s",
    "clip_seconds": "clip, s",
    "match_seconds": "match, s",
}
"""Columns of the table, with their units."""


def costs_table(rows: Sequence[Costs]) -> str:
    """Write costs as Markdown.

    Args:
        rows: one per method.
    """
    lines = [f"| {' | '.join(COLUMNS.values())} |", f"|{'---|' * len(COLUMNS)}"]
    for row in rows:
        cells = [cell_of(name, getattr(row, name)) for name in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cell_of(name: str, value: str | float | None) -> str:
    """Write a cell of the table.

    Args:
        name: of the column.
        value: None is written as a dash.

    Example:
        >>> cell_of("trained", 3_200_000), cell_of("clip_seconds", 0.01234), cell_of("memory_mb", None)
        ('3.20', '0.0123', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if name == "trained":
        return f"{value / 1e6:.2f}"
    return f"{value:.0f}" if name == "memory_mb" else f"{value:.3g}"


def costs_rows(rows: Sequence[Costs]) -> list[list[object]]:
    """Give costs as rows of plain values, the names of the fields first, for CSV.

    Args:
        rows: one per method.
    """
    return [[field.name for field in fields(Costs)], *([*asdict(row).values()] for row in rows)]
