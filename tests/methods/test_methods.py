"""What holds for every method: contract and properties."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsar.backbones import Backbone
from fsar.methods import METHODS, build_method, method_class, parse_method
from fsar.methods.base import Encoding, Episode, Method
from fsar.training.episode_loss import EpisodeLoss
from tests.conftest import SUB_ACTIONS

WAY, SHOT, QUERY, FRAMES = 3, 2, 4, 8
SMALL = {
    "trx": {"out_dim": 16},
    "clip-fsar": {"hidden": 16},
    "clip-mdmf": {"hidden": 16},
    "clip-spm": {"hidden": 16, "head_dim": 4},
    "ma-fsar": {"hidden": 16},
    "task-adapter-pp": {"sub_actions": SUB_ACTIONS},
}  # options that make a method quick


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest, tiny: Backbone) -> Method:
    return build_method(request.param, tiny, **SMALL.get(request.param, {}))


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(WAY * SHOT + QUERY, FRAMES, 3, 64, 64, generator=generator)


def text_of(method: Method, labels: list[str]) -> torch.Tensor | None:
    return method.encode_text(labels)[None] if method.traits.reads_text else None


def episode_of(method: Method, clips: torch.Tensor) -> Episode:
    with torch.no_grad():
        return trainable_episode_of(method, clips)


def trainable_episode_of(method: Method, clips: torch.Tensor) -> Episode:
    support, query = clips[: WAY * SHOT], clips[WAY * SHOT :]
    own_text = None
    if method.traits.support_reads_text:
        own_text = method.encode_text(["waving", "clapping", "running"]).repeat_interleave(SHOT, 0)
    encoded = method.encode(support, "support", own_text)
    return Episode(
        {name: tensor.unflatten(0, (1, WAY, SHOT)) for name, tensor in encoded.items()},
        {name: tensor[None] for name, tensor in method.encode(query).items()},
        torch.ones(1, WAY, SHOT, dtype=torch.bool),
        text_of(method, ["waving", "clapping", "running"]),
    )


def apply(encoding: Encoding, function) -> Encoding:
    return {name: function(tensor) for name, tensor in encoding.items()}


def test_logits_are_finite_and_shaped(method: Method, clips: torch.Tensor) -> None:
    logits = method.match(episode_of(method, clips)).logits
    assert logits.shape == (1, QUERY, WAY)
    assert torch.isfinite(logits).all()


def test_encode_is_per_video(method: Method, clips: torch.Tensor) -> None:
    together = method.encode(clips[:3])
    alone = method.encode(clips[1])
    for name, tensor in together.items():
        torch.testing.assert_close(tensor[1], alone[name], atol=1e-5, rtol=1e-5)


def test_class_order_permutes_logits(method: Method, clips: torch.Tensor) -> None:
    episode = episode_of(method, clips)
    order = torch.tensor([2, 0, 1])
    shuffled = replace(
        episode,
        support=apply(episode.support, lambda t: t[:, order]),
        text=None if episode.text is None else episode.text[:, order],
    )
    expected = method.match(episode).logits[..., order]
    torch.testing.assert_close(method.match(shuffled).logits, expected, atol=1e-4, rtol=1e-4)


def test_logits_of_classes_are_independent_where_the_traits_say_so(method: Method, clips: torch.Tensor) -> None:
    """The recogniser judges "unknown" by a match without the query's class; only independent logits spare it that."""
    episode = episode_of(_shaken(method), clips)
    logits = method.match(episode).logits
    same = []
    for left_out in range(WAY):
        others = [way for way in range(WAY) if way != left_out]
        fewer = replace(
            episode,
            support=apply(episode.support, lambda t, others=others: t[:, others]),
            shot_mask=episode.shot_mask[:, others],
            text=None if episode.text is None else episode.text[:, others],
        )
        same.append(torch.allclose(method.match(fewer).logits, logits[..., others], rtol=1e-5, atol=1e-6))
    assert all(same) == method.traits.independent_ways


@pytest.mark.parametrize("spec", [
    "protonet", "protonet:similarity=frame-wise", "otam:per=prototype", "bi-mhm", "place-motion",
    "place-motion:alignment=otam", "aim", "aim:metric=otam", "aim:metric=protonet", "aim:text=true", "zero-shot",
])  # fmt: skip
def test_means_of_the_support_give_the_same_logits(spec: str, tiny: Backbone, clips: torch.Tensor) -> None:
    name, options = parse_method(spec)
    method = build_method(name, tiny, **options)
    episode = episode_of(_shaken(method), clips)
    means = replace(
        episode, support=apply(episode.support, lambda t: t.mean(2, keepdim=True)), shot_mask=episode.shot_mask[..., :1]
    )
    assert method.traits.matches_means
    torch.testing.assert_close(method.match(means).logits, method.match(episode).logits, rtol=1e-4, atol=1e-5)


def test_other_methods_need_every_example(method: Method, clips: torch.Tensor) -> None:
    """Nobody claims the trait without the test above."""
    tested = ("protonet", "bi-mhm", "place-motion", "aim", "zero-shot")
    assert method.traits.matches_means == (method.name in tested)


