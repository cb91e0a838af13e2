"""Labelled videos -> episodes -> accuracy with its interval."""

from fsar.evaluation.episodes import Episodes, EpisodeSampler
from fsar.evaluation.loop import accuracy, evaluate
from fsar.evaluation.matching import Scores, match_from_bank

__all__ = ["EpisodeSampler", "Episodes", "Scores", "accuracy", "evaluate", "match_from_bank"]
