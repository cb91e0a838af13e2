"""Check whether a file is complete and its structure whole, by the headers of its parts, without decoding.

| container | parts | specification |
|---|---|---|
| mp4, mov, 3gp | boxes | ISO/IEC 14496-12, section 4.2 |
| avi | RIFF chunks | Microsoft, "AVI RIFF File Reference" |
| webm, mkv | EBML elements | RFC 8794, RFC 9559 |
| wmv, asf | the file's size in its header | Microsoft, "Advanced Systems Format", section 3.2 |

Other containers do not have this information.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

_PRINTABLE = frozenset(string.printable.encode())
_BOXES = 100_000
"""How many parts are checked; a longer list counts as whole."""


@dataclass(frozen=True)
class Structure:
    """The result of the check."""

    missing: float = 0.0
    """Share of the file that is missing according to its headers, in [0, 1]."""
    garbled: bool = False
    """Whether there are bytes between the parts that are not a part."""


def structure(path: Path, deep: bool = False) -> Structure:
    """Check the parts of a video file.

    Args:
        path: a file that is not empty.
        deep: in an avi, webm or mkv, also check the parts with single pictures; this takes about a second for an
            hour of video.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.mp4"  # a box of 16 bytes and the first quarter of one of 64
        ...     _ = file.write_bytes(b"\\0\\0\\0\\x10ftypisom\\0\\0\\0\\0" + b"\\0\\0\\0\\x40mdat" + bytes(8))
        ...     structure(file)
        Structure(missing=0.6, garbled=False)
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
            return _of_boxes(data)
        if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
            return _of_riff(data, deep)
        if data[:4] == b"\x1a\x45\xdf\xa3":
            return _of_ebml(data, deep)
        if data[:4] == b"\x30\x26\xb2\x75":
            return _of_asf(data)
    return Structure()


def _share(announced: int, there: int) -> float:
    return max(0.0, (announced - there) / announced) if announced else 0.0


# --------------------------------------------------------------------------- mp4


def _of_boxes(data: mmap) -> Structure:
    """Walk over the boxes of the top level; each fragment of a fragmented file has a `moof` before its data."""
    position, fragments, kind = 0, 0, b""
    for _ in range(_BOXES):
        if position + 8 > len(data):
            break
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size == 0:  # the box extends to the end of the file
            return Structure()
        if size < 8 or not set(kind) <= _PRINTABLE:
            return Structure(garbled=True)
        if position + size > len(data):
            cut_fragment = 1 / (fragments + 1) if kind == b"moof" or fragments else 0.0
            return Structure(max(_share(position + size, len(data)), cut_fragment))
        fragments += kind == b"moof"
        position += size
    return Structure()


# --------------------------------------------------------------------------- avi


def _of_riff(data: mmap, deep: bool) -> Structure:
    """Walk over every RIFF, and over the chunks within its list `movi`."""
    position, garbled = 0, False
    while position + 12 <= len(data) and data[position : position + 4] == b"RIFF":
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if size == 0:  # the recorder did not close it
            return Structure(garbled=garbled)
        end = position + 8 + size
        if end > len(data) + 1:
            return Structure(_share(end, len(data)), garbled)
        garbled |= deep and _garbled_chunks(data, position + 12, min(end, len(data)))
        position = end + size % 2
    return Structure(garbled=garbled)


def _garbled_chunks(data: mmap, position: int, end: int) -> bool:
    while position + 8 <= end:
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if not set(kind) <= _PRINTABLE or position + 8 + size > end + 1:
            return True
        is_list = kind == b"LIST" and data[position + 8 : position + 12] in (b"movi", b"rec ")
        position += 12 if is_list else 8 + size + size % 2
    return False


# --------------------------------------------------------------------------- webm

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_OF_SEGMENT = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, _CLUSTER}
_OF_CLUSTER = {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xAF, 0x5854}
_ANYWHERE = {0xEC, 0xBF}  # Void, CRC-32


def _of_ebml(data: mmap, deep: bool) -> Structure:
    """Walk over the elements of the segment and of its clusters; both may be of unknown size."""
    segment = next((element for element in _elements(data, 0, len(data)) if element[1] == _SEGMENT), None)
    if segment is None:
        return Structure(garbled=True)
    position, _, size = segment
    end = len(data) if size is None else position + size
    missing = _share(end, len(data))
    if not deep:
        return Structure(missing)
    for _, identity, _ in _elements(data, position, min(end, len(data))):
        if identity is None or identity not in _OF_SEGMENT | _OF_CLUSTER | _ANYWHERE:
            return Structure(missing, garbled=True)
    return Structure(missing)


def _elements(data: mmap, position: int, end: int) -> Iterator[tuple[int, int | None, int | None]]:
    """Yield place, identity and size of each element; only clusters are entered.

    The identity None means bytes that are not an element; it is the last one.
    """
    while position < end:
        identity, width = _number(data, position, keep_marker=True)
        size, more = _number(data, position + width, keep_marker=False)
        if identity is None or (size is None and more == 0):
            if position + 12 < end:  # otherwise, the last element is cut
                yield position, None, None
            return
        position += width + more
        unknown = size is None or size == (1 << 7 * more) - 1
        yield position, identity, None if unknown else size
        if identity not in (_SEGMENT, _CLUSTER):
            if unknown or size is None:
                return
            position += size


def _number(data: mmap, position: int, keep_marker: bool) -> tuple[int | None, int]:
    """Read a number of variable length; return it and its length in bytes, 0 if there is none."""
    first = data[position] if position < len(data) else 0
    width = 9 - first.bit_length()
    if first == 0 or position + width > len(data) or (keep_marker and width > 4):
        return None, 0
    value = int.from_bytes(data[position : position + width], "big")
    return (value if keep_marker else value & ((1 << 7 * width) - 1)), width


# --------------------------------------------------------------------------- asf

_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _of_asf(data: mmap) -> Structure:
    """Check the size in the File Properties Object, unless the file is a broadcast."""
    at = data.find(_FILE_PROPERTIES, 0, 1 << 16)
    if at < 0 or at + 92 > len(data):
        return Structure()
    announced = int.from_bytes(data[at + 40 : at + 48], "little")
    broadcast = data[at + 88] & 1
    return Structure(0.0 if broadcast else _share(announced, len(data)))
