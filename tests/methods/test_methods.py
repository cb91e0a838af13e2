"""What holds for every method: contract and properties."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from fsar.backbones import Backbone
from fsar.methods import METHODS, build_method, method_class, parse_method, parse_options
from fsar.methods.base import Encoding, Episode, Method
from fsar.methods.episode import Targets
from fsar.training.episode_loss import EpisodeLoss
from fsar.training.parameters import kept_state
from tests.methods.entries import SMALL

WAY, SHOT, QUERY, FRAMES = 3, 2, 4, 4
LABELS = ["waving", "clapping", "running"]
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
CASES = [(name, {}) for name in METHODS]
CASES += [
    (name, {"inductive": False})
    for name in METHODS
    if "inductive" in {f.name for f in fields(method_class(name).Config)}
]
"""Every method, and every method in its other mode."""


def build(case: tuple[str, dict[str, Any]], backbone: Backbone, **more: Any) -> Method:
    """A small method with weights that are no fixed point: what starts at zero or one has moved."""
    name, options = case
    if "frames" in {field.name for field in fields(method_class(name).Config)}:
        more = {"frames": FRAMES} | more
    method = build_method(name, backbone, **SMALL.get(name, {}), **options, **more)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in method.named_parameters():
            if not parameter_name.startswith("backbone."):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return method


@pytest.fixture(scope="module", params=CASES, ids=lambda case: " ".join([case[0], *case[1]]))
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param


@pytest.fixture(scope="module")
def method(case: tuple[str, dict[str, Any]], small: Backbone) -> Method:
    """Shared by the tests of a case, which leave it as it is."""
    return build(case, small)


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(WAY * SHOT + QUERY, FRAMES, 3, 16, 16, generator=generator)


@pytest.fixture(scope="module")
def episode(method: Method, clips: torch.Tensor) -> Episode:
    with torch.no_grad():
        return episode_of(method, clips)


def episode_of(method: Method, clips: torch.Tensor) -> Episode:
    support, query = clips[: WAY * SHOT].unflatten(0, (1, WAY, SHOT)), clips[None, WAY * SHOT :]
    text = method.encode_text(LABELS)[None] if method.traits.reads_text else None
    draws = torch.rand(1, QUERY, WAY, generator=torch.Generator().manual_seed(2)) if method.traits.draws else None
    return method.encode_episode(support, query, text, draws)


def apply(encoding: Encoding, function: Callable[[torch.Tensor], torch.Tensor]) -> Encoding:
    return {name: function(tensor) for name, tensor in encoding.items()}


def with_queries(episode: Episode, chosen: Sequence[int]) -> Episode:
    draws = None if episode.draws is None else episode.draws[:, chosen]
    return replace(episode, query=apply(episode.query, lambda tensor: tensor[:, chosen]), draws=draws)


def with_classes(episode: Episode, chosen: Sequence[int]) -> Episode:
    return replace(
        episode,
        support=apply(episode.support, lambda tensor: tensor[:, chosen]),
        shot_mask=episode.shot_mask[:, chosen],
        text=None if episode.text is None else episode.text[:, chosen],
        draws=None if episode.draws is None else episode.draws[..., chosen],
    )


@torch.no_grad()
def logits_of(method: Method, episode: Episode) -> torch.Tensor:
    return method.match(episode).logits


def test_logits_are_finite_and_shaped(method: Method, episode: Episode) -> None:
    logits = logits_of(method, episode)
    assert logits.shape == (1, QUERY, WAY)
    assert torch.isfinite(logits).all()


@torch.no_grad()
def test_encode_is_per_video(method: Method, clips: torch.Tensor) -> None:
    together = method.encode(clips[:3])
    alone = method.encode(clips[1])
    for name, tensor in together.items():
        torch.testing.assert_close(tensor[1], alone[name], atol=1e-5, rtol=1e-5)


def test_no_label_reaches_a_score(method: Method, episode: Episode) -> None:
    """An evaluation may sort queries by class: another order moves rows and changes none. Nor does a loss leak."""
    logits, order = logits_of(method, episode), [3, 0, 2, 1]
    torch.testing.assert_close(logits_of(method, with_queries(episode, order)), logits[:, order], **CLOSE)
    if method.traits.trains:
        assert not method.traits.leaks_labels
        method.begin_training(LABELS)
        method.loss(episode, method.match(episode), Targets(torch.tensor([[2, 2, 0, 1]]), torch.tensor([[0, 1, 2]])))
        assert logits_of(method, episode).equal(logits)


def test_the_check_of_labels_finds_a_leak(small: Backbone, clips: torch.Tensor) -> None:
    leaky = build(("task-adapter-pp", {"variant": "official-leaky"}), small)
    episode = with_queries(episode_of(leaky, clips), [0, 1, 2])  # it needs as many queries as classes
    logits, order = logits_of(leaky, episode), [2, 0, 1]
    assert not torch.allclose(logits_of(leaky, with_queries(episode, order)), logits[:, order], atol=1e-3)


def test_class_order_permutes_logits(method: Method, episode: Episode) -> None:
    order = [2, 0, 1]
    shuffled = logits_of(method, with_classes(episode, order))
    torch.testing.assert_close(shuffled, logits_of(method, episode)[..., order], **CLOSE)


def test_logits_of_classes_are_independent_where_the_traits_say_so(method: Method, episode: Episode) -> None:
    """The recogniser judges "unknown" by a match without the query's class; only independent logits spare it that."""
    logits = logits_of(method, episode)
    same = []
    for left_out in range(WAY):
        others = [way for way in range(WAY) if way != left_out]
        fewer = logits_of(method, with_classes(episode, others))
        same.append(torch.allclose(fewer, logits[..., others], rtol=1e-5, atol=1e-6))
    assert all(same) == method.traits.independent_ways, (
        f"the logits of a class {'do not ' if all(same) else ''}change if another class is left out: `traits_of` must "
        f"set independent_ways={all(same)}"
    )


