"""Video file -> frames -> clip: reading, sampling of frames, transforms, and the cache of decoded frames.

The names below are imported at their first use: importing torch takes seconds, and only transforms need it.
"""

from typing import Any

from fsar.lazy import import_name

_HOMES = {
    "FrameCache": "fsar.video.frame_cache",
    "VideoError": "fsar.video.paths",
    "VideoInfo": "fsar.video.reading",
    "frame_indices": "fsar.video.sampling",
    "probe": "fsar.video.reading",
    "read_frames": "fsar.video.reading",
    "read_frames_at": "fsar.video.reading",
    "stream_frames": "fsar.video.reading",
    "to_clip": "fsar.video.transforms",
    "write_video": "fsar.video.writing",
}
__all__ = [
    "FrameCache",
    "VideoError",
    "VideoInfo",
    "frame_indices",
    "probe",
    "read_frames",
    "read_frames_at",
    "stream_frames",
    "to_clip",
    "write_video",
]


def __getattr__(name: str) -> Any:
    """Import a name at its first use."""
    return import_name(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
