"""The timeline of a long video: when which action happens.

Windows of several lengths are answered first (`fsar.recognizer.windows`). `spot` then chooses segments from them:

1. **Evidence.** Most windows of a stream show no whole action, while the recogniser's probabilities are those of clips:
   so the odds against "unknown" are multiplied by `RARE`. They are averaged over two neighbours of the same length on
   each side, and the choice among the actions over one: what a window that is shifted by a quarter of its length does
   not see, too, was found by chance. The evidence is the product.
2. **Candidates.** A window is a candidate for an action if its evidence is at least `begin`, and its length is
   possible: at most `SPREAD` times as long as the longest example, or as short as the shortest one.
3. **Settlement.** Of all sets of candidates that do not overlap, of one action or several, the one with the largest sum
   of evidence x seconds^`LONGER` is taken. So a part of a long gesture that looks like a short gesture loses to the
   whole. This is weighted interval scheduling, and solved exactly. Non-maximum suppression, which takes the best
   candidate first, names fewer segments right.
4. **Hysteresis.** Two segments of one action become one if every window between them keeps evidence of `keep`. So an
   action that lasts longer than its examples is one segment.
5. **Bounds.** A segment begins and ends with the motion in its window: of stillness around it, no frame was taken.
6. Segments shorter than `shortest` are dropped.

"Unknown" is no candidate, so it gives no segment.
"""

import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from fsar.datasets.segments.segment import Segment
from fsar.files import atomic_path, cache_dir
from fsar.methods.base import Method
from fsar.recognizer.contract import Contract
from fsar.recognizer.schedule import TOUCH, Schedule
from fsar.recognizer.state import State
from fsar.recognizer.windows import Window, Windows, answers
from fsar.video.frame_cache import SHORT_SIDE, FrameCache
from fsar.video.paths import VideoPath, as_path
from fsar.video.stream import TimedFrames

VERSION = 2
"""Of the answers for windows, in the cache."""
LONGER = 1.5
"""Power of a candidate's seconds in its weight; with 1, the sum is the number of seconds expected to be right."""
RARE = 0.25
"""Odds of a whole action in a window of a stream, over those in a clip that somebody cut."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How segments are chosen from windows."""

    begin: float = 0.25
    """Evidence from which a window is a candidate."""
    keep: float = 0.2
    """Evidence that windows between two segments of one action must keep, so that they become one."""
    shortest: float = 0.0
    """Seconds; shorter segments are dropped."""

    def __post_init__(self) -> None:
        if not 0 < self.begin <= 1 or not 0 <= self.keep <= 1 or self.shortest < 0:
            raise ValueError(
                f"begin is {self.begin:g}, keep {self.keep:g} and shortest {self.shortest:g}; expected probabilities "
                f"between 0 and 1, and seconds from 0 on"
            )


@dataclass(frozen=True, eq=False)
class WindowScores:
    """The answers for all windows of a video."""

    video: str
    """Path or name."""
    duration: float
    """Seconds."""
    actions: tuple[str, ...]
    spans: Mapping[str, tuple[float, float]]
    """Action -> shortest and longest window that may show it, in seconds; an action without an entry may have any."""
    starts: Float[np.ndarray, " window"]
    """Seconds."""
    ends: Float[np.ndarray, " window"]
    """Seconds."""
    probabilities: Float[np.ndarray, "window action"]
    """They and the probability of "unknown" sum to one."""
    moving: Float[np.ndarray, "window bound=2"] | None = None
    """Seconds: the part of each window in which something moves; None for all of it."""

    @property
    def parts(self) -> Float[np.ndarray, "window bound=2"]:
        """Seconds: the part of each window that its answer is about."""
        return np.stack([self.starts, self.ends], -1) if self.moving is None else self.moving

    @property
    def lengths(self) -> Float[np.ndarray, " window"]:
        """Seconds of each window, rounded to hundredths."""
        return np.round(self.ends - self.starts, 2)

    @classmethod
    def of(
        cls,
        video: str,
        duration: float,
        actions: Sequence[str],
        windows: Iterable[Window],
        spans: Mapping[str, tuple[float, float]],
    ) -> "WindowScores":
        """Gather windows; of each one only the numbers are kept, so an iterator of hours needs little memory.

        Args:
            video: path or name.
            duration: seconds.
            actions: all that were enrolled.
            windows: in any order.
            spans: as the attribute.
        """
        numbers = array("d")
        for window in windows:
            numbers.extend((window.start, window.end, *(window.moving or window[:2])))
            numbers.extend(window.shows.probabilities[name] for name in actions)
        rows = np.array(numbers).reshape(-1, 4 + len(actions))
        starts, ends = rows[:, 0], rows[:, 1]
        return cls(video, duration, tuple(actions), dict(spans), starts, ends, rows[:, 4:], rows[:, 2:4])

    def save(self, path: Path) -> None:
        """Write everything to an .npz file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        words = {"video": self.video, "duration": self.duration, "actions": self.actions, "spans": self.spans}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                words=np.array(json.dumps(words)),
                starts=self.starts,
                ends=self.ends,
                probabilities=self.probabilities,
                moving=self.parts,
            )

    @classmethod
    def load(cls, path: Path) -> "WindowScores":
        """Read a file that `save` wrote.

        Raises:
            ValueError: no such file, or another kind of file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                words = json.loads(str(file["words"]))
                starts, ends, shares = (file[name] for name in ("starts", "ends", "probabilities"))
                spans = {name: (low, high) for name, (low, high) in words["spans"].items()}
                moving = file["moving"] if "moving" in file.files else None  # absent in files of an older version
                known = words["video"], words["duration"], tuple(words["actions"]), spans
                return cls(*known, starts, ends, shares, moving)
        except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path}: not scores that `fsar spot --scores` wrote ({error}); run it again") from error


