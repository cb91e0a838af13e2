"""The one place in the tests where a new method is entered: small options, missing recipes, the test of its numbers."""

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
WITHOUT_RECIPE = {"protonet": "its paper is about images"}
"""Methods that could train but have no recipes, each with the reason."""
NUMBERS = {
    "zero-shot": "methods/test_zero_shot.py::test_logits_by_hand",
    "protonet": "methods/test_golden.py::test_logits",
    "otam": "methods/test_golden.py::test_otam",
    "bi-mhm": "methods/test_golden.py::test_bi_mhm",
    "trx": "methods/test_golden.py::test_trx",
    "hyrsm": "methods/test_hyrsm.py::test_golden_match",
    "aim": "methods/test_aim.py::test_block_and_output_are_those_of_the_public_code",
    "clip-fsar": "methods/test_clip_fsar.py::test_logits",
    "clip-mdmf": "methods/test_clip_mdmf.py::test_distances_and_logits",
    "clip-spm": "methods/test_clip_spm.py::test_distances_and_logits",
    "ma-fsar": "methods/test_ma_fsar.py::test_encoder_matches_the_prototype",
    "task-adapter": "methods/test_task_adapter.py::test_visual_branch_is_that_of_the_public_code",
    "task-adapter-pp": "methods/test_task_adapter.py::test_score_and_loss_are_those_of_the_public_code",
    "ridge": "methods/test_linear_heads.py::test_ridge",
    "logistic": "methods/test_linear_heads.py::test_logistic",
    "nearest-mean": "methods/test_linear_heads.py::test_nearest_mean",
    "tip-adapter": "methods/test_linear_heads.py::test_tip_adapter",
    "place-motion": "test_old_files.py::test_the_same_weights_give_the_same_logits",
}
"""The test, below `tests/`, that holds a method's numbers against public code, equations or an older version."""
