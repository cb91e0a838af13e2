"""Words of messages: counts, and names for misspelt ones."""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches


def many(count: int, one: str, several: str | None = None) -> str:
    """Write a count and what is counted.

    Args:
        count: how many.
        one: the word for one.
        several: the word for more; by default with an `s`.

    Example:
        >>> many(1, "action"), many(1200, "action"), many(0, "query", "queries")
        ('1 action', '1,200 actions', '0 queries')
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def nearest(got: str, known: Sequence[str]) -> str | None:
    """Find the name that was meant: misspelt, in other letters, or a part of it; None if no name is similar enough.

    Args:
        got: what the user wrote.
        known: all names.

    Example:
        >>> nearest("Otm", ["otam", "trx"]), nearest("ucf", ["hmdb51@arn", "ucf101@arn"]), nearest("novel", ["val"])
        ('otam', 'ucf101@arn', None)
        >>> nearest("otan", ["ta2n", "otam"]), nearest("steps", ["lists", "eps"])
        ('otam', None)
    """
    by_lower = {name.lower(): name for name in reversed(known)}

    def likeness(name: str) -> tuple[float, bool]:  # of equally similar names, the one that begins alike
        return SequenceMatcher(None, name, got.lower()).ratio(), name[0] == got[0].lower()

    near = [
        name for name in get_close_matches(got.lower(), by_lower) if likeness(name)[1] or likeness(name)[0] >= _ALIKE
    ]
    parts = [name for name in known if len(got) >= _SHORTEST_PART and got.lower() in name.lower()]
    return by_lower[max(near, key=likeness)] if near else next(iter(parts), None)


_ALIKE = 0.8  # least likeness of words that begin with other letters: short words share many by chance
_SHORTEST_PART = 3  # letters; fewer are in many names by chance


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
        >>> unknown("maml", ["aim", "trx"], "method")  # another name, not a misspelt one
        "unknown method 'maml'; expected one of: aim, trx"
    """
    known = list(known)
    listed = ", ".join(known[:24]) + (", ..." if len(known) > 24 else "")
    return f"unknown {what} {got!r}; {meant(got, known)}expected one of: {listed}"


def meant(got: str, known: Sequence[str]) -> str:
    """Ask whether a similar name was meant; empty if none is similar enough.

    Args:
        got: what the user wrote.
        known: all names.

    Returns:
        Words before "expected".

    Example:
        >>> meant("bi_mhm", ["otam", "bi-mhm"]), meant("maml", ["otam"])
        ("did you mean 'bi-mhm'? ", '')
    """
    near = nearest(got, known)
    return f"did you mean {near!r}? " if near else ""
