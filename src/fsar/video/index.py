"""Index of a video file, from its packets: frames, their times, where decoding may start; and its cache."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fsar.files import atomic_path
from fsar.video.picture import Look, Turn

VERSION = 1  # of the files; any change to what an index says raises it
_FEW_FRAMES, _FEW_PIXELS = 1000, 2**29  # of a video that takes less than about a second to decode whole


@dataclass(frozen=True, eq=False)
class Index:
    """What the packets of a video file tell."""

    stream: int
    """Position among the container's streams of pictures."""
    frames: int
    """Pictures in order of showing."""
    fps: float | None
    """Average frames per second."""
    duration: float
    """Seconds from the container's start to the end of its last packet."""
    start: float
    """Seconds at which the container starts, as packets count."""
    tick: Fraction
    """Seconds per unit of `pts`."""
    look: Look
    interlaced: bool
    damaged: int
    """Known number of packets or pictures that are lost or decode with errors."""
    counted: bool
    """Whether the packets' headers tell the number of pictures; otherwise only decoding does."""
    seekable: bool
    """Whether decoding may start at any of `keys`."""
    changed: bool
    """Whether version 0.1 read other frames of this video."""
    checked: bool
    """Whether the whole file was decoded once; then `frames` and `damaged` are exact."""
    pts: Int[np.ndarray, " every_frame"]
    """Time of each frame; empty if the packets do not tell."""
    keys: Int[np.ndarray, "key 2"]
    """Frames at which decoding may start, and the times to seek to."""

    @property
    def small(self) -> bool:
        """Whether the whole file is decoded at first; this finds all damage and takes less than about a second."""
        pixels = self.frames * self.look.width * self.look.height
        return self.frames <= _FEW_FRAMES and pixels <= _FEW_PIXELS

    @property
    def needs_check(self) -> bool:
        """Whether the whole file must be decoded before frames can be numbered."""
        return not self.checked and (self.small or not self.counted)

    @cached_property
    def times(self) -> np.ndarray:
        """Seconds from the container's start at which frames begin, in order; the last one is the video's end."""
        if len(self.pts) and (np.diff(self.pts) >= 0).all():
            begins = self.pts * float(self.tick) - self.start
        else:
            begins = np.arange(self.frames) / (self.fps or 25.0)
        return np.append(begins, max(self.duration, begins[-1]))


_ARRAYS = ("pts", "keys")


def store_name(*identity: object) -> str:
    """Return the name of an index in the cache: a hash of what identifies the video."""
    return blake2b(repr((VERSION, *identity)).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


class IndexStore:
    """Indices on disk. This never fails: an index that cannot be read is made again.

    Args:
        folder: of the indices.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, names: Sequence[str]) -> Index | None:
        """Read the first index that exists."""
        for name in names:
            with (
                suppress(OSError, SafetensorError, KeyError, TypeError, ValueError),
                safe_open(self._path(name), framework="np") as file,
            ):
                facts = json.loads(file.metadata()["index"])
                return _index_of(facts, file.get_tensor("pts"), file.get_tensor("keys"))
        return None

    def save(self, names: Sequence[str], index: Index) -> None:
        """Write an index under each of its names."""
        facts = {field.name: getattr(index, field.name) for field in fields(index) if field.name not in _ARRAYS}
        facts |= {"tick": [index.tick.numerator, index.tick.denominator], "look": asdict(index.look)}
        for name in names:
            with suppress(OSError), atomic_path(self._path(name)) as temporary:
                save_file({"pts": index.pts, "keys": index.keys}, temporary, {"index": json.dumps(facts)})

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.safetensors"


def _index_of(facts: dict[str, Any], pts: np.ndarray, keys: np.ndarray) -> Index:
    look = facts.pop("look")
    look["turn"] = Turn(**look["turn"])
    facts |= {"look": Look(**look), "tick": Fraction(*facts["tick"]), "pts": pts, "keys": keys}
    return Index(**facts)
