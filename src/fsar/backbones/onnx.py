"""Encoders as ONNX files: `onnx/FILE.onnx`, run by onnxruntime or, if that is missing, by OpenVINO, on the CPU.

The input is images [image, rgb, height, width], or clips [clip, frame, rgb, height, width]. The outputs are features
[image, dim] or [clip, step, dim] (or [clip, dim], one time step) and, optionally, maps with rows and columns. What ONNX
cannot say stands in `FILE.yaml` beside the file:

    mean: [0.485, 0.456, 0.406]   # of pixels in [0, 1], per colour
    std: [0.229, 0.224, 0.225]
    interpolation: bicubic        # for resizing frames; or bilinear
    image_size: 224               # if the file leaves it open
    frames: 16                    # of a clip, if the file leaves it open
    features: pooled              # name of the output; by default the first one
    map: last_stage               # name of the output; by default there is none
    map_channels: first           # [..., channel, row, column]; or last
"""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from fsar.backbones import fast
from fsar.backbones.base import Backbone, ImageEncoding
from fsar.backbones.video import ClipEncoding, Layout, Look, VideoBackbone
from fsar.config import Settings, parse_settings
from fsar.shapes import Clips, FeatureMap, FrameFeatures

PREFIX = "onnx/"


@dataclass(frozen=True, kw_only=True)
class OnnxSettings(Settings):
    """Content of the YAML file."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    image_size: int | None = None
    frames: int | None = None
    features: str | None = None
    map: str | None = None
    map_channels: Literal["first", "last"] = "first"


class Session:
    """A model that onnxruntime or OpenVINO runs; several threads may use it.

    Args:
        file: of the model.

    Raises:
        ValueError: neither package is installed, or the file is no model.
    """

    def __init__(self, file: Path):
        self.file = file
        self._lock = Lock()
        try:
            import onnxruntime
        except ImportError:
            self._open_openvino()
            return
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(str(self.file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            raise ValueError(f"{self.file}: onnxruntime cannot read it: {error}") from error
        self.inputs = [(part.name, part.shape) for part in session.get_inputs()]
        self.outputs = [part.name for part in session.get_outputs()]
        self._run: Any = lambda array: session.run(self.outputs, {self.inputs[0][0]: array})

    def _open_openvino(self) -> None:
        if not fast.is_installed():
            raise ValueError(f"{self.file} needs onnxruntime (or openvino): pip install 'fsar[onnx]'")
        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
        try:
            model = fast.core().compile_model(self.file, "CPU", settings)
        except RuntimeError as error:
            raise ValueError(f"{self.file}: OpenVINO cannot read it: {error}") from error
        shapes = [
            [axis.get_length() if axis.is_static else None for axis in part.partial_shape] for part in model.inputs
        ]
        self.inputs = [(part.any_name, shape) for part, shape in zip(model.inputs, shapes, strict=True)]
        self.outputs = [part.any_name for part in model.outputs]
        self._run = lambda array: [found.copy() for found in model([array]).values()]

    def __deepcopy__(self, memo: object) -> "Session":
        return self

    def run(self, inputs: Tensor) -> dict[str, Tensor]:
        """Run the model on a batch; if its batch has a fixed size, on as many batches as it takes.

        Args:
            inputs: images or clips.

        Returns:
            The outputs by name.
        """
        fixed = self.inputs[0][1][0]
        size = fixed if isinstance(fixed, int) else len(inputs)
        parts = [self._run_one(chunk, size) for chunk in inputs.detach().cpu().float().split(size)]
        joined = (np.concatenate(values) for values in zip(*parts, strict=True))
        return {name: torch.from_numpy(value).float() for name, value in zip(self.outputs, joined, strict=True)}

    def _run_one(self, chunk: Tensor, size: int) -> list[np.ndarray]:
        batch = chunk.new_zeros(size, *chunk.shape[1:])
        batch[: len(chunk)] = chunk
        with self._lock:
            made = self._run(batch.numpy())
        return [value[: len(chunk)] for value in made]


class _Outputs:
    """Features and maps of a model, by the names that its settings give."""

    def __init__(self, session: Session, settings: OnnxSettings):
        self.session, self.settings = session, settings
        for key, name in (("features", settings.features), ("map", settings.map)):
            if name is not None and name not in session.outputs:
                raise ValueError(
                    f"{session.file}: `{key}` names the output {name!r}; the model has {', '.join(session.outputs)}"
                )

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run the model: features, and maps with channels last."""
        made = self.session.run(inputs)
        features = made[self.settings.features or self.session.outputs[0]].to(inputs.device)
        if self.settings.map is None:
            return features, None
        places = made[self.settings.map].to(inputs.device)
        return features, places.movedim(-3, -1) if self.settings.map_channels == "first" else places


def _fingerprint(file: Path) -> str:
    return blake2b(file.read_bytes(), digest_size=8).hexdigest()


