"""CLIP backbones through open_clip: named tags, hub ids, local files; and `tiny`, which is in the package."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from safetensors.torch import load
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fsar.backbones.base import Backbone, ImageEncoding, load_strictly, read_safetensors, split_size
from fsar.names import unknown
from fsar.shapes import TextFeatures

TINY_VOCABULARY = 8192
TINY_CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 6, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": TINY_VOCABULARY, "width": 128, "heads": 4, "layers": 3},
}


class ClipBackbone(Backbone):
    """Both towers of a CLIP. Frame features are the image embedding, not normalised.

    The feature map is the last block's patch tokens after `ln_post` (ViT), or the last stage before the
    attention pool (ResNet).

    Args:
        name: as given to `load_backbone`.
        clip: the model.
        tokenize: sentences -> token ids.
        mean: of the pixels it was trained on.
        std: of the pixels it was trained on.
        interpolation: for resizing frames.
        freeze_batch_norm: keep the statistics of BatchNorm layers in training, too.

    Raises:
        ValueError: the image tower is neither a ViT nor a ResNet of CLIP's own kind.
    """

    has_text = True

    def __init__(
        self,
        name: str,
        clip: open_clip.CLIP | open_clip.CustomTextCLIP,
        tokenize: Callable[[list[str]], Tensor],
        mean: Sequence[float] = OPENAI_DATASET_MEAN,
        std: Sequence[float] = OPENAI_DATASET_STD,
        interpolation: str = "bicubic",
        freeze_batch_norm: bool = True,
    ):
        super().__init__(name, freeze_batch_norm)
        visual = getattr(clip, "visual", None)
        if not isinstance(visual, VisionTransformer | ModifiedResNet) or getattr(visual, "attn_pool", None):
            raise ValueError(f"{name}: only CLIP models with a ViT or ResNet image tower are supported")
        self.clip = clip
        self.tokenize = tokenize
        self.mean, self.std, self.interpolation = mean, std, interpolation
        size = clip.visual.image_size
        self.image_size = size[0] if isinstance(size, tuple) else size
        self.dim = clip.visual.output_dim

    def encode_images(self, images: Tensor) -> ImageEncoding:
        """Encode images to CLIP's image embedding and the feature map of the last block or stage."""
        visual = self.clip.visual
        if isinstance(visual, VisionTransformer):
            pooled, patches = visual._pool(visual.transformer(visual._embeds(images)))
            return ImageEncoding(pooled @ visual.proj, patches.unflatten(1, visual.grid_size))
        for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            images = checkpoint(stage, images, use_reentrant=False) if self.checkpointing else stage(images)
        return ImageEncoding(visual.attnpool(images), images.permute(0, 2, 3, 1))

    def checkpoint_activations(self) -> None:
        """Save memory in training: compute the activations inside a block or stage again instead of keeping them."""
        super().checkpoint_activations()
        if isinstance(self.clip.visual, VisionTransformer):
            self.clip.visual.set_grad_checkpointing(True)

    @property
    def map_dim(self) -> int:
        """Channels before the projection (ViT) or before the attention pool (ResNet)."""
        visual = self.clip.visual
        if isinstance(visual, VisionTransformer):
            return int(visual.ln_post.normalized_shape[0])
        return int(visual.attnpool.positional_embedding.shape[-1])

    @property
    def logit_scale(self) -> Tensor:
        """CLIP's learned scale of cosines, limited to 100 as in its training; 100 in the released weights."""
        return self.clip.logit_scale.detach().exp().clamp(max=100)

    def text_features(self, texts: list[str]) -> TextFeatures:
        """Encode sentences to CLIP's text embedding."""
        tokens = self.tokenize(texts).to(self.clip.logit_scale.device)
        return self.clip.encode_text(tokens)


