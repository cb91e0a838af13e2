"""Video backbones with random weights: the order of their tokens, their features, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fsar import Recognizer
from fsar.backbones import Backbone, load_backbone
from fsar.methods import build_method
from fsar.methods.encoder import FrameEncoder
from fsar.video.frame_cache import FrameCache

transformers = pytest.importorskip("transformers", reason="the extra `video` is not installed")

SIZE, PATCH = 32, 16
WIDE: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIZE,
    "patch_size": PATCH,
}


def xclip(layers: int) -> Any:
    vision = WIDE | {"num_hidden_layers": layers, "num_frames": 4, "mit_hidden_size": 16, "mit_intermediate_size": 16}
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.XCLIPConfig(
        vision_config=vision | {"mit_num_attention_heads": 2}, text_config=text, projection_dim=16, prompt_layers=1
    )
    return transformers.XCLIPModel(config)


def videomae(layers: int) -> Any:
    config = transformers.VideoMAEConfig(**WIDE, num_hidden_layers=layers, num_frames=4, use_mean_pooling=False)
    return transformers.VideoMAEModel(config)


def vjepa2(layers: int) -> Any:
    config = transformers.VJEPA2Config(
        patch_size=PATCH,
        crop_size=SIZE,
        frames_per_clip=4,
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=layers,
        mlp_ratio=1,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    return transformers.VJEPA2Model(config)


def timesformer(layers: int) -> Any:
    return transformers.TimesformerModel(transformers.TimesformerConfig(**WIDE, num_hidden_layers=layers, num_frames=4))


MAKERS: dict[str, Callable[[int], Any]] = {
    "xclip": xclip,
    "videomae": videomae,
    "vjepa2": vjepa2,
    "timesformer": timesformer,
}


def written(folder: Path, model: Any) -> Path:
    """A folder as the hub has it."""
    model.save_pretrained(folder)
    look = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.2], "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(look))
    return folder


@pytest.fixture(scope="module", params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def deep(kind: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Backbone]:
    """A model of transformers with two layers, and the backbone that is read from its folder."""
    torch.manual_seed(0)
    model = MAKERS[kind](2).eval()
    return model, load_backbone(f"video@{written(tmp_path_factory.mktemp(kind), model)}")


def clips(*leading: int, frames: int = 4) -> Tensor:
    return torch.randn(*leading, frames, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_shapes_are_declared(kind: str, deep: tuple[Any, Backbone]) -> None:
    backbone = deep[1]
    steps = 2 if kind in ("videomae", "vjepa2") else 4
    width = 16 if kind == "xclip" else 24
    assert (backbone.clip_frames, backbone.dim, backbone.image_size) == (4, width, SIZE)
    assert (backbone.layout.steps(4, ""), backbone.layout.grid) == (steps, (2, 2))
    assert (*backbone.mean, *backbone.std, backbone.interpolation) == (0.4, 0.5, 0.6, 0.2, 0.3, 0.2, "bicubic")
    features, places = backbone.features_and_map(clips(2, 1))
    assert features.shape == (2, 1, steps, width) and places.shape == (2, 1, steps, 2, 2, 24)
    assert torch.equal(backbone.features(clips(2, 1)), features)
    torch.testing.assert_close(backbone.features(clips(2, 1)[1, 0]), features[1, 0])


@torch.no_grad()
def test_each_token_stands_at_its_place(kind: str, tmp_path: Path) -> None:
    """Without layers, a token sees its own tubelet alone: another pixel there changes this token and no other."""
    torch.manual_seed(0)
    backbone = load_backbone(f"video@{written(tmp_path, MAKERS[kind](0))}")
    before = clips(1)
    for frame, row, column in ((0, 1, 0), (3, 0, 1)):
        after = before.clone()
        after[0, frame, :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] += 1
        changed = (backbone.features_and_map(after)[1] - backbone.features_and_map(before)[1]).abs().amax(-1)[0] > 1e-6
        assert changed.nonzero().tolist() == [[frame // backbone.layout.tubelet, row, column]]


@torch.no_grad()
def test_features_are_those_of_transformers(kind: str, deep: tuple[Any, Backbone]) -> None:
    model, backbone = deep
    ours = backbone.features(clips(2)).mean(1)
    if kind == "xclip":
        theirs = model.get_video_features(clips(2))
        theirs = getattr(theirs, "pooler_output", theirs)
    else:
        tokens = model(clips(2)).last_hidden_state
        theirs = (tokens[:, 1:] if kind == "timesformer" else tokens).mean(1)
    torch.testing.assert_close(ours, theirs)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["xclip"], indirect=True)
def test_text_of_xclip(deep: tuple[Any, Backbone]) -> None:
    model, backbone = deep
    start, wave, a, end = 49406, 4535, 320, 49407  # of CLIP's vocabulary
    padded = torch.tensor([[start, a, wave, end] + [0] * 73, [start, wave, end] + [0] * 74])
    theirs = model.get_text_features(padded)
    torch.testing.assert_close(backbone.text_features(["a wave", "wave"]), getattr(theirs, "pooler_output", theirs))
    torch.testing.assert_close(backbone.logit_scale, model.logit_scale.exp())
    groups = {name.split(".")[0] for name, _ in backbone.named_parameters()}
    assert groups == {"model", "clip"}  # towers train apart
    zero_shot = build_method("zero-shot", backbone, templates="{}")
    text = zero_shot.encode_text(["wave", "clap"])[None]
    logits = zero_shot.match(zero_shot.encode_episode(clips(1, 2, 1), clips(1, 3), text)).logits
    video = torch.nn.functional.normalize(backbone.features(clips(1, 3)).mean(-2), dim=-1)
    expected = backbone.logit_scale * video @ torch.nn.functional.normalize(text, dim=-1).mT
    torch.testing.assert_close(logits, expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["protonet", "otam", "bi-mhm", "place-motion", "ridge", "hyrsm"])
def test_methods_run_on_it(name: str, deep: tuple[Any, Backbone]) -> None:
    method = build_method(name, deep[1])
    episode = method.encode_episode(clips(1, 2, 1), clips(1, 3))
    assert method.match(episode).logits.isfinite().all()
    encoder = method.encoder()
    assert isinstance(encoder, FrameEncoder) and not encoder.by_frame


@pytest.mark.parametrize("kind", ["videomae"], indirect=True)
def test_what_it_cannot_do_is_said(deep: tuple[Any, Backbone]) -> None:
    backbone = deep[1]
    with pytest.raises(ValueError, match=r"encodes whole clips and got 8 frames per clip; expected 4: --frames 4"):
        backbone.features(clips(1, frames=8))
    with pytest.raises(ValueError, match=r"encodes whole clips, and single frames are asked for; choose an image"):
        backbone.encode_images(clips(1)[0])
    for name in ("aim", "task-adapter", "ma-fsar"):
        with pytest.raises(ValueError, match=r"backbone 'video@.*' has n|reads class names, but backbone 'video@"):
            build_method(name, backbone)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vjepa2"], indirect=True)
def test_v_jepa_takes_any_whole_number_of_tubelets(deep: tuple[Any, Backbone]) -> None:
    backbone = deep[1]
    assert backbone.features(clips(1, frames=6)).shape == (1, 3, 24)
    with pytest.raises(ValueError, match="got 5 frames per clip; expected a multiple of 2, as 4"):
        backbone.features(clips(1, frames=5))


@pytest.mark.parametrize("kind", ["timesformer"], indirect=True)
def test_a_recogniser_takes_as_many_frames_as_it_needs(deep: tuple[Any, Backbone]) -> None:
    recognizer = Recognizer(deep[1])
    assert recognizer.cache.frames == 4
    with pytest.raises(ValueError, match="got 8 frames per clip; expected 4"):
        Recognizer(deep[1], cache=FrameCache(frames=8)).enroll("wave", torch.zeros(10, 48, 48, 3).byte().numpy())


# --------------------------------------------------------------------------- folders and the hub


def test_the_hub_is_asked_for_weights_and_settings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = written(tmp_path, videomae(1)), []

    def snapshot(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load_backbone("video/org/name").name == "video/org/name"
    ((repository, patterns),) = asked
    assert repository == "org/name" and not any("bin" in pattern or pattern == "*" for pattern in patterns)


def test_a_hub_that_cannot_be_reached_is_told_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(repository: str, allow_patterns: list[str]) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ValueError, match=r"could not get video/org/name: no network.*give video@FOLDER"):
        load_backbone("video/org/name")
    with pytest.raises(ValueError, match=r"cannot read backbone 'video/name': expected video/ORG/NAME"):
        load_backbone("video/name")


def test_broken_folders_are_named(tmp_path: Path) -> None:
    def complains(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            load_backbone(f"video@{tmp_path}")

    complains("has no config.json; expected a folder as transformers' save_pretrained")
    written(tmp_path, videomae(1))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    complains("lacks image_mean and image_std")
    (tmp_path / "preprocessor_config.json").unlink()
    complains("has no preprocessor_config.json")
    written(tmp_path, videomae(1))
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace('"videomae"', '"videomea"'))
    complains("unknown model_type 'videomea'; did you mean 'videomae'")
    written(tmp_path, videomae(1))
    deeper = json.loads((tmp_path / "config.json").read_text()) | {"num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(deeper))
    complains(r"weights are missing in .*\(encoder\.layer\.1")
    (tmp_path / "model.safetensors").unlink()
    complains("cannot load the weights")
    written(tmp_path, videomae(1))
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "encoder.modality": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    complains(r"1 weights more than VideoMAEModel \(encoder.modality\), so it is another one, such as V-JEPA 2.1")
