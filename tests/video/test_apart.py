"""Decoding in processes that may end."""

import gc
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fsar.video import apart
from fsar.video.apart import ApartCache, Decoders, Seen
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError
from fsar.video.processes import Processes
from tests.processes import forked


def answer_or_not(request: Mapping[str, Any], real: Any = apart.answer) -> dict[str, Any]:
    """A video named `hang` never ends; `crash` ends the process; `good` is killed from outside, once."""
    video = Path(request["video"])
    name = video.stem
    if name == "good" and not video.with_suffix(".killed").exists():
        video.with_suffix(".killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hang":
        signal.setitimer(signal.ITIMER_REAL, 0.05)  # the limit of the run, only sooner
        while True:
            signal.pause()
    if name == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(request)


def test_a_process_that_hangs_or_crashes_is_replaced(
    small_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "answer", answer_or_not)
    with Decoders(1, seconds=60) as decoders:
        cache = ApartCache(tmp_path / "apart", decoders=decoders)
        for name, reason in (("hang", "takes more than 60 s"), ("crash", "broke the decoder")):
            shutil.copy(small_video, tmp_path / f"{name}.mp4")
            with pytest.raises(VideoError, match=f"{name}.mp4: decoding it .*{reason}"):
                cache.read(tmp_path / f"{name}.mp4")
        assert decoders.replaced == 3  # a video that breaks one process is tried once more
        shutil.copy(small_video, tmp_path / "good.mp4")
        frames = cache.read(tmp_path / "good.mp4")
        assert decoders.replaced == 4
        here = FrameCache(tmp_path / "here")
        assert np.array_equal(frames, here.read(small_video))
        assert cache.identity(small_video) == here.identity(small_video) and cache.damaged(small_video) == 0
        assert cache.length(small_video) == 2.0
    assert not [*(tmp_path / "apart").rglob("*.npy")]  # no frames stay


def test_a_broken_video_keeps_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with Decoders(1) as decoders, pytest.raises(VideoError, match="empty.mp4: the file is empty"):
        ApartCache(tmp_path, decoders=decoders).read(tmp_path / "empty.mp4")


def test_damage_is_counted_while_other_threads_read(tmp_path: Path) -> None:
    cache = ApartCache(tmp_path)

    class Busy(type(tmp_path)):  # type: ignore[misc]
        """A path, during whose comparison another video is read."""

        def __eq__(self, other: object) -> bool:
            cache.seen[Path(f"{len(cache.seen)}.mp4"), None, None] = Seen("", 0)
            return super().__eq__(other)

        __hash__ = type(tmp_path).__hash__

    cache.seen[Busy("a.mp4"), None, None] = Seen("", 1)
    cache.seen[Busy("b.mp4"), None, None] = Seen("", 2)
    assert cache.damaged("b.mp4") == 2


def test_processes_do_not_free_what_has_threads_of_the_process_before_them() -> None:
    """Garbage here, a scaler whose threads they lack: freeing it would never end."""

    def collect(*_: object) -> dict[str, Any]:
        signal.alarm(60)  # takes milliseconds
        gc.collect()
        signal.alarm(0)
        return {"freed": True}

    gc.disable()
    try:
        picture = av.VideoFrame.from_ndarray(np.zeros((640, 640, 3), np.uint8))
        picture.reformat(320, 320, "yuv420p", threads=2)
        garbage: list[object] = [picture]
        garbage.append(garbage)
        del picture, garbage
        with Processes(1, collect, seconds=120, memory=2**30) as processes:
            assert processes.ask({"video": "a.mp4"}) == {"freed": True}
        assert forked("--version", before=collect).returncode == 0
    finally:
        gc.enable()
