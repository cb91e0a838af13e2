"""The device of a model, and the memory in use."""

import copy
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Literal, TypeVar

import torch
from torch import nn

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

Module = TypeVar("Module", bound=nn.Module)

Precision = Literal["float32", "tf32", "bf16"]
"""Of the arithmetic in evaluation: 24 bits, products with 11 bits (GPUs since Ampere), products with 8 bits."""


def to_device(module: Module, name: str = "auto") -> Module:
    """Move a module to a device.

    Args:
        module: its parameters move in place.
        name: `cpu`, `cuda`, `cuda:1`, ...; `auto` is a GPU if there is one, else the CPU.

    Returns:
        The module.

    Raises:
        ValueError: this machine has no such device.

    Example:
        >>> next(to_device(nn.Linear(2, 2), "cpu").parameters()).device
        device(type='cpu')
    """
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return module.to(torch.device(auto if name == "auto" else name))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {name!r} here: {reason}; expected auto, cpu or cuda") from error


def copies_on(module: Module, devices: int = 1) -> list[Module]:
    """Copy a module to more devices of its kind.

    Args:
        module: stays on its device.
        devices: how many, with its own: the machine's GPUs, or so many copies on the CPU.

    Returns:
        The module itself, then its copies.

    Raises:
        ValueError: less than one device, or more than this machine has.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> first, second = copies_on(layer, 2)
        >>> first is layer, second is layer, bool((second.weight == layer.weight).all())
        (True, False, True)
    """
    if devices < 1:
        raise ValueError(f"devices is {devices}; expected 1 or more")
    own = device_of(module)
    others = [own] * (devices - 1)
    if own.type == "cuda":
        gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
        if devices > len(gpus):
            raise ValueError(f"devices is {devices}, and this machine has {len(gpus)} GPUs; expected at most so many")
        others = [gpu for gpu in gpus if gpu != own][: devices - 1]
    return [module, *(copy.deepcopy(module).to(other) for other in others)]


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters or, if it has none, of its buffers; the CPU if it has neither.

    Example:
        >>> device_of(nn.Linear(2, 2).to("meta"))
        device(type='meta')
    """
    device = next(chain(module.parameters(), module.buffers()), torch.empty(0)).device
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in a precision inside a `with` block.

    Args:
        precision: float32 also keeps convolutions on a GPU from rounding to tf32, as they do by default.
        device: where the tensors are.

    Raises:
        ValueError: the device has no such arithmetic.

    Example:
        >>> with computing_in("bf16", torch.device("cpu")):
        ...     (torch.ones(1, 2) @ torch.ones(2, 1)).dtype
        torch.bfloat16
    """
    _require_precision(precision, device)
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute each operation on the CPU in one thread inside a `with` block.

    The last digits of sums then do not depend on the number of cores. Threads that begin inside the block follow.

    Example:
        >>> with single_threaded():
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _require_precision(precision: Precision, device: torch.device) -> None:
    of_gpu = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if precision == "tf32" and not of_gpu:
        raise ValueError(f"precision tf32 needs a GPU of 2020 or later, and this is {device}; use float32 or bf16")
    if precision == "bf16" and device.type == "cuda" and not of_gpu:
        raise ValueError(f"precision bf16 needs a GPU of 2020 or later, and this is {device}; use float32")


def device_name(device: torch.device, count: int = 1) -> str:
    """Name a device: the GPU's model, or the kind of processor.

    Args:
        device: one of them.
        count: how many there are.

    Example:
        >>> device_name(torch.device("cpu"))  # doctest: +ELLIPSIS
        'cpu (...)'
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"
    return name if count == 1 else f"{count} x {name}"


def peak_memory() -> float:
    """Return the peak memory so far, in GB, of the GPU or else of the process; 0 on Windows without a GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if resource is None:
        return 0.0
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e9
