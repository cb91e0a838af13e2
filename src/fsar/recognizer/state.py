"""The state of a recogniser at one moment: what is enrolled, and what follows from it.

A state never changes; an edit makes a new one. So a reader that took a state can use it while others edit.
"""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from fsar.methods.base import Method
from fsar.recognizer.background import Cohort, uses_background
from fsar.recognizer.calibration import STRICTNESS, Fit, calibrate
from fsar.recognizer.examples import Actions, Example
from fsar.recognizer.left_out import Memory
from fsar.recognizer.matching import Supports, supports_of

Value = TypeVar("Value")


class Once(Generic[Value]):
    """A value that is computed at the first call. Other threads wait for it and do not compute it again.

    Args:
        compute: gives the value.

    Example:
        >>> value = Once(lambda: print("computing") or 3)
        >>> value(), value()
        computing
        (3, 3)
    """

    def __init__(self, compute: Callable[[], Value]):
        self._compute = compute
        self._lock = Lock()
        self._value: list[Value] = []

    def __call__(self) -> Value:
        """Give the value."""
        with self._lock:
            if not self._value:
                self._value.append(self._compute())
            return self._value[0]

    @property
    def known(self) -> Value | None:
        """The value if it was computed already."""
        return self._value[0] if self._value else None


class State:
    """Enrolled actions, their layout for matching, and the fit on them.

    Args:
        method: the recogniser's method.
        actions: what is enrolled.
        background: the user's own background clips.
        generated: gives the generated background clips, if the method can use them.
        strictness: share of known videos that may be called unknown.
        fitted: fit and chosen variant, if they are known already.
        before: the state before an edit, whose computations are used again.
    """

    def __init__(
        self,
        method: Method,
        actions: Actions,
        background: tuple[Example, ...] = (),
        generated: Callable[[], tuple[Example, ...]] = tuple,
        strictness: float = STRICTNESS,
        fitted: tuple[Fit, Method] | None = None,
        before: "State | None" = None,
    ):
        self.actions, self.background, self.strictness, self.memory = actions, background, strictness, Memory()
        self._known = Memory()
        if before is not None:  # an edit that was never fitted has computed nothing itself
            self._known = before.memory if before.memory.rows else before._known
        self.supports: Once[Supports] = Once(lambda: supports_of(method, actions))
        self.cohort: Once[Cohort] = Once(lambda: Cohort((*generated(), *background)))
        if before is not None and before.background is background:
            self.cohort = before.cohort
        self.fitted = Once(lambda: self._fit(method))
        if fitted is not None:
            self.fitted = Once(lambda: fitted)
            self.fitted()

    def _fit(self, method: Method) -> tuple[Fit, Method]:
        cohort = self.cohort() if uses_background(method) else None
        fitted = calibrate(method, self.actions, cohort, self.background, self.strictness, self._known, self.memory)
        self._known = Memory()  # removed examples need not stay in memory
        return fitted
