"""Counting: how often is an action repeated, and when is each repetition?

Repetitions of an exercise touch, and their speed changes. So a video is compared with one repetition, the example:

1. Windows that last from `FASTER` to `SLOWER` times as long as the examples are scored against the examples of the
   action. It is a matched filter: the score is highest if a window holds just one repetition, from its begin to its
   end. Windows that are shifted, or hold half a repetition or two, score less: their frames come in another order.
2. A window may be a repetition if it is not "unknown". In a long video of other things, some windows pass this
   threshold by chance. So `begin` can ask for evidence, too, as the timeline does (`fsar.recognizer.timeline`). By
   default it does not: evidence takes actions for rare, and misses exercises of persons who are not enrolled.
3. Of all sets of such windows that do not overlap, the one with the largest sum of (score - threshold) x seconds is
   taken. The threshold is that of "unknown", so it does not depend on the video: persons whose repetitions score less
   than those of others are counted, too.

If the recogniser has no threshold, a level takes its place. It lies between the score of a usual window of this video
and that of the best windows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fsar.datasets.segments.segment import Segment
from fsar.methods.base import Method
from fsar.names import many, unknown
from fsar.recognizer.answer import UNKNOWN
from fsar.recognizer.contract import Contract, length_of, rate_of
from fsar.recognizer.schedule import Schedule
from fsar.recognizer.state import State
from fsar.recognizer.timeline import WindowScores, evidence
from fsar.recognizer.windows import Window, Windows, answers
from fsar.video.frame_cache import SHORT_SIDE, FrameCache
from fsar.video.paths import VideoPath, as_path, display
from fsar.video.stream import TimedFrames

FASTER, SLOWER = 0.5, 2.0
"""Shortest and longest repetition, in durations of the shortest and the longest example."""
STEP = 2**0.25
"""Largest ratio of two neighbouring window lengths."""
BEST = 0.95
"""Share of the windows that score less than the best ones, if there is no threshold."""
LEVEL = 0.5
"""Place of the level between the median score (0) and the best one (1)."""


@dataclass(frozen=True)
class Repetitions:
    """How often a video repeats an action.

    Example:
        >>> found = Repetitions("a.mp4", "squat", (Segment("a.mp4", 0.0, 2.0, "squat"),))
        >>> len(found), str(found)
        (1, 'a.mp4: squat, 1 time')
    """

    video: str
    """Path or name."""
    action: str
    segments: tuple[Segment, ...]
    """Each repetition, in the order of time. The probability is 1 for the best one, and 0 at the level."""

    def __len__(self) -> int:
        return len(self.segments)

    def __str__(self) -> str:
        return f"{self.video}: {self.action}, {many(len(self), 'time')}"


def count(
    state: State,
    method: Method,
    cache: FrameCache,
    video: VideoPath,
    action: str,
    begin: float = 0.0,
    fps: float | None = None,
    progress: bool = False,
) -> Repetitions:
    """Count the repetitions of an action.

    Args:
        state: with this action.
        method: the recogniser's method.
        cache: how frames are taken of a clip.
        video: a file, or a folder of frames.
        action: an enrolled action; each of its examples shows one repetition.
        begin: evidence that a window needs; 0 asks for none.
        fps: frames per second of a folder of frames.
        progress: show a progress bar in seconds of video.

    Returns:
        Each repetition.

    Raises:
        ValueError: an unknown action, a `begin` that is not from 0 to 1, no known duration of an example, or a video
            that cannot be read (a VideoError).
    """
    if not 0 <= begin <= 1:
        raise ValueError(f"begin is {begin:g}; expected a probability from 0 to 1")
    if action not in state.actions:
        raise ValueError(unknown(action, state.actions, "action"))
    contract = counting_contract(state, cache, action)
    frames = TimedFrames(as_path(video), SHORT_SIDE, fps)
    windows = Windows(_alone(state, method, action), method, cache, contract)
    found = list(answers(windows, frames, "count", progress))
    name = display(frames.path)
    chosen = choose(found, action, begin)
    return Repetitions(name, action, tuple(Segment(name, begin, end, action, likely) for begin, end, likely in chosen))


def main_action(segments: Iterable[Segment], actions: Iterable[str]) -> str:
    """Tell which action fills most of a timeline; the first one if it shows none.

    Args:
        segments: of one video.
        actions: all that are enrolled.

    Example:
        >>> main_action([Segment("a.mp4", 0, 1, "wave"), Segment("a.mp4", 1, 4, "clap")], ["wave", "clap"])
        'clap'
    """
    seconds = dict.fromkeys(actions, 0.0)
    for segment in segments:
        seconds[segment.action] += segment.end - segment.start
    return max(seconds, key=lambda name: seconds[name])


def counting_contract(state: State, cache: FrameCache, action: str) -> Contract:
    """Derive the windows for counting from the durations of an action's examples.

    Args:
        state: with this action.
        cache: how frames are taken.
        action: what is counted.

    Raises:
        ValueError: no duration of an example is known.
    """
    lengths = [each for each in (length_of(e, cache) for e in state.actions[action].examples) if each is not None]
    if not lengths:
        raise ValueError(f"it is not known how long the examples of {action!r} last; enrol them again, as files")
    shortest = FASTER * min(each.seconds for each in lengths)
    longest = SLOWER * max(each.seconds for each in lengths)
    steps = int(np.ceil(np.log(longest / shortest) / np.log(STEP)))
    windows = tuple(round(float(each), 3) for each in np.geomspace(shortest, longest, steps + 1))
    fps = float(np.median([each.fps for each in lengths]))
    return Contract(windows, rate_of(windows, fps, cache.frames or 1))


def choose(windows: Sequence[Window], action: str, begin: float = 0.0) -> list[tuple[float, float, float]]:
    """Choose the windows that are repetitions.

    Args:
        windows: all windows of a video.
        action: what is counted.
        begin: evidence that a window needs; 0 asks for none.

    Returns:
        Begin and end in seconds, and the evidence, from 0 to 1.
    """
    if not windows:
        return []
    shown = [window.shows for window in windows]
    actions = [name for name in shown[0].probabilities if name != UNKNOWN]
    likely = evidence(WindowScores.of("", windows[-1].end, actions, windows, {}))[:, actions.index(action)]
    may = (likely >= begin) & np.array([each.action == action for each in shown])
    if not may.any():
        return []
    scores = np.array([each.score for each in shown])
    threshold = shown[int(np.flatnonzero(may)[0])].threshold
    level = _level(scores) if threshold is None else threshold
    chosen = _settled(windows, np.where(may, scores - level, 0.0))
    return [(round(windows[i].start, 3), round(windows[i].end, 3), round(float(likely[i]), 4)) for i in chosen]


def _level(scores: Float[np.ndarray, " window"]) -> float:
    """A level among the scores of a video, for a recogniser without a threshold."""
    best, usual = float(np.quantile(scores, BEST)), float(np.median(scores))
    return usual + LEVEL * (best - usual) if len(scores) > 1 else usual - 1.0


def _settled(windows: Sequence[Window], gains: Float[np.ndarray, " window"]) -> list[int]:
    """Choose windows that do not overlap, with the largest sum of gain x seconds."""
    order = sorted((int(i) for i in np.flatnonzero(gains > 0)), key=lambda i: windows[i].end)
    spans = [(windows[i].start, windows[i].end, float(gains[i])) for i in order]
    return [order[k] for k in Schedule((start, end, gain * (end - start)) for start, end, gain in spans).best()]


def _alone(state: State, method: Method, action: str) -> State:
    """A state in which every window is scored against one action; all actions if they depend on each other."""
    if not method.traits.independent_ways:
        return state
    return State(method, {action: state.actions[action]}, state.background, fitted=state.fitted(), before=state)