# ----------------------------------------------------------------------- from windows to segments


def spot(scores: WindowScores, rule: Rule | None = None, merge: bool = True) -> list[Segment]:
    """Choose segments from the answers for windows.

    Args:
        scores: of one video.
        rule: how; None for the usual values.
        merge: False leaves repetitions apart, as counting needs it.

    Returns:
        Segments in the order of time; they do not overlap.

    Example:
        >>> starts = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
        >>> p = np.array([[0.2], [0.8], [0.9], [0.8], [0.2]])
        >>> spot(WindowScores("a.mp4", 3.0, ("wave",), {}, starts, starts + 2, p))
        [Segment(video='a.mp4', start=0.5, end=2.5, action='wave', probability=0.362)]
    """
    return [each.segment for each in spotted(scores, rule or Rule(), merge)]


class Spotted(NamedTuple):
    """A segment, and the time that it takes up."""

    segment: Segment
    until: float
    """End of its last window, in seconds; no window of another segment begins before."""
    sure: bool
    """Whether it stays, whatever windows are still to come."""


def spotted(
    scores: WindowScores, rule: Rule, merge: bool = True, after: float = -np.inf, known: float = np.inf
) -> list[Spotted]:
    """Choose segments.

    Args:
        scores: as for `spot`.
        rule: as for `spot`.
        merge: as for `spot`.
        after: windows that begin before this time, in seconds, are only neighbours of others.
        known: windows that are still to come begin at this time, in seconds, or later.
    """
    smooth = evidence(scores)
    candidates = [each for each in _candidates(scores, smooth, rule.begin) if each.start >= after - TOUCH]
    segments, stay = _settled(candidates, known)
    merged = _merged(scores, smooth, segments, rule.keep) if merge else segments
    made = []
    for each in merged:
        start, end = (round(bound, 3) for bound in each.moving)
        if end - start >= rule.shortest:
            segment = Segment(scores.video, start, end, scores.actions[each.way], round(each.score, 4))
            made.append(Spotted(segment, each.end, each.end in stay))
    return made


def surest(scores: WindowScores) -> Segment | None:
    """Give the window that shows an action most clearly, whether or not a rule takes it.

    Args:
        scores: of one video.

    Returns:
        Its moving part, with the evidence as probability; None if no window is neither too long nor too short.

    Example:
        >>> starts = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
        >>> p = np.array([[0.2], [0.8], [0.9], [0.8], [0.2]])
        >>> surest(WindowScores("a.mp4", 3.0, ("wave",), {}, starts, starts + 2, p))
        Segment(video='a.mp4', start=0.5, end=2.5, action='wave', probability=0.362)
    """
    best = max(_candidates(scores, evidence(scores), 0.0), key=lambda each: each.score, default=None)
    if best is None:
        return None
    start, end = (round(bound, 3) for bound in best.moving)
    return Segment(scores.video, start, end, scores.actions[best.way], round(best.score, 4))


class _Chosen(NamedTuple):
    score: float
    start: float
    end: float
    way: int
    moving: tuple[float, float]


def evidence(scores: WindowScores) -> Float[np.ndarray, "window action"]:
    """Weigh what the windows say, as windows of a stream (see the head of this file).

    Args:
        scores: of one video, or of a part of it.

    Returns:
        From 0 to 1.
    """
    known = scores.probabilities.sum(-1, keepdims=True).clip(1e-9, 1)
    chosen = scores.probabilities / known
    known = RARE * known / (RARE * known + (1 - known))
    made = np.empty_like(chosen)
    for length in np.unique(scores.lengths):
        places = np.flatnonzero(scores.lengths == length)
        places = places[np.argsort(scores.starts[places], kind="stable")]
        made[places] = _averaged(chosen[places], 1) * _averaged(known[places], 2)
    return made


def _averaged(rows: np.ndarray, around: int) -> np.ndarray:
    """Average each row with so many before and after it; the outermost rows are repeated."""
    padded = np.pad(rows, ((around, around), (0, 0)), mode="edge")
    return np.mean([padded[i : i + len(rows)] for i in range(2 * around + 1)], axis=0)


