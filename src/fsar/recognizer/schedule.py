"""Weighted interval scheduling: of intervals with weights, those that do not overlap and have the largest sum."""

from bisect import bisect_right
from collections.abc import Iterable

TOUCH = 1e-3
"""Seconds; intervals that share less do not overlap."""


class Schedule:
    """The best choice among intervals, and among the first of them.

    Args:
        intervals: (start, end, weight) in the order of their ends; seconds, and weights above 0.

    Example:
        >>> schedule = Schedule([(0.0, 2.0, 1.0), (1.0, 4.0, 1.5), (2.0, 5.0, 1.0)])
        >>> schedule.best(), schedule.best(2)
        ([0, 2], [1])
    """

    def __init__(self, intervals: Iterable[tuple[float, float, float]]):
        self.ends: list[float] = []
        """Seconds."""
        self._before: list[int] = []  # number of intervals that end before this one begins
        self._sums = [0.0]  # [i]: the largest sum among the first i intervals
        for i, (start, end, weight) in enumerate(intervals):
            before = bisect_right(self.ends, start + TOUCH, 0, i)
            self._sums.append(max(self._sums[-1], self._sums[before] + weight))
            self._before.append(before)
            self.ends.append(end)

    def best(self, among: int | None = None) -> list[int]:
        """Choose intervals that do not overlap, with the largest sum of weights.

        Args:
            among: number of intervals to choose from, the first ones; by default all.

        Returns:
            Their numbers, in the order of time.
        """
        chosen, i = [], len(self.ends) if among is None else among
        while i:
            if self._sums[i] == self._sums[i - 1]:
                i -= 1
            else:
                chosen.append(i - 1)
                i = self._before[i - 1]
        return chosen[::-1]
