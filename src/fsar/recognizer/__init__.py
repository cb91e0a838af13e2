"""The practitioner's road: a few example clips per action -> a recogniser for new videos."""

from fsar.recognizer.answer import UNKNOWN, Answer, Explanation, Neighbour
from fsar.recognizer.calibration import Fit
from fsar.recognizer.faults import ExampleWarning
from fsar.recognizer.recognizer import Recognizer
from fsar.recognizer.score import Score
from fsar.recognizer.sources import VideoSource

__all__ = [
    "UNKNOWN",
    "Answer",
    "ExampleWarning",
    "Explanation",
    "Fit",
    "Neighbour",
    "Recognizer",
    "Score",
    "VideoSource",
]
