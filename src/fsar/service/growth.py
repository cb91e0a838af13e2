"""How the accuracy of a recogniser grew: one line in a file for each change of its examples."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsar.recognizer import Recognizer

SHOWN = 200
"""Changes that are told, the newest ones."""


class Growth:
    """The file of one recogniser.

    Args:
        file: one JSON object in a line. A line that a kill cut short is left out.

    Example:
        >>> Growth(Path("none.jsonl")).points()
        []
    """

    def __init__(self, file: Path):
        self.file = file

    def add(self, recognizer: Recognizer) -> None:
        """Note how well the examples name each other now, if enough are there to tell."""
        try:
            fit = recognizer.fit()
        except ValueError:  # too few examples
            return
        if fit.accuracy is None or self._leads_elsewhere():
            return
        point = {"examples": sum(recognizer.actions.values()), "accuracy": fit.accuracy}
        # a full disk or a missing folder does no harm: the change itself is done
        with suppress(OSError), self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")

    def points(self) -> list[dict[str, Any]]:
        """List the number of examples, and the share of them that the others name right, after each change."""
        if not self.file.is_file() or self._leads_elsewhere():
            return []
        found = []
        for line in self.file.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN:]:
            try:
                point = json.loads(line)
                found.append({"examples": int(point["examples"]), "accuracy": float(point["accuracy"])})
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def _leads_elsewhere(self) -> bool:
        return self.file.is_symlink() or self.file.parent.is_symlink()


def effect_of(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Tell what a change of examples did to the names that the others give them.

    Args:
        before: action and clip -> name.
        after: the same, after the change.

    Returns:
        How many were `right`, `before` and `after`, and the clips whose name `changed`.

    Example:
        >>> effect_of({("wave", "a.mp4"): "clap"}, {("wave", "a.mp4"): "wave"})["changed"]
        [{'action': 'wave', 'clip': 'a.mp4', 'before': 'clap', 'after': 'wave'}]
    """
    told = [
        {"right": sum(action == name for (action, _), name in each.items()), "of": len(each)}
        for each in (before, after)
    ]
    changed = [
        {"action": action, "clip": clip, "before": before[action, clip], "after": name}
        for (action, clip), name in after.items()
        if before.get((action, clip), name) != name
    ]
    return {"before": told[0], "after": told[1], "changed": changed}
