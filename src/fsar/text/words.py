"""Class names -> class texts. It imports little, so whoever only lists a dataset does not wait for torch."""

import re


def class_text(name: str) -> str:
    """Read a class name as words: lower case, spaces for underscores, no brackets, joined words apart.

    Args:
        name: as a dataset writes it.

    Example:
        >>> class_text("Dropping [something] into [something]"), class_text("ApplyEyeMakeup")
        ('dropping something into something', 'apply eye makeup')
    """
    if re.fullmatch(r"(?:[A-Z][a-z]+){2,}", name):
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(name.replace("_", " ").replace("[", "").replace("]", "").split()).lower()
