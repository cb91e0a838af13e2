"""CLIP-CPM2C: the numbers and gradients of its port, and what each of its terms reads."""

import pytest
import torch
from torch import Tensor

from fsar.alignment import frame_similarity, otam
from fsar.backbones import Backbone
from fsar.methods.base import Episode, Targets
from fsar.methods.clip_cpm2c import ClipCpm2c
from tests.methods.test_clip_fsar import CONTEXT, Features
from tests.methods.test_clip_spm import TARGETS, encoded, frames_of, in_order, losses, random_frames, run
from tests.methods.test_gradients import (
    FEATURES,
    assert_gradients,
    assert_losses,
    by_layer,
    golden_of,
    in_training,
    outputs_of,
    support_in,
)

close = {"atol": 1e-4, "rtol": 1e-4}
LAYERS = {
    "motion.convolutions.0": "motion_conv1",
    "motion.convolutions.1": "motion_conv2",
    **{f"fusion.transformer.{ours}": f"context2.layers.0.{theirs}" for ours, theirs in CONTEXT.items()},
}
TOKENS = {"frames": "class_token", "motion": "class_token_motion"}


def tensors_of(method: ClipCpm2c) -> dict[str, Tensor]:
    """Parameters under the reference's names."""
    tokens = {TOKENS[stream]: token for stream, token in method.tokens.items()}
    return by_layer(method, LAYERS) | tokens | {"scale": method.scale}


def official(golden: dict[str, Tensor], **options) -> ClipCpm2c:
    """As the port trains it: 16 episodes make a step."""
    config = ClipCpm2c.Config(hidden=32, reduction="sum", **options)
    method = ClipCpm2c(Features(golden["text_features_of_split"]), config)
    with torch.no_grad():
        for name, parameter in tensors_of(method).items():
            parameter.copy_(golden[f"w.{name}"].reshape(parameter.shape))
    method.begin_training([str(label) for label in range(7)], episodes_per_step=16)
    return in_training(method)


