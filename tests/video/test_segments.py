"""Segments of a video: the frames between two times, through reader and frame cache."""

from pathlib import Path

import numpy as np
import pytest

from fsar.video import FrameCache, VideoError, probe, read_frames, stream_frames
from tests.video.test_reading import encode, greys, index_of


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """20 frames at 10 per second: frame i is shown from i / 10 seconds on."""
    return encode(tmp_path / "a.mp4", greys(20), fps=10)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.5, 1.2, range(5, 12)),
        (None, 0.3, range(3)),
        (1.6, None, range(16, 20)),
        (0.45, 0.75, range(5, 8)),  # a frame that begins before the start is not in it
        (0.333, 0.367, [3]),  # no frame begins here: the one that is shown
        (1.8, 2.4, [18, 19]),  # tables may end a little after the pictures
    ],
)
def test_the_frames_between_two_times(video: Path, start: float | None, end: float | None, expected: list[int]) -> None:
    assert index_of(read_frames(video, None, start=start, end=end)) == list(expected)
    assert probe(video, start, end).frames == len(expected)
    streamed = np.stack(list(stream_frames(video, 256, start, end)))
    assert index_of(streamed) == list(expected)


def test_chosen_frames_are_the_segments_own(video: Path) -> None:
    assert index_of(read_frames(video, 4, start=0.8, end=1.6)) == [9, 11, 13, 15]
    drawn = index_of(read_frames(video, 4, rng=np.random.default_rng(0), start=0.8, end=1.6))
    assert all(8 <= index < 16 for index in drawn)


def test_times_count_from_the_videos_begin(tmp_path: Path) -> None:
    late = encode(tmp_path / "late.mkv", greys(20), times=[4000 + 100 * i for i in range(20)])
    assert index_of(read_frames(late, None, start=0.5, end=0.8)) == [5, 6, 7]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (1.5, 1.0, "a segment from 1.5 to 1 s; expected 0 <= start < end"),
        (-1.0, 1.0, "a segment from -1 to 1 s; expected 0 <= start < end"),
        (1.0, 9.0, "from 1 to 9 s lies beyond its end (2 s); correct the segment"),
        (2.1, 2.2, "lies beyond its end"),
    ],
)
def test_segments_that_are_none(video: Path, start: float, end: float, message: str) -> None:
    for read in (probe, lambda *times: read_frames(times[0], 8, start=times[1], end=times[2])):
        with pytest.raises(VideoError) as error:
            read(video, start, end)
        assert message in str(error.value) and "a.mp4" in str(error.value)


def test_a_folder_of_frames_has_no_times(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    with pytest.raises(VideoError, match="a folder of frames has no times"):
        read_frames(tmp_path, 8, start=1.0, end=2.0)


def test_the_cache_tells_segments_apart(video: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", frames=4)
    spans = [(None, None), (0.5, 1.0), (0.5, 1.1), (None, 1.0)]
    assert len({cache.content(video, *span) for span in spans}) == 4
    for _ in range(2):  # read, then from disk
        assert [index_of(cache.read(video, *span)) for span in spans] == [
            index_of(read_frames(video, 4, start=start, end=end)) for start, end in spans
        ]
    copy = tmp_path / "b.mp4"
    copy.write_bytes(video.read_bytes())
    assert cache.content(copy, 0.5, 1.0) == cache.content(video, 0.5, 1.0)
