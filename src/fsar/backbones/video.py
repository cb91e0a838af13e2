"""Video backbones: a whole clip in, features and a grid over space and time out (transformers, extra `video`).

| model | features of a time step | map | text |
|---|---|---|---|
| X-CLIP (Ni et al., ECCV 2022) | frame features after multi-frame integration; their mean is X-CLIP's video feature | patch tokens | yes |
| VideoMAE (Tong et al., NeurIPS 2022) | mean of the step's tokens | tokens | no |
| V-JEPA 2 (Assran et al., 2025) | mean of the step's tokens | tokens | no |
| TimeSformer (Bertasius et al., ICML 2021) | mean of the step's patch tokens | patch tokens | no |

A time step is a frame or, if the model joins frames to tubelets, some of them. Methods take steps as they take frames.

V-JEPA 2.1 (2026) is another encoder than V-JEPA 2 (positions, embeddings of images and videos, a norm per layer), which
transformers does not have yet; its weights are refused, since V-JEPA 2 would read them wrongly.

Weights are safetensors, from the Hugging Face hub or a local folder in its form; every weight must be there. X-CLIP's
prompts, which change a class text for each video, are left out: fsar encodes texts without a video.
"""  # noqa: E501

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from fsar.backbones.base import Backbone, ImageEncoding
from fsar.names import unknown
from fsar.shapes import Clips, TextFeatures

HUB, LOCAL = "video/", "video@"
FILES = ["config.json", "*preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json"]
"""What is needed of a repository on the hub."""
INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which preprocessor files use."""


class ClipEncoding(NamedTuple):
    """Output of a video encoder for a batch of clips."""

    features: Float[Tensor, "clip step dim"]
    """One per time step, not normalised."""
    map: Float[Tensor, "clip step row column channel"]
    """Features of the cells of each time step."""


@dataclass(frozen=True)
class Layout:
    """How a model cuts a clip into tokens."""

    frames: int
    """Frames of a clip."""
    tubelet: int
    """Frames that a token covers."""
    image_size: int
    patch: int
    """Height and width that a token covers, in pixels."""
    any_length: bool = False
    """Whether other numbers of frames do, too; they must fill tubelets."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of a time step."""
        return (self.image_size // self.patch,) * 2

    def steps(self, frames: int, name: str) -> int:
        """Return the number of time steps of a clip.

        Args:
            frames: of the clip.
            name: of the backbone, for the message.

        Raises:
            ValueError: the model does not take so many frames.

        Example:
            >>> Layout(frames=16, tubelet=2, image_size=224, patch=16).steps(16, "video/x")
            8
        """
        if frames == self.frames or (self.any_length and frames and frames % self.tubelet == 0):
            return frames // self.tubelet
        expected = f"a multiple of {self.tubelet}, as {self.frames}" if self.any_length else self.frames
        raise ValueError(
            f"backbone {name!r} encodes whole clips and got {frames} frames per clip; expected {expected}: "
            f"--frames {self.frames}, FrameCache(frames={self.frames}), or `frames` of a recipe"
        )


class Look(NamedTuple):
    """How pixels must look: the content of a preprocessor file."""

    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str


class VideoBackbone(Backbone):
    """An encoder of whole clips; `features` and `features_and_map` give time steps in place of frames.

    Args:
        name: as given to `load_backbone`.
        model: of transformers.
        layout: of its tokens.
        look: of the pixels it was trained on.
    """

    def __init__(self, name: str, model: Any, layout: Layout, look: Look):
        super().__init__(name)
        self.model = model
        self.layout = layout
        self.clip_frames = layout.frames
        self.image_size = layout.image_size
        self.mean, self.std, self.interpolation = look

    def encode_clips(self, clips: Float[Tensor, "clip frame rgb=3 height width"]) -> ClipEncoding:
        """Encode normalised clips to features and map, in one pass."""
        raise NotImplementedError

    def encode_images(self, images: Tensor) -> ImageEncoding:
        """Refuse: the encoder sees whole clips.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"backbone {self.name!r} encodes whole clips, and single frames are asked for; choose an image backbone "
            f"(tiny, lite0, ViT-B-16/openai, timm/...), or a method that starts from features (protonet, otam, "
            f"place-motion, ...)"
        )

    def features(self, clips: Clips) -> Float[Tensor, "*clips step dim"]:
        """Encode clips to the features of their time steps."""
        return self._encoded(clips)[0]

    def features_and_map(
        self, clips: Clips
    ) -> tuple[Float[Tensor, "*clips step dim"], Float[Tensor, "*clips step row column channel"]]:
        """Encode clips to the features and the feature maps of their time steps."""
        return self._encoded(clips)

    def _encoded(self, clips: Clips) -> tuple[Tensor, Tensor]:
        self.layout.steps(clips.shape[-4], self.name)
        features, places = self.encode_clips(clips.reshape(-1, *clips.shape[-4:]))
        leading = clips.shape[:-4]
        return features.reshape(*leading, *features.shape[1:]), places.reshape(*leading, *places.shape[1:])

    def checkpoint_activations(self) -> None:
        """Save memory in training: compute the activations inside a block again instead of keeping them."""
        super().checkpoint_activations()
        self.model.gradient_checkpointing_enable()


class TokenBackbone(VideoBackbone):
    """A video transformer whose output is one token per tubelet and patch.

    Args:
        name: as given to `load_backbone`.
        model: of transformers.
        layout: of its tokens.
        look: of the pixels it was trained on.
        tokens: (model, clips) -> tokens [clip, token, channel].
        step_by_step: whether the tokens of a time step stand together; False if those of a place do.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        layout: Layout,
        look: Look,
        tokens: Callable[[Any, Tensor], Tensor],
        step_by_step: bool = True,
    ):
        super().__init__(name, model, layout, look)
        self.dim = model.config.hidden_size
        self._tokens, self._step_by_step = tokens, step_by_step

    def encode_clips(self, clips: Tensor) -> ClipEncoding:
        """Encode clips to all tokens, and to their means over places."""
        tokens = self._tokens(self.model, clips)
        steps = self.layout.steps(clips.shape[1], self.name)
        if self._step_by_step:
            tokens = tokens.unflatten(1, (steps, *self.layout.grid))
        else:
            tokens = tokens.unflatten(1, (*self.layout.grid, steps)).movedim(3, 1)
        return ClipEncoding(tokens.mean((2, 3)), tokens)


