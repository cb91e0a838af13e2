"""What runs in a decoding process: it reads videos for the service, within limits on memory and length.

The process takes one request per line and gives one answer per line, both as JSON. It writes frames to the frame cache,
from which the service reads them; so the service itself never opens a video with FFmpeg. It ends with its connection.
"""

import json
import resource
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError
from fsar.video.reading import probe, stream_frames
from fsar.video.sources import source_of
from fsar.video.stills import image_format
from fsar.video.writing import write_video


def answer(request: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a request asks.

    Args:
        request: `do` (identity, frames, times, damaged or copy), `video`, `start`, `end`; `folder`, `frames` and
            `sampling` of the frame cache; and for a copy, `to`, its path, and `side`, the pixels of its short side.
        limits: `video_seconds`, `frames` and `pixels`.

    Returns:
        `result`, for `frames` the name of the file in the cache; or `refused`, the reason.
    """
    path, span = Path(request["video"]), (request["start"], request["end"])
    cache = FrameCache(Path(request["folder"]), request["frames"], request["sampling"])
    try:
        _require_small(path, cache, limits)
        if request["do"] == "identity":
            return {"result": cache.identity(path, *span)}
        if request["do"] == "times":
            times = cache.times(path, *span)
            return {"result": None if times is None else times.tolist()}
        if request["do"] == "damaged":
            return {"result": cache.damaged(path)}
        if request["do"] == "copy":
            _write_copy(path, span, Path(request["to"]), request["side"])
            return {"result": None}
        cache.read(path, *span)
        return {"result": cache.key(path, *span)}
    except VideoError as error:
        return {"refused": error.reason}
    except MemoryError:
        return {"refused": "decoding it needs more memory than is allowed; shrink it"}
    except OSError as error:
        return {"failed": str(error)}


def _write_copy(path: Path, span: tuple[float | None, float | None], to: Path, side: int) -> None:
    """Write a video, or a segment of it, so that every browser plays it."""
    fps = probe(path).fps or 25.0
    write_video(to, stream_frames(path, side, *span), min(fps, 60.0))


def _require_small(path: Path, cache: FrameCache, limits: Mapping[str, Any]) -> None:
    """Refuse a picture, and what is too long or too large, before it is decoded."""
    source = source_of(path, cache.content(path), cache.root)
    if image_format(path) is not None:
        raise VideoError(path, "it is a picture; a video was expected")
    facts = source.facts(certain=False)
    width, height = facts.look.shown_size
    seconds = 0.0 if facts.times is None else float(facts.times[-1])
    if width * height > limits["pixels"]:
        raise VideoError(path, f"its pictures have {width} x {height} pixels, more than is allowed; shrink it")
    if seconds > limits["video_seconds"] or facts.frames > limits["frames"]:
        most = f"{limits['video_seconds']:g} s and {limits['frames']} pictures"
        raise VideoError(path, f"it lasts {seconds:.0f} s with {facts.frames} pictures; at most {most} are allowed")


def _limit_memory(more: int) -> None:
    """Allow so many bytes more than are mapped now; only Linux tells how many that are."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def serve(connection: socket.socket, limits: Mapping[str, Any]) -> None:
    """Answer until the connection ends."""
    _limit_memory(limits["decode_mb"] * 2**20)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)  # the threads of the process that this one is a fork of are not here
    with connection, connection.makefile("rw", encoding="ascii") as lines:
        for line in lines:
            lines.write(json.dumps(answer(json.loads(line), limits)) + "\n")
            lines.flush()
