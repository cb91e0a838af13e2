"""Names that a package hands out are imported at their first use (PEP 562), so that importing the package is cheap."""

import importlib
from collections.abc import Mapping
from typing import Any


def import_name(package: str, name: str, homes: Mapping[str, str]) -> Any:
    """Look a package's name up in the module that defines it; the body of the package's `__getattr__`.

    Args:
        package: the package's own name, as an error calls it.
        name: what is asked for.
        homes: each name that the package hands out, and the module that defines it.

    Returns:
        The object of that name.

    Raises:
        AttributeError: the package hands out no such name.

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
