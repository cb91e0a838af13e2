"""One way to read every kind of video: files by FFmpeg, folders of frames and animated images by Pillow."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import av
import numpy as np
from av.container import InputContainer

from fsar.files import cache_dir
from fsar.video import decode, stills
from fsar.video.container import opened
from fsar.video.index import Index, IndexStore, store_name
from fsar.video.kinds import FRAME_SUFFIXES
from fsar.video.paths import VideoError, decoding, readable, require_file
from fsar.video.picture import Frame, Frames, Look
from fsar.video.sampling import Indices
from fsar.video.scan import scan

Take = Callable[[av.VideoFrame, Look], Frame]
"""How a decoded picture becomes a frame."""


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts on a video, known before its frames are chosen."""

    frames: int
    fps: float | None
    times: np.ndarray | None
    """Start of each frame and, last, end of the video, in seconds; None for a folder of frames."""
    look: Look
    interlaced: bool = False
    damaged: int = 0
    changed: bool = False
    """Whether version 0.1 read other frames of the video."""


Choose = Callable[[Facts], Indices]
"""Function that chooses frames. It is called again if a video has another number of frames than its index says."""


@runtime_checkable
class Source(Protocol):
    """A video: file, folder of frames or animated image."""

    def facts(self, certain: bool = True) -> Facts:
        """Count and measure; unless `certain`, decode at most the first frame."""

    def read(self, choose: Choose, take: Take) -> Frames:
        """Give the chosen frames."""

    def each(self, take: Take, within: Callable[[Facts], range] | None = None) -> Iterator[Frame]:
        """Give every frame in turn, or those of a range."""


def source_of(path: Path, content: str | None = None, folder: Path | None = None) -> Source:
    """Choose how to read a video.

    Args:
        path: the video.
        content: hash of its content, if known; copies of the video then share its index.
        folder: for frames and indices; by default in the cache folder.

    Raises:
        VideoError: there is no such video, or no permission to read it.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, never raises
        return Folder(path)
    require_file(path)
    image = stills.image_format(path)
    if image == "webp" or (image and path.suffix.lower() in FRAME_SUFFIXES):
        return Animation(path)
    return Film(path, content, folder or cache_dir() / "frames")


class _Chosen:
    """Collects the chosen frames as they come, so no other frames stay in memory."""

    def __init__(self, indices: Indices, take: Take, look: Look):
        self.indices, self.take, self.look = indices, take, look
        self.wanted: list[int] = sorted(set(indices.tolist()))

    def fill(self, pictures: Iterable[tuple[int, av.VideoFrame]]) -> Frames:
        """Store the pictures; a frame that is chosen twice is repeated."""
        frames = np.empty((0, 0, 0, 3), np.uint8)
        for number, picture in pictures:
            frame = self.take(picture, self.look)
            if not frames.size:
                frames = np.empty((len(self.indices), *frame.shape), np.uint8)
            frames[self.indices == number] = frame
        return frames


# --------------------------------------------------------------------------- by FFmpeg


class Film:
    """A video file that FFmpeg decodes.

    A small file is completely decoded when it is first read. Of a large file, only the packets are read, and frames are
    found by seeking. It is completely decoded if a frame is not the one that the index expects.
    """

    def __init__(self, path: Path, content: str | None, folder: Path):
        self.path, self.content = path, content
        self.store = IndexStore(folder / "index")

    @cached_property
    def names(self) -> list[str]:
        """Names of the index in the cache: by path, size and time of change; and by content."""
        with readable(self.path):
            state = self.path.stat()
        by_file = store_name(os.fsencode(self.path.absolute()), state.st_size, state.st_mtime_ns)
        return [by_file] if self.content is None else [store_name(self.content), by_file]

    def facts(self, certain: bool = True) -> Facts:
        """Count and measure."""
        index = self.store.load(self.names)
        if index is None:
            with self._indexed() as (index, _):
                pass
        if certain and index.needs_check:
            index = self._certain(index)
        whole = None if index.checked else self.store.load(self._names_if_whole(index))
        damaged = index.damaged if whole is None else max(index.damaged, whole.damaged)
        return replace(_facts(index), damaged=damaged)

    def read(self, choose: Choose, take: Take) -> Frames:
        """Give the chosen frames."""
        with decoding(self.path):
            with self._indexed() as (index, container):
                chosen = _Chosen(choose(_facts(index)), take, index.look)
                with suppress(decode.Unexpected):
                    return chosen.fill(self._pictures(index, container, chosen.wanted))
            index = self._certain(index)
            chosen = _Chosen(choose(_facts(index)), take, index.look)
            return chosen.fill(decode.from_start(self.path, index, chosen.wanted))

    def each(self, take: Take, within: Callable[[Facts], range] | None = None) -> Iterator[Frame]:
        """Give every frame in turn, or those of a range."""
        with decoding(self.path), self._indexed() as (index, container):
            pictures = self._all_pictures(index) if within is None else self._range(index, container, within)
            for picture in pictures:
                yield take(picture, index.look)

    @contextmanager
    def _indexed(self) -> Iterator[tuple[Index, InputContainer | None]]:
        """Load or make the index; also return the open file if it is used for seeking."""
        index = self.store.load(self.names)
        with ExitStack() as stack:
            container = None
            if index is None or _may_seek(index):
                container = stack.enter_context(opened(self.path))
            if index is None:
                assert container is not None
                index = scan(self.path, container)
                self.store.save(self.names, index)
            if not _may_seek(index):
                stack.close()  # frees the pictures of the decoder
                container = None
            yield index, container

    def _certain(self, index: Index) -> Index:
        """Decode the whole file, unless this was done before."""
        if index.checked:
            return index
        names = self._names_if_whole(index)
        known = self.store.load(names)
        if known is not None and known.checked:
            return known
        for result in decode.check(self.path, index):
            if isinstance(result, Index):
                self.store.save(names, result)
                return result
        raise AssertionError("a check ends with an index")

    def _names_if_whole(self, index: Index) -> list[str]:
        """Names of the index after decoding the whole file.

        For a small file, it replaces the first index. For a large file, both are kept, so damage that was found
        later does not change which frames are chosen.
        """
        return self.names if index.needs_check else [store_name(name, "whole") for name in self.names]

    def _pictures(
        self, index: Index, container: InputContainer | None, wanted: list[int]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode wanted pictures; raise Unexpected if the index is wrong."""
        if container is not None:
            yield from decode.by_seeking(container, index, wanted)
        elif not index.needs_check:
            yield from decode.from_start(self.path, index, wanted)
        else:
            for result in decode.check(self.path, index, wanted):
                if not isinstance(result, Index):
                    yield result
                    continue
                self.store.save(self.names, result)
                if result.frames != index.frames or result.damaged > index.damaged:
                    raise decode.Unexpected

    def _all_pictures(self, index: Index) -> Iterator[av.VideoFrame]:
        tally = decode.Tally()
        with opened(self.path) as container:
            yield from decode.pictures(container, index, tally, threads=False)
        if tally.pictures == 0:
            raise VideoError(self.path, "no frame could be decoded; the file is broken or cut short")
        damaged = max(tally.damaged, index.damaged)
        decode.require_sound(self.path, damaged, max(tally.pictures + tally.failed, index.frames))

    def _range(
        self, index: Index, container: InputContainer | None, within: Callable[[Facts], range]
    ) -> Iterator[av.VideoFrame]:
        if index.needs_check:
            index = self._certain(index)
        given = 0
        with suppress(decode.Unexpected):
            for _, picture in self._pictures(index, container, list(within(_facts(index)))):
                yield picture
                given += 1
            return
        index = self._certain(index)
        rest = list(within(_facts(index)))[given:]
        if rest:
            yield from (picture for _, picture in decode.from_start(self.path, index, rest))


