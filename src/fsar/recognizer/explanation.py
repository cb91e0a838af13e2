"""Why a video was answered so: the nearest example, the frames that agree, and the cells that decided."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fsar.bank.fill import to_input
from fsar.datasets import Video
from fsar.evaluation.alignments import alignments
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode
from fsar.methods.place_motion import PlaceMotion
from fsar.recognizer.answer import Answer, Explanation, Heat, Neighbour
from fsar.recognizer.cells import cell_shares
from fsar.recognizer.encoding import ClipEncoder, Ready
from fsar.recognizer.examples import Action, Example
from fsar.recognizer.matching import correspondence, episode, padded, similarities
from fsar.recognizer.sources import VideoSource, open_source
from fsar.recognizer.state import State
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError
from fsar.video.picture import Frames
from fsar.video.transforms import pictures_of


class Basis:
    """What an answer rests on: the recogniser as it was then, and the video's place on disk.

    It never changes, so copies share it. A pickled answer loses it, since it holds the whole recogniser.

    Args:
        encoder: of the recogniser.
        state: that gave the answer; edits that came later make no difference.
        ready: the video; frames in memory are not kept.
    """

    def __init__(self, encoder: ClipEncoder, state: State, ready: Ready):
        self._encoder, self._state, self._content = encoder, state, ready.content
        self._video = ready.video if ready.on_disk else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Basis":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def explain(self, answer: Answer, video: VideoSource | None) -> Explanation:
        """Explain an answer; see `Answer.explain`."""
        given = self._video if video is None else video
        if given is None:
            raise ValueError(
                f"the answer for {answer.video} does not keep frames that were in memory; give them again: "
                f"answer.explain(video)"
            )
        ready = self._encoder.read(given)
        if isinstance(ready, VideoError):
            raise ready
        if ready.content != self._content:
            raise ValueError(f"{ready.name} is not what {answer.video} was when it was answered; answer it again")
        query, method, cache = self._encoder.query(ready), self._state.fitted()[1], self._encoder.cache
        found = similarities(method, self._state.actions, query)
        value, action, example = next(one for one in found if one[1] == answer.best)
        pair = _pair(method, example, self._state.actions[action], query)
        frames = None if method.traits.reads_text else correspondence(method, example, query)
        heat, heat_of_example = _heat(method, pair)
        return Explanation(
            answer=replace(answer, nearest=(Neighbour(action, example.video, value, frames),)),
            frames=_seen(method, ready, cache),
            example=_seen_example(method, example, cache),
            pairs=_pairs(method, pair),
            heat=heat,
            heat_of_example=heat_of_example,
        )


def _pair(method: Method, example: Example, action: Action, query: Encoding) -> Episode:
    """The video as the only query, the example as the only class."""
    one = {part: tensor[None] for part, tensor in query.items()}
    return episode(method, [(padded({"": Action.of([example], action.text)}), one)])


def _seen(method: Method, ready: Ready, cache: FrameCache) -> Frames:
    """What the image encoder sees of a video."""
    clip = ready.prepared.clip
    if clip is None:  # its encoding was on disk
        clip = to_input(method, cache.read(ready.video.path, *ready.video.span))
    return pictures_of(clip, *method.normalization)


def _seen_example(method: Method, example: Example, cache: FrameCache) -> Frames | None:
    """What the image encoder sees of an example; None if its file is not there any more, or is another one."""
    try:
        source = open_source(Video(example.video, Path(example.video), ""), cache)
        if example.content not in (None, source.content):
            return None
        return pictures_of(to_input(method, cache.read(Path(example.video))), *method.normalization)
    except (VideoError, OSError):
        return None


def _pairs(method: Method, pair: Episode) -> Float[np.ndarray, "query_frame support_frame"] | None:
    _, found = alignments(method, pair)
    return found[0].weights[0, 0, 0].cpu().numpy() if found else None


def _heat(method: Method, pair: Episode) -> tuple[Heat | None, Heat | None]:
    """Cells that speak for the answer in video and example, in percent of all of them."""
    if not isinstance(method, PlaceMotion) or method.config.weight == 0:
        return None, None
    shares = cell_shares(method, pair)
    query, support = (part[0, 0].clamp(min=0).cpu().double() for part in (shares.query, shares.support))
    percent = [(100 * part / part.sum().clamp(min=1e-12)).numpy() for part in (query, support)]
    return percent[0], percent[1]
