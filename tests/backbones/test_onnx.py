"""ONNX encoders: written here as small graphs, run by onnxruntime and by OpenVINO, and what is said of broken ones."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from fsar.backbones import Backbone, fast, load_backbone
from fsar.methods import build_method

onnx = pytest.importorskip("onnx", reason="the package onnx, which writes these files, is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

LOOK = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
NAMES = {"features": "pooled", "map": "cells"}


def written(file: Path, shape: list[Any], settings: dict[str, Any], steps: bool = False) -> str:
    """An encoder that averages: cells of 4 x 4 pixels (of images), and their mean; of clips, over all frames or not."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    if len(shape) == 4:
        nodes = [
            helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("ReduceMean", ["cells"], ["pooled"], axes=[2, 3], keepdims=0),
        ]
        outputs = {"cells": [shape[0], 3, None, None], "pooled": [shape[0], 3]}
    else:
        axes = [3, 4] if steps else [1, 3, 4]
        nodes = [helper.make_node("ReduceMean", ["images"], ["pooled"], axes=axes, keepdims=0)]
        outputs = {"pooled": [shape[0], *([shape[1]] if steps else []), 3]}
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(name, kind, axes) for name, axes in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, file)
    file.with_suffix(".yaml").write_text(yaml.safe_dump(settings))
    return f"onnx/{file}"


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="the extra `fast` is not installed")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)


def images(*leading: int) -> Tensor:
    return torch.randn(*leading, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("batch", [None, 2])
def test_images(batch: int | None, tmp_path: Path) -> None:
    """With batches of any size, or of the one that the file fixes."""
    backbone = load_backbone(written(tmp_path / "net.onnx", [batch, 3, 8, 8], LOOK | NAMES))
    assert (backbone.dim, backbone.image_size, backbone.clip_frames, backbone.has_text) == (3, 8, None, False)
    assert (tuple(backbone.mean), tuple(backbone.std), backbone.interpolation) == ((0.5,) * 3, (0.25,) * 3, "bicubic")
    clips = images(1, 5)
    features, places = backbone.features_and_map(clips)
    cells = torch.nn.functional.avg_pool2d(clips[0], 4)
    torch.testing.assert_close(places[0], cells.permute(0, 2, 3, 1))
    torch.testing.assert_close(features[0], clips[0].mean((-2, -1)))
    torch.testing.assert_close(backbone.features(clips), features)


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("steps", [False, True])
def test_clips(steps: bool, tmp_path: Path) -> None:
    backbone = load_backbone(written(tmp_path / "net.onnx", [None, 4, 3, 8, 8], LOOK, steps))
    assert (backbone.clip_frames, backbone.dim, backbone.image_size) == (4, 3, 8)
    clips = images(2, 4)
    expected = clips.mean((-2, -1)) if steps else clips.mean((1, -2, -1))[:, None]
    torch.testing.assert_close(backbone.features(clips), expected)
    with pytest.raises(ValueError, match="got 5 frames per clip; expected 4"):
        backbone.features(images(1, 5))
    with pytest.raises(ValueError, match="gives features and no map; name an output as `map`"):
        backbone.features_and_map(clips)


def test_methods_run_on_it_and_copies_share_the_model(tmp_path: Path) -> None:
    backbone = load_backbone(written(tmp_path / "net.onnx", [None, 3, 8, 8], LOOK | NAMES))
    fast.speed_up(backbone)
    assert backbone.fast is None  # it is not PyTorch's
    for name in ("protonet", "ridge", "place-motion"):
        method = copy.deepcopy(build_method(name, backbone))
        assert method.match(method.encode_episode(images(1, 2, 1, 4), images(1, 3, 4))).logits.isfinite().all()


def test_the_fingerprint_is_that_of_the_file(tmp_path: Path) -> None:
    one, same, other = (
        load_backbone(written(tmp_path / f"{i}.onnx", shape, LOOK | {"features": "pooled"}))
        for i, shape in enumerate(([None, 3, 8, 8], [None, 3, 8, 8], [2, 3, 8, 8]))
    )
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


def test_sizes_that_the_file_leaves_open_come_from_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    assert load_backbone(written(file, [None, 3, None, None], LOOK | NAMES | {"image_size": 12})).image_size == 12
    clip: Backbone = load_backbone(written(file, [None, None, 3, 8, 8], LOOK | {"frames": 6}))
    assert clip.clip_frames == 6


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ([None, 3, 8, 8], {"mean": [0.5] * 3}, "setting 'std' is missing"),
        ([None, 3, 8, 8], LOOK | {"men": 1}, "unknown setting 'men'; did you mean 'mean'"),
        ([None, 3, 8, 8], LOOK | {"map": "cell"}, "`map` names the output 'cell'; the model has cells, pooled"),
        ([None, 3, 8, 8], LOOK | {"image_size": 12}, "takes image_size 8, and its YAML file says 12"),
        ([None, 3, None, None], LOOK, "leaves image_size open; give `image_size:`"),
        ([None, None, 3, 8, 8], LOOK, "leaves frames open; give `frames:`"),
    ],
)
def test_settings_that_do_not_fit_are_named(shape: list[Any], settings: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(written(tmp_path / "net.onnx", shape, settings))


def test_missing_and_broken_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net.onnx"
    with pytest.raises(ValueError, match=r"net\.onnx: no such model"):
        load_backbone(f"onnx/{file}")
    file.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"net\.yaml: expected mean and std"):
        load_backbone(f"onnx/{file}")
    file.with_suffix(".yaml").write_text(yaml.safe_dump(LOOK))
    with pytest.raises(ValueError, match="onnxruntime cannot read it"):
        load_backbone(f"onnx/{file}")
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"needs onnxruntime \(or openvino\): pip install 'fsar\[onnx\]'"):
        load_backbone(f"onnx/{file}")
