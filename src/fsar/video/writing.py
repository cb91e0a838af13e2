"""Frames -> video file."""

import os
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain

import av

from fsar.files import atomic_path
from fsar.video.paths import VideoPath, as_path
from fsar.video.picture import Frame


def write_video(path: VideoPath, frames: Iterable[Frame], fps: float, codec: str = "libx264") -> None:
    """Encode frames to a video file, whole or not at all; the same frames give the same file.

    Args:
        path: the file; its suffix chooses the container.
        frames: uint8 [height, width, rgb], at least one, all of one size; H.264 needs even sides.
        fps: frames per second.
        codec: an encoder of FFmpeg.

    Raises:
        OSError: the file cannot be written.
        ValueError: `path` is not a path, there is no frame, or the codec cannot encode the frames.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(Path(folder) / "a.mp4", np.zeros((5, 48, 64, 3), np.uint8), fps=10)
        ...     (Path(folder) / "a.mp4").stat().st_size > 0
        True
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("there is no frame to write; give at least one")
    if codec == "libx265" and first.shape[1] < 64:  # x265 writes beyond its memory, and the process may crash
        raise ValueError(f"the frames are {first.shape[1]} pixels wide; libx265 needs 64, or choose another codec")
    with atomic_path(as_path(path)) as temporary, av.open(os.fspath(temporary), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            # x264's macroblock tree makes the file depend on what was encoded before
            stream.options = {"preset": "veryfast", "crf": "20", "x264-params": "mbtree=0"}
        stream.codec_context.thread_count = 1  # the file would depend on the number of threads
        for frame in chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
