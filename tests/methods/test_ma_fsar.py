"""MA-FSAR: the cross-check prototype, parameter counts, what adapters at initialisation equal, and its switches."""

import copy
import math
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fsar.alignment import cosine
from fsar.backbones import Backbone, load_backbone
from fsar.backbones.clip import ClipBackbone, tiny_tokenize
from fsar.datasets import VideoDataset
from fsar.evaluation.loop import evaluate
from fsar.methods import build_method, effective_options
from fsar.methods.base import Episode, Targets
from fsar.methods.ma_fsar import MaFsar, text_divergence
from fsar.training.parameters import group_of
from tests.conftest import GOLDEN

close = {"atol": 1e-4, "rtol": 1e-4}
LABELS = ["waving", "clapping", "running"]


# --------------------------------------------------------------------------- against the prototype


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "mafsar_UNOFFICIAL_prototype.safetensors")


def adapter_state(golden: dict[str, Tensor], block: int) -> dict[str, Tensor]:
    names = {"gta": "temporal", "lma": "local", "ja": "joint"}
    maps = {"fc1": "down", "fc2": "up"}
    return {
        f"{ours}.{new}.{kind}": golden[f"enc.blocks.{block}.{theirs}.{old}.{kind}"]
        for theirs, ours in names.items()
        for old, new in maps.items()
        for kind in ("weight", "bias")
    }


@pytest.fixture(scope="module")
def prototype(golden: dict[str, Tensor]) -> MaFsar:
    """Our method with the prototype's weights."""
    vision = {"image_size": 8, "patch_size": 4, "width": 16, "layers": 2, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 8192, "width": 16, "heads": 2, "layers": 1}
    clip = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    state = clip.visual.state_dict()
    for name in ("class_embedding", "positional_embedding", "conv1.weight"):
        state[name] = golden[f"enc.{name}"]
    state["proj"] = golden["enc.projection"]
    for name in ("ln_pre", "ln_post"):
        state |= {f"{name}.{kind}": golden[f"enc.{name}.{kind}"] for kind in ("weight", "bias")}
    parts = {"ln_1": "ln_1", "ln_2": "ln_2", "fc": "mlp.c_fc", "proj": "mlp.c_proj", "attn.out_proj": "attn.out_proj"}
    for i in range(2):
        block = f"transformer.resblocks.{i}"
        for theirs, ours in parts.items():
            for kind in ("weight", "bias"):
                state[f"{block}.{ours}.{kind}"] = golden[f"enc.blocks.{i}.{theirs}.{kind}"]
        for kind in ("weight", "bias"):
            state[f"{block}.attn.in_proj_{kind}"] = golden[f"enc.blocks.{i}.attn.in_proj_{kind}"]
    clip.visual.load_state_dict(state)
    clip.logit_scale.data.fill_(math.log(100))
    method = MaFsar(
        ClipBackbone("small", clip, tiny_tokenize), MaFsar.Config(frames=4, hidden=16, merge="after")
    ).eval()
    for i, block in enumerate(method.blocks):
        block.load_state_dict(adapter_state(golden, i))
    method.fc_text[0].load_state_dict({kind: golden[f"enc.fc_text.{kind}"] for kind in ("weight", "bias")})
    method.temporal.data = golden["enc.temporal_embedding"]
    tpcm = {
        "norm": "0.0.norm",
        "to_query": "0.0.fn.to_q",
        "to_key": "0.0.fn.to_k",
        "to_value": "0.0.fn.to_v",
        "to_out.0": "0.0.fn.to_out.0",
        "feed_forward.0": "0.1.net.0",
        "feed_forward.3": "0.1.net.3",
    }
    method.tpcm.load_state_dict(
        {
            f"{ours}.{kind}": golden[f"tpcm.layers.{theirs}.{kind}"]
            for ours, theirs in tpcm.items()
            for kind in ("weight", "bias")
            if f"tpcm.layers.{theirs}.{kind}" in golden
        }
    )
    return method


