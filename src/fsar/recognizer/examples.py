"""Enrolled examples: values that never change, so that a reader can use them while an editor makes new ones.

Encodings are kept in half precision, as in a recogniser's file: a saved recogniser answers exactly as before. The sum
of a class's encodings is kept in double precision. Sums of half-precision numbers are exact there, so that adding and
subtracting examples in any order gives the same prototype.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from fsar.methods.episode import Encoding
from fsar.names import unknown
from fsar.video.sampling import Times


class Length(NamedTuple):
    """How long a video lasts."""

    seconds: float
    fps: float
    """Frames per second, on average."""

    @classmethod
    def of(cls, times: Times | None) -> Length | None:
        """Measure a video.

        Args:
            times: start of each frame and, last, end of the video, in seconds; None for a video without times.

        Example:
            >>> import numpy as np
            >>> Length.of(np.array([1.0, 1.5, 2.0, 2.5, 3.0]))
            Length(seconds=2.0, fps=2.0)
        """
        seconds = 0.0 if times is None else float(times[-1] - times[0])
        return None if times is None or seconds <= 0 else cls(seconds, (len(times) - 1) / seconds)


@dataclass(frozen=True, eq=False)
class Example:
    """An enrolled video, encoded in both roles.

    The support encoding names other videos. The query encoding is used when the example itself is left out and named
    by the others.
    """

    video: str
    """Path or name, as enrolled."""
    content: str | None
    """Hash of the video's content; None in files of older versions."""
    support: Encoding
    query: Encoding
    group: str | None = None
    """Person or recording that the video comes from; None if nobody said."""
    length: Length | None = None
    """How long the video lasts; None if it came without times, or in files of older versions."""

    @property
    def key(self) -> str:
        """What makes a video count once: its content or, if unknown, its name."""
        return self.content or self.video


@dataclass(frozen=True, eq=False)
class Action:
    """The examples of one action."""

    examples: tuple[Example, ...]
    text: Tensor | None
    """Encoded class text; None if the method reads none."""
    total: Encoding
    """Sum of the support encodings, float64."""

    @classmethod
    def of(cls, examples: Iterable[Example], text: Tensor | None = None) -> Action:
        """Gather at least one example."""
        first, *others = examples
        action = cls((first,), text, {part: tensor.double() for part, tensor in first.support.items()})
        for example in others:
            action = action.with_example(example)
        return action

    def with_example(self, example: Example) -> Action:
        """Add an example."""
        total = {part: tensor + example.support[part] for part, tensor in self.total.items()}
        return replace(self, examples=(*self.examples, example), total=total)

    def without(self, example: Example) -> Action:
        """Take one of several examples away. The last one takes its place, so that the others keep theirs."""
        *rest, last = self.examples
        examples = tuple(last if other is example else other for other in rest)
        total = {part: tensor - example.support[part] for part, tensor in self.total.items()}
        return replace(self, examples=examples, total=total)

    def like(self, example: Example) -> Example | None:
        """Find the example of the same content; None if there is none."""
        return next((other for other in self.examples if other.key == example.key), None)

    def mean(self, left_out: Sequence[Example] = ()) -> Encoding:
        """Mean of the support encodings of all examples but some, float32."""
        total, count = self.total, len(self.examples) - len(left_out)
        for example in left_out:
            total = {part: tensor - example.support[part] for part, tensor in total.items()}
        return {part: (tensor / count).float() for part, tensor in total.items()}


Actions: TypeAlias = Mapping[str, Action]
"""Enrolled actions by name."""


def compact(encoding: Encoding, video: str) -> Encoding:
    """Round an encoding to half precision.

    Args:
        encoding: of one video.
        video: its name, for the message.

    Returns:
        The same tensors, float16.

    Raises:
        ValueError: the encoding has numbers that are not finite, or too large.
    """
    rounded = {part: tensor.half() for part, tensor in encoding.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in rounded.values()):
        raise ValueError(f"{video}: its encoding has numbers that are not finite; check the backbone's weights")
    return rounded


