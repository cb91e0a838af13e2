"""Banks are tested with a small encoder."""

import pytest

from fsar.backbones import Backbone


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this folder, the small encoder stands in for `tiny`."""
    return small_for_tiny
