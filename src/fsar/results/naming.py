"""Names that a user chooses for rows: `--name RUN=LABEL`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fsar.results.identity import comparable, row_keys, row_name, row_names
from fsar.results.result import Result, Stored


def read_names(texts: Sequence[str]) -> dict[Path, str]:
    """Read `RUN=LABEL`.

    Args:
        texts: as on the command line; a path may hold `=`, a label too if a path stands before its first one.

    Raises:
        ValueError: no `=`, or nothing before or behind it.

    Example:
        >>> read_names(["runs/ma=MA-FSAR (ours)"])
        {PosixPath('runs/ma'): 'MA-FSAR (ours)'}
    """
    names = {}
    for text in texts:
        places = [i for i, sign in enumerate(text) if sign == "="]
        place = next((i for i in places if Path(text[:i]).exists()), places[0] if places else -1)
        path, label = text[: max(place, 0)], text[place + 1 :].strip()
        if not path or not label:
            raise ValueError(f"--name got {text!r}; expected RUN=LABEL, as runs/ma=MA-FSAR")
        names[Path(path)] = label
    return names


def named(stored: Sequence[Stored], names: Mapping[Path, str]) -> list[Stored]:
    """Name the rows of results.

    Args:
        stored: any.
        names: folder or file -> label of the row of its results; all results of that row get it, also those of other
            seeds.

    Raises:
        ValueError: no result in a folder; a label for several rows of one table; or several labels for one row.
    """
    labels = [""] * len(stored)
    for path, label in names.items():
        place = path.resolve()
        inside = [i for i, one in enumerate(stored) if one.path.resolve().is_relative_to(place)]
        if not inside:
            raise ValueError(f"--name {path}={label}: none of these results is in {path}")
        for i in inside:
            labels[i] = label
    results = [replace(one.result, label=label) for one, label in zip(stored, labels, strict=True)]
    chosen = _labels_of_rows(results)
    return [
        Stored(one.path, replace(result, label=chosen[id(result)])) for one, result in zip(stored, results, strict=True)
    ]


def _labels_of_rows(results: Sequence[Result]) -> dict[int, str]:
    """Result, by `id` -> the label of its row."""
    chosen: dict[int, str] = {}
    for group in comparable(results):
        keys = row_keys(group)
        rows: dict[str, set[str]] = {}
        for key, result in zip(keys, group, strict=True):
            rows.setdefault(key, set()).update({result.label} - {""})
        _require_one_each(rows, group)
        chosen |= {id(result): next(iter(rows[key]), "") for key, result in zip(keys, group, strict=True)}
    return chosen


def _require_one_each(rows: Mapping[str, set[str]], group: Sequence[Result]) -> None:
    """Refuse several labels for one row, and rows that would be called the same.

    The two modes of a method, and a run before and after its end, may share a label: their names say which they are.
    """
    names = row_names([replace(result, label="") for result in group])
    firsts = dict(zip(reversed(row_keys(group)), reversed(group), strict=True))
    of_label: dict[tuple[str, str], list[str]] = {}
    for key, labels in rows.items():
        if len(labels) > 1:
            raise ValueError(f"--name gives one row several names ({', '.join(sorted(labels))}): {names[key]}")
        for label in labels:
            called = row_name(replace(firsts[key], label=label))
            of_label.setdefault((label, called), []).append(names[key])
    for (label, _), several in of_label.items():
        if len(several) > 1:
            listed = " | ".join(several)
            raise ValueError(
                f"--name calls {len(several)} rows {label!r} ({listed}); name folders or files of one row each"
            )
