"""Losses of one episode, and the gradient of every weight and feature, of the public codes (`NAME_grad.safetensors`).

Each file was made by the public module in training mode, every dropout at 0; inputs and weights are those of
`NAME.safetensors`. A gradient may differ by 1e-3 of its tensor's largest entry, plus 1e-5.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fsar.backbones import Backbone
from fsar.methods import build_method, task_adapter_pp
from fsar.methods.base import Episode, Targets
from fsar.methods.clip_mdmf import ClipMdmf
from fsar.methods.clip_spm import ClipSpm
from fsar.methods.trx import Trx
from tests.conftest import GOLDEN
from tests.methods import test_clip_fsar as of_clip_fsar
from tests.methods import test_clip_mdmf as of_clip_mdmf
from tests.methods import test_clip_spm as of_clip_spm
from tests.methods import test_hyrsm as of_hyrsm
from tests.methods.test_clip_fsar import CONTEXT
from tests.methods.test_golden import episode_of
from tests.methods.test_task_adapter import golden_norm, neighbours, plus_plus

Named = Mapping[str, Tensor]
FEATURES = ("support_feats", "query_feats")


def golden_of(name: str, leaves: tuple[str, ...] = FEATURES) -> dict[str, Tensor]:
    """Inputs and weights; gradients are asked for at `leaves`."""
    golden = load_file(GOLDEN / f"{name}.safetensors")
    return golden | {leaf: golden[leaf].requires_grad_() for leaf in leaves}


def expected_of(name: str, prefix: str = "") -> dict[str, Tensor]:
    """The losses and gradients of a file that begin with `prefix`, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in load_file(GOLDEN / f"{name}_grad.safetensors").items()
        if key.startswith(prefix)
    }


def in_training(method: nn.Module) -> nn.Module:
    """Training mode, every dropout at 0."""
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method.train()


def assert_gradients(loss: Tensor, tensors: Named, expected: Named) -> None:
    """Compare the gradient at each of the reference's tensors; none of the expected ones is left out."""
    assert tensors.keys() == expected.keys(), tensors.keys() ^ expected.keys()
    slopes = torch.autograd.grad(loss, list(tensors.values()), retain_graph=True, allow_unused=True)
    for (name, tensor), slope in zip(tensors.items(), slopes, strict=True):
        wanted = expected[name].reshape(tensor.shape)
        found = torch.zeros_like(wanted) if slope is None else slope
        allowed = 1e-3 * wanted.abs().max().item() + 1e-5
        torch.testing.assert_close(found, wanted, atol=allowed, rtol=0, msg=lambda text, n=name: f"{n}: {text}")


def assert_losses(terms: Named, expected: Named) -> None:
    """Compare terms of the loss as they are in one episode."""
    for name, term in terms.items():
        torch.testing.assert_close(term, expected[name].reshape(()), atol=1e-4, rtol=1e-4)


def outputs_of(module: nn.Module, method: str = "forward") -> list[Tensor]:
    """What a method of a layer returns from now on, a tensor per call."""
    original, found = getattr(module, method), []

    def recorded(*args: Any) -> Tensor:
        found.append(original(*args))
        return found[-1]

    setattr(module, method, recorded)
    return found


def support_in(order: Tensor, videos: Tensor) -> Tensor:
    """Rows of the support videos, which come first, in another order."""
    return torch.cat([videos[order], videos[len(order) :]])


def by_layer(method: nn.Module, layers: Mapping[str, str]) -> dict[str, Tensor]:
    """Parameters under the reference's names: `layers` gives those of our layers."""
    own = dict(method.named_parameters())
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in layers.items() for kind in ("weight", "bias")}
    return {theirs: own[ours] for ours, theirs in names.items() if ours in own}


# --------------------------------------------------------------------------- metrics


