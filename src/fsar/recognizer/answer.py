"""What the recogniser says of a video."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fsar.results.numbers import likeliest

UNKNOWN = "unknown"


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

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, ready for JSON.

        Example:
            >>> Answer("a.mp4", "wave", {"wave": 0.9, "clap": 0.1}, 0.8, None).to_dict()["probabilities"]
            {'wave': 0.9, 'clap': 0.1}
        """
        return asdict(self) | {"best": self.best, "unknown": self.unknown, "disagreement": self.disagreement}

    def __str__(self) -> str:
        return f"{self.video}: {self.action} ({likeliest(self.probabilities)})"
