"""Zero-shot CLIP against its equation."""

import torch
from torch.nn.functional import normalize

from fsar.backbones import Backbone
from fsar.methods import build_method
from fsar.methods.episode import Episode


def test_logits_by_hand(tiny: Backbone) -> None:
    """exp(logit_scale) times the cosine of the mean frame feature and the class text, in float64."""
    generator = torch.Generator().manual_seed(0)
    frames, text = torch.randn(1, 3, 8, 128, generator=generator), torch.randn(1, 2, 128, generator=generator)
    support, mask = torch.zeros(1, 2, 1, 8, 128), torch.ones(1, 2, 1, dtype=torch.bool)
    with torch.no_grad():
        logits = (
            build_method("zero-shot", tiny).match(Episode({"frames": support}, {"frames": frames}, mask, text)).logits
        )
        video, words = normalize(frames.double().mean(2), dim=-1), normalize(text.double(), dim=-1)
        expected = tiny.logit_scale.double() * video @ words.transpose(1, 2)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-4)
