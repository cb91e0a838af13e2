"""What a user may give as a video."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fsar.datasets import Video
from fsar.recognizer.sources import expanded, open_source
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError
from fsar.video.reading import read_frames
from fsar.video.writing import write_video
from tests.recognizer.conftest import moving

CACHE = FrameCache(frames=8)


def test_one_file_is_the_same_video_however_it_is_given(small_video: Path) -> None:
    content = small_video.read_bytes()
    with small_video.open("rb") as opened:
        paths = [str(small_video), small_video, os.fsencode(small_video), Video("a", small_video, "a")]
        sources = [open_source(video, CACHE) for video in [*paths, content, io.BytesIO(content), opened]]
    assert len({source.content for source in sources}) == 1
    assert [source.frames is None for source in sources] == [True] * 4 + [False] * 3
    assert all(np.array_equal(source.frames, read_frames(small_video, 8)) for source in sources[4:])  # type: ignore[arg-type]
    assert sources[0].name == sources[6].name == str(small_video) and sources[4].name.startswith("bytes ")


def test_frames_in_memory_are_sampled_and_shrunk_as_those_of_a_file() -> None:
    frames = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((20, 300, 400, 3), np.uint8)
    source = open_source(frames, CACHE)
    assert source.frames is not None and source.frames.shape == (8, 256, 341, 3)
    assert source.frames[:, 0, 0, 0].tolist() == [1, 3, 6, 8, 11, 13, 16, 18]
    assert open_source(torch.from_numpy(frames), CACHE).content == source.content
    assert open_source(frames[:19], CACHE).content != source.content


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((8, 3, 64, 64), np.uint8), r"uint8 \[8, 3, 64, 64\]; expected .*; move the colours last"),
        (np.zeros((64, 64, 3), np.uint8), r"uint8 \[64, 64, 3\]; expected uint8 \[frame, height, width, rgb\]$"),
        (np.zeros((0, 64, 64, 3), np.uint8), r"uint8 \[0, 64, 64, 3\]; expected"),
        (np.full((8, 64, 64, 3), 0.5), r"float64 \[8, 64, 64, 3\]; expected uint8 .* multiply by 255"),
        (
            np.where(np.arange(8) == 3, np.nan, 0.5)[:, None, None, None] + np.zeros((4, 4, 3)),
            r"nan at \[3, 0, 0, 0\], and 47",
        ),
        (np.array(["a"]), "expected uint8"),
        (io.StringIO("text"), "open it in binary mode"),
        ("", "got an empty path for a video"),
        ("https://example.org/a.mp4", "^https://example.org/a.mp4 is a URL, and only files are read"),
        (3, "cannot read a video from int; expected a path, an array"),
        (None, "cannot read a video from NoneType"),
    ],
)
def test_anything_else_is_refused(video: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(video, CACHE)


def test_something_that_holds_no_videos_is_named() -> None:
    with pytest.raises(ValueError, match="cannot read a video from NoneType"):
        list(expanded(None))


@pytest.mark.parametrize("content", [b"", b"no video" * 100])
def test_bytes_that_are_no_video_are_named(content: bytes) -> None:
    with pytest.raises(VideoError, match=r"^bytes [0-9a-f]{8}: "):
        open_source(content, CACHE)


def test_a_folder_of_videos_stands_for_its_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4"):
        write_video(tmp_path / "clips" / name, moving(0, 8), 8.0)
    (tmp_path / "clips" / "notes.txt").write_text("none")
    frames = moving(0, 8)
    given = list(expanded([tmp_path / "clips", frames]))
    assert given[:2] == [tmp_path / "clips" / "a.mp4", tmp_path / "clips" / "b.mp4"] and given[2] is frames
    assert list(expanded(os.fsencode(tmp_path / "clips"))) == given[:2]
    assert len(list(expanded(frames))) == len(list(expanded(b"bytes"))) == len(list(expanded(io.BytesIO()))) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no videos in this folder"):
        list(expanded(tmp_path / "empty"))
