"""The parts of place-and-motion's logit sum to it, for every alignment that is a sum of similarities."""

import pytest
import torch

from fsar import build_method
from fsar.backbones import Backbone
from fsar.methods.episode import Episode
from fsar.recognizer.cells import cell_shares

FRAMES = 3


@pytest.mark.parametrize("alignment", ["frame-wise", "bi-mhm"])
def test_parts_sum_to_the_logit(tiny: Backbone, alignment: str) -> None:
    """By loops over frames and cells in the query, and the same total in the support."""
    method = build_method("place-motion", tiny, grid=2, weight=0.7, alignment=alignment)
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(1, 2, 2, FRAMES, 3, 64, 64, generator=generator)
    with torch.no_grad():
        support, query = method.encode(clips), method.encode(clips[:, :, 0] + 0.3)
    episode = Episode(support, query, torch.ones(1, 2, 2, dtype=torch.bool))
    found = cell_shares(method, episode)  # type: ignore[arg-type]
    total = found.query.sum((-1, -2, -3)) + found.appearance.sum(-1)
    constant = 2 * FRAMES if alignment == "bi-mhm" else 0  # a distance is 1 - similarity, of every frame both ways
    torch.testing.assert_close(total - constant, found.logits)
    torch.testing.assert_close(found.support.sum((-1, -2, -3)), found.query.sum((-1, -2, -3)))
    if alignment == "frame-wise":
        prototype = support["place"][0, 1].mean(0).unflatten(-1, (-1, 2, 2))
        asked = query["place"][0, 0].unflatten(-1, (-1, 2, 2))
        torch.testing.assert_close(found.query[0, 1], 0.7 * (asked * prototype).sum(1) / FRAMES)
