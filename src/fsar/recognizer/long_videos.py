"""The recogniser's answers over time: long videos and live sources."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeAlias

from fsar.datasets.segments.segment import Segment
from fsar.recognizer.contract import Contract, contract_of
from fsar.recognizer.core import Core
from fsar.recognizer.counting import Repetitions, count, main_action
from fsar.recognizer.live import AGREE, Event, watch
from fsar.recognizer.timeline import Rule, WindowScores, scan, spot
from fsar.recognizer.windows import BATCH, Windows
from fsar.video.camera import Source as LiveSource
from fsar.video.camera import source_named
from fsar.video.play import Clock

LongVideo: TypeAlias = str | os.PathLike[str]
"""A file, or a folder of frames."""


class LongVideos(Core):
    """Windows of a video are answered as clips are."""

    def timeline(
        self,
        video: LongVideo,
        windows: Sequence[float] | None = None,
        rate: float | None = None,
        rule: Rule | None = None,
        fps: float | None = None,
        progress: bool = False,
    ) -> list[Segment]:
        """Tell when which action happens in a long video.

        Args:
            video: a file, or a folder of frames.
            windows: lengths of the windows in seconds; by default as long as the examples.
            rate: frames per second that are looked at; by default by the examples.
            rule: how segments are chosen from the answers for windows (see `fsar.recognizer.timeline`).
            fps: frames per second of a folder of frames.
            progress: show a progress bar.

        Returns:
            Segments in the order of time, which do not overlap. What is unknown gives no segment.

        Raises:
            ValueError: as for `predict`; or the examples' durations are not known, and `windows` is not given.
        """
        usual = None if self.tuned is None else self.tuned.rule
        return spot(self.scan(video, self.contract(windows, rate), fps, progress), rule or usual)

    def contract(self, windows: Sequence[float] | None = None, rate: float | None = None) -> Contract:
        """Tell what is looked at in a long video: the lengths of windows, and frames per second.

        Args:
            windows: lengths in seconds; by default as long as the examples.
            rate: frames per second; by default by the examples.

        Raises:
            ValueError: as for `timeline`.
        """
        if self.tuned is not None and windows is None and rate is None:
            return self.tuned.contract
        return contract_of(self._ready_state().actions, self.cache, windows, rate)

    def scan(
        self, video: LongVideo, contract: Contract | None = None, fps: float | None = None, progress: bool = False
    ) -> WindowScores:
        """Answer all windows of a long video; `spot` chooses segments from the answers.

        Args:
            video: as for `timeline`.
            contract: what is looked at; by default that of `contract()`.
            fps: as for `timeline`.
            progress: show a progress bar.

        Raises:
            ValueError: as for `timeline`.
        """
        return scan(self._ready_state(), self.method, self.cache, video, contract or self.contract(), fps, progress)

    def count(
        self,
        video: LongVideo,
        action: str | None = None,
        fps: float | None = None,
        progress: bool = False,
        begin: float = 0.0,
    ) -> Repetitions:
        """Count how often a video repeats an action, such as an exercise (see `fsar.recognizer.counting`).

        Args:
            video: a file, or a folder of frames.
            action: an enrolled action; each of its examples shows one repetition. By default the action that fills
                most of the timeline.
            fps: frames per second of a folder of frames.
            progress: show a progress bar.
            begin: probability that a repetition needs, as in `Rule`; for videos in which the action is rare.

        Returns:
            Each repetition, with its times.

        Raises:
            ValueError: an unknown action, a probability not from 0 to 1, or as for `timeline`.
        """
        if action is None:
            action = main_action(self.timeline(video, fps=fps, progress=progress), self.actions)
        return count(self._ready_state(), self.method, self.cache, video, action, begin, fps, progress)

    def windows(self, contract: Contract | None = None, batch: int = BATCH) -> Windows:
        """Prepare to answer the windows of a stream whose frames come one by one.

        Args:
            contract: what is looked at; by default that of `contract()`.
            batch: frames that are encoded together.

        Returns:
            What takes the frames; later edits of the recogniser have no effect on it.

        Raises:
            ValueError: as for `timeline`.
        """
        return Windows(self._ready_state(), self.method, self.cache, contract or self.contract(), batch)

    def watch(
        self,
        source: str | int | os.PathLike[str] | LiveSource,
        contract: Contract | None = None,
        rule: Rule | None = None,
        agree: int = AGREE,
        tell: Callable[[str], None] = lambda words: None,
    ) -> Iterator[Segment]:
        """Give the actions in a live source, each when it is sure. `events` also tells when one begins and ends.

        Args:
            source: the number of a camera, an address such as `rtsp://...`, or a video file, which plays at its own
                speed.
            contract: what is looked at; by default that of `contract()`.
            rule: as for `timeline`.
            agree: answers in a row that must agree.
            tell: is told in words when the connection is lost or found, and how many frames were dropped.

        Yields:
            Segments whose times count from the first picture. They end with a recording; a camera has no end.

        Raises:
            ValueError: as for `timeline`; or the source cannot be opened (a SourceError).
        """
        for event in self.events(source, contract, rule, agree, tell):
            if event.kind == "final":
                yield event.segment

    def events(
        self,
        source: str | int | os.PathLike[str] | LiveSource,
        contract: Contract | None = None,
        rule: Rule | None = None,
        agree: int = AGREE,
        tell: Callable[[str], None] = lambda words: None,
        clock: Clock | None = None,
    ) -> Generator[Event, None, None]:
        """Tell when actions begin and end in a live source (see `fsar.recognizer.live`).

        Args:
            source: as for `watch`.
            contract: as for `watch`.
            rule: as for `watch`.
            agree: as for `watch`.
            tell: as for `watch`.
            clock: the time that the source follows; by default that of the world.

        Yields:
            Events, as soon as they are known.

        Raises:
            ValueError: as for `watch`.
        """
        contract = contract or self.contract()
        opened = source_named(source) if isinstance(source, str | int | os.PathLike) else source
        rule = rule or (None if self.tuned is None else self.tuned.rule)
        self.fit()
        return watch(lambda batch: self.windows(contract, batch), contract, opened, rule, agree, tell, clock)
