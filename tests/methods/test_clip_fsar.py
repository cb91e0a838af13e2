"""CLIP-FSAR: the numbers of its public code, its loss by hand, and what its options do."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fsar.backbones import Backbone
from fsar.methods import Prediction, Targets
from fsar.methods.base import Episode
from fsar.methods.clip_fsar import ClipFsar
from tests.conftest import GOLDEN

close = {"atol": 1e-4, "rtol": 1e-4}
exact = {"atol": 1e-5, "rtol": 1e-5}
"""Where the tolerance of the golden files would not see an eps of 0.01 in a cosine."""

HEADS = {
    "merge_after": {"merge": "after"},
    "merge_before": {"merge": "before"},
    "merge_before_single_direct": {"merge": "before", "direction": "query-to-support"},
}
heads = pytest.mark.parametrize("head", HEADS)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "clipfsar_head.safetensors")


class Features(Backbone):
    """No tower: it says the features' `dim` and reads class `3` of the prompt `a photo of 3` from a table."""

    has_text = True

    def __init__(self, texts: Tensor):
        super().__init__("features")
        self.dim = texts.shape[1]
        self.texts = nn.Parameter(texts, requires_grad=False)

    def text_features(self, texts: list[str]) -> Tensor:
        return self.texts[[int(text.removeprefix("a photo of ")) for text in texts]]


CONTEXT = {
    "norm": "0.norm",
    "to_query": "0.fn.to_q",
    "to_key": "0.fn.to_k",
    "to_value": "0.fn.to_v",
    "to_out.0": "0.fn.to_out.0",
    "feed_forward.0": "1.net.0",
    "feed_forward.3": "1.net.3",
}
"""Our name of each layer -> the reference's."""


def head_of(golden: dict[str, Tensor], **options) -> ClipFsar:
    """The golden head: its weights by meaning."""
    method = ClipFsar(Features(golden["text_features_train"]), ClipFsar.Config(hidden=64, **options)).eval()
    state = {
        f"{ours}.{kind}": golden[f"transformer.layers.0.{theirs}.{kind}"]
        for ours, theirs in CONTEXT.items()
        for kind in ("weight", "bias")
        if f"transformer.layers.0.{theirs}.{kind}" in golden
    }
    method.context.load_state_dict(state)
    method.scale.data = golden["scale"][0]
    return method


def episode_of(golden: dict[str, Tensor], split: str) -> Episode:
    """The golden episode: support videos in mixed order, their class in the episode and among all beside them."""
    labels, classes = golden["support_labels"], golden["real_support_labels"].long()
    ways = labels.unique()
    support = torch.stack([golden["support_feats"][labels == way] for way in ways])
    way_class = torch.stack([classes[labels == way][0] for way in ways])
    return Episode(
        {"frames": support[None]},
        {"frames": golden["query_feats"][None]},
        torch.ones(1, *support.shape[:2], dtype=torch.bool),
        golden[f"text_features_{split}"][way_class][None],
    )


def random_episode(episodes: int = 2, way: int = 3, shot: int = 2, query: int = 4, frames: int = 5) -> Episode:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, frames, 32, generator=generator)  # noqa: E731
    return Episode(
        {"frames": draw(episodes, way, shot)},
        {"frames": draw(episodes, query)},
        torch.ones(episodes, way, shot, dtype=torch.bool),
        draw(episodes, way)[..., 0, :],
    )


def run(method: ClipFsar, episode: Episode) -> Prediction:
    """Go on from the episode's frame features to encodings, then match."""
    text = method.text_of_shots(episode.text, episode.shot_mask.shape[-1])
    support, query = method.enhance(episode.support, "support", text), method.enhance(episode.query, "query")
    return method.match(replace(episode, support=support, query=query))


TARGETS = Targets(
    query_way=torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]]),
    way_class=torch.tensor([[6, 0, 3], [1, 5, 2]]),
)
LABELS = [str(i) for i in range(7)]


# --------------------------------------------------------------------------- golden


def test_transformer(golden: dict[str, Tensor]) -> None:
    context = head_of(golden).context
    torch.testing.assert_close(context(golden["query_feats"]), golden["transformer_out_query_self"], **close)
    cross = context(golden["transformer_in_q"], golden["transformer_in_kv"])
    torch.testing.assert_close(cross, golden["transformer_out_cross"], **close)


@heads
@pytest.mark.parametrize("split", ["train", "test"])
def test_logits(golden: dict[str, Tensor], split: str, head: str) -> None:
    logits = run(head_of(golden, **HEADS[head]), episode_of(golden, split)).logits
    torch.testing.assert_close(logits[0], golden[f"{split}.{head}.logits"], **close)


