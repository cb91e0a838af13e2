"""Video file -> frames -> clip: reading, sampling of frames, transforms, and the cache of decoded frames."""

from typing import TYPE_CHECKING, Any

from fsar.video.frame_cache import FrameCache
from fsar.video.reading import (
    VideoError,
    VideoInfo,
    frame_indices,
    probe,
    read_frames,
    read_frames_at,
    stream_frames,
    write_video,
)

if TYPE_CHECKING:
    from fsar.video.transforms import to_clip

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
    """Load `to_clip`, which needs PyTorch, when it is first used: reading frames does not need it."""
    if name == "to_clip":
        from fsar.video.transforms import to_clip

        return to_clip
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
