"""Heads that are solved per episode, against scikit-learn, PyTorch's optimiser and their equations, in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fsar.backbones.clip import ClipBackbone
from fsar.backbones.given import GivenFeatures
from fsar.layers.linear_heads import head_input
from fsar.methods import build_method
from fsar.methods.episode import Episode
from fsar.methods.tip_adapter import TipAdapter, tuned_keys

WAY, SHOT, QUERY, DIM = 3, 4, 5, 8
CLASSES = np.repeat(np.arange(WAY), SHOT)


@pytest.fixture
def episode() -> Episode:
    """Classes that overlap, in float64, with frames of different lengths."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    centres = draw(WAY, DIM)
    support = centres[None, :, None, None] + draw(1, WAY, SHOT, 4, DIM)
    return Episode({"frames": support}, {"frames": 2 * draw(1, QUERY, 4, DIM)}, torch.ones(1, WAY, SHOT) > 0)


def vectors(frames: Tensor) -> np.ndarray:
    """Mean over frames at length 1, [video, dim]."""
    means = frames.mean(-2).flatten(0, -2).numpy()
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def logits(name: str, episode: Episode, **options: float) -> np.ndarray:
    return build_method(name, GivenFeatures(f"features/{DIM}"), **options).match(episode).logits[0].numpy()


def about_means(episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    support, query = vectors(episode.support["frames"]), vectors(episode.query["frames"])
    centre = support.mean(0)  # all classes have as many shots
    return support - centre, query - centre


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_ridge(episode: Episode, strength: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    support, query = about_means(episode)
    fit = linear_model.Ridge(alpha=strength, solver="svd").fit(support, np.eye(WAY)[CLASSES])
    expected = fit.predict(query) - 1 / WAY  # its intercept is the mean target
    np.testing.assert_allclose(logits("ridge", episode, strength=strength), expected, atol=1e-10)
    primal = np.linalg.solve(support.T @ support + strength * np.eye(DIM), support.T @ np.eye(WAY)[CLASSES])
    np.testing.assert_allclose(query @ primal, expected + 1 / WAY - fit.intercept_, atol=1e-10)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_logistic(episode: Episode, strength: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    support, query = about_means(episode)
    head = linear_model.LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
    expected = head.fit(support, CLASSES).decision_function(query)
    np.testing.assert_allclose(logits("logistic", episode, strength=strength), expected, atol=1e-5)


@pytest.mark.parametrize("shrinkage", [None, 0.3])
def test_nearest_mean(episode: Episode, shrinkage: float | None) -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    support, query = vectors(episode.support["frames"]), vectors(episode.query["frames"])
    means = np.stack([support[k == CLASSES].mean(0) for k in range(WAY)])
    rests = support - means[CLASSES]
    estimated = covariance.ledoit_wolf_shrinkage(rests, assume_centered=True)
    assert 0.05 < estimated < 0.95
    share = estimated if shrinkage is None else shrinkage
    scatter = rests.T @ rests / len(rests)
    spread = np.trace(scatter) / DIM
    inverse = np.linalg.inv((1 - share) * scatter + share * spread * np.eye(DIM))
    apart = query[:, None] - means
    expected = -0.5 * spread * np.einsum("qkd,de,qke->qk", apart, inverse, apart)
    np.testing.assert_allclose(logits("nearest-mean", episode, shrinkage=shrinkage), expected, atol=1e-10)


def test_nearest_mean_of_one_shot_is_euclidean(episode: Episode) -> None:
    one = Episode({"frames": episode.support["frames"][:, :, :1]}, episode.query, episode.shot_mask[..., :1])
    means, query = vectors(one.support["frames"]), vectors(one.query["frames"])
    expected = -0.5 * ((query[:, None] - means) ** 2).sum(-1)
    np.testing.assert_allclose(logits("nearest-mean", one), expected, atol=1e-10)


def test_tip_adapter(episode: Episode, small: ClipBackbone) -> None:
    text = torch.randn(1, WAY, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    method = build_method("tip-adapter", small, alpha=0.7, beta=3.0)
    got = method.match(Episode(episode.support, episode.query, episode.shot_mask, text)).logits[0].detach().numpy()
    keys, query, words = vectors(episode.support["frames"]), vectors(episode.query["frames"]), text[0].numpy()
    cache = np.exp(-3.0 * (1 - query @ keys.T)) @ np.eye(WAY)[CLASSES]
    of_text = query @ (words / np.linalg.norm(words, axis=1, keepdims=True)).T
    np.testing.assert_allclose(got, 0.7 * cache + small.logit_scale.item() * of_text, atol=1e-9)
    alone = logits("tip-adapter", episode, text=False, alpha=0.7, beta=3.0)
    np.testing.assert_allclose(alone, 0.7 * cache, atol=1e-10)


def test_tuned_keys_are_those_of_pytorchs_optimiser(episode: Episode) -> None:
    config = TipAdapter.Config(tuned=True, steps=6, lr=0.1, alpha=2.0)
    given = head_input(episode.query["frames"], episode.support["frames"], episode.shot_mask)
    of_text = torch.randn(1, WAY * SHOT, WAY, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    keys = given.support.clone().requires_grad_()
    optimizer = torch.optim.AdamW([keys], lr=config.lr, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for _ in range(config.steps):
        cache = (-config.beta * (1 - given.support @ keys.mT)).exp() @ given.classes
        loss = cross_entropy((config.alpha * cache + of_text)[0], torch.from_numpy(CLASSES))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    got = tuned_keys(given, of_text, config)
    torch.testing.assert_close(got, keys.detach(), rtol=0, atol=1e-9)
    assert (got - given.support).abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ridge", {"strength": 0}, "strength 0.*above 0"),
        ("logistic", {"strength": 1e-12}, "strength is 1e-12; expected at least 0.0001"),
        ("logistic", {"strength": float("inf")}, "strength is inf; expected a finite number"),
        ("nearest-mean", {"shrinkage": 0}, "shrinkage 0.*expected null, or a number from 0.001 to 1"),
        ("tip-adapter", {"text": False, "beta": 0}, "beta 0"),
        ("tip-adapter", {}, "reads class names, but backbone 'features/8' has no text"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_method(name, GivenFeatures(f"features/{DIM}"), **options)