def test_means_of_the_support_are_enough_where_the_traits_say_so(method: Method, episode: Episode) -> None:
    assert means_are_enough(method, episode) or not method.traits.matches_means, (
        "the logits change if the support videos of a class are replaced by their mean: `traits_of` must set "
        "matches_means=False"
    )


@pytest.mark.parametrize(
    "spec", ["protonet:similarity=frame-wise", "otam:per=prototype", "place-motion:alignment=otam", "aim:text=true"]
)
def test_means_of_the_support_are_enough_with_these_options(spec: str, small: Backbone, clips: torch.Tensor) -> None:
    method = build(parse_method(spec), small)
    assert method.traits.matches_means and means_are_enough(method, episode_of(method, clips))


def means_are_enough(method: Method, episode: Episode) -> bool:
    support = apply(episode.support, lambda tensor: tensor.mean(2, keepdim=True))
    means = replace(episode, support=support, shot_mask=episode.shot_mask[..., :1])
    return torch.allclose(logits_of(method, means), logits_of(method, episode), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_variants_match_as_each_would_alone(small: Backbone, clips: torch.Tensor) -> None:
    method = build_method("place-motion", small)
    episode = episode_of(method, clips)
    together = method.match_variants(episode)
    assert len(together) == len(method.variants()) == 15
    for variant, logits in zip(method.variants(), together, strict=True):
        assert torch.equal(variant.match(episode).logits, logits)


def test_shot_order_is_irrelevant(method: Method, episode: Episode) -> None:
    flipped = replace(episode, support=apply(episode.support, lambda t: t.flip(2)))
    torch.testing.assert_close(logits_of(method, flipped), logits_of(method, episode), **CLOSE)


def test_an_inductive_query_alone_equals_in_company(method: Method, episode: Episode) -> None:
    alone = torch.cat([logits_of(method, with_queries(episode, [i])) for i in range(QUERY)], 1)
    same = torch.allclose(logits_of(method, episode), alone, atol=1e-4)
    assert same != method.traits.transductive, (
        f"the logits of a query {'do not ' if same else ''}change if the other queries are left out: `traits_of` must "
        f"set transductive={not same}"
    )


def test_episodes_do_not_see_each_other(method: Method, episode: Episode, clips: torch.Tensor) -> None:
    other = episode_of(method, clips.flip(0))
    both = Episode(
        {name: torch.cat([episode.support[name], other.support[name]]) for name in episode.support},
        {name: torch.cat([episode.query[name], other.query[name]]) for name in episode.query},
        torch.cat([episode.shot_mask, other.shot_mask]),
        None if episode.text is None or other.text is None else torch.cat([episode.text, other.text]),
        None if episode.draws is None or other.draws is None else torch.cat([episode.draws, other.draws]),
    )
    logits = logits_of(method, both)
    torch.testing.assert_close(logits[:1], logits_of(method, episode), **CLOSE)
    torch.testing.assert_close(logits[1:], logits_of(method, other), **CLOSE)


def test_what_stands_for_a_missing_shot_changes_nothing(method: Method, episode: Episode) -> None:
    """Noise as large as features, and far larger: a constant would hardly show in a cosine."""
    mask = episode.shot_mask.clone()
    mask[0, 1, 1] = False
    generator = torch.Generator().manual_seed(3)

    def junk(tensor: torch.Tensor, size: float) -> torch.Tensor:
        changed = tensor.clone()
        changed[0, 1, 1] = size * torch.randn(tensor.shape[3:], generator=generator)
        return changed

    logits = [
        logits_of(
            method, replace(episode, support=apply(episode.support, lambda t, s=size: junk(t, s)), shot_mask=mask)
        )
        for size in (0.0, 1.0, 1e3)
    ]
    torch.testing.assert_close(logits[1], logits[0], **CLOSE)
    torch.testing.assert_close(logits[2], logits[0], **CLOSE)


def test_a_class_without_examples_is_never_named(method: Method, episode: Episode) -> None:
    mask = episode.shot_mask.clone()
    mask[:, 1] = False
    logits = logits_of(method, replace(episode, shot_mask=mask))
    assert (logits[..., 1] == -torch.inf).all()
    assert logits[..., torch.arange(WAY) != 1].isfinite().all()


def test_masked_shots_are_as_good_as_absent(method: Method, episode: Episode) -> None:
    mask = episode.shot_mask.clone()
    mask[..., 1] = False
    one_shot = replace(episode, support=apply(episode.support, lambda t: t[:, :, :1]), shot_mask=mask[..., :1])
    torch.testing.assert_close(
        logits_of(method, replace(episode, shot_mask=mask)), logits_of(method, one_shot), **CLOSE
    )


def test_gradients_reach_what_the_method_adds(case: tuple[str, dict], small: Backbone, clips: torch.Tensor) -> None:
    method = build(case, small)
    own = [p for name, p in method.named_parameters() if not name.startswith("backbone.")]
    if own:
        assert "own" in method.traits.trains, "the method adds parameters: `traits_of` must name 'own' in trains"
        text = method.encode_text(LABELS[:2])[None] if method.traits.reads_text else None
        episode = method.encode_episode(clips[:2].unflatten(0, (1, 2, 1)), clips[None, 2:3], text)
        prediction = method.match(episode)
        method.begin_training(LABELS[:2])
        loss = method.loss(episode, prediction, Targets(torch.zeros(1, 1, dtype=torch.long), torch.arange(2)[None]))
        parts = (prediction.logits, *prediction.named.values(), *loss.values())
        sum(part.square().sum() for part in parts).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in own)
        method.zero_grad()


