"""SOAP: three looks at the pixels of a whole video scale its frames before the encoder; TRX compares single frames.

Huang et al., "SOAP: Enhancing spatio-temporal relation and motion information capturing for few-shot action recognition",
ACM MM 2024. x are the pixels of a video, [frame rgb row column]:

    space and time   s = sigmoid( Conv3d(mean over rgb of x) )                             one number per frame and place
    channels         s' = sigmoid( Conv2d'( Conv1d( mean over places of Conv2d(x) ) ) )               per frame and rgb
    motion           d_n,i = Map_n( tuple_n,i - Conv2d_n(tuple_n,i+1) ),  tuple_n,i = frames i ... i + n - 1 joined
                     s'' = sigmoid( mean over n, i and places of d )                       one number per rgb
    input            x s + x  +  x s' + x  +  x s'' + x  +  x
    logits           TRX of the encoder's frame features, with tuples of one frame

Conv1d maps frames to frames: they are its channels, and its kernel of 3 slides over the 16 channels of Conv2d(x).

| what | function |
|---|---|
| s, s', s'', input | `TriplePrior` |
| logits | `fsar.methods.trx.CrossTransformer` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| order of axes | - | reads [frame rgb] as [rgb frame] for s and s'', which mixes colours with frames | each axis is itself |
| Conv1d, Conv2d_n and Map_n | - | new random values at every call, never trained nor saved; two tests differ | trained |
| frames per tuple n | "diverse frame counts" | 1, 2 and 3 | `tuples: [1, 2, 3]` |
| cardinalities of TRX | - | 1 | `cardinalities: [1]` |
| encoder | - | ResNet-50, trained | any of images, trained or frozen |
| pixels, sampling, crops | - | the reader of videos is not public | `pixels: normalized` (default) or `unit`; the recipes have TRX's |
| loss | cross-entropy | sum over queries / 16, a step after every episode | mean; the recipes' rate is 25/16 of the code's |
"""  # noqa: E501

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fsar.backbones import Backbone
from fsar.backbones.base import fingerprint
from fsar.config import as_yaml
from fsar.layers.temporal import require_frames
from fsar.methods.encoder import Encoder, FrameEncoder
from fsar.methods.episode import Encoding, Role
from fsar.methods.trx import Trx, require_tuples
from fsar.shapes import Clips

RGB = 3
_HIDDEN = 16
"""Channels of the map behind s'."""
Videos = Float[Tensor, "video frame rgb row column"]


class TriplePrior(nn.Module):
    """Scale the pixels of a video by what its places, colours and motion say.

    Args:
        frames: of a video.
        tuples: frames per tuple of the motion.

    Example:
        >>> TriplePrior(8, (1, 2, 3))(torch.zeros(2, 8, 3, 16, 16)).shape
        torch.Size([2, 8, 3, 16, 16])
    """

    def __init__(self, frames: int, tuples: tuple[int, ...]):
        super().__init__()
        self.tuples = tuples
        self.places = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        self.colours_in = nn.Conv2d(RGB, _HIDDEN, 3, padding=1, bias=False)
        self.over_frames = nn.Conv1d(frames, frames, 3, padding=1)
        self.colours_out = nn.Conv2d(_HIDDEN, RGB, 3, padding=1, bias=False)
        self.next = nn.ModuleList(nn.Conv2d(n * RGB, n * RGB, 3, padding=1) for n in tuples)
        self.motion = nn.ModuleList(nn.Conv2d(n * RGB, RGB, 1) for n in tuples)

    def forward(self, videos: Videos) -> Videos:
        """Scale the pixels.

        Raises:
            ValueError: another number of frames than it was made for.
        """
        require_frames(self.over_frames.in_channels, videos.shape[1])
        parts = (self.of_places(videos), self.of_colours(videos), self.of_motion(videos))
        return sum((videos * part.sigmoid() + videos for part in parts), start=videos)

    def of_places(self, videos: Videos) -> Float[Tensor, "video frame 1 row column"]:
        """Space and time, before the sigmoid."""
        return self.places(videos.mean(2)[:, None]).transpose(1, 2)

    def of_colours(self, videos: Videos) -> Float[Tensor, "video frame rgb 1 1"]:
        """Channels, before the sigmoid; the second convolution sees a single place."""
        hidden = self.colours_in(videos.flatten(0, 1)).mean((-2, -1)).unflatten(0, videos.shape[:2])
        hidden = self.over_frames(hidden).flatten(0, 1)[..., None, None]
        return self.colours_out(hidden).unflatten(0, videos.shape[:2])

    def of_motion(self, videos: Videos) -> Float[Tensor, "video 1 rgb 1 1"]:
        """Motion, before the sigmoid: the mean over tuples of all lengths and over places."""
        found = []
        for n, following, out in zip(self.tuples, self.next, self.motion, strict=True):
            joined = rearrange(videos.unfold(1, n, 1), "video tuple rgb row column n -> video tuple (n rgb) row column")
            shape = joined[:, 1:].shape[:2]
            moved = joined[:, :-1].flatten(0, 1) - following(joined[:, 1:].flatten(0, 1))
            found.append(out(moved).mean((-2, -1)).unflatten(0, shape))  # video tuple rgb
        return torch.cat(found, 1).mean(1)[:, None, :, None, None]


class Soap(Trx):
    """Pixels scaled by space and time, channels and motion, before an encoder and TRX."""

    name = "soap"

    @dataclass(frozen=True, kw_only=True)
    class Config(Trx.Config):
        """Options of SOAP."""

        least: ClassVar[dict[str, float]] = {**Trx.Config.least, "frames": 1, "tuples": 1}
        distinct = (*Trx.Config.distinct, "tuples")

        cardinalities: tuple[int, ...] = (1,)
        """Frames per tuple of TRX."""
        frames: int = 8
        """Frames per video."""
        tuples: tuple[int, ...] = (1, 2, 3)
        """Frames per tuple of the motion; each less than `frames`."""

        def check(self) -> None:
            """Refuse tuples of TRX of more frames than there are, and of the motion of all frames."""
            require_tuples("soap", self.cardinalities, self.frames)
            if max(self.tuples) >= self.frames:
                raise ValueError(
                    f"soap: tuples is {as_yaml(self.tuples)} and frames {self.frames}; expected each less than frames"
                )

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        self.prior = TriplePrior(config.frames, config.tuples)

    def encoder(self) -> Encoder:
        """All of `encode`, because the pixels of a video are scaled together."""
        return SoapEncoder(self)


class SoapEncoder(FrameEncoder):
    """Frame features of scaled pixels, `frames` [*clips, frame, dim].

    Args:
        method: its layers are used, not copied.
    """

    is_frozen = False

    def __init__(self, method: Soap):
        super().__init__(method.backbone, method.traits.pixels)
        self.method = method

    def encode(self, clips: Clips, role: Role = "query", text: Tensor | None = None) -> Encoding:
        """Scale the pixels of each video and encode its frames."""
        videos = self.method.prior(clips.reshape(-1, *clips.shape[-4:]))
        return {"frames": self.backbone.features(videos.reshape(clips.shape))}

    def key(self) -> dict[str, Any]:
        """Name the backbone, the pixels and the layers before the encoder."""
        return super().key() | {"encoding": "soap", "own": fingerprint(self.method.prior)}
