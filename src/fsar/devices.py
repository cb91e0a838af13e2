"""Where a model computes."""

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def to_device(module: Module, name: str = "auto") -> Module:
    """Move a module to a device by name; `auto` is a GPU if there is one, else the processor.

    Raises:
        ValueError: no such device here.
    """
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return module.to(torch.device(auto if name == "auto" else name))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {name!r} here: {reason}; expected auto, cpu or cuda") from error
