"""How fast a bank is filled on this machine: decoding alone, encoding alone, both, and which of them is waited for."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from fsar.bank.batches import batch_size, encode_in_batches
from fsar.bank.fill import fill_bank, load_clip
from fsar.datasets import Video
from fsar.devices import Precision, computing_in
from fsar.methods.base import Method
from fsar.progress import ahead
from fsar.video.frame_cache import FrameCache

SECONDS = 3.0
"""Time for encoding."""
KEPT = 32
"""Clips that are kept in memory to be encoded again and again."""


@dataclass(frozen=True)
class Speeds:
    """Clips per second."""

    threads: float
    """Decoding in threads, from the file to the encoder's input."""
    processes: float
    """Decoding in processes, from the file to frames."""
    encode: float
    """Encoding clips that are in memory."""
    both: float
    """Filling a bank from files: threads decode ahead."""

    @property
    def slower(self) -> str:
        """The part that a bank waits for."""
        return "decoding" if self.threads < self.encode else "encoding"


def measure(
    method: Method,
    videos: Sequence[Video],
    frames: int = 8,
    sampling: str = "tsn",
    *,
    batch: int | None = None,
    precision: Precision = "float32",
    workers: int | None = None,
) -> Speeds:
    """Measure the parts of filling a bank, and the whole. Nothing is read from or written to the caches.

    Args:
        method: its encoder is used.
        videos: each is decoded three times.
        frames: per clip.
        sampling: of the frames.
        batch: videos that are encoded at once; by default as `fill_bank`.
        precision: of the arithmetic.
        workers: threads or processes that decode; by default one per core.

    Raises:
        ValueError: there is no video.
        VideoError: a video cannot be read.
    """
    if not videos:
        raise ValueError("there is no video to measure with; give at least one")
    workers, size = workers or os.cpu_count() or 1, batch_size(batch, method.device, frames)
    with TemporaryDirectory() as folder:
        caches = (FrameCache(Path(folder) / name, frames, sampling) for name in ("threads", "processes", "both"))
        cache = next(caches)
        clips: list[Tensor] = []
        begun = time.perf_counter()
        for clip in ahead(partial(_clip, method, cache), videos, workers):
            if len(clips) < KEPT:
                clips.append(clip)
        threads = len(videos) / (time.perf_counter() - begun)
        processes = _in_processes(next(caches), videos, workers)
        encode = _encoding(method, clips, size, precision)
        begun = time.perf_counter()
        fill_bank(
            method,
            videos,
            cache=next(caches),
            keep=False,
            role="query",
            enhance=False,
            precision=precision,
            workers=workers,
            batch=batch,
            progress=False,
        )
        both = len(videos) / (time.perf_counter() - begun)
    return Speeds(threads, processes, encode, both)


def _clip(method: Method, cache: FrameCache, video: Video) -> Tensor:
    return load_clip(method, cache, video.path, *video.span)


def _in_processes(cache: FrameCache, videos: Sequence[Video], workers: int) -> float:
    """Decode in processes that have started already; frames come back through a pipe."""
    first = FrameCache(cache.root / "first", cache.frames, cache.sampling)
    paths, spans = [video.path for video in videos], [video.span for video in videos]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        list(pool.map(first.read, paths[:1] * workers, [spans[0][0]] * workers, [spans[0][1]] * workers))
        begun = time.perf_counter()
        for _ in pool.map(cache.read, paths, [start for start, _ in spans], [end for _, end in spans]):
            pass
        return len(videos) / (time.perf_counter() - begun)


def _encoding(method: Method, clips: Sequence[Tensor], size: int, precision: Precision) -> float:
    """Encode clips again and again."""
    encoder, device = method.encoder(), method.device

    def run(count: int) -> float:
        begun = time.perf_counter()
        for _ in encode_in_batches(encoder.encode, islice(cycle(clips), count), size, device):
            pass
        return time.perf_counter() - begun

    with computing_in(precision, device):
        run(size)  # warms up
        count = size * max(1, round(SECONDS / max(run(size), 1e-6)))
        return count / run(count)