def test_variants_match_as_each_would_alone(tiny: Backbone, clips: torch.Tensor) -> None:
    method = build_method("place-motion", tiny)
    episode = episode_of(method, clips)
    together = method.match_variants(episode)
    assert len(together) == len(method.variants()) == 15
    for variant, logits in zip(method.variants(), together, strict=True):
        assert torch.equal(variant.match(episode).logits, logits)


def _shaken(method: Method) -> Method:
    """Move the method's own parameters away from the values at which they have no effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if not name.startswith("backbone."):
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return method


def test_shot_order_is_irrelevant(method: Method, clips: torch.Tensor) -> None:
    episode = episode_of(method, clips)
    flipped = replace(episode, support=apply(episode.support, lambda t: t.flip(2)))
    torch.testing.assert_close(method.match(flipped).logits, method.match(episode).logits, atol=1e-4, rtol=1e-4)


def test_inductive_query_alone_equals_in_company(method: Method, clips: torch.Tensor) -> None:
    episode = episode_of(method, clips)
    together = method.match(episode).logits
    alone = torch.cat(
        [method.match(replace(episode, query=apply(episode.query, lambda t, i=i: t[:, i : i + 1]))).logits
         for i in range(QUERY)], 1
    )  # fmt: skip
    assert torch.allclose(together, alone, atol=1e-4) != method.traits.transductive


def test_episodes_do_not_see_each_other(method: Method, clips: torch.Tensor) -> None:
    first, second = episode_of(method, clips), episode_of(method, clips.flip(0))
    both = Episode(
        {name: torch.cat([first.support[name], second.support[name]]) for name in first.support},
        {name: torch.cat([first.query[name], second.query[name]]) for name in first.query},
        torch.cat([first.shot_mask, second.shot_mask]),
        None if first.text is None or second.text is None else torch.cat([first.text, second.text]),
    )
    logits = method.match(both).logits
    torch.testing.assert_close(logits[:1], method.match(first).logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[1:], method.match(second).logits, atol=1e-4, rtol=1e-4)


def test_what_stands_for_a_missing_shot_changes_nothing(method: Method, clips: torch.Tensor) -> None:
    episode = episode_of(method, clips)
    mask = episode.shot_mask.clone()
    mask[0, 1, 1] = False

    def put(tensor: torch.Tensor, junk: float) -> torch.Tensor:
        changed = tensor.clone()
        changed[0, 1, 1] = junk
        return changed

    logits = [
        method.match(replace(episode, support=apply(episode.support, lambda t, v=v: put(t, v)), shot_mask=mask)).logits
        for v in (0.0, 1e3)
    ]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)


def test_masked_shots_are_as_good_as_absent(method: Method, clips: torch.Tensor) -> None:
    episode = episode_of(method, clips)
    mask = episode.shot_mask.clone()
    mask[..., 1] = False
    one_shot = replace(episode, support=apply(episode.support, lambda t: t[:, :, :1]), shot_mask=mask[..., :1])
    padded, single = method.match(replace(episode, shot_mask=mask)).logits, method.match(one_shot).logits
    torch.testing.assert_close(padded, single, atol=1e-4, rtol=1e-4)


def test_gradients_reach_what_the_method_adds(method: Method, clips: torch.Tensor) -> None:
    own = [p for name, p in method.named_parameters() if not name.startswith("backbone.")]
    if own:
        prediction = method.match(trainable_episode_of(method, clips))
        sum(t.square().sum() for t in (prediction.logits, *prediction.named.values())).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in own)
        method.zero_grad()


def test_half_precision_trains(method: Method, clips: torch.Tensor) -> None:
    """With the loss scaled as in a run's first step: 65,536, over 16 episodes. Two classes, since it is slow here."""
    if not method.traits.trains:
        return
    labels = ["waving", "clapping"]
    method.begin_training(labels)
    text = method.text_input(labels, np.random.default_rng(0))[None] if method.traits.reads_text else None
    with torch.autocast("cpu", torch.float16):
        terms, _ = EpisodeLoss(method.train())(
            clips[:2].unflatten(0, (1, 2, 1)), clips[None, 2:3], text, torch.tensor([[0]]), torch.tensor([[0, 1]])
        )
    (4096 * sum(terms.values())).backward()
    slopes = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    assert slopes and not [name for name, slope in slopes.items() if not slope.isfinite().all()]
    method.zero_grad()


@torch.no_grad()
def test_enhancing_frame_features_is_encoding(method: Method, clips: torch.Tensor) -> None:
    """What training on a bank rests on."""
    start = method.encoder()
    text = method.encode_text(["waving", "clapping"]) if method.traits.support_reads_text else None
    for role in ("support", "query"):
        encoded = method.encode(clips[:2], role, text)
        enhanced = method.enhance(start.encode(clips[:2], role, text), role, text)
        assert encoded.keys() == enhanced.keys()
        assert all(torch.equal(encoded[name], enhanced[name]) for name in encoded)


