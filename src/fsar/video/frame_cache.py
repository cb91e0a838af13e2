"""Decoded frames on disk: a clip is decoded once; later, it opens in about a millisecond.

Frames are uint8 .npy files with a short side of at most 256 pixels, memory-mapped. Their names depend on the content of
the video and the sampling. Several processes may use one cache at once: a file is written under a temporary name and
then renamed, so it is whole or absent, and a killed run resumes.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fsar import cache_limit
from fsar.files import atomic_path, cache_dir, write_text_atomic
from fsar.video.motion import BY_MOTION, choose_by_motion
from fsar.video.paths import VideoPath, as_path, readable, require_file
from fsar.video.picture import Frame, Frames, small_frame
from fsar.video.reading import chosen_by, within
from fsar.video.sampling import Times
from fsar.video.sources import Source, source_of
from fsar.video.stills import frame_files

VERSION = 1
READER = 2
"""Version of the reader. If version 0.1 read the same frames of a video, its names in cache and bank stay."""
SHORT_SIDE = 256


@dataclass(frozen=True)
class FrameCache:
    """Reads the evaluation frames of videos; frames that were read before come from disk."""

    folder: Path | None = None
    """Folder for frames; None is `frames` in the cache folder."""
    frames: int | None = 8
    """Frames per video, T; None keeps all."""
    sampling: str = "tsn"
    """See `fsar.video.sampling.frame_indices`; or by motion (see `fsar.video.motion`)."""

    @property
    def root(self) -> Path:
        """The folder in use."""
        return self.folder or cache_dir() / "frames"

    @classmethod
    def of_clip(cls, clip: Mapping[str, Any]) -> "FrameCache":
        """Make a cache with the `frames` and `sampling` of `clip`.

        >>> FrameCache.of_clip({"frames": 16, "sampling": "trx"})
        FrameCache(folder=None, frames=16, sampling='trx')
        """
        return cls(frames=clip["frames"], sampling=clip["sampling"])

    def settings(self) -> dict[str, object]:
        """What a clip depends on, besides the video."""
        return {"frames": self.frames, "sampling": self.sampling, "short_side": SHORT_SIDE, "version": VERSION}

    def identity(self, video: VideoPath, start: float | None = None, end: float | None = None) -> str:
        """Return the name of a video's frames: the hash of its content; another hash if version 0.1 read other frames.

        Args:
            video: a video file, or a folder of frames.
            start: of a segment, in seconds.
            end: of a segment, in seconds.

        Raises:
            VideoError: the video cannot be read.
        """
        content = self.content(video, start, end)
        if not self._source(video).facts(certain=False).changed:
            return content
        return blake2b(f"{content} reader {READER}".encode(), digest_size=16).hexdigest()

    def key(self, video: VideoPath, start: float | None = None, end: float | None = None) -> str:
        """Return the name of a clip: a hash of the video's frames and the settings.

        Args:
            video: a video file, or a folder of frames.
            start: of a segment, in seconds.
            end: of a segment, in seconds.

        Raises:
            VideoError: the video cannot be read.
        """
        return blake2b(f"{self.identity(video, start, end)} {self.settings()}".encode(), digest_size=16).hexdigest()

    def read(self, video: VideoPath, start: float | None = None, end: float | None = None) -> Frames:
        """Read the frames of a video, uint8 [frame, height, width, rgb], short side at most 256, read-only.

        Each frame is shrunk as it is decoded. If all are kept, they go to disk one by one, so that a long video needs
        no more memory than a short one.

        Args:
            video: a video file, or a folder of frames.
            start: of a segment, in seconds (see `fsar.video.read_frames`); None is the video's begin.
            end: of a segment, in seconds; None is the video's end.

        Raises:
            VideoError: the video cannot be read.
            OSError: the cache cannot be written (a full disk); nothing half-written stays.
        """
        key = self.key(video, start, end)
        path = self.root / key[:2] / f"{key}.npy"
        try:
            frames = np.load(path, mmap_mode="r", allow_pickle=False)
            cache_limit.used(path)
            return frames
        except (FileNotFoundError, ValueError, EOFError):  # absent, or damaged by another program
            pass
        except SystemError:  # rare: CPython 3.11 parses headers wrongly in threads (python/cpython issue 106905)
            pass
        frames = decode_clip(self._source(video), as_path(video), self.frames, self.sampling, start, end)
        with atomic_path(path) as temporary:
            if not isinstance(frames, np.ndarray):
                _save_one_by_one(temporary, frames)
            else:
                np.save(temporary, frames, allow_pickle=False)
        cache_limit.written(path)
        if isinstance(frames, np.ndarray):
            return frames
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def times(self, video: VideoPath, start: float | None = None, end: float | None = None) -> Times | None:
        """Return the start of each frame and, last, the end of the video, in seconds; None for a folder of frames.

        Args:
            video: a video file, or a folder of frames.
            start: of a segment, in seconds.
            end: of a segment, in seconds.

        Raises:
            VideoError: the video cannot be read.
        """
        facts = self._source(video).facts()
        shown = within(as_path(video), start, end)(facts)
        return None if facts.times is None else facts.times[shown.start : shown.stop + 1]

    def damaged(self, video: VideoPath) -> int:
        """Count the packets and pictures of a video that are lost or damaged (see `fsar.video.VideoInfo`).

        Args:
            video: a video file, or a folder of frames.

        Raises:
            VideoError: the video cannot be read.
        """
        return self._source(video).facts().damaged

    def _source(self, video: VideoPath) -> Source:
        path = as_path(video)
        return source_of(path, None if os.path.isdir(path) else self.content(path), self.root)

    def content(self, video: VideoPath, start: float | None = None, end: float | None = None) -> str:
        """Hash the content of a video; the hash is remembered by path, size and time of change.

        A folder of frames is hashed by its frames' names and contents, a segment by the video's content and its
        times to the millisecond.

        Args:
            video: a video file, or a folder of frames.
            start: of a segment, in seconds.
            end: of a segment, in seconds.

        Raises:
            VideoError: no such video, no permission to read it, an empty file, or no regular file.
        """
        if start is not None or end is not None:
            times = " ".join("" if time is None else f"{time:.3f}" for time in (start, end))
            return blake2b(f"{self.content(video)} {times}".encode(), digest_size=16).hexdigest()
        video = as_path(video)
        if not os.path.isdir(video):
            require_file(video)
        with readable(video):
            files = sorted(frame_files(video)) if os.path.isdir(video) else [video]
            stats = [(os.fsencode(file), stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
        name = blake2b(repr((os.fsencode(video.resolve()), stats)).encode(), digest_size=16).hexdigest()
        memo = self.root / "content" / name[:2] / name
        try:
            known = memo.read_text()
            if len(known) == 32:
                return known
        except OSError:
            pass
        digest = blake2b(digest_size=16)
        for file in files:
            if file != video:
                digest.update(os.fsencode(file.name) + b"\0")
            with readable(video), file.open("rb") as handle:
                while block := handle.read(1 << 20):
                    digest.update(block)
        write_text_atomic(memo, digest.hexdigest())
        return digest.hexdigest()


def decode_clip(
    source: Source, path: Path, count: int | None, sampling: str, start: float | None, end: float | None
) -> Frames | Iterator[Frame]:
    """Decode the frames to keep; all frames of a video come one by one. Arguments as for `read_frames`.

    Args:
        source: the video.
        path: of the video, for errors.
        count: frames to sample; None for all.
        sampling: how to sample them.
        start: of a segment, in seconds.
        end: of a segment, in seconds.
    """
    take = partial(small_frame, short_side=SHORT_SIDE)
    if count is not None and sampling in BY_MOTION:
        shown = within(path, start, end)
        whole = start is None and end is None
        return choose_by_motion(
            source.each(take, None if whole else shown),
            count,
            lambda numbers: source.read(lambda facts: shown(facts).start + numbers, take),
            sampling,
        )
    if count is not None:
        return source.read(chosen_by(path, count, sampling, None, start, end), take)
    return source.each(take, None if start is None and end is None else within(path, start, end))


def _save_one_by_one(path: Path, frames: Iterator[Frame]) -> None:
    """Write frames one by one in the format of `np.save`; their number is only known at the end."""
    count, header = 0, {"descr": "|u1", "fortran_order": False, "shape": (0, 0, 0, 3)}
    with path.open("wb") as file:
        for frame in frames:
            if count == 0:
                header["shape"] = (1, *frame.shape)
                np.lib.format.write_array_header_1_0(file, header)  # padded, so that a larger number of frames fits
                begin = file.tell()
            file.write(frame.tobytes())
            count += 1
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (count, *frame.shape)})
        assert file.tell() == begin
