"""D2ST-Adapter: the public code's numbers and gradients in a ViT and after a ResNet's stage, and exact counts."""

import open_clip
import pytest
import torch
from torch import Tensor, nn

from fsar.backbones import load_backbone
from fsar.backbones.clip import ClipBackbone
from fsar.methods import build_method
from fsar.methods.base import Targets
from fsar.methods.d2st_adapter import STAGES, D2stAdapter, PathAdapter
from tests.methods.test_gradients import assert_gradients, assert_losses, golden_of, outputs_of, support_in
from tests.papers.test_runs import hollow

close = {"atol": 1e-4, "rtol": 1e-4}
SQUEEZED = {"framing": "square-256"}
LAYERS = {"place": "pos_embed", "down": "down", "up": "up"}
for index, path in enumerate("st"):
    LAYERS |= {f"norms.{index}": f"{path}_ln"}
    LAYERS |= {
        f"paths.{index}.{ours}": f"{path}_attn.proj_{theirs}"
        for ours, theirs in zip(("query", "key", "value", "out"), ("q", "k", "v", "out"), strict=True)
    }
    LAYERS |= {
        f"paths.{index}.offset": f"{path}_attn.conv_offset.0",
        f"paths.{index}.offset_norm": f"{path}_attn.conv_offset.1.norm",
    }
    LAYERS |= {f"paths.{index}.offset_out": f"{path}_attn.conv_offset.3"}


