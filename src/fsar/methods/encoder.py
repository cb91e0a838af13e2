"""The part of a method's encoding that a bank on disk holds."""

from typing import Any

from torch import Tensor

from fsar.backbones import Backbone
from fsar.methods.episode import Encoding, Role
from fsar.shapes import Clips

PIXELS = {"unit": (0.0, 1.0), "slowfast": (0.45, 0.225)}
"""Mean and deviation by which public codes normalise pixels of [0, 1], whatever the backbone was trained with."""


class Encoder:
    """The part of `Method.encode` whose result a bank on disk holds; `Method.enhance` computes the rest.

    A subclass gives `encode` and `key`.
    """

    is_frozen: bool = True
    """Whether it holds no parameter that the method adds and trains, so that training can start from a bank of it."""
    roles_differ: bool = False
    """Whether a support video is encoded in another way than a query."""
    support_reads_text: bool = False
    """Whether a support video is read with its class text."""

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Encode videos one by one: [*clips, frame, rgb, height, width] -> tensors [*clips, ...].

        Args:
            clips: normalised as `Method.normalization` says.
            role: of the videos in an episode.
            text: for support videos and `support_reads_text`: their own class texts [*clips, ...].
        """
        raise NotImplementedError

    def key(self) -> dict[str, Any]:
        """Everything that the encoding depends on besides clip, role and text: it names the bank's folder."""
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
        """Encode every frame by itself; role and text change nothing."""
        return {"frames": self.backbone.features(clips)}

    def key(self) -> dict[str, Any]:
        """Name the backbone, its weights and, if they are not the backbone's own, the pixels."""
        return {
            "encoding": "frames",
            "backbone": self.backbone.name,
            "weights": self.backbone.fingerprint(),
            **({"pixels": self.pixels} if self.pixels != "normalized" else {}),
        }
