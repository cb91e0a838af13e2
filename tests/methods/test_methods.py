"""What holds for every method: the rules of `fsar.training.contract`, and properties beside them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fsar.backbones import Backbone, load_backbone
from fsar.backbones.clip import ClipBackbone
from fsar.methods import METHODS, build_method, method_class, parse_method, parse_options
from fsar.methods.base import Encoding, Episode, Method
from fsar.methods.episode import Targets
from fsar.training.contract import RULES, check_method
from fsar.training.episode_loss import EpisodeLoss
from fsar.training.parameters import kept_state
from tests.conftest import SMALL_TEXT, first_words
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


@torch.no_grad()
def logits_of(method: Method, episode: Episode) -> torch.Tensor:
    return method.match(episode).logits


@pytest.fixture(scope="module")
def findings(case: tuple[str, dict[str, Any]], small: Backbone) -> dict[str, str]:
    """What is wrong with a method, by rule."""
    name, options = case
    return {found.rule: found.broken for found in check_method(name, small, **SMALL.get(name, {}), **options)}


@pytest.mark.parametrize("rule", RULES)
def test_every_method_holds_every_rule(rule: str, findings: dict[str, str]) -> None:
    assert findings.get(rule, "it was not tried, since an earlier rule is broken") == ""


def test_the_check_of_labels_finds_a_leak(small: Backbone, clips: torch.Tensor) -> None:
    leaky = build(("task-adapter-pp", {"variant": "official-leaky"}), small)
    episode = with_queries(episode_of(leaky, clips), [0, 1, 2])  # it needs as many queries as classes
    logits, order = logits_of(leaky, episode), [2, 0, 1]
    assert not torch.allclose(logits_of(leaky, with_queries(episode, order)), logits[:, order], atol=1e-3)


def test_the_check_of_traits_finds_a_match_that_ignores_the_labels_of_the_support(
    small: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = method_class("hyrsm")  # its classes see each other, so that the mean of all of them breaks no other rule
    match = cls.match

    def ignoring(self: Method, episode: Episode) -> Any:
        alike = apply(episode.support, lambda tensor: tensor.mean(1, keepdim=True).expand_as(tensor))
        return match(self, replace(episode, support=alike))

    monkeypatch.setattr(cls, "match", ignoring)
    assert [found.broken for found in check_method("hyrsm", small) if found.rule == "the traits are true"] == [
        "the logits do not change if the support videos get the labels of other classes: `traits_of` must set "
        "reads_text_alone=True"
    ]


def test_the_check_of_traits_sees_classes_of_unequal_shots(small: Backbone) -> None:
    """TA2N's `first` aligns all classes as soon as one has several shots; with equal shots that cannot be seen."""
    found = {each.rule: each.broken for each in check_method("ta2n", small, **SMALL["ta2n"], shots="first")}
    assert found["the traits are true"] == ""


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
    for variant, prediction in zip(method.variants(), together, strict=True):
        assert torch.equal(variant.match(episode).logits, prediction.logits)


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


@pytest.fixture(scope="module")
def short_sighted(tiny: ClipBackbone) -> ClipBackbone:
    """`tiny` for 16 patches and 24 words: its features are as large as CLIP's, and half precision is slow on a CPU."""
    one = copy.deepcopy(tiny)
    visual, words = one.clip.visual, SMALL_TEXT["context_length"]
    visual.positional_embedding = nn.Parameter(visual.positional_embedding[:17].detach())
    visual.grid_size, visual.image_size, one.image_size = (4, 4), (32, 32), 32
    one.clip.positional_embedding = nn.Parameter(one.clip.positional_embedding[:words].detach())
    one.clip.attn_mask, one.clip.context_length = one.clip.attn_mask[:words, :words], words
    one.tokenize = first_words
    return one


@torch.no_grad()
def test_features_of_few_patches_are_as_large_as_those_of_all(short_sighted: Backbone, tiny: Backbone) -> None:
    sizes = [
        backbone.features(torch.randn(8, 1, 3, side, side, generator=torch.Generator().manual_seed(0))).norm(dim=-1)
        for backbone, side in ((short_sighted, 32), (tiny, 64))
    ]
    assert 0.8 < sizes[0].mean() / sizes[1].mean() < 1.25


def test_half_precision_trains(case: tuple[str, dict], short_sighted: Backbone) -> None:
    """With the loss scaled as in a run's first step: 65,536, over 16 episodes; with features as large as CLIP's."""
    has_frames = "frames" in {field.name for field in fields(method_class(case[0]).Config)}
    method = build(case, short_sighted, **({"frames": 3} if has_frames else {}))
    clips = torch.randn(3, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))  # few, since this is slow
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


@pytest.mark.parametrize(("method", "lacking"), [("strm", "patch_frames"), ("clip-cpm2c", "fused_frames")])
def test_an_episode_that_lacks_an_encoding_names_it(method: str, lacking: str) -> None:
    frames = torch.zeros(1, 2, 1, 8, 128)
    there = torch.ones(1, 2, 1) > 0
    built = build_method(method, load_backbone("tiny"))
    with pytest.raises(ValueError, match=rf"{method} reads '{lacking}', and the episode has \['frames'\] of support"):
        built.match(Episode({"frames": frames}, {"frames": frames[:, :, 0]}, there))
    with pytest.raises(
        ValueError, match=r"otam reads 'frames', and .* \['frames'\] of support videos and \[\] of quer"
    ):
        build_method("otam", load_backbone("tiny")).match(Episode({"frames": frames}, {}, there))


@pytest.mark.parametrize("method", ["clip-mei", "ts-fsar", "clip-fsar", "ma-fsar", "zero-shot", "tip-adapter"])
def test_an_episode_without_class_texts_says_so(method: str) -> None:
    built = build_method(method, load_backbone("tiny"))
    clips = torch.zeros(1, 2, 1, 8, 3, 64, 64)
    text = built.encode_text(["waving", "clapping"])[None]
    episode = built.encode_episode(clips, clips[:, :, 0], text)
    with pytest.raises(ValueError, match="no class texts; encode them with encode_text"):
        built.match(replace(episode, text=None))
