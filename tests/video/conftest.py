"""What the tests of videos share."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _usual_priority() -> Iterator[None]:
    """SVT-AV1 makes the thread that encodes a real-time one, if it may: all other processes then wait for it."""
    yield
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
