"""The recogniser's answers for clips."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from fsar.datasets import VideoDataset, load_data
from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.names import unknown
from fsar.progress import ahead, progress_bar
from fsar.recognizer.answer import UNKNOWN, Answer, Neighbour
from fsar.recognizer.core import Core
from fsar.recognizer.encoding import Ready
from fsar.recognizer.examples import Example
from fsar.recognizer.explanation import Basis
from fsar.recognizer.judgement import judge
from fsar.recognizer.matching import correspondence, similarities
from fsar.recognizer.score import Score
from fsar.recognizer.sources import VideoSource, expanded
from fsar.video.paths import VideoError, display


class Answering(Core):
    """An answer uses one state from beginning to end."""

    def predict(self, video: VideoSource, nearest: int = 0) -> Answer:
        """Name the action in one video.

        Args:
            video: a path, frames, bytes or an open file.
            nearest: how many of the most similar examples to name. This search grows with the number of examples;
                the rest of the answer does not if the method matches with means.

        Returns:
            The best action or `unknown`, with the probabilities of all actions.

        Raises:
            ValueError: no action is enrolled, the video is broken (a VideoError), or an array of another
                shape or type.
        """
        self._ready_state()
        return self._answer(self._read(video), nearest)

    def predict_many(
        self, videos: Iterable[VideoSource], nearest: int = 0, return_errors: bool = False, workers: int | None = None
    ) -> Iterator[Answer | VideoError]:
        """Name the action in each of many videos, while the next ones are decoded.

        Args:
            videos: as for `predict`. A folder of videos stands for all of them.
            nearest: as for `predict`.
            return_errors: give the error in the place of a broken video, and go on to the next.
            workers: decoding threads; by default one per core.

        Yields:
            The answers, in the order of the videos.

        Raises:
            ValueError: as for `predict`; with `return_errors`, only if no action is enrolled.
        """
        self._ready_state()
        read = ahead(self._encoder.read, expanded(videos), workers or os.cpu_count() or 1)
        for ready in read:
            if not isinstance(ready, VideoError):
                yield self._answer(ready, nearest)
            elif return_errors:
                yield ready
            else:
                raise ready

    def score(
        self, folder: str | os.PathLike[str] | VideoDataset, return_errors: bool = False, progress: bool = False
    ) -> Score:
        """Answer labelled videos and count.

        Args:
            folder: with one folder of videos per action, ACTION/VIDEO; or a dataset. Videos of other actions belong
                to a folder `unknown`.
            return_errors: leave broken videos out and list their errors in the result.
            progress: show a progress bar.

        Returns:
            Accuracy, confusion, and all answers.

        Raises:
            ValueError: a folder that is neither an enrolled action nor `unknown`, or as for `predict`.
        """
        dataset = folder if isinstance(folder, VideoDataset) else load_data(os.fspath(folder))
        labels = [display(Path(video.label)) for video in dataset.videos]
        known = [*self._ready_state().actions, UNKNOWN]
        for label in labels:
            if label not in known:
                raise ValueError(
                    unknown(label, known, "action") + f". Put videos of other actions into a folder {UNKNOWN!r}"
                )
        answers = self.predict_many(dataset.videos, return_errors=return_errors)
        bar = progress_bar(zip(labels, answers, strict=True), "score", "video", len(labels), progress)
        found = list(bar)
        return Score(
            [(label, answer) for label, answer in found if isinstance(answer, Answer)],
            [error for _, error in found if isinstance(error, VideoError)],
        )

    def _answer(self, ready: Ready, nearest: int) -> Answer:
        """Encode a video that was read, and match it with one state."""
        started = time.perf_counter()
        state = self._ready_state()
        query = self._encoder.query(ready)
        (judged,) = judge(state, {part: each[None] for part, each in query.items()}, clips=True)
        method = state.fitted()[1]
        near = similarities(method, state.actions, query)[:nearest] if nearest else []
        return Answer(
            video=ready.name,
            action=judged.action,
            probabilities=dict(sorted(judged.probabilities.items(), key=lambda item: -item[1])),
            score=judged.score,
            threshold=judged.threshold,
            nearest=tuple(
                Neighbour(action, example.video, value, self._correspondence(method, example, query))
                for value, action, example in near
            ),
            seconds=ready.seconds + time.perf_counter() - started,
            basis=Basis(self._encoder, state, ready),
        )

    @staticmethod
    def _correspondence(method: Method, example: Example, query: Encoding) -> tuple[int, ...] | None:
        return None if method.traits.reads_text else correspondence(method, example, query)
