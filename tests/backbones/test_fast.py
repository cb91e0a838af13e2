"""OpenVINO gives what eager PyTorch gives, and only where it may."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fsar import Recognizer
from fsar.backbones import Backbone, fast, load_backbone

SMALL = "timm/test_efficientnet/random"


@pytest.fixture(scope="module")
def small() -> Backbone:
    pytest.importorskip("openvino", reason="the extra `fast` is not installed")
    backbone = load_backbone(SMALL)
    fast.speed_up(backbone)
    return backbone


def clips(backbone: Backbone, frames: int) -> Tensor:
    size = backbone.image_size
    return torch.randn(2, frames, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_it_equals_eager_for_any_number_of_frames(small: Backbone) -> None:
    images = clips(small, 5)
    with torch.no_grad():
        expected = small.encode_images(images.flatten(0, 1))
        features, maps = small.features_and_map(images)
        torch.testing.assert_close(features.flatten(0, 1), expected.features, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(maps.flatten(0, 1), expected.map, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(small.features(images[:1]), features[:1])


def test_gradients_go_through_eager(small: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(images: Tensor) -> None:
        raise AssertionError("no gradient goes through OpenVINO")

    monkeypatch.setattr(small, "fast", refused)
    assert small.features(clips(small, 1)).requires_grad
    with torch.no_grad(), pytest.raises(AssertionError, match="no gradient"):
        small.features(clips(small, 1))


def test_a_converted_model_is_kept(small: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second process, or another object with the same weights, reads it."""
    with torch.no_grad():
        small.features(clips(small, 1))
        again = load_backbone(SMALL)
        fast.speed_up(again)
        monkeypatch.setattr(fast, "_convert", lambda *words: pytest.fail("it was converted already"))
        torch.testing.assert_close(again.features(clips(small, 1)), small.features(clips(small, 1)))


def test_what_cannot_be_converted_runs_eager(small: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path))

    def fails(backbone: Backbone, path: Path) -> None:
        raise RuntimeError("an operator is missing")

    monkeypatch.setattr(fast, "_convert", fails)
    other = load_backbone(SMALL)
    fast.speed_up(other)
    with torch.no_grad(), pytest.warns(UserWarning, match="runs without OpenVINO, .*: an operator is missing"):
        torch.testing.assert_close(
            other.features(clips(other, 1)), small.features(clips(other, 1)), rtol=1e-4, atol=1e-4
        )


def test_a_recogniser_uses_it_for_backbones_that_it_loads_itself(
    monkeypatch: pytest.MonkeyPatch, tiny: Backbone
) -> None:
    monkeypatch.setattr(fast, "is_installed", lambda: True)
    assert Recognizer(SMALL).backbone.fast is not None
    assert Recognizer("tiny").backbone.fast is None and Recognizer(tiny).backbone.fast is None
    monkeypatch.setattr(fast, "is_installed", lambda: False)
    assert Recognizer(SMALL).backbone.fast is None


TWO_ENCODERS = f"""
import signal
import sys
import torch
from fsar.backbones import fast, load_backbone

def encoder():
    backbone = load_backbone({SMALL!r})
    one = fast.OpenVinoEncoder(backbone)
    one(torch.zeros(1, 3, backbone.image_size, backbone.image_size))
    return one

signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
first, second = encoder(), encoder()
del first
del second
signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_after_two_encoders_is_no_crash(small: Backbone) -> None:
    """Each core of OpenVINO sets a stack for signals; two that end in turn leave one that is gone."""
    done = subprocess.run([sys.executable, "-c", TWO_ENCODERS], check=False, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
