"""CLIP-MEI: the public code's numbers and gradients; what its switches do; that no label of a query is read."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fsar.backbones import Backbone
from fsar.methods import Targets
from fsar.methods.clip_mei import ClipMei
from fsar.methods.clip_spm import FIRST_FRAME, PROMPT
from tests.methods.test_clip_fsar import Features
from tests.methods.test_clip_spm import LAYERS as SPM_LAYERS
from tests.methods.test_clip_spm import TARGETS, encoded, frames_of, losses, random_frames, run, targets_of
from tests.methods.test_gradients import (
    FEATURES,
    assert_gradients,
    assert_losses,
    by_layer,
    expected_of,
    golden_of,
    in_training,
)

close = {"atol": 1e-4, "rtol": 1e-4}
LAYERS = {ours: theirs for ours, theirs in SPM_LAYERS.items() if "gate" not in ours}
OFFICIAL = {"inductive": False, "learned_alpha": True, "reduction": "sum", "hidden": 32, "head_dim": 4}


def official(golden: dict[str, Tensor], **options) -> ClipMei:
    """As the public code trains it: 16 episodes make a step."""
    method = ClipMei(Features(golden["text_features_of_split"]), ClipMei.Config(**OFFICIAL | options))
    with torch.no_grad():
        for name, parameter in tensors_of(method).items():
            parameter.copy_(golden[f"w.{name}"].reshape(parameter.shape))
    method.begin_training([], episodes_per_step=16)
    return in_training(method)


def tensors_of(method: ClipMei) -> dict[str, Tensor]:
    return by_layer(method, LAYERS) | ({"mo_alpha1": method.alpha_mo} if hasattr(method, "alpha_mo") else {})


def small(**options) -> ClipMei:
    """Over features of 16 channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ClipMei(Features(torch.zeros(1, 16)), ClipMei.Config(hidden=8, head_dim=4, **options)).eval()


@torch.no_grad()
def test_distances_and_logits() -> None:
    golden = golden_of("clip_mei", ())
    method = official(golden)
    prediction = run(method, frames_of(golden))
    torch.testing.assert_close(prediction.logits[0], golden["logits"], **close)
    named = prediction.named
    torch.testing.assert_close(named["qsa_distances"][0], golden["qsa.otam_distance"], **close)
    torch.testing.assert_close(prediction.logits, -named["tfe_distances"] - 0.5 * named["qsa_distances"], **close)
    torch.testing.assert_close(named["anchor_distances"][0, :1], golden["padm.otam_prototype_vs_anchor"], **close)
    torch.testing.assert_close(named["query_fused"][0, :, FIRST_FRAME:], golden["qsa.query"], **close)
    one_way = official(golden, direction="query-to-support")
    torch.testing.assert_close(run(one_way, frames_of(golden)).logits[0], golden["logits_single_direct"], **close)
    torch.testing.assert_close(method.motion(golden["query_feats"]), golden["mfe.query"], **close)


def test_losses_and_gradients_are_those_of_the_public_code() -> None:
    golden, expected = golden_of("clip_mei"), expected_of("clip_mei")
    method = official(golden)
    terms = losses(method, frames_of(golden), targets_of(golden))
    of_code = {
        "main_sum": terms["match"],
        "dists": (terms["motion"] + terms["consistency"]) / 16 / 0.001,
        "total_code": sum(terms.values()) / 16,
    }
    tensors = tensors_of(method) | {leaf: golden[leaf] for leaf in FEATURES}
    for name, term in of_code.items():
        assert_losses({f"loss.{name}": term}, expected)
        assert_gradients(term, tensors, expected_of("clip_mei", f"grad_{name}."))


def test_the_consistency_by_hand() -> None:
    """Half the squared distances of prompts before and after the fusion, plus the one of all rows; queries alone."""
    method, episode = small(), random_frames()
    whole = encoded(method, episode)
    found = method.loss(whole, method.match(whole), TARGETS)["consistency"]
    total = 0.0
    for task, ways in enumerate(TARGETS.query_way):
        for frames, way in zip(episode.query["frames"][task], ways, strict=True):
            own = episode.text[task, way]
            prompt = method.generator(episode.text[task].mean(0) * frames.mean())
            by_text, by_prompt = method.fusion(own, frames), method.fusion(prompt, frames)
            prompts = (own - prompt).square().sum() + (by_text[PROMPT] - by_prompt[PROMPT]).square().sum()
            total = total + (0.5 * prompts + (by_text - by_prompt).square().sum()) / len(ways)
    torch.testing.assert_close(found, 0.001 * total / len(TARGETS.query_way))


@torch.no_grad()
def test_logits_do_not_change_with_the_labels_of_queries() -> None:
    """The public code's mean text is of the queries' true classes; here the loss alone sees labels."""
    method, episode = small(), encoded(small(), random_frames())
    before = method.match(episode).logits
    for ways in (torch.zeros(2, 4, dtype=torch.long), TARGETS.query_way):
        prediction = method.match(episode)
        method.loss(episode, prediction, Targets(ways, TARGETS.way_class))
        assert prediction.logits.equal(before) and method.match(episode).logits.equal(before)


@torch.no_grad()
def test_parts_switched_off() -> None:
    episode = random_frames()
    whole, no_tfe, bare = small(), small(tfe=False), small(tfe=False, qsa=False)
    for other in (no_tfe, bare):
        other.load_state_dict(whole.state_dict(), strict=False)
    named = run(whole, episode).named
    torch.testing.assert_close(run(no_tfe, episode).logits, -named["qsa_distances"])
    without_text = replace(episode, text=None)
    assert bare.traits.reads_text is False and set(losses(bare, without_text)) == {"match", "motion"}
    assert set(losses(small(mic=False, qsa=False), without_text)) == {"match"}
    assert set(losses(small(weight=0.0, mic=True), episode)) == {"match"}


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="ClipMei.Config: weight is -1.0; expected at least 0"):
        small(weight=-1.0)
    with pytest.raises(ValueError, match="learned_alpha: true, which has no effect with mic: false"):
        small(mic=False, learned_alpha=True)
    with pytest.raises(ValueError, match="got 1 per video.*: clip-mei:mic=false"):
        losses(small(), random_frames(frames=1))


@pytest.mark.parametrize(("dim", "visual", "total"), [(1024, 38_316_896, 73_985_890), (512, 86_192_640, 102_457_346)])
def test_parameters(dim: int, visual: int, total: int) -> None:
    """The public code's counts, without its unused `scale`."""
    features = Backbone("features")
    features.dim, features.has_text = dim, True
    with torch.device("meta"):
        method = ClipMei(features, ClipMei.Config(learned_alpha=True))
    assert sum(parameter.numel() for parameter in method.parameters()) + visual == total - 1