def test_half_precision_trains(case: tuple[str, dict], small: Backbone, clips: torch.Tensor) -> None:
    """With the loss scaled as in a run's first step: 65,536, over 16 episodes. Few clips and frames: this is slow."""
    has_frames = "frames" in {field.name for field in fields(method_class(case[0]).Config)}
    method, clips = build(case, small, **({"frames": 3} if has_frames else {})), clips[:, :3]
    if not method.traits.trains:
        return
    method.begin_training(LABELS[:2])
    text = method.text_input(LABELS[:2], np.random.default_rng(0))[None] if method.traits.reads_text else None
    with torch.autocast("cpu", torch.float16):
        terms, _ = EpisodeLoss(method.train())(
            clips[:2].unflatten(0, (1, 2, 1)), clips[None, 2:3], text, torch.tensor([[0]]), torch.tensor([[0, 1]])
        )
    (4096 * sum(terms.values())).backward()
    slopes = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    assert slopes and not [name for name, slope in slopes.items() if not slope.isfinite().all()]
    method.eval().zero_grad()  # the backbone is shared


@torch.no_grad()
def test_encoding_is_the_encoder_and_what_enhances_it(method: Method, clips: torch.Tensor) -> None:
    """What banks, and training on them, rest on."""
    encoder = method.encoder()
    text = method.encode_text(LABELS[:2]) if method.traits.support_reads_text else None
    for role in ("support", "query"):
        encoded = method.encode(clips[:2], role, text)
        enhanced = method.enhance(encoder.encode(clips[:2], role, text), role, text)
        assert encoded.keys() == enhanced.keys()
        assert all(torch.equal(encoded[name], enhanced[name]) for name in encoded)