def find(actions: Actions, action: str, video: str | os.PathLike[str]) -> Example:
    """Find an example by its name.

    Args:
        actions: what is enrolled.
        action: the action that the example belongs to.
        video: the example's name, or a path that ends as the name does, or the end of the name.

    Returns:
        The example.

    Raises:
        ValueError: no such example, or several.
    """
    return _one([(action, example) for example in actions[action].examples], video, f"example of {action!r}")[1]


def find_anywhere(actions: Actions, video: str | os.PathLike[str]) -> tuple[str, Example]:
    """Find an example by its name, in whatever action it is.

    Args:
        actions: what is enrolled.
        video: as for `find`.

    Returns:
        The action and the example.

    Raises:
        ValueError: no such example, or several.
    """
    everything = [(name, example) for name, action in actions.items() for example in action.examples]
    return _one(everything, video, "example or file")


def _one(examples: list[tuple[str, Example]], video: str | os.PathLike[str], what: str) -> tuple[str, Example]:
    """Find the only example of a name."""
    wanted = Path(video).parts
    exact = [(name, example) for name, example in examples if example.video == os.fspath(video)]
    ending = [(name, example) for name, example in examples if _end_alike(Path(example.video).parts, wanted)]
    found = exact or ending
    if not found:
        raise ValueError(unknown(os.fspath(video), sorted(example.video for _, example in examples), what))
    if len(found) > 1:
        listed = ", ".join(f"{example.video} ({name})" for name, example in found)
        raise ValueError(f"{os.fspath(video)!r} names {len(found)} examples: {listed}; give more of its path")
    return found[0]


def with_examples(
    actions: Actions, added: Iterable[tuple[str, Example]], text: Callable[[str], Tensor | None]
) -> Actions:
    """Add examples. A content that an action has already is skipped; a file that changed replaces its example.

    Args:
        actions: what is enrolled.
        added: action, known or new, and example.
        text: gives the encoded class text of a new action, or None.

    Returns:
        The actions with the new examples.

    Raises:
        ValueError: a content that is an example of another action.
    """
    homes = {other.key: (name, other) for name, action in actions.items() for other in action.examples}
    changed = dict(actions)
    for name, example in added:
        home, other = homes.setdefault(example.key, (name, example))
        if home != name:
            same = "is" if example.video == other.video else f"has the content of {other.video},"
            raise ValueError(
                f"{example.video} {same} an example of {home!r}; clips of one content cannot be examples of {name!r} "
                f"too: leave it out of one of them, or move it with relabel"
            )
        if other is not example:
            continue
        before = changed[name].examples if name in changed else ()
        for outdated in [old for old in before if old.video == example.video]:
            del homes[outdated.key]
            changed = dict(without(changed, name, outdated))
        if name in changed:
            changed[name] = changed[name].with_example(example)
        else:
            changed[name] = Action.of([example], text(name))
    return changed


def without(actions: Actions, action: str, example: Example | None) -> Actions:
    """Take one example away, or a whole action. An action without examples is left out, too."""
    rest = dict(actions)
    if example is None or len(actions[action].examples) == 1:
        del rest[action]
    else:
        rest[action] = actions[action].without(example)
    return rest


def with_short_names(actions: Actions) -> Actions:
    """Shorten the examples' names to as many last parts of their paths as tell them apart within their action."""
    return {name: replace(action, examples=short_names(action.examples)) for name, action in actions.items()}


def short_names(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Shorten the names of some examples, as `with_short_names` does."""
    names = _short([example.video for example in examples])
    return tuple(replace(example, video=short) for example, short in zip(examples, names, strict=True))


def _short(names: list[str]) -> list[str]:
    parts = [Path(name).parts for name in names]
    count = [1] * len(names)
    while True:
        ends = [each[-n:] for each, n in zip(parts, count, strict=True)]
        alike = [i for i, end in enumerate(ends) if ends.count(end) > 1 and count[i] < len(parts[i])]
        if not alike:
            return [os.path.join(*end) for end in ends]
        for i in alike:
            count[i] += 1


def _end_alike(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    shorter = min(len(first), len(second))
    return shorter > 0 and first[-shorter:] == second[-shorter:]
