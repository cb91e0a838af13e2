"""CLIP backbones through open_clip: named tags, hub ids, local files; and `tiny`, which is built in."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from safetensors.torch import load, load_file
from torch import Tensor

from fsar.backbones.base import Backbone, ImageEncoding, load_strictly
from fsar.names import unknown
from fsar.shapes import TextFeatures

TINY_CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 6, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 8192, "width": 128, "heads": 4, "layers": 3},
}


class ClipBackbone(Backbone):
    """Both towers of a CLIP. Frame features are the un-normalised image embedding.

    The feature map is the last block's patch tokens after `ln_post` (ViT) or the last stage before the
    attention pool (ResNet).
    """

    has_text = True

    def __init__(
        self,
        name: str,
        clip: open_clip.CLIP,
        tokenize: Callable[[list[str]], Tensor],
        mean: tuple[float, float, float] = OPENAI_DATASET_MEAN,
        std: tuple[float, float, float] = OPENAI_DATASET_STD,
        freeze_batch_norm: bool = True,
    ):
        super().__init__(name, freeze_batch_norm)
        if not isinstance(getattr(clip, "visual", None), VisionTransformer | ModifiedResNet):
            raise ValueError(f"{name}: only CLIP models with a ViT or ResNet image tower are supported")
        self.clip = clip
        self.tokenize = tokenize
        self.mean, self.std = tuple(mean), tuple(std)
        size = clip.visual.image_size
        self.image_size = size[0] if isinstance(size, tuple) else size
        self.dim = clip.visual.output_dim

    def encode_images(self, images: Tensor) -> ImageEncoding:
        visual = self.clip.visual
        if isinstance(visual, VisionTransformer):
            tokens = visual.ln_post(visual.transformer(visual._embeds(images)))  # token 0 is the class token
            return ImageEncoding(tokens[:, 0] @ visual.proj, tokens[:, 1:].unflatten(1, visual.grid_size))
        for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            images = stage(images)
        return ImageEncoding(visual.attnpool(images), images.permute(0, 2, 3, 1))

    def text_features(self, texts: list[str]) -> TextFeatures:
        tokens = self.tokenize(texts).to(self.clip.positional_embedding.device)
        return self.clip.encode_text(tokens)


def load_open_clip(name: str, weights: str | None, freeze_batch_norm: bool = True) -> ClipBackbone:
    """Build an open_clip model by `model/tag`, `model/random`, `hf-hub:org/name`, or model and local file.

    OpenAI weights need QuickGELU: tag `openai` switches it on; with a local file of OpenAI weights name
    the model `ViT-B-16-quickgelu` and so on.

    Raises:
        ValueError: no such model or tag, or a weights file that is missing, unsafe or of another model.
    """
    if name.startswith("hf-hub:"):
        model = _create(name, None)
        return _wrap(name, name, model, freeze_batch_norm)
    model_name, _, tag = name.partition("/")
    if model_name not in open_clip.list_models():
        raise ValueError(unknown(model_name, open_clip.list_models(), "CLIP model"))
    if weights is not None:
        if tag:
            raise ValueError(f"{name}@{weights} names both a tag and a file; give one of them")
        model = _create(model_name, None)
        load_strictly(model, _read_safetensors(Path(weights)), weights)
    elif tag == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _create(model_name, None)
    elif tag:
        tags = open_clip.list_pretrained_tags_by_model(model_name)
        if tag not in tags:
            raise ValueError(unknown(tag, [*tags, "random"], f"weights tag of {model_name}"))
        model = _create(model_name, tag)
    else:
        raise ValueError(
            f"{name!r} names no weights; say {name}/openai (downloads), {name}@FILE.safetensors, or "
            f"{name}/random for untrained weights"
        )
    return _wrap(name, model_name, model, freeze_batch_norm)


def load_tiny(freeze_batch_norm: bool = True) -> ClipBackbone:
    """Build the two-tower CLIP of the package, trained on the generated world's train classes.

    Its weights are stored in half precision and computed in float32 (scripts/train_tiny.py).
    """
    model = open_clip.CLIP(**TINY_CONFIG)
    content = (resources.files("fsar") / "weights" / "tiny.safetensors").read_bytes()
    load_strictly(model, {key: value.float() for key, value in load(content).items()}, "tiny.safetensors")
    return ClipBackbone("tiny", model.eval(), tiny_tokenize, freeze_batch_norm=freeze_batch_norm)


_TOKENIZER: list[open_clip.SimpleTokenizer] = []


def tiny_tokenize(texts: list[str]) -> Tensor:
    """CLIP's BPE tokens folded into tiny's smaller vocabulary; start and end keep the two highest ids."""
    if not _TOKENIZER:
        _TOKENIZER.append(open_clip.get_tokenizer("ViT-B-32"))
    tokens = _TOKENIZER[0](texts)
    start, end = _TOKENIZER[0].sot_token_id, _TOKENIZER[0].eot_token_id
    vocabulary = TINY_CONFIG["text_cfg"]["vocab_size"]
    folded = tokens % (vocabulary - 2)
    folded[tokens == start], folded[tokens == end] = vocabulary - 2, vocabulary - 1
    return folded


def _create(model_name: str, tag: str | None) -> open_clip.CLIP:
    try:
        return open_clip.create_model(model_name, pretrained=tag, force_quick_gelu=tag == "openai").eval()
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"could not get the weights of {model_name}{f'/{tag}' if tag else ''}: {error}. They come from the "
            f"Hugging Face hub; without a network, download them elsewhere and give {model_name}@FILE.safetensors"
        ) from error


def _wrap(name: str, model_name: str, model: open_clip.CLIP, freeze_batch_norm: bool) -> ClipBackbone:
    preprocess = getattr(model.visual, "preprocess_cfg", {})
    return ClipBackbone(
        name,
        model,
        open_clip.get_tokenizer(model_name),
        preprocess.get("mean", OPENAI_DATASET_MEAN),
        preprocess.get("std", OPENAI_DATASET_STD),
        freeze_batch_norm,
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path}: weights must be a .safetensors file, since a pickle can run code; convert it with "
            f"safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True), 'weights.safetensors')"
        )
    return load_file(path)
