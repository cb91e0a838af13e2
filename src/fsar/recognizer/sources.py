"""What a user may give as a video: a path, a labelled video, an array of frames, bytes, or an open file."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from fsar.datasets import Video
from fsar.datasets.folder import PassedOver, is_video
from fsar.video.frame_cache import SHORT_SIDE, FrameCache
from fsar.video.motion import BY_MOTION, choose_by_motion
from fsar.video.paths import VideoError, as_path, display
from fsar.video.picture import Frames
from fsar.video.sampling import Times, frame_indices
from fsar.video.transforms import resize_short_side


@runtime_checkable
class OpenFile(Protocol):
    """A file that is open in binary mode."""

    def read(self) -> bytes:
        """Read the rest."""


@runtime_checkable
class Array(Protocol):
    """An array of NumPy, a tensor of PyTorch, and whatever else NumPy can read."""

    def __array__(self) -> np.ndarray: ...


VideoSource: TypeAlias = str | os.PathLike[str] | Video | Array | bytes | OpenFile
"""Path of a file or frame folder, video of a dataset, uint8 [frame, height, width, rgb], content, open file.

Bytes are the path of what exists by that name, as `os.fsencode` gives it; otherwise they are content."""


@dataclass(frozen=True, eq=False)
class Source:
    """A video as it was given."""

    name: str
    """Its path, or a name made of its content."""
    video: Video | None
    """Where it is on disk; None for frames in memory."""
    frames: Frames | None
    """The frames to encode, if they are in memory."""
    content: str
    """Hash of its content."""
    times: Times | None = None
    """Start of each frame and, last, end of the video, in seconds, if the frames in memory come from a file."""


def open_source(video: Any, cache: FrameCache) -> Source:
    """Look at a video that a user gave.

    Args:
        video: a `VideoSource`.
        cache: which frames are taken.

    Returns:
        The path, or the frames in memory, with name and content hash.

    Raises:
        VideoError: a file that cannot be read.
        ValueError: an array of another shape or type, or anything else.

    Example:
        >>> source = open_source(np.zeros((30, 48, 64, 3), np.uint8), FrameCache(frames=8))
        >>> source.frames.shape, source.name
        ((8, 48, 64, 3), 'array 149390ac')
    """
    if _is_path(video):
        path = as_path(video)
        video = Video(os.fspath(path), path, "")
    if isinstance(video, Video):
        return Source(video.place, video, None, cache.content(video.path, *video.span))
    if isinstance(video, bytes | bytearray | memoryview):
        return _of_bytes(bytes(video), "bytes", cache)
    if hasattr(video, "read"):
        content = video.read()
        if not isinstance(content, bytes):
            raise ValueError("the open file gives text; open it in binary mode: open(path, 'rb')")
        name = getattr(video, "name", None)
        return _of_bytes(content, name if isinstance(name, str) else "file", cache)
    if hasattr(video, "__array__"):
        return _of_array(np.asarray(video), cache)
    raise _no_video(video)


def _no_video(given: object) -> ValueError:
    return ValueError(
        f"cannot read a video from {type(given).__name__}; expected a path, an array of frames uint8 [frame, height, "
        f"width, rgb], bytes, or a file opened in binary mode"
    )


def expanded(videos: Any) -> Iterator[VideoSource]:
    """Give single videos; a folder stands for the videos in it and in its sub-folders.

    Args:
        videos: what a user gave: a `VideoSource`, or several.

    Yields:
        The videos; those of a folder sorted by name.

    Raises:
        ValueError: a folder without videos or frames, or no video at all.
    """
    single = (str, os.PathLike, Video, bytes, bytearray, memoryview)
    if isinstance(videos, single) or hasattr(videos, "read") or hasattr(videos, "__array__"):
        videos = [videos]
    if not isinstance(videos, Iterable):
        raise _no_video(videos)
    for video in videos:
        if _is_path(video):
            yield from videos_below(as_path(video))[0]
        else:
            yield video


def _is_path(video: object) -> bool:
    return isinstance(video, str | os.PathLike) or (isinstance(video, bytes) and os.path.exists(video))


def videos_below(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    """List the video itself, or the sorted videos of a folder and its sub-folders.

    Args:
        path: of a video, which need not exist, or of a folder of videos.

    Returns:
        Paths of single videos; and in words, what of the folder was passed over.

    Raises:
        ValueError: a folder without videos or frames.
    """
    if not os.path.isdir(path) or is_video(path):
        return [path], ()
    passed, videos = PassedOver(path), []
    folders = [path]
    while folders:
        folder = folders.pop(0)
        if passed.again(folder):
            continue
        videos += passed.videos_in(folder)
        inner = [folder for folder, count in passed.deeper.items() if count]
        for folder in inner:
            del passed.deeper[folder]
        folders += inner
    if not videos:
        raise ValueError(
            f"{display(path)}: no videos in this folder; expected files such as a.mp4 or folders of frames"
            + "".join(f"; {note}" for note in passed.notes())
        )
    return sorted(videos), passed.notes()


def _of_bytes(content: bytes, name: str, cache: FrameCache) -> Source:
    """Decode the content of a file, by way of a temporary file."""
    digest = blake2b(content, digest_size=16).hexdigest()
    name = name if name not in ("bytes", "file") else f"{name} {digest[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        path.write_bytes(content)
        try:
            here = replace(cache, folder=Path(folder) / "frames")
            frames, times = np.asarray(here.read(path)), here.times(path)
        except VideoError as error:
            raise VideoError(Path(name), error.reason) from error
    return Source(name, None, frames, digest, times)


def _require_finite(frames: np.ndarray, expected: str) -> None:
    """Refuse numbers that are no brightness, and name the place of the first one."""
    if not np.issubdtype(frames.dtype, np.floating) or np.isfinite(frames).all():
        return
    places = np.argwhere(~np.isfinite(frames))
    value, place = frames[tuple(places[0])], ", ".join(map(str, places[0]))
    many = f", and {len(places) - 1} more" if len(places) > 1 else ""
    raise ValueError(
        f"the frames are {frames.dtype} {[*frames.shape]} with {value} at [{place}]{many}; {expected}. Find out where "
        f"{value} comes from: a brightness is a number from 0 to 255"
    )


def _of_array(frames: np.ndarray, cache: FrameCache) -> Source:
    expected = "expected uint8 [frame, height, width, rgb]"
    _require_finite(frames, expected)
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        last = "; move the colours last, as in frames.transpose(0, 2, 3, 1)" if frames.shape[1:2] == (3,) else ""
        raise ValueError(f"the frames are {frames.dtype} {[*frames.shape]}; {expected}{last}")
    if frames.dtype != np.uint8:
        raise ValueError(
            f"the frames are {frames.dtype} {[*frames.shape]}; {expected}. If they are in [0, 1], multiply by 255 and "
            f"convert: (255 * frames).round().astype('uint8')"
        )
    digest = blake2b(f"{frames.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(frames).data)
    if cache.frames is not None and cache.sampling in BY_MOTION:
        frames = choose_by_motion(frames, cache.frames, lambda numbers: frames[numbers], cache.sampling)
    elif cache.frames is not None:
        frames = frames[frame_indices(len(frames), cache.frames, cache.sampling)]
    name = digest.hexdigest()
    return Source(f"array {name[:8]}", None, resize_short_side(frames, SHORT_SIDE), name)