def possible(scores: WindowScores, way: int) -> np.ndarray:
    """Tell which windows are neither too short nor too long for an action, given by its number."""
    low, high = scores.spans.get(scores.actions[way], (0.0, np.inf))
    whole = scores.lengths >= min(low, round(scores.duration, 2))  # the whole of a short video
    return whole & (scores.lengths <= max(high, scores.lengths.min(initial=np.inf)))


def _candidates(scores: WindowScores, smooth: np.ndarray, begin: float) -> list[_Chosen]:
    found, parts = [], scores.parts
    for way in range(len(scores.actions)):
        for i in np.flatnonzero(possible(scores, way) & (smooth[:, way] >= begin)):
            start, end, first, last = map(float, (scores.starts[i], scores.ends[i], *parts[i]))
            found.append(_Chosen(float(smooth[i, way]), start, end, way, (first, last)))
    return sorted(found, key=lambda each: (each.end, each.start, each.way))


def _settled(candidates: Sequence[_Chosen], known: float = np.inf) -> tuple[list[_Chosen], set[float]]:
    """Choose candidates that do not overlap, with the largest sum of weights.

    Args:
        candidates: in the order of their ends.
        known: candidates that are still to come begin at this time, in seconds, or later.

    Returns:
        The chosen ones; and the ends of those that stay, whatever comes: they are in the best set up to each time at
        which a later candidate may begin.
    """
    schedule = Schedule((e.start, e.end, e.score * (e.end - e.start) ** LONGER) for e in candidates)
    chosen = [candidates[i] for i in schedule.best()]
    stay = {each.end for each in chosen}
    for among in range(bisect_right(schedule.ends, known), len(candidates)):
        stay &= {candidates[i].end for i in schedule.best(among)}
    return chosen, stay


def _merged(scores: WindowScores, smooth: np.ndarray, segments: Sequence[_Chosen], keep: float) -> list[_Chosen]:
    """Make one segment of two neighbours of one action if the windows between them keep a probability."""
    made: list[_Chosen] = []
    for each in segments:
        last = made[-1] if made else None
        if last is not None and last.way == each.way and _bridged(scores, smooth, last, each, keep):
            seconds = last.end - last.start, each.end - each.start
            score = (last.score * seconds[0] + each.score * seconds[1]) / sum(seconds)
            made[-1] = _Chosen(score, last.start, each.end, each.way, (last.moving[0], each.moving[1]))
        else:
            made.append(each)
    return made


def _bridged(scores: WindowScores, smooth: np.ndarray, one: _Chosen, other: _Chosen, keep: float) -> bool:
    """Tell whether all possible windows with a centre between those of two segments keep a probability."""
    if other.start - one.end > min(one.end - one.start, other.end - other.start) / 4:
        return False
    centres = (scores.starts + scores.ends) / 2
    low, high = one.end - (one.end - one.start) / 2, other.start + (other.end - other.start) / 2
    between = possible(scores, one.way) & (centres >= low) & (centres <= high)
    return bool(between.any()) and bool((smooth[between, one.way] >= keep).all())


# ----------------------------------------------------------------------- from a video to windows


def scan(
    state: State,
    method: Method,
    cache: FrameCache,
    video: VideoPath,
    contract: Contract,
    fps: float | None = None,
    progress: bool = False,
) -> WindowScores:
    """Answer all windows of a video, or read the answers from the cache.

    The cache knows the answers by the video's content, the recogniser and the contract. So a run over many videos that
    was killed resumes, and segments can be chosen again by other rules at once.

    Args:
        state: with at least one action.
        method: the recogniser's method.
        cache: how frames are taken of a clip.
        video: a file, or a folder of frames.
        contract: windows and rate.
        fps: frames per second of a folder of frames.
        progress: show a progress bar in seconds of video.

    Returns:
        The answers.

    Raises:
        ValueError: the video cannot be read (a VideoError), or as for `Windows`.
    """
    path = as_path(video)
    known = cache_dir() / "windows" / _key(state, method, cache, (cache.content(path), contract, fps))
    with suppress(ValueError):  # absent, or damaged by another program
        return replace(WindowScores.load(known), video=os.fspath(path))
    frames = TimedFrames(path, SHORT_SIDE, fps)
    windows = answers(Windows(state, method, cache, contract), frames, "spot", progress)
    scores = WindowScores.of(os.fspath(path), frames.duration, list(state.actions), windows, contract.spans)
    scores.save(known)
    return scores


def _key(state: State, method: Method, cache: FrameCache, video: tuple[str, Contract, float | None]) -> str:
    """Name the answers by everything that they depend on."""
    parts = (
        VERSION,
        video,
        cache.settings(),
        method.encoder().key(),
        method.name,
        method.options(),
        [(name, sorted(example.key for example in action.examples)) for name, action in state.actions.items()],
        [example.key for example in state.background],
        vars(state.fitted()[0]),
    )
    return f"{blake2b(repr(parts).encode(), digest_size=16).hexdigest()}.npz"
