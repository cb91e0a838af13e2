"""Numbers of the reference implementations, tolerance 1e-4 (FSAR_GOLDEN_DIR, default tests/golden)."""

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fsar.alignment import bi_mhm, frame_similarity, otam
from fsar.backbones import Backbone
from fsar.methods import build_method
from fsar.methods.base import Episode
from fsar.methods.trx import CrossTransformer, positional_encoding
from tests.conftest import GOLDEN

close = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def metrics() -> dict[str, Tensor]:
    return load_file(GOLDEN / "metrics.safetensors")


def episode_of(golden: dict[str, Tensor]) -> Episode:
    """The golden files' episode: support videos in mixed order, their labels beside them."""
    labels = golden["support_labels"]
    by_class = torch.stack([golden["support_feats"][labels == label] for label in labels.unique()])
    return Episode(
        {"frames": by_class[None]},
        {"frames": golden["query_feats"][None]},
        torch.ones(1, *by_class.shape[:2], dtype=torch.bool),
    )


def test_cos_eps(metrics: dict[str, Tensor]) -> None:
    query, support = metrics["query_feats"], metrics["support_feats"]
    similarity = frame_similarity(query, support, eps=0.01)  # query support query_frame support_frame
    torch.testing.assert_close(1 - similarity, metrics["frame_dists"], **close)
    flat = similarity.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    torch.testing.assert_close(flat, metrics["cos_sim_eps"], **close)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
@pytest.mark.parametrize(
    ("direction", "name"), [("query-to-support", "q2s"), ("support-to-query", "s2q"), ("both", "bidir")]
)
def test_otam(metrics: dict[str, Tensor], smoothing: float, direction: str, name: str) -> None:
    got = otam(metrics["frame_dists"], smoothing, direction)
    torch.testing.assert_close(got, metrics[f"otam_{name}_lambda{smoothing}"], **close)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_otam_pads_the_second_axis(metrics: dict[str, Tensor], smoothing: float) -> None:
    distance = metrics["frame_dists_6x9"]
    got = otam(distance, smoothing, "query-to-support")
    torch.testing.assert_close(got, metrics[f"otam_6x9_lambda{smoothing}"], **close)
    got = otam(distance, smoothing, "support-to-query")
    torch.testing.assert_close(got, metrics[f"otam_6x9_transposed_lambda{smoothing}"], **close)


def test_bi_mhm(metrics: dict[str, Tensor]) -> None:
    similarity = 1 - metrics["bimhm_frame_dists_support_by_query"].transpose(-1, -2)
    torch.testing.assert_close(bi_mhm(similarity), metrics["bimhm_dist"], **close)


@pytest.mark.parametrize(
    ("name", "options", "golden"),
    [
        ("protonet", {"per": "video"}, "logits_tsn_cos_mean_of_shots"),
        ("protonet", {"cos_eps": 0.0}, "logits_ta_code_cos_of_time_means"),
        ("protonet", {"cos_eps": 0.0, "similarity": "frame-wise"}, "logits_ta_paper_mean_framewise_cos"),
        ("otam", {}, "logits_otam_mean_of_shots_lambda0.1"),
        ("otam", {"per": "prototype"}, "logits_otam_proto_bidir_lambda0.5"),
        (
            "otam",
            {"per": "prototype", "direction": "query-to-support"},
            "logits_otam_proto_q2s_lambda0.5",
        ),
        ("bi-mhm", {}, "logits_bimhm_proto"),
        ("bi-mhm", {"per": "video"}, "logits_bimhm_mean_of_shots"),
    ],
)
def test_logits(metrics: dict[str, Tensor], tiny: Backbone, name: str, options: dict, golden: str) -> None:
    logits = build_method(name, tiny, **options).match(episode_of(metrics)).logits[0]
    torch.testing.assert_close(logits, metrics[golden], **close)


def test_trx() -> None:
    golden = load_file(GOLDEN / "trx.safetensors")
    episode = episode_of(golden)
    logits = []
    for cardinality in (2, 3):
        part = {
            key.removeprefix(f"card{cardinality}."): v
            for key, v in golden.items()
            if key.startswith("card") and key.startswith(f"card{cardinality}.")
        }
        transformer = CrossTransformer(16, cardinality, 12, dropout=0.1).eval()
        for module, name in (
            (transformer.key, "k_linear"),
            (transformer.value, "v_linear"),
            (transformer.key_norm, "norm_k"),
        ):
            module.load_state_dict({"weight": part[f"{name}.weight"], "bias": part[f"{name}.bias"]})
        torch.testing.assert_close(positional_encoding(8, 16), part["positional_encoding"], **close)
        got = transformer(episode.query["frames"], episode.support["frames"], episode.shot_mask)
        torch.testing.assert_close(got[0], part["logits"], **close)
        logits.append(got[0])
    torch.testing.assert_close(torch.stack(logits).mean(0), golden["logits_mean"], **close)
