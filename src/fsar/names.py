"""Names that a user may misspell."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(got: str, known: Iterable[str], what: str) -> str:
    """Say that `got` is no known `what`, and which name it may have been meant to be."""
    known = list(known)
    near = get_close_matches(got, known, n=1, cutoff=0.5) or get_close_matches(got.lower(), known, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known[:24]) + (", ..." if len(known) > 24 else "")
    return f"unknown {what} {got!r}; {meant}expected one of: {listed}"
