"""Walk over the packets of a video file: count its pictures and find where decoding may start, without decoding.

Packets do not tell everything. So an index says whether its count is exact (`counted`) and whether seeking is safe
(`seekable`); decoding (`fsar.video.decode`) finds the rest. A wrong index is noticed while frames are read, because
every decoded frame must be the one that the index expects next.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from fsar.video.container import film_streams, opened, prepare_decoder
from fsar.video.index import Index
from fsar.video.paths import VideoError
from fsar.video.picture import Look, Turn, turn_of
from fsar.video.structure import structure
from fsar.video.tables import Tables, read_tables
from fsar.video.walk import NOT_CODED, Walk, packets_of

_ONE_PICTURE_A_PACKET = frozenset(
    (
        *("h264", "hevc", "vvc", "av1", "libdav1d", "libaom-av1", "vp8", "libvpx", "vp9", "libvpx-vp9"),
        *("mpeg4", "mpeg1video", "mpeg2video"),
    )
)
"""Decoders with one shown picture per packet; decoders with only key pictures are recognised in another way."""
_MOST_CUT = 0.05
"""Share of a file that may be missing at its end."""
_HIGHEST_RATE = 10_000
"""Frames per second; high-speed cameras write their own rate."""
_FIRST_PACKETS = 300
"""A stream must give its first picture within so many packets."""


def scan(path: Path, container: InputContainer, by_tables: bool = True) -> Index:
    """Make the index of an open file from its packets.

    Args:
        path: the file.
        container: just opened; it can still be used for seeking afterwards.
        by_tables: trust the tables of an mp4 or mov file, so that only its first packets are read.

    Raises:
        VideoError: no pictures, cut short, or none of its pictures can be decoded.
    """
    walks = {s.index: Walk(s) for s in film_streams(container) if s.codec_context is not None}
    for walk in walks.values():
        prepare_decoder(walk.stream, threads=True)
    tables = read_tables(path, container) if by_tables and len(walks) == 1 else None
    end = _by_packets(container, walks) if tables is None else _by_tables(container, next(iter(walks.values())), tables)
    if end is None:
        with opened(path) as again:
            return scan(path, again, by_tables=False)
    film = _film(path, walks)
    start = (container.start_time or 0) / av.time_base
    cut = _require_whole(path, container, film, start, end - start)
    return _index(path, container, film, start, max(0.0, end - start), cut)


class _Ends(dict[av.stream.Stream, int]):
    """End of the last packet of each stream, in seconds."""

    def note(self, packet: av.Packet) -> None:
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            time += packet.duration or 0
            if time > self.setdefault(packet.stream, time):
                self[packet.stream] = time

    def seconds(self) -> float:
        """End of the last stream, in seconds."""
        return max((float(end * (stream.time_base or 0)) for stream, end in self.items()), default=0.0)


def _by_packets(container: InputContainer, walks: dict[int, Walk]) -> float:
    """Walk over all packets; return the end of the last one, in seconds."""
    ends = _Ends()
    for packet in packets_of(container):
        walk = walks.get(packet.stream.index)
        if packet.size:  # a flushing packet has no time
            ends.note(packet)
            if walk is not None:
                walk.note(packet)
        if walk is not None and walk.first is None and walk.packets <= _FIRST_PACKETS:
            walk.look_for_first(packet)
    return ends.seconds()


def _by_tables(container: InputContainer, walk: Walk, tables: Tables) -> float | None:
    """Use the tables of the file, if its first and last packets agree with them.

    Only packets up to the first picture, and from the last key frame on, are read.

    Returns:
        The end of the last packet, in seconds; None if the packets do not agree with the tables.
    """
    shift, read = 0, 0
    for packet in packets_of(container, walk.stream):
        if packet.size:
            shift = packet.pts - int(tables.pts[0]) if read == 0 and packet.pts is not None else shift
            if not tables.tell(packet, shift):
                return None
            read += 1
        walk.look_for_first(packet)
        if walk.first is not None or read > _FIRST_PACKETS:
            break
    ends, last = _Ends(), None
    try:
        container.seek(int(tables.dts[np.flatnonzero(tables.key)[-1]]), stream=walk.stream)
    except av.FFmpegError:
        return None
    for packet in packets_of(container):
        if packet.size:
            ends.note(packet)
            if packet.stream == walk.stream:
                last = packet.dts
                if not tables.tell(packet, shift):
                    return None
    if last != tables.dts[-1]:
        return None
    shown = ~tables.discard
    walk.pts, walk.dts = (tables.pts[shown] + shift).tolist(), tables.dts[shown].tolist()
    walk.key, walk.packets = tables.key[shown].tolist(), int(shown.sum())
    walk.surprising = walk.stream.codec_context.name == "mpeg4" and bool((tables.size <= NOT_CODED).any())
    return ends.seconds()


def _film(path: Path, walks: dict[int, Walk]) -> Walk:
    """Choose a stream: the default one, or else the one with the most frames, or else the largest."""
    with_pictures = [walk for walk in walks.values() if walk.packets]
    if not with_pictures:
        raise VideoError(path, "it holds no frames; record or export it again")
    decoded = [walk for walk in with_pictures if walk.first is not None]
    if any(walk.encrypted for walk in with_pictures):  # some decode by chance, to noise
        raise VideoError(path, "it is encrypted (copy protection, DRM); give a copy without protection")
    if not decoded:
        raise VideoError(path, "no frame could be decoded; the file is broken or cut short")
    default = av.stream.Disposition.default

    def rank(walk: Walk) -> tuple[bool, int, int]:
        context = walk.stream.codec_context
        return bool(walk.stream.disposition & default), len(walk.pts), context.width * context.height

    return max(decoded, key=rank)


def _require_whole(path: Path, container: InputContainer, walk: Walk, start: float, end: float) -> bool:
    """Refuse a file that lacks more than its last moments; return whether these are missing.

    A duration that is longer than the pictures does not prove it: recorders of screens and calls write the length of
    the recording. A file that is shorter than its headers say does.
    """
    missing = structure(path).missing
    if not missing and not walk.ends_within:
        return False
    claimed = (container.duration or 0) / av.time_base
    # some containers count from the first picture, some from zero
    late = claimed - end - max(start, 0.0)
    if late > max(1.0, 0.1 * claimed):
        raise VideoError(path, f"cut short: it ends after {end:.1f} of {claimed:.1f} seconds; copy it again")
    if missing > _MOST_CUT or (walk.ends_within and walk.packets * _MOST_CUT < 1):
        what = f"it ends within frame {walk.packets}" if walk.ends_within else f"about {missing:.0%} of it is missing"
        raise VideoError(path, f"cut short: {what}; copy it again")
    return True


def _index(path: Path, container: InputContainer, walk: Walk, start: float, end: float, cut: bool) -> Index:
    stream, first = walk.stream, walk.first
    assert first is not None
    streams = film_streams(container)
    counted = _is_counted(walk)
    pts, keys = _order(walk)
    matrix = display_matrix(first)
    look = Look(first.width, first.height, turn_of(matrix), float(stream.sample_aspect_ratio or 1))
    fps = _rate(stream, len(walk.pts), end)
    lost = _lost(path, walk, pts)
    changed = (
        stream.index != streams[0].index
        or not counted
        or len(walk.pts) != walk.packets
        or look.square_size != (look.width, look.height)
        or look.shrink > 1
        or first.interlaced_frame
        or not _as_before(look.turn, first.rotation)
        or fps != (float(stream.average_rate) if stream.average_rate else None)
    )
    return Index(
        stream=streams.index(stream),
        frames=len(walk.pts),
        fps=fps,
        duration=end,
        start=min(start, float(pts[0] * stream.time_base)) if len(pts) and stream.time_base else start,
        tick=tick_of(stream.time_base),
        look=look,
        interlaced=first.interlaced_frame,
        damaged=max(walk.corrupt, int(cut)) + lost,
        counted=counted,
        seekable=len(keys) > 0 and not walk.new_header and not lost,
        changed=bool(changed),
        checked=False,
        pts=pts,
        keys=keys,
    )


def tick_of(time_base: Any) -> Fraction:
    """The unit of a stream's times as a Fraction: PyAV 19 has a type of its own, in which zero means unknown.

    Args:
        time_base: any rational number, in seconds; None or zero if the stream says none.

    Example:
        >>> tick_of(Fraction(1, 10240)), tick_of(None)
        (Fraction(1, 10240), Fraction(1, 25))
    """
    return Fraction(time_base.numerator, time_base.denominator) if time_base else Fraction(1, 25)


def _rate(stream: av.VideoStream, frames: int, seconds: float) -> float | None:
    """Return average frames per second; some containers (DV, IVF) have no rate, or an absurd one."""
    if stream.average_rate and stream.average_rate <= _HIGHEST_RATE:
        return float(stream.average_rate)
    return frames / seconds if seconds > 0 else None


def _is_counted(walk: Walk) -> bool:
    codec = walk.stream.codec_context.codec
    return not walk.surprising and (codec.name in _ONE_PICTURE_A_PACKET or codec.intra_only)


def _order(walk: Walk) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of the frames in order, and where decoding may start; both empty if unknown.

    Frames that follow a key frame in the file but are shown before it may need pictures before it. So decoding for a
    frame starts at the last key frame that is not shown later than the frame. Every frame that is shown later than a
    key frame must follow it in the file.
    """
    none = np.empty(0, np.int64), np.empty((0, 2), np.int64)
    if any(time is None for time in walk.pts):
        return none
    pts = np.array(walk.pts, np.int64)
    order = np.argsort(pts, kind="stable")
    if (np.diff(pts[order]) <= 0).any():
        return none
    key = np.array(walk.key)
    latest_before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(pts)[:-1]])
    if not key[0] or (latest_before[key] > pts[key]).any() or order[0] != 0:
        return pts[order], none[1]
    shown_as = np.argsort(order)
    seek_to = [pts[i] if walk.dts[i] is None else min(pts[i], walk.dts[i]) for i in np.flatnonzero(key)]
    return pts[order], np.stack([shown_as[key], np.array(seek_to, np.int64)], 1)


def display_matrix(picture: av.VideoFrame) -> np.ndarray | None:
    """Return how a picture is turned and mirrored for display, as `turn_of` takes it."""
    try:
        data: Any = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know a kind of side data
        angle = np.deg2rad(picture.rotation)
        return np.array([np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1])
    return None if data is None else np.frombuffer(bytes(data), np.int32)


def _as_before(turn: Turn, rotation: int) -> bool:
    """Whether version 0.1, which only knew an angle, turned pictures in the same way."""
    probe = np.arange(6).reshape(2, 3)
    return np.array_equal(turn(probe), np.rot90(probe, k=round(rotation / 90)))


def _lost(path: Path, walk: Walk, pts: np.ndarray) -> int:
    """Estimate how many pictures were lost with garbled parts of the container."""
    announced = walk.stream.frames - walk.packets
    gaps = np.diff(pts) if len(pts) > 2 else np.ones(1)
    usual = max(1.0, float(np.median(gaps)))
    if announced <= 0 and gaps.max() < 1.5 * usual:
        return 0
    if not structure(path, deep=True).garbled:
        return 0
    return max(announced, round(float((gaps[gaps >= 1.5 * usual] / usual - 1).sum())), 1)
