"""Request bodies to files: streamed within limits, named by their content, never by the client."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from shutil import disk_usage
from typing import Literal, NamedTuple
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request

from fsar.service.limits import Limits, Refused

FREE = 10**6
"""Bytes of the disk that stay free."""
_HEAD = 400
_MPEG_4 = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof")


Kind = Literal["video", "recognizer", "pixels"]
"""What a body is."""
_EXPECTED = {
    "video": "a video of a known kind; send mp4, mov, webm, mkv, avi, mpg, ts or gif",
    "recognizer": "a recogniser of fsar; send NAME.fsar",
}


class Upload(NamedTuple):
    """A video that was received whole."""

    path: Path
    """Its name is the hash of its content."""
    size: int
    """Bytes."""


def kind_of(head: bytes) -> str | None:
    """Tell the container of a video, or that it is a recogniser's file, from its first bytes.

    Args:
        head: at least 400 bytes, or the whole file.

    Returns:
        The usual suffix; None if it is none of the accepted containers.

    Example:
        >>> kind_of(bytes(4) + b"ftypisom"), kind_of(b"\\x1a\\x45\\xdf\\xa3 webm"), kind_of(b"ffconcat version 1.0")
        ('.mp4', '.webm', None)
    """
    starts = {
        b"\x00\x00\x01\xba": ".mpg",
        b"\x00\x00\x01\xb3": ".mpg",
        b"FLV\x01": ".flv",
        b"OggS": ".ogv",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ".wmv",
        b"GIF87a": ".gif",
        b"GIF89a": ".gif",
    }
    if head[4:8] in _MPEG_4:
        return ".mov" if head[8:12] == b"qt  " else ".mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return ".webm" if b"webm" in head[:80] else ".mkv"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return ".avi"
    if head[8:11] == b'{"_':
        return ".fsar"  # the header of safetensors begins with its metadata
    for first, step, suffix in ((0, 188, ".ts"), (4, 192, ".m2ts")):
        if head[first : first + 1] == head[first + step : first + step + 1] == b"\x47":
            return suffix
    return next((suffix for start, suffix in starts.items() if head.startswith(start)), None)


class Uploads:
    """Receives videos.

    Args:
        folder: for them, on the disk of the recognisers. Whatever lies there is removed.
        limits: of size and time.
    """

    def __init__(self, folder: Path, limits: Limits):
        self._folder, self._limits = folder, limits
        self._users: Counter[Path] = Counter()  # two requests may bring the same content
        folder.mkdir(exist_ok=True)
        for left in folder.iterdir():
            left.unlink()

    @asynccontextmanager
    async def received(self, request: Request, kind: Kind = "video") -> AsyncIterator[Upload]:
        """Stream the body of a request to a file, which lasts as long as the block.

        Args:
            request: with the body.
            kind: what the body is.

        Yields:
            The file.

        Raises:
            Refused: too large, too slow, cut short, empty, of another kind, or no room on the disk.
        """
        part = self._folder / f"part-{uuid4().hex}"
        try:
            path, size = await self._receive(request, part, kind)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        try:
            yield Upload(path, size)
        finally:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path]
                path.unlink(missing_ok=True)

    async def pixels(self, request: Request, size: int) -> bytes:
        """Take the body of a request into memory.

        Args:
            request: with pixels as its body.
            size: bytes that it must have.

        Raises:
            Refused: another size, too slow, or cut short.
        """
        deadline = asyncio.get_running_loop().time() + self._limits.upload_seconds
        body = bytearray()
        async for chunk in _chunks(request, deadline):
            body += chunk
            if len(body) > size:
                break
        if len(body) != size:
            raise Refused(422, f"the body has {len(body)} bytes or more; the pictures that were announced have {size}")
        return bytes(body)

    async def _receive(self, request: Request, part: Path, kind: Kind) -> tuple[Path, int]:
        most = round(self._limits.upload_mb * 1e6)
        too_large = Refused(413, f"the video is larger than {self._limits.upload_mb:g} MB; cut or shrink it")
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > most:
            raise too_large
        self._require_room(int(announced) if announced.isdecimal() else 0)
        digest, head, size = blake2b(digest_size=16), b"", 0
        deadline = asyncio.get_running_loop().time() + self._limits.upload_seconds
        with part.open("xb") as file:
            async for chunk in _chunks(request, deadline):
                size += len(chunk)
                if size > most:
                    raise too_large
                head = head if len(head) >= _HEAD else head + chunk[:_HEAD]
                digest.update(chunk)
                file.write(chunk)
        if not size:
            raise Refused(400, "the request has no body; send the bytes of a video as its body")
        suffix = ".pixels" if kind == "pixels" else kind_of(head)
        if suffix is None or (kind != "pixels" and (suffix == ".fsar") != (kind == "recognizer")):
            raise Refused(415, f"the body is not {_EXPECTED[kind]}")
        path = self._folder / f"{digest.hexdigest()}{suffix}"
        os.utime(part, (0, 0))  # the same content has the same name, size and time, and so the same entry in the cache
        part.replace(path)
        self._users[path] += 1
        return path, size

    def _require_room(self, size: int) -> None:
        free = disk_usage(self._folder).free
        if free < size + FREE:
            raise Refused(507, f"the disk has {free / 1e6:.0f} MB left; make room, then send the video again")


async def _chunks(request: Request, deadline: float) -> AsyncIterator[bytes]:
    """Give the parts of a body until a point in time."""
    stream = request.stream()
    while True:
        left = deadline - asyncio.get_running_loop().time()
        try:
            yield await asyncio.wait_for(anext(stream), max(left, 0.001))
        except StopAsyncIteration:
            return
        except ClientDisconnect as error:
            raise Refused(400, "the upload was cut short; send the video again") from error
        except asyncio.TimeoutError as error:
            raise Refused(408, "the upload took too long; send a smaller video, or use a faster connection") from error
