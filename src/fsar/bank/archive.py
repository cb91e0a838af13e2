"""Fill a bank of shards: each shard by itself, from its videos alone, on any machine.

    list -> shard i: decode in processes with a time limit -> encode -> float16 -> files, the index last

So a killed run does only the shards that are missing, several machines divide them by number, and their files are
those that one machine would write. `fsar.datasets.shards` says which files these are.

Sums of PyTorch on a CPU can depend on its number of threads in the last digits (those of `lite0` do). So each encoding
is made by a single thread, and the cores of a machine encode several videos at a time.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fsar.backbones.base import layout_on
from fsar.bank.batches import batch_size
from fsar.bank.fetching import FetchingCache, reason
from fsar.bank.fill import code_of, fill_bank, to_input
from fsar.bank.pooled import DIM, pooled
from fsar.bank.store import NothingRead, encoder_key
from fsar.datasets import Video
from fsar.datasets.shards import DELETED, POOLED, SIZE, ShardedBank
from fsar.devices import Precision, computing_in, single_threaded
from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.progress import ahead, progress_bar
from fsar.video.apart import SECONDS, ApartCache, Decoders
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError


class Filled(NamedTuple):
    """What became of the videos of some shards."""

    read: int
    broken: int
    """Videos that have a reason instead of an encoding."""
    deleted: int = 0


@dataclass(frozen=True, kw_only=True)
class Making:
    """How rows of a bank are made."""

    method: Method
    cache: FrameCache
    """How frames are taken."""
    precision: Precision = "float32"
    """Of the arithmetic."""
    dtype: str = "float16"
    """Of the rows: float16 or float32."""
    pooled: int = DIM
    """Numbers of the vector for search."""
    workers: int | None = None
    """Processes that decode, and on a CPU copies of the model that encode; by default one per core. Does not change the
    rows."""
    seconds: float = SECONDS
    """Time for decoding one video."""
    old: Path | None = None
    """A bank with one file per video, from which encodings are taken that are there."""

    def header(self, size: int = SIZE) -> dict[str, Any]:
        """Describe the bank: everything that its rows depend on, and their shapes.

        Args:
            size: videos per shard.

        Raises:
            ValueError: the method cannot fill a bank of shards.
        """
        self._require_one_width()
        with single_threaded(), computing_in(self.precision, self.method.device), torch.no_grad():
            clip = to_input(self.method, np.zeros((self.cache.frames or 1, 64, 64, 3), np.uint8))
            made = self.method.encoder().encode(clip[None].to(self.method.device), "query", None)
        tensors = {name: {"dtype": self.dtype, "shape": [*tensor.shape[1:]]} for name, tensor in made.items()}
        return {
            "encoder": self.key(),
            "tensors": {**tensors, POOLED: {"dtype": self.dtype, "shape": [self.pooled]}},
            "videos_per_shard": size,
            "made_by": {
                "method": self.method.name,
                "options": self.method.options(),
                "backbone": self.method.backbone.name,
                "trained": self.method.provenance is not None,
            },
        }

    @property
    def cores(self) -> int:
        """Processes that decode."""
        return self.workers or os.cpu_count() or 1

    def key(self) -> dict[str, Any]:
        """Describe everything that encodings depend on."""
        method = self.method
        size, layout = batch_size(None, method.device, self.cache.frames), layout_on(method.device, self.precision)
        framing = method.traits.framing
        key = encoder_key(method.encoder(), self.cache, self.precision, code_of(method), framing, size, layout)
        return dict(json.loads(json.dumps(key)))

    def _require_one_width(self) -> None:
        if self.dtype not in ("float16", "float32"):
            raise ValueError(f"dtype is {self.dtype!r}; expected float16 or float32")
        if self.cache.frames is None:
            raise ValueError("all frames of a video are kept, so rows differ in width; give a number of frames")
        if self.method.encoder().roles_differ:
            raise ValueError(
                f"{self.method.name} encodes examples and new videos differently, so a video has no single row; choose "
                f"another method, such as place-motion, protonet or otam"
            )


def fill(bank: ShardedBank, making: Making, numbers: Iterable[int] | None = None, progress: bool = True) -> None:
    """Fill the shards that are missing.

    Args:
        bank: with a list of videos (`ShardedBank.add`).
        making: fits the bank's header.
        numbers: only these shards; by default all.
        progress: show a progress bar.

    Raises:
        OSError: a shard cannot be written, or a store cannot be reached.

    Example:
        >>> import tempfile
        >>> from fsar import build_method, load_backbone
        >>> from fsar.video.writing import write_video
        >>> making = Making(method=build_method("protonet", load_backbone("tiny")), cache=FrameCache(), workers=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(Path(folder, "a.mp4"), np.zeros((20, 64, 64, 3), np.uint8), 10.0)
        ...     bank = ShardedBank.create(Path(folder, "bank"), making.header())
        ...     added = bank.add([Video("wave/a", Path(folder, "a.mp4"), "wave")])
        ...     fill(bank, making, progress=False)
        ...     counted(bank), bank.part("frames", 0).shape
        (Filled(read=1, broken=0, deleted=0), (1, 8, 128))
    """
    wanted = bank.missing()
    if numbers is not None:
        wanted = sorted({*wanted} & {*numbers})
    with Decoders(making.cores, making.seconds) as decoders:
        for number in progress_bar(wanted, "fill", "shard", len(wanted), progress):
            fill_shard(bank, number, making, decoders, progress)


def counted(bank: ShardedBank, numbers: Iterable[int] | None = None) -> Filled:
    """Count the videos of shards that are there, by what became of them.

    Args:
        bank: any.
        numbers: of shards; by default all.
    """
    there = set(bank.done())
    errors = bank.index(there if numbers is None else sorted(there & {*numbers}))["error"].to_pylist()
    deleted = errors.count(DELETED)
    return Filled(errors.count(None), len(errors) - errors.count(None) - deleted, deleted)


def fill_shard(bank: ShardedBank, number: int, making: Making, decoders: Decoders, progress: bool = False) -> Filled:
    """Make one shard.

    Args:
        bank: has the shard on its list.
        number: of the shard.
        making: fits the bank's header.
        decoders: decode its videos.
        progress: show a progress bar.

    Returns:
        What became of its videos.
    """
    listed = bank.listed(number)
    videos = [Video(row["id"], Path(row["path"]), row["label"], row["start"], row["end"]) for row in listed]
    with TemporaryDirectory(prefix="fsar-") as folder:
        cache = FetchingCache(Path(folder), making.cache.frames, making.cache.sampling, decoders)
        encodings, skipped = _encoded(making, videos, cache, progress)
        seen = [cache.seen.get((video.path, *video.span)) for video in videos]
    kept = [i for i, video in enumerate(videos) if video.id not in skipped]
    tensors, finite = _rows(bank, encodings, len(kept))
    place = {i: row for row, i in enumerate(np.array(kept, int)[finite].tolist())}
    for i, (row, video) in enumerate(zip(listed, videos, strict=True)):
        row["content"] = None if seen[i] is None else seen[i].identity  # type: ignore[union-attr]
        row["row"] = place.get(i)
        if i not in place:
            row["error"] = reason(skipped.get(video.id, f"its encoding has numbers beyond {making.dtype}"), folder)
    bank.write(number, tensors, listed)
    return Filled(len(place), len(listed) - len(place))


def _encoded(
    making: Making, videos: Sequence[Video], cache: ApartCache, progress: bool
) -> tuple[Encoding, Mapping[str, str]]:
    """Encode videos; and say by id why others have no encoding."""
    copies = making.cores if making.method.device.type == "cpu" else 1
    try:
        with single_threaded():
            made = fill_bank(
                making.method,
                videos,
                cache=cache,
                folder=making.old,
                keep=making.old is not None,
                role="query",
                enhance=False,
                precision=making.precision,
                on_error="skip",
                workers=making.workers,
                devices=min(copies, len(videos)),
                progress=progress,
            )
        return made.query, made.skipped
    except NothingRead as error:
        return {}, error.skipped


def _rows(bank: ShardedBank, encodings: Encoding, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The tensors of a shard in the types of the bank, and which of the encodings they are: those that are finite."""
    specs, tensors = bank.header["tensors"], {}
    whole = dict(encodings)
    if encodings:
        whole[POOLED] = pooled(encodings, specs[POOLED]["shape"][0])
    for name, spec in specs.items():
        with np.errstate(over="ignore"):  # numbers that are too large become infinite, and their rows are left out
            tensors[name] = (
                whole[name].float().numpy().astype(spec["dtype"])
                if encodings
                else np.empty((0, *spec["shape"]), spec["dtype"])
            )
    finite = np.array(
        [all(np.isfinite(tensor[i]).all() for tensor in tensors.values()) for i in range(count)], dtype=bool
    )
    return {name: tensor if finite.all() else tensor[finite] for name, tensor in tensors.items()}, finite


def windows(
    videos: Sequence[Video],
    length: float,
    hop: float,
    cache: FrameCache,
    workers: int | None = None,
    seconds: float = SECONDS,
) -> Iterator[Video]:
    """Cut videos into windows, so that moments of them can be found.

    Args:
        videos: whole ones.
        length: of a window, in seconds.
        hop: from the start of a window to the next, in seconds.
        cache: how frames are taken.
        workers: processes that look at the videos; by default one per core.
        seconds: time for one video.

    Yields:
        Segments, the last of which may be shorter; a video that cannot be read, or that is no longer than a window, as
        it is.

    Raises:
        ValueError: a length or hop that is not above 0.
    """
    if not (length > 0 and hop > 0):
        raise ValueError(f"windows of {length:g} s every {hop:g} s; expected numbers above 0")
    count = workers or os.cpu_count() or 1
    with TemporaryDirectory(prefix="fsar-") as folder, Decoders(count, seconds) as decoders:
        apart = FetchingCache(Path(folder), cache.frames, cache.sampling, decoders)
        lengths = ahead(partial(_length, apart), videos, count)
        for video, end in zip(videos, lengths, strict=True):
            if end is None or end <= length:
                yield video
                continue
            for start in np.arange(0, max(end - length, 0) + hop, hop).round(3).tolist():
                if start < end - 0.25 * length:
                    stop = round(min(start + length, end), 3)
                    yield Video(f"{video.id}@{start:g}-{stop:g}", video.path, video.label, start, stop, video.group)


def _length(cache: ApartCache, video: Video) -> float | None:
    try:
        return cache.length(video.path)
    except VideoError:
        return None  # a row with the reason, when it is encoded


def encoded(making: Making, videos: Sequence[Video]) -> Encoding:
    """Encode videos as rows of a bank are, before they are rounded.

    Args:
        making: of the bank.
        videos: few.

    Returns:
        Tensors [video, ...], float32.

    Raises:
        VideoError: one cannot be read.
    """
    made = fill_bank(making.method, videos, cache=making.cache, keep=False, role="query", enhance=False, progress=False)
    return made.query


def tensors_of(encoding: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Turn rows of a bank into what `Method.enhance` takes, float32.

    Args:
        encoding: rows by name; the vector for search is left out.
    """
    return {name: torch.from_numpy(rows.astype(np.float32)) for name, rows in encoding.items() if name != POOLED}
