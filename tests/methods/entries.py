"""The one place in the tests where a new method is entered: what makes it small, and what it goes without."""

from typing import Any

from tests.conftest import SUB_ACTIONS

SMALL: dict[str, dict[str, Any]] = {
    "trx": {"out_dim": 16},
    "clip-fsar": {"hidden": 16},
    "clip-mdmf": {"hidden": 16},
    "clip-spm": {"hidden": 16, "head_dim": 4},
    "ma-fsar": {"hidden": 16},
    "task-adapter-pp": {"sub_actions": SUB_ACTIONS},
}
"""Options that make a method quick to build and run, if its defaults are not."""
WITHOUT_RECIPE = ("protonet",)
"""Methods that could train but have no recipe: their papers are not about video, or train other modules."""
