"""Grad-CAM equals a derivative written by hand, and its formula at the layer that it names."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fsar import build_method
from fsar.backbones.base import Backbone, ImageEncoding
from fsar.backbones.clip import ClipBackbone
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import EpisodeSampler
from fsar.explain.episode import ShownEpisode, show_episode
from fsar.explain.frames import Row, frames_picture
from fsar.explain.gradcam import _scaled, grad_cam, grad_cam_of_episode, grad_cam_picture
from fsar.methods.base import Method
from fsar.methods.episode import Episode, Prediction
from fsar.video.frame_cache import FrameCache

FRAMES = 2


class TwoLayers(Backbone):
    """ReLU of a linear map of each pixel, the mean over places, and a linear map."""

    def __init__(self) -> None:
        super().__init__("two")
        self.dim, self.image_size, self.mean, self.std = 5, 4, (0.5,) * 3, (0.25,) * 3
        self.first, self.global_pool, self.second = nn.Conv2d(3, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Linear(7, 5, False)

    def encode_images(self, images: Tensor) -> ImageEncoding:
        maps = self.first(images).relu()
        return ImageEncoding(self.second(self.global_pool(maps).flatten(1)), maps.permute(0, 2, 3, 1))


class Dots(Method):
    """Inner products of sums over frames and shots."""

    name = "dots"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """No options."""

    def match(self, episode: Episode) -> Prediction:
        return Prediction(torch.einsum("eqtd,ewsud->eqw", episode.query["frames"], episode.support["frames"]))


def shown(side: int) -> ShownEpisode:
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(2, 1, FRAMES, 3, side, side, generator=generator)
    query = torch.randn(2, FRAMES, 3, side, side, generator=generator)
    return ShownEpisode(support, query, ["a", "b"], [0, 1], [["a/0"], ["b/0"]], ["a/1", "b/1"], None, None)


def test_a_derivative_by_hand() -> None:
    """d logit / d activation = (second layer)^T (sum of the other side's features) / places, at every place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = TwoLayers()
    asked = [1, 0]
    found = grad_cam_of_episode(Dots(backbone, Dots.Config()), shown(4), asked)
    first, bias = backbone.first.weight.detach()[:, :, 0, 0].double().numpy(), backbone.first.bias.detach().numpy()
    second = backbone.second.weight.detach().double().numpy()

    def maps(clips: Tensor) -> np.ndarray:
        return np.maximum(np.einsum("kc,...chw->...khw", first, clips.double().numpy()) + bias[:, None, None], 0)

    query, support = maps(shown(4).query), maps(shown(4).support)  # query frame k h w; way shot frame k h w
    for number, way in enumerate(asked):
        of_support = second @ support[way].mean((-1, -2)).sum((0, 1))
        of_query = second @ query[number].mean((-1, -2)).sum(0)
        heat = np.einsum("k,fkhw->fhw", second.T @ of_support / 16, query[number])
        np.testing.assert_allclose(found.query[number], np.maximum(heat, 0), atol=1e-5)
        heat = np.einsum("k,sfkhw->sfhw", second.T @ of_query / 16, support[way])
        np.testing.assert_allclose(found.support[number], np.maximum(heat, 0), atol=1e-5)
    assert float(found.query.max()) > 0


def test_what_speaks_against_the_score_counts_for_nothing() -> None:
    activations = torch.tensor([[[[1.0, 2.0], [3.0, 1.0]]]])  # image row column channel
    gradients = torch.tensor([[[[-1.0, 1.0], [-1.0, 1.0]]]])
    assert grad_cam(activations, gradients).tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize(
    ("name", "options"),
    [("protonet", {}), ("aim", {"frames": FRAMES}), ("task-adapter", {"frames": FRAMES, "readout": "visual"})],
)
def test_a_vit_is_explained_at_the_tokens_of_its_last_block(
    small: ClipBackbone, name: str, options: dict[str, object]
) -> None:
    """The last normalised tokens that attention over tokens reads, by a hook of the test's own."""
    method = build_method(name, small, **options)
    found = grad_cam_of_episode(method, shown(16), [0, 1])
    last = small.clip.visual.transformer.resblocks[-1]
    seen: list[Tensor] = []
    hook = last.attn.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    clips = shown(16)
    query = method.encode(clips.query[None].requires_grad_(), "query")
    (tokens,) = [one for one in seen if one.shape[:2] == (2 * FRAMES, 5)]  # two videos, four patches and a class token
    support = method.encode(clips.support[None].requires_grad_(), "support")
    logits = method.match(Episode(support, query, torch.ones(1, 2, 1, dtype=torch.bool))).logits[0]
    hook.remove()
    shown_tokens = [one for one in seen if one.shape[:2] == (2 * FRAMES, 5)][
        -1
    ]  # of the support, some of it in `match`
    gradients = torch.autograd.grad(logits[1, 1], [tokens, shown_tokens])
    for part, gradient, heat in zip((tokens, shown_tokens), gradients, (found.query, found.support[:, 0]), strict=True):
        maps = [each[:, 1:].unflatten(1, (2, 2)) for each in (part.detach(), gradient)]
        torch.testing.assert_close(heat[1], grad_cam(*maps).unflatten(0, (2, FRAMES))[1], atol=1e-6, rtol=1e-3)
    assert found.support.shape == (2, 1, FRAMES, 2, 2)


def test_picture(small: ClipBackbone, little_world: VideoDataset) -> None:
    videos = little_world.split("test")
    episodes = EpisodeSampler(dataset=videos, way=2, shot=1).draw(1)
    cache, method = FrameCache(frames=FRAMES), build_method("otam", small)
    picture = grad_cam_picture(method, cache, videos, episodes, "mine", of_truth=True, queries=[1])
    assert picture.data["query"].shape == (2, FRAMES, 2, 2)
    assert "bright places" in picture.words
    shown = show_episode(method, cache, videos, episodes)
    for of_truth, ways in ((True, shown.target), (False, None)):
        found = grad_cam_of_episode(method, shown, ways)
        drawn = grad_cam_picture(method, cache, videos, episodes, "mine", of_truth=of_truth)
        np.testing.assert_allclose(drawn.data["query"], found.query.numpy(), atol=1e-6)
    assert found.logits.argmax(-1).tolist() != [*shown.target], "with a right answer, both pictures are the same"
    with pytest.raises(ValueError, match="queries 0 to 1"):
        grad_cam_picture(method, cache, videos, episodes, "mine", queries=[4])


def test_examples_of_a_class_are_told_apart(small: ClipBackbone, little_world: VideoDataset) -> None:
    videos = little_world.split("test")
    episodes = EpisodeSampler(dataset=videos, way=2, shot=2).draw(1)
    method = build_method("otam", small)
    picture = grad_cam_picture(method, FrameCache(frames=FRAMES), videos, episodes, "mine", True, [0])
    asked = picture.data["classes"][episodes.target[0, 0]]
    assert {f"support for query 1: {asked}, shot {shot}" for shot in (1, 2)} <= {*picture.data}


def test_places_are_compared_over_all_frames() -> None:
    heat = torch.tensor([[[1.0, 2.0]], [[4.0, 0.0]]])
    assert _scaled(heat).tolist() == [[[0.25, 0.5]], [[1.0, 0.0]]]


@pytest.mark.parametrize("frames", [1, 4])
def test_frames_stand_above_their_heat(frames: int) -> None:
    """The scale of the heat takes no room from its row alone."""
    plain = Row("clip", np.zeros((frames, 8, 8, 3), np.uint8))
    picture = frames_picture([plain, replace(plain, heat=np.full((frames, 2, 2), 123.4))], "t" * 99, "share", "words")
    picture.figure.draw_without_rendering()
    shown = [axes for axes in picture.figure.axes if axes.images]
    for one, other in zip(shown[:frames], shown[frames:], strict=True):
        at, beneath = one.get_window_extent(), other.get_window_extent()
        np.testing.assert_allclose([beneath.x0, beneath.x1], [at.x0, at.x1], atol=0.1)
