"""TA2N: the public code's numbers and gradients, its short ways of convolution, and its windows by hand."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, grid_sample, layer_norm

from fsar.backbones import Backbone
from fsar.methods.base import Episode, Prediction, Targets
from fsar.methods.ta2n import Ta2n, _of_constant, windows
from tests.methods.test_gradients import assert_gradients, assert_losses, by_layer, golden_of, in_training, outputs_of

close = {"atol": 1e-4, "rtol": 1e-4}
WAY, DIM = 3, 6
MAPS = ("support_maps_classmajor", "query_maps")
LAYERS = {
    f"{ours}.{layer}": f"{theirs}.{number}"
    for ours, theirs, convolutions in (
        ("duration", "duration", ("convolutions.0", "convolutions.1")),
        ("evolution", "offset", ("joined", "convolution")),
    )
    for layer, number in zip((*convolutions, "norms.0", "norms.1", "out.0", "out.2"), (0, 4, 1, 5, 10, 12), strict=True)
}
LAYERS |= {f"evolution.{name}": f"evolution.{name}net" for name in ("key", "query", "value")}
ALIGNMENT = {"key": "keynet_multi", "query": "querynet_multi", "value": "valuenet_multi"}


def build(dim: int = DIM, **options) -> Ta2n:
    """TA2N over a backbone that only says its channels."""
    features = Backbone("features")
    features.dim = dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Ta2n(features, Ta2n.Config(**options)).eval()


def narrow(**options) -> Ta2n:
    return build(duration_channels=(5, 6, 4), evolution_channels=(6, 6, 4), **options)


def tensors_of(method: Ta2n, golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under the reference's names."""
    several = [name for name in golden if name.startswith("w.") and "multi" in name]
    layers = LAYERS | ({f"alignment.{k}": v for k, v in ALIGNMENT.items()} if several else {})
    return by_layer(method, layers)


@pytest.mark.parametrize(("file", "shot"), [("ta2n_1shot", 1), ("ta2n_2shot", 2)])
@pytest.mark.parametrize("statistics", ["train", "frozen_bn"])
def test_logits_losses_and_gradients_are_those_of_the_public_code(file: str, shot: int, statistics: str) -> None:
    golden = golden_of(file, MAPS)
    method = in_training(narrow(shots="mean" if shot == 1 else "first"))
    tensors = tensors_of(method, golden)
    with torch.no_grad():
        for name, parameter in tensors.items():
            parameter.copy_(golden[f"w.{name}"].reshape(parameter.shape))
        for name, module in method.named_modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.copy_(golden[f"w.{LAYERS[name]}.running_mean"])
                module.running_var.copy_(golden[f"w.{LAYERS[name]}.running_var"])
    method.train(statistics == "train")
    thetas = outputs_of(method.duration, "scale_and_shift")
    offsets = outputs_of(method.evolution, "offsets")
    support, query = (method.enhance({"maps": golden[name].movedim(2, -1)}, "query") for name in MAPS)
    support = {name: part.unflatten(0, (1, WAY, shot)) for name, part in support.items()}
    mask = torch.ones(1, WAY, shot, dtype=torch.bool)
    episode = Episode(support, {name: part[None] for name, part in query.items()}, mask)
    prediction = method.match(episode)
    for name, theta in zip(("support", "query"), thetas, strict=True):
        torch.testing.assert_close(theta, golden[f"i.{statistics}.theta_{name}"], **close)
    torch.testing.assert_close(offsets[0][0].transpose(0, 1), golden[f"i.{statistics}.offsets"], **close)
    named = {name: rows[0].transpose(0, 1) for name, rows in prediction.named.items()}  # way query frame channel
    torch.testing.assert_close(named["query"], golden[f"i.{statistics}.query_vectors"], **close)
    torch.testing.assert_close(named["classes"], golden[f"i.{statistics}.support_vectors"], **close)
    torch.testing.assert_close(prediction.logits[0], golden[f"{statistics}.logits"], **close)
    terms = method.loss(episode, prediction, Targets(golden["query_labels"][None], torch.arange(WAY)[None]))
    assert_losses({f"{statistics}.loss.mean": terms["match"]}, golden)
    leaves = {name: golden[name] for name in MAPS if statistics == "frozen_bn"}  # the file has no others
    found = {f"{statistics}.grad.{name}": tensor for name, tensor in (tensors | leaves).items()}
    noise = {name for name in found if statistics == "train" and name.endswith((".0.bias", ".4.bias"))}  # before a norm
    wanted = {name: value for name, value in golden.items() if name.startswith(f"{statistics}.grad.")}
    assert_gradients(terms["match"], *({k: v for k, v in d.items() if k not in noise} for d in (found, wanted)))


