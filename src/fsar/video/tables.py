"""The index of an mp4 or mov file (ISO/IEC 14496-12), from its tables: without reading the packets.

FFmpeg knows place, size and decoding time of each sample as soon as a file is open, but not when the sample is shown.
This needs the offsets in the box `ctts`, which are read here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from jaxtyping import Bool, Int

from fsar.video.container import film_streams
from fsar.video.structure import structure

_NEED_CONTENT = frozenset(("vp8", "libvpx", "vp9", "libvpx-vp9"))
"""Decoders for which only the content of a packet tells whether it is shown."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Facts from a file's tables on each packet, in order of decoding."""

    pts: Int[np.ndarray, " packet"]
    """Time at which it is shown, up to a common shift."""
    dts: Int[np.ndarray, " packet"]
    size: Int[np.ndarray, " packet"]
    key: Bool[np.ndarray, " packet"]
    discard: Bool[np.ndarray, " packet"]
    """Whether an edit list leaves the packet out."""

    def tell(self, packet: av.Packet, shift: int) -> bool:
        """Whether a packet agrees with the tables; their `pts` are `shift` too low."""
        number = -1 if packet.dts is None else int(np.searchsorted(self.dts, packet.dts))
        if packet.pts is None or not 0 <= number < len(self.dts):
            return False
        told = (self.pts[number] + shift, self.dts[number], self.size[number], self.key[number])
        return told == (packet.pts, packet.dts, packet.size, packet.is_keyframe)


def read_tables(path: Path, container: InputContainer) -> Tables | None:
    """Read the tables of an open file with one stream of pictures.

    Returns:
        None if the file is of another kind, fragmented or cut, if the setup of its decoder changes, if only the content
        of packets tells which are shown, or if the tables contradict each other or the file.
    """
    stream = next(stream for stream in film_streams(container) if stream.codec_context is not None)
    entries: list[Any] = list(getattr(stream, "index_entries", ()))  # of PyAV 17 and later
    told = container.format.name.startswith("mov,") and stream.codec_context.name not in _NEED_CONTENT
    if not told or not entries or structure(path).missing:
        return None
    size = np.array([entry.size for entry in entries], np.int64)
    place = np.array([entry.pos for entry in entries], np.int64)
    offsets = _showing_offsets(path, stream.id, len(entries))
    if offsets is None or (size <= 0).any() or (place + size > path.stat().st_size).any():
        return None
    dts = np.array([entry.timestamp for entry in entries], np.int64)
    if (np.diff(dts) <= 0).any():
        return None
    key, discard = (np.array([getattr(e, name) for e in entries], bool) for name in ("is_keyframe", "is_discard"))
    if not key.any():
        return None
    return Tables(dts + offsets, dts, size, key, discard)


def _boxes(data: mmap, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield each box between two places: its type, start and end of its content.

    A box that does not fit is the end.
    """
    while begin + 8 <= end:
        size, head = int.from_bytes(data[begin : begin + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[begin + 8 : begin + 16], "big"), 16
        if size == 0:  # up to the end
            size = end - begin
        if size < head or begin + size > end:
            return
        yield data[begin + 4 : begin + 8], begin + head, begin + size
        begin += size


def _showing_offsets(path: Path, track: int, samples: int) -> Int[np.ndarray, " packet"] | None:
    """Return for each sample of a track the time from decoding to showing; None if the tables do not tell."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        movie = _find(data, (0, len(data)), b"moov")
        if movie is None or _find(data, movie, b"mvex") is not None:
            return None
        for kind, begin, end in _boxes(data, *movie):
            if kind == b"trak" and _track_id(data, (begin, end)) == track:
                return _offsets(data, (begin, end), samples)
    return None


_Place = tuple[int, int]


def _find(data: mmap, place: _Place | None, *path: bytes) -> _Place | None:
    """Find the first box along a path of types."""
    for wanted in path:
        if place is None:
            return None
        place = next(((begin, end) for kind, begin, end in _boxes(data, *place) if kind == wanted), None)
    return place


def _track_id(data: mmap, track: _Place) -> int | None:
    header = _find(data, track, b"tkhd")
    if header is None:
        return None
    at = header[0] + (20 if data[header[0]] == 1 else 12)  # two times of 8 or of 4 bytes come before
    return int.from_bytes(data[at : at + 4], "big")


def _offsets(data: mmap, track: _Place, samples: int) -> Int[np.ndarray, " packet"] | None:
    table = _find(data, track, b"mdia", b"minf", b"stbl")
    setups = _find(data, table, b"stsd")
    if setups is None or int.from_bytes(data[setups[0] + 4 : setups[0] + 8], "big") != 1:
        return None
    place = _find(data, table, b"ctts")
    if place is None:
        return np.zeros(samples, np.int64)
    begin, end = place
    entries = int.from_bytes(data[begin + 4 : begin + 8], "big")
    if begin + 8 + 8 * entries > end:
        return None
    runs = np.frombuffer(data[begin + 8 : begin + 8 + 8 * entries], ">i4").reshape(-1, 2).astype(np.int64)
    if (runs[:, 0] < 0).any() or runs[:, 0].sum() != samples:
        return None
    return np.repeat(runs[:, 1], runs[:, 0])
