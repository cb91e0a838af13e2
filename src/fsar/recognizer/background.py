"""Background: clips without an action; they show how similar an unrelated video is.

The scale of a logit depends on the backbone, the variant of the method and the actions. So the best
logit of a video is compared with the logits of the same video for background clips, each taken as a class:

    similar = (best logit - mean over background clips) / (standard deviation over background clips)
    score   = similar + weight * order

The first part counts by how many standard deviations a video is more similar to an action than to unrelated clips (test
normalisation, from speaker verification). All recognisers use one clip of every action of the generated world, and the
user's own background clips. Another movement in the same scene is similar, too, whatever the order of its frames. So
the second part counts by how many standard deviations the frames are more similar in their order than in a random one
(`fsar.recognizer.matching.order`). Its weight is fitted (`fsar.recognizer.calibration`). It is 0 for methods that do
not compare frames.

The method must compare every class by itself and read no class texts (`uses_background`).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from fsar.datasets.world import VERSION, render_clip
from fsar.datasets.world_actions import ACTIONS
from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.recognizer.examples import Action, Example
from fsar.recognizer.matching import BATCH_BYTES, Supports, episode, padded, queries, size

if TYPE_CHECKING:
    from fsar.video.picture import Frames

BACKGROUND = "background"
"""Name of the folder with the user's own background clips."""
SEED = 1000
"""Clips of the generated world that no benchmark uses."""


def uses_background(method: Method) -> bool:
    """Tell whether a method's logits can be compared with those of background clips."""
    traits = method.traits
    return traits.independent_ways and not traits.reads_text and not traits.transductive


def generated_clips() -> Iterator[tuple[str, Callable[[], "Frames"]]]:
    """List the background clips: one of every action of the generated world.

    Yields:
        A name that changes with the clip, and what renders its frames.
    """
    for action in ACTIONS:
        yield f"generated {VERSION} {action.name} {SEED}", partial(render_clip, action, SEED)


class Cohort:
    """Background clips, each as a class.

    Args:
        examples: the clips, at least two.
    """

    def __init__(self, examples: Sequence[Example]):
        self.examples = tuple(examples)
        self.supports: Supports = padded({str(i): Action.of([example]) for i, example in enumerate(examples)})

    @torch.no_grad()
    def statistics(self, method: Method, query: Encoding) -> tuple[Float[Tensor, " query"], Float[Tensor, " query"]]:
        """Match queries with every background clip.

        Args:
            method: the chosen variant.
            query: encodings [query, ...].

        Returns:
            Mean and standard deviation of each query's logits.
        """
        logits = method.logits(episode(method, [(self.supports, query)]))[0].cpu()
        return logits.mean(-1), logits.std(-1).clamp(min=1e-9)

    def of_examples(self, method: Method, examples: Sequence[Example]) -> Float[Tensor, "example statistic=2"]:
        """Mean and standard deviation of examples as queries, some at a time."""
        count = max(1, BATCH_BYTES // size(examples[0].query))
        chunks = [examples[start : start + count] for start in range(0, len(examples), count)]
        return torch.cat([torch.stack(self.statistics(method, queries(chunk)), -1) for chunk in chunks])
