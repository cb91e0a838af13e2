"""The part of a method's encoding that a bank on disk holds."""

from typing import Any

from torch import Tensor

from fsar.backbones import Backbone
from fsar.methods.episode import Encoding, Role
from fsar.shapes import Clips

PIXELS = {"unit": (0.0, 1.0), "slowfast": (0.45, 0.225)}
"""Mean and standard deviation for pixels in [0, 1] in public codes that do not use those of the backbone."""


class Encoder:
    """The part of `Method.encode` whose result a bank on disk holds; `Method.enhance` computes the rest.

    A subclass defines `encode` and `key`.
    """

    is_frozen: bool = True
    """Whether it has no parameters that the method adds and trains; training can then start from a bank."""
    on_disk: bool = True
    """Whether a bank keeps the encodings on disk: false for large ones that only one checkpoint can use."""
    roles_differ: bool = False
    """Whether support videos and queries are encoded differently."""
    support_reads_text: bool = False
    """Whether the encoding of a support video reads its class text."""
    by_frame: bool = False
    """Whether `encode` is `of_clip` of `of_frames`, so that windows of a long video can share encoded frames."""

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Encode videos one by one: [*clips, frame, rgb, height, width] -> tensors [*clips, ...].

        Args:
            clips: normalised as `Method.normalization` says.
            role: of the videos in an episode.
            text: for support videos and `support_reads_text`: their own class texts [*clips, ...].
        """
        raise NotImplementedError

    def of_frames(self, clips: Clips) -> Encoding:
        """Encode every frame by itself: the part of `encode` that costs time, if `by_frame`.

        Args:
            clips: as for `encode`.

        Returns:
            Tensors [*clips, frame, ...].
        """
        raise NotImplementedError

    def of_clip(self, frames: Encoding) -> Encoding:
        """Make the encoding of a clip from its encoded frames, if `by_frame`.

        Args:
            frames: tensors [*clips, frame, ...], as `of_frames` gives them.

        Returns:
            What `encode` gives for these frames.
        """
        raise NotImplementedError

    def key(self) -> dict[str, Any]:
        """Describe everything that the encoding depends on besides clip, role and text; it names the bank's folder."""
        raise NotImplementedError


class FrameEncoder(Encoder):
    """The backbone's frame features, under the name `frames` [*clips, frame, dim].

    Args:
        backbone: encodes frame by frame.
        pixels: as `Traits.pixels`; banks of different pixels are kept apart.
    """

    def __init__(self, backbone: Backbone, pixels: str = "normalized"):
        self.backbone = backbone
        self.pixels = pixels

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Encode the frames, and join them; role and text have no effect."""
        return self.of_clip(self.of_frames(clips))

    @property
    def by_frame(self) -> bool:  # type: ignore[override]
        """True unless a subclass encodes a clip in another way, or the backbone sees a whole clip at once."""
        backbone = type(self.backbone)
        inherited = backbone.features is Backbone.features and backbone.features_and_map is Backbone.features_and_map
        return inherited and type(self).encode is FrameEncoder.encode

    def of_frames(self, clips: Clips) -> Encoding:
        """Give the frame features."""
        return {"frames": self.backbone.features(clips)}

    def of_clip(self, frames: Encoding) -> Encoding:
        """Give the frames as they are."""
        return frames

    def key(self) -> dict[str, Any]:
        """Name the backbone, its weights and, if they differ from the backbone's own, the pixels."""
        return {
            "encoding": "frames",
            "backbone": self.backbone.name,
            "weights": self.backbone.fingerprint(),
            **({"pixels": self.pixels} if self.pixels != "normalized" else {}),
        }


class MapEncoder(FrameEncoder):
    """The backbone's feature maps before pooling, under the name `maps` [*clips, frame, row, column, channel]."""

    def of_frames(self, clips: Clips) -> Encoding:
        """Give the feature map of every frame."""
        return {"maps": self.backbone.features_and_map(clips)[1]}

    def key(self) -> dict[str, Any]:
        """As of the frame features, with another name."""
        return super().key() | {"encoding": "maps"}
