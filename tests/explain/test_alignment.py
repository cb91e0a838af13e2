"""The weights of pairs of frames are what the metrics do by definition."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from fsar import build_method, cli
from fsar.alignment import otam_alignment
from fsar.backbones.clip import ClipBackbone
from fsar.datasets import VideoDataset
from fsar.evaluation.alignments import alignments
from fsar.evaluation.episodes import EpisodeSampler
from fsar.explain.alignment import alignment_picture, scores
from fsar.methods.episode import Episode
from fsar.video.frame_cache import FrameCache

QUERIES, WAYS, SHOTS, FRAMES = 2, 3, 2, 4


def episode() -> Episode:
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(1, WAYS, SHOTS, FRAMES, 32, generator=generator)
    query = torch.randn(1, QUERIES, FRAMES, 32, generator=generator)
    return Episode({"frames": support}, {"frames": query}, torch.ones(1, WAYS, SHOTS, dtype=torch.bool))


def test_weights_of_each_metric(small: ClipBackbone) -> None:
    _, (otam,) = alignments(build_method("otam", small), episode())
    by_definition = otam_alignment(1 - otam.similarity, 0.1) / SHOTS  # the mean over the videos of a class
    torch.testing.assert_close(otam.weights, by_definition)
    _, (diagonal,) = alignments(build_method("protonet", small, similarity="frame-wise"), episode())
    torch.testing.assert_close(diagonal.weights, torch.eye(FRAMES).expand(QUERIES, WAYS, 1, -1, -1) / FRAMES)
    _, (nearest,) = alignments(build_method("bi-mhm", small), episode())
    expected = torch.zeros_like(nearest.similarity)
    expected.scatter_add_(-1, nearest.similarity.argmax(-1, keepdim=True), torch.ones_like(expected))
    expected.scatter_add_(-2, nearest.similarity.argmax(-2, keepdim=True), torch.ones_like(expected))
    torch.testing.assert_close(nearest.weights * nearest.weights.shape[2], expected)  # a mean over the videos
    assert alignments(build_method("trx", small, out_dim=8), episode())[1] == []
    assert alignments(build_method("protonet", small), episode())[1] == []


def test_views_and_stages_have_names(small: ClipBackbone) -> None:
    mdmf = build_method("clip-mdmf", small, hidden=8, frames=FRAMES, pps="argmax")
    plain, words = episode(), torch.randn(1, WAYS, 32)
    own = mdmf.text_of_shots(words, SHOTS)
    support, query = mdmf.enhance(plain.support, "support", own), mdmf.enhance(plain.query, "query")
    encoded = Episode(support, query, plain.shot_mask, words)
    prediction, (local, both) = alignments(mdmf, encoded)
    assert (local.view, both.view) == ("local", "global")
    assert scores(prediction)["local distances"].shape == (QUERIES, WAYS, 1)
    torch.testing.assert_close(local.weights, otam_alignment(1 - local.similarity, 0.5))


def test_scores_and_their_direction_are_said(small: ClipBackbone, little_world: VideoDataset) -> None:
    """OTAM has logits alone; CLIP-MDMF weighs the distances of two views, and both are drawn as distances."""
    videos, cache = little_world.split("test"), FrameCache(frames=2)
    episodes = EpisodeSampler(dataset=videos, way=2, shot=2).draw(1)
    mdmf = build_method("clip-mdmf", small, hidden=8, frames=2, pps="argmax")
    for method, parts in ((build_method("otam", small), ()), (mdmf, ("Local distances", "Global distances"))):
        picture = alignment_picture(method, cache, videos, episodes, 0, "mine")
        for name in ("logit", *parts):
            values = picture.data[name.lower()][0, :, 0]
            listed = ", ".join(f"{w} {v:.4g}" for w, v in zip(picture.data["classes"], values, strict=True))
            direction = "smaller is nearer" if parts and name in parts else "larger is better; the largest decides"
            assert f"{name.capitalize()} ({direction}): {listed}." in picture.words
        labels = "\n".join(axes.get_xlabel() for axes in picture.figure.findobj(Axes))
        assert labels.count("smaller is nearer") == len(parts) and "logit\nlarger is better" in labels
        rows = [axes.get_ylabel() for axes in picture.figure.findobj(Axes) if "query frame" in axes.get_ylabel()]
        assert rows == ([f"frames, shot {i}\nquery frame" for i in (1, 2)] if not parts else rows)


def test_a_method_that_compares_no_frames(small: ClipBackbone, little_world: VideoDataset) -> None:
    videos = little_world.split("test")
    episodes = EpisodeSampler(dataset=videos, way=2, shot=1).draw(1)
    picture = alignment_picture(build_method("protonet", small), FrameCache(frames=2), videos, episodes, 0, "mine")
    assert picture.title.startswith("mine: scores of a query of") and "order in time" not in picture.words


@pytest.mark.parametrize("name", ["task-adapter-pp", "place-motion"])
def test_picture(small: ClipBackbone, little_world: VideoDataset, name: str) -> None:
    videos = little_world.split("test")
    options = {"frames": FRAMES} if name == "task-adapter-pp" else {}
    episodes = EpisodeSampler(dataset=videos, way=2, shot=1).draw(1)
    cache = FrameCache(frames=FRAMES)
    picture = alignment_picture(build_method(name, small, **options), cache, videos, episodes, 1, "mine")
    assert picture.data["frames weights"].shape == (2, 2, 1, FRAMES, FRAMES)
    assert "mine says" in picture.words
    if name == "task-adapter-pp":
        stages = picture.data["stage scores"]
        assert stages.shape == (2, 2, 3)
        assert picture.words.count(" 1.00") == 2  # frames with equal numbers, for both classes
        np.testing.assert_allclose(stages.mean(-1), picture.data["text scores"][..., 0], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="queries 0 to 1"):
        alignment_picture(build_method(name, small, **options), cache, videos, episodes, 2, "mine")


def test_only_a_default_is_lowered_to_the_classes_that_there_are(
    small_for_tiny: ClipBackbone, little_world: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = little_world.split("test").classes[:3]
    command = ["explain", "alignment", "--data", str(little_world.videos[0].path.parents[1]), "--split", "all"]
    command += ["--classes", *classes, "--method", "otam", "--frames", "2", "--out", str(tmp_path / "a.png")]
    assert cli.main(command) == 0
    assert "the episode has 3 classes" in capsys.readouterr().err
    assert cli.main([*command, "--way", "4"]) == 2
    assert "4-way episodes need 4 classes" in (said := capsys.readouterr().err) and "has 3 here" in said


@pytest.mark.parametrize(("place", "reason"), [("file/a.png", "is a file"), ("/proc/nope/a.png", "cannot be made")])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("fsar.cli.explain._models", lambda *_: pytest.fail("the work began"))
    assert cli.main(["explain", "alignment", "--out", str(tmp_path / place)]) == 2
    assert reason in (said := capsys.readouterr().err) and "--out" in said and "Errno" not in said
