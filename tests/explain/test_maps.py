"""Maps: the same seed gives the same map; views before and after a method; a missing package is named."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fsar import build_method, cli
from fsar.backbones.clip import ClipBackbone
from fsar.bank.fill import load_clip
from fsar.datasets import VideoDataset
from fsar.explain.maps import BEFORE, map_picture, project, silhouette, views_of
from fsar.video.frame_cache import FrameCache

FRAMES = 3


def test_views_of_a_method(small: ClipBackbone, little_world: VideoDataset) -> None:
    """CLIP-MDMF has two views of a query; what equals the features before is not shown twice."""
    videos = little_world.split("test").only(little_world.split("test").classes[:2])
    cache = FrameCache(frames=FRAMES)
    method = build_method("clip-mdmf", small, hidden=8, frames=FRAMES)
    views = views_of(method, videos, cache, progress=False)
    assert list(views) == [BEFORE, "after clip-mdmf: local", "after clip-mdmf: global"]
    assert {view.shape for view in views.values()} == {(6, 32)}
    clip = load_clip(method, cache, videos.videos[4].path)[None]
    with torch.no_grad():
        frames, after = small.encode_images(clip[0]).features, method.encode(clip, "query")
    np.testing.assert_allclose(views[BEFORE][4], frames.mean(0), rtol=1e-4, atol=1e-5)  # the mean over frames
    np.testing.assert_allclose(views["after clip-mdmf: local"][4], after["local"][0].mean(0), rtol=1e-4, atol=1e-5)
    adapter = build_method("task-adapter", small, frames=FRAMES, temporal_embedding_at="first_adapted_block")
    with pytest.raises(ValueError, match="only with its episode"):
        views_of(adapter, videos, cache, "support", progress=False)


def test_queries_that_change_in_matching(small: ClipBackbone, little_world: VideoDataset) -> None:
    """CLIP-SPM fuses a query with its prompt when it matches; labels of queries make no difference."""
    videos = little_world.split("test").only(little_world.split("test").classes[:2])
    method = build_method("clip-spm", small, hidden=8, head_dim=8)
    views = views_of(method, videos, FrameCache(frames=FRAMES), progress=False)
    assert list(views) == [BEFORE, "after clip-spm: prompt", "after clip-spm: fused"]
    assert {view.shape for view in views.values()} == {(6, 32)}
    first = method.encode_text([videos.texts[label] for label in videos.classes])
    prompt = method.prompt(first[None], torch.from_numpy(views[BEFORE])[None, :, None])  # type: ignore[operator]
    np.testing.assert_allclose(views["after clip-spm: prompt"], prompt[0].detach(), rtol=1e-4, atol=1e-5)


def test_maps_are_seeded_and_say_their_silhouette() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    labels = ["wave"] * 8 + ["clap"] * 8
    apart = np.concatenate([rng.normal((5, 0, 0), 1, (8, 3)), rng.normal((0, 5, 0), 1, (8, 3))])
    places = project(apart, seed=3)
    np.testing.assert_array_equal(places, project(apart, seed=3))
    longer = apart * 2.0 ** np.arange(16)[:, None]
    np.testing.assert_array_equal(places, project(longer, seed=3))  # lengths make no difference
    ids = [f"video {i}" for i in range(16)]
    mixed = rng.normal(size=(16, 3))
    picture = map_picture({"before": mixed, "after": apart}, labels, ids, seed=3)
    before, after = silhouette(mixed, labels), silhouette(apart, labels)
    assert f"before: silhouette {before:.2f}; after: silhouette {after:.2f}." in picture.words
    assert after > 0.5 > before
    np.testing.assert_array_equal(np.stack([picture.data["after x"], picture.data["after y"]], 1), places)
    assert picture.data["class"].tolist() == labels
    with pytest.raises(ValueError, match="2 to 8 classes"):
        map_picture({"before": apart}, ids, ids)


def test_the_silhouette_is_its_definition() -> None:
    """Mean of (b - a) / max(a, b): cosine distances to the own class and to the nearest other one."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    features = np.random.default_rng(0).normal(size=(9, 4)) * np.arange(1, 10)[:, None]
    labels = np.array(["wave", "clap", "jump"] * 3)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    apart = 1 - unit @ unit.T
    each = []
    for one in range(9):
        means = {k: apart[one][(labels == k) & (np.arange(9) != one)].mean() for k in ("wave", "clap", "jump")}
        own = means.pop(labels[one])
        next_one = min(means.values())
        each.append((next_one - own) / max(next_one, own))
    assert silhouette(features, labels.tolist()) == pytest.approx(np.mean(each))


def test_the_seed_reaches_the_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    """t-SNE begins with principal components, so a small map does not show whether its seed is used."""
    manifold = pytest.importorskip("sklearn.manifold", reason="scikit-learn is not installed")
    seeds = []
    real = manifold.TSNE
    monkeypatch.setattr(manifold, "TSNE", lambda *a, random_state, **k: seeds.append(random_state) or real(*a, **k))
    project(np.eye(6), seed=3)
    assert seeds == [3]


def test_umap_gets_the_seed_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several threads its maps differ from run to run. The package compiles for a minute, so a fake stands in."""
    asked: dict[str, object] = {}

    class Umap:
        def __init__(self, **options: object) -> None:
            asked.update(options)

        def fit_transform(self, features: np.ndarray) -> np.ndarray:
            return features[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    assert project(np.eye(6), "umap", seed=3).shape == (6, 2)
    assert asked == {"n_neighbors": 5, "metric": "cosine", "random_state": 3, "n_jobs": 1}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r"umap-learn.*fsar\[maps\]"):
        project(np.eye(6), "umap")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--projection", "umap"], r"umap-learn.*fsar\[maps\]"),
        (["--classes", "one"], "got 1"),
        (["--per-class", "2", "--classes", "one", "two"], "at least 5 videos; got 4"),
        (["--per-class", "1"], "at least two videos"),
    ],
)
def test_what_stops_a_map_is_told_before_any_video_is_encoded(
    little_world: VideoDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    reason: str,
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setitem(sys.modules, "umap", None)
    monkeypatch.setattr("fsar.explain.maps.views_of", lambda *_: pytest.fail("videos are encoded"))
    called = dict(zip(("one", "two"), little_world.split("test").classes, strict=False))
    command = ["explain", "map", "--data", str(little_world.videos[0].path.parents[1]), "--split", "all"]
    command += ["--out", str(tmp_path / "map.png"), *(called.get(word, word) for word in more)]
    assert cli.main(command) == 2
    assert re.search(reason, capsys.readouterr().err)
