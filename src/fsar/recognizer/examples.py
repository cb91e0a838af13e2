"""Enrolled examples, and how they are laid out for matching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from fsar.methods.base import Encoding, Role


@dataclass(frozen=True)
class Example:
    """An enrolled video, encoded in both roles.

    The support encoding names other videos. The query encoding is used when the example itself is left out and named
    by the others.
    """

    video: str
    support: Encoding
    query: Encoding
    content: str = ""
    """Hash of the video's content; empty in files of older versions."""


Examples = Mapping[str, Sequence[Example]]
"""Action -> its examples."""


def padded(examples: Examples, role: Role) -> tuple[Encoding, Bool[Tensor, "way shot"]]:
    """Stack the encodings of all examples; smaller classes repeat their first example.

    Args:
        examples: at least one action; every action has at least one example.
        role: which of the two encodings to take.

    Returns:
        Tensors [way, shot, ...], and a mask that is False at repeated examples.
    """
    groups = [[getattr(example, role) for example in group] for group in examples.values()]
    most = max(map(len, groups))
    mask = torch.tensor([[i < len(group) for i in range(most)] for group in groups])
    filled = [group + group[:1] * (most - len(group)) for group in groups]
    parts = groups[0][0]
    return {part: torch.stack([torch.stack([e[part] for e in group]) for group in filled]) for part in parts}, mask
