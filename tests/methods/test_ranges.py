"""Options refuse numbers and lists that mean nothing, and take those that papers and public code use."""

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from fsar.methods import METHODS, method_class, parse_options


def odd_values() -> Iterator[tuple[str, str, Any]]:
    """A number below 0 for every option that takes numbers; for lists of any length none, and one number twice."""
    for method in METHODS:
        config = method_class(method).Config
        hints = get_type_hints(config)
        for field in dataclasses.fields(config):
            kinds = [kind for kind in get_args(hints[field.name]) or [hints[field.name]] if kind is not type(None)]
            if get_origin(hints[field.name]) is tuple and Ellipsis in kinds:
                empty = [] if field.name == "temporal_blocks" else [[]]  # none is an ablation
                yield from ((method, field.name, value) for value in ([2, 2], [-1], *empty))
            elif get_origin(hints[field.name]) is tuple:
                yield method, field.name, [-1] * len(kinds)
            elif get_origin(kinds[0]) is tuple:
                yield method, field.name, [-1] * len(get_args(kinds[0]))
            elif {int, float} & set(kinds):
                yield method, field.name, -1


ODD = list(odd_values())


def test_every_kind_of_number_is_tried() -> None:
    for case in (
        ("hyrsm", "heads", -1),
        ("otam", "smoothing", -1),
        ("trx", "cardinalities", []),
        ("molo", "decoder", [-1] * 3),
        ("clip-spm", "consistency_shares", [-1] * 2),
    ):
        assert case in ODD


@pytest.mark.parametrize(("method", "option", "value"), ODD)
def test_numbers_below_0_and_lists_of_nothing_are_refused(method: str, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"\b{option}\b.*expected"):
        parse_options(method, {option: value})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("trx", {"cardinalities": [2, 2]}, r"cardinalities is \[2, 2\]; expected at least one number, and none twice"),
        ("soap", {"cardinalities": [9]}, r"soap: cardinalities is \[9\] and frames 8; expected at least as many"),
        ("strm", {"cardinalities": [2, 9]}, r"strm: cardinalities is \[2, 9\] and frames 8"),
        ("ts-fsar", {"temporal_blocks": [9, 7]}, r"temporal_blocks is \[9, 7\]; expected rising numbers: \[7, 9\]"),
        ("ts-fsar", {"residual": 2.5}, "residual is 2.5; expected at most 2"),
        ("clip-spm", {"consistency_shares": [0.6, 0.5]}, r"consistency_shares is \[0.6, 0.5\]; expected a first share"),
        ("clip-spm", {"consistency_shares": [0.1, 1.5]}, r"consistency_shares is \[0.1, 1.5\]; expected a first share"),
        ("clip-spm", {"gate_text": 0}, "gate_text is 0.0; expected more than 0"),
        ("ts-fsar", {"templates": None}, "method ts-fsar: templates is null; expected text"),
        ("trx", {"out_dim": None}, "method trx: out_dim is null; expected int"),
        ("clip-fsar", {"prompt": "a photo"}, "unknown template set 'a photo'; .*one template holding {}"),
        ("clip-mdmf", {"prompt": "ma-fsar"}, "prompt is 'ma-fsar'; expected {} in place of the class name"),
    ],
)
def test_values_that_mean_nothing_are_named(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_options(method, options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("trx", {"cardinalities": [3, 2]}),  # the order of its layers
        ("ts-fsar", {"temporal_blocks": []}),  # no attention over time
        ("ts-fsar", {"residual": 1.6}),  # its public code on SSv2
        ("clip-spm", {"gate_visual": 2.0, "consistency_shares": [0.49, 0.579]}),  # its public code
        ("clip-spm", {"consistency_shares": [0.5, 1.0]}),
        ("task-adapter", {"layers": 0}),  # the frozen encoder, a row of its paper
        ("ma-fsar", {"joint_scale": 0.0}),  # a row of its paper
    ],
)
def test_values_that_papers_use_are_taken(method: str, options: dict[str, Any]) -> None:
    parse_options(method, options)
