"""Import the names of a package at their first use (PEP 562), so that importing the package is fast."""

import importlib
from collections.abc import Mapping
from typing import Any


def import_name(package: str, name: str, homes: Mapping[str, str]) -> Any:
    """Import a name from the module that defines it; the body of a package's `__getattr__`.

    Args:
        package: name of the package, for the error.
        name: the requested name.
        homes: name -> module that defines it.

    Returns:
        The object of that name.

    Raises:
        AttributeError: the package has no such name.

    Example:
        >>> import_name("mine", "sqrt", {"sqrt": "math"})(9.0)
        3.0
        >>> import_name("mine", "log", {"sqrt": "math"})
        Traceback (most recent call last):
        AttributeError: module 'mine' has no attribute 'log'
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(homes[name]), name)