@torch.no_grad()
def test_encodings_can_be_kept(method: Method, clips: torch.Tensor) -> None:
    """A bank's file holds tensors that share no memory, all with the videos' axis."""
    text = method.encode_text(LABELS[:2]) if method.traits.support_reads_text else None
    for role in ("support", "query"):
        for encoded in (method.encode(clips[:2], role, text), method.encoder().encode(clips[:2], role, text)):
            assert all(len(tensor) == 2 for tensor in encoded.values())
            assert len({tensor.untyped_storage().data_ptr() for tensor in encoded.values()}) == len(encoded)


@torch.no_grad()
def test_roles_are_what_the_traits_say(method: Method, clips: torch.Tensor) -> None:
    text = method.encode_text(LABELS[:1]) if method.traits.support_reads_text else None
    for part, differ in ((method, method.traits.roles_differ), (method.encoder(), method.encoder().roles_differ)):
        support, query = (part.encode(clips[:1], role, text) for role in ("support", "query"))
        same = support.keys() == query.keys() and all(support[name].equal(query[name]) for name in support)
        assert same != differ, "support and query encodings differ only if the traits say so (`roles_differ`)"


@torch.no_grad()
def test_the_bank_is_keyed_by_everything_that_encodes(method: Method, clips: torch.Tensor) -> None:
    """What a bank on disk holds changes only with its key; that of a frozen encoder does not change at all."""
    text = method.encode_text(LABELS[:1]) if method.traits.support_reads_text else None
    roles = ("support", "query") if method.encoder().roles_differ else ("query",)
    own = {name: p for name, p in method.named_parameters() if not name.startswith("backbone.")}

    def banked() -> list[torch.Tensor]:
        return [part for role in roles for part in method.encoder().encode(clips[:1], role, text).values()]

    before, key = banked(), method.encoder().key()
    for names in [own] if method.encoder().is_frozen else [[name] for name in own]:
        kept = {name: own[name].clone() for name in names}
        for name in names:
            own[name].add_(torch.randn(own[name].shape, generator=torch.Generator().manual_seed(0)))
        if method.encoder().is_frozen or method.encoder().key() == key:
            assert all(map(torch.equal, before, banked())), f"{names} change what encodes, not the key"
        for name in names:
            own[name].copy_(kept[name])


