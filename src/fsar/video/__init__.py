"""Video file -> frames -> clip: reading, sampling of frames, transforms, and the cache of decoded frames."""

from fsar.video.frame_cache import FrameCache
from fsar.video.reading import VideoError, VideoInfo, frame_indices, probe, read_frames, stream_frames, write_video
from fsar.video.transforms import to_clip

__all__ = [
    "FrameCache",
    "VideoError",
    "VideoInfo",
    "frame_indices",
    "probe",
    "read_frames",
    "stream_frames",
    "to_clip",
    "write_video",
]
