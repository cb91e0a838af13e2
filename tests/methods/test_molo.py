"""MoLo: the public code's numbers and gradients, its decoder, and what training on a bank says."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from fsar.backbones import Backbone
from fsar.methods.base import Episode, Targets
from fsar.methods.molo import STREAMS, Molo
from tests.methods.test_clip_fsar import CONTEXT
from tests.methods.test_gradients import (
    assert_gradients,
    assert_losses,
    by_layer,
    golden_of,
    in_training,
    outputs_of,
    support_in,
)

close = {"atol": 1e-4, "rtol": 1e-4}
WAY, SHOT, DIM = 3, 2, 8
MAPS = ("support_maps", "query_maps")
OFFICIAL = {"heads": 4, "hidden": 16, "reduction": 4, "decoder": (6, 5, 4)}
LAYERS = {
    "motion.reduce": "motion_reduce",
    "motion.convolution": "motion_conv",
    "motion.up": "motion_up",
    "loss_heads.class": "classification_layer",
    "loss_heads.decoder.steps.12": "outc.conv",
    **{
        f"loss_heads.decoder.steps.{4 * step + 1 + layer}": f"up{step + 1}.conv.double_conv.{layer}"
        for step in range(3)
        for layer in range(2)
    },
}
TOKENS = {"visual": ("class_token", "scale", ""), "motion": ("class_token_motion", "scale_motion", "_motion")}
STACKED = ("to_query", "to_key", "to_value")


def build(dim: int = DIM, **options) -> Molo:
    """MoLo over a backbone that only says its channels."""
    features = Backbone("features")
    features.dim = dim
    return Molo(features, Molo.Config(**options)).eval()


def tensors_of(method: Molo) -> dict[str, Tensor]:
    """Parameters under the reference's names; it has queries, keys and values in one map, of which each is a part."""
    layers = dict(LAYERS)
    tensors = {}
    for stream, (token, scale, suffix) in TOKENS.items():
        rows, theirs = method.rows[stream], f"temporal_atte_before{suffix}.layers.0"
        tensors |= {token: rows.token, scale: rows.temperature}
        tensors |= {f"{theirs}.{name}": getattr(rows.transformer, name).weight for name in STACKED}
        layers |= {
            f"rows.{stream}.transformer.{ours}": f"{theirs}.{layer}"
            for ours, layer in CONTEXT.items()
            if ours not in STACKED
        }
    return tensors | by_layer(method, layers)


