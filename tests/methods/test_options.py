"""No option without effect: two configs that differ in one option differ in what they compute, or one is refused.

Pairs of options are tried, over an encoder of 16 channels: a setting that makes another option idle shows as a pair
that computes the same as that setting alone. Of a number, the pair with 0 tells as much as the pair with its half.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, cached_property, lru_cache
from itertools import combinations
from typing import Any, Literal, get_args, get_origin
from zlib import crc32

import jaxtyping
import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor

from fsar.backbones.base import ImageEncoding
from fsar.backbones.clip import TINY_VOCABULARY, ClipBackbone, tiny_tokenize
from fsar.bank import fill
from fsar.methods import METHODS, Targets, method_class
from fsar.methods.base import Method
from fsar.text.prompts import dump_sub_actions

WAY, SHOT, WORDS = 3, 2, 24
FRAMES = dict.fromkeys(METHODS, 4) | {"hyrsm-pp": 6, "task-adapter-pp": 6}  # three stages want two frames each
EPISODES = 2
DRAWS = ((1, 0.05), (2, 0.2), (3, 0.4), (4, 0.8), (5, 0.8), (6, 1.5), (7, 3.0))
"""Seed of an episode, and how far parameters are from their initial values."""
LABELS = [f"moving a thing on the table to the {side}" for side in ("left", "right", "front")]
VISION = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 3, "head_width": 8}
TEXT = {"context_length": WORDS, "vocab_size": TINY_VOCABULARY, "width": 16, "heads": 2, "layers": 3}
SMALL: dict[str, dict[str, Any]] = {
    "trx": {"out_dim": 8},
    "clip-fsar": {"hidden": 8},
    "clip-mdmf": {"hidden": 8},
    "clip-spm": {"hidden": 8, "head_dim": 4},
    "ma-fsar": {"hidden": 8},
    "strm": {"out_dim": 8},
    "team": {"tokens": 6},
    "clip-mei": {"hidden": 8, "head_dim": 4},
    "clip-cpm2c": {"hidden": 8},
    "molo": {"hidden": 8, "decoder": (4, 4, 4)},
    "d2st-adapter": {"ratio": 1.0},
    "ts-fsar": {"dim": 8, "heads": 2, "temporal_blocks": (2,)},
    "task-adapter": {"layers": 1},
    "task-adapter-pp": {"layers": 1, "text_layers": 1},
}
OTHER: dict[str, Any] = {"templates": "a video of {}", "prompt": "a video of {}", "frames": 7}
OTHER |= dict.fromkeys(("decoder", "duration_channels", "evolution_channels"), (5, 4, 3)) | {"fusion": (0.2, 0.5, 0.3)}
"""Another value of options whose other values cannot be made from the default's type."""

Signature = Mapping[str, Tensor]


@cache
def tokens_of(texts: tuple[str, ...]) -> Tensor:
    """The first words of each text, and its end."""
    ids = tiny_tokenize(list(texts))
    end = ids.max()
    return torch.cat([ids[:, : WORDS - 1], end.expand(len(ids), 1)], 1)


def seed_cpu(seed: int) -> None:
    """As `torch.manual_seed`, which also notes for GPUs where it was called from: that takes longer than a method."""
    torch.default_generator.manual_seed(seed)


