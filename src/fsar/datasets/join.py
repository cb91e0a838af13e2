"""Test streams: labelled clips joined to a long video in random order, with the truth beside it.

Between two clips, the last picture of the first one stands still for a random time. So a stream has known actions,
strangers and stillness, and the truth is exact. A real recording has more: people go on moving between actions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fsar.datasets.base import Video, VideoDataset
from fsar.datasets.segments.segment import Segment
from fsar.datasets.segments.write import to_csv
from fsar.files import write_text_atomic
from fsar.names import unknown
from fsar.progress import progress_bar
from fsar.video.picture import Frame
from fsar.video.reading import probe, read_frames, read_frames_at
from fsar.video.writing import write_video

UNKNOWN = "unknown"
"""Label of the segments of strangers."""
FPS = 12.0
SHORT_SIDE = 256


@dataclass(frozen=True)
class Pace:
    """Pauses and frame rate of a stream.

    Raises:
        ValueError: a pause that is negative or ends before it begins, or a frame rate that is not above 0.
    """

    pause: tuple[float, float] = (0.5, 2.0)
    """Shortest and longest pause in seconds, before the first clip, between clips and after the last one."""
    fps: float = FPS
    """Frames per second."""

    def __post_init__(self) -> None:
        if not 0 <= self.pause[0] <= self.pause[1]:
            raise ValueError(
                f"pause is {self.pause[0]:g} to {self.pause[1]:g} s; expected two times, the shorter one first"
            )
        if self.fps <= 0:
            raise ValueError(f"frames per second are {self.fps:g}; expected a number above 0")

    def still(self, rng: np.random.Generator) -> int:
        """Draw a pause, in frames."""
        return round(float(rng.uniform(*self.pause)) * self.fps)


USUAL = Pace()


def join_clips(
    videos: Sequence[Video], out: Path, seed: int = 0, pace: Pace = USUAL, progress: bool = False
) -> list[Segment]:
    """Join clips to one video file.

    Args:
        videos: labelled clips; each is shown once.
        out: the video to write.
        seed: of the order and the pauses.
        pace: pauses and frame rate.
        progress: show a progress bar.

    Returns:
        Where each clip is, in order.

    Raises:
        ValueError: no clip, or a broken video (a VideoError).
        OSError: the file cannot be written.
    """
    if not videos:
        raise ValueError("there is no clip to join; give at least one")
    rng = np.random.default_rng(seed)
    order = [videos[i] for i in rng.permutation(len(videos))]
    segments: list[Segment] = []

    def frames() -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        shown = 0
        for number, video in enumerate(progress_bar(order, "join", "clip", len(order), progress)):
            clip = _at_rate(video, pace.fps)
            size = size or (clip.shape[2] // 2 * 2, clip.shape[1] // 2 * 2)
            clip = np.stack([_fitted(frame, size) for frame in clip])
            for _ in range(pace.still(rng) if number == 0 else 0):
                shown += 1
                yield clip[0]
            segments.append(Segment(out.name, shown / pace.fps, (shown + len(clip)) / pace.fps, video.label))
            yield from clip
            still = pace.still(rng)
            shown += len(clip) + still
            yield from [clip[-1]] * still

    write_video(out, frames(), pace.fps)
    return segments


def write_streams(
    data: VideoDataset,
    out: Path,
    strangers: Sequence[str] = (),
    streams: int = 1,
    count: int | None = None,
    seed: int = 0,
    pace: Pace = USUAL,
    progress: bool = False,
) -> list[Segment]:
    """Write test streams, and `segments.csv` beside them.

    Args:
        data: labelled clips.
        out: folder for `stream_0.mp4`, ... and `segments.csv`.
        strangers: classes that the recogniser does not know; their segments get the label `unknown`.
        streams: number of videos.
        count: clips in each video, chosen at random; None for all.
        seed: of choice, order and pauses; the next stream has the next seed.
        pace: as for `join_clips`.
        progress: show a progress bar.

    Returns:
        The segments of all streams.

    Raises:
        ValueError: a stranger that is no class, numbers below 1, segments in the folder, or as for `join_clips`.
        OSError: the folder cannot be written.
    """
    truth = out / "segments.csv"
    if truth.exists():
        raise ValueError(f"{truth} is already there, and would be lost; give another folder, or remove it")
    for label in strangers:
        if label not in data.classes:
            raise ValueError(unknown(label, data.classes, "class"))
    if streams < 1 or (count is not None and count < 1):
        raise ValueError(f"streams are {streams} and clips {count}; expected at least 1")
    segments = []
    for number in range(streams):
        rng = np.random.default_rng((seed + number, 1))
        some = data.videos if count is None else [data.videos[i] for i in rng.permutation(len(data.videos))[:count]]
        for each in join_clips(some, out / f"stream_{number}.mp4", seed + number, pace, progress):
            segments.append(replace(each, action=UNKNOWN) if each.action in strangers else each)
    write_text_atomic(truth, to_csv(segments))
    return segments


def _at_rate(video: Video, fps: float) -> np.ndarray:
    """Read a clip at the stream's frame rate; a folder of frames as it is."""
    start, end = video.span
    info = probe(video.path, start, end)
    if info.duration is None:
        return read_frames(video.path, None, short_side=SHORT_SIDE)
    count = max(1, round(info.duration * fps))
    times = (start or 0.0) + np.minimum((np.arange(count) + 0.5) / fps, info.duration)
    return read_frames_at(video.path, times.tolist(), SHORT_SIDE)


def _fitted(frame: Frame, size: tuple[int, int]) -> Frame:
    """Scale a frame into the stream's size; what stays empty is black."""
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    return np.asarray(ImageOps.pad(Image.fromarray(frame), size))
