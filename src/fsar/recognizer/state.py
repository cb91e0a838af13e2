"""The state of a recogniser at one moment: what is enrolled, and what follows from it.

A state never changes; an edit makes a new one. So a reader that took a state can use it while others edit.
"""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from fsar.methods.base import Method
from fsar.recognizer.calibration import Fit, calibrate
from fsar.recognizer.examples import Actions
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
        fitted: fit and chosen variant, if they are known already.
    """

    def __init__(self, method: Method, actions: Actions, fitted: tuple[Fit, Method] | None = None):
        self.actions = actions
        self.supports: Once[Supports] = Once(lambda: supports_of(method, actions))
        self.fitted = Once(lambda: calibrate(method, actions))
        if fitted is not None:
            self.fitted = Once(lambda: fitted)
            self.fitted()
