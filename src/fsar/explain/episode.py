"""One episode with its clips, ready to be run and drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fsar.bank.fill import load_clip
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import Episodes
from fsar.methods.base import Method
from fsar.methods.episode import Episode, Prediction
from fsar.video.frame_cache import FrameCache


@dataclass(frozen=True)
class ShownEpisode:
    """The clips of one episode, their words, and the class texts as a method encodes them."""

    support: Float[Tensor, "way shot frame rgb=3 height width"]
    query: Float[Tensor, "query frame rgb=3 height width"]
    words: Sequence[str]
    """Words of each way."""
    target: Sequence[int]
    """The way that each query belongs to."""
    support_names: Sequence[Sequence[str]]
    query_names: Sequence[str]
    text: Tensor | None
    draws: Tensor | None

    def examples(self, way: int) -> list[str]:
        """Name the support videos of a class: by its words and, if there are several, by their numbers."""
        shots = len(self.support_names[way])
        return [f"{self.words[way]}, shot {shot + 1}" if shots > 1 else self.words[way] for shot in range(shots)]

    def names(self) -> dict[str, np.ndarray]:
        """Give the classes and videos by name, for the numbers of a picture."""
        return {
            "classes": np.array(self.words),
            "support videos": np.array(self.support_names),
            "query videos": np.array(self.query_names),
        }


def show_episode(method: Method, cache: FrameCache, dataset: VideoDataset, episodes: Episodes) -> ShownEpisode:
    """Read the clips of the first of some episodes.

    Args:
        method: says what its input looks like, and encodes the class texts.
        cache: how frames are sampled.
        dataset: holds the videos and the words of the classes.
        episodes: at least one.

    Returns:
        The episode, on the method's device.

    Raises:
        VideoError: a video cannot be read.
    """
    one = method.order_queries(episodes[:1])
    sources = {video.id: (video.path, *video.span) for video in dataset.videos}
    device = method.device

    def clips(videos: np.ndarray) -> Tensor:
        flat = [load_clip(method, cache, *sources[one.video_ids[i]]) for i in videos.ravel()]
        return torch.stack(flat).unflatten(0, videos.shape).to(device)

    words = [dataset.texts[one.classes[c]] for c in one.way_class[0]]
    with torch.no_grad():
        text = method.encode_text(words).to(device) if method.traits.reads_text else None
    draws = method.draws_of(one)
    return ShownEpisode(
        clips(one.support[0]),
        clips(one.query[0]),
        words,
        one.target[0].tolist(),
        [[one.video_ids[i] for i in row] for row in one.support[0]],
        [one.video_ids[i] for i in one.query[0]],
        text,
        None if draws is None else draws.to(device),
    )


def encode_shown(method: Method, shown: ShownEpisode) -> Episode:
    """Encode the clips of an episode."""
    text = None if shown.text is None else shown.text[None]
    return method.encode_episode(shown.support[None], shown.query[None], text, shown.draws)


def predict_shown(method: Method, shown: ShownEpisode) -> Prediction:
    """Encode and match an episode."""
    return method.match(encode_shown(method, shown))
