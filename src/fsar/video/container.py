"""Open a video file with FFmpeg: only as a file, and never with a format that opens other files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from fsar.video.paths import VideoError, decoding, require_file

MOST_PIXELS = 2**26
"""Largest picture in pixels, 8192 x 8192. A header with more is broken, and would need much memory."""
_FRAME_BUDGET = 64 * 2**20
"""Bytes of decoded pictures in the threads of a decoder; limits memory for very large pictures."""

_OPENS_OTHER_FILES = frozenset(
    (
        *("concat", "dash", "hds", "hls", "image2", "imf", "sdp", "vobsub", "webm_dash_manifest"),  # name other files
        *("avisynth", "lavfi", "vapoursynth"),  # run scripts
        *("rtp", "rtsp", "sap", "alsa", "fbdev", "kmsgrab", "oss", "v4l2", "video4linux2", "x11grab", "xcbgrab"),
    )
)
OF_TAGS: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Tags that are not UTF-8 are no error; PyAV 19 takes them without being told, and no longer knows the argument."""
_PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"<?xml", b"<MPD", b"v=0", b"[InternetShortcut]", b"[playlist]")
_WORTH_THREADS = 2**18
"""Pixels of a picture; for smaller ones, several threads take more time of the processor than they save."""


@cache
def allowed_formats() -> str:
    """Return FFmpeg's names of the formats that open no other files, run no scripts and are no devices."""
    names = {name for entry in av.formats_available for name in entry.split(",")}
    return ",".join(sorted(names - _OPENS_OTHER_FILES))


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a video file for reading. Metadata is not used, so its encoding does not matter.

    Args:
        path: a regular file.

    Yields:
        The container; it has at least one stream of pictures with a decoder.

    Raises:
        VideoError: not a file, not a video, or no decoder for it. Errors of the decoder inside the `with` block
            become a VideoError, too.
    """
    require_file(path)
    # FFmpeg needs names in UTF-8; an open file may have any name
    utf8 = not any(0xDC80 <= ord(c) <= 0xDCFF for c in os.fspath(path))
    with open(os.devnull if utf8 else path, "rb") as file, decoding(path):
        source = os.fspath(path.absolute()) if utf8 else file  # a relative `a:b.mp4` looks like a URL
        options = {"protocol_whitelist": "file", "format_whitelist": allowed_formats(), "max_pixels": str(MOST_PIXELS)}
        try:
            container = av.open(source, "r", options=options, **OF_TAGS)
        except av.ArgumentError as error:  # a format that is not allowed
            raise VideoError(path, _why_kept_out(path)) from error
        with container:
            _require_pictures(path, container)
            yield container


def _why_kept_out(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    if head.startswith(_PLAYLISTS):
        return "it is a playlist, which names other files; give the video itself"
    return "its format opens other files, or FFmpeg does not know it; give a video file"


def _require_pictures(path: Path, container: InputContainer) -> None:
    streams = film_streams(container)
    if not streams:
        what = "only sound" if container.streams.audio else "no video stream"
        raise VideoError(path, f"it holds {what}; a video with pictures was expected")
    if all(stream.codec_context is None for stream in streams):
        raise VideoError(path, "no decoder for its pictures is installed; convert it, for instance to H.264")


def film_streams(container: InputContainer) -> list[av.VideoStream]:
    """Return the streams of pictures, without cover art."""
    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def prepare_decoder(stream: av.VideoStream, threads: bool) -> None:
    """Set up a stream's decoder before its first packet.

    Args:
        stream: of pictures.
        threads: use several threads, as far as memory allows. With several threads, the pictures of a damaged
            stream may differ from run to run.
    """
    context = stream.codec_context
    context.options = {"max_pixels": str(MOST_PIXELS)}
    size = max(1, context.width * context.height * 3 // 2)
    several = threads and context.width * context.height >= _WORTH_THREADS
    count = min(os.cpu_count() or 1, _FRAME_BUDGET // size) if several else 1
    context.thread_count = max(1, count)
    context.thread_type = "AUTO" if count > 1 else "NONE"
