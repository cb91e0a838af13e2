"""What the recogniser says of a video."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float

from fsar.results.numbers import likeliest
from fsar.video.picture import Frames

UNKNOWN = "unknown"
Heat: TypeAlias = Float[np.ndarray, "frame row column"]


@dataclass(frozen=True)
class Neighbour:
    """An enrolled example beside a new video."""

    action: str
    video: str
    """Path or name, as enrolled."""
    similarity: float
    """Logit of this example alone as a class; larger is more similar. The action is decided by all examples of each
    action together, so it may differ from that of the most similar example (`Answer.disagreement`)."""
    frames: tuple[int, ...] | None = None
    """For each frame that was taken of the new video, the most similar one of those that were taken of the example,
    counted from 0; None if the method does not compare frames."""


@dataclass(frozen=True)
class Answer:
    """What a video shows.

    Example:
        >>> answer = Answer("new.mp4", "wave", {"wave": 0.7, "unknown": 0.2, "clap": 0.1}, score=0.8, threshold=0.5)
        >>> print(answer)
        new.mp4: wave (wave 70%, unknown 20%, clap 10%)
        >>> answer.best, answer.unknown
        ('wave', 0.2)
    """

    video: str
    """Path or name of the video."""
    action: str
    """The best action, or `unknown`."""
    probabilities: Mapping[str, float]
    """All actions and, if it could be fitted, `unknown`; the likeliest first. They sum to one."""
    score: float
    """How similar the video is to the best action, measured against unrelated clips (`fsar.recognizer.background`); or
    the best action's logit, if the method cannot be measured so."""
    threshold: float | None
    """The answer is unknown if the score is below this; None if it could not be fitted."""
    nearest: tuple[Neighbour, ...] = ()
    """The most similar examples, if they were asked for; the most similar first."""
    seconds: float | None = field(default=None, compare=False)
    """Time for reading, encoding and matching the video."""
    basis: "Basis | None" = field(default=None, compare=False, repr=False)
    """What `explain` needs; None if the answer was not made by a recogniser in this process."""

    @property
    def best(self) -> str:
        """The likeliest action, even if the answer is unknown."""
        return next(name for name in self.probabilities if name != UNKNOWN)

    @property
    def disagreement(self) -> str | None:
        """Why the most similar example shows another action than the likeliest one, in words; None if it does not.

        Example:
            >>> near = (Neighbour("clap", "c.mp4", 0.9),)
            >>> Answer("a.mp4", "wave", {"wave": 0.6, "clap": 0.4}, 0.8, 0.5, near).disagreement
            "the most similar single clip shows 'clap', but the clips of 'wave' together are more similar"
        """
        if not self.nearest or self.nearest[0].action == self.best:
            return None
        return (
            f"the most similar single clip shows {self.nearest[0].action!r}, but the clips of {self.best!r} together "
            f"are more similar"
        )

    @property
    def unknown(self) -> float | None:
        """Probability that the video shows none of the actions; None if it could not be fitted."""
        return self.probabilities.get(UNKNOWN)

    def explain(self, video: Any = None) -> "Explanation":
        """Tell why the video was answered so; `fsar.explain.explanation_picture` draws it.

        The video is read again. The recogniser counts as it was at the answer, whatever was enrolled since.

        Args:
            video: the same video again, if it was given as frames, bytes or an open file: an answer does not keep
                frames.

        Returns:
            The nearest example of the best action, the frames that agree, and the cells that decided.

        Raises:
            ValueError: the video is not there any more (a VideoError), is another one by now, or was in memory and is
                not given; or the answer was not made by a recogniser in this process.

        Example:
            >>> from fsar import Recognizer
            >>> recognizer = Recognizer("tiny")
            >>> light = np.random.default_rng(0).integers(0, 255, (2, 8, 64, 64, 3), np.uint8)
            >>> recognizer.enroll("left", light[0])
            >>> recognizer.enroll("right", light[1])
            >>> why = recognizer.predict(light[0]).explain(light[0])
            >>> why.nearest.action, why.pairs.shape, why.heat.shape
            ('left', (8, 8), (8, 3, 3))
        """
        if self.basis is None:
            raise ValueError(
                f"the answer for {self.video} was not made by a recogniser in this process, so it cannot be explained; "
                f"take recognizer.predict(video).explain()"
            )
        return self.basis.explain(self, video)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, ready for JSON.

        Example:
            >>> Answer("a.mp4", "wave", {"wave": 0.9, "clap": 0.1}, 0.8, None).to_dict()["probabilities"]
            {'wave': 0.9, 'clap': 0.1}
        """
        told = asdict(replace(self, basis=None))
        del told["basis"]
        return told | {"best": self.best, "unknown": self.unknown, "disagreement": self.disagreement}

    def __str__(self) -> str:
        return f"{self.video}: {self.action} ({likeliest(self.probabilities)})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """Why a video was answered so: it is shown beside the nearest example of its best action."""

    answer: Answer
    """Its only neighbour is this example."""
    frames: Frames
    """What the image encoder sees of the video."""
    example: Frames | None
    """What it sees of the example; None if the example's file is not there, or has changed."""
    pairs: Float[np.ndarray, "query_frame support_frame"] | None
    """How much each pair of frames counts; None if the method compares no frames."""
    heat: Heat | None
    """Share of each cell of the grid in what speaks for the answer, in percent of all; only of place-and-motion."""
    heat_of_example: Heat | None

    @property
    def nearest(self) -> Neighbour:
        """The most similar example of the best action."""
        return self.answer.nearest[0]

    def __str__(self) -> str:
        told = f"{self.answer}. Nearest: {self.nearest.video}, similarity {self.nearest.similarity:.2f}."
        if self.example is None:
            told += " Its file is not there, so only its name is shown."
        if self.heat is None or self.heat.max() <= 0:
            return told
        frame, row, column = np.unravel_index(self.heat.argmax(), self.heat.shape)
        share = self.heat[frame].sum() / self.heat.sum()
        return (
            f"{told} Most of it comes from frame {frame + 1} ({share:.0%} of all frames), row {row + 1} and column "
            f"{column + 1} of the grid."
        )


class Basis(Protocol):
    """What an answer rests on."""

    def explain(self, answer: Answer, video: Any) -> Explanation:
        """Explain an answer; see `Answer.explain`."""
