"""AIM against the public code's numbers, the frozen encoder, and what its head promises."""

import copy
from dataclasses import replace

import open_clip
import pytest
import timm
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor

from fsar.backbones import Backbone
from fsar.backbones.base import load_strictly
from fsar.backbones.clip import TINY_CONFIG, ClipBackbone, tiny_tokenize
from fsar.backbones.image_only import TimmBackbone
from fsar.layers.adapters import Adapter
from fsar.methods.aim import Aim
from fsar.methods.base import Episode
from fsar.methods.otam import Otam
from tests.conftest import GOLDEN

close = {"atol": 1e-4, "rtol": 1e-4}
WAY, SHOT, QUERY, FRAMES = 3, 2, 2, 4
TEXT_CONFIG = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
ADAPTERS = {"T_Adapter_in": "temporal_in", "T_Adapter": "temporal", "S_Adapter": "spatial", "MLP_Adapter": "joint"}


def aim(backbone: Backbone, **options) -> Aim:
    return Aim(backbone, Aim.Config(**{"frames": FRAMES} | options)).eval()


def own(method: Aim) -> dict[str, Tensor]:
    return {name: p for name, p in method.named_parameters() if not name.startswith("backbone.")}


@torch.no_grad()
def shake(method: Aim, temporal: bool = True) -> Aim:
    """Give every parameter of the method's own a value, as training would; the temporal embedding on demand."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in own(method).items():
        if temporal or name != "temporal":
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return method


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(WAY * SHOT + QUERY, FRAMES, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def encoded(method: Aim, clips: Tensor, labels: tuple[str, ...] = ("waving", "clapping", "running")) -> Episode:
    support = clips[: WAY * SHOT].unflatten(0, (1, WAY, SHOT))
    text = method.encode_text(list(labels))[None] if method.traits.reads_text else None
    return method.encode_episode(support, clips[None, WAY * SHOT :], text)


# --- numbers of the public code


def golden_aim(golden: dict[str, Tensor], temporal_adapters: int) -> Aim:
    """The golden file's network; the public code stops before CLIP's projection, so ours is the identity."""
    width, patch = golden["w.class_embedding"].shape[0], golden["w.conv1.weight"].shape[-1]
    vision = {"image_size": golden["input_BCTHW"].shape[-1], "patch_size": patch, "width": width, "layers": 2}
    clip = open_clip.CLIP(
        embed_dim=width, vision_cfg=vision | {"head_width": width // 2}, text_cfg=TEXT_CONFIG, quick_gelu=True
    )
    weights = {key.removeprefix("w."): value for key, value in golden.items() if key.startswith("w.")}
    frozen = {key: value for key, value in weights.items() if "Adapter" not in key and key != "temporal_embedding"}
    load_strictly(clip.visual, frozen | {"proj": torch.eye(width)}, "golden")

    method = aim(ClipBackbone("golden", clip, tiny_tokenize), temporal_adapters=temporal_adapters)
    added = {"temporal": weights["temporal_embedding"][0]}
    for key, value in weights.items():
        if "Adapter" in key:
            _, _, index, adapter, layer, kind = key.split(".")
            place = {"D_fc1": "down", "D_fc2": "up"}[layer]
            added[f"blocks.{index}.{ADAPTERS[adapter]}.{place}.{kind}"] = value
    assert added.keys() == own(method).keys()
    method.load_state_dict(added, strict=False)
    return method


@pytest.mark.parametrize("temporal_adapters", [1, 2])
@torch.no_grad()
def test_block_and_output_are_those_of_the_public_code(temporal_adapters: int) -> None:
    golden = load_file(GOLDEN / f"aim_tadapter{temporal_adapters}.safetensors")
    method = golden_aim(golden, temporal_adapters)
    videos = rearrange(golden["input_BCTHW"], "clip rgb frame height width -> clip frame rgb height width")

    tokens = rearrange(
        golden["block_in_L_BT_D"], "token (clip frame) channel -> clip frame token channel", frame=FRAMES
    )
    out = method.blocks[0](method.backbone.clip.visual.transformer.resblocks[0], tokens)
    out = rearrange(out, "clip frame token channel -> token (clip frame) channel")
    torch.testing.assert_close(out, golden["block0_out"], **close)

    frames = method.encode(videos)["frames"]
    torch.testing.assert_close(frames.transpose(1, 2), golden["output_B_D_T_1_1"][..., 0, 0], **close)


@pytest.mark.parametrize("backbone", ["ViT-B-16", "ViT-B-32"])
@pytest.mark.parametrize(("temporal_adapters", "adapters"), [(1, 10_651_392), (2, 14_201_856)])
def test_parameter_counts(backbone: str, temporal_adapters: int, adapters: int) -> None:
    """10.65 M in three sets of twelve adapters, 14.20 M in four; the temporal embedding beside them."""
    with torch.device("meta"):
        clip = open_clip.CLIP(**open_clip.get_model_config(backbone))
        method = aim(ClipBackbone(backbone, clip, tiny_tokenize), frames=8, temporal_adapters=temporal_adapters)
    counts = {name: parameter.numel() for name, parameter in own(method).items()}
    assert sum(p.numel() for p in method.blocks[0].joint.parameters()) == 295_872
    assert counts.pop("temporal") == 6_144
    assert sum(counts.values()) == adapters == 12 * (2 + temporal_adapters) * 295_872


# --- the encoder


@pytest.mark.parametrize("temporal_adapters", [1, 2])
@torch.no_grad()
def test_a_new_one_is_the_frozen_encoder(small: Backbone, clips: Tensor, temporal_adapters: int) -> None:
    """New adapters give zero: nothing comes over time, A_S passes the attention on, the MLP stands alone."""
    method = aim(small, temporal_adapters=temporal_adapters)
    frozen = small.features(clips)
    torch.testing.assert_close(method.encode(clips)["frames"], frozen, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(shake(method).encode(clips)["frames"], frozen, atol=0.1)


@torch.no_grad()
def test_leading_axes_do_not_matter(small: Backbone, clips: Tensor) -> None:
    method = shake(aim(small))
    together = method.encode(clips)["frames"]
    assert together.shape == (*clips.shape[:2], small.dim)
    shaped = method.encode(clips.unflatten(0, (2, 4)))["frames"]
    torch.testing.assert_close(shaped.flatten(0, 1), together)
    torch.testing.assert_close(method.encode(clips[1])["frames"], together[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_order_counts_only_through_the_temporal_embedding(small: Backbone, clips: Tensor) -> None:
    """Attention over frames is blind to their order: reversed in, reversed out, until frames have an index."""
    blind, seeing = shake(aim(small), temporal=False), shake(aim(small))
    backwards = clips.flip(1)
    torch.testing.assert_close(
        blind.encode(backwards)["frames"].flip(1), blind.encode(clips)["frames"], atol=1e-4, rtol=1e-4
    )
    difference = seeing.encode(backwards)["frames"].flip(1) - seeing.encode(clips)["frames"]
    assert difference.abs().max() > 0.1


@torch.no_grad()
def test_frames_see_each_other_and_videos_do_not(small: Backbone, clips: Tensor) -> None:
    """Only the T adapter carries anything from one frame to another."""
    changed = clips.clone()
    changed[0, -1] = 0
    method = shake(aim(small))
    moved = (method.encode(changed)["frames"] - method.encode(clips)["frames"]).abs().amax(-1)
    assert (moved[0] > 1e-3).all() and (moved[1:] < 1e-5).all()
    for block in method.blocks:
        block.temporal.up.weight.zero_()
    alone = (method.encode(changed)["frames"] - method.encode(clips)["frames"]).abs().amax(-1)
    assert (alone[0, :-1] < 1e-5).all() and alone[0, -1] > 1e-3


# --- training


def gradients(method: Aim, clips: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)  # dropout, stochastic depth
    method.match(encoded(method, clips)).logits.log_softmax(-1)[..., 0].sum().backward()
    found = {name: p.grad.clone() for name, p in own(method).items() if p.grad is not None}
    method.zero_grad()
    return found


def asleep(method: Aim, got: dict[str, Tensor]) -> set[str]:
    """Kinds of parameters (over all blocks) that get no gradient in some block."""
    return {name.split(".", 2)[-1] for name in own(method) if name not in got or not got[name].any()}


@pytest.mark.parametrize("temporal_adapters", [1, 2])
def test_gradients_reach_everything_after_a_few_steps(small: Backbone, clips: Tensor, temporal_adapters: int) -> None:
    """A zero second map hides the first one for a step, and A_T's hides A_Tin."""
    method = aim(copy.deepcopy(small), temporal_adapters=temporal_adapters)
    optimizer = torch.optim.SGD(own(method).values(), lr=0.1)
    first_maps = {f"{part}.down.{kind}" for part in ("temporal", "spatial", "joint") for kind in ("weight", "bias")}
    inner = {f"temporal_in.{place}.{kind}" for place in ("down", "up") for kind in ("weight", "bias")}
    expected = [first_maps | inner, {name for name in inner if "down" in name}, set()]
    if temporal_adapters == 1:
        expected = [first_maps, set()]
    for step, names in enumerate(expected):
        got = gradients(method, clips)
        assert asleep(method, got) == names, f"step {step}"
        for name, gradient in got.items():
            own(method)[name].grad = gradient
        optimizer.step()
        optimizer.zero_grad()


