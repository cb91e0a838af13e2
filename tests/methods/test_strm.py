"""STRM: the public code's numbers and gradients, and what its similarity does."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fsar.backbones import Backbone
from fsar.methods.base import Episode, Targets
from fsar.methods.strm import Strm, pool_patches
from tests.methods.test_gradients import assert_gradients, assert_losses, by_layer, golden_of, in_training

close = {"atol": 1e-4, "rtol": 1e-4}
WAY, SHOT, DIM = 3, 2, 8
MAPS = ("support_maps", "query_maps")
LAYERS = {
    "patches.query": "attn_pat.query_proj",
    "patches.key": "attn_pat.key_proj",
    "patches.value": "attn_pat.value_conv",
    "patches.feed_forward.0": "attn_pat.Bot_MLP.inp_fc",
    "patches.feed_forward.2": "attn_pat.Bot_MLP.hid_fc",
    "patches.feed_forward.4": "attn_pat.Bot_MLP.out_fc",
    "over_time.over_frames.0": "fr_enrich.Tok_MLP.inp_fc",
    "over_time.over_frames.2": "fr_enrich.Tok_MLP.out_fc",
    "over_time.over_channels.0": "fr_enrich.Bot_MLP.inp_fc",
    "over_time.over_channels.2": "fr_enrich.Bot_MLP.out_fc",
}


def build(dim: int = DIM, **options) -> Strm:
    """STRM over a backbone that only says its channels."""
    features = Backbone("features")
    features.dim = dim
    return Strm(features, Strm.Config(**options)).eval()


def tensors_of(method: Strm) -> dict[str, Tensor]:
    """Parameters under the reference's names."""
    layers = dict(LAYERS)
    for index, cardinality in enumerate(method.config.cardinalities):
        for ours, theirs in (("key", "k_linear"), ("value", "v_linear"), ("key_norm", "norm_k")):
            layers[f"trx.transformers.{index}.{ours}"] = f"transformers.card{cardinality}.{theirs}"
        layers[f"similarities.{index}.linear"] = f"similarity.card{cardinality}.clsW"
    return by_layer(method, layers) | {"attn_pat.gamma": method.patches.gamma}


def official(golden: dict[str, Tensor], **options) -> Strm:
    method = build(out_dim=12, **options)
    with torch.no_grad():
        for name, parameter in tensors_of(method).items():
            parameter.copy_(golden[f"w.{name}"].reshape(parameter.shape))
    return in_training(method)


def encoded(method: Strm, golden: dict[str, Tensor]) -> Episode:
    patches = [pool_patches(golden[name].movedim(2, -1)) for name in MAPS]
    support, query = ({"patches": part} for part in patches)
    order = golden["support_labels"].argsort(stable=True)
    by_class = {
        name: tensor[order].view(1, WAY, SHOT, 8, DIM) for name, tensor in method.enhance(support, "support").items()
    }
    queries = {name: tensor[None] for name, tensor in method.enhance(query, "query").items()}
    return Episode(by_class, queries, torch.ones(1, WAY, SHOT, dtype=torch.bool))


@pytest.mark.parametrize(("prefix", "cardinalities"), [("card2", (2,)), ("card23", (2, 3))])
def test_logits_losses_and_gradients_are_those_of_the_public_code(prefix: str, cardinalities: tuple[int, ...]) -> None:
    golden = golden_of("strm", MAPS)
    method = official(golden, cardinalities=cardinalities)
    episode = encoded(method, golden)
    torch.testing.assert_close(episode.query["patch_frames"][0], golden["i.patch_enriched_query"], **close)
    torch.testing.assert_close(episode.query["frames"][0], golden["i.frame_enriched_query"], **close)
    prediction = method.match(episode)
    expected = {name.removeprefix(f"{prefix}."): value for name, value in golden.items() if name.startswith(prefix)}
    for logits, name in (
        (prediction.logits, "logits_test"),
        (prediction.named["trx"], "logits_trx"),
        (prediction.named["similarity"], "logits_similarity"),
    ):
        torch.testing.assert_close(logits[0], expected[name], **close)
    terms = method.loss(episode, prediction, Targets(golden["query_labels"][None], torch.arange(WAY)[None]))
    total = sum(terms.values()) * 4 / 16  # the code: sums over 4 queries, / 16
    assert_losses(
        {"loss.trx_sum": 4 * terms["match"], "loss.similarity_sum": 40 * terms["similarity"]}
        | {"loss.total_official": total},
        expected,
    )
    if prefix == "card23":
        tensors = tensors_of(method) | {name: golden[name] for name in MAPS}
        gradients = {name: value for name, value in expected.items() if name.startswith("grad.")}
        assert_gradients(total, {f"grad.{name}": tensor for name, tensor in tensors.items()}, gradients)


def random_episode(method: Strm) -> Episode:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *axes: {"patches": torch.randn(*axes, 8, 16, DIM, generator=generator)}  # noqa: E731
    support, query = (method.enhance(draw(*axes), "query") for axes in ((1, WAY, SHOT), (1, 4)))
    return Episode(support, query, torch.ones(1, WAY, SHOT, dtype=torch.bool))


