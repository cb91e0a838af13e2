"""The package hands out what others use, and imports it at first use."""

import subprocess
import sys

import pytest

import fsar
import fsar.training


def test_reading_a_recipe_imports_nothing_that_training_needs() -> None:
    code = (
        "import sys, fsar.training.recipes\n"
        "sys.exit(any(name in sys.modules for name in ('lightning_fabric', 'torch.utils.tensorboard')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_hands_out_its_names() -> None:
    from fsar.training.checkpoint import load_pretrained
    from fsar.training.loop import train

    assert all(getattr(fsar.training, name).__name__ == name for name in fsar.training.__all__)
    assert fsar.training.train is train and fsar.load_pretrained is load_pretrained
    assert set(fsar.training.__all__) <= set(dir(fsar.training))
    with pytest.raises(AttributeError, match=r"module 'fsar\.training' has no attribute 'tarin'"):
        _ = fsar.training.tarin