def test_only_the_methods_own_parameters_are_its_own(small: Backbone) -> None:
    """The frozen blocks are lent, not owned: no parameter has two names."""
    method = aim(small, temporal_adapters=2)
    names = [name for name, _ in method.named_parameters(remove_duplicate=False)]
    assert len(names) == len({id(p) for p in method.parameters()})
    layers = TINY_CONFIG["vision_cfg"]["layers"]
    assert len(own(method)) == 1 + layers * 4 * len(list(Adapter(8).parameters()))


def test_checkpointed_activations_give_the_same_gradients(
    small: Backbone, clips: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = copy.deepcopy(small)
    method = shake(aim(backbone, drop_path=0.5)).train()
    expected = gradients(method, clips)
    computed = 0
    forward = type(method.blocks[0]).forward

    def counted(*args: object) -> Tensor:
        nonlocal computed
        computed += 1
        return forward(*args)

    monkeypatch.setattr(type(method.blocks[0]), "forward", counted)
    backbone.checkpoint_activations()
    got = gradients(method, clips)
    assert computed == 2 * 2 * len(method.blocks)  # support and query, each forward once more in the backward pass
    assert got.keys() == expected.keys() == own(method).keys()
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-4, rtol=1e-3, msg=name)


@torch.no_grad()
def test_stochastic_depth_rises_and_rests_in_evaluation(small: Backbone, clips: Tensor) -> None:
    method = shake(aim(small, drop_path=0.5))
    rates = [block.drop_path.p for block in method.blocks]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.5, len(rates)))
    steady = method.encode(clips)["frames"]
    torch.testing.assert_close(method.encode(clips)["frames"], steady)
    torch.manual_seed(0)
    changed = (method.train().encode(clips)["frames"] - steady).abs().amax((1, 2))
    assert (changed > 1e-2).any()


