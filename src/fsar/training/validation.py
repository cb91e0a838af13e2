"""Validation: accuracy on the val classes, at intervals during a run."""

from fsar.bank.fill import fill_bank
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.loop import accuracy
from fsar.evaluation.matching import match_from_bank
from fsar.methods.base import Method
from fsar.training.recipes import Recipe
from fsar.video.frame_cache import FrameCache


class Validation:
    """Evaluates a method on the val classes, each time on the same episodes.

    Args:
        recipe: how often, and on which episodes.
        videos: of the val classes.
        cache: how frames are sampled.
        keep_bank: keep encodings on disk; only for an encoder that does not train.

    Raises:
        ValueError: the videos are too few for these episodes.
    """

    def __init__(self, recipe: Recipe, videos: VideoDataset, cache: FrameCache, *, keep_bank: bool):
        self.recipe, self.videos, self.cache, self.keep_bank = recipe, videos, cache, keep_bank
        way, classes = recipe.validation_way, videos.classes
        if way > len(classes):
            raise ValueError(
                f"validation takes {way}-way episodes and {videos.name} has {len(classes)} val classes: "
                f"{', '.join(classes[:12])}; set val_way to {len(classes)} or less (--set val_way={len(classes)})"
            )
        self.sampler = EpisodeSampler(dataset=videos, way=way, shot=recipe.validation_shot, query=recipe.val_query)

    def due(self, step: int) -> bool:
        """Whether to validate after so many steps: at regular intervals, and at the end of the run."""
        every = max(1, self.recipe.val_every // self.recipe.episodes_per_step)
        return step % every == 0 or step == self.recipe.steps

    def accuracy(self, method: Method) -> tuple[float, float]:
        """Mean accuracy and half its 95 % interval over the val episodes, both in [0, 1]."""
        method.eval()
        episodes = method.order_queries(self.sampler.draw(self.recipe.val_episodes))
        videos, texts = self.videos.videos, self.videos.texts
        bank = fill_bank(method, videos, texts, cache=self.cache, keep=self.keep_bank, progress=False)
        return accuracy(match_from_bank(method, bank, episodes, texts, progress=False), episodes)
