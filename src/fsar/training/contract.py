"""The rules that every method must hold, and a check that says in words which one a method breaks.

Evaluation, training, banks and the recogniser rest on these rules. `fsar check-method FILE.py:NAME` checks a user's
method; the tests check the methods of the package. A rule is tried on a small backbone with random clips. Parameters
that start at zero or one are moved first, because they hide mistakes.

Long: each rule takes a few lines, and the list of rules is read as a whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fsar.backbones import Backbone
from fsar.backbones.base import fingerprint
from fsar.config import settings_of
from fsar.methods import build_method, method_class, parse_options
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode, Role, Targets

WAY, SHOT, QUERY, FRAMES = 3, 2, 4, 8
LABELS = ["waving", "clapping", "running"]


class Finding(NamedTuple):
    """A rule, and how a method breaks it."""

    rule: str
    broken: str
    """What is wrong, in words; empty if the method holds the rule."""


@dataclass(frozen=True)
class _Trial:
    """A method and an episode to try rules on."""

    spec: str
    method: Method
    clips: Tensor
    made_episode: Episode | None = None

    @property
    def episode(self) -> Episode:
        """Its encoded clips."""
        assert self.made_episode is not None
        return self.made_episode

    @property
    def own(self) -> dict[str, Tensor]:
        """Parameters that the method adds."""
        return {key: p for key, p in self.method.named_parameters() if not key.startswith("backbone.")}

    @torch.no_grad()
    def logits(self, episode: Episode) -> Tensor:
        return self.method.match(episode).logits

    def made(self, clips: Tensor) -> Episode:
        """Encode clips as support and queries."""
        support, query = clips[: WAY * SHOT].unflatten(0, (1, WAY, SHOT)), clips[None, WAY * SHOT :]
        text = self.method.encode_text(LABELS)[None] if self.method.traits.reads_text else None
        draws = torch.rand(1, QUERY, WAY, generator=_seeded(2)) if self.method.traits.draws else None
        return self.method.encode_episode(support, query, text, draws)

    def with_support(self, change: Callable[[Tensor], Tensor], mask: Tensor | None = None) -> Episode:
        support = _each(self.episode.support, change)
        return replace(self.episode, support=support, shot_mask=self.episode.shot_mask if mask is None else mask)

    def with_queries(self, chosen: Sequence[int]) -> Episode:
        draws = None if self.episode.draws is None else self.episode.draws[:, chosen]
        return replace(self.episode, query=_each(self.episode.query, lambda t: t[:, chosen]), draws=draws)

    def with_classes(self, chosen: Sequence[int]) -> Episode:
        return replace(
            self.episode,
            support=_each(self.episode.support, lambda t: t[:, chosen]),
            shot_mask=self.episode.shot_mask[:, chosen],
            text=None if self.episode.text is None else self.episode.text[:, chosen],
            draws=None if self.episode.draws is None else self.episode.draws[..., chosen],
        )


def check_method(spec: str, backbone: Backbone, **options: Any) -> list[Finding]:
    """Try every rule on a method, in the order of `RULES`.

    Args:
        spec: a name, or `FILE.py:NAME`, which runs that file.
        backbone: a small one; the check does not change it.
        options: of the method.

    Returns:
        A finding per rule. If the method cannot encode, or its logits have another shape, the list ends there.

    Raises:
        ValueError: no such method, a method that cannot be built, or an option that does not fit.

    Example:
        >>> from fsar.backbones import load_backbone
        >>> findings = check_method("otam", load_backbone("tiny"))
        >>> len(findings) > 10, [finding for finding in findings if finding.broken]
        (True, [])
    """
    method = build_method(spec, backbone, **options)
    generator = _seeded(1)
    with torch.no_grad():
        for key, parameter in method.named_parameters():
            if not key.startswith("backbone."):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    side = backbone.image_size
    clips = torch.randn(WAY * SHOT + QUERY, FRAMES, 3, side, side, generator=_seeded(0))
    trial = _Trial(spec, method, clips)
    begun = _finding(RULES[0], lambda t: t.made(t.clips), trial)
    if begun.broken:
        return [begun]
    with torch.no_grad():
        trial = replace(trial, made_episode=trial.made(clips))
    shaped = _finding(RULES[1], _logits_are_shaped, trial)
    if shaped.broken:
        return [begun, shaped]
    return [begun, shaped, *(_finding(rule, check, trial) for rule, check in _RULES)]


def _finding(rule: str, check: Callable[[_Trial], Any], trial: _Trial) -> Finding:
    """Try a rule; the error that it raises says what is wrong."""
    try:
        check(trial)
    except AssertionError as error:
        return Finding(rule, str(error) or "it is not")
    except Exception as error:  # a user's method may raise anything
        return Finding(rule, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Finding(rule, "")


# --------------------------------------------------------------------------- rules


def _says_what_it_is(trial: _Trial) -> None:
    cls = method_class(trial.spec)
    assert is_dataclass(cls.Config) and issubclass(cls.Config, Method.Config), (
        "Config is no dataclass; expected @dataclass(frozen=True, kw_only=True) class Config(Method.Config)"
    )
    assert cls.__doc__, "the class has no docstring; its first line is shown by `fsar methods`"
    silent = [setting.name for setting in settings_of(cls.Config) if not setting.words]
    assert not silent, f"option {', '.join(silent)} has no docstring under it"


def _logits_are_shaped(trial: _Trial) -> None:
    logits = trial.logits(trial.episode)
    got = [*logits.shape]
    assert got == [1, QUERY, WAY], f"logits are {got}; expected [episode=1, query={QUERY}, way={WAY}]"
    assert torch.isfinite(logits).all(), "some logits are not finite"


@torch.no_grad()
def _encode_is_per_video(trial: _Trial) -> None:
    together, alone = trial.method.encode(trial.clips[:3]), trial.method.encode(trial.clips[1])
    for name, tensor in together.items():
        assert _close(tensor[1], alone[name]), (
            f"{name!r} of a video depends on the videos beside it; encode sees one video at a time, match the others"
        )


def _no_label_reaches_a_score(trial: _Trial) -> None:
    order = [3, 0, 2, 1]
    moved = trial.logits(trial.with_queries(order))
    assert _close(moved, trial.logits(trial.episode)[:, order]), (
        "another order of the queries changes their logits, so that their order, which may be that of the labels, leaks"
    )
    traits = trial.method.traits
    assert not traits.leaks_labels, "traits_of says leaks_labels=True; only audits of public code may say so"
    if traits.trains:
        before = trial.logits(trial.episode)
        trial.method.begin_training(LABELS)
        trial.method.loss(trial.episode, trial.method.match(trial.episode), _targets())
        assert torch.equal(trial.logits(trial.episode), before), "logits change once the loss has seen the labels"


def _class_order(trial: _Trial) -> None:
    order = [2, 0, 1]
    moved = trial.logits(trial.with_classes(order))
    assert _close(moved, trial.logits(trial.episode)[..., order]), (
        "another order of the classes changes more than the order of the logits"
    )


def _shot_order(trial: _Trial) -> None:
    flipped = trial.with_support(lambda t: t.flip(2))
    assert _close(trial.logits(flipped), trial.logits(trial.episode)), "another order of the shots changes the logits"


def _missing_shots(trial: _Trial) -> None:
    mask = trial.episode.shot_mask.clone()
    mask[0, 1, 1] = False

    def with_junk(size: float) -> Tensor:
        def junk(tensor: Tensor) -> Tensor:
            changed = tensor.clone()
            changed[0, 1, 1] = size * torch.randn(tensor.shape[3:], generator=_seeded(3))
            return changed

        return trial.logits(trial.with_support(junk, mask))

    nothing = with_junk(0.0)
    for size in (1.0, 1e3):  # as large as features, and far larger: a constant would hardly show in a cosine
        assert _close(with_junk(size), nothing), (
            "what stands where shot_mask is false changes the logits; use mean_over_shots or per_video, or mask it"
        )
    mask = trial.episode.shot_mask.clone()
    mask[..., 1] = False
    masked, absent = replace(trial.episode, shot_mask=mask), trial.with_support(lambda t: t[:, :, :1], mask[..., :1])
    assert _close(trial.logits(masked), trial.logits(absent)), "a masked shot counts; expected the logits without it"
    mask = trial.episode.shot_mask.clone()
    mask[:, 1] = False
    logits = trial.logits(replace(trial.episode, shot_mask=mask))
    assert (logits[..., 1] == -torch.inf).all() and logits[..., [0, 2]].isfinite().all(), (
        "a class without examples can be named; expected a logit of -inf for it, and finite ones for the others"
    )


def _company(trial: _Trial) -> None:
    alone = torch.cat([trial.logits(trial.with_queries([i])) for i in range(QUERY)], 1)
    same, transductive = _close(trial.logits(trial.episode), alone), trial.method.traits.transductive
    assert same != transductive, (
        f"the logits of a query {'do not ' if same else ''}change if the other queries are left out: `traits_of` must "
        f"set transductive={not same}"
    )


def _other_episodes(trial: _Trial) -> None:
    with torch.no_grad():
        one, other = trial.episode, trial.made(trial.clips.flip(0))
    both = Episode(
        {name: torch.cat([one.support[name], other.support[name]]) for name in one.support},
        {name: torch.cat([one.query[name], other.query[name]]) for name in one.query},
        torch.cat([one.shot_mask, other.shot_mask]),
        None if one.text is None or other.text is None else torch.cat([one.text, other.text]),
        None if one.draws is None or other.draws is None else torch.cat([one.draws, other.draws]),
    )
    expected = torch.cat([trial.logits(one), trial.logits(other)])
    assert _close(trial.logits(both), expected), "episodes that are matched together change each other's logits"


def _ways_are_independent(trial: _Trial) -> bool:
    """Tell whether the logits of classes stay as they are if another class is left out."""
    logits = trial.logits(trial.episode)
    left_out = [(trial.logits(trial.with_classes(kept)), logits[..., kept]) for kept in ([0, 1], [0, 2], [1, 2])]
    return all(torch.allclose(fewer, all_ways, rtol=1e-5, atol=1e-6) for fewer, all_ways in left_out)


def _traits_are_true(trial: _Trial) -> None:
    traits, logits = trial.method.traits, trial.logits(trial.episode)
    mask = trial.episode.shot_mask.clone()
    mask[:, 1:, 1:] = False  # the first class alone has several shots
    uneven = replace(trial, made_episode=replace(trial.episode, shot_mask=mask))
    independent = _ways_are_independent(trial) and _ways_are_independent(uneven)
    assert independent == traits.independent_ways, (
        f"the logits of a class {'do not ' if independent else ''}change if another class is left out: `traits_of` "
        f"must set independent_ways={independent}"
    )
    relabelled = trial.with_support(lambda t: t[:, [1, 2, 0]])  # the class texts stay
    alone = torch.allclose(trial.logits(relabelled), logits, rtol=1e-5, atol=1e-6)
    assert alone == traits.reads_text_alone, (
        f"the logits {'do not ' if alone else ''}change if the support videos get the labels of other classes: "
        f"`traits_of` must set reads_text_alone={alone}"
    )
    if traits.matches_means:
        means = trial.with_support(lambda t: t.mean(2, keepdim=True), trial.episode.shot_mask[..., :1])
        assert _close(trial.logits(means), logits), (
            "the logits change if the support videos of a class are replaced by their mean: `traits_of` must set "
            "matches_means=False"
        )


@torch.no_grad()
def _encoding_can_be_kept(trial: _Trial) -> None:
    method = trial.method
    text = method.encode_text(LABELS[:2]) if method.traits.support_reads_text else None
    encoder, clips = method.encoder(), trial.clips[:2]
    for role in ("support", "query"):
        encoded = method.encode(clips, role, text)
        assert all(len(tensor) == 2 for tensor in encoded.values()), "an encoding lacks the axis of the videos"
        begun = encoder.encode(clips, role, text)
        enhanced = method.enhance(begun, role, text)
        assert encoded.keys() == enhanced.keys() and all(torch.equal(encoded[k], enhanced[k]) for k in encoded), (
            "encode differs from enhance(encoder().encode(...)), which banks and training on them use"
        )
        for kept in (encoded, begun):
            assert len({tensor.untyped_storage().data_ptr() for tensor in kept.values()}) == len(kept), (
                "two tensors of an encoding share their memory, so that a bank's file cannot hold them; clone one"
            )
        assert all(len(tensor) == 2 for tensor in begun.values()), "encoder().encode lacks the axis of the videos"
    text = text if text is None else text[:1]
    for what, part, differ in (
        ("traits_of", method, method.traits.roles_differ),
        ("encoder()", encoder, encoder.roles_differ),
    ):
        support, query = (part.encode(clips[:1], role, text) for role in ("support", "query"))
        same = support.keys() == query.keys() and all(torch.equal(support[name], query[name]) for name in support)
        assert same != differ, f"{what} says that support and query are encoded " + (
            "differently, but they are not" if same else "alike, but they differ (roles_differ)"
        )


@torch.no_grad()
def _the_bank_has_a_key(trial: _Trial) -> None:
    method, own, clips = trial.method, trial.own, trial.clips[:1]
    text = method.encode_text(LABELS[:1]) if method.traits.support_reads_text else None
    roles: tuple[Role, ...] = ("support", "query") if method.encoder().roles_differ else ("query",)

    def banked() -> list[Tensor]:
        return [part for role in roles for part in method.encoder().encode(clips, role, text).values()]

    def moved(names: Sequence[str], look: Callable[[], Any]) -> Any:
        """What one sees while these parameters have other values."""
        kept = {name: own[name].clone() for name in names}
        for name in names:
            own[name].add_(torch.randn(own[name].shape, generator=_seeded(4)))
        seen = look()
        for name in names:
            own[name].copy_(kept[name])
        return seen

    def matter(*names: str) -> bool:
        return not all(map(torch.equal, before, moved(names, banked)))

    before, key = banked(), method.encoder().key()
    frozen = method.encoder().is_frozen
    unnamed = [name for name in own if frozen or moved([name], lambda: method.encoder().key()) == key]
    if unnamed and matter(*unnamed):  # all at once, since a method may have hundreds
        guilty = next((name for name in unnamed if matter(name)), unnamed[0])
        raise AssertionError(
            f"encoder() reads parameters of the method ({guilty}), but its key() does not name them, or "
            f"is_frozen is true, so that banks on disk would be wrong after training. Compute this part in "
            f"enhance, or add its hash to key()"
        )


def _it_trains(trial: _Trial) -> None:
    method, own = trial.method, trial.own
    if not own:
        return
    assert "own" in method.traits.trains, "the method adds parameters: `traits_of` must name 'own' in trains"
    method.begin_training(LABELS)

    def gradients() -> dict[str, Tensor]:
        method.zero_grad()
        torch.manual_seed(0)  # dropout
        episode = trial.made(trial.clips)
        terms = method.loss(episode, method.match(episode), _targets())
        loss = sum(terms.values(), torch.zeros(()))
        assert torch.isfinite(loss), f"the loss is {loss.item()}"
        loss.backward()
        return {name: p.grad.clone() for name, p in own.items() if p.grad is not None}

    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}  # BatchNorm counts in training
    try:
        method.train()
        first, second = gradients(), gradients()
    finally:
        method.eval()
        method.zero_grad()
        method.load_state_dict(before)
    assert first, "no gradient of the loss reaches a parameter that the method adds"
    broken = [name for name, grad in first.items() if not torch.isfinite(grad).all()]
    assert not broken, f"the gradient of {broken[0]} is not finite"
    differ = [name for name in first if not torch.equal(first[name], second[name])]
    assert not differ, f"the gradient of {differ[0]} differs from run to run with one seed; draw with torch's generator"


def _it_comes_back(trial: _Trial) -> None:
    options = trial.method.options()
    parse_options(trial.spec, options)
    again = build_method(trial.spec, trial.method.backbone, init_seed=7, **options)
    wrong = again.load_state_dict(trial.method.state_dict(), strict=False)
    heads = [name for name in wrong.unexpected_keys if not name.startswith("loss_heads.")]
    assert not heads and not wrong.missing_keys, f"a checkpoint does not fit: {[*heads, *wrong.missing_keys][0]}"
    assert torch.equal(trial.logits(trial.episode), replace(trial, method=again.eval()).logits(trial.episode)), (
        "if it is built again from its options and parameters, its logits differ: it keeps something elsewhere"
    )
    names = {field.name for field in fields(trial.method.config)}
    assert names == set(options), "options() lacks fields of Config"


def _the_backbone_stays(trial: _Trial) -> None:
    backbone = trial.method.backbone
    before = fingerprint(backbone)
    trial.logits(trial.episode)
    assert fingerprint(backbone) == before, "match changes the backbone"


_RULES: tuple[tuple[str, Callable[[_Trial], None]], ...] = (
    ("it says what it is", _says_what_it_is),
    ("a video is encoded by itself", _encode_is_per_video),
    ("no label of a query reaches a score", _no_label_reaches_a_score),
    ("the order of the classes changes no score", _class_order),
    ("the order of the shots changes no score", _shot_order),
    ("missing shots change no score", _missing_shots),
    ("queries see each other only if the traits say so", _company),
    ("episodes do not see each other", _other_episodes),
    ("the traits are true", _traits_are_true),
    ("encodings can be kept in a bank", _encoding_can_be_kept),
    ("the bank's key names what encodes", _the_bank_has_a_key),
    ("it trains, the same way each time", _it_trains),
    ("a checkpoint brings it back", _it_comes_back),
    ("the backbone stays as it is", _the_backbone_stays),
)


RULES: tuple[str, ...] = (
    "it encodes videos",
    "logits are finite, [episode, query, way]",
    *(rule for rule, _ in _RULES),
)
"""All rules, in the order in which they are tried."""


def _targets() -> Targets:
    """The labels of the queries."""
    return Targets(torch.tensor([[2, 2, 0, 1]]), torch.tensor([[0, 1, 2]]))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _each(encoding: Encoding, change: Callable[[Tensor], Tensor]) -> Encoding:
    return {name: change(tensor) for name, tensor in encoding.items()}


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-4)