def load_open_clip(name: str, freeze_batch_norm: bool = True) -> ClipBackbone:
    """Build an open_clip model by `MODEL/TAG`, `MODEL/random`, `MODEL@FILE` or `hf-hub:ORG/NAME`.

    `:SIZE` behind any of them is the image size, as in `ViT-B-16/openai:336`; position embeddings are resampled.

    OpenAI weights need QuickGELU. The tag `openai` switches it on; for a local file of OpenAI weights, name
    the model `ViT-B-16-quickgelu` and so on.

    Args:
        name: see above.
        freeze_batch_norm: keep the statistics of BatchNorm layers in training, too.

    Raises:
        ValueError: no such model or tag; a weights file that is missing, unsafe or of another model; or an image size
            that the model cannot take.
    """
    whole, size = split_size(name)
    source, _, file = whole.partition("@")
    if source.startswith("hf-hub:"):
        if file:
            raise ValueError(f"{name}: give the hub id alone, or MODEL@FILE.safetensors")
        return _create(name, source, None, freeze_batch_norm, size)
    model_name, _, tag = source.partition("/")
    if model_name not in open_clip.list_models():
        raise ValueError(unknown(model_name, open_clip.list_models(), "CLIP model"))
    if file:
        if tag:
            raise ValueError(f"{name} names both a tag and a file; give one of them")
        weights = read_safetensors(Path(file))
        backbone = _create(name, model_name, None, freeze_batch_norm, size)
        if size is not None:
            open_clip.model.resize_pos_embed(weights, backbone.clip)
        load_strictly(backbone.clip, weights, file)
        return backbone
    if not tag:
        raise ValueError(
            f"{name!r} names no weights; say {model_name}/openai (downloads), {model_name}@FILE.safetensors, "
            f"or {model_name}/random for untrained weights"
        )
    if tag == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _create(name, model_name, None, freeze_batch_norm, size)
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if tag not in tags:
        raise ValueError(unknown(tag, [*tags, "random"], f"weights tag of {model_name}"))
    return _create(name, model_name, tag, freeze_batch_norm, size)


def load_tiny(freeze_batch_norm: bool = True) -> ClipBackbone:
    """Build the small CLIP of the package, trained on the generated world's train classes.

    Its weights are stored in half precision and computed in float32 (scripts/train_tiny.py trains them).

    Args:
        freeze_batch_norm: has no effect; `tiny` has no BatchNorm.
    """
    model = open_clip.CLIP(**TINY_CONFIG)
    content = (resources.files("fsar.backbones") / "weights" / "tiny.safetensors").read_bytes()
    load_strictly(model, {key: value.float() for key, value in load(content).items()}, "tiny.safetensors")
    return ClipBackbone("tiny", model, tiny_tokenize, freeze_batch_norm=freeze_batch_norm).eval()


@cache
def _clip_tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.get_tokenizer("ViT-B-32")


def tiny_tokenize(texts: list[str]) -> Tensor:
    """Map CLIP's BPE tokens into the smaller vocabulary of `tiny`; start and end keep the two highest ids.

    Args:
        texts: sentences.

    Returns:
        Token ids [text, token].

    Example:
        >>> tiny_tokenize(["waving"]).shape
        torch.Size([1, 77])
    """
    tokenizer = _clip_tokenizer()
    tokens = tokenizer(texts)
    start, end = TINY_VOCABULARY - 2, TINY_VOCABULARY - 1
    folded = tokens % (TINY_VOCABULARY - 2)
    folded[tokens == tokenizer.sot_token_id], folded[tokens == tokenizer.eot_token_id] = start, end
    return folded


def _require_size(name: str, visual: object, size: int) -> None:
    """Refuse an image size that the image tower does not take whole."""
    if not isinstance(visual, VisionTransformer):
        raise ValueError(f"{name}: only CLIP models with a ViT take another image size; leave :{size} out")
    patch = visual.patch_size[0]
    if size % patch:
        raise ValueError(f"{name}: an image size of {size} is no multiple of the patch size, {patch}")


def _create(
    name: str, model_name: str, tag: str | None, freeze_batch_norm: bool, size: int | None = None
) -> ClipBackbone:
    is_hub = model_name.startswith("hf-hub:")
    try:
        model = open_clip.create_model(
            model_name,
            pretrained=tag,
            force_quick_gelu=tag == "openai",
            force_image_size=size,
            require_pretrained=is_hub or tag is not None,
        )
        tokenize = open_clip.get_tokenizer(model_name)
    except ImportError as error:
        raise ValueError(f"{name} needs a package that is not installed ({error}); pip install it") from error
    except (OSError, RuntimeError, ValueError) as error:
        file = "MODEL" if is_hub else model_name
        raise ValueError(
            f"could not get {name}: {error}. It comes from the Hugging Face hub; without a network, download "
            f"its weights elsewhere and give {file}@FILE.safetensors"
        ) from error
    if size is not None:
        _require_size(name, model.visual, size)
    preprocess = model.visual.preprocess_cfg
    return ClipBackbone(
        name,
        model,
        tokenize,
        preprocess["mean"],
        preprocess["std"],
        preprocess["interpolation"],
        freeze_batch_norm,
    ).eval()