@torch.no_grad()
def test_stochastic_depth_drops_a_whole_video(small: Backbone, clips: Tensor) -> None:
    """What A_T adds is, for each video, either nothing or twice itself at a rate of one half."""
    block, adapted = small.clip.visual.transformer.resblocks[0], shake(aim(small, drop_path=0.5)).blocks[-1]
    for part in (adapted.spatial, adapted.joint):
        part.up.weight.zero_()
        part.up.bias.zero_()
    tokens = torch.randn(32, FRAMES, 5, 32, generator=torch.Generator().manual_seed(0))
    added = {}
    for mode in ("evaluate", "train"):
        seen = []
        hook = adapted.drop_path.register_forward_hook(lambda _, given, out, seen=seen: seen.append(out))
        torch.manual_seed(0)
        adapted.train(mode == "train")(block, tokens)
        hook.remove()
        added[mode], _ = seen  # of A_T, then of A_MLP
    dropped = (added["train"] == 0).flatten(1).all(1)
    assert 0 < dropped.sum() < len(tokens)
    torch.testing.assert_close(added["train"][~dropped], 2 * added["evaluate"][~dropped])


# --- heads


@pytest.mark.parametrize("metric", ["otam", "bi-mhm", "protonet", "trx", "distance-correlation"])
def test_every_metric_matches_and_trains(small: Backbone, clips: Tensor, metric: str) -> None:
    method = shake(aim(small, metric=metric))
    assert not method.traits.reads_text
    assert method.traits.episodes_per_match == {"trx": 2, "distance-correlation": 8}.get(metric, 512)
    logits = method.match(encoded(method, clips)).logits
    assert logits.shape == (1, QUERY, WAY) and torch.isfinite(logits).all()
    assert gradients(method, clips).keys() == own(method).keys()
    assert any(name.startswith("metric.") for name in own(method)) == (metric in ("trx", "distance-correlation"))