class XClipBackbone(VideoBackbone):
    """X-CLIP: frames that exchange messages, a transformer over them, and CLIP's text tower.

    Args:
        name: as given to `load_backbone`.
        model: `XCLIPModel`.
        look: of the pixels it was trained on.
    """

    has_text = True

    def __init__(self, name: str, model: Any, look: Look):
        vision = model.config.vision_config
        layout = Layout(vision.num_frames, 1, vision.image_size, vision.patch_size)
        visual = nn.ModuleDict(
            {"frames": model.vision_model, "projection": model.visual_projection, "integration": model.mit}
        )
        super().__init__(name, visual, layout, look)
        self.dim = model.config.projection_dim
        # `clip` without `visual`: the group of parameters of the text tower (fsar.methods.base.PARAMETER_GROUPS)
        self.clip: Any = nn.Module()
        self.clip.text_model, self.clip.text_projection = model.text_model, model.text_projection
        self.clip.logit_scale = model.logit_scale
        self._enable_checkpointing = model.gradient_checkpointing_enable

    def encode_clips(self, clips: Tensor) -> ClipEncoding:
        """Encode clips to frame features after multi-frame integration, and to patch tokens after the last norm."""
        frames: Any = self.model["frames"]
        seen = frames(clips.flatten(0, 1))
        projected = self.model["projection"](seen.pooler_output).unflatten(0, clips.shape[:2])
        features = self.model["integration"](projected).last_hidden_state
        patches = frames.post_layernorm(seen.last_hidden_state[:, 1:])
        return ClipEncoding(features, patches.unflatten(1, self.layout.grid).unflatten(0, clips.shape[:2]))

    @property
    def logit_scale(self) -> Tensor:
        """X-CLIP's learned scale of cosines."""
        return self.clip.logit_scale.detach().exp()

    def text_features(self, texts: list[str]) -> TextFeatures:
        """Encode sentences, as CLIP cuts them into tokens, to X-CLIP's text embedding."""
        import open_clip

        length = self.clip.text_model.config.max_position_embeddings
        tokens = open_clip.get_tokenizer("ViT-B-16")(texts, context_length=length).to(self.clip.logit_scale.device)
        return self.clip.text_projection(self.clip.text_model(tokens).pooler_output)

    def checkpoint_activations(self) -> None:
        """Save memory in training: compute the activations inside a block again instead of keeping them."""
        Backbone.checkpoint_activations(self)
        self._enable_checkpointing()


def _xclip(name: str, model: Any, look: Look) -> VideoBackbone:
    return XClipBackbone(name, model, look)


