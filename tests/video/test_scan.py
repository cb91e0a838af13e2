"""Facts of a stream, whatever version of PyAV tells them."""

from fractions import Fraction

from fsar.video.scan import tick_of


class OfPyAV19:
    """The rational number of PyAV 19: no Fraction, and zero for unknown."""

    def __init__(self, numerator: int, denominator: int):
        self.numerator, self.denominator = numerator, denominator

    def __bool__(self) -> bool:
        return self.numerator != 0 and self.denominator != 0


def test_the_unit_of_times_is_a_fraction_with_any_pyav():
    assert tick_of(OfPyAV19(1, 10240)) == Fraction(1, 10240)
    assert isinstance(tick_of(OfPyAV19(1, 10240)), Fraction)
    assert tick_of(OfPyAV19(0, 1)) == tick_of(None) == Fraction(1, 25)