@pytest.mark.parametrize(("similarity", "trains"), [("trained", True), ("frozen-random", False)])
def test_a_random_similarity_does_not_train_but_what_is_below_does(similarity: str, trains: bool) -> None:
    method = build(out_dim=8, similarity=similarity)
    episode = random_episode(method)
    aim = Targets(torch.tensor([[0, 1, 2, 0]]), torch.arange(WAY)[None])
    method.loss(episode, method.match(episode), aim)["similarity"].backward()
    layer, below = method.similarities[0].linear, method.patches.feed_forward[4]
    assert (layer.weight.grad is not None) is trains
    assert below.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_the_similarity_by_hand() -> None:
    """Mean over the query's pairs of the distance to the nearest pair of the class; a missing shot is no neighbour."""
    method = build(out_dim=8)
    episode = random_episode(method)
    episode.shot_mask[0, 1, 0] = False
    layer = method.similarities[0].linear
    pairs = torch.combinations(torch.arange(8), 2)
    embed = lambda frames: layer(frames[pairs].flatten(1)).relu()  # noqa: E731
    found = method.match(episode).named["similarity"][0]
    for q, query in enumerate(episode.query["patch_frames"][0]):
        for c, shots in enumerate(episode.support["patch_frames"][0]):
            support = torch.cat([embed(s) for s, there in zip(shots, episode.shot_mask[0, c], strict=True) if there])
            distances = torch.stack([(row - support).norm(dim=-1).min() for row in embed(query)])
            torch.testing.assert_close(found[q, c], -distances.mean())


@torch.no_grad()
def test_double_precision_stays() -> None:
    method = build(out_dim=8).double()
    episode = random_episode(build(out_dim=8))
    support, query = ({name: part.double() for name, part in side.items()} for side in (episode.support, episode.query))
    named = method.match(replace(episode, support=support, query=query)).named
    assert {name: scores.dtype for name, scores in named.items()} == dict.fromkeys(named, torch.float64)


@torch.no_grad()
def test_without_similarity_only_trx_is_left() -> None:
    whole, off = build(out_dim=8), build(out_dim=8, similarity="off")
    off.load_state_dict(whole.state_dict(), strict=False)
    episode = random_episode(whole)
    assert off.match(episode).logits.equal(whole.match(episode).named["trx"])
    flipped = replace(episode, support={name: part.flip(2) for name, part in episode.support.items()})
    torch.testing.assert_close(whole.match(flipped).logits, whole.match(episode).logits)


@torch.no_grad()
@pytest.mark.parametrize(("patch", "frame"), [(False, True), (True, False), (False, False)])
def test_an_enrichment_that_is_off_passes_its_input_on(patch: bool, frame: bool) -> None:
    whole, part = build(out_dim=8), build(out_dim=8, patch=patch, frame=frame)
    assert part.load_state_dict(whole.state_dict(), strict=False).missing_keys == []
    gone = {name.partition(".")[0] for name in whole.state_dict().keys() - part.state_dict().keys()}
    assert gone == {name for name, there in (("patches", patch), ("over_time", frame)) if not there}
    patches = torch.randn(1, 2, 8, 16, DIM)
    frames = whole.patches(patches) if patch else patches.mean(-2)
    found = part.enhance({"patches": patches}, "query")
    assert found["patch_frames"].equal(frames)
    expected = {"frames": whole.over_time(frames)} if frame else {}
    assert all(found[name].equal(rows) for name, rows in expected.items()) and len(found) == 1 + len(expected)
    episode = random_episode(part)
    compared = [side["frames" if frame else "patch_frames"] for side in (episode.query, episode.support)]
    assert part.match(episode).named["trx"].equal(part.trx(*compared, episode.shot_mask))


def test_windows_are_those_of_the_public_code() -> None:
    """Of 7 rows: 0 to 1, 1 to 3, 3 to 5, 5 to 6."""
    rows = torch.arange(7.0)[:, None].expand(7, 7)[None, :, :, None]
    assert pool_patches(rows)[0, :, 0].unflatten(0, (4, 4))[:, 0].tolist() == [1, 3, 5, 6]


def test_wrong_options_and_frames_are_named() -> None:
    with pytest.raises(ValueError, match=r"strm: cardinalities is \[2\] and frames 1.*as many frames"):
        build(frames=1)
    with pytest.raises(ValueError, match="strm got frames: 4, which has no effect with frame: false"):
        build(frame=False, frames=4)
    assert build(frame=False, cardinalities=(9,), out_dim=8).config.cardinalities == (9,)  # of videos that have them
    with pytest.raises(ValueError, match="built for 4 frames per video and got 8; set its option `frames` to 8"):
        random_episode(build(frames=4))


@pytest.mark.parametrize(
    ("options", "gone"), [({}, 0), ({"patch": False}, 17_836_033), ({"frame": False}, 8_392_848)], ids=str
)
def test_parameters_with_resnet_50(options: dict[str, bool], gone: int) -> None:
    """The public code's 59,181,009 without the layer of values that it never uses, and with the one it forgets."""
    with torch.device("meta"):
        method = build(2048, **options)
    own = sum(parameter.numel() for parameter in method.parameters())
    assert own + 23_508_032 == 59_181_009 - 2_304 + 4_195_328 - gone
