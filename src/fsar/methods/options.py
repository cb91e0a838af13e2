"""Options of all methods: ranges of their numbers, and what to name if a backbone does not fit."""

import math
from typing import Any

from fsar.config import as_yaml

LEAST = {"heads": 1, "head_dim": 1, "hidden": 1, "cos_eps": 0}
"""Options that mean the same in every method, and their least values. What ends with `dropout` is in [0, 1)."""


def require_ranges(config: Any) -> None:
    """Refuse numbers out of their range, in lists, too.

    Args:
        config: a `Method.Config`.

    Raises:
        ValueError: names the option, its value, and what was expected.
    """
    least = {**LEAST, **config.least}
    for name, value in vars(config).items():
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            expected = "a finite number"
        elif name.endswith("dropout") and not 0 <= value < 1:
            expected = "a share in [0, 1)"
        elif name in least and any(number < least[name] for number in numbers):
            expected = f"at least {least[name]}"
        elif name in config.above_zero and value <= 0:
            expected = "more than 0"
        elif name in config.distinct and not 0 < len(numbers) == len(set(numbers)):
            expected = "at least one number, and none twice"
        else:
            continue
        raise ValueError(f"{type(config).__qualname__}: {name} is {as_yaml(value)}; expected {expected}")


ON_FEATURES = (
    "protonet",
    "otam",
    "bi-mhm",
    "trx",
    "hyrsm",
    "hyrsm-pp",
    "team",
    "clip-spm:spm=false",
    "clip-mei:qsa=false",
    "tip-adapter:text=false",
)
"""Methods that need one feature per frame and no text, as they are typed."""


def listed_on_features(name: str) -> str:
    """List `ON_FEATURES` for a message; what belongs to a method comes first.

    Example:
        >>> listed_on_features("clip-mei")[:36]
        'clip-mei:qsa=false, protonet, otam, '
    """
    return ", ".join(sorted(ON_FEATURES, key=lambda spec: spec.partition(":")[0] != name))