@heads
def test_class_text_logits(golden: dict[str, Tensor], head: str) -> None:
    method = head_of(golden, **HEADS[head])
    method.begin_training(LABELS)
    logits = method.class_text_logits(torch.cat([golden["support_feats"], golden["query_feats"]]))
    torch.testing.assert_close(logits, golden[f"train.{head}.class_text_logits"], **exact)


@heads
@pytest.mark.parametrize(("beta", "name"), [(0.9, "default0.9"), (0.8, "0.8")])
def test_combined_scores(golden: dict[str, Tensor], head: str, beta: float, name: str) -> None:
    method = head_of(golden, readout="combine", text_weight=beta, **HEADS[head])
    scores = run(method, episode_of(golden, "test")).logits.exp()
    torch.testing.assert_close(scores[0], golden[f"test_combine_{name}.{head}.scores"], **exact)


def test_text_probabilities(golden: dict[str, Tensor]) -> None:
    probabilities = run(head_of(golden, readout="text"), episode_of(golden, "test")).logits.exp()
    torch.testing.assert_close(probabilities[0], golden["test_text_only.probabilities"], **exact)


def test_the_published_settings_are_the_defaults() -> None:
    got = ClipFsar.Config()
    assert (got.merge, got.direction, got.readout, got.text_weight) == ("before", "both", "visual", 0.9)
    assert ClipFsar.traits_of(got).trains == ("own", "visual")  # the text tower stays as it is


# --------------------------------------------------------------------------- matching


@pytest.mark.parametrize("junk", [0.0, 1e3])
@pytest.mark.parametrize("merge", ["before", "after"])
def test_masked_shots_change_nothing(golden: dict[str, Tensor], merge: str, junk: float) -> None:
    method, episode = head_of(golden, merge=merge), random_episode()
    padded, mask = episode.support["frames"].clone(), episode.shot_mask.clone()
    padded[0, 1, 1], mask[0, 1, 1] = junk, False
    got = run(method, replace(episode, support={"frames": padded}, shot_mask=mask)).logits
    full = run(method, episode).logits
    first = replace(
        episode, support={"frames": episode.support["frames"][:, :, :1]}, shot_mask=episode.shot_mask[..., :1]
    )
    expected = full.clone()
    expected[0, :, 1] = run(method, first).logits[0, :, 1]
    torch.testing.assert_close(got, expected, **close)
    assert not torch.allclose(expected, full, **close)


def test_merging_before_and_after_agree_at_one_shot_only(golden: dict[str, Tensor]) -> None:
    before, after = head_of(golden, merge="before"), head_of(golden, merge="after")
    one, two = random_episode(shot=1), random_episode(shot=2)
    torch.testing.assert_close(run(before, one).logits, run(after, one).logits, **close)
    assert not torch.allclose(run(before, two).logits, run(after, two).logits, **close)


def test_temperature_follows_the_number_of_frames(golden: dict[str, Tensor]) -> None:
    episode = random_episode(frames=5)
    prediction = run(head_of(golden, readout="combine", text_weight=0.0), episode)
    expected = ((5 + prediction.named["visual_logits"]) / 5).softmax(-1)
    torch.testing.assert_close(prediction.logits.exp(), expected, **close)


def test_every_readout_names_the_same_branches(golden: dict[str, Tensor]) -> None:
    episode = random_episode()
    visual, combine, text = (
        run(head_of(golden, readout=readout), episode) for readout in ("visual", "combine", "text")
    )
    for prediction in (combine, text):
        for name in ("visual_logits", "text_logits"):
            torch.testing.assert_close(prediction.named[name], visual.named[name])
    torch.testing.assert_close(visual.logits, visual.named["visual_logits"])
    torch.testing.assert_close(text.logits, visual.named["text_logits"].log_softmax(-1))


