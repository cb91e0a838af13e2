"""Messages on misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(got: str, known: Iterable[str], what: str) -> str:
    """Say that a name is unknown, and suggest the most similar known one.

    Args:
        got: what the user wrote.
        known: all names.
        what: kind of the names, for the message.

    Returns:
        The message of an error.

    Example:
        >>> unknown("otm", ["otam", "trx"], "method")
        "unknown method 'otm'; did you mean 'otam'? expected one of: otam, trx"
    """
    known = list(known)
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(got.lower(), by_lower, n=1, cutoff=0.5)
    meant = f"did you mean {by_lower[near[0]]!r}? " if near else ""
    listed = ", ".join(known[:24]) + (", ..." if len(known) > 24 else "")
    return f"unknown {what} {got!r}; {meant}expected one of: {listed}"