@pytest.fixture(scope="module")
def encoded(prototype: MaFsar, golden: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Support videos in the file's mixed order, and queries."""
    text = golden["class_text_features"][golden["support_labels"].long()]
    with torch.no_grad():
        support = prototype.encode(golden["support_videos"], "support", text)
        return dict(support), dict(prototype.encode(golden["query_videos"]))


@pytest.fixture(scope="module")
def episode(encoded, golden: dict[str, Tensor]) -> Episode:
    support, query = encoded
    labels = golden["support_labels"]
    by_class = {
        name: torch.stack([tensor[labels == label] for label in labels.unique()])[None]
        for name, tensor in support.items()
    }
    mask = torch.ones(by_class["frames"].shape[:3], dtype=torch.bool)
    return Episode(by_class, {k: v[None] for k, v in query.items()}, mask, golden["class_text_features"][None])


def test_encoder_matches_the_prototype(encoded, golden: dict[str, Tensor]) -> None:
    support, query = encoded
    torch.testing.assert_close(support["frames"], golden["F_S"], **close)
    torch.testing.assert_close(query["frames"], golden["F_Q"], **close)
    torch.testing.assert_close(support["enhanced"], golden["F_S_tilde"], **close)
    torch.testing.assert_close(query["enhanced"], golden["F_Q_tilde"], **close)


def test_merged_after_matches_the_prototype(prototype: MaFsar, episode: Episode, golden: dict[str, Tensor]) -> None:
    """The reference averages enhanced videos; our default takes the mean before TPCM."""
    after = MaFsar(prototype.backbone, MaFsar.Config(frames=4, hidden=16, alpha=0.25, merge="after"))
    prediction = after.match(episode)
    torch.testing.assert_close(-prediction.named["visual_logits"][0], golden["otam_bidir_lambda0.5"], **close)
    text = prediction.named["text_logits"][0]
    torch.testing.assert_close(text / 100, golden["cos_Q2T"], **close)
    torch.testing.assert_close(text.softmax(-1), golden["p_Q2T"], **close)
    torch.testing.assert_close(prediction.named["visual_logits"][0].softmax(-1), golden["p_Q2S"], **close)
    torch.testing.assert_close(prediction.logits[0].exp(), golden["p_alpha0.25"], **close)
    targets = Targets(golden["query_labels"].long()[None], torch.arange(3)[None])
    for alpha in (0.25, 0.75):
        method = MaFsar(prototype.backbone, MaFsar.Config(frames=4, hidden=16, alpha=alpha, merge="after"))
        prediction = method.match(episode)
        torch.testing.assert_close(prediction.logits[0].exp(), golden[f"p_alpha{alpha}"], **close)
        terms = method.loss(episode, prediction, targets)
        per_video = alpha / 2 * golden["L_S2T_batchmean"]  # the prototype's, ours is of class means
        expected = golden[f"L_alpha{alpha}"] - per_video + terms["support_to_text"]
        torch.testing.assert_close(sum(terms.values()), expected, **close)
    torch.testing.assert_close(terms["query_to_support"] / 0.25, golden["L_Q2S_mean"], **close)
    torch.testing.assert_close(terms["query_to_text"] / 0.375, golden["L_Q2T_batchmean"], **close)


def test_the_supports_loss_is_of_class_means(prototype: MaFsar, episode: Episode, golden: dict[str, Tensor]) -> None:
    """N x N: the mean over a class's real shots, then over time, against the class texts; by hand in float64."""
    frames, labels = golden["F_S"].double(), golden["support_labels"].long()
    texts = golden["class_text_features"].double()
    targets = Targets(golden["query_labels"].long()[None], torch.arange(3)[None])
    for shots in ([2, 2, 2], [2, 1, 2], [1, 1, 1]):
        mask = torch.tensor([[[True, shot > 1] for shot in shots]])
        expected = 0.0
        for way, shot in enumerate(shots):
            mean = frames[labels == way][:shot].mean((0, 1))
            logits = 100 * torch.stack([mean @ text / (mean.norm() * text.norm()) for text in texts])
            target = (10.0 * torch.eye(3, dtype=torch.float64)[way]).softmax(0)
            expected += (target * (target.log() - logits.log_softmax(0))).sum() / 3
        method = MaFsar(prototype.backbone, MaFsar.Config(frames=4, hidden=16, alpha=0.5))
        found = replace(episode, shot_mask=mask)
        terms = method.loss(found, method.match(found), targets)
        torch.testing.assert_close(terms["support_to_text"].double() / 0.25, expected, **close)


@torch.no_grad()
def test_shots_are_enhanced_only_if_they_are_compared(small: Backbone, clips: Tensor) -> None:
    """Merged before TPCM, a class's mean is enhanced, and no support video is."""
    for options, enhanced in (({}, False), ({"merge": "after"}, True), ({"metric": "trx"}, True)):
        method = build_method("ma-fsar", small, hidden=16, **options)
        support = method.encode(clips, "support", method.encode_text(["waving", "clapping"]))
        assert ("enhanced" in support) is enhanced and "enhanced" in method.encode(clips)


@pytest.mark.parametrize(
    ("options", "embedded"),
    [
        ({}, True),
        ({"gta": False}, False),
        ({"gta": False, "temporal_embedding": True}, True),
        ({"temporal_embedding": False}, False),
    ],
)
def test_the_temporal_embedding_follows_what_reads_it(small: Backbone, options: dict, embedded: bool) -> None:
    method = build_method("ma-fsar", small, hidden=16, **options)
    assert hasattr(method, "temporal") is embedded
    assert method.config.changed() == {"hidden": 16} | options


@torch.no_grad()
def test_without_gta_the_encoder_cannot_see_time(small: Backbone, clips: Tensor) -> None:
    """Table 4's row of local adaptation alone."""
    method = disturbed(build_method("ma-fsar", small, hidden=16, gta=False))
    forwards, backwards = (method.encode(videos)["frames"] for videos in (clips, clips.flip(1)))
    torch.testing.assert_close(backwards, forwards.flip(1), atol=1e-5, rtol=1e-4)


def test_kl_matches_actionclip() -> None:
    kl = load_file(GOLDEN / "actionclip_kl.safetensors")
    videos, texts, labels = kl["image_features"], kl["class_text_features"], kl["video_class_labels"].long()
    logits = kl["logit_scale"] * cosine(videos[:, None], texts[None])
    torch.testing.assert_close(logits, kl["logits_video_class"], **close)
    ours = text_divergence(logits[None], labels[None])
    torch.testing.assert_close(ours, kl["loss_video_class_BATCHMEAN"], **close)


def test_kl_by_hand() -> None:
    logits = torch.tensor([[[2.0, 0.0, -1.0]]], dtype=torch.float64)
    e = math.exp(10)
    target = [1 / (e + 2), e / (e + 2), 1 / (e + 2)]
    z = sum(math.exp(v) for v in (2.0, 0.0, -1.0))
    expected = sum(t * (math.log(t) - (v - math.log(z))) for t, v in zip(target, (2.0, 0.0, -1.0), strict=True))
    assert float(text_divergence(logits, torch.tensor([[1]]))) == pytest.approx(expected, rel=1e-9)


# --------------------------------------------------------------------------- parameters


def count(**options) -> int:
    """Parameters that the method adds to CLIP ViT-B/32, without allocating any."""
    with torch.device("meta"):
        clip = open_clip.CLIP(
            embed_dim=512,
            vision_cfg={"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
            text_cfg={"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
        )
        method = MaFsar(ClipBackbone("ViT-B-32", clip, tiny_tokenize), MaFsar.Config(**options))
    counts = {"own": 0, "visual": 0, "text": 0}
    for name, parameter in method.named_parameters():
        counts[group_of(name)] += parameter.numel()
    assert counts["visual"] == 87_849_216
    assert counts["visual"] + counts["text"] == 151_277_313
    return counts["own"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"fgma": False}, 3_149_824),
        ({}, 14_201_344),
        ({"fc_text_per_layer": True}, 18_535_168),
        ({"gta_pre_adapter": True}, 17_751_808),
        ({"gta_pre_adapter": True, "fc_text_per_layer": True}, 22_085_632),
        ({"gta": False, "ja": False, "temporal_embedding": False}, 3_149_824 + 3_550_464 + 393_984),
        ({"prototype": "none"}, 14_201_344 - 3_149_824),
        ({"local": "lsta"}, 14_201_344 - 393_984),
    ],
)
def test_parameter_counts_of_vit_b_32(options: dict, expected: int) -> None:
    assert count(**options) == expected


