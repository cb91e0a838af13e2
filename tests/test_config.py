"""Settings classes: their words as text, and values that do not fit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from fsar.config import Settings, ablation, as_yaml, describe_settings, parse_settings, settings_of
from fsar.training.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Base(Settings):
    """Options of a test."""

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"norm": "l1"}, "code": {"norm": "l2"}}

    variant: Literal["paper", "code"] = "paper"
    """Whose equations."""
    norm: Literal["l1", "l2"] | None = None
    """Which norm; by the
    variant."""
    pps: Literal["sample", "off"] = "sample"
    sizes: tuple[int, ...] = (2, 3)
    """Frames per tuple."""
    rates: dict[str, float] | None = None

    def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
        return ((self.pps == "off", "pps: off", ("sizes", "norm")),)


@dataclass(frozen=True, kw_only=True)
class Child(Base):
    """More options."""

    pps: Literal["sample", "off"] = "off"
    """Says more than the parent's."""
    scale: float = ablation(1.0)
    """A factor."""


def parse(values: Mapping[str, Any], cls: type = Base) -> Any:
    return parse_settings(cls, values, "method test", "option of test")


def test_words_types_and_defaults_are_read_from_the_source() -> None:
    settings = {setting.name: setting for setting in settings_of(Child)}
    assert list(settings) == ["variant", "norm", "pps", "sizes", "rates", "scale"]
    assert settings["norm"].words == "Which norm; by the variant." and settings["norm"].type == "l1 | l2 | null"
    assert settings["pps"].words == "Says more than the parent's." and settings["pps"].default == "off"
    assert settings["sizes"].type == "list of int" and settings["sizes"].default == "[2, 3]"
    assert settings["rates"].type == "mapping of text to float or null" and not settings["rates"].words
    groups = {name: setting.group for name, setting in settings.items() if setting.group != "usual"}
    assert groups == {"norm": "variant", "scale": "ablation"}
    assert settings["norm"].default == "l1 (paper), l2 (code)"
    text = describe_settings(settings.values(), width=30)
    assert "  scale = 1.0    float\n      A factor." in text and max(map(len, text.splitlines())) < 60


def test_values_come_back_as_the_words_and_types_that_were_meant() -> None:
    assert parse({"pps": False}).pps == "off"
    assert parse({"sizes": [4, 5]}).sizes == (4, 5)
    assert parse({"scale": 2}, Child).scale == 2.0 and Child(scale=2.0).scale == 2.0
    assert as_yaml({"own": 0.1, "list": (True, None)}) == "{own: 0.1, list: [true, null]}"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nrm": "l1"}, "unknown option of test 'nrm'; did you mean 'norm'"),
        ({"norm": "l3"}, "method test: .*norm.*l3"),
        ({"pps": True}, "method test: pps is true; expected sample"),
        ({"pps": "smaple"}, "method test: pps is smaple; did you mean 'sample'\\? expected sample"),
        ({"sizes": "two"}, "method test: .*sizes"),
    ],
)
def test_values_that_do_not_fit_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(values)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ValueError, match="recipe: recipe key 'method' is missing; give it a value"):
        parse_settings(Recipe, {"lr": {"own": 0.1}}, "recipe", "recipe key")


def test_a_wrong_choice_is_refused_without_a_parser() -> None:
    with pytest.raises(ValueError, match="Base: pps is sometimes; expected one of: sample, off"):
        Base(pps="sometimes")
    with pytest.raises(ValueError, match="Base: pps is smaple; did you mean 'sample'\\? expected one of: sample, off"):
        Base(pps="smaple")


def test_what_is_none_follows_the_variant() -> None:
    assert Base().norm == "l1" and Base(variant="code").norm == "l2" and Base(variant="code", norm="l1").norm == "l1"
    assert Base().changed() == {} and Base(variant="code").changed() == {"variant": "code"}
    assert Base(variant="code", norm="l1", sizes=(2,)).changed() == {"variant": "code", "norm": "l1", "sizes": (2,)}


def test_settings_without_effect_are_refused() -> None:
    Base(sizes=(1,)).refuse_idle("test")
    Base(pps="off", sizes=(2, 3), norm="l1").refuse_idle("test")
    with pytest.raises(ValueError, match=r"test got sizes: \[1\], which has no effect with pps: off; leave"):
        Base(pps="off", sizes=(1,)).refuse_idle("test")
    with pytest.raises(ValueError, match="norm: l1, which has no effect"):
        Base(pps="off", variant="code", norm="l1").refuse_idle("test")
