"""What runs in a decoding process: it reads videos for the service, within limits on memory and length.

It writes frames to the frame cache, from which the service reads them; so the service itself never opens a video with
FFmpeg.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fsar.backbones import load_backbone
from fsar.names import unknown
from fsar.recognizer import Recognizer
from fsar.recognizer.files import Contents, read_file
from fsar.service.limits import Refused
from fsar.service.security import require_name
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError
from fsar.video.reading import probe, stream_frames
from fsar.video.sources import source_of
from fsar.video.stills import image_format
from fsar.video.writing import write_video

MOST_FRAMES = 256
"""Frames of a clip that a recogniser from elsewhere may take."""
MOST_WINDOWS = 2000
"""Windows that end in a second of a video, for such a recogniser."""


def answer(request: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a request asks.

    Args:
        request: `do` (identity, frames, times, damaged or copy), `video`, `start`, `end`; `folder`, `frames` and
            `sampling` of the frame cache; and for a copy, `to`, its path, and `side`, the pixels of its short side.
            Or `do` (load), `video`, a recogniser's file from elsewhere, and `backbones`, those that it may have.
        limits: `video_seconds`, `frames` and `pixels`.

    Returns:
        `result`, for `frames` the name of the file in the cache; or `refused`, the reason.
    """
    path = Path(request["video"])
    if request["do"] == "load":
        return _loaded(path, request["backbones"])
    span = request["start"], request["end"]
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


def _loaded(path: Path, backbones: Sequence[str]) -> dict[str, Any]:
    """Load a recogniser's file that somebody else may have written, to see that it is one, and not too large."""
    try:
        contents = read_file(path)
        if contents.backbone not in backbones:
            raise ValueError(unknown(contents.backbone, backbones, "backbone"))
        _require_harmless(contents)
        _require_few_windows(Recognizer.load(path, load_backbone(contents.backbone)))
    except Refused as error:
        return {"refused": error.message}
    except ValueError as error:
        return {"refused": str(error)}
    except Exception as error:  # it can hold anything, and break in any way
        return {"refused": f"it is no recogniser that fsar wrote, or needs too much memory ({type(error).__name__})"}
    return {"result": None}


def _require_harmless(contents: Contents) -> None:
    """Refuse names that are paths to elsewhere, and frames without end."""
    for name in contents.actions:
        require_name(name, "action")
    examples = [*contents.background, *(example for action in contents.actions.values() for example in action.examples)]
    for example in examples:
        parts = Path(example.video).parts
        if not parts or example.video.startswith(("/", "\\")) or ".." in parts:
            raise ValueError(
                f"an example is named {example.video[:100]!r}; expected a name without a path to elsewhere"
            )
    if contents.frames is not None and not 0 < contents.frames <= MOST_FRAMES:
        raise ValueError(f"it takes {contents.frames} frames of a clip; at most {MOST_FRAMES} are allowed")


def _require_few_windows(recognizer: Recognizer) -> None:
    """Refuse examples, or tuned windows, that would cut a video into windows without end."""
    try:
        contract = recognizer.contract()
    except ValueError:  # it does not know how long its examples last, or has too few
        return
    if not contract.windows_per_second() <= MOST_WINDOWS:
        raise ValueError(f"it would look at more than {MOST_WINDOWS} parts of each second of a video")


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
