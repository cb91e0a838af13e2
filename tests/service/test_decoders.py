"""Processes that decode: what they refuse, and what happens if they end."""

import os
import signal
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from fsar.service.decoders import DecodedApart, Decoders
from fsar.service.limits import Limits
from fsar.service.worker import answer
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError
from fsar.video.writing import write_video
from tests.service.conftest import moving


def test_frames_are_those_of_the_cache_and_a_process_that_ends_is_replaced(small_video: Path, tmp_path: Path) -> None:
    decoders = Decoders(1, Limits())
    apart, here = DecodedApart(decoders=decoders), FrameCache(tmp_path / "frames")
    assert np.array_equal(apart.read(small_video), here.read(small_video))
    assert apart.key(small_video, 0.5, 1.0) == here.key(small_video, 0.5, 1.0)
    assert np.array_equal(apart.times(small_video), here.times(small_video))  # type: ignore[arg-type]
    assert apart.damaged(small_video) == 0
    os.kill(decoders._all[0].pid, signal.SIGKILL)  # from outside, which is not the video's fault
    assert apart.read(small_video).shape == (8, 48, 64, 3) and decoders.replaced == 1
    pipe = tmp_path / "endless.mp4"  # opening it waits for a writer, who never comes
    os.mkfifo(pipe)
    with pytest.raises(VideoError, match="pipe"):
        apart.times(pipe)
    decoders.close()


def test_a_process_that_takes_too_long_is_replaced_and_memory_is_limited(small_video: Path) -> None:
    decoders = Decoders(1, Limits(decode_seconds=0.2))
    (process,) = decoders._all
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)  # it does not hear its alarm, as if it had been taken over
    with pytest.raises(VideoError, match="takes more than"):
        DecodedApart(decoders=decoders).damaged(small_video)
    assert decoders.replaced == 1
    decoders.close()
    decoders = Decoders(1, Limits(decode_mb=100))
    assert DecodedApart(decoders=decoders).damaged(small_video) == 0
    limits = Path(f"/proc/{decoders._all[0].pid}/limits")
    if limits.exists():  # on Linux; the process may use again what it has from its parent, so no video is sure to fail
        (line,) = (line for line in limits.read_text().splitlines() if line.startswith("Max address space"))
        assert line.split()[3].isdecimal()
    decoders.close()


def test_several_threads_share_the_processes(small_video: Path) -> None:
    decoders, read = Decoders(2, Limits()), []
    threads = [
        Thread(target=lambda: read.append(DecodedApart(decoders=decoders).damaged(small_video))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    decoders.close()
    assert read == [0] * 6


def test_what_is_too_long_or_too_large_is_refused_before_decoding(small_video: Path, tmp_path: Path) -> None:
    request = {"do": "frames", "video": str(small_video), "start": None, "end": None, "folder": str(tmp_path)}
    request |= {"frames": 8, "sampling": "tsn"}
    limits = vars(Limits())
    assert set(answer(request, limits)) == {"result"}
    for change, expected in (
        ({"video_seconds": 1}, "lasts 2 s"),
        ({"frames": 10}, "20 pictures"),
        ({"pixels": 99}, "64"),
    ):
        assert expected in answer(request, limits | change)["refused"]
    picture = tmp_path / "a.mp4"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert "picture" in answer(request | {"video": str(picture)}, limits)["refused"]
    write_video(tmp_path / "b.mp4", moving(0, 9, 80), 40.0)
    preview = tmp_path / "preview.mp4"
    assert answer(request | {"do": "copy", "video": str(tmp_path / "b.mp4"), "to": str(preview), "side": 32}, limits)
    assert FrameCache(tmp_path, None).read(preview).shape == (80, 32, 32, 3)