class Remembering(ClipBackbone):
    """Encodes everything once, since most runs see the same clips and words.

    If gradients are asked for, it gives leaves of its own: they end there, and not in the weights behind them. Methods
    that change the encoder from within do not ask it.
    """

    def __init__(self, clip: open_clip.CLIP):
        super().__init__("small", clip, lambda texts: tokens_of(tuple(texts)))
        self.known: dict[object, tuple[Tensor, ...]] = {}
        self.leaves: list[tuple[str, Tensor]] = []
        encode_text = clip.encode_text
        clip.encode_text = lambda tokens: self._once(tokens, lambda: (encode_text(tokens),))[0]

    def encode_images(self, images: Tensor) -> ImageEncoding:
        return ImageEncoding(*self._once(images, lambda: tuple(super(Remembering, self).encode_images(images))))

    def _once(self, given: Tensor, encode: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        if given.requires_grad:  # pixels that a method has changed
            return encode()
        key = given.numpy().tobytes()
        if key not in self.known:
            with torch.no_grad():
                self.known[key] = encode()
        if not torch.is_grad_enabled():
            return self.known[key]
        leaves = tuple(tensor.clone().requires_grad_() for tensor in self.known[key])
        self.leaves += [(f"given {hash(key)} {i}", leaf) for i, leaf in enumerate(leaves)]
        return leaves


@contextmanager
def shapes_unchecked() -> Iterator[None]:
    """Shapes are checked in the runs of one change: of every value of every option. Checking takes a third of a run."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def small() -> ClipBackbone:
    torch.manual_seed(0)
    return Remembering(open_clip.CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT, quick_gelu=True))


@pytest.fixture(scope="module", autouse=True)
def _frames_are_resized_once() -> Iterator[None]:
    """By everything that it depends on, besides the frames, which are always `WIDE`."""
    usual, known = fill.to_clip, {}

    def to_clip(frames: np.ndarray, *how: Any, **more: Any) -> Tensor:
        assert np.array_equal(frames, WIDE)
        key = str((how, more))
        if key not in known:
            known[key] = usual(frames, *how, **more)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "to_clip", to_clip)
        yield


def alternatives(config: type, base: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every option with every other value; of numbers another one, and 0 where it may switch something off."""
    for field in dataclasses.fields(config):
        default = base.get(field.name, getattr(config(), field.name))
        for value in _other_values(field, default):
            if value != default:
                yield field.name, value


def _other_values(field: dataclasses.Field, default: Any) -> list[Any]:
    kinds = get_args(field.type) if get_origin(field.type) is not Literal else (field.type,)
    choices = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    if choices:
        return [value for value in choices if value is not False]  # what YAML reads an unquoted off as
    if field.name in OTHER:
        return [OTHER[field.name]]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, tuple):
        return [default[:1]]
    if isinstance(default, int):
        return [default + 1, 0] if default == 1 else [default // 2]
    if default is None:
        return [0.3] if float in kinds else [(0.1, 0.3)]
    return [0.5 * default, *([0.0] if default <= 1 else [])]


WIDE = np.random.default_rng(0).integers(0, 256, (2, 20, 36, 3), np.uint8)  # frame height width rgb
"""Frames of a video that is not square."""


@cache
def noise(key: str, shape: torch.Size) -> Tensor:
    """The direction in which a parameter moves."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(crc32(key.encode())))


@cache
def drawn(seed: int, frames: int, moments: tuple[tuple[float, ...], ...]) -> tuple[Tensor, Tensor]:
    """Clips [episode, way, shot, frame, ...] with the pixels of CLIP, normalised by `moments`, and draws."""
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randn(EPISODES, WAY, SHOT + 1, frames, 3, 16, 16, generator=generator)
    usual_mean, usual_std, mean, std = (torch.tensor(values)[:, None, None] for values in moments)
    clips = (clips * usual_std + usual_mean - mean) / std
    return clips, torch.rand(EPISODES, WAY, WAY, generator=generator).round().clamp(1e-12, 0.999999)  # far apart


class Run:
    """What a method computes with some options; training is looked at only if evaluation tells nothing."""

    def __init__(self, name: str, backbone: ClipBackbone, options: Mapping[str, Any], seed: int, shake: float):
        self.seed = seed
        cls = method_class(name)
        seed_cpu(0)
        self.method: Method = cls(backbone, cls.Config(**options)).eval()
        self.frames = getattr(self.method.config, "frames", FRAMES[name])
        own = {key: p for key, p in self.method.named_parameters() if not key.startswith("backbone.")}
        self.initial = {key: p.detach().clone() for key, p in own.items()}
        with torch.no_grad():  # adapters begin at zero, where nothing behind them has an effect
            for key, parameter in own.items():
                parameter += shake * noise(key, parameter.shape)
            self.evaluated = self._outputs()

    def _inputs(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        backbone = self.method.backbone
        moments = (backbone.mean, backbone.std, *self.method.normalization)
        clips, draws = drawn(self.seed, self.frames, tuple(map(tuple, moments)))
        text = None
        if self.method.traits.reads_text:
            text = self.method.text_input(LABELS)
            text = text.expand(EPISODES, *text.shape)
        return clips[:, :, :SHOT], clips[:, :, SHOT], text, draws if self.method.traits.draws else None

    def _outputs(self) -> dict[str, Tensor]:
        support, query, text, draws = self._inputs()
        text = None if text is None else self.method.adapt_text(text)
        episode = self.method.encode_episode(support, query, text, draws)
        prediction = self.method.match(episode)
        outputs = {
            "clip": fill.to_input(self.method, WIDE),
            "logits": prediction.logits,
            **{f"named {key}": value for key, value in prediction.named.items()},
        }
        for role, encoding in (("support", episode.support), ("query", episode.query)):
            outputs |= {f"{role} {key}": value for key, value in encoding.items()}
        return outputs if text is None else outputs | {"text": text}

    @cached_property
    def terms(self) -> Signature:
        """Terms of the loss, as training begins."""
        seed_cpu(2)
        method, backbone = self.method.train(), self.method.backbone
        assert isinstance(backbone, Remembering)
        backbone.leaves = []
        method.begin_training(LABELS, episodes_per_step=3)
        support, query, text, draws = self._inputs()
        text = None if text is None else method.adapt_text(text)
        episode = method.encode_episode(support, query, text, draws)
        targets = Targets(*2 * [torch.arange(WAY).expand(EPISODES, -1)])
        terms = method.loss(episode, method.match(episode), targets)
        self.leaves = [*method.named_parameters(), *backbone.leaves]
        return terms

    @cached_property
    def slopes(self) -> Signature:
        """Gradients of the loss by everything that can train."""
        total = sum(self.terms.values())
        if not total.requires_grad:
            return {}
        found: dict[str, Tensor] = {}
        slopes = torch.autograd.grad(total, [leaf for _, leaf in self.leaves], allow_unused=True)
        for (key, _), slope in zip(self.leaves, slopes, strict=True):
            if slope is not None:
                found[key] = found[key] + slope if key in found else slope
        return found

    def computes_as(self, other: "Run") -> bool:
        """Whether nothing tells the two apart; what costs most is looked at last."""
        return self.method.config != other.method.config and (
            _equal(self.initial, other.initial)
            and _equal(self.evaluated, other.evaluated)
            and _equal(self.terms, other.terms)
            and _equal(self.slopes, other.slopes)
        )


def _halves(change: tuple[str, Any]) -> bool:
    """Whether it is a number other than 0."""
    return isinstance(change[1], int | float) and not isinstance(change[1], bool) and change[1] != 0


def _switches(change: tuple[str, Any]) -> bool:
    """Whether it may leave other options idle: a number does so at 0 alone."""
    return isinstance(change[1], bool | str) or change[1] == 0


def _equal(one: Signature, other: Signature) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two corpora of sub-actions."""
    files = [tmp_path_factory.mktemp("corpora") / f"{name}.yaml" for name in ("first", "second")]
    for file in files:
        stages = ("begin", "go on", "end")
        corpus = {label: tuple(f"{stage} {file.stem} {label}" for stage in stages) for label in LABELS}
        file.write_text(dump_sub_actions(corpus))
    return [str(file) for file in files]


@pytest.mark.parametrize("name", METHODS)
def test_no_option_without_effect(name: str, small: ClipBackbone, corpora: list[str]) -> None:
    config, base = method_class(name).Config, SMALL.get(name, {})
    if name == "task-adapter-pp":
        base, OTHER["sub_actions"] = base | {"sub_actions": corpora[0]}, corpora[1]

    few_frames = {"frames": FRAMES[name]} if "frames" in {field.name for field in dataclasses.fields(config)} else {}

    @lru_cache(maxsize=64)
    def cached_run(draw: tuple[int, float], changes: frozenset[tuple[str, Any]]) -> Run | None:
        for frames in (few_frames, {}):
            with suppress(ValueError):
                return Run(name, small, base | frames | dict(changes), *draw)
        return None

    def run(draw: tuple[int, float], *changes: tuple[str, Any]) -> Run | None:
        """None if the options are refused, also with the usual number of frames."""
        return cached_run(draw, frozenset(changes))

    def is_idle(change: tuple[str, Any], *context: tuple[str, Any]) -> bool:
        """Whether other episodes do not tell the two apart either; those with the largest changes tell most."""
        return all(run(draw, change, *context).computes_as(run(draw, *context)) for draw in reversed(DRAWS[1:]))

    usual, alone = run(DRAWS[0]), {}
    idle: list[tuple[Any, ...]] = []
    for change in alternatives(config, base):
        alone[change] = run(DRAWS[0], change)
        if alone[change] is None:
            continue
        _ = alone[change].terms  # computed here, where shapes are checked
        if alone[change].computes_as(usual) and is_idle(change):
            idle.append(change)
    accepted = {change for change, found in alone.items() if found is not None}
    shown: set[frozenset[tuple[str, Any]]] = set()
    with shapes_unchecked():
        for first, second in combinations(sorted((change for change in alone if change not in idle), key=_halves), 2):
            if first[0] == second[0] or not (_switches(first) or _switches(second)):
                continue
            with_zero = {
                frozenset(((half[0], 0), other)) for half, other in ((first, second), (second, first)) if _halves(half)
            }
            if with_zero & shown:
                continue
            both = run(DRAWS[0], first, second)
            if both is not None:
                accepted |= {first, second}
                shown.add(frozenset((first, second)))
            for change, other in ((first, second), (second, first)):
                if both is not None and alone[other] is not None and both.computes_as(alone[other]):
                    idle += [(*change, "with", *other)] * is_idle(change, other)
    assert {option for option, _ in alone} == {option for option, _ in accepted}, "of the others nothing is known"
    assert not idle, "\n".join(map(str, idle))