def test_options_and_parameters_give_the_method_again(
    case: tuple[str, dict], method: Method, episode: Episode, small: Backbone
) -> None:
    """As a checkpoint keeps them."""
    again = build_method(method.name, small, init_seed=7, **method.options())
    state = {name: tensor.clone() for name, tensor in kept_state(method, ("own",)).items()}
    assert not again.load_state_dict(state, strict=False).unexpected_keys
    assert logits_of(again, episode).equal(logits_of(method, episode))


@torch.no_grad()
def test_the_other_mode_shares_parameters_and_nothing_else(case: tuple[str, dict], small: Backbone) -> None:
    method = build(case, small)
    other = method.other_mode()
    assert (other is not None) == hasattr(method.config, "inductive")
    if other is not None:
        assert other.traits.transductive != method.traits.transductive
        assert {n: id(p) for n, p in other.named_parameters()} == {n: id(p) for n, p in method.named_parameters()}
        other.register_parameter("extra", torch.nn.Parameter(torch.zeros(1)))
        assert "extra" not in dict(method.named_parameters())


def test_a_method_that_reads_text_needs_a_text_tower(small: Backbone) -> None:
    blind = Backbone("blind")
    with pytest.raises(ValueError, match=r"'zero-shot' reads class names, but backbone 'blind' has no text.*CLIP"):
        build_method("zero-shot", blind)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("otan", {}, "did you mean 'otam'"),
        ("otam", {"smothing": 1}, "did you mean 'smoothing'"),
        ("otam", {"direction": "up"}, "direction is up; expected both"),
        ("otam", {"smoothing": "much"}, "smoothing"),
        ("place-motion", {"grid": 0}, "grid 0.*at least 1"),
        ("place-motion", {"weight": 1.5}, "weight 1.5"),
    ],
)
def test_wrong_options_are_named(small: Backbone, name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_method(name, small, **options)


def test_method_specs() -> None:
    assert parse_method("otam") == ("otam", {})
    assert parse_method("otam:per=prototype,smoothing=0.5") == ("otam", {"per": "prototype", "smoothing": 0.5})
    with pytest.raises(ValueError, match="cannot read 'per'"):
        parse_method("otam:per")
    assert parse_method("my/own.py:Mine:width=4") == ("my/own.py:Mine", {"width": 4})


@pytest.mark.parametrize("written", ["[2, 3]", "(2, 3)", "[2,3]"])
def test_defaults_are_read_as_they_are_printed(written: str) -> None:
    name, options = parse_method(f"trx:cardinalities={written},out_dim=16")
    config = parse_options(name, options)
    assert (config.cardinalities, config.out_dim) == ((2, 3), 16)


def test_a_value_of_another_type_is_named_in_words() -> None:
    with pytest.raises(ValueError, match="method trx: out_dim is many; expected int$"):
        parse_options("trx", {"out_dim": "many"})
    with pytest.raises(ValueError, match=r"cardinalities is 2; expected list of int$"):
        parse_options("trx", {"cardinalities": 2})
    with pytest.raises(ValueError, match=r"cannot read the value in 'cardinalities=\[2' as YAML"):
        parse_method("trx:cardinalities=[2")


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
def test_the_public_codes_pixels_are_not_normalised(name: str, small: Backbone) -> None:
    """Pixels of [0, 1] reach the backbone; only the official variant, and no bank of the other kind is taken."""
    own, none = (small.mean, small.std), ((0.0,) * 3, (1.0,) * 3)
    for options, expected in (({}, own), ({"variant": "official"}, none), ({"pixels": "unit"}, none)):
        assert build_method(name, small, **options).normalization == expected
    plain, unit = build_method(name, small), build_method(name, small, variant="official")
    assert plain.encoder().key() != unit.encoder().key()
    assert build_method(name, small, variant="official", pixels="normalized").encoder().key() == plain.encoder().key()
