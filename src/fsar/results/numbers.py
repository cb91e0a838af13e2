"""Numbers as text: the same rounding wherever a number is printed."""


def percent(share: float, digits: int = 1, sign: bool = False) -> str:
    """Write a share of one in percent, without the sign `%`.

    Args:
        share: in [-1, 1].
        digits: after the point.
        sign: write `+` before a positive number.

    Example:
        >>> percent(0.4216), percent(0.031, digits=2, sign=True)
        ('42.2', '+3.10')
    """
    return f"{100 * share:{'+' if sign else ''}.{digits}f}"


def percent_interval(mean: float, half: float) -> str:
    """Write a mean and half its interval, both shares of one, in percent.

    Example:
        >>> percent_interval(0.4216, 0.0087)
        '42.2 ± 0.9'
    """
    return f"{percent(mean)} ± {percent(half)}"
