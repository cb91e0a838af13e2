"""Live sources: a camera, a stream on the network, or a file that plays at its own speed.

`fsar.video.play` gives the pictures of a source over time.

A file is opened as every video file is (`fsar.video.container`). A camera or a stream is opened only if the user names
it as a source. Its formats and protocols are listed here, so that a stream can open neither files nor other addresses.
"""

import errno
import glob
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from fsar.video.container import MOST_PIXELS, OF_TAGS, allowed_formats, film_streams, opened, prepare_decoder
from fsar.video.frame_cache import SHORT_SIDE
from fsar.video.paths import VideoError, as_path, display
from fsar.video.picture import Frame, Look, small_frame, turn_of

STALL = 10.0
"""Seconds without a picture after which a stream counts as broken."""

PROTOCOLS = {
    "rtsp": "rtp,udp,tcp",
    "rtsps": "rtp,udp,tcp,tls",
    "http": "http,https,tcp,tls",
    "https": "http,https,tcp,tls",
    "tcp": "tcp",
    "udp": "udp",
}
"""Scheme of an address -> the protocols that FFmpeg may use for it."""
_CAMERAS = {"linux": ("video4linux2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
_REASONS = {
    errno.EBUSY: "another program uses it; close that program",
    errno.EACCES: "no permission to use it; on Linux, add your user to the group `video`",
    errno.EPERM: "no permission to use it; on Linux, add your user to the group `video`",
    errno.ECONNREFUSED: "nothing answers there; check host and port, and that the camera is on",
    errno.EIO: "it sends no video, or broke off; check the address",
    errno.EHOSTUNREACH: "there is no way to that host; check the address and the network",
    errno.ENETUNREACH: "there is no way to that host; check the address and the network",
}
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (av.HTTPUnauthorizedError, "it asks for a name and a password; write them as in rtsp://NAME:PASSWORD@HOST/PATH"),
    (av.HTTPForbiddenError, "the server refuses this name and password"),
    (av.HTTPNotFoundError, "the server has no such stream; check the path"),
    (av.ArgumentError, "it sends no video, or a list of other addresses, as HLS and DASH do; give the stream itself"),
    (
        av.InvalidDataError,
        "it sends no video, or a list of other addresses, as HLS and DASH do; give the stream itself",
    ),
)


class SourceError(ValueError):
    """A live source that cannot be opened or breaks.

    Args:
        source: its name.
        reason: the problem, and the fix.
    """

    def __init__(self, source: str, reason: str):
        super().__init__(f"{source}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Connection:
    """An open source."""

    pictures: Iterator[tuple[float | None, Callable[[], Frame]]]
    """Time of each picture in seconds, counted from anywhere, or None; and what converts it."""
    has_end: bool
    """Whether it is a recording, which plays at its own speed and is over at its end."""


@runtime_checkable
class Source(Protocol):
    """What can be opened, again and again."""

    name: str
    """Name for people, without a password."""

    def open(self) -> AbstractContextManager[Connection]:
        """Connect.

        Raises:
            SourceError: it cannot be opened, or breaks while it is read; the message has the reason and the fix.
        """


def source_named(name: str | int | os.PathLike[str], stall: float = STALL) -> Source:
    """Tell what a user's words stand for.

    Args:
        name: the number of a camera, its device `/dev/video...`, an address such as `rtsp://...`, or a video file.
        stall: seconds without a picture after which a stream counts as broken.

    Raises:
        ValueError: an address of an unknown kind, or no seconds above 0.

    Example:
        >>> source_named("rtsp://me:secret@10.0.0.7/door").name
        'rtsp://10.0.0.7/door'
        >>> source_named(0).name, source_named("street.mp4").name
        ('camera 0', 'street.mp4')
    """
    if not stall > 0:
        raise ValueError(f"a stream would count as broken after {stall:g} s; expected more than 0")
    text = str(name) if isinstance(name, int) else os.fspath(name)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme and not os.path.lexists(text):
        if scheme[1].lower() not in PROTOCOLS:
            raise ValueError(f"{_without_password(text)}: expected an address that begins with {', '.join(PROTOCOLS)}")
        return _Stream(text, stall)
    if number := re.fullmatch(r"(?:/dev/video)?(\d+)", text):
        return _Camera(int(number[1]), stall)
    return _File(as_path(text))


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


# ----------------------------------------------------------------------- sources


class _File:
    """A video file."""

    def __init__(self, path: Path):
        self.path, self.name = path, display(path)

    @contextmanager
    def open(self) -> Iterator[Connection]:
        if os.path.isdir(self.path):
            raise SourceError(self.name, "it is a folder; give a video file, a camera or a stream")
        try:
            with opened(self.path) as container:
                yield Connection(_pictures(container, self.name, None), has_end=True)
        except VideoError as error:
            raise SourceError(self.name, error.reason) from error


class _Stream:
    """An address on the network."""

    def __init__(self, address: str, stall: float):
        self.address, self.stall = address, stall
        self.name = _without_password(address)

    @contextmanager
    def open(self) -> Iterator[Connection]:
        scheme = urlsplit(self.address).scheme.lower()
        rtsp = scheme.startswith("rtsp")
        options = {
            "protocol_whitelist": PROTOCOLS[scheme],
            "format_whitelist": "rtsp" if rtsp else allowed_formats(),
            "max_pixels": str(MOST_PIXELS),
            "analyzeduration": "1000000",  # microseconds; FFmpeg looks for 5 s by default
            **({"rtsp_flags": "prefer_tcp"} if rtsp else {}),
        }
        with _in_words(self.name, self.stall):
            waits = (self.stall, self.stall)
            with av.open(self.address, options=options, timeout=waits, **OF_TAGS) as container:
                yield Connection(_pictures(container, self.name, self.stall), container.duration is not None)


class _Camera:
    """A camera of this machine."""

    def __init__(self, number: int, stall: float):
        self.number, self.stall = number, stall
        self.name = f"camera {number}"

    @contextmanager
    def open(self) -> Iterator[Connection]:
        if sys.platform not in _CAMERAS:
            raise SourceError(self.name, "cameras are read on Linux and macOS; give an address or a file")
        form, device = _CAMERAS[sys.platform]
        options = {"protocol_whitelist": "file", "format_whitelist": "video4linux2,v4l2,avfoundation"}
        with _in_words(self.name, self.stall):
            try:
                container = av.open(device.format(self.number), format=form, options=options, timeout=self.stall)
            except av.FileNotFoundError as error:
                known = ", ".join(re.sub(r"\D", "", path) for path in sorted(glob.glob("/dev/video*"))) or "none"
                raise SourceError(self.name, f"there is no such camera; found: {known}. Check its cable") from error
            with container:
                yield Connection(_pictures(container, self.name, self.stall), has_end=False)


@contextmanager
def _in_words(name: str, stall: float) -> Iterator[None]:
    """Turn an error of FFmpeg into a SourceError with the reason and the fix."""
    try:
        yield
    except (av.ExitError, av.TimeoutError) as error:
        raise SourceError(name, f"no picture for {stall:g} s") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        reason = next((words for kind, words in _KINDS if isinstance(error, kind)), None)
        reason = reason or _REASONS.get(getattr(error, "errno", 0) or 0)
        raise SourceError(name, reason or getattr(error, "strerror", None) or str(error)) from error


def _pictures(
    container: InputContainer, name: str, stall: float | None
) -> Iterator[tuple[float | None, Callable[[], Frame]]]:
    """Decode from now on; damaged packets are left out, but not for more than `stall` seconds without a picture."""
    from fsar.video.scan import display_matrix

    streams = film_streams(container)
    if not streams:
        raise SourceError(name, "it has no pictures")
    stream, look, last = streams[0], None, time.monotonic()
    prepare_decoder(stream, threads=False)  # each thread would delay the pictures by one
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            decoded = []
        for picture in decoded:
            last = time.monotonic()
            if look is None:
                shape = float(stream.sample_aspect_ratio or 1)
                look = Look(picture.width, picture.height, turn_of(display_matrix(picture)), shape)
            yield picture.time, partial(small_frame, picture, look, SHORT_SIDE)
        if stall is not None and time.monotonic() - last > stall:
            raise SourceError(name, f"data came for {stall:g} s, but no picture; the stream is damaged")
