"""Features from other programs: a file with the frame features of labelled videos, by any model.

| entry | shape | what |
|---|---|---|
| `features` | [video, frame, dim], or [video, dim] for one feature a video | any floating-point numbers |
| `label` | [video] | the class |
| `id` (or `video`) | [video] | unique and the same in every file of these videos; by default the row's number |
| `split` | [video] | `train`, `val`, `test` or nothing; all videos of a class are in one split |

| file | form of the entries |
|---|---|
| `.npz` | arrays of these names |
| `.safetensors` | `features` is a tensor; the others are JSON lists in the file's metadata |
| `.parquet` | columns; a row's `features` is a list of frames, or the numbers of its one frame; needs `fsar[parquet]` |

If there is an entry `role`, as `save_features` writes it, only rows in the role `query` are read. Other entries are
ignored. Nothing is unpickled. Numbers are converted to float32; two files with equal numbers are the same data.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fsar.datasets.base import SPLITS, Video, VideoDataset
from fsar.datasets.shards import ShardedBank
from fsar.files import atomic_path
from fsar.names import unknown
from fsar.text.words import class_text
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import display

ID_NAMES = ("id", "video")
_ENTRIES = ("features", "label", "split", "role", *ID_NAMES)


def load_features(path: str | Path) -> VideoDataset:
    """Load a file of features made elsewhere.

    Args:
        path: `.npz`, `.safetensors` or `.parquet`; see the head of this module. Or the folder of a bank of shards.

    Returns:
        The dataset, named after the file; its videos hold their features.

    Raises:
        ValueError: the file cannot be read, lacks an entry, or its entries do not fit each other; the message says
            which entry, and what was expected.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     features = np.zeros((3, 8, 16), np.float32)  # video frame dim
        ...     np.savez(Path(folder, "mine.npz"), features=features, label=["wave", "wave", "clap"])
        ...     dataset = load_features(Path(folder, "mine.npz"))
        >>> dataset.name, dataset.videos[0].id, dataset.videos[0].features.shape
        ('mine', 'clap/2', (8, 16))
    """
    file = Path(path)
    if file.is_dir():
        return ShardedBank(file).dataset()
    if not file.is_file():
        raise ValueError(f"{display(file)}: no such file; expected features made elsewhere ({', '.join(_READERS)})")
    if file.suffix.lower() not in _READERS:
        raise ValueError(
            f"{display(file)}: features are read from {', '.join(_READERS)}; save them with "
            f"np.savez(FILE, features=..., label=..., id=..., split=...)"
        )
    return _dataset(file, _READERS[file.suffix.lower()](file))


def save_features(path: Path, entries: Mapping[str, np.ndarray]) -> None:
    """Write a file that `load_features` reads, whole or not at all.

    Args:
        path: `.npz`, `.safetensors` or `.parquet`.
        entries: by name, as the head of this module says; further numbers are kept beside them.

    Raises:
        ValueError: another kind of file, or parquet without pyarrow.
        OSError: the file cannot be written.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.safetensors")
        ...     save_features(file, {"features": np.zeros((2, 8, 16)), "label": np.array(["wave", "clap"])})
        ...     len(load_features(file).videos)
        2
    """
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{display(path)}: features are written to {', '.join(_READERS)}")
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npz":
            np.savez_compressed(temporary, **dict(entries))  # type: ignore[arg-type] # of mypy's view of savez
        elif path.suffix.lower() == ".safetensors":
            from safetensors.numpy import save_file

            words = {name: json.dumps(values.tolist()) for name, values in entries.items() if values.dtype.kind == "U"}
            numbers = {name: np.ascontiguousarray(values) for name, values in entries.items() if name not in words}
            save_file(numbers, temporary, words)
        else:
            pyarrow = _pyarrow(path)
            from pyarrow import parquet

            parquet.write_table(pyarrow.table({name: values.tolist() for name, values in entries.items()}), temporary)


def clip_settings(videos: Sequence[Video], cache: FrameCache) -> dict[str, object]:
    """Describe how clips are sampled: as in the cache, or `given` for features from other programs.

    Args:
        videos: of one dataset.
        cache: how frames are sampled.
    """
    given = videos[0].features if videos else None
    return cache.settings() if given is None else {"frames": len(given), "sampling": "given"}


def _dataset(file: Path, entries: Mapping[str, Any]) -> VideoDataset:
    """Check the entries against each other and make the dataset."""
    entries = _as_queries(file, entries)
    features = _features(file, entries)
    labels = _words(file, entries, "label", len(features))
    if labels is None:
        raise ValueError(f"{display(file)}: no entry `label`; expected the class of each of its {len(features)} videos")
    named = next((name for name in ID_NAMES if name in entries), "id")
    names = _words(file, entries, named, len(features)) or [str(row) for row in range(len(features))]
    for row, label in enumerate(labels):
        if not label or "/" in label:
            raise ValueError(f"{display(file)}: the label of row {row} is {label!r}; expected a name without a slash")
    ids = [
        name if name.startswith(f"{label}/") else f"{label}/{name}" for label, name in zip(labels, names, strict=True)
    ]
    if len(set(ids)) < len(ids):
        ((twice, _),) = Counter(ids).most_common(1)
        raise ValueError(f"{display(file)}: two rows have the {named} {twice!r}; expected another one for each video")
    videos = [
        Video(video_id, file, label, features=own, content=_content(own))
        for video_id, label, own in zip(ids, labels, features, strict=True)
    ]
    return VideoDataset(
        name=file.stem,
        videos=tuple(sorted(videos, key=lambda video: video.id)),
        texts={label: class_text(label) for label in labels},
        splits=_splits(file, labels, _words(file, entries, "split", len(features))),
    )


def _as_queries(file: Path, entries: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rows in the role `query`, if the entry `role` says so."""
    roles = _words(file, entries, "role", len(entries.get("features", ())))
    if roles is None:
        return entries
    rows = np.flatnonzero(np.array(roles) == "query")
    return {name: np.asarray(values)[rows] for name, values in entries.items() if name in _ENTRIES}


