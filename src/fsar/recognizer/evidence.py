"""What an answer rests on, for those who draw it."""

from dataclasses import dataclass

from fsar.methods.base import Method
from fsar.methods.episode import Episode
from fsar.recognizer.answer import Answer


@dataclass(frozen=True, eq=False)
class Evidence:
    """A video beside the nearest example of its best action."""

    answer: Answer
    """Its only neighbour is this example."""
    method: Method
    """The variant that answered."""
    episode: Episode
    """The video as the only query, the example as the only class."""