@pytest.mark.parametrize("size", [(7, 7), (2, 5), (1, 3)])
def test_the_short_way_of_convolution_is_the_long_one(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 4, 3, generator=generator)  # pair frame channel
    weight = torch.randn(5, 3, 3, 3, 3, generator=generator)
    everywhere = rows.mT[..., None, None].expand(-1, -1, -1, *size)
    expected = conv3d(everywhere, weight, padding=1).movedim(1, -1)
    torch.testing.assert_close(_of_constant(rows, weight, size), expected)


@pytest.mark.parametrize("size", [(7, 7), (4, 10), (1, 2)])
def test_windows_are_a_map_of_ones_that_is_read_elsewhere(size: tuple[int, int]) -> None:
    """Read between places linearly, with zeros outside; nine of them, each divided by its sum."""
    shift = torch.tensor([0.5, -0.3])  # x, y
    axes = [torch.linspace(-1, 1, length) if length > 1 else torch.zeros(1) for length in size]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)  # row column xy
    total = torch.zeros(size)
    for dx, dy in itertools.product((-0.2, 0.0, 0.2), repeat=2):
        read_at = (places + shift + torch.tensor([dx, dy]))[None]
        mask = grid_sample(torch.ones(1, 1, *size), read_at, align_corners=True)[0, 0]
        total += mask / mask.sum() / 9
    rows, columns = windows(shift[None], size, perturb=True)
    torch.testing.assert_close(rows[0][:, None] * columns[0], total)


@torch.no_grad()
def test_missing_shots_and_the_order_of_shots() -> None:
    """With `first`, the first shot that is there is the reference."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, WAY, 3, 4, 3, 3, DIM, generator=generator)
    query = torch.randn(1, 2, 4, 3, 3, DIM, generator=generator)
    mask = torch.ones(1, WAY, 3, dtype=torch.bool)
    mask[..., 0] = False

    def match(method: Ta2n, maps: Tensor, mask: Tensor) -> Tensor:
        support, queries = (method.enhance({"maps": part}, "query") for part in (maps, query))
        return method.match(Episode(support, queries, mask)).logits

    for method in (narrow(shots="first"), narrow()):
        torch.testing.assert_close(match(method, maps, mask), match(method, maps[:, :, 1:], mask[..., 1:]))
    torch.testing.assert_close(match(narrow(), maps.flip(2), mask.flip(2)), match(narrow(), maps, mask))


@torch.no_grad()
@pytest.mark.parametrize("shots", ["mean", "first"])
def test_masked_shots_beside_the_real_ones_change_nothing(shots: str) -> None:
    """An episode of one shot per class, beside one of two: each as by itself."""
    generator = torch.Generator().manual_seed(0)
    method = narrow(shots=shots)
    support = method.enhance({"maps": torch.randn(2, WAY, 2, 4, 3, 3, DIM, generator=generator)}, "support")
    query = method.enhance({"maps": torch.randn(2, 2, 4, 3, 3, DIM, generator=generator)}, "query")
    mask = torch.ones(2, WAY, 2, dtype=torch.bool)
    mask[0, :, 1] = False
    logits = method.match(Episode(support, query, mask)).logits
    for episode, shot in ((0, 1), (1, 2)):
        of_support = {name: part[[episode], :, :shot] for name, part in support.items()}
        of_query = {name: part[[episode]] for name, part in query.items()}
        alone = method.match(Episode(of_support, of_query, mask[[episode], :, :shot])).logits
        torch.testing.assert_close(logits[[episode]], alone)


def random_episode(shots: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of support videos and of queries, and a mask."""
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(1, WAY, shots, 4, 3, 3, DIM, generator=generator)
    query = torch.randn(1, 2, 4, 3, 3, DIM, generator=generator)
    return support, query, torch.ones(1, WAY, shots, dtype=torch.bool)


