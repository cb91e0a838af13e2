"""Windows on a stream of frames: each frame is encoded once, and windows of all lengths share these encodings.

A stream gives frames with times, one by one: from a file, a folder of frames or a camera. A ring holds what the longest
window needs, so memory does not grow with the stream.

    frame -> encoded once -> ring -> window: its T frames are chosen, joined to a clip's encoding, matched

The frames of a window are those that the recogniser would take of a clip with the window's frames, by motion or evenly.
So the answer for a window equals the answer of `Recognizer.predict` for a clip of these frames. If the encoder sees a
whole clip at once (`Encoder.by_frame` is false), the ring holds frames, and each window is encoded by itself.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from fsar.bank.fill import to_input
from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.progress import progress_bar
from fsar.recognizer.contract import HOP, Contract
from fsar.recognizer.judgement import Judgement, judge
from fsar.recognizer.state import State
from fsar.video.frame_cache import FrameCache
from fsar.video.motion import BY_MOTION, energy_of, motion_indices, moving_part, small_grey, unexplained
from fsar.video.picture import Frame
from fsar.video.sampling import frame_indices
from fsar.video.stream import TimedFrames

BATCH = 16
"""Frames that are encoded together, and windows that are matched together."""
_NEAR = 0.01  # seconds; two windows so near to each other are one
_SLACK = 1e-6  # seconds; rounding


class Window(NamedTuple):
    """A part of a stream, and what it shows."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    shows: Judgement
    moving: tuple[float, float] | None = None
    """Seconds: the part of the window in which something moves, from which its frames are taken; None for all of it."""


class Windows:
    """Answers for the windows of one stream; `Recognizer.windows` makes it.

    Args:
        state: with at least one action.
        method: the recogniser's method.
        cache: how frames are taken of a clip.
        contract: lengths of the windows, and frames per second that are looked at.
        batch: frames that are encoded together. A live stream needs a small one; the answers do not depend on it.

    Raises:
        ValueError: the recogniser keeps all frames of a clip.

    Example:
        >>> import numpy as np
        >>> from fsar import Recognizer
        >>> noise = np.random.default_rng(0).integers(0, 256, (4, 8, 64, 64, 3), np.uint8)
        >>> recognizer = Recognizer("tiny")
        >>> recognizer.enroll("one", list(noise[:2]))
        >>> recognizer.enroll("other", list(noise[2:]))
        >>> windows = recognizer.windows(Contract(lengths=(0.8,), rate=10.0))
        >>> found = [window for i, frame in enumerate(noise[0]) for window in windows.add(i / 10, frame)]
        >>> found += windows.finish(0.8)
        >>> [(window.start, window.end, window.shows.action) for window in found]
        [(0.0, 0.8, 'one')]
    """

    def __init__(self, state: State, method: Method, cache: FrameCache, contract: Contract, batch: int = BATCH):
        if cache.frames is None:
            raise ValueError(
                "the recogniser keeps all frames of a clip, so clips of different lengths cannot be compared; enrol "
                "again with a number of frames, such as frames=8"
            )
        self.contract, self.batch = contract, batch
        self._state = state
        self._ring = _Ring(method, cache)
        self._pending: list[tuple[float, Frame]] = []
        self._next = [0] * len(contract.lengths)  # number of the next window of each length
        self._begin: float | None = None
        self._taken = -np.inf

    def wants(self, time: float) -> bool:
        """Tell whether a frame will be looked at, so that others need not be decoded or resized.

        A frame is wanted if it comes at least three quarters of a period after the last one: frames of a steady stream
        are then equally far apart, at about the contract's rate.

        Args:
            time: of the frame, in seconds.
        """
        return time >= self._taken + 0.75 / self.contract.rate

    def add(self, time: float, frame: Frame) -> Iterator[Window]:
        """Take the next frame.

        Args:
            time: in seconds; later than the one before.
            frame: uint8 [height, width, rgb], as decoded, with a short side of at most 256.

        Yields:
            Windows that are complete by now, in the order of their ends.
        """
        if not self.wants(time):
            return
        self._begin = time if self._begin is None else self._begin
        self._taken = time
        self._pending.append((time, frame))
        if len(self._pending) >= self.batch:
            yield from self._advance(time)

    def finish(self, end: float) -> Iterator[Window]:
        """Answer the windows that the end of the stream completes; one that ends there among them, of every length.

        Args:
            end: of the stream, in seconds.

        Yields:
            The last windows. A stream that is shorter than a window is a window.
        """
        if self._begin is None:
            return
        yield from self._advance(end + _SLACK)
        last = set()
        for i, length in enumerate(self.contract.lengths):
            if self._next[i] == 0 or self._span(i, self._next[i] - 1)[1] < end - _NEAR:
                last.add((max(self._begin, end - length), end))
        yield from self._answer(sorted(last))

    def _advance(self, now: float) -> Iterator[Window]:
        """Encode the frames that wait, and answer the windows that ended before the present time."""
        self._ring.add(self._pending)
        self._pending = []
        ready = []
        for i in range(len(self._next)):
            while (span := self._span(i, self._next[i]))[1] <= now:
                ready.append(span)
                self._next[i] += 1
        yield from self._answer(sorted(ready, key=lambda span: span[1]))
        self._ring.forget(now - self.contract.lengths[-1] - 2 / self.contract.rate)

    def _span(self, i: int, number: int) -> tuple[float, float]:
        assert self._begin is not None
        length = self.contract.lengths[i]
        start = self._begin + number * max(length * HOP, 1 / self.contract.rate)
        return start, start + length

    def _answer(self, spans: list[tuple[float, float]]) -> Iterator[Window]:
        for first in range(0, len(spans), BATCH):
            some = spans[first : first + BATCH]
            chosen = [self._ring.choose(*span) for span in some]
            found = judge(self._state, self._ring.encoded([each.frames for each in chosen]))
            for span, shows, each in zip(some, found, chosen, strict=True):
                yield Window(*span, shows, each.moving)