def test_resnet_variant_has_tpcm_only() -> None:
    with torch.device("meta"):
        clip = open_clip.CLIP(
            embed_dim=1024,
            vision_cfg={"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
            text_cfg={"context_length": 77, "vocab_size": 512, "width": 64, "heads": 2, "layers": 1},
        )
        method = MaFsar(ClipBackbone("RN50", clip, tiny_tokenize), MaFsar.Config(fgma=False))
    own = sum(p.numel() for name, p in method.named_parameters() if group_of(name) == "own")
    assert own == 8_394_752


# --------------------------------------------------------------------------- at initialisation


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def frozen_with_extra_tokens(backbone: Backbone, clips: Tensor, text: Tensor | None) -> Tensor:
    """The frozen encoder when every block also reads a copy of the class token (and a text token)."""
    visual = backbone.clip.visual
    tokens = visual._embeds(clips.flatten(0, 1))  # image token channel
    for block in visual.transformer.resblocks:
        extra = [tokens[:, :1]] if text is None else [tokens[:, :1], text.repeat_interleave(8, 0)[:, None]]
        tokens = block(torch.cat([tokens, *extra], 1))[:, : tokens.shape[1]]
    return (visual.ln_post(tokens[:, 0]) @ visual.proj).unflatten(0, clips.shape[:2])


@torch.no_grad()
def test_new_adapters_add_nothing_but_tokens(small: Backbone, clips: Tensor) -> None:
    method = build_method("ma-fsar", small, hidden=16)
    query = method.encode(clips)["frames"]
    torch.testing.assert_close(query, frozen_with_extra_tokens(small, clips, None), atol=1e-5, rtol=1e-4)
    text = method.encode_text(["waving", "clapping"])
    support = method.encode(clips, "support", text)["frames"]
    expected = frozen_with_extra_tokens(small, clips, method.fc_text[0](text))
    torch.testing.assert_close(support, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(query, small.features(clips), atol=1e-3)  # the tokens do change the features


@torch.no_grad()
@pytest.mark.parametrize("role", ["support", "query"])
def test_without_extra_tokens_new_adapters_equal_clip(small: Backbone, clips: Tensor, role: str) -> None:
    method = build_method("ma-fsar", small, hidden=16, gta=False, local="lsta")
    text = method.encode_text(["waving", "clapping"])
    torch.testing.assert_close(method.encode(clips, role, text)["frames"], small.features(clips), atol=1e-5, rtol=1e-4)


# --------------------------------------------------------------------------- switches


def disturbed(method: MaFsar, seed: int = 0) -> MaFsar:
    """Give adapters and embedding values, so that every part of the encoder shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith(("blocks", "temporal")):
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return method


def run(method: MaFsar, clips: Tensor) -> Tensor:
    """Logits of a 3-way 2-shot episode with two queries."""
    text = method.encode_text(LABELS)[None] if method.config.text else None
    many = torch.cat([clips, clips.flip(0) * 0.5, clips.roll(1, 1), clips.flip(1)])
    with torch.no_grad():
        return method.match(method.encode_episode(many[:6].unflatten(0, (1, 3, 2)), many[None, 6:], text)).logits


SWITCHES = [
    {"alpha": 0.75},
    {"alpha": 0.0},
    {"alpha": 1.0},
    {"readout": "visual"},
    {"readout": "text"},
    {"text": False},
    {"templates": "{}"},
    {"templates": "a photo of action {}"},
    {"metric": "bi-mhm"},
    {"metric": "trx"},
    {"metric": "protonet"},
    {"metric": "distance-correlation"},
    {"fgma": False},
    {"gta": False},
    {"local": "lsta"},
    {"local": "none"},
    {"ja": False},
    {"joint_scale": 0.25},
    {"ratio": 0.5},
    {"temporal_embedding": False},
    {"fc_text_per_layer": True},
    {"gta_pre_adapter": True},
    {"ja_skip": True},
    {"prototype": "none"},
    {"prototype": "unimodal-transformer"},
    {"prototype": "multimodal-transformer"},
    {"tpcm_norm": False},
    {"merge": "after"},
    {"hidden": 32},
]


def shrunk(options: dict) -> dict:
    """The options, and a small feed-forward part if there is one."""
    return effective_options("ma-fsar", {"hidden": 16, **options}, keep=options)


@pytest.fixture(scope="module")
def usual(small: Backbone, clips: Tensor) -> Tensor:
    """Logits with the default options."""
    return run(disturbed(build_method("ma-fsar", small, hidden=16)), clips)


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_every_switch_changes_the_result(small: Backbone, clips: Tensor, usual: Tensor, options: dict) -> None:
    """An option that did nothing would be a row of the paper's tables that measures nothing."""
    changed = run(disturbed(build_method("ma-fsar", small, **shrunk(options))), clips)
    assert torch.isfinite(changed).all()
    assert not torch.allclose(usual, changed, atol=1e-4)


def test_alpha_one_and_zero_are_the_branches(small: Backbone, clips: Tensor) -> None:
    for alpha, readout in ((1.0, "text"), (0.0, "visual")):
        mixed = run(disturbed(build_method("ma-fsar", small, hidden=16, alpha=alpha)), clips)
        branch = run(disturbed(build_method("ma-fsar", small, hidden=16, readout=readout)), clips)
        torch.testing.assert_close(mixed, branch.log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_unadapted_untrained_readouts_are_frozen_clip(small: Backbone, clips: Tensor) -> None:
    """Table 3's empty row: text only is zero-shot CLIP, the visual branch OTAM on frozen features."""
    text = run(build_method("ma-fsar", small, fgma=False, prototype="none", readout="text"), clips)
    visual = run(build_method("ma-fsar", small, fgma=False, prototype="none", readout="visual"), clips)
    otam = build_method("otam", small, per="prototype")
    many = torch.cat([clips, clips.flip(0) * 0.5, clips.roll(1, 1), clips.flip(1)])
    zero_shot = build_method("zero-shot", small)
    with torch.no_grad():
        episode = otam.encode_episode(
            many[:6].unflatten(0, (1, 3, 2)), many[None, 6:], zero_shot.encode_text(LABELS)[None]
        )
        torch.testing.assert_close(visual, otam.match(episode).logits)
        torch.testing.assert_close(text, zero_shot.match(episode).logits, atol=1e-4, rtol=1e-4)


def test_a_query_never_reads_a_text(small: Backbone, clips: Tensor) -> None:
    method = disturbed(build_method("ma-fsar", small, hidden=16))
    with torch.no_grad():
        with_text = method.encode(clips, "query", method.encode_text(["waving", "clapping"]))
        without = method.encode(clips, "query")
    assert all(torch.equal(with_text[name], without[name]) for name in without)


def test_templates_are_drawn_by_the_episode(small: Backbone) -> None:
    method = build_method("ma-fsar", small, hidden=16)
    draws = [method.encode_text(LABELS, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert not torch.allclose(draws[0], method.encode_text(LABELS))


def test_the_bank_knows_what_encode_depends_on(small: Backbone) -> None:
    base = build_method("ma-fsar", small, hidden=16).encoder().key()
    for same in ({"alpha": 0.75}, {"readout": "text"}, {"merge": "after"}):
        assert build_method("ma-fsar", small, hidden=16, **same).encoder().key() == base
    for other in ({"gta": False}, {"joint_scale": 0.1}, {"templates": "{}"}, {"prototype": "none"}, {"fgma": False}):
        assert build_method("ma-fsar", small, **shrunk(other)).encoder().key() != base
    assert disturbed(build_method("ma-fsar", small, hidden=16)).encoder().key() != base


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prototype": "none"},
        {"fgma": False},
        {"fgma": False, "prototype": "none"},
        {"text": False},
        {"local": "lsta"},
    ],
    ids=str,
)
def test_every_wiring_evaluates_from_a_bank(small: Backbone, little_world: VideoDataset, options: dict) -> None:
    method = build_method("ma-fsar", small, **shrunk(options))
    two_each = tuple(video for video in little_world.videos if video.id.endswith(("000", "001")))
    small = replace(little_world, videos=two_each)
    from_bank, anew = (
        evaluate(method, small, way=3, episodes=4, naive=naive, progress=False) for naive in (False, True)
    )
    assert from_bank.accuracy == anew.accuracy


def test_mistakes_are_named(small: Backbone, clips: Tensor) -> None:
    with pytest.raises(ValueError, match="alpha 2"):
        build_method("ma-fsar", small, alpha=2)
    with pytest.raises(ValueError, match=r"text: false and readout: text"):
        build_method("ma-fsar", small, text=False, readout="text")
    with pytest.raises(ValueError, match=r"built for 4 frames.*got 8"):
        build_method("ma-fsar", small, frames=4, hidden=16).encode(clips)
    with pytest.raises(ValueError, match=r"no text encoder.*ViT-B-16/openai"):
        build_method("ma-fsar", load_backbone("timm/resnet18/random"))
    with pytest.raises(ValueError, match=r"CLIP ViT.*tiny"):
        build_method("ma-fsar", load_backbone("timm/resnet18/random"), text=False)
    with pytest.raises(ValueError, match="class text of a support video"):
        build_method("ma-fsar", small, hidden=16).encode(clips, "support")


def test_checkpointing_changes_no_gradient(small: Backbone, clips: Tensor) -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        backbone = copy.deepcopy(small)
        if checkpointing:
            backbone.checkpoint_activations()
        method = disturbed(build_method("ma-fsar", backbone, hidden=16))
        backbone.requires_grad_(False)
        method.encode(clips, "support", method.encode_text(["waving", "clapping"]))["frames"].square().sum().backward()
        return [p.grad for name, p in method.named_parameters() if p.grad is not None]

    plain, recomputed = gradients(False), gradients(True)
    assert len(plain) == len(recomputed) > 10
    for one, other in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(one, other)