def _may_seek(index: Index) -> bool:
    return index.seekable and not index.needs_check


def _facts(index: Index) -> Facts:
    look, interlaced, damaged = index.look, index.interlaced, index.damaged
    return Facts(index.frames, index.fps, index.times, look, interlaced, damaged, index.changed)


# --------------------------------------------------------------------------- by Pillow


class Folder:
    """A folder of frames."""

    def __init__(self, path: Path):
        self.path = path
        self.files = stills.frame_files(path)

    def facts(self, certain: bool = True) -> Facts:
        """Count and measure."""
        look = Look(*stills.still_size(self.files[0]))
        return Facts(len(self.files), None, None, look, changed=stills.still_changed(self.files, self.path))

    def read(self, choose: Choose, take: Take) -> Frames:
        """Give the chosen frames."""
        facts = self.facts()
        chosen = _Chosen(choose(facts), take, facts.look)
        return chosen.fill((number, self._picture(number, facts.look)) for number in chosen.wanted)

    def each(self, take: Take, within: Callable[[Facts], range] | None = None) -> Iterator[Frame]:
        """Give every frame in turn."""
        facts = self.facts()
        for number in range(facts.frames) if within is None else within(facts):
            yield take(self._picture(number, facts.look), facts.look)

    def _picture(self, number: int, look: Look) -> av.VideoFrame:
        picture = av.VideoFrame.from_ndarray(stills.read_still(self.files[number]), format="rgb24")
        if (picture.width, picture.height) != (look.width, look.height):
            sizes = f"{look.width}x{look.height}, {picture.width}x{picture.height}"
            raise VideoError(
                self.path, f"its frames differ in size ({sizes}); expected the frames of one video, all alike"
            )
        return picture


class Animation:
    """An animated image, or a single one, that Pillow decodes."""

    def __init__(self, path: Path):
        self.path = path

    def facts(self, certain: bool = True) -> Facts:
        """Count and measure."""
        times, size = stills.animation_times(self.path)
        return Facts(len(times) - 1, float((len(times) - 1) / times[-1]), times, Look(*size), changed=True)

    def read(self, choose: Choose, take: Take) -> Frames:
        """Give the chosen frames."""
        facts = self.facts()
        chosen = _Chosen(choose(facts), take, facts.look)
        wanted = set(chosen.wanted)
        pictures = enumerate(stills.animation_frames(self.path))
        return chosen.fill((number, _picture_of(pixels)) for number, pixels in pictures if number in wanted)

    def each(self, take: Take, within: Callable[[Facts], range] | None = None) -> Iterator[Frame]:
        """Give every frame in turn, or those of a range."""
        facts = self.facts()
        numbers = range(facts.frames) if within is None else within(facts)
        for number, pixels in enumerate(stills.animation_frames(self.path)):
            if number in numbers:
                yield take(_picture_of(pixels), facts.look)


def _picture_of(pixels: Frame) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")