def unstacked(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors of the reference that begin with `prefix`, with queries, keys and values apart."""
    found = {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}
    for _, _, suffix in TOKENS.values():
        theirs = f"temporal_atte_before{suffix}.layers.0"
        parts = found.pop(f"{theirs}.0.fn.to_qkv.weight").chunk(3)
        found |= {f"{theirs}.{name}": part for name, part in zip(STACKED, parts, strict=True)}
    return found


def official(golden: dict[str, Tensor]) -> Molo:
    method = build(**OFFICIAL)
    method.begin_training(["a training class"] * 5)
    weights = unstacked(golden, "w.")
    with torch.no_grad():
        for name, parameter in tensors_of(method).items():
            parameter.copy_(weights[name].reshape(parameter.shape))
        for step in range(3):
            norm = method.loss_heads["decoder"].steps[4 * step + 2]
            norm.running_mean.copy_(weights[f"up{step + 1}.conv.double_conv.1.running_mean"])
            norm.running_var.copy_(weights[f"up{step + 1}.conv.double_conv.1.running_var"])
    return in_training(method)


def encoded(method: Molo, golden: dict[str, Tensor]) -> Episode:
    order = golden["support_labels"].argsort(stable=True)
    parts = []
    for name, axes in (("support", (1, WAY, SHOT)), ("query", (1, 3))):
        chosen = order if name == "support" else slice(None)
        maps = golden[f"{name}_maps"].movedim(2, -1)[chosen]
        pixels = golden[f"{name}_images_4x4"][chosen].repeat_interleave(56, -1).repeat_interleave(56, -2)
        enhanced = {**method.enhance({"maps": maps}, "query"), "pixels": pixels}
        parts.append({key: value.unflatten(0, axes) for key, value in enhanced.items()})
    return Episode(*parts, torch.ones(1, WAY, SHOT, dtype=torch.bool))


def test_logits_losses_and_gradients_are_those_of_the_public_code() -> None:
    golden = golden_of("molo", MAPS)
    method = official(golden)
    episode = encoded(method, golden)
    torch.testing.assert_close(episode.query["visual"][0], golden["i.visual_rows_query"], **close)
    torch.testing.assert_close(episode.query["motion"][0], golden["i.motion_rows_query"], **close)
    torch.testing.assert_close(episode.query["changes"][0].movedim(-1, 2), golden["i.motion_maps_query"], **close)
    prediction, contrast = method.match(episode), method.contrast(episode)
    torch.testing.assert_close(prediction.logits[0], golden["logits"], **close)
    for stream, suffix in (("visual", ""), ("motion", "_motion")):
        for way in ("s2q", "q2s"):
            torch.testing.assert_close(contrast[f"{stream}_{way}"][0], golden[f"logits_{way}{suffix}"], **close)
    order = golden["support_labels"].argsort(stable=True)
    way_class = golden["real_support_labels"][order].view(WAY, SHOT)[:, 0]
    of_class = outputs_of(method.loss_heads["class"])
    terms = method.loss(episode, prediction, Targets(golden["query_labels"][None], way_class[None]))
    torch.testing.assert_close(of_class[0], support_in(order, golden["class_logits"]), **close)
    total = sum(terms.values()) / 4  # the code divides all but the reconstruction by 4, which has 4 times the weight
    found = {"loss.match": terms["match"], "loss.cls": terms["class"] / 0.4, "loss.total": total}
    assert_losses(found | {"loss.recons": terms["reconstruction"] / 0.2}, golden)
    tensors = tensors_of(method) | {name: golden[name] for name in MAPS}
    assert_gradients(total, tensors, unstacked(golden, "grad."))


@torch.no_grad()
def test_the_decoder_with_stored_statistics() -> None:
    golden = golden_of("molo", ())
    method = official(golden)
    episode = encoded(method, golden)
    method.eval()
    parts = (episode.support, episode.query)
    changes, pixels = (torch.cat([part[name].flatten(0, -5) for part in parts]) for name in ("changes", "pixels"))
    made = method.loss_heads["decoder"](changes.flatten(0, 1), (224, 224))
    assert_losses({"frozen_bn.loss.recons": mse_loss(made, pixels.diff(dim=1).flatten(0, 1))}, golden)
    assert method.loss_heads["decoder"](changes.flatten(0, 1)[:1], (60, 40)).shape == (1, 3, 60, 40)


def random_episode(method: Molo) -> Episode:
    generator = torch.Generator().manual_seed(0)
    parts = [
        method.enhance({"maps": torch.randn(*axes, 4, 3, 3, DIM, generator=generator)}, "query")
        for axes in ((1, WAY, SHOT), (1, 4))
    ]
    return Episode(*parts, torch.ones(1, WAY, SHOT, dtype=torch.bool))


TARGETS = Targets(torch.tensor([[0, 1, 2, 0]]), torch.arange(WAY)[None])


def test_training_on_a_bank_says_what_to_leave_out() -> None:
    method = build(**OFFICIAL)
    method.begin_training(["a training class"] * WAY)
    episode = random_episode(method.train())
    with pytest.raises(ValueError, match="without their clips, as from a bank; set options.reconstruction_weight=0"):
        method.loss(episode, method.match(episode), TARGETS)
    assert "reconstruction" not in method.eval().loss(episode, method.match(episode), TARGETS)


def test_weights_of_zero_leave_terms_out() -> None:
    zero = dict.fromkeys(("class_weight", "contrast_weight", "reconstruction_weight"), 0.0)
    method = build(heads=4, hidden=16, reduction=4, balance=0.0, **zero).train()
    method.begin_training(["a training class"] * WAY)
    episode = random_episode(method)
    prediction = method.match(episode)
    assert not method.loss_heads and set(episode.query) == set(STREAMS)
    assert set(method.loss(episode, prediction, TARGETS)) == {"match"}
    assert prediction.logits.equal(-prediction.named["visual_distances"])


@torch.no_grad()
def test_otam_instead_of_sets() -> None:
    """Backwards rows are farther for OTAM; Bi-MHM is blind to their order."""
    sets, ordered = (build(**OFFICIAL, metric=metric) for metric in ("bi-mhm", "otam"))
    episode = random_episode(sets)
    flipped = {name: rows[..., [0, *range(rows.shape[-2] - 1, 0, -1)], :] for name, rows in episode.query.items()}
    backwards = Episode(episode.support, flipped, episode.shot_mask)
    torch.testing.assert_close(sets.match(backwards).logits, sets.match(episode).logits)
    assert not torch.allclose(ordered.match(backwards).logits, ordered.match(episode).logits)


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="reduction 8 and heads 3 for the 8 channels of the maps .*divisors of 8"):
        build(heads=3)
    with pytest.raises(ValueError, match="no class for its loss.*begin_training"):
        episode = random_episode(method := build(**OFFICIAL))
        method.loss(episode, method.match(episode), TARGETS)
    with pytest.raises(ValueError, match="got 1 frame per video and needs motion.*sample more frames"):
        build(**OFFICIAL).motion(torch.zeros(1, 1, 3, 3, DIM))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, "heads is 0; expected at least 1"),
        ({"hidden": 0}, "hidden is 0; expected at least 1"),
        ({"position_dropout": 1.0}, r"position_dropout is 1.0; expected a share in \[0, 1\)"),
        ({"position_dropout": float("nan")}, "position_dropout is nan; expected a finite number"),
        ({"cos_eps": -0.1}, "cos_eps is -0.1; expected at least 0"),
        ({"balance": float("nan")}, "balance is nan; expected a finite number"),
        ({"balance": -1.0}, "balance is -1.0; expected at least 0"),
        ({"reduction": 0}, "reduction is 0; expected at least 1"),
        ({"decoder": (128, 0, 16)}, r"decoder is \[128, 0, 16\]; expected at least 1"),
        ({"frame_scale": 0.0}, "frame_scale is 0.0; expected more than 0"),
    ],
)
def test_the_one_option_out_of_its_range_is_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"Molo\.Config: {message}"):
        build(**options)


@torch.no_grad()
def test_missing_shots_are_not_reconstructed() -> None:
    """Their pixels and maps enter neither the mean nor the decoder's statistics."""
    generator = torch.Generator().manual_seed(2)
    zero = dict.fromkeys(("class_weight", "contrast_weight"), 0.0)
    method = build(**OFFICIAL, **zero).train()
    method.begin_training(["a training class"] * WAY)
    mask = torch.ones(1, WAY, SHOT, dtype=torch.bool)
    mask[0, 1, 1] = False
    maps = torch.randn(1, WAY, SHOT, 4, 3, 3, DIM, generator=generator)
    clips = torch.randn(1, WAY, SHOT, 4, 3, 8, 8, generator=generator)
    found = []
    for junk in (0.0, 7.0):
        maps[0, 1, 1], clips[0, 1, 1] = junk, junk * torch.randn(4, 3, 8, 8, generator=generator)
        support = {**method.enhance({"maps": maps}, "support"), "pixels": clips}
        query = {**method.enhance({"maps": maps[:, :, 0]}, "query"), "pixels": clips[:, :, 0]}
        episode = Episode(support, query, mask)
        aim = Targets(torch.arange(WAY)[None], torch.arange(WAY)[None])
        found.append(method.loss(episode, method.match(episode), aim)["reconstruction"])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("dim", "own"), [(2048, 66_096_597), (512, 7_404_117)])
def test_parameters(dim: int, own: int) -> None:
    """89,604,629 with ResNet-50 (23,508,032 without its classifier) and 64 training classes."""
    with torch.device("meta"):
        method = build(dim)
        method.begin_training(["a training class"] * 64)
    assert sum(parameter.numel() for parameter in method.parameters()) == own
