"""Decoded frames on disk: a clip is decoded once and opened in about a millisecond ever after.

Frames are uint8 .npy files, short side at most 256 pixels, memory-mapped, named by the video's content
and the sampling settings. Any number of processes may fill and read one cache: a file is written to a
temporary name and renamed, so it is whole or absent, and a killed run goes on where it stopped.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fsar.files import atomic_path, cache_dir, write_text_atomic
from fsar.video.reading import Frames, frame_files, read_frames, readable
from fsar.video.transforms import resize_short_side

VERSION = 1
SHORT_SIDE = 256


@dataclass(frozen=True)
class FrameCache:
    """Reads the evaluation frames of videos, from disk where they were read before."""

    folder: Path | None = None
    """Where to keep frames; None is `frames` in the cache folder."""
    frames: int | None = 8
    """Frames per video, T; None keeps all."""
    sampling: str = "tsn"
    """See `fsar.video.reading.frame_indices`."""

    @property
    def root(self) -> Path:
        """The folder in use."""
        return self.folder or cache_dir() / "frames"

    @classmethod
    def of_clip(cls, clip: Mapping[str, Any]) -> "FrameCache":
        """The cache of clips that are taken as `clip` says: its `frames` and `sampling`.

        >>> FrameCache.of_clip({"frames": 16, "sampling": "trx"})
        FrameCache(folder=None, frames=16, sampling='trx')
        """
        return cls(frames=clip["frames"], sampling=clip["sampling"])

    def settings(self) -> dict[str, object]:
        """What a clip depends on beside the video."""
        return {"frames": self.frames, "sampling": self.sampling, "short_side": SHORT_SIDE, "version": VERSION}

    def key(self, video: Path, start: float | None = None, end: float | None = None) -> str:
        """Name of a clip: a hash of the video's content and the settings."""
        content = self.content(video, start, end)
        return blake2b(f"{content} {self.settings()}".encode(), digest_size=16).hexdigest()

    def read(self, video: Path, start: float | None = None, end: float | None = None) -> Frames:
        """Frames of a video, uint8 [frame, height, width, rgb], short side at most 256, read-only.

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
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):  # absent, or damaged by something else
            pass
        except SystemError:  # seldom: CPython 3.11 parses headers in threads amiss (python/cpython issue 106905)
            pass
        frames = resize_short_side(read_frames(video, self.frames, self.sampling, None, start, end), SHORT_SIDE)
        with atomic_path(path) as temporary:
            np.save(temporary, frames, allow_pickle=False)
        return frames

    def content(self, video: Path, start: float | None = None, end: float | None = None) -> str:
        """Hash of a video's content, remembered by path, size and time of change.

        A folder of frames is hashed by its frames' names and contents, a segment by the video's content and its
        times to the millisecond.

        Args:
            video: a video file, or a folder of frames.
            start: of a segment, in seconds.
            end: of a segment, in seconds.

        Raises:
            VideoError: there is no such video, or no permission to read it.
        """
        if start is not None or end is not None:
            times = " ".join("" if time is None else f"{time:.3f}" for time in (start, end))
            return blake2b(f"{self.content(video)} {times}".encode(), digest_size=16).hexdigest()
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
