"""Frames on disk: read once, keyed by content, whole or absent in any case."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsar.video import frame_cache
from fsar.video.frame_cache import FrameCache
from fsar.video.reading import read_frames
from tests.video.test_reading import encode, greys, index_of

SAMPLED = [1, 3, 6, 8, 11, 13, 16, 18]  # 8 of 20 frames

forked = multiprocessing.get_context("fork")


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    return FrameCache(tmp_path / "cache")


def clips(cache: FrameCache) -> list[Path]:
    """The clips that lie in a cache."""
    return sorted(path for path in cache.root.rglob("*.npy") if not path.name.startswith("."))


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(frame_cache, "decode_clip", refuse)


def test_a_stumble_of_the_interpreter_is_decoded_over(
    cache: FrameCache, small_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = cache.read(small_video)

    def stumble(*_: object, **__: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch (before=57, after=53)")

    monkeypatch.setattr(np, "load", stumble)
    assert (cache.read(small_video) == frames).all()


def test_the_second_read_comes_from_disk(cache: FrameCache, small_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.read(small_video)
    forbid_decoding(monkeypatch)
    second = cache.read(small_video)
    assert isinstance(second, np.memmap) and not second.flags.writeable
    np.testing.assert_array_equal(first, second)
    assert index_of(second) == SAMPLED


def test_new_content_under_an_old_name_gives_new_frames(cache: FrameCache, small_video: Path) -> None:
    old = cache.key(small_video)
    assert index_of(cache.read(small_video)) == SAMPLED
    encode(small_video, greys(20)[::-1])
    assert cache.key(small_video) != old
    assert index_of(cache.read(small_video)) == [19 - i for i in SAMPLED]


def test_a_copy_under_another_name_is_the_same_clip(
    cache: FrameCache, small_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small_video.with_name("other.avi")
    shutil.copyfile(small_video, other)
    assert cache.key(other) == cache.key(small_video)
    cache.read(small_video)
    forbid_decoding(monkeypatch)
    assert index_of(cache.read(other)) == SAMPLED


def test_settings_are_part_of_the_key(tmp_path: Path, small_video: Path) -> None:
    caches = [
        FrameCache(tmp_path / "cache", frames, sampling)
        for frames, sampling in ((8, "tsn"), (4, "tsn"), (None, "tsn"), (8, "trx"))
    ]
    assert len({cache.key(small_video) for cache in caches}) == 4
    assert [len(cache.read(small_video)) for cache in caches] == [8, 4, 20, 8]
    assert index_of(caches[0].read(small_video)) != index_of(caches[3].read(small_video))


def test_a_folder_of_frames_is_keyed_by_names_and_contents(cache: FrameCache, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    for i, frame in enumerate(greys(4)):
        Image.fromarray(frame).save(one / f"{i}.png")
    shutil.copytree(one, two)
    assert cache.key(one) == cache.key(two)
    assert index_of(cache.read(one)) == [0, 0, 1, 1, 2, 2, 3, 3]
    (two / "0.png").rename(two / "9.png")
    assert cache.key(one) != cache.key(two)
    assert index_of(cache.read(two)) == [1, 1, 2, 2, 3, 3, 0, 0]
    shutil.copyfile(two / "3.png", two / "9.png")
    assert index_of(cache.read(two)) == [1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("size", "kept"), [((320, 480), (256, 384)), ((480, 320), (384, 256)), ((256, 300), (256, 300))]
)
def test_large_frames_are_kept_small(
    cache: FrameCache, tmp_path: Path, size: tuple[int, int], kept: tuple[int, int]
) -> None:
    frames = cache.read(encode(tmp_path / "large.mp4", greys(8, *size)))
    assert frames.shape == (8, *kept, 3)
    assert index_of(frames) == list(range(8))


def test_small_frames_stay_as_they_are(cache: FrameCache, small_video: Path) -> None:
    np.testing.assert_array_equal(cache.read(small_video), read_frames(small_video))


@pytest.mark.parametrize("kept", [0, 5, 100, 9000], ids=lambda kept: f"{kept} bytes left")
def test_a_damaged_clip_is_made_again(cache: FrameCache, small_video: Path, kept: int) -> None:
    whole = np.array(cache.read(small_video))
    (file,) = clips(cache)
    content = file.read_bytes()
    file.write_bytes(content[:kept])
    np.testing.assert_array_equal(cache.read(small_video), whole)
    assert file.read_bytes() == content


def test_a_damaged_note_of_a_content_is_made_again(cache: FrameCache, small_video: Path) -> None:
    key = cache.key(small_video)
    (note,) = (path for path in (cache.root / "content").rglob("*") if path.is_file())
    note.write_bytes(note.read_bytes()[:7])
    assert cache.key(small_video) == key
    assert len(note.read_bytes()) == 32


def distinct_videos(folder: Path, count: int) -> list[Path]:
    """Videos of 20 frames; number v starts at brightness index v."""
    return [encode(folder / f"{v}.mkv", np.roll(greys(20, 32, 32), -v, 0), "ffv1", "yuv444p") for v in range(count)]


def read_all(cache: FrameCache, videos: list[Path]) -> None:
    for video in videos:
        cache.read(video)


def test_processes_may_fill_one_cache_at_the_same_time(cache: FrameCache, tmp_path: Path) -> None:
    videos = distinct_videos(tmp_path, 12)
    workers = [forked.Process(target=read_all, args=(cache, videos)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(clips(cache)) == 12
    assert not list(cache.root.rglob(".writing-*"))
    for v, video in enumerate(videos):
        assert index_of(cache.read(video)) == [(i + v) % 20 for i in SAMPLED]


def _die_in_the_third_write(cache: FrameCache, videos: list[Path]) -> None:
    save, written = np.save, []

    def save_half(file: Path, frames: np.ndarray, **options: bool) -> None:
        save(file, frames, **options)
        written.append(file)
        if len(written) == 3:
            os.truncate(file, file.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    np.save = save_half  # type: ignore[assignment]
    read_all(cache, videos)


def test_a_killed_run_goes_on_where_it_stopped(
    cache: FrameCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = distinct_videos(tmp_path, 5)
    worker = forked.Process(target=_die_in_the_third_write, args=(cache, videos))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert len(clips(cache)) == 2
    assert len(list(cache.root.rglob(".writing-*"))) == 1  # the half that nobody reads

    decoded = []
    decode = frame_cache.decode_clip
    monkeypatch.setattr(
        frame_cache, "decode_clip", lambda source, path, *rest: decoded.append(path) or decode(source, path, *rest)
    )
    for v, video in enumerate(videos):
        assert index_of(cache.read(video)) == [(i + v) % 20 for i in SAMPLED]
    assert decoded == videos[2:]


def test_other_users_may_read_what_is_written(cache: FrameCache, small_video: Path) -> None:
    """The umask decides, as for any file."""
    mask = os.umask(0o022)
    try:
        cache.read(small_video)
    finally:
        os.umask(mask)
    assert [oct(path.stat().st_mode & 0o777) for path in clips(cache)] == ["0o644"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, small_video: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"could not write .*file/.*choose another folder"):
        FrameCache(tmp_path / "file").read(small_video)