def tensors_of(adapter: nn.Module, golden: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Parameters under the reference's names, with the reference's values."""
    found = {}
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            layer, _, kind = name.rpartition(".")
            theirs = f"{prefix}{LAYERS[layer]}.{kind}"
            if f"w.{theirs}" not in golden:  # a ResNet's norms have a module of their own
                theirs = f"{prefix}{LAYERS[layer]}.norm.{kind}"
            parameter.copy_(golden[f"w.{theirs}"].reshape(parameter.shape))
            found[theirs] = parameter
    return found


def paths_of(adapter: PathAdapter) -> dict[str, nn.Module]:
    return dict(zip(("spatial", "temporal"), adapter.paths, strict=True))


def without_noise(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The bias of a key map before a softmax over keys has gradient 0."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("proj_k.bias")}


def gradients_of(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name.removeprefix("grad."): value for name, value in golden.items() if name.startswith("grad.")}
    return without_noise(found)


def test_the_adapter_of_a_resnet_is_that_of_the_public_code() -> None:
    golden = golden_of("d2st_resnet_stage4", ("input_maps",))
    heads, paths = STAGES[3]
    adapter = PathAdapter(32, 32, heads, list(paths.values()), vit=False)
    tensors = tensors_of(adapter, golden)
    maps = golden["input_maps"]  # clip frame channel row column
    points = {path: outputs_of(layer, "points") for path, layer in paths_of(adapter).items()}
    out = adapter(maps.flatten(3).mT, (7, 7)).mT.unflatten(3, (7, 7))
    for path, found in points.items():
        torch.testing.assert_close(found[0], golden[f"i.{path}_positions_zyx"], **close)
    torch.testing.assert_close(out, golden["output_maps"], **close)
    loss = 0.5 * out.square().sum()
    assert_gradients(loss, without_noise(tensors) | {"input_maps": maps}, gradients_of(golden))


def golden_vit(golden: dict[str, Tensor]) -> tuple[D2stAdapter, dict[str, Tensor]]:
    """The golden ViT: two blocks over 14 x 14 patches of one pixel."""
    vision = {"image_size": 14, "patch_size": 1, "width": 16, "layers": 2, "head_width": 8}
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    clip = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    names = {key: f"w.{key}" for key in clip.visual.state_dict()}
    weights = {key: golden[name] for key, name in names.items() if name in golden}
    assert set(names) - set(weights) == {"proj"}
    clip.visual.load_state_dict(weights, strict=False)
    backbone = ClipBackbone("golden", clip, lambda texts: torch.zeros(len(texts), 4, dtype=torch.long))
    method = D2stAdapter(backbone, D2stAdapter.Config(ratio=1.0, class_weight=1.0))
    tensors = {"temporal_embedding": method.temporal, "class_embedding": method.class_embedding}
    with torch.no_grad():
        method.temporal.copy_(golden["w.temporal_embedding"][0])
    for index, adapter in enumerate(method.adapters):
        tensors |= tensors_of(adapter, golden, f"transformer.resblocks.{index}.Adapter.")
    method.begin_training(["a training class"] * 5)
    for ours, theirs in ((method.last_norm, "ln_post"), (method.loss_heads["class"], "classification_layer")):
        ours.load_state_dict({kind: golden[f"w.{theirs}.{kind}"] for kind in ("weight", "bias")})
        tensors |= {f"{theirs}.{kind}": getattr(ours, kind) for kind in ("weight", "bias")}
    return method.train(), tensors


def test_logits_losses_and_gradients_are_those_of_the_public_code() -> None:
    golden = golden_of("d2st_vit", ())
    method, tensors = golden_vit(golden)
    order = golden["support_labels"].argsort()
    points = {path: outputs_of(layer, "points") for path, layer in paths_of(method.adapters[0]).items()}
    episode = method.encode_episode(golden["support_images"][order][None, :, None], golden["query_images"][None])
    first = order.tolist().index(0)
    for path, found in points.items():
        of_video = found[0].unflatten(0, (-1, 4))[first]
        torch.testing.assert_close(of_video, golden[f"i.block0.{path}_positions_first_video_zyx"], **close)
    torch.testing.assert_close(episode.support["frames"][0, :, 0], golden["support_feats"][order], **close)
    torch.testing.assert_close(episode.query["frames"][0], golden["query_feats"], **close)
    prediction = method.match(episode)
    torch.testing.assert_close(prediction.logits[0], golden["logits"], **close)
    way_class = golden["real_support_labels"][order]
    of_class = outputs_of(method.loss_heads["class"])
    terms = method.loss(episode, prediction, Targets(golden["query_labels"][None], way_class[None]))
    torch.testing.assert_close(of_class[0], support_in(order, golden["class_logits"]), **close)
    total = sum(terms.values())
    assert_losses({"loss.match": terms["match"], "loss.class": terms["class"], "loss.total": total}, golden)
    wanted = gradients_of(golden)
    assert_gradients(total, without_noise(tensors), wanted)


def test_parameters_of_a_vit() -> None:
    """7,331,968 with 64 training classes; one adapter has 606,192."""
    with torch.device("meta"):
        method = build_method("d2st-adapter", hollow("ViT-B-16/openai"))
        method.begin_training(["a training class"] * 64)
    assert sum(parameter.numel() for parameter in method.adapters[0].parameters()) == 606_192
    own = [p for name, p in method.named_parameters() if not name.startswith("backbone.")]
    assert sum(parameter.numel() for parameter in own) == 7_331_968


def test_parameters_of_a_resnet() -> None:
    """5,814,912 with 64 training classes."""
    with torch.device("meta"):
        method = build_method("d2st-adapter", hollow("timm/resnet50.tv_in1k"))
        method.begin_training(["a training class"] * 64)
    counts = [sum(parameter.numel() for parameter in adapter.parameters()) for adapter in method.adapters]
    assert counts == [94_272, 293_760, 1_070_400, 4_225_344]
    own = [p for name, p in method.named_parameters() if not name.startswith("backbone.")]
    assert sum(parameter.numel() for parameter in own) == 5_814_912


@torch.no_grad()
def test_a_new_adapter_in_a_resnet_changes_nothing() -> None:
    backbone = load_backbone("timm/test_resnet/random")
    clips = torch.randn(2, 2, 3, backbone.image_size, backbone.image_size)
    method = build_method("d2st-adapter", backbone, frames=2, ratio=1.0)
    torch.testing.assert_close(method.encode(clips)["frames"], backbone.features(clips), **close)


@pytest.mark.parametrize("backbone", ["tiny", "timm/test_resnet/random"])
def test_videos_have_the_frames_that_the_adapters_were_made_for(backbone: str) -> None:
    method = build_method("d2st-adapter", load_backbone(backbone), ratio=1.0)
    side = method.backbone.image_size
    for frames in (2, 4, 12):
        with pytest.raises(ValueError, match=f"built for 8 frames per video and got {frames}; set its option `frames`"):
            method.encode(torch.zeros(1, frames, 3, side, side))


def test_frames_are_squeezed_on_request() -> None:
    backbone = load_backbone("tiny")
    found = [build_method("d2st-adapter", backbone, **options).traits.framing for options in ({}, SQUEEZED)]
    assert found == ["short-side", "square-256"]


def test_wrong_options_are_named() -> None:
    backbone = load_backbone("tiny")
    with pytest.raises(ValueError, match="bottleneck of 2 channels for 4 heads; expected a multiple of 4"):
        build_method("d2st-adapter", backbone, ratio=2 / 128)
    with pytest.raises(ValueError, match="D2stAdapter.Config: frames is 0; expected at least 1"):
        build_method("d2st-adapter", backbone, frames=0)
    with pytest.raises(ValueError, match="use tiny, ViT-B-16/openai or a ResNet"):
        build_method("d2st-adapter", load_backbone("features/8"))
