"""Numbers as text: one rounding, wherever a number is printed."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal


def percent(share: float, digits: int = 1, sign: bool = False) -> str:
    """Write a share of one in percent, without the sign `%`.

    Halves are rounded away from zero. Errors of floating-point sums have no effect: 0.7775 gives 77.8, also if it was
    computed as 0.77749999999999997.

    Args:
        share: in [-1, 1].
        digits: number of decimals.
        sign: write `+` before a positive number.

    Example:
        >>> percent(0.7775), percent(0.77749999999999997), percent(0.031, digits=2, sign=True), percent(-0.00001)
        ('77.8', '77.8', '+3.10', '0.0')
    """
    exact = Decimal(f"{100 * share:.9f}")
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded or abs(rounded):{'+' if sign else ''}f}"


def percent_interval(mean: float, half: float) -> str:
    """Write a mean and half its interval, both shares of one, in percent.

    Example:
        >>> percent_interval(0.4216, 0.0087)
        '42.2 ± 0.9'
    """
    return f"{percent(mean)} ± {percent(half)}"


def likeliest(probabilities: Mapping[str, float], count: int = 3) -> str:
    """Write the likeliest names with their probabilities.

    Args:
        probabilities: by name, the likeliest first.
        count: how many to write.

    Example:
        >>> likeliest({"wave": 0.755, "clap": 0.2, "jump": 0.03, "sit": 0.015})
        'wave 76%, clap 20%, jump 3%'
    """
    return ", ".join(f"{name} {share:.0%}" for name, share in list(probabilities.items())[:count])
