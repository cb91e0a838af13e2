"""Few-shot action recognition: name the action in a video from a handful of labelled examples."""

from typing import Any

from fsar.lazy import import_name

_HOMES = {
    "Recognizer": "fsar.recognizer",
    "load_backbone": "fsar.backbones",
    "build_method": "fsar.methods",
    "load_pretrained": "fsar.training",
    "load_folder": "fsar.datasets",
    "load_lists": "fsar.datasets",
    "load_world": "fsar.datasets",
    "EpisodeSampler": "fsar.evaluation",
    "fill_bank": "fsar.bank",
    "match_from_bank": "fsar.evaluation",
    "accuracy": "fsar.evaluation",
    "evaluate": "fsar.evaluation",
}
__all__ = [
    "EpisodeSampler",
    "Recognizer",
    "accuracy",
    "build_method",
    "evaluate",
    "fill_bank",
    "load_backbone",
    "load_folder",
    "load_lists",
    "load_pretrained",
    "load_world",
    "match_from_bank",
]


def __getattr__(name: str) -> Any:
    """Import a name at its first use, so that `import fsar` stays light."""
    return import_name(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
