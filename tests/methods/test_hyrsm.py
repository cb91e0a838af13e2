"""HyRSM: the reference implementation's numbers, an oracle in loops, properties and the loss."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy, layer_norm, linear, relu

from fsar.backbones import Backbone
from fsar.methods.base import Episode, Method, Prediction, Targets
from fsar.methods.hyrsm import HyRsm, positional_encoding
from tests.conftest import GOLDEN

close = {"atol": 1e-4, "rtol": 1e-4}
FORMS = ("prototype", "video")
WAY, SHOT, QUERY, FRAMES, DIM = 3, 2, 4, 5, 16


def build(dim: int = DIM, cls: type[HyRsm] = HyRsm, **options) -> HyRsm:
    """HyRSM, or a subclass, over a backbone that only says its channels, in evaluation mode."""
    features = Backbone("features")
    features.dim = dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(features, cls.Config(**options)).eval()


# --------------------------------------------------------------------------- golden numbers


@pytest.fixture(params=[("hyrsm_1shot", "prototype"), ("hyrsm_1shot", "video"), ("hyrsm_5shot", "prototype")])
def case(request: pytest.FixtureRequest) -> tuple[dict[str, Tensor], HyRsm, Episode]:
    """A golden file, the method with its weights, its episode with the support in order of class."""
    file, relation = request.param
    golden = load_file(GOLDEN / f"{file}.safetensors")
    support = golden["support_feats"][golden["support_labels"].argsort(stable=True)].unflatten(0, (3, -1))
    episode = Episode(
        {"frames": support[None]},
        {"frames": golden["query_feats"][None]},
        torch.ones(1, *support.shape[:2], dtype=torch.bool),
    )
    return golden, with_weights(build(relation=relation), golden), episode


def with_weights(method: HyRsm, golden: dict[str, Tensor]) -> HyRsm:
    def load(module: torch.nn.Module, **weights: Tensor) -> None:
        module.load_state_dict(weights)

    def linear_of(name: str) -> dict[str, Tensor]:
        return {"weight": golden[f"w.{name}.weight"], "bias": golden[f"w.{name}.bias"]}

    load(method.intra_norm, **linear_of("temporal_atte_before.norm"))
    load(method.intra_attention.qkv, weight=golden["w.temporal_atte_before.fn.to_qkv.weight"])
    load(method.intra_attention.out, **linear_of("temporal_atte_before.fn.to_out.0"))
    stacked = torch.cat([golden[f"w.temporal_atte.w_{part}.weight"] for part in ("qs", "ks", "vs")])
    load(method.inter_attention.qkv, weight=stacked)
    load(method.inter_attention.out, **linear_of("temporal_atte.fc"))
    load(method.inter_norm, **linear_of("temporal_atte.layer_norm"))
    load(method.fuse, weight=golden["w.layer2.0.weight"].squeeze(-1), bias=golden["w.layer2.0.bias"])
    method.begin_training(["a training class"] * 6)
    load(method.loss_heads["class"], **linear_of("classification_layer"))
    return method


@torch.no_grad()
def test_golden_relation_within_a_video(case: tuple[dict[str, Tensor], HyRsm, Episode]) -> None:
    golden, method, episode = case
    torch.testing.assert_close(positional_encoding(8, 16), golden["positional_encoding"], **close)
    placed = method.placed(episode.query["frames"])
    torch.testing.assert_close(placed[0], golden["after_pe.query"], **close)
    torch.testing.assert_close(method.intra(placed)[0], golden["after_temporal_atte_before_relu.query"], **close)


@torch.no_grad()
def test_golden_match(case: tuple[dict[str, Tensor], HyRsm, Episode]) -> None:
    golden, method, episode = case
    prediction = method.match(episode)
    expected, labels = golden["support_out_per_query"], golden["support_labels"]
    if episode.shot_mask.shape[2] == 1:  # one row per support video, in the file's mixed order
        expected = expected[:, labels.argsort(stable=True)]
    torch.testing.assert_close(prediction.named["support_out"][0], expected, **close)
    torch.testing.assert_close(prediction.named["query_out"][0], golden["query_out"], **close)
    torch.testing.assert_close(prediction.logits[0], golden["logits"], **close)


@torch.no_grad()
def test_golden_class_logits(case: tuple[dict[str, Tensor], HyRsm, Episode]) -> None:
    """They read every video's frames after the intra-relation: support first, in the file's order, then query."""
    golden, method, episode = case
    named = method.match(episode).named
    support = torch.empty_like(golden["support_feats"])
    support[golden["support_labels"].argsort(stable=True)] = named["support_frames"][0].flatten(0, 1)
    logits = method.loss_heads["class"](torch.cat([support, named["query_frames"][0]]))
    torch.testing.assert_close(logits.flatten(0, 1), golden["class_logits_per_frame"], **close)


# --------------------------------------------------------------------------- oracle and properties


@pytest.fixture(params=FORMS)
def method(request: pytest.FixtureRequest) -> HyRsm:
    return build(relation=request.param)


@pytest.fixture
def episode() -> Episode:
    """Two episodes at once."""
    generator = torch.Generator().manual_seed(1)
    return Episode(
        {"frames": torch.randn(2, WAY, SHOT, FRAMES, DIM, generator=generator)},
        {"frames": torch.randn(2, QUERY, FRAMES, DIM, generator=generator)},
        torch.ones(2, WAY, SHOT, dtype=torch.bool),
    )


def ragged(episode: Episode, junk: float = 0.0) -> Episode:
    """The middle class of the first episode and the last of the second have one example; `junk` pads them."""
    frames, mask = episode.support["frames"].clone(), episode.shot_mask.clone()
    for task, way, shot in ((0, 1, 1), (1, 2, 0)):
        frames[task, way, shot], mask[task, way, shot] = junk, False
    return replace(episode, support={"frames": frames}, shot_mask=mask)


def one_shot(episode: Episode) -> Episode:
    support = {name: tensor[:, :, :1] for name, tensor in episode.support.items()}
    return replace(episode, support=support, shot_mask=episode.shot_mask[..., :1])


def changed(episode: Episode, support=lambda frames: frames, query=lambda frames: frames) -> Episode:
    return replace(
        episode,
        support={"frames": support(episode.support["frames"])},
        query={"frames": query(episode.query["frames"])},
    )


def attention(rows: Tensor, module: torch.nn.Module) -> Tensor:
    """Multi-head attention over [row, dim], one head and one row at a time."""
    query, key, value = linear(rows, module.qkv.weight).chunk(3, -1)
    width = rows.shape[-1] // module.heads
    heads = []
    for start in range(0, rows.shape[-1], width):
        part = slice(start, start + width)
        weights = [(key[:, part] @ one / width**0.5).softmax(0) for one in query[:, part]]
        heads.append(torch.stack([weight @ value[:, part] for weight in weights]))
    return linear(torch.cat(heads, -1), module.out.weight, module.out.bias)


def normed(rows: Tensor, norm: torch.nn.Module) -> Tensor:
    return layer_norm(rows, rows.shape[-1:], norm.weight, norm.bias)


def oracle_distances(method: HyRsm, query: Tensor, classes: list[list[Tensor]]) -> Tensor:
    """Distance of one query to classes that list the videos they have: equations of the head, in loops."""
    dim = query.shape[-1]

    def within(frames: Tensor) -> Tensor:
        placed = frames * (dim / 10) ** 0.5 + positional_encoding(len(frames), dim)
        return relu(attention(normed(placed, method.intra_norm), method.intra_attention) + placed)

    related = [[within(video) for video in videos] for videos in classes]
    if method.config.relation == "prototype":
        related = [[torch.stack(videos).mean(0)] for videos in related]
    sequence = [video for videos in related for video in videos] + [within(query)]
    means = torch.stack([video.mean(0) for video in sequence])
    seen = relu(normed(attention(means, method.inter_attention) + means, method.inter_norm))
    pairs = [torch.cat([video, one.expand_as(video)], -1) for video, one in zip(sequence, seen, strict=True)]
    *support, own = [torch.nn.functional.normalize(method.fuse(pair), dim=-1) for pair in pairs]
    distances = []
    for videos in related:
        costs = [1 - own @ support.pop(0).T for _ in videos]
        distances.append(sum(cost.min(0).values.sum() + cost.min(1).values.sum() for cost in costs) / len(costs))
    return torch.stack(distances)


@torch.no_grad()
@pytest.mark.parametrize("junk", [0.0, 1e3])
@pytest.mark.parametrize("whole", [True, False])
def test_oracle(method: HyRsm, episode: Episode, whole: bool, junk: float) -> None:
    """Also with missing shots, whatever pads them."""
    episode = episode if whole else ragged(episode, junk)
    logits = method.match(episode).logits
    for task, frames in enumerate(episode.support["frames"]):
        shots = zip(frames, episode.shot_mask[task], strict=True)
        classes = [[video for video, there in zip(*videos, strict=True) if there] for videos in shots]
        for number, query in enumerate(episode.query["frames"][task]):
            torch.testing.assert_close(-logits[task, number], oracle_distances(method, query, classes), **close)


@torch.no_grad()
def test_padding_is_as_good_as_no_padding(method: HyRsm, episode: Episode) -> None:
    padded = replace(episode, shot_mask=torch.tensor([True, False]).expand_as(episode.shot_mask))
    single = one_shot(episode)
    torch.testing.assert_close(method.match(padded).logits, method.match(single).logits, **close)


@torch.no_grad()
def test_both_forms_agree_at_one_shot_only(episode: Episode) -> None:
    single = one_shot(episode)
    prototype, video = (build(relation=form) for form in FORMS)
    torch.testing.assert_close(prototype.match(single).logits, video.match(single).logits, **close)
    assert not torch.allclose(prototype.match(episode).logits, video.match(episode).logits, atol=1e-2)


@torch.no_grad()
def test_class_order_permutes_logits(method: HyRsm, episode: Episode) -> None:
    episode, order = ragged(episode), [2, 0, 1]
    shuffled = replace(changed(episode, lambda frames: frames[:, order]), shot_mask=episode.shot_mask[:, order])
    torch.testing.assert_close(method.match(shuffled).logits, method.match(episode).logits[..., order], **close)


@torch.no_grad()
def test_shot_order_is_irrelevant(method: HyRsm, episode: Episode) -> None:
    episode = ragged(episode)
    flipped = replace(changed(episode, lambda frames: frames.flip(2)), shot_mask=episode.shot_mask.flip(2))
    torch.testing.assert_close(method.match(flipped).logits, method.match(episode).logits, **close)


@torch.no_grad()
def test_a_query_alone_equals_in_company(method: HyRsm, episode: Episode) -> None:
    alone = [
        method.match(changed(episode, query=lambda frames, i=i: frames[:, i : i + 1])).logits for i in range(QUERY)
    ]
    torch.testing.assert_close(method.match(episode).logits, torch.cat(alone, 1), **close)
    assert not method.traits.transductive


@torch.no_grad()
def test_frame_order_matters(method: HyRsm, episode: Episode) -> None:
    """Bi-MHM is blind to order, the positional encoding is not."""
    backwards = changed(episode, query=lambda frames: frames.flip(2))
    assert not torch.allclose(method.match(backwards).logits, method.match(episode).logits, atol=1e-2)


@torch.no_grad()
def test_position_and_frame_scale(episode: Episode) -> None:
    """As the public code on Kinetics, whose A is the number of channels: frames keep their scale."""
    frames = episode.query["frames"]
    placed = build(frame_scale=float(DIM), position_scale=0.01).placed(frames)
    torch.testing.assert_close(placed, frames + 0.01 * positional_encoding(FRAMES, DIM))


def test_dropout_acts_in_training_only(episode: Episode) -> None:
    names = ("position_dropout", "intra_dropout", "inter_dropout", "inter_weight_dropout")
    for name in names:
        method = build(**{other: 0.0 for other in names if other != name} | {name: 0.5})
        assert torch.equal(method.match(episode).logits, method.match(episode).logits)
        method.train()
        assert not torch.equal(method.match(episode).logits, method.match(episode).logits), name


# --------------------------------------------------------------------------- loss and options


def targets() -> Targets:
    return Targets(torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]]), torch.tensor([[4, 0, 6], [1, 5, 2]]))


def class_loss_by_hand(method: HyRsm, episode: Episode, prediction: Prediction, aim: Targets) -> Tensor:
    losses = []
    head = method.loss_heads["class"]
    for task, classes in enumerate(aim.way_class):
        for way, shots in enumerate(prediction.named["support_frames"][task]):
            for shot, frames in enumerate(shots):
                if episode.shot_mask[task, way, shot]:
                    losses += [cross_entropy(head(frame), classes[way]) for frame in frames]
        for way, frames in zip(aim.query_way[task], prediction.named["query_frames"][task], strict=True):
            losses += [cross_entropy(head(frame), classes[way]) for frame in frames]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("whole", [True, False])
def test_loss_equals_a_hand_computation(method: HyRsm, episode: Episode, whole: bool) -> None:
    episode = episode if whole else ragged(episode, junk=1e3)
    method = build(relation=method.config.relation, class_weight=0.4)
    method.begin_training(["waving", "clapping", "running", "jumping", "sitting", "rising", "lying"])
    prediction, aim = method.match(episode), targets()
    terms = method.loss(episode, prediction, aim)
    assert set(terms) == {"match", "class"}
    naming = -prediction.logits.log_softmax(-1)
    torch.testing.assert_close(terms["match"], naming.gather(2, aim.query_way[..., None]).mean())
    torch.testing.assert_close(terms["class"], 0.4 * class_loss_by_hand(method, episode, prediction, aim))


def test_loss_reaches_every_parameter(method: HyRsm, episode: Episode) -> None:
    method.begin_training(["a training class"] * 7)
    method.train()
    terms = method.loss(episode, method.match(episode), targets())
    sum(terms.values()).backward()
    missing = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missing
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_loss_needs_begin_training(method: HyRsm, episode: Episode) -> None:
    with pytest.raises(ValueError, match=r"no classifier for the class loss of weight 0.15.*call it.*class_weight 0"):
        method.loss(episode, method.match(episode), targets())


def test_weight_zero_leaves_the_class_loss_out(episode: Episode) -> None:
    method = build(class_weight=0.0)
    method.begin_training(["waving", "clapping"])
    assert not method.loss_heads
    assert set(method.loss(episode, method.match(episode), targets())) == {"match"}


@pytest.mark.parametrize(
    ("dim", "options", "message"),
    [
        (20, {}, r"8 heads for the 20 channels of backbone 'features'.*divisor of 20: set heads to one"),
        (16, {"heads": 0}, "heads is 0; expected at least 1"),
        (16, {"frame_scale": 0.0}, "frame_scale is 0.0; expected more than 0"),
        (16, {"class_weight": -1.0}, "class_weight is -1.0; expected at least 0"),
    ],
)
def test_wrong_options_are_named(dim: int, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(dim, **options)


def test_parameters_with_resnet_50() -> None:
    """65.6 M as other papers count HyRSM: ResNet-50 without its classifier, HyRSM, 64 training classes."""
    with torch.device("meta"):
        method = build(2048)
        method.begin_training(["a training class"] * 64)
    own = sum(parameter.numel() for parameter in method.parameters())
    assert own == 42_088_512
    assert round((own + 23_508_032) / 1e6, 1) == 65.6


def test_encode_is_the_frame_features(tiny: Backbone) -> None:
    assert HyRsm.encoder is Method.encoder and HyRsm.enhance is Method.enhance
    method = HyRsm(tiny, HyRsm.Config()).eval()
    clips = torch.randn(1, 2, 1, 3, 3, 64, 64)  # episode way shot frame rgb height width
    with torch.no_grad():
        logits = method.match(method.encode_episode(clips, clips[:, 0])).logits
    assert logits.shape == (1, 1, 2) and logits[0, 0].argmax() == 0