def matched(method: Ta2n, support: Tensor, query: Tensor, mask: Tensor) -> Prediction:
    of_support, of_query = (method.enhance({"maps": maps}, "query") for maps in (support, query))
    return method.match(Episode(of_support, of_query, mask))


@torch.no_grad()
@pytest.mark.parametrize("shots", ["mean", "first"])
@pytest.mark.parametrize(
    ("evolution", "left"),
    [("time", {"key", "query", "value"}), ("space", {"joined", "convolution", "norms", "out"}), ("none", set())],
)
def test_parts_of_the_second_stage_that_are_off_move_nothing(shots: str, evolution: str, left: set[str]) -> None:
    """What is off has no parameters; the part that is on does what it does in the whole stage."""
    whole, part = build(shots=shots, duration=False), build(shots=shots, duration=False, evolution=evolution)
    whole.evolution.out[2].bias.copy_(torch.tensor([0.5, -1.0]))
    assert part.load_state_dict(whole.state_dict(), strict=False).missing_keys == []
    assert {name for name, _ in part.evolution.named_children()} == left
    support, query, mask = random_episode(1)
    if evolution == "space":  # values of 0 add nothing
        whole.evolution.value.weight.zero_()
        expected = matched(whole, support, query, mask).named
    else:
        frames, classes = query.mean((-3, -2)), support[:, :, 0].mean((-3, -2))
        added = whole.evolution.in_time(frames, classes) if left else (0, torch.zeros_like(classes))
        pairs = (1, 2, WAY, 4, DIM)
        of_query, of_class = frames[:, :, None] + added[0], (classes + added[1])[:, None]
        expected = {"query": of_query.expand(pairs), "classes": of_class.expand(pairs)}
    for name, rows in matched(part, support, query, mask).named.items():
        torch.testing.assert_close(rows, expected[name])


@torch.no_grad()
def test_normed_logits_are_those_of_a_layer_norm_over_the_classes_that_are_there() -> None:
    plain, normed = narrow(), narrow(dist_norm=True)
    support, query, mask = random_episode()
    before = matched(plain, support, query, mask).logits
    torch.testing.assert_close(matched(normed, support, query, mask).logits, layer_norm(before, (WAY,)))
    assert plain.traits.independent_ways and not normed.traits.independent_ways
    mask[0, 1] = False
    found = matched(normed, support, query, mask).logits
    torch.testing.assert_close(found[..., [0, 2]], layer_norm(before[..., [0, 2]], (2,)))
    assert (found[..., 1] == -torch.inf).all()


def test_the_cut_begins_near_the_whole_video_and_ends_in_zeros() -> None:
    method = narrow()
    maps = torch.ones(1, 5, 3, 3, DIM)
    scale, shift = method.duration.scale_and_shift(maps)[0]
    torch.testing.assert_close((scale, shift), (torch.tensor(2.0).tanh(), torch.tensor(0.0)))
    with torch.no_grad():
        method.duration.out[2].bias.copy_(torch.tensor([2.0, 1.5]))  # nearly half of the video later
        cut = method.duration(maps)
    assert cut[0, 1].allclose(torch.tensor(1.0)) and cut[0, -1].abs().max() == 0


def test_wrong_options_are_named() -> None:
    for option in ({"perturb": False}, {"evolution_channels": (5, 4, 3)}):
        with pytest.raises(ValueError, match=f"ta2n got {next(iter(option))}: .* no effect with evolution: time"):
            build(evolution="time", **option)
    with pytest.raises(ValueError, match=r"Ta2n.Config: dropout is 1.5; expected a share in \[0, 1"):
        build(dropout=1.5)


@pytest.mark.parametrize(
    ("options", "own"),
    [({}, 30_955_108), ({"shots": "first"}, 43_538_020), ({"evolution": "none"}, 3_764_898)],
    ids=str,
)
def test_parameters_with_resnet_50(options: dict[str, str], own: int) -> None:
    """54,463,140 and 67,046,052 with ResNet-50 without its classifier (23,508,032); the first stage alone."""
    with torch.device("meta"):
        method = build(2048, **options)
    assert sum(parameter.numel() for parameter in method.parameters()) == own
