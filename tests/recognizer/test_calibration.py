"""What is chosen on the examples: scale and threshold, by leave-one-out."""

import pytest
import torch

from fsar import Recognizer
from fsar.recognizer.calibration import fit_scale, fit_threshold, leave_one_out
from fsar.recognizer.examples import padded


def test_leave_one_out_never_shows_the_example_itself(recognizer: Recognizer) -> None:
    """Random unit vectors are near 0 to each other; an example among its own four would give 1/4."""
    encodings, mask = padded(recognizer._examples, "support")
    generator = torch.Generator().manual_seed(0)
    noise = {
        part: torch.nn.functional.normalize(torch.randn(t.shape, generator=generator), dim=-1)
        for part, t in encodings.items()
    }
    logits, ways = leave_one_out(recognizer.method, (noise, mask), noise, None)
    assert logits[torch.arange(len(ways)), ways].max() < 0.12


def test_scale_and_threshold() -> None:
    sure = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    ways = torch.tensor([0, 1, 0, 1])
    scale, _ = fit_scale(sure, ways)
    # Platt's targets for 4 examples: 5/6, so the log-odds are log 5
    assert scale * 2 == pytest.approx(torch.log(torch.tensor(5.0)).item(), rel=0.05)
    unsure, _ = fit_scale(sure, torch.tensor([0, 1, 1, 0]))
    assert unsure < 0.2 * scale
    assert fit_threshold(torch.tensor([0.8, 1.0]), torch.tensor([0.1, 0.3])) == pytest.approx(0.55)