METRICS = {
    "otam_mean_of_shots_lambda0.1": ("otam", {}),
    "otam_proto_bidir_lambda0.5": ("otam", {"per": "prototype"}),
    "otam_proto_q2s_lambda0.5": ("otam", {"per": "prototype", "direction": "query-to-support"}),
    "bimhm_proto": ("bi-mhm", {}),
    "bimhm_mean_of_shots": ("bi-mhm", {"per": "video"}),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics(tiny: Backbone, name: str) -> None:
    golden, expected = golden_of("metrics"), expected_of("metrics", f"{name}.")
    method = build_method(METRICS[name][0], tiny, **METRICS[name][1])
    labels = expected_of("metrics")["query_labels"].long()
    loss = cross_entropy(method.match(episode_of(golden)).logits[0], labels)
    assert_losses({"loss.mean": loss}, expected)
    assert_gradients(loss, {f"grad.{leaf}": golden[leaf] for leaf in FEATURES}, without_losses(expected))


def without_losses(expected: Named) -> dict[str, Tensor]:
    return {name: value for name, value in expected.items() if "grad" in name}


# --------------------------------------------------------------------------- heads


def test_trx() -> None:
    golden, expected = golden_of("trx"), expected_of("trx")
    features = Backbone("features")
    features.dim = 16
    method = in_training(Trx(features, Trx.Config(out_dim=12)))
    layers = {
        f"transformers.{i}.{ours}": f"card{i + 2}.{theirs}"
        for i in range(2)
        for ours, theirs in (("key", "k_linear"), ("value", "v_linear"), ("key_norm", "norm_k"))
    }
    tensors = by_layer(method, layers)
    with torch.no_grad():
        for name, parameter in tensors.items():
            parameter.copy_(golden[name])
    episode = episode_of(golden)
    targets = Targets(expected["query_labels"].long()[None], torch.zeros(1, 3, dtype=torch.long))
    loss = method.loss(episode, method.match(episode), targets)["match"]
    assert_losses({"loss.mean_over_queries": loss, "loss.code_sum_over_16": loss * 4 / 16}, expected)
    tensors = {f"grad.{name}": tensor for name, tensor in (tensors | {leaf: golden[leaf] for leaf in FEATURES}).items()}
    assert_gradients(loss, tensors, without_losses(expected))


@pytest.mark.parametrize(
    ("file", "relation"), [("hyrsm_1shot", "prototype"), ("hyrsm_1shot", "video"), ("hyrsm_5shot", "prototype")]
)
def test_hyrsm(file: str, relation: str) -> None:
    golden, expected = golden_of(file), expected_of(file)
    method = in_training(of_hyrsm.with_weights(of_hyrsm.build(relation=relation, inter_weight_dropout=0.0), golden))
    order = golden["support_labels"].argsort(stable=True)
    support = golden["support_feats"][order].unflatten(0, (3, -1))
    mask = torch.ones(1, *support.shape[:2], dtype=torch.bool)
    episode = Episode({"frames": support[None]}, {"frames": golden["query_feats"][None]}, mask)
    way_class = expected["real_support_labels"].long()[order].view(3, -1)[:, 0]
    targets = Targets(expected["query_labels"].long()[None], way_class[None])
    terms = method.loss(episode, method.match(episode), targets)
    total = sum(terms.values())
    assert_losses({"loss.match": terms["match"], "loss.class": terms["class"] / 0.15, "loss.total": total}, expected)
    assert_gradients(total, *hyrsm_slopes(method, golden, without_losses(expected)))


def hyrsm_slopes(method: nn.Module, golden: Named, expected: Named) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our tensors and the reference's gradients, under one name; the file has q, k and v apart."""
    layers = {
        "intra_norm": "temporal_atte_before.norm",
        "intra_attention.out": "temporal_atte_before.fn.to_out.0",
        "intra_attention.qkv": "temporal_atte_before.fn.to_qkv",
        "inter_attention.qkv": "stacked",
        "inter_attention.out": "temporal_atte.fc",
        "inter_norm": "temporal_atte.layer_norm",
        "fuse": "layer2.0",
        "loss_heads.class": "classification_layer",
    }
    wanted = {name.removeprefix("grad."): value for name, value in expected.items()}
    parts = [wanted.pop(f"temporal_atte.w_{part}.weight") for part in ("qs", "ks", "vs")]
    wanted["stacked.weight"] = torch.cat(parts)
    return by_layer(method, layers) | {leaf: golden[leaf] for leaf in FEATURES}, wanted


@pytest.mark.parametrize("head", of_clip_fsar.HEADS)
def test_clip_fsar(head: str) -> None:
    golden, expected = golden_of("clipfsar_head"), expected_of("clipfsar_head", f"{head}.")
    method = of_clip_fsar.head_of(golden, class_text_weight=1.2, **of_clip_fsar.HEADS[head])
    method.begin_training(of_clip_fsar.LABELS)
    in_training(method)
    episode = of_clip_fsar.episode_of(golden, "train")
    text = method.text_of_shots(episode.text, episode.shot_mask.shape[-1])
    whole = Episode(
        method.enhance(episode.support, "support", text),
        method.enhance(episode.query, "query"),
        episode.shot_mask,
        episode.text,
    )
    way_of = golden["support_labels"]
    way_class = torch.stack([golden["real_support_labels"].long()[way_of == way][0] for way in way_of.unique()])
    targets = Targets(expected_of("clipfsar_head")["query_labels"].long()[None], way_class[None])
    terms = method.loss(whole, method.match(whole), targets)
    total = sum(terms.values())
    assert_losses(
        {"loss.match": terms["match"], "loss.class": terms["class_text"] / 1.2, "loss.total": total}, expected
    )
    tensors = by_layer(method.context, {ours: f"transformer.layers.0.{theirs}" for ours, theirs in CONTEXT.items()})
    tensors |= {"scale": method.scale} | {leaf: golden[leaf] for leaf in FEATURES}
    assert_gradients(total, {f"grad.{name}": t for name, t in tensors.items()}, without_losses(expected))


def mdmf_tensors(method: ClipMdmf) -> dict[str, Tensor]:
    layers = {f"views.local.context.steps.{i}": f"context_conv{i + 1}" for i in range(2)}
    for view, theirs in (("local", "context2"), ("global", "context_local")):
        layers |= {f"views.{view}.transformer.{ours}": f"{theirs}.layers.0.{layer}" for ours, layer in CONTEXT.items()}
    tensors, own = by_layer(method, layers), dict(method.named_parameters())
    for block in range(3):
        for i in range(2):
            ours, theirs = f"views.global.context.blocks.{block}.convolutions.{i}", f"tcn.network.{block}.conv{i + 1}"
            tensors[f"{theirs}.bias"] = own[f"{ours}.bias"]
            tensors[f"{theirs}.weight_g"] = own[f"{ours}.parametrizations.weight.original0"]
            tensors[f"{theirs}.weight_v"] = own[f"{ours}.parametrizations.weight.original1"]
    return tensors


@pytest.mark.parametrize(
    ("prefix", "term", "options"),
    [
        ("main_sum", "match", {}),
        ("distill_code", "distill", {}),
        ("distill_PAPER_token_DERIVED", "distill", {"confidence": "token"}),
    ],
)
def test_clip_mdmf(prefix: str, term: str, options: dict) -> None:
    golden, expected = golden_of("clip_mdmf"), expected_of("clip_mdmf")
    method = in_training(of_clip_mdmf.official(golden, **options))
    whole = of_clip_mdmf.encoded(method, of_clip_mdmf.frames_of(golden))
    targets = Targets(golden["query_labels"][None], torch.zeros(1, 4, dtype=torch.long))
    terms = method.loss(whole, method.match(whole), targets)
    assert_losses({f"loss.{prefix}": terms[term]}, expected)
    if not options:
        assert_losses({"loss.total_code": sum(terms.values()) / 16}, expected)
    tensors = mdmf_tensors(method) | {leaf: golden[leaf] for leaf in FEATURES}
    assert_gradients(terms[term], tensors, expected_of("clip_mdmf", f"grad_{prefix}."))


def spm_tensors(method: ClipSpm) -> dict[str, Tensor]:
    return by_layer(method, of_clip_spm.LAYERS) | {"mo_alpha1": method.alpha_mo}


def test_clip_spm() -> None:
    """Of the code's three terms; our loss of a step's 16 episodes is their mean, the code's their sum."""
    golden, expected = golden_of("clip_spm"), expected_of("clip_spm")
    method = in_training(of_clip_spm.official(golden))
    terms = of_clip_spm.losses(method, of_clip_spm.frames_of(golden), of_clip_spm.targets_of(golden))
    of_code = {
        "main_sum": terms["match"],
        "dists": terms["motion"] / 16 / 0.001,
        "total_code": sum(terms.values()) / 16,
    }
    tensors = spm_tensors(method) | {leaf: golden[leaf] for leaf in FEATURES}
    for name, term in of_code.items():
        assert_losses({f"loss.{name}": term}, expected)
        assert_gradients(term, tensors, expected_of("clip_spm", f"grad_{name}."))


@pytest.mark.parametrize("norm", ["identity", "layernorm"])
@pytest.mark.parametrize(("variant", "kind"), [("official", "correct"), ("official-leaky", "code")])
def test_task_adapter_pp_score(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, norm: str, variant: str, kind: str
) -> None:
    """Over features of the file's 24 channels, for which the code scales by 512."""
    at_512 = partial(neighbours, scale=512**-0.5)
    monkeypatch.setattr(task_adapter_pp, "neighbours", lambda frames, norm, earlier, _: at_512(frames, norm, earlier))
    leaves = ("text_features_class_stage", "z_query_one_per_class_in_class_order", "z_support_classmajor")
    golden, expected = golden_of("taskadapter_score", leaves), expected_of("taskadapter_score", f"{norm}.")
    text, query, support = (golden[leaf] for leaf in leaves)
    method = plus_plus(tiny, variant=variant, inductive=False, layers=0, alignment_norm=norm == "layernorm")
    method.alignment_norm = golden_norm(golden, norm)
    mask = torch.ones(1, 5, 2, dtype=torch.bool)
    episode = Episode({"frames": support.unflatten(0, (5, 2))[None]}, {"frames": query[None]}, mask, text[None])
    targets = Targets(torch.arange(5)[None], torch.zeros(1, 5, dtype=torch.long))
    loss = method.loss(episode, method.match(episode), targets)["match"]
    assert_losses({f"loss.{kind}": loss}, expected)
    tensors = {leaf: golden[leaf] for leaf in leaves}
    tensors |= {f"ln.{name}": parameter for name, parameter in method.alignment_norm.named_parameters()}
    assert_gradients(loss, tensors, expected_of("taskadapter_score", f"{norm}.grad_{kind}."))
