"""TEAM: the public code's numbers and gradients, with its ablations, and what its classes see of each other."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fsar.backbones import Backbone
from fsar.methods.base import Episode, Targets
from fsar.methods.team import Team
from tests.methods.test_golden import episode_of
from tests.methods.test_gradients import FEATURES, assert_gradients, assert_losses, by_layer, golden_of, in_training

close = {"atol": 1e-4, "rtol": 1e-4}
LAYERS = {"norm": "DPM.ln", "feed_forward.0": "DPM.mlp.inp_fc", "feed_forward.2": "DPM.mlp.out_fc"}
ABLATIONS = {
    "": {},
    "TEAM_disc_without_sim.": {"adaptation": "plain"},
    "TEAM_pos_neg.": {"adaptation": "off"},
    "TEAM_neg_with_pos_loss.": {"adaptation": "off", "readout": "negative"},
    "TEAM_pos.": {"adaptation": "off", "distances": "positive"},
}


def build(dim: int = 16, **options) -> Team:
    """TEAM over a backbone that only says its channels."""
    features = Backbone("features")
    features.dim = dim
    return Team(features, Team.Config(**options)).eval()


def official(golden: dict[str, Tensor], **options) -> Team:
    method = build(tokens=6, **options)
    with torch.no_grad():
        for name, parameter in (by_layer(method, LAYERS) | {"DPM.AP": method.tokens}).items():
            parameter.copy_(golden[f"w.{name}"].reshape(parameter.shape))
    return in_training(method)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_logits_losses_and_gradients_are_those_of_the_public_code(ablation: str) -> None:
    golden = golden_of("team")
    method, episode = official(golden, **ABLATIONS[ablation]), episode_of(golden)
    prediction = method.match(episode)
    torch.testing.assert_close(prediction.logits[0], golden[f"{ablation}logits"], **close)
    terms = method.loss(episode, prediction, Targets(golden["query_labels"][None], torch.arange(4)[None]))
    names = {"positive": "pos", "negative": "neg"}
    for name, logits in prediction.named.items():
        torch.testing.assert_close(logits[0], golden[f"{ablation}logits_{names[name]}"], **close)
    found = {f"{ablation}loss.L_{names[name]}": term for name, term in terms.items()}
    total = sum(terms.values())
    assert_losses(found | {f"{ablation}loss.total": total}, golden)
    if not ablation:
        tensors = by_layer(method, LAYERS) | {"DPM.AP": method.tokens} | {leaf: golden[leaf] for leaf in FEATURES}
        expected = {name: value for name, value in golden.items() if name.startswith("grad.")}
        assert_gradients(total, {f"grad.{name}": tensor for name, tensor in tensors.items()}, expected)


@torch.no_grad()
def test_a_class_without_shots_is_seen_by_no_other() -> None:
    """It is no other class in the adaptation, nor in the negative distance."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(1, 4, 2, 8, 16, generator=generator)
    mask = torch.ones(1, 4, 2, dtype=torch.bool)
    mask[:, 1] = False
    episode = Episode({"frames": frames}, {"frames": torch.randn(1, 3, 8, 16, generator=generator)}, mask)
    kept = [0, 2, 3]
    without = replace(episode, support={"frames": frames[:, kept]}, shot_mask=mask[:, kept])
    method = build(tokens=5)
    torch.testing.assert_close(method.match(episode).logits[..., kept], method.match(without).logits)


@torch.no_grad()
def test_a_class_without_another_keeps_its_tokens() -> None:
    """Alone, or beside a class without shots: queries differ, by the distance of tokens that nothing has moved."""
    generator = torch.Generator().manual_seed(0)
    frames, query = torch.randn(1, 2, 1, 8, 16, generator=generator), torch.randn(1, 3, 8, 16, generator=generator)
    mask = torch.tensor([[[True], [False]]])
    method = build(tokens=5)
    plain = build(tokens=5, adaptation="off", distances="positive")
    plain.load_state_dict(method.state_dict())
    for way in (1, 2):
        episode = Episode({"frames": frames[:, :way]}, {"frames": query}, mask[:, :way])
        logits = method.match(episode).logits[..., 0]
        torch.testing.assert_close(logits, plain.match(episode).logits[..., 0])
        assert len(logits.unique()) == 3


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="Team.Config: tokens is 0; expected at least 1"):
        build(tokens=0)
    with pytest.raises(ValueError, match="readout"):
        build(distances="positive", readout="negative")


@pytest.mark.parametrize(("dim", "tokens", "own"), [(2048, 60, 8_519_680), (2048, 80, 8_560_640), (768, 50, 1_221_120)])
def test_parameters(dim: int, tokens: int, own: int) -> None:
    """32,027,712 with ResNet-50 (23,508,032 without its classifier) and 60 tokens."""
    with torch.device("meta"):
        method = build(dim, tokens=tokens)
    assert sum(parameter.numel() for parameter in method.parameters()) == own
