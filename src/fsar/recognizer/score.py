"""How well a recogniser names labelled videos."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from fsar.names import many
from fsar.recognizer.answer import UNKNOWN, Answer
from fsar.video.paths import VideoError

BINS = 10
"""Bins of the reliability diagram, of equal width."""


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: answers whose probability lies in one range."""

    low: float
    high: float
    count: int
    """Number of answers."""
    confidence: float
    """Their mean probability."""
    accuracy: float
    """Share of right ones."""
    deviation: float
    """Standard deviation of `accuracy` if the probabilities were right."""

    def __str__(self) -> str:
        answers = many(self.count, "answer")
        return f"{self.low:.0%} to {self.high:.0%}: {answers}, said {self.confidence:.0%}, right {self.accuracy:.0%}"


@dataclass(frozen=True)
class Score:
    """Answers to labelled videos, counted.

    Example:
        >>> def answer(action): return Answer("a.mp4", action, {action: 0.6, "clap": 0.4}, 0.5, 0.4)
        >>> score = Score((("wave", answer("wave")), ("clap", answer("wave")), ("unknown", answer("unknown"))))
        >>> score.accuracy
        0.5
        >>> print(score)
        1 of 2 videos of known actions were named correctly; 0 were called unknown
        1 of 1 videos of other actions were called unknown
        clap: 0 of 1; named wave 1
        wave: 1 of 1
        probabilities are off by 7% on average (23% by chance alone, if they were right)
        60% to 70%: 3 answers, said 60%, right 67%
    """

    answers: Sequence[tuple[str, Answer]]
    """True action, or `unknown` for a video of another action; and the answer."""
    errors: Sequence[VideoError] = ()
    """Videos that could not be read."""

    @cached_property
    def confusion(self) -> Mapping[str, Mapping[str, int]]:
        """True action -> answered action -> number of videos; the most frequent answer first."""
        counts: dict[str, Counter[str]] = {}
        for truth, answer in self.answers:
            counts.setdefault(truth, Counter())[answer.action] += 1
        return {truth: dict(counts[truth].most_common()) for truth in sorted(counts)}

    @property
    def accuracy(self) -> float | None:
        """Share of videos of enrolled actions that were named correctly; None without such videos."""
        return self._share(lambda truth, action: truth == action)

    @property
    def known_missed(self) -> float | None:
        """Share of videos of enrolled actions that were called unknown."""
        return self._share(lambda truth, action: action == UNKNOWN)

    @property
    def unknown_accepted(self) -> float | None:
        """Share of videos of other actions that were named as an enrolled one; None without such videos."""
        return self._share(lambda truth, action: action != UNKNOWN, known=False)

    @cached_property
    def reliability(self) -> Sequence[Bin]:
        """Reliability diagram. Its probability is the one of the answer that was given, `unknown` included.

        Empty bins are left out.
        """
        bins: dict[int, list[tuple[float, bool]]] = {}
        for truth, answer in self.answers:
            probability = answer.probabilities.get(answer.action, 0.0)
            bins.setdefault(min(int(probability * BINS), BINS - 1), []).append((probability, answer.action == truth))
        return [
            Bin(
                number / BINS,
                (number + 1) / BINS,
                len(found),
                sum(p for p, _ in found) / len(found),
                sum(right for _, right in found) / len(found),
                math.sqrt(sum(p * (1 - p) for p, _ in found)) / len(found),
            )
            for number, found in sorted(bins.items())
        ]

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error: how far probabilities are from the share of right answers; None without any."""
        return self._mean_of_bins(lambda each: abs(each.confidence - each.accuracy))

    @property
    def calibration_chance(self) -> float | None:
        """The calibration error that chance would give with so many answers, if all probabilities were right.

        Shares of right answers are taken as normally distributed; their mean absolute deviation is then sqrt(2 / pi)
        standard deviations.
        """
        return self._mean_of_bins(lambda each: math.sqrt(2 / math.pi) * each.deviation)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, ready for JSON."""
        return {
            "accuracy": self.accuracy,
            "known_missed": self.known_missed,
            "unknown_accepted": self.unknown_accepted,
            "calibration_error": self.calibration_error,
            "calibration_chance": self.calibration_chance,
            "reliability": [asdict(each) for each in self.reliability],
            "confusion": self.confusion,
            "answers": [{"truth": truth, **answer.to_dict()} for truth, answer in self.answers],
            "errors": [str(error) for error in self.errors],
        }

    def __str__(self) -> str:
        known = [answer for truth, answer in self.answers if truth != UNKNOWN]
        strange = len(self.answers) - len(known)
        lines = []
        if known:
            right, missed = round(len(known) * (self.accuracy or 0)), round(len(known) * (self.known_missed or 0))
            lines.append(
                f"{right} of {len(known)} videos of known actions were named correctly; {missed} "
                f"{'was' if missed == 1 else 'were'} called unknown"
            )
        if strange:
            refused = round(strange * (1 - (self.unknown_accepted or 0)))
            lines.append(f"{refused} of {strange} videos of other actions were called unknown")
        for truth, counts in self.confusion.items():
            if truth != UNKNOWN:
                wrong = ", ".join(f"{action} {count}" for action, count in counts.items() if action != truth)
                lines.append(
                    f"{truth}: {counts.get(truth, 0)} of {sum(counts.values())}" + (f"; named {wrong}" if wrong else "")
                )
        if self.calibration_error is not None:
            lines.append(
                f"probabilities are off by {self.calibration_error:.0%} on average ({self.calibration_chance:.0%} by "
                f"chance alone, if they were right)"
            )
            lines += map(str, self.reliability)
        lines += [f"not read: {error}" for error in self.errors]
        return "\n".join(lines)

    def _mean_of_bins(self, value: Callable[[Bin], float]) -> float | None:
        total = len(self.answers)
        return sum(each.count * value(each) for each in self.reliability) / total if total else None

    def _share(self, counts: Callable[[str, str], bool], known: bool = True) -> float | None:
        there = [(truth, answer.action) for truth, answer in self.answers if (truth != UNKNOWN) == known]
        return sum(counts(truth, action) for truth, action in there) / len(there) if there else None