def small(**options) -> ClipCpm2c:
    """Over features of 16 channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = ClipCpm2c(Features(torch.randn(7, 16)), ClipCpm2c.Config(hidden=8, **options)).eval()
    method.begin_training([str(label) for label in range(7)])
    return method


def targets_of(golden: dict[str, Tensor]) -> Targets:
    way_class = golden["real_support_labels"][in_order(golden)].view(3, 2)[:, 0]
    return Targets(golden["query_labels"][None], way_class[None])


@pytest.mark.parametrize("prefix", ["", "no_motion."])
def test_logits_losses_and_gradients_are_those_of_the_port(prefix: str) -> None:
    golden = golden_of("clip_cpm2c")
    method = official(golden, **({"motion_weight": 0.0} if prefix else {}))
    episode = encoded(method, frames_of(golden))
    prediction = method.match(episode)
    torch.testing.assert_close(prediction.logits[0], golden[f"{prefix}logits"], **close)
    class_text = outputs_of(method, "class_text_logits")
    terms = method.loss(episode, prediction, targets_of(golden))
    torch.testing.assert_close(class_text[0], support_in(in_order(golden), golden["class_text_logits"]), **close)
    consistency, total = terms["consistency"] / 16 / 0.001, sum(terms.values()) / 16
    found = {f"{prefix}loss.main_sum": terms["match"], f"{prefix}loss.consistency": consistency}
    assert_losses(found | {f"{prefix}loss.total_code": total}, golden)
    assert_losses({"loss.class_text_sum": terms["class_text"] / 0.5}, golden)
    wanted = {name: value for name, value in golden.items() if name.startswith(f"{prefix}grad.")}
    if not prefix:
        tensors = tensors_of(method) | {leaf: golden[leaf] for leaf in FEATURES}
        assert_gradients(total, {f"grad.{name}": tensor for name, tensor in tensors.items()}, wanted)


@torch.no_grad()
def test_rows_of_both_streams() -> None:
    golden = golden_of("clip_cpm2c", ())
    method, order = official(golden), in_order(golden)
    episode = encoded(method, frames_of(golden))
    by_token = method.fused(episode.support["frames"], None)
    for stream, name in (("frames", "visual"), ("motion", "motion")):
        support = golden[f"i.{name}.support_by_text"][order]
        torch.testing.assert_close(episode.support[f"fused_{stream}"][0].flatten(0, 1), support, **close)
        torch.testing.assert_close(episode.query[f"fused_{stream}"][0], golden[f"i.{name}.query_by_token"], **close)
        other = golden[f"i.{name}.support_by_token"][order]
        torch.testing.assert_close(by_token[stream][0].flatten(0, 1), other, **close)


@torch.no_grad()
def test_logits_do_not_change_with_the_labels_of_queries() -> None:
    method, episode = small(), encoded(small(), random_frames())
    before = method.match(episode).logits
    for ways in (torch.zeros(2, 4, dtype=torch.long), TARGETS.query_way):
        prediction = method.match(episode)
        method.loss(episode, prediction, Targets(ways, TARGETS.way_class))
        assert prediction.logits.equal(before) and method.match(episode).logits.equal(before)


@torch.no_grad()
def test_weights_of_zero_leave_terms_out_and_missing_shots_count_for_nothing() -> None:
    episode = random_frames()
    assert set(losses(small(), episode)) == {"match", "class_text", "consistency"}
    assert set(losses(small(class_text_weight=0.0, consistency_weight=0.0), episode)) == {"match"}
    still = small(motion_weight=0.0)
    assert set(run(still, episode).named) == {"frames_distances"} and not hasattr(still, "motion")
    method = small()
    episode.shot_mask[:, 1, 1] = False
    found = losses(method, episode)
    episode.support["frames"][:, 1, 1] = 7.0
    for name, term in losses(method, episode).items():
        torch.testing.assert_close(term, found[name])


@torch.no_grad()
def test_an_episode_counts_once_however_many_shots_it_has() -> None:
    method, episode = small(class_text_weight=0.0), random_frames()
    episode.shot_mask[0, :, 1] = False
    alone = []
    for i in range(2):
        support, query = ({"frames": side["frames"][i : i + 1]} for side in (episode.support, episode.query))
        own = Episode(support, query, episode.shot_mask[i : i + 1], episode.text[i : i + 1])
        alone.append(losses(method, own, Targets(TARGETS.query_way[i : i + 1], TARGETS.way_class[i : i + 1])))
    together = losses(method, episode)["consistency"]
    torch.testing.assert_close(together, torch.stack([one["consistency"] for one in alone]).mean())


@torch.no_grad()
def test_without_tokens_queries_stay_as_they_are() -> None:
    """Rows of a video's frames and motion, by hand; no token is left to train or to be consistent with."""
    whole, raw, episode = small(), small(query_token=False), random_frames()
    assert raw.load_state_dict(whole.state_dict(), strict=False).missing_keys == []
    assert whole.state_dict().keys() - raw.state_dict().keys() == {"tokens.frames", "tokens.motion"}
    with_tokens, without = run(whole, episode), run(raw, episode)
    rows, fused = whole.rows(episode.query["frames"]), encoded(whole, episode).support
    total = torch.zeros(2, 4, 3)
    for stream in ("frames", "motion"):
        prototypes = fused[f"fused_{stream}"][..., 1:, :].mean(2)
        similarity = frame_similarity(rows[stream], prototypes, 0.01)
        total -= otam(1 - similarity, 0.5, "both")
    torch.testing.assert_close(without.logits, total)
    assert not without.logits.allclose(with_tokens.logits)
    assert set(losses(raw, episode)) == {"match", "class_text"}


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="consistency_weight: 0.1, which has no effect with query_token: false"):
        small(query_token=False, consistency_weight=0.1)
    with pytest.raises(ValueError, match="ClipCpm2c.Config: motion_weight is -1.0; expected at least 0"):
        small(motion_weight=-1.0)
    with pytest.raises(ValueError, match="got 1 per video.*: clip-cpm2c:motion_weight=0"):
        run(small(), random_frames(frames=1))
    with pytest.raises(ValueError, match=r"class_text_weight 0.5 but no training classes.*begin_training"):
        losses(ClipCpm2c(Features(torch.zeros(1, 16)), ClipCpm2c.Config(hidden=8)), random_frames())


@pytest.mark.parametrize(("dim", "own"), [(1024, 14_690_305), (512, 4_724_737)])
def test_parameters(dim: int, own: int) -> None:
    """53,007,201 with CLIP's ResNet-50 (38,316,896), 90,917,377 with ViT-B/16 (86,192,640)."""
    features = Backbone("features")
    features.dim, features.has_text = dim, True
    with torch.device("meta"):
        method = ClipCpm2c(features, ClipCpm2c.Config())
    assert sum(parameter.numel() for parameter in method.parameters()) == own