def _videomae(name: str, model: Any, look: Look) -> VideoBackbone:
    config = model.config
    layout = Layout(config.num_frames, config.tubelet_size, config.image_size, config.patch_size)
    return TokenBackbone(name, model, layout, look, lambda model, clips: model(clips).last_hidden_state)


def _vjepa2(name: str, model: Any, look: Look) -> VideoBackbone:
    config = model.config
    model.predictor = None  # it guesses hidden tokens; only training needs it
    layout = Layout(config.frames_per_clip, config.tubelet_size, config.crop_size, config.patch_size, any_length=True)
    return TokenBackbone(name, model, layout, look, lambda model, clips: model.encoder(clips).last_hidden_state)


def _timesformer(name: str, model: Any, look: Look) -> VideoBackbone:
    config = model.config
    if config.attention_type != "divided_space_time":
        raise ValueError(
            f"{name} has attention of type {config.attention_type!r}; expected a TimeSformer with divided_space_time"
        )
    layout = Layout(config.num_frames, 1, config.image_size, config.patch_size)
    return TokenBackbone(
        name, model, layout, look, lambda model, clips: model(clips).last_hidden_state[:, 1:], step_by_step=False
    )


FAMILIES: dict[str, tuple[str, Callable[[str, Any, Look], VideoBackbone]]] = {
    "xclip": ("XCLIPModel", _xclip),
    "videomae": ("VideoMAEModel", _videomae),
    "vjepa2": ("VJEPA2Model", _vjepa2),
    "timesformer": ("TimesformerModel", _timesformer),
}
"""Type of a configuration -> class in transformers, and what makes a backbone of the model."""


def load_video(name: str) -> VideoBackbone:
    """Build a video backbone by `video/ORG/NAME` (downloads from the hub) or `video@FOLDER`.

    Args:
        name: see above.

    Raises:
        ValueError: transformers is not installed; no such model or folder; a kind of model that is not known here;
            weights that are missing, or no safetensors; a folder without a preprocessor file.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError(f"backbone {name!r} needs transformers: pip install 'fsar[video]'") from error
    folder = Path(name.removeprefix(LOCAL)) if name.startswith(LOCAL) else _downloaded(name)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{name}: {folder} has no config.json; expected a folder as transformers' save_pretrained writes it"
        )
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"{name}: {unknown(str(kind), FAMILIES, 'model_type')}")
    class_name, make = FAMILIES[kind]
    look = _look(folder)
    try:
        model, info = getattr(transformers, class_name).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{name}: cannot load the weights in {folder} ({error}); expected model.safetensors that fits config.json"
        ) from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(("predictor.", "prompts_")))
    if missing:
        raise ValueError(
            f"{name}: {len(missing)} weights are missing in {folder} ({', '.join(missing[:3])}); is it another model's?"
        )
    foreign = sorted(key for key in info["unexpected_keys"] if key.startswith("encoder."))
    if foreign:  # weights of heads are left out, but those of an encoder are not
        raise ValueError(
            f"{name}: the encoder in {folder} has {len(foreign)} weights more than {class_name} "
            f"({', '.join(foreign[:3])}), so it is another one, such as V-JEPA 2.1; use a model of transformers"
        )
    return make(name, model.float().eval(), look).eval()


def _downloaded(name: str) -> Path:
    """The local copy of a repository on the hub; downloads what is missing."""
    from huggingface_hub import snapshot_download

    repository = name.removeprefix(HUB)
    if repository.count("/") != 1:
        raise ValueError(
            f"cannot read backbone {name!r}: expected {HUB}ORG/NAME of the Hugging Face hub, or {LOCAL}FOLDER"
        )
    try:
        return Path(snapshot_download(repository, allow_patterns=FILES))
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"could not get {name}: {error}. It comes from the Hugging Face hub; without a network, download the "
            f"repository elsewhere and give {LOCAL}FOLDER"
        ) from error


def _look(folder: Path) -> Look:
    """Read mean, deviation and interpolation from the preprocessor file."""
    files = [folder / "video_preprocessor_config.json", folder / "preprocessor_config.json"]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise ValueError(f"{folder} has no preprocessor_config.json; it says which mean and std of pixels are expected")
    stored = json.loads(found.read_text())
    missing = [key for key in ("image_mean", "image_std") if key not in stored]
    if missing:
        raise ValueError(
            f"{found} lacks {' and '.join(missing)}; expected mean and std of pixels in [0, 1], per colour"
        )
    return Look(stored["image_mean"], stored["image_std"], INTERPOLATIONS.get(stored.get("resample", 2), "bilinear"))
