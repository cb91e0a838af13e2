"""Episodic training: recipes, the loop, and checkpoints of what was trained.

The names below are imported at their first use, so reading a recipe does not import the training loop.
"""

from typing import Any

from fsar.lazy import import_name

_HOMES = {
    "load_pretrained": "fsar.training.checkpoint",
    "load_recipe": "fsar.training.recipes",
    "save_pretrained": "fsar.training.checkpoint",
    "train": "fsar.training.loop",
}
__all__ = ["load_pretrained", "load_recipe", "save_pretrained", "train"]


def __getattr__(name: str) -> Any:
    """Import a name at its first use."""
    return import_name(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
