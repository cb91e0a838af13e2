"""Fit a recogniser to time: thresholds and windows that are best on the user's own annotated videos."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fsar.datasets.segments.segment import Segment
from fsar.evaluation.spotting import SpottingScore, score_segments
from fsar.names import unknown
from fsar.recognizer.contract import Contract, length_of
from fsar.recognizer.examples import Actions, Length
from fsar.recognizer.timeline import Rule, WindowScores, spot
from fsar.video.frame_cache import FrameCache

BEGINS = (0.25, 0.05, 0.1, 0.15, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7)
"""Thresholds that are tried; the usual one first, since the first of equals is taken."""
KEEP = 0.8
"""`keep` as a share of `begin`."""
THRESHOLD = 0.25
"""Temporal IoU of the F1 that is made as large as possible."""


@dataclass(frozen=True)
class Tuned:
    """What was chosen on annotated videos."""

    rule: Rule
    contract: Contract

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, ready for JSON."""
        return {"rule": asdict(self.rule), "contract": asdict(self.contract)}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "Tuned":
        """Read what `to_dict` gave.

        Example:
            >>> tuned = Tuned(Rule(begin=0.5), Contract((1.0, 2.0), 12.0, {"wave": (0.8, 2.5)}))
            >>> Tuned.read(tuned.to_dict()) == tuned
            True
        """
        contract = stored["contract"]
        spans = {action: (low, high) for action, (low, high) in contract["spans"].items()}
        return cls(Rule(**stored["rule"]), Contract(tuple(contract["lengths"]), contract["rate"], spans))


def tune(
    usual: Tuned,
    annotated: Contract,
    scan: Callable[[str, Contract], WindowScores],
    true: Sequence[Segment],
    seconds: Mapping[str, float],
) -> tuple[Tuned, SpottingScore, SpottingScore]:
    """Choose threshold and windows on annotated videos.

    Args:
        usual: what is used without tuning.
        annotated: windows as long as the annotated segments and the examples (see `annotated_contract`).
        scan: answers the windows of a video.
        true: the annotation.
        seconds: video -> its duration.

    Returns:
        What has the largest F1 at tIoU 0.25; the measures of the usual choice; and those of the best one. They are
        measured on the videos that it was chosen on: on new videos it does a little worse.

    Raises:
        ValueError: no segment is annotated.
    """
    if not true:
        raise ValueError("there is no segment to tune on; annotate a video in which the enrolled actions happen")
    tried: list[tuple[Tuned, SpottingScore]] = []
    rules = [usual.rule, *(Rule(begin=p, keep=KEEP * p, shortest=usual.rule.shortest) for p in BEGINS)]
    for contract in (usual.contract, annotated):
        scores = [scan(video, contract) for video in seconds]
        for rule in rules:
            found = [segment for each in scores for segment in spot(each, rule)]
            tried.append((Tuned(rule, contract), score_segments(true, found, seconds)))
    best = max(tried, key=lambda pair: pair[1].f1[THRESHOLD])
    return best[0], tried[0][1], best[1]


def annotated_contract(actions: Actions, cache: FrameCache, true: Sequence[Segment], rate: float) -> Contract:
    """Derive windows from the durations of examples and of annotated segments.

    Args:
        actions: what is enrolled.
        cache: how frames are taken of a clip.
        true: the annotation.
        rate: frames per second that are looked at.

    Raises:
        ValueError: an annotated action that is not enrolled.
    """
    for segment in true:
        if segment.action not in actions:
            raise ValueError(
                unknown(segment.action, actions, "action") + ". Give segments of other actions the label 'unknown'"
            )
    lengths = {
        name: [
            *(known for example in action.examples if (known := length_of(example, cache)) is not None),
            *(Length(each.end - each.start, rate) for each in true if each.action == name),
        ]
        for name, action in actions.items()
    }
    return Contract.of_examples(lengths, cache.frames or 1)
