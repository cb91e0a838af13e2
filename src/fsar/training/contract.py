"""What every method must hold, checked on a method of one's own and said in words (`fsar check-method FILE.py:NAME`).

Evaluation, training, banks and the recogniser rest on these rules. A rule is tried on a method over a small backbone
with random clips; what starts at zero or one is moved first, since a fixed point hides mistakes.
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
from fsar.methods.episode import Encoding, Episode, Targets

WAY, SHOT, QUERY, FRAMES = 3, 2, 4, 8
LABELS = ["waving", "clapping", "running"]


class Finding(NamedTuple):
    """A rule, and whether a method holds it."""

    rule: str
    broken: str
    """What is wrong, in words; empty if the rule is held."""


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
        changed = self.with_support(lambda t: t[:, chosen], self.episode.shot_mask[:, chosen])
        text = None if changed.text is None else changed.text[:, chosen]
        return replace(changed, text=text, draws=None if changed.draws is None else changed.draws[..., chosen])


def check_method(spec: str, backbone: Backbone, **options: Any) -> list[Finding]:
    """Try every rule on a method.

    Args:
        spec: a name, or `FILE.py:NAME`, which runs that file.
        backbone: a small one; it is left as it is.
        options: of the method.

    Returns:
        A finding per rule, in a fixed order. If the method cannot be built or encode, there is that finding alone.

    Raises:
        ValueError: no such method, or an option that does not fit.

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
    begun = _finding("it encodes videos", lambda t: t.made(t.clips), trial)
    if begun.broken:
        return [begun]
    with torch.no_grad():
        trial = replace(trial, made_episode=trial.made(clips))
    shaped = _finding("logits are finite, [episode, query, way]", _logits_are_shaped, trial)
    if shaped.broken:
        return [begun, shaped]
    return [begun, shaped, *(_finding(rule, check, trial) for rule, check in _RULES)]


def _finding(rule: str, check: Callable[[_Trial], Any], trial: _Trial) -> Finding:
    """Try a rule; whatever it raises is what is wrong."""
    try:
        check(trial)
    except AssertionError as error:
        return Finding(rule, str(error) or "it is not")
    except Exception as error:  # a method of one's own may raise anything
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

    assert _close(with_junk(1e3), with_junk(0.0)), (
        "what stands where shot_mask is false changes the logits; use mean_over_shots or per_video, or mask it"
    )


def _company(trial: _Trial) -> None:
    alone = torch.cat([trial.logits(trial.with_queries([i])) for i in range(QUERY)], 1)
    same, transductive = _close(trial.logits(trial.episode), alone), trial.method.traits.transductive
    assert same or transductive, "a query's logits depend on the other queries, but traits_of says transductive=False"
    assert not (same and transductive), "a query's logits depend on it alone, but traits_of says transductive=True"


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


def _traits_are_true(trial: _Trial) -> None:
    traits, logits = trial.method.traits, trial.logits(trial.episode)
    if traits.independent_ways:
        for others in ([0, 1], [0, 2], [1, 2]):
            assert _close(trial.logits(trial.with_classes(others)), logits[..., others]), (
                "traits_of says independent_ways=True, but a class's logit changes if another class is left out"
            )
    if traits.matches_means:
        means = trial.with_support(lambda t: t.mean(2, keepdim=True), trial.episode.shot_mask[..., :1])
        assert _close(trial.logits(means), logits), (
            "traits_of says matches_means=True, but the mean of a class's encodings gives other logits"
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
        assert len({tensor.untyped_storage().data_ptr() for tensor in begun.values()}) == len(begun), (
            "two tensors of encoder().encode share their memory, so that a bank's file cannot hold them; clone one"
        )
    support, query = (
        method.encode(clips[:1], role, text if text is None else text[:1]) for role in ("support", "query")
    )
    same = support.keys() == query.keys() and all(torch.equal(support[name], query[name]) for name in support)
    assert same != method.traits.roles_differ, "traits_of says that support and query are encoded " + (
        "differently, but they are not" if same else "alike, but they differ"
    )


@torch.no_grad()
def _the_bank_has_a_key(trial: _Trial) -> None:
    method, clips = trial.method, trial.clips[:1]
    text = method.encode_text(LABELS[:1]) if method.traits.support_reads_text else None
    before, key = method.encoder().encode(clips, "support", text), method.encoder().key()
    kept = {name: p.clone() for name, p in trial.own.items()}
    for p in trial.own.values():
        p.add_(torch.randn(p.shape, generator=_seeded(4)))
    after, changed = method.encoder().encode(clips, "support", text), method.encoder().key() != key
    for name, p in trial.own.items():
        p.copy_(kept[name])
    if any(not torch.equal(before[name], after[name]) for name in before):
        assert changed and not method.encoder().is_frozen, (
            "encoder() reads parameters of the method, but its key() does not name them, or is_frozen is true, so that "
            "banks on disk would be wrong after training. Compute this part in enhance, or add its hash to key()"
        )


def _it_trains(trial: _Trial) -> None:
    method, own = trial.method, trial.own
    if not own:
        return
    assert method.traits.trains, "it has parameters, but traits_of says trains=()"
    method.begin_training(LABELS)
    targets = Targets(torch.tensor([[2, 2, 0, 1]]), torch.tensor([[0, 1, 2]]))

    def gradients() -> dict[str, Tensor]:
        method.zero_grad()
        torch.manual_seed(0)  # dropout
        episode = trial.made(trial.clips)
        terms = method.loss(episode, method.match(episode), targets)
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
    assert torch.equal(trial.logits(trial.episode), again.eval().match(trial.episode).logits.detach()), (
        "built again from its options and parameters it gives other logits: it keeps something elsewhere"
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


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _each(encoding: Encoding, change: Callable[[Tensor], Tensor]) -> Encoding:
    return {name: change(tensor) for name, tensor in encoding.items()}


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-4)
