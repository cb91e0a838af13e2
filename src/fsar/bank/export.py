"""Encodings of videos as a file for other programs, which `--features` reads again."""

import json
from pathlib import Path

import numpy as np

from fsar.bank.store import Bank
from fsar.datasets import VideoDataset
from fsar.datasets.features import save_features
from fsar.methods.base import Method


def export_features(
    method: Method, dataset: VideoDataset, bank: Bank, file: Path, part: str | None = None, half: bool = False
) -> list[str]:
    """Write the encodings of a bank with ids, labels, splits and roles.

    Args:
        method: made the encodings.
        dataset: the videos of the bank.
        bank: filled by `fill_bank`.
        file: `.npz`, `.parquet` or `.safetensors`.
        part: the named tensor that becomes `features`; by default `frames`, or the only one. The others keep their
            names.
        half: write float16, in half the space.

    Returns:
        Names of the tensors that were written, `features` first.

    Raises:
        ValueError: no such part, or one that is not [video, frame, dim].

    Example:
        >>> import tempfile
        >>> import torch
        >>> from fsar import build_method, load_backbone
        >>> from fsar.datasets import Video, load_features
        >>> videos = (Video("wave/1", Path("1.mp4"), "wave"), Video("clap/2", Path("2.mp4"), "clap"))
        >>> encoding = {"frames": torch.zeros(2, 8, 128)}  # `fill_bank` makes it from the files
        >>> bank = Bank(("wave/1", "clap/2"), support=encoding, query=encoding)
        >>> otam, mine = build_method("otam", load_backbone("tiny")), VideoDataset("mine", videos, {}, {"wave": "test"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = export_features(otam, mine, bank, Path(folder, "mine.npz"))
        ...     again = load_features(Path(folder, "mine.npz"))
        >>> written, again.splits, again.videos[0].features.shape
        (['features'], {'wave': 'test'}, (8, 128))
    """
    part = _chosen(method, bank, part)
    label = {video.id: video.label for video in dataset.videos}
    roles = ("query", "support") if method.traits.roles_differ else ("query",)
    shared = [name for name in bank.query if all(name in getattr(bank, role) for role in roles)]
    if part not in shared:
        raise ValueError(f"part {part} of {method.name} is made of queries alone; expected one of: {', '.join(shared)}")
    words = {
        "id": list(bank.video_ids),
        "label": [label[video_id] for video_id in bank.video_ids],
        "split": [dataset.splits.get(label[video_id], "") for video_id in bank.video_ids],
    }
    entries = {name: np.array(values * len(roles)) for name, values in words.items()}
    entries["role"] = np.repeat(roles, len(bank.video_ids))
    names = {part: "features"} | {name: name for name in shared if name != part and name not in entries}
    for name, called in names.items():
        both = [getattr(bank, role)[name].float().numpy() for role in roles]
        if len({one.shape for one in both}) == 1:
            entries[called] = np.concatenate(both).astype(np.float16 if half else np.float32)
    made_by = {"method": method.name, "options": method.options(), "backbone": method.backbone.name,
               "weights": method.backbone.fingerprint()}  # fmt: skip
    entries["made_by"] = np.array([json.dumps(made_by)] * len(entries["id"]))
    save_features(file, entries)
    return ["features", *(called for called in names.values() if called != "features" and called in entries)]


def _chosen(method: Method, bank: Bank, part: str | None) -> str:
    """The part of the encoding that becomes `features`."""
    fitting = [name for name, tensor in bank.query.items() if tensor.ndim in (2, 3)]
    if part is None and len(fitting) > 1 and "frames" not in fitting:
        raise ValueError(f"{method.name} gives {', '.join(fitting)}; choose one as --part")
    chosen = part or ("frames" if "frames" in fitting else next(iter(fitting), ""))
    if chosen not in fitting:
        raise ValueError(
            f"{method.name} gives no {chosen or 'features'!r} [video, frame, dim]; expected one of: "
            f"{', '.join(fitting) or 'none, since all have more axes'}"
        )
    return chosen
