"""Base class of the backbones: clip -> frame features and feature map; text -> features."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fsar.own import Origin
from fsar.shapes import Clips, FeatureMap, FrameFeatures, TextFeatures


class ImageEncoding(NamedTuple):
    """Output of an image encoder for a batch of images."""

    features: Float[Tensor, "image dim"]
    """Pooled, not normalised."""
    map: Float[Tensor, "image row column channel"]
    """Features of the cells of the image."""


class Backbone(nn.Module):
    """An image encoder, with or without a text encoder, applied frame by frame.

    A subclass sets the attributes and defines `encode_images` and, if it has a text tower, `text_features` and
    `logit_scale`.

    Args:
        name: as given to `load_backbone`.
        freeze_batch_norm: BatchNorm layers stay in evaluation mode in training, so their statistics do not change.
    """

    name: str
    """As given to `load_backbone`."""
    dim: int
    """Channels of a frame feature."""
    image_size: int
    """Height and width of its input, in pixels."""
    mean: Sequence[float]
    """Mean of its training pixels in [0, 1], per colour."""
    std: Sequence[float]
    """Standard deviation of its training pixels, per colour."""
    interpolation: str = "bicubic"
    has_text: bool = False
    clip_frames: int | None = None
    """Frames of a clip, if it encodes whole clips; None if it encodes frame by frame."""

    def __init__(self, name: str, freeze_batch_norm: bool = True):
        super().__init__()
        self.name = name
        self.freeze_batch_norm = freeze_batch_norm
        self.origin: Origin | None = None
        """Where its code comes from, if it is not of this package."""
        self.checkpointing = False
        """Whether the backward pass computes each block again, instead of keeping its activations."""
        self.fast: Callable[[Tensor], ImageEncoding] | None = None
        """Encodes images instead of `encode_images` where no gradient is needed (`fsar.backbones.fast`)."""

    def checkpoint_activations(self) -> None:
        """Save memory in training: compute the activations inside a block again instead of keeping them."""
        self.checkpointing = True

    def encode_images(self, images: Float[Tensor, "image rgb=3 height width"]) -> ImageEncoding:
        """Encode normalised images to pooled features and a feature map, in one pass."""
        raise NotImplementedError

    @property
    def map_dim(self) -> int:
        """Channels of the feature map; `dim` unless a subclass says otherwise."""
        return self.dim

    @property
    def logit_scale(self) -> Tensor:
        """Scale of image-text cosines from the training of the two towers; frozen here.

        Raises:
            ValueError: the backbone has no text tower.
        """
        raise ValueError(f"backbone {self.name!r} has no text encoder, so it has no scale of image-text cosines")

    def text_features(self, texts: list[str]) -> TextFeatures:
        """Encode sentences to features [text, dim], not normalised.

        Args:
            texts: sentences.

        Raises:
            ValueError: the backbone has no text tower.
        """
        raise ValueError(
            f"backbone {self.name!r} has no text encoder; use a CLIP backbone "
            f"(tiny, ViT-B-32/openai, ViT-B-16/openai, RN50/openai) for methods that read class names"
        )

    def features(self, clips: Clips) -> FrameFeatures:
        """Encode every frame: [*clips, frame, rgb, height, width] -> [*clips, frame, dim]."""
        return self._encode(clips.flatten(0, -4)).features.unflatten(0, clips.shape[:-3])

    def features_and_map(self, clips: Clips) -> tuple[FrameFeatures, FeatureMap]:
        """Encode every frame to its feature and its feature map [*clips, frame, row, column, channel]."""
        encoding = self._encode(clips.flatten(0, -4))
        return tuple(part.unflatten(0, clips.shape[:-3]) for part in encoding)

    def _encode(self, images: Tensor) -> ImageEncoding:
        halved = torch.is_autocast_enabled(images.device.type) and not torch.is_grad_enabled()
        if halved and layout_on(images.device, "bf16") == "channels-last":
            images = images.contiguous(memory_format=torch.channels_last)
        if self.fast is None or torch.is_grad_enabled() or images.device.type != "cpu":
            return self.encode_images(images)
        return self.fast(images)

    def fingerprint(self) -> str:
        """Hash the weights: two backbones with the same hash give the same features."""
        return fingerprint(self)

    def train(self, mode: bool = True) -> "Backbone":
        """Switch training mode; BatchNorm layers stay in evaluation mode if they are frozen."""
        super().train(mode)
        if mode and self.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def layout_on(device: torch.device, precision: str) -> str:
    """Return how images lie in memory while they are encoded; another layout may change the last digits.

    Args:
        device: that encodes.
        precision: of the arithmetic.

    Returns:
        `channels-last` on a GPU in bf16, whose convolutions are made for it; else `contiguous`.

    Example:
        >>> layout_on(torch.device("cpu"), "bf16")
        'contiguous'
    """
    return "channels-last" if device.type == "cuda" and precision == "bf16" else "contiguous"


def fingerprint(module: nn.Module) -> str:
    """Hash a module's weights.

    Args:
        module: parameters and buffers count.

    Returns:
        16 hexadecimal digits over sorted names, shapes and values.
    """
    return fingerprint_of(module.state_dict())


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """Hash named tensors.

    Args:
        state: as `state_dict` gives it.

    Returns:
        16 hexadecimal digits over sorted names, shapes and values.

    Example:
        >>> fingerprint_of({"weight": torch.zeros(2)}) == fingerprint_of({"weight": torch.zeros(1, 2)})
        False
    """
    digest = blake2b(digest_size=8)
    for key, tensor in sorted(state.items()):
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        # a view as bytes, since NumPy lacks bfloat16
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def split_size(name: str) -> tuple[str, int | None]:
    """Split `NAME:SIZE`, whose end is an image size in pixels.

    Args:
        name: of a backbone, with or without a size.

    Returns:
        The name, and the size; None if there is none.

    Example:
        >>> split_size("timm/vit_small_patch14_dinov2@dino.safetensors:224"), split_size("hf-hub:org/name")
        (('timm/vit_small_patch14_dinov2@dino.safetensors', 224), ('hf-hub:org/name', None))
    """
    whole, colon, size = name.rpartition(":")
    return (whole, int(size)) if colon and size.isdecimal() and int(size) > 0 else (name, None)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a weights file.

    Args:
        path: a .safetensors file; other formats are refused, since a pickle can run code.

    Returns:
        Tensors by name.

    Raises:
        ValueError: no such file, another format, or a broken one.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path}: weights must be a .safetensors file, since a pickle can run code; convert it with "
            f"safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True), 'new.safetensors')"
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or cut short ({error}); copy it again") from error


def load_strictly(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict whose names and shapes must all fit.

    Args:
        module: takes the values.
        state: tensors by name.
        source: where they come from, for the message.

    Raises:
        ValueError: missing or unexpected keys, or other shapes; the message names the first three of each.
    """
    own = module.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape),
    }
    found = [f"{len(keys)} {what} ({', '.join(keys[:3])})" for what, keys in problems.items() if keys]
    if found:
        raise ValueError(f"{source} does not fit {type(module).__name__}: {'; '.join(found)}. Is it another model's?")
    module.load_state_dict(state)
