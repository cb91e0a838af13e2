"""Collect what the packets of a stream of pictures tell."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import av
from av.container import InputContainer

NOT_CODED = 16
"""Bytes; a packet of MPEG-4 up to this size may stand for a picture that is not coded."""


@dataclass
class Walk:
    """Facts on one stream."""

    stream: av.VideoStream
    pts: list[int | None] = field(default_factory=list)
    """One for each packet with a shown picture, in order of decoding; the other lists, too."""
    dts: list[int | None] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    packets: int = 0
    """Number of packets with content that are not discarded, as version 0.1 counted."""
    corrupt: int = 0
    ends_within: bool = False
    """Whether the last packet is cut."""
    surprising: bool = False
    """Whether the header of a packet makes no sense, or a packet may have no picture."""
    new_header: bool = False
    """Whether the setup of the decoder changes within the stream."""
    encrypted: bool = False
    first: av.VideoFrame | None = None

    def __post_init__(self) -> None:
        self.shown = _HEADERS.get(self.stream.codec_context.name)

    def note(self, packet: av.Packet) -> None:
        """Count a packet with content."""
        if packet.is_discard:
            return
        self.packets += 1
        if packet.is_corrupt:
            self.corrupt += 1
            self.ends_within = True
        else:
            self.ends_within = False
        if self.shown is not None:
            shown = self.shown(memoryview(packet))
            if shown is None:
                self.surprising = True
            elif shown == 0:
                return
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        is_key = packet.is_keyframe
        self.key.append(is_key)
        if is_key and packet.has_sidedata("new_extradata"):
            self.new_header = True

    def look_for_first(self, packet: av.Packet) -> None:
        """Decode until the first picture."""
        self.encrypted |= packet.has_sidedata("encryption_info")
        try:
            self.first = next(iter(packet.decode()), None)
        except av.FFmpegError:  # a later picture may be decodable
            return


def packets_of(container: InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet]:
    """Yield packets up to the end, or until the container cannot be read further."""
    try:
        yield from container.demux(*streams)
    except av.FFmpegError:  # the caller notices what is missing
        return


def _shown_in_vp8(data: memoryview) -> int | None:
    return data[0] >> 4 & 1


def _shown_in_vp9(data: memoryview) -> int | None:
    """Read the headers of a frame, or of all frames that share a packet (VP9 specification, section 6.2, annex B)."""
    marker = data[-1]
    sizes = [len(data)]
    if marker & 0xE0 == 0xC0:
        width, count = (marker >> 3 & 3) + 1, (marker & 7) + 1
        index = bytes(data[-(2 + width * count) :])
        if len(index) == 2 + width * count and index[0] == marker:
            sizes = [int.from_bytes(index[1 + width * i :][:width], "little") for i in range(count)]
    shown, position = 0, 0
    for size in sizes:
        if position >= len(data) or data[position] >> 6 != 2:
            return None
        shown += _is_shown_vp9(data[position])
        position += size
    return shown if shown <= 1 else None


def _is_shown_vp9(head: int) -> bool:
    """Read show_existing_frame and show_frame; profile 3 has one bit more before them."""
    shift = 1 if head >> 4 & 3 == 3 else 0
    existing, shown = head >> (3 - shift) & 1, head >> (1 - shift) & 1
    return bool(existing or shown)


def _shown_in_mpeg4(data: memoryview) -> int | None:
    return None if len(data) <= NOT_CODED else 1


_HEADERS: dict[str, Callable[[memoryview], int | None]] = {
    "vp8": _shown_in_vp8,
    "libvpx": _shown_in_vp8,
    "vp9": _shown_in_vp9,
    "libvpx-vp9": _shown_in_vp9,
    "mpeg4": _shown_in_mpeg4,
}
"""Decoder -> how many pictures of a packet are shown, 0 or 1; None if its header does not tell."""
