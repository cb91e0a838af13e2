"""HyRSM++: the public code's numbers and gradients, and the temporal coherence by hand."""

import math

import pytest
import torch
from torch import Tensor

from fsar.methods.base import Episode, Targets
from fsar.methods.hyrsm_pp import HyRsmPlusPlus, coherence, coherence_weights
from tests.methods.test_gradients import (
    assert_gradients,
    assert_losses,
    golden_of,
    hyrsm_slopes,
    in_training,
    outputs_of,
    support_in,
)
from tests.methods.test_hyrsm import build, with_weights

close = {"atol": 1e-4, "rtol": 1e-4}
TABLES = {"w1_b51": (1, 51.0), "w3_b23": (3, 23.0)}
WAY = 3


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("file", "relation"),
    [("hyrsm_pp_1shot", "video"), ("hyrsm_pp_1shot", "prototype"), ("hyrsm_pp_5shot", "prototype")],
)
def test_logits_losses_and_gradients_are_those_of_the_public_code(file: str, relation: str, table: str) -> None:
    window, balance = TABLES[table]
    golden = golden_of(file)
    options = {"relation": relation, "window": window, "balance": balance, "inter_weight_dropout": 0.0}
    method = in_training(with_weights(build(cls=HyRsmPlusPlus, **options), golden))
    order = golden["support_labels"].argsort(stable=True)
    support = golden["support_feats"][order].unflatten(0, (WAY, -1))
    mask = torch.ones(1, *support.shape[:2], dtype=torch.bool)
    episode = Episode({"frames": support[None]}, {"frames": golden["query_feats"][None]}, mask)
    way_class = golden["real_support_labels"][order].view(WAY, -1)[:, 0]
    prediction = method.match(episode)
    of_class = outputs_of(method.loss_heads["class"])
    terms = method.loss(episode, prediction, Targets(golden["query_labels"][None], way_class[None]))
    by_frame = golden["class_logits_per_frame"].unflatten(0, (-1, support.shape[-2]))
    torch.testing.assert_close(of_class[0], support_in(order, by_frame), **close)
    torch.testing.assert_close(prediction.logits[0], golden["logits"], **close)
    total = sum(terms.values())
    found = {"loss.match": terms["match"], "loss.class": terms["class"] / 0.15, f"{table}.loss.total": total}
    assert_losses(found | {f"{table}.loss.temporal": terms["coherence"] / 0.2}, golden)
    expected = {name.removeprefix(f"{table}."): g for name, g in golden.items() if name.startswith(f"{table}.grad.")}
    assert_gradients(total, *hyrsm_slopes(method, golden, expected))
    weights, near = coherence_weights(8, window, balance)
    torch.testing.assert_close(weights, golden[f"{table}.weights"], **close)
    assert near.equal(golden[f"{table}.near"].bool())


def coherence_by_hand(video: Tensor, window: int, balance: float) -> float:
    total = 0.0
    for i, one in enumerate(video):
        for j, other in enumerate(video):
            distance = 1 - float(one @ other / (one.norm() * other.norm()))
            gap = abs(i - j)
            if gap <= window:
                total += distance / (gap**2 + 1)
            else:
                total += max(0.0, 1 - math.exp(-((gap - window) ** 2) / balance) - distance)
    return total / len(video) ** 2


@pytest.mark.parametrize("window", [0, 1, 3])
def test_coherence_by_hand(window: int) -> None:
    videos = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)) + 1
    expected = torch.tensor([coherence_by_hand(video, window, 5.0) for video in videos])
    torch.testing.assert_close(coherence(videos, window, 5.0), expected)


@pytest.mark.parametrize("relation", ["prototype", "video"])
def test_missing_shots_do_not_enter_the_coherence(relation: str) -> None:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(1, WAY, 2, 5, 16, generator=generator)
    mask = torch.ones(1, WAY, 2, dtype=torch.bool)
    mask[0, 1, 1] = False
    method = build(cls=HyRsmPlusPlus, relation=relation, class_weight=0.0)
    found = []
    for junk in (0.0, 7.0):
        frames[0, 1, 1] = junk * torch.randn(5, 16, generator=generator)
        episode = Episode({"frames": frames.clone()}, {"frames": frames[:, :, 0]}, mask)
        targets = Targets(torch.arange(WAY)[None], torch.arange(WAY)[None])
        found.append(method.loss(episode, method.match(episode), targets)["coherence"])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("relation", ["prototype", "video"])
def test_an_episode_counts_once_however_many_shots_it_has(relation: str) -> None:
    frames = torch.randn(2, WAY, 2, 5, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, WAY, 2, dtype=torch.bool)
    mask[0, :, 1] = False
    mask[0, 1] = False  # a class without shots
    method = build(cls=HyRsmPlusPlus, relation=relation, class_weight=0.0)

    def of(chosen: slice) -> Tensor:
        episode = Episode({"frames": frames[chosen]}, {"frames": frames[chosen, :, 0]}, mask[chosen])
        ways = torch.arange(WAY).expand(len(mask[chosen]), -1)
        return method.loss(episode, method.match(episode), Targets(ways, ways))["coherence"]

    torch.testing.assert_close(of(slice(2)), (of(slice(1)) + of(slice(1, 2))) / 2)


def test_weight_zero_is_hyrsm() -> None:
    episode = Episode(
        {"frames": torch.randn(1, WAY, 1, 5, 16)}, {"frames": torch.randn(1, 2, 5, 16)}, torch.ones(1, WAY, 1) > 0
    )
    method, plain = build(cls=HyRsmPlusPlus, coherence_weight=0.0), build()
    plain.load_state_dict(method.state_dict())
    assert method.match(episode).logits.equal(plain.match(episode).logits)
    method.begin_training(["a training class"] * WAY)
    targets = Targets(torch.tensor([[0, 2]]), torch.arange(WAY)[None])
    assert set(method.loss(episode, method.match(episode), targets)) == {"match", "class"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": 0.0}, "HyRsmPlusPlus.Config: balance is 0.0; expected more than 0"),
        ({"window": -1}, "window is -1; expected at least 0"),
        ({"frame_scale": 0.0}, "HyRsmPlusPlus.Config: frame_scale is 0.0"),
        ({"coherence_weight": 0.0, "window": 1}, "window"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(cls=HyRsmPlusPlus, **options)


def test_parameters_with_resnet_50() -> None:
    """65,596,544 with 64 training classes and ResNet-50 without its classifier."""
    with torch.device("meta"):
        method = build(2048, HyRsmPlusPlus)
        method.begin_training(["a training class"] * 64)
    assert sum(parameter.numel() for parameter in method.parameters()) + 23_508_032 == 65_596_544