@torch.no_grad()
def test_otam_compares_with_prototypes(small: Backbone, clips: Tensor) -> None:
    method = shake(aim(small))
    episode = encoded(method, clips)
    reference = Otam(small, Otam.Config(per="prototype", smoothing=0.5))
    torch.testing.assert_close(method.match(episode).logits, reference.match(episode).logits)


@torch.no_grad()
def test_the_text_head_is_the_scaled_cosine(small: Backbone, clips: Tensor) -> None:
    method = shake(aim(small, text=True, templates="a video of {}"))
    assert method.traits.reads_text and method.metric is None
    labels = ["waving", "clapping", "running"]
    text = small.text_features([f"a video of {label}" for label in labels])
    video = method.encode(clips[WAY * SHOT :])["frames"].mean(1)
    expected = small.logit_scale * torch.nn.functional.cosine_similarity(video[:, None], text, dim=-1)
    episode = encoded(method, clips, tuple(labels))
    torch.testing.assert_close(method.match(episode).logits[0], expected, atol=1e-4, rtol=1e-4)
    blind = replace(episode, support={"frames": torch.zeros_like(episode.support["frames"])})
    torch.testing.assert_close(method.match(blind).logits[0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_bank_is_shared_by_heads_and_by_nothing_else(small: Backbone) -> None:
    """The encoder's key holds what `encode` depends on: adapters, temporal embedding, forms; no metric."""
    key = aim(small).encoder().key()
    assert aim(small, metric="trx").encoder().key() != key  # another draw of the adapters' first maps
    method, other = aim(small), aim(small, metric="trx", drop_path=0.0)
    other.load_state_dict(method.state_dict(), strict=False)
    assert other.encoder().key() == method.encoder().key()
    assert key.keys() >= {"encoding", "backbone", "weights", "own"} and key["encoding"] == "aim"
    for name, parameter in own(method).items():
        before = method.encoder().key()
        parameter += 1
        assert method.encoder().key() != before, name
    changed = aim(small, scale=1.0)
    changed.load_state_dict(other.state_dict(), strict=False)
    assert changed.encoder().key() != other.encoder().key()


# --- what a user can get wrong


def test_another_number_of_frames_is_refused(small: Backbone, clips: Tensor) -> None:
    with pytest.raises(ValueError, match=r"built for 4 frames.*got 3.*frames=3"):
        aim(small).encode(clips[:, :3])


def test_backbones_without_blocks_are_refused() -> None:
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
    resnet = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=TEXT_CONFIG)
    image_only = timm.create_model("vit_tiny_patch16_224", num_classes=0, pretrained=False)
    for backbone in (ClipBackbone("RN50", resnet, tiny_tokenize), TimmBackbone("timm/vit", image_only)):
        with pytest.raises(ValueError, match=rf"aim .*CLIP ViT.*{backbone.name!r}.*use tiny, ViT-B-32/openai"):
            aim(backbone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames 0.*at least 1"),
        ({"ratio": 0.001}, "ratio 0.001.*1/32"),
        ({"drop_path": 1.0}, "drop_path 1.0"),
        ({"text": True, "metric": "trx"}, "metric: trx, which has no effect with text: true"),
        ({"templates": "clip-spm"}, "templates: clip-spm, which has no effect with text: false"),
    ],
)
def test_options_that_do_nothing_are_refused(small: Backbone, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        aim(small, **options)