def answers(windows: Windows, video: TimedFrames, work: str, progress: bool = False) -> Iterator[Window]:
    """Answer all windows of a video.

    Args:
        windows: new.
        video: opened.
        work: what the progress bar is called.
        progress: show a progress bar in seconds of video.

    Yields:
        Windows, as soon as they are complete.

    Raises:
        VideoError: the video is broken.
    """
    with progress_bar(iter(range(0)), work, "s", round(video.duration), progress) as bar:
        for time, frame in video.wanted(windows.wants):
            bar.update(int(time) - bar.n)
            yield from windows.add(time, frame)
        yield from windows.finish(video.duration)


class _Chosen(NamedTuple):
    """The frames of a window."""

    frames: list[int]
    """Numbers in the ring."""
    moving: tuple[float, float] | None


class _Ring:
    """The last frames of a stream: times, motion, and encodings or, for an encoder of whole clips, pictures."""

    def __init__(self, method: Method, cache: FrameCache):
        assert cache.frames is not None
        self.method, self.count, self.sampling = method, cache.frames, cache.sampling
        self.encoder = method.encoder()
        self.times: list[float] = []
        self.left: list[np.ndarray] = []  # difference of each frame to the one before
        self.encodings: list[Encoding] = []
        self.pictures: list[Frame] = []  # instead of encodings, if the encoder sees whole clips
        self.grey: np.ndarray | None = None

    @torch.no_grad()
    def add(self, frames: list[tuple[float, Frame]]) -> None:
        """Take frames, and encode them together."""
        if not frames:
            return
        pictures = [frame for _, frame in frames]
        self.times += [time for time, _ in frames]
        if self.sampling in BY_MOTION:
            greys = [np.asarray(small_grey(frame), float) for frame in pictures]
            before = greys[0] if self.grey is None else self.grey
            self.left += list(unexplained(np.stack([before, *greys])))
            self.grey = greys[-1]
        if self.encoder.by_frame:
            clip = to_input(self.method, np.stack(pictures)).to(self.method.device)
            made = self.encoder.of_frames(clip[None])
            self.encodings += [{part: each[0, i] for part, each in made.items()} for i in range(len(frames))]
        else:
            self.pictures += pictures

    def forget(self, before: float) -> None:
        """Drop the frames that no later window needs."""
        gone = max(0, bisect_left(self.times, before) - 1)
        for kept in (self.times, self.left, self.encodings, self.pictures):
            del kept[:gone]

    @torch.no_grad()
    def encoded(self, windows: list[list[int]]) -> Encoding:
        """Encode windows as queries [window, ...]."""
        made = [self._clip(numbers) for numbers in windows]
        clips = {part: torch.stack([each[part] for each in made]) for part in made[0]}
        begun = self.encoder.of_clip(clips) if self.encoder.by_frame else clips
        return {part: each.cpu() for part, each in self.method.enhance(begun, "query", None).items()}

    def _clip(self, numbers: list[int]) -> Encoding:
        if self.encoder.by_frame:
            frames = [self.encodings[i] for i in numbers]
            return {part: torch.stack([frame[part] for frame in frames]) for part in frames[0]}
        clip = to_input(self.method, np.stack([self.pictures[i] for i in numbers]))
        return {part: each[0] for part, each in self.encoder.encode(clip[None].to(self.method.device)).items()}

    def choose(self, start: float, end: float) -> _Chosen:
        """Choose the frames of a window; of a window without a frame, the one that is shown."""
        first, last = (bisect_left(self.times, time - _SLACK) for time in (start, end))
        first = min(first, max(last - 1, 0))
        frames = max(1, last - first)
        if self.sampling not in BY_MOTION:
            fps, times = frames / (end - start), [*self.times[first : first + frames], end]
            return _Chosen((first + frame_indices(frames, self.count, self.sampling, fps, times=times)).tolist(), None)
        if frames <= self.count:
            return _Chosen((first + frame_indices(frames, self.count)).tolist(), None)
        energy = energy_of(np.stack(self.left[first + 1 : first + frames]), self.count)
        after = self.times[first + frames] if first + frames < len(self.times) else end
        times = [*self.times[first : first + frames], min(after, end)]
        moving = np.interp(moving_part(energy), np.arange(frames + 1), times)
        chosen = first + motion_indices(energy, self.count, self.sampling)
        return _Chosen(chosen.tolist(), (float(moving[0]), float(moving[1])))
