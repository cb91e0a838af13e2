"""The device of a model, and the memory in use."""

import resource
import sys
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


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


def peak_memory() -> float:
    """Return the peak memory so far, in GB: of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e9
