"""What a bank of millions of videos takes, from rates measured on this machine.

    hours of one machine = clips / min(what decoding and encoding do together)        measured by filling a small bank
    bytes                = clips * (rows of all tensors + a row of the index)         exact, from the encoder
    a fleet of n         = hours / n: machines share nothing but the folder           shards are dealt by number

A thousand million clips, derived from the same figures: take a hundred banks of ten million each, since three things
break before the machines do. The list of videos is read as a whole when videos are added (`LIST_BYTES` each). A scan
of all vectors takes as long as reading them. And a million shards are millions of objects, which a store lists by
thousands. Several banks cure all three: each has its own list, its own machines, and is searched by itself.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from fsar.bank.archive import Making, fill
from fsar.bank.batches import batch_size, encode_batch
from fsar.bank.fill import load_clip
from fsar.datasets import Video
from fsar.datasets.shards import POOLED, SIZE, ShardedBank
from fsar.devices import computing_in, single_threaded
from fsar.video.frame_cache import FrameCache
from fsar.video.writing import write_video

INDEX_BYTES = 160
"""Of a row of the index and of the list, compressed: ids, paths and hashes."""
LIST_BYTES = 1000
"""Memory of a video while the list grows."""
FILLING = 5.0
"""Seconds that a bank is filled for; a fast machine would else spend them on starting its processes."""
_CLIPS, _LEAST, _MOST = 4, 6, SIZE // 4
"""Clips that are rendered, and how often a bank lists each of them: only decoding and encoding count."""
SECONDS, _FPS, _SIDES = 10, 30, (256, 340)  # as the clips of Kinetics are


@dataclass(frozen=True)
class Plan:
    """What a bank takes."""

    clips: int
    decoding: float
    """Clips per second of one process."""
    encoding: float
    """Clips per second of the model, on this machine's GPU or all its cores."""
    filling: float
    """Clips per second of both together, on all of this machine."""
    row_bytes: int
    """Of one clip, with the index."""
    vector_bytes: int
    """Of the vector for search."""
    scanning: float
    """Vectors per second in a search."""
    cores: int

    @property
    def hours(self) -> float:
        """Of one machine like this."""
        return self.clips / self.filling / 3600

    def text(self, fleet: int) -> str:
        """Tell it in lines.

        Args:
            fleet: machines like this one.
        """
        day = max(1, round(self.hours / 24 + 0.5))
        slower = "decoding" if self.decoding * self.cores < self.encoding else "encoding"
        scan = self.clips / self.scanning
        return "\n".join(
            (
                f"measured here: decoding {self.decoding:.1f} clips/s a process, encoding {self.encoding:.1f} clips/s, "
                f"filling {self.filling:.1f} clips/s on {self.cores} cores; {slower} is slower",
                f"{self.clips:,} clips: {self.hours:,.1f} hours of one such machine; {day:,} machines for a day",
                f"a fleet of {fleet}: {self.hours / fleet:,.1f} hours",
                f"{self.row_bytes:,} bytes a clip, {self.clips * self.row_bytes / 1e9:,.1f} GB in "
                f"{-(-self.clips // SIZE):,} shards; a search scans {self.clips * self.vector_bytes / 1e9:,.1f} GB of "
                f"them, in {scan:,.1f} s",
                f"memory to add to the list: {self.clips * LIST_BYTES / 1e9:,.1f} GB"
                + ("; make several banks of ten million each" if self.clips > 5e7 else ""),
            )
        )


def plan(making: Making, clips: int) -> Plan:
    """Measure rates on generated clips of 10 s, and derive what a bank takes.

    Args:
        making: as for filling.
        clips: how many.

    Raises:
        ValueError: fewer clips than one.
    """
    if clips < 1:
        raise ValueError(f"--clips is {clips}; expected 1 or more")
    header = making.header()
    with TemporaryDirectory(prefix="fsar-") as folder:
        videos = [_rendered(Path(folder), i) for i in range(_CLIPS)]
        cache = FrameCache(Path(folder) / "frames", making.cache.frames, making.cache.sampling)
        cache.read(videos[0].path)  # the first call imports
        decoding = _rate(lambda i: cache.read(videos[1 + i].path), _CLIPS - 1)
        encoding = _encoding_rate(making, load_clip(making.method, cache, videos[0].path))
        bank = ShardedBank.create(Path(folder) / "bank", header)
        expected = min(decoding * making.cores, encoding)
        times = min(max(_LEAST, round(FILLING * expected / _CLIPS)), _MOST)
        bank.add(replace(video, id=f"{i} {video.id}") for i in range(times) for video in videos)
        begun = time.perf_counter()
        fill(bank, making, progress=False)
        filling = times * _CLIPS / (time.perf_counter() - begun)
    sizes = {name: _bytes(spec) for name, spec in header["tensors"].items()}
    return Plan(
        clips=clips,
        decoding=decoding,
        encoding=encoding,
        filling=filling,
        row_bytes=sum(sizes.values()) + INDEX_BYTES,
        vector_bytes=sizes[POOLED],
        scanning=_scan_rate(header["tensors"][POOLED]),
        cores=making.cores,
    )


def _rendered(folder: Path, seed: int) -> Video:
    """A clip of noise that moves, of the usual size."""
    height, width = _SIDES
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 5, 3), np.uint8)
    still = noise.repeat(8, 0).repeat(5, 1)[:, :width]
    path = folder / f"{seed}.mp4"
    write_video(path, (np.roll(still, 2 * i, 1) for i in range(SECONDS * _FPS)), _FPS)
    return Video(path.name, path, "")


def _rate(work: object, times: int) -> float:
    begun = time.perf_counter()
    for i in range(times):
        work(i)  # type: ignore[operator]
    return times / (time.perf_counter() - begun)


@torch.no_grad()
def _encoding_rate(making: Making, clip: torch.Tensor) -> float:
    """Clips per second in batches as filling makes them; on a CPU, each core encodes by itself."""
    device, encode = making.method.device, making.method.encoder().encode
    size = batch_size(None, device, making.cache.frames)
    with single_threaded(), computing_in(making.precision, device):
        encode_batch(encode, [clip], size, device)  # the first call prepares
        rate = size * _rate(lambda i: encode_batch(encode, [clip], size, device), 5)
    return rate * (making.cores if device.type == "cpu" else 1)


def _bytes(spec: dict[str, object]) -> int:
    return int(np.prod(spec["shape"])) * np.dtype(str(spec["dtype"])).itemsize  # type: ignore[call-overload]


def _scan_rate(spec: dict[str, object]) -> float:
    vectors = np.random.default_rng(0).standard_normal((20 * SIZE, spec["shape"][0]), np.float32)  # type: ignore[index]
    vectors, query = vectors.astype(str(spec["dtype"])), torch.ones(vectors.shape[1])
    parts = np.split(vectors, 20)
    return 20 * SIZE * _rate(lambda i: [torch.from_numpy(np.array(part)).float() @ query for part in parts], 3)
