"""The practitioner's road: a few example clips per action -> a recogniser for new videos."""

from fsar.recognizer.calibration import Fit
from fsar.recognizer.recognizer import UNKNOWN, Answer, Recognizer

__all__ = ["UNKNOWN", "Answer", "Fit", "Recognizer"]
