"""SOAP: its scales by loops, exact counts, and what its encoder depends on."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fsar.methods import build_method
from fsar.methods.soap import Soap, TriplePrior
from tests.papers.test_runs import hollow

FRAMES, SIDE = 4, 5


@torch.no_grad()
def test_pixels_are_scaled_as_the_equations_say() -> None:
    """Sums over neighbours and loops over tuples instead of layers."""
    torch.manual_seed(0)
    prior, video = TriplePrior(FRAMES, (1, 2)), torch.randn(FRAMES, 3, SIDE, SIDE)
    grey = torch.zeros(FRAMES + 2, SIDE + 2, SIDE + 2)
    grey[1:-1, 1:-1, 1:-1] = video.mean(1)
    kernel = prior.places.weight[0, 0]
    places = torch.zeros(FRAMES, 1, SIDE, SIDE)
    for t in range(FRAMES):
        for row in range(SIDE):
            for column in range(SIDE):
                places[t, 0, row, column] = (grey[t : t + 3, row : row + 3, column : column + 3] * kernel).sum()

    hidden = torch.stack([conv2d(frame, prior.colours_in.weight, padding=1).mean((-2, -1)) for frame in video])
    mixed = torch.zeros_like(hidden)
    for t in range(FRAMES):
        for channel in range(16):
            mixed[t, channel] = prior.over_frames.bias[t]
            for source in range(FRAMES):
                for k, near in enumerate(range(channel - 1, channel + 2)):
                    if 0 <= near < 16:
                        mixed[t, channel] += prior.over_frames.weight[t, source, k] * hidden[source, near]
    colours = (mixed @ prior.colours_out.weight[:, :, 1, 1].T)[..., None, None]

    found: list[Tensor] = []
    for n, following, out in zip((1, 2), prior.next, prior.motion, strict=True):
        for i in range(FRAMES - n):
            first, second = (video[j : j + n].flatten(0, 1) for j in (i, i + 1))
            moved = first - following(second[None])[0]
            found.append(torch.einsum("or,rhw->ohw", out.weight[..., 0, 0], moved).mean((-2, -1)) + out.bias)
    motion = torch.stack(found).mean(0)[None, :, None, None]

    expected = video + sum(video * part.sigmoid() + video for part in (places, colours, motion))
    torch.testing.assert_close(prior(video[None])[0], expected, atol=1e-5, rtol=1e-5)


def test_wrong_options_and_frames_are_named() -> None:
    with pytest.raises(ValueError, match=r"soap: tuples is \[8\] and frames 8.*each less than frames"):
        Soap.Config(tuples=(8,)).check()
    with pytest.raises(ValueError, match="built for 4 frames per video and got 3; set its option `frames` to 3"):
        TriplePrior(4, (1,))(torch.zeros(1, 3, 3, 2, 2))


def test_parameters() -> None:
    """891 and TRX's are those that the public code trains; 1,415 more have new random values there at every call."""
    with torch.device("meta"):
        method = build_method("soap", hollow("timm/resnet50.tv_in1k"))
    trains = {"places", "colours_in", "colours_out"}
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in method.prior.named_children()}
    assert sum(size for name, size in sizes.items() if name in trains) == 891
    assert sum(sizes.values()) == 891 + 1415
    assert sum(p.numel() for p in method.transformers.parameters()) == 4_723_200
