"""The device of a model, and the memory in use."""

import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import nn

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


def _require_precision(precision: Precision, device: torch.device) -> None:
    of_gpu = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if precision == "tf32" and not of_gpu:
        raise ValueError(f"precision tf32 needs a GPU of 2020 or later, and this is {device}; use float32 or bf16")
    if precision == "bf16" and device.type == "cuda" and not of_gpu:
        raise ValueError(f"precision bf16 needs a GPU of 2020 or later, and this is {device}; use float32")


def device_name(device: torch.device) -> str:
    """Name a device: the GPU's model, or the kind of processor.

    Example:
        >>> device_name(torch.device("cpu"))  # doctest: +ELLIPSIS
        'cpu (...)'
    """
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def peak_memory() -> float:
    """Return the peak memory so far, in GB: of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e9
