"""Where a method computes."""

import torch

from fsar.methods.base import Method


def to_device(method: Method, name: str = "auto") -> Method:
    """Move a method to a device by name; `auto` is a GPU where there is one, else the processor.

    Raises:
        ValueError: no such device here.
    """
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return method.to(torch.device(auto if name == "auto" else name))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {name!r} here: {reason}; expected auto, cpu or cuda") from error
