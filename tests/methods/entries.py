"""The one place in the tests where a new method is entered: small options, missing recipes, the test of its numbers."""

from typing import Any

from tests.conftest import SUB_ACTIONS

SMALL: dict[str, dict[str, Any]] = {
    "trx": {"out_dim": 16},
    "clip-fsar": {"hidden": 16},
    "clip-mdmf": {"hidden": 16},
    "clip-spm": {"hidden": 16, "head_dim": 4},
    "ma-fsar": {"hidden": 16},
    "strm": {"out_dim": 16},
    "team": {"tokens": 6},
    "clip-mei": {"hidden": 16, "head_dim": 4},
    "clip-cpm2c": {"hidden": 16},
    "soap": {"out_dim": 16, "tuples": (1, 2)},
    "molo": {"hidden": 16, "decoder": (4, 4, 4)},
    "ta2n": {"duration_channels": (4, 4, 4), "evolution_channels": (4, 4, 4)},
    "d2st-adapter": {"ratio": 0.5},
    "ts-fsar": {"dim": 8, "heads": 2, "temporal_blocks": (2,)},
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
    "hyrsm-pp": "methods/test_hyrsm_pp.py::test_logits_losses_and_gradients_are_those_of_the_public_code",
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
    "strm": "methods/test_strm.py::test_logits_losses_and_gradients_are_those_of_the_public_code",
    "team": "methods/test_team.py::test_logits_losses_and_gradients_are_those_of_the_public_code",
    "clip-mei": "methods/test_clip_mei.py::test_losses_and_gradients_are_those_of_the_public_code",
    "clip-cpm2c": "methods/test_clip_cpm2c.py::test_logits_losses_and_gradients_are_those_of_the_port",
    "molo": "methods/test_molo.py::test_logits_losses_and_gradients_are_those_of_the_public_code",
    "ta2n": "methods/test_ta2n.py::test_logits_losses_and_gradients_are_those_of_the_public_code",
    "d2st-adapter": "methods/test_d2st_adapter.py::test_logits_losses_and_gradients_are_those_of_the_public_code",
    "ts-fsar": "methods/test_ts_fsar.py::test_scores_losses_and_gradients_are_those_of_the_public_code",
    "soap": "methods/test_soap.py::test_pixels_are_scaled_as_the_equations_say",
    "place-motion": "test_old_files.py::test_the_same_weights_give_the_same_logits",
}
"""The test, below `tests/`, that holds a method's numbers against public code, equations or an older version."""
