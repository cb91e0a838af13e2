"""OTAM against enumeration of every path in float64, and what holds for every alignment."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fsar.alignment import bi_mhm, frame_similarity, otam, otam_alignment


def paths(rows: int, columns: int) -> Iterator[list[tuple[int, int]]]:
    """Every path of the program over the padded grid, columns 0 and `columns + 1` free.

    A path ends in the last row's last column. Rows after the first take from the upper left or the left;
    in the first real column also from straight above; in the last, free column also from above.
    """

    def back(row: int, column: int) -> Iterator[list[tuple[int, int]]]:
        if column == 0:
            yield []  # the free start, in any row
            return
        here = [] if column == columns + 1 else [(row, column - 1)]
        if row == 0:
            before = [(0, column - 1)]
        else:
            before = [(row - 1, column - 1), (row, column - 1)]
            if column in (1, columns + 1):
                before.append((row - 1, column))
        for place in before:
            for path in back(*place):
                yield path + here

    return back(rows - 1, columns + 1)


def enumerated(distance: Tensor, smoothing: float) -> Tensor:
    """-smoothing log of the sum over paths of exp(-length / smoothing)."""
    lengths = [sum((distance[cell] for cell in path), torch.zeros(())) for path in paths(*distance.shape)]
    return -smoothing * torch.logsumexp(-torch.stack(lengths).double() / smoothing, 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 3), (4, 4), (3, 5), (5, 3), (2, 6)])
@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_otam_equals_enumeration(shape: tuple[int, int], smoothing: float) -> None:
    distance = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2
    expected = enumerated(distance, smoothing)
    torch.testing.assert_close(otam(distance, smoothing, "query-to-support"), expected, atol=1e-10, rtol=0)
    swapped = otam(distance.T.contiguous(), smoothing, "support-to-query")
    torch.testing.assert_close(swapped, expected, atol=1e-10, rtol=0)


def test_otam_is_finite_at_any_distance() -> None:
    for value in (1.5, 50.0, 1e4):
        distance = torch.full((8, 8), value, requires_grad=True)
        length = otam(distance, 0.1)
        length.backward()
        assert torch.isfinite(length) and torch.isfinite(distance.grad).all()  # type: ignore[arg-type]


def test_otam_tells_order() -> None:
    frames = torch.eye(8)[None]
    same = otam(1 - frame_similarity(frames, frames), 0.1)
    backwards = otam(1 - frame_similarity(frames.flip(1), frames), 0.1)
    assert same < backwards
    assert torch.allclose(bi_mhm(frame_similarity(frames.flip(1), frames)), torch.zeros(1, 1))


def test_otam_alignment_follows_the_diagonal() -> None:
    frames = torch.eye(6)[None]
    weights = otam_alignment(1 - frame_similarity(frames, frames)[0, 0], 0.05, "query-to-support")
    assert (weights.argmax(1) == torch.arange(6)).all()
    assert weights.min() >= 0 and weights.max() <= 1 + 1e-6


def test_otam_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="smoothing"):
        otam(torch.zeros(2, 2), 0.0)
    with pytest.raises(ValueError, match="expected a smoothing above 0 and one of both"):
        otam(torch.zeros(2, 2), 0.1, "sideways")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_batch_equals_one_by_one(pairs: int, frames: int, seed: int) -> None:
    distance = torch.rand(pairs, frames, frames + 1, generator=torch.Generator().manual_seed(seed))
    together = otam(distance, 0.5)
    alone = torch.stack([otam(d, 0.5) for d in distance])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_a_zero_vector_has_similarity_0_and_a_finite_gradient(eps: float) -> None:
    query = torch.zeros(1, 2, 4, requires_grad=True)
    similarity = frame_similarity(query, torch.ones(3, 2, 4), eps)
    similarity.sum().backward()
    assert not similarity.any() and query.grad.abs().max() < 1e3