@torch.no_grad()
def test_encodings_can_be_kept(method: Method, clips: torch.Tensor) -> None:
    """A bank's file holds tensors that share no memory, all with the videos' axis."""
    text = method.encode_text(["waving", "clapping"]) if method.traits.support_reads_text else None
    for role in ("support", "query"):
        encoded = method.encode(clips[:2], role, text)
        assert all(len(tensor) == 2 for tensor in encoded.values())
        assert len({tensor.untyped_storage().data_ptr() for tensor in encoded.values()}) == len(encoded)


@torch.no_grad()
def test_the_bank_is_keyed_by_everything_that_encodes(method: Method, clips: torch.Tensor) -> None:
    """What a bank on disk holds changes only with its key; that of a frozen encoder does not change at all."""
    text = method.encode_text(["waving"]) if method.traits.support_reads_text else None

    def banked() -> list[Encoding]:
        return [method.encoder().encode(clips[:1], role, text) for role in ("support", "query")]

    before = banked()
    for name, parameter in method.named_parameters():
        if name.startswith("backbone."):
            continue
        key = method.encoder().key()
        kept = parameter.clone()
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        changed = any(not torch.equal(a[part], b[part]) for a, b in zip(before, banked(), strict=True) for part in a)
        assert not changed or method.encoder().key() != key, f"{name} changes what encodes, not the key"
        assert not changed or not method.encoder().is_frozen
        parameter.copy_(kept)


def test_same_options_give_the_same_method(method: Method, clips: torch.Tensor, tiny: Backbone) -> None:
    again = build_method(method.name, tiny, **method.options())
    episode = episode_of(method, clips)
    torch.testing.assert_close(again.match(episode).logits, method.match(episode).logits)


def test_table_and_classes_agree() -> None:
    for name in METHODS:
        cls = method_class(name)
        assert cls.name == name and cls.__doc__ and cls.match is not Method.match


def test_a_method_that_reads_text_needs_a_text_tower(tiny: Backbone) -> None:
    blind = Backbone("blind")
    with pytest.raises(ValueError, match=r"'zero-shot' reads class names, but backbone 'blind' has no text.*CLIP"):
        build_method("zero-shot", blind)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("otan", {}, "did you mean 'otam'"),
        ("otam", {"smothing": 1}, "did you mean 'smoothing'"),
        ("otam", {"direction": "up"}, "direction.*Got value: up"),
        ("otam", {"smoothing": "much"}, "smoothing"),
        ("place-motion", {"grid": 0}, "grid 0.*at least 1"),
        ("place-motion", {"weight": 1.5}, "weight 1.5"),
    ],
)
def test_wrong_options_are_named(tiny: Backbone, name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_method(name, tiny, **options)


def test_method_specs() -> None:
    assert parse_method("otam") == ("otam", {})
    assert parse_method("otam:per=prototype,smoothing=0.5") == ("otam", {"per": "prototype", "smoothing": 0.5})
    with pytest.raises(ValueError, match="cannot read 'per'"):
        parse_method("otam:per")


def test_place_motion_sees_place_and_order(tiny: Backbone) -> None:
    """A bright square moving right, another moving left: one is the other reversed."""
    right = torch.zeros(1, 8, 3, 64, 64)
    for i in range(8):
        right[0, i, :, 24:40, 6 * i : 6 * i + 16] = 2.0
    left = right.flip(1)
    method = build_method("place-motion", tiny, weight=1.0)
    support = torch.stack([right, left])  # way shot frame ...
    encode = lambda x: {k: v[None] for k, v in method.encode(x).items()}  # noqa: E731
    with torch.no_grad():
        episode = Episode(encode(support), encode(torch.cat([right, left])), torch.ones(1, 2, 1, dtype=torch.bool))
        assert (method.match(episode).logits[0].argmax(-1) == torch.arange(2)).all()


def test_place_motion_forgets_what_stays(tiny: Backbone) -> None:
    """A constant video has no motion at all."""
    still = torch.rand(1, 1, 3, 64, 64).expand(1, 8, 3, 64, 64)
    with torch.no_grad():
        place = build_method("place-motion", tiny).encode(still)["place"]
    assert place.norm(dim=-1).max() < 0.01


@pytest.mark.parametrize("name", ["clip-mdmf", "clip-spm"])
def test_the_public_codes_pixels_are_not_normalised(name: str, tiny: Backbone) -> None:
    """Pixels of [0, 1] reach the backbone; only the official variant, and no bank of the other kind is taken."""
    own, none = (tiny.mean, tiny.std), ((0.0,) * 3, (1.0,) * 3)
    for options, expected in (({}, own), ({"variant": "official"}, none), ({"pixels": "unit"}, none)):
        assert build_method(name, tiny, **options).normalization == expected
    plain, unit = build_method(name, tiny), build_method(name, tiny, variant="official")
    assert plain.encoder().key() != unit.encoder().key()
    assert build_method(name, tiny, variant="official", pixels="normalized").encoder().key() == plain.encoder().key()