def _features(file: Path, entries: Mapping[str, Any]) -> np.ndarray:
    """The features [video, frame, dim], finite."""
    if "features" not in entries:
        there = ", ".join(sorted(entries)) or "nothing"
        raise ValueError(f"{display(file)}: no entry `features`; the file has {there}")
    features = np.asarray(entries["features"])
    if features.ndim == 2:
        features = features[:, None]
    if features.ndim != 3 or 0 in features.shape or not np.issubdtype(features.dtype, np.floating):
        raise ValueError(
            f"{display(file)}: `features` is {features.dtype} {list(np.shape(entries['features']))}; expected "
            f"floating-point numbers [video, frame, dim] or [video, dim], at least one of each"
        )
    broken = np.flatnonzero(~np.isfinite(features).all((1, 2)))
    if len(broken):
        raise ValueError(
            f"{display(file)}: {len(broken)} videos have numbers that are not finite, the first in row {broken[0]}; "
            f"leave these videos out, or make their features again"
        )
    return features


def _words(file: Path, entries: Mapping[str, Any], name: str, count: int) -> list[str] | None:
    """An entry of one word (or whole number) per video; None if the file lacks it."""
    if name not in entries:
        return None
    values = np.asarray(entries[name])
    if values.ndim != 1 or len(values) != count or values.dtype.kind not in "USiu":
        raise ValueError(
            f"{display(file)}: `{name}` is {values.dtype} {list(values.shape)}; expected {count} words or whole "
            f"numbers, one for each row of `features`"
        )
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    return [str(value).strip() for value in values.tolist()]


def _splits(file: Path, labels: Sequence[str], given: Sequence[str] | None) -> dict[str, str]:
    """Class -> its split."""
    splits: dict[str, str] = {}
    for row, (label, split) in enumerate(zip(labels, given or [""] * len(labels), strict=True)):
        if split and split not in SPLITS:
            raise ValueError(f"{display(file)}: row {row}: {unknown(split, SPLITS, 'split')}, or nothing")
        if splits.setdefault(label, split) != split:
            raise ValueError(
                f"{display(file)}: class {label} is in the splits {splits[label] or 'none'} and {split or 'none'}; "
                f"few-shot splits divide the classes, so give all videos of a class one split"
            )
    return {label: split for label, split in splits.items() if split}


def _content(features: np.ndarray) -> str:
    """Hash of a video's features, whatever their format in the file."""
    numbers = np.ascontiguousarray(features, "<f4")
    return blake2b(f"{numbers.shape}".encode() + numbers.tobytes(), digest_size=16).hexdigest()


# --------------------------------------------------------------------------- files


def _read_npz(file: Path) -> dict[str, Any]:
    known = _ENTRIES
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: _array(file, arrays, name) if name in known else None for name in arrays.files}
    except (OSError, EOFError, ValueError, AttributeError, BadZipFile) as error:
        if str(error).startswith(display(file)):
            raise
        raise ValueError(f"{display(file)}: no npz file, or cut short ({error}); save it again") from error


def _array(file: Path, arrays: Any, name: str) -> np.ndarray:
    try:
        return arrays[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ValueError(
            f"{display(file)}: `{name}` holds Python objects, which are not read, since a pickle can run code; save "
            f"it as np.array({name}, dtype=str) or as an array of numbers"
        ) from error


def _read_safetensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as tensors:  # "np" lacks bfloat16
            entries: dict[str, Any] = {name: json.loads(text) for name, text in _lists(tensors.metadata() or {})}
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                tensor = tensors.get_tensor(name)
                entries[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
            return entries
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{display(file)}: no safetensors file, or cut short ({error}); save it again") from error


def _lists(metadata: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in metadata.items() if name in _ENTRIES]


def _pyarrow(file: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError(f"{display(file)}: parquet files need pyarrow: pip install 'fsar[parquet]'") from error
    return pyarrow


def _read_parquet(file: Path) -> dict[str, Any]:
    pyarrow = _pyarrow(file)
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{display(file)}: no parquet file, or cut short ({error}); save it again") from error
    names = [name for name in table.column_names if name in _ENTRIES]
    columns = {name: table.column(name).to_pylist() for name in names}
    for name, values in columns.items():
        if None in values:
            if name != "split":
                raise ValueError(f"{display(file)}: row {values.index(None)} has no `{name}`; expected one in each row")
            columns[name] = [value or "" for value in values]
    if "features" in columns:
        try:
            columns["features"] = np.array(columns["features"], np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{display(file)}: the rows of `features` differ in their length; expected as many frames and numbers "
                f"in each"
            ) from error
    return columns


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
}