def test_encoding_is_the_frames_and_what_the_transformer_makes_of_them(tiny: Backbone) -> None:
    method = ClipFsar(tiny, ClipFsar.Config(hidden=16)).eval()
    clips = torch.randn(2, 4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    text = method.encode_text(["waving", "clapping"])
    with torch.no_grad():
        query, support = method.encode(clips), method.encode(clips, "support", text)
        torch.testing.assert_close(query["frames"], tiny.features(clips))
        torch.testing.assert_close(query["enhanced"], method.context(query["frames"]))
    assert torch.equal(query["frames"], support["frames"])
    assert not torch.allclose(query["enhanced"], support["enhanced"], atol=1e-3)
    with pytest.raises(ValueError, match="class text of a support video"):
        method.encode(clips, "support")


# --------------------------------------------------------------------------- training


@pytest.mark.parametrize("readout", ["visual", "combine", "text"])
def test_loss_by_hand(golden: dict[str, Tensor], readout: str) -> None:
    """One video at a time; a masked example counts nowhere."""
    method, episode = head_of(golden, readout=readout, class_text_weight=1.5), random_episode()
    episode.shot_mask[1, 0, 1] = False
    episode.support["frames"][1, 0, 1] = 1e3
    method.begin_training(LABELS)
    prediction = run(method, episode)
    got = method.loss(episode, prediction, TARGETS)

    match, class_text = [], []
    for e in range(2):
        for q, way in enumerate(TARGETS.query_way[e]):
            match.append(-prediction.named["visual_logits"][e, q].log_softmax(-1)[way])
            class_text.append(by_hand(golden, episode.query["frames"][e, q], TARGETS.way_class[e, way]))
        for w, s in episode.shot_mask[e].nonzero():
            class_text.append(by_hand(golden, episode.support["frames"][e, w, s], TARGETS.way_class[e, w]))
    assert len(match) == 8 and len(class_text) == 8 + 11
    expected = {"match": torch.stack(match).mean(), "class_text": 1.5 * torch.stack(class_text).mean()}
    assert got.keys() == expected.keys()
    for name, term in got.items():
        torch.testing.assert_close(term, expected[name], **exact)


def by_hand(golden: dict[str, Tensor], frames: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of one video's class among all training classes."""
    video = frames.mean(0)
    cosines = [text @ video / (text.norm() * video.norm() + 0.01) for text in golden["text_features_train"]]
    return -(golden["scale"][0] * torch.stack(cosines)).log_softmax(0)[label]


def test_loss_needs_the_training_classes(golden: dict[str, Tensor]) -> None:
    method, episode = head_of(golden), random_episode()
    prediction = run(method, episode)
    with pytest.raises(ValueError, match=r"class_text_weight 3.0 but no training classes.*begin_training\(class_texts"):
        method.loss(episode, prediction, TARGETS)
    without = head_of(golden, class_text_weight=0.0)
    assert without.loss(episode, prediction, TARGETS).keys() == {"match"}


def test_training_classes_are_not_saved(golden: dict[str, Tensor]) -> None:
    method = head_of(golden)
    before = method.state_dict().keys()
    method.begin_training(LABELS)
    assert method.state_dict().keys() == before
    assert "training_text" in dict(method.named_buffers())  # but it moves with the method
    method.begin_training(LABELS[:2])
    assert method.training_text.shape == (2, 32)


def test_gradients_reach_what_it_adds_and_the_frames(golden: dict[str, Tensor]) -> None:
    method, episode = head_of(golden), random_episode()
    method.begin_training(LABELS)
    for encoding in (episode.support, episode.query):
        encoding["frames"].requires_grad_()
    terms = method.loss(episode, run(method, episode), TARGETS)
    terms["match"].backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.context.parameters())
    assert method.scale.grad is None  # the loss reads the visual logits
    context = {name: p.grad.clone() for name, p in method.context.named_parameters()}
    support = episode.support["frames"].grad.clone()
    terms["class_text"].backward()
    assert method.scale.grad.abs() > 0
    assert not torch.equal(episode.support["frames"].grad, support)
    for name, p in method.context.named_parameters():  # the videos are named before the transformer
        torch.testing.assert_close(p.grad, context[name])
    assert episode.query["frames"].grad.abs().sum() > 0


def test_what_it_adds_is_the_paper_s_count() -> None:
    """89.3 M with ViT-B/16 is the tower's 86.2 M and this."""
    method = ClipFsar(Features(torch.zeros(1, 512)), ClipFsar.Config())
    own = [p.numel() for name, p in method.named_parameters() if not name.startswith("backbone.")]
    assert sum(own) == 3_149_824 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_weight": 1.5}, r"text_weight 1.5.*in \[0, 1\]"),
        ({"class_text_weight": -1.0}, "class_text_weight -1.0.*at least 0"),
    ],
)
def test_wrong_options_are_named(golden: dict[str, Tensor], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head_of(golden, **options)


def test_it_needs_a_text_tower() -> None:
    with pytest.raises(ValueError, match=r"'clip-fsar' reads class names, but backbone 'blind' has no text"):
        ClipFsar(Backbone("blind"), ClipFsar.Config())
