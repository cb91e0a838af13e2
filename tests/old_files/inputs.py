"""Inputs and weights that `write.py` and the test share; they need nothing of fsar."""

import zlib

import torch

TEXTS = ("something growing", "something shrinking")


def weight(name: str, like: torch.Tensor) -> torch.Tensor:
    """What stands in for a trained parameter or buffer; it depends on its name and shape alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randint(-64, 65, like.shape, generator=generator) / 1024  # the same bits on every machine
    around_one = name.endswith("running_var") or (like.ndim == 1 and name.endswith("weight"))
    return (noise + 1 if around_one else noise).to(like.dtype)


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    """Support [episode=1, way=2, shot=2, frame=8, rgb, height, width] and query [episode=1, query=3, ...] of noise."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 2, 2, 8, 3, 64, 64), (1, 3, 8, 3, 64, 64)
    support, query = (torch.randint(-64, 65, shape, generator=generator) / 32 for shape in shapes)
    return support, query
