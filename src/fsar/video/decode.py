"""Decode the frames of a video file: all of them, or only the wanted ones, by seeking to key frames.

Frame i is the i-th picture if the whole file is decoded, without packets that cannot be decoded. Seeking gives the same
pictures: every decoded picture must be the one that the index expects next. If it is not, `Unexpected` is raised, and
the whole file is decoded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from fsar.video.container import film_streams, opened, prepare_decoder
from fsar.video.index import Index
from fsar.video.paths import VideoError
from fsar.video.walk import packets_of

MOST_DAMAGED = 0.3
"""Share of packets that may be damaged; a video with more is refused."""
_NEAR = 8
"""Up to this distance in frames, decoding on is faster than seeking."""
_FURTHER_BACK = 2
"""Seconds to go back if a container's seeking lands too late."""


class Unexpected(Exception):
    """The frames of a file are not those of its index."""


@dataclass
class Tally:
    """Counts of what a decoder returned."""

    pictures: int = 0
    failed: int = 0
    """Number of packets that the decoder refused."""
    flawed: int = 0
    """Number of pictures with lost parts, which the decoder filled in."""
    pts: list[int | None] = field(default_factory=list)

    @property
    def damaged(self) -> int:
        """Number of packets and pictures that are not as they were encoded."""
        return self.failed + self.flawed


def pictures(container: InputContainer, index: Index, tally: Tally, threads: bool) -> Iterator[av.VideoFrame]:
    """Decode from the start of a container; packets that fail are counted and left out.

    Args:
        container: just opened.
        index: of the file.
        tally: counts are added to it.
        threads: decode in several threads.
    """
    stream = film_streams(container)[index.stream]
    prepare_decoder(stream, threads)
    for packet in packets_of(container, stream):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            tally.failed += 1
            continue
        for picture in decoded:
            tally.pictures += 1
            tally.flawed += picture.is_corrupt
            tally.pts.append(picture.pts)
            yield picture


def check(path: Path, index: Index, wanted: Sequence[int] = ()) -> Iterator[tuple[int, av.VideoFrame] | Index]:
    """Decode a whole file: yield the wanted frames and, last, the exact index.

    If the exact index has another number of frames, or damage, the frames before it were chosen by a wrong count.

    Args:
        path: the file.
        index: of the file, perhaps not exact.
        wanted: numbers of frames.

    Raises:
        VideoError: nothing can be decoded, or too much is damaged.
    """
    chosen, tally = set(wanted), Tally()
    with opened(path) as container:
        for picture in pictures(container, index, tally, threads=True):
            if tally.pictures - 1 in chosen:
                yield tally.pictures - 1, picture
    if tally.damaged:  # with several threads, damaged pictures may differ from run to run
        tally = Tally()
        with opened(path) as container:
            for _ in pictures(container, index, tally, threads=False):
                pass
    yield _certain(path, index, tally)


def _certain(path: Path, index: Index, tally: Tally) -> Index:
    if tally.pictures == 0:
        raise VideoError(path, "no frame could be decoded; the file is broken or cut short")
    missed = index.frames - tally.pictures if index.counted and tally.damaged else 0  # pictures that went with others
    damaged = max(tally.damaged, index.damaged, missed)
    require_sound(path, damaged, max(tally.pictures + tally.failed, index.frames))
    if tally.pictures == index.frames and not tally.damaged:
        return replace(index, checked=True, counted=True)
    known = all(time is not None for time in tally.pts)
    return replace(
        index,
        frames=tally.pictures,
        damaged=damaged,
        counted=True,
        checked=True,
        seekable=False,
        pts=np.array(tally.pts if known else [], np.int64),
        keys=index.keys[:0],
    )


def require_sound(path: Path, damaged: int, whole: int) -> None:
    """Refuse a video with too much damage.

    Args:
        path: of the video, for the error.
        damaged: number of damaged pictures.
        whole: number of all pictures.

    Raises:
        VideoError: the share of damaged pictures is above `MOST_DAMAGED`.
    """
    if damaged > MOST_DAMAGED * whole:
        raise VideoError(path, f"{damaged} of its {whole} pictures are damaged or lost; copy it again from its source")


def from_start(path: Path, index: Index, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode from the start to the last wanted frame.

    Args:
        path: the file.
        index: of it.
        wanted: numbers of frames, ascending, each once.

    Raises:
        Unexpected: the index was made without decoding, and is wrong.
    """
    chosen, tally = set(wanted), Tally()
    with opened(path) as container:
        for picture in pictures(container, index, tally, threads=not index.damaged):
            if tally.damaged and not index.checked:
                raise Unexpected
            if tally.pictures - 1 in chosen:
                yield tally.pictures - 1, picture
            if tally.pictures > wanted[-1]:
                return
    raise Unexpected


def by_seeking(container: InputContainer, index: Index, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode each wanted frame from the last key frame before it.

    Args:
        container: open, at any place.
        index: one that is seekable.
        wanted: numbers of frames, ascending, each once.

    Raises:
        Unexpected: a frame is not at the place in the index.
    """
    stream = film_streams(container)[index.stream]
    if not stream.codec_context.is_open:
        prepare_decoder(stream, threads=True)
    source: Iterator[av.VideoFrame] = iter(())
    position = -2 - _NEAR  # of the last frame decoded; -1 would be the one before the first
    for number in wanted:
        key, seek_to = index.keys[np.searchsorted(index.keys[:, 0], number, "right") - 1].tolist()
        if key > position + _NEAR:
            source, position = _from_key(container, stream, index, key, seek_to), key - 1
        picture = None
        while position < number:
            picture, position = next(source, None), position + 1
            if picture is None or picture.pts != index.pts[position] or picture.is_corrupt:
                raise Unexpected
        assert picture is not None
        yield number, picture


def _from_key(
    container: InputContainer, stream: av.VideoStream, index: Index, key: int, seek_to: int
) -> Iterator[av.VideoFrame]:
    """Decode from a key frame on; pictures shown before it need earlier packets and are left out."""
    shown = int(index.pts[key])
    for packet in _packets_from(container, stream, index, key, seek_to):
        try:
            decoded = packet.decode()
        except av.FFmpegError:  # the picture will be missed when its turn comes
            continue
        yield from (picture for picture in decoded if picture.pts is None or picture.pts >= shown)


def _packets_from(
    container: InputContainer, stream: av.VideoStream, index: Index, key: int, seek_to: int
) -> Iterator[av.Packet]:
    """Yield the packet of a key frame and the packets after it.

    If a container's seeking lands too late, an earlier time is tried, and finally the first key frame. Packets before
    the right one are then read, but not decoded.
    """
    shown = int(index.pts[key])
    for time in (seek_to, seek_to - round(_FURTHER_BACK / index.tick), int(index.keys[0, 1])):
        try:
            container.seek(time, stream=stream)
        except av.FFmpegError:  # some refuse a time before their first packet
            continue
        packets = packets_of(container, stream)
        for packet in packets:
            if packet.is_keyframe and packet.pts == shown:
                yield packet
                yield from packets
                return
            if packet.is_keyframe and packet.pts is not None and packet.pts > shown:
                break
    raise Unexpected
