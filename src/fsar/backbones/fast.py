"""Image encoders on CPUs through OpenVINO: several times as fast as eager PyTorch, equal to about 1e-5.

OpenVINO is the extra `fast` (`pip install 'fsar[fast]'`). A recogniser that loads its backbone by name uses
OpenVINO if it is installed. Training and evaluation do not: training needs gradients, and evaluation must not depend on
the installed packages.

The model is converted once and kept in the cache folder, named by its weights. All batches have one size, because each
new size would be compiled again: the frames of a clip. Larger batches are not faster (lite0 on one thread, milliseconds
per frame with batches of 1, 8, 16 and 32: 14, 16, 15, 15), so clips do not share them.

Only float32 is offered. A processor without bfloat16 gains nothing from it, and int8 would need the package nncf and
clips to calibrate on.
"""

import importlib.util
import warnings
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from fsar.backbones.base import Backbone, ImageEncoding
from fsar.files import atomic_path, cache_dir

BATCH = 8
"""Number of images in a batch: the frames of a clip."""
_ONE_AT_A_TIME = Lock()


def is_installed() -> bool:
    """Tell whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def speed_up(backbone: Backbone) -> None:
    """Let a backbone encode frames with OpenVINO if no gradient is needed and the frames are on a CPU.

    Nothing changes for an encoder of whole clips, or one that another program runs (ONNX).

    Args:
        backbone: its weights must not change later.
    """
    if backbone.clip_frames is None and any(True for _ in backbone.parameters()):
        backbone.fast = OpenVinoEncoder(backbone)


class OpenVinoEncoder:
    """Encodes images like a backbone; compiled at the first call.

    Args:
        backbone: must be on the CPU at the first call.
    """

    def __init__(self, backbone: Backbone):
        self._backbone = [backbone]  # hidden from nn.Module, which would register the owner as a submodule
        self._compiled: Any = None
        self._lock = Lock()

    def __call__(self, images: Tensor) -> ImageEncoding:
        """Encode [image, rgb, height, width]."""
        with self._lock:
            if self._compiled is None:
                self._compiled = _compile(self._backbone[0])
            if not self._compiled:
                return self._backbone[0].encode_images(images)
            parts = [self._encode(chunk) for chunk in images.split(BATCH)]
        return ImageEncoding(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _encode(self, images: Tensor) -> list[Tensor]:
        """Encode at most one batch; it is filled up with zeros."""
        batch = images.new_zeros(BATCH, *images.shape[1:])
        batch[: len(images)] = images
        made = self._compiled([batch.numpy()])
        return [torch.from_numpy(made[i].copy())[: len(images)] for i in range(2)]


class _Images(nn.Module):
    """A backbone's image encoder as a module."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encoding = self.backbone.encode_images(images)
        return encoding.features, encoding.map


def core() -> Any:
    """Give OpenVINO's core, one for the whole process.

    Each core sets a stack for signals, and at its end sets the one before it. If two cores end in the order in which
    they were made, that one is gone already, and Ctrl-C crashes.
    """
    with _ONE_AT_A_TIME:
        return _core()


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _compile(backbone: Backbone) -> Any:
    """Load the converted model, or convert it, and compile it for this CPU; False if OpenVINO cannot take it."""
    import openvino

    path = cache_dir() / "openvino" / f"{backbone.fingerprint()}-{BATCH}-{openvino.__version__[:6]}.xml"
    if not path.is_file():
        try:
            _convert(backbone, path)
        except OSError:  # for example, a full disk
            raise
        except Exception as error:
            warnings.warn(f"{backbone.name} runs without OpenVINO, which cannot convert it: {error}", stacklevel=2)
            return False
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    return core().compile_model(core().read_model(path), "CPU", settings)


@torch.no_grad()
def _convert(backbone: Backbone, path: Path) -> None:
    """Write a backbone as OpenVINO's two files; the second one, with the weights, comes first."""
    import openvino

    size = backbone.image_size
    exported = torch.export.export(_Images(backbone).eval(), (torch.zeros(BATCH, 3, size, size),))
    model = openvino.convert_model(exported)
    with atomic_path(path) as temporary:
        openvino.save_model(model, temporary, compress_to_fp16=False)
        temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))
