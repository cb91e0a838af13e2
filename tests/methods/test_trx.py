"""TRX: how many frames it needs, and that its blocks of tuples change nothing."""

import pytest
import torch

from fsar.backbones import Backbone
from fsar.methods import build_method
from fsar.methods import trx as trx_module
from fsar.methods.base import Episode, Method


@pytest.fixture(scope="module")
def trx(tiny: Backbone) -> Method:
    return build_method("trx", tiny, out_dim=16).eval()


def episode(frames: int, dim: int) -> Episode:
    """Two episodes of 3-way 2-shot with 4 queries; one shot is missing."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(2, 3, 2, dtype=torch.bool)
    mask[0, 1, 1] = False
    support = torch.randn(2, 3, 2, frames, dim, generator=generator)
    query = torch.randn(2, 4, frames, dim, generator=generator)
    return Episode(support={"frames": support}, query={"frames": query}, shot_mask=mask)


def test_too_few_frames_for_a_tuple_say_so(trx: Method) -> None:
    with pytest.raises(ValueError, match="trx joins 3 frames and got 2 per video; take at least 3"):
        trx.match(episode(2, trx.backbone.dim))
    assert trx.match(episode(3, trx.backbone.dim)).logits.isfinite().all()


def test_tuples_matched_in_blocks_give_the_same_logits(trx: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trx.match(episode(6, trx.backbone.dim)).logits
    tuples = []
    split = torch.Tensor.split
    monkeypatch.setattr(torch.Tensor, "split", lambda x, size, dim: tuples.append(size) or split(x, size, dim))
    for block in (1, 2000):
        monkeypatch.setattr(trx_module, "_BLOCK", block)
        tuples.clear()
        torch.testing.assert_close(trx.match(episode(6, trx.backbone.dim)).logits, whole)
        assert tuples[0] == (1 if block == 1 else 2000 // (2 * 3 * 2 * 15 * 4))