class OnnxBackbone(Backbone):
    """An image encoder as ONNX. It has no parameters, so it does not train.

    Args:
        name: as given to `load_backbone`.
        outputs: of the model.
        image_size: of its input.
        dim: of its features.
    """

    def __init__(self, name: str, outputs: _Outputs, image_size: int, dim: int):
        super().__init__(name)
        settings = outputs.settings
        self.outputs, self.image_size, self.dim = outputs, image_size, dim
        self.mean, self.std, self.interpolation = settings.mean, settings.std, settings.interpolation
        self.register_buffer("place", torch.empty(0), persistent=False)  # says on which device results are

    def encode_images(self, images: Tensor) -> ImageEncoding:
        """Encode images; a model without a map gives maps without cells."""
        features, places = self.outputs(images)
        return ImageEncoding(features, features.new_empty(len(images), 0, 0, 0) if places is None else places)

    def features_and_map(self, clips: Clips) -> tuple[FrameFeatures, FeatureMap]:
        """Encode every frame to its feature and its map.

        Raises:
            ValueError: the model has no map.
        """
        _require_map(self.outputs)
        return super().features_and_map(clips)

    def fingerprint(self) -> str:
        """Hash the file."""
        return _fingerprint(self.outputs.session.file)


class OnnxVideoBackbone(VideoBackbone):
    """An encoder of clips as ONNX. It has no parameters, so it does not train.

    Args:
        name: as given to `load_backbone`.
        outputs: of the model.
        layout: frames and time steps.
        dim: of its features.
    """

    def __init__(self, name: str, outputs: _Outputs, layout: Layout, dim: int):
        settings = outputs.settings
        super().__init__(name, nn.Identity(), layout, Look(settings.mean, settings.std, settings.interpolation))
        self.outputs, self.dim = outputs, dim
        self.register_buffer("place", torch.empty(0), persistent=False)

    def encode_clips(self, clips: Tensor) -> ClipEncoding:
        """Encode clips; a model without a map gives maps without cells."""
        features, places = self.outputs(clips)
        features = features[:, None] if features.ndim == 2 else features
        if places is not None and places.ndim == 4:
            places = places[:, None]
        return ClipEncoding(features, features.new_empty(*features.shape[:2], 0, 0, 0) if places is None else places)

    def features_and_map(self, clips: Clips) -> tuple[Tensor, Tensor]:
        """Encode clips to the features and maps of their time steps.

        Raises:
            ValueError: the model has no map.
        """
        _require_map(self.outputs)
        return super().features_and_map(clips)

    def fingerprint(self) -> str:
        """Hash the file."""
        return _fingerprint(self.outputs.session.file)


def _require_map(outputs: _Outputs) -> None:
    if outputs.settings.map is None:
        raise ValueError(
            f"{outputs.session.file} gives features and no map; name an output as `map` in its YAML file, or choose a "
            f"method that starts from frame features (protonet, otam, ridge, ...)"
        )


def load_onnx(name: str) -> Backbone:
    """Build an encoder by `onnx/FILE.onnx`, with its settings in `FILE.yaml`.

    Args:
        name: see above.

    Raises:
        ValueError: a file is missing or broken, a setting does not fit, or onnxruntime and OpenVINO are
            both missing.
    """
    file = Path(name.removeprefix(PREFIX))
    beside = file.with_suffix(".yaml")
    for needed, what in ((file, "no such model"), (beside, "expected mean and std of the pixels in this file")):
        if not needed.is_file():
            raise ValueError(f"{needed}: {what}")
    try:
        stored = yaml.safe_load(beside.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{beside}: not YAML: {error}") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{beside}: expected `mean:` and `std:`, got {stored!r}")
    settings = parse_settings(OnnxSettings, stored, str(beside), "setting")
    session = Session(file)
    outputs = _Outputs(session, settings)
    shape = list(session.inputs[0][1])
    if len(session.inputs) != 1 or len(shape) not in (4, 5):
        raise ValueError(
            f"{file} has inputs {session.inputs}; expected one, [image, 3, height, width] or "
            f"[clip, frame, 3, height, width]"
        )
    size = _known(file, "image_size", shape[-1], settings.image_size)
    if len(shape) == 4:
        features, _ = outputs(torch.zeros(1, 3, size, size))
        return OnnxBackbone(name, outputs, size, features.shape[-1]).eval()
    frames = _known(file, "frames", shape[1], settings.frames)
    features, _ = outputs(torch.zeros(1, frames, 3, size, size))
    steps = features.shape[1] if features.ndim == 3 else 1
    return OnnxVideoBackbone(name, outputs, Layout(frames, frames // steps, size, size), features.shape[-1]).eval()


def _known(file: Path, key: str, of_model: object, given: int | None) -> int:
    """Return a size that the model or its settings fix."""
    if isinstance(of_model, int) and given not in (None, of_model):
        raise ValueError(f"{file} takes {key} {of_model}, and its YAML file says {given}; leave `{key}` out")
    known = of_model if isinstance(of_model, int) else given
    if known is None:
        raise ValueError(f"{file} leaves {key} open; give `{key}:` in its YAML file")
    return known
