"""Find faults of examples, and say what would help most; for people who record clips.

Frames show useless examples: black, still, unreadable. Encodings show the rest: near-copies, examples that look like
another action, and actions that are confused with each other.
"""

import random
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fsar.datasets import VideoDataset, drop_copies, load_data
from fsar.methods.base import Method
from fsar.names import many
from fsar.recognizer.calibration import choose_variant
from fsar.recognizer.examples import Action, Actions, Example
from fsar.recognizer.faults import ExampleWarning, unbalanced
from fsar.recognizer.left_out import LeftOut, leave_one_out
from fsar.recognizer.matching import episode, queries, supports_of
from fsar.video.paths import VideoError, display
from fsar.video.reading import probe

if TYPE_CHECKING:
    from fsar.recognizer.recognizer import Recognizer

NEAR_COPY = 0.98
"""Mean cosine of two encodings; above it, they count as copies."""
ODD_LENGTH = 4.0
"""A clip may be so many times longer or shorter than the median."""
SURE = 2.0
"""If another action is so many times more probable, an example is reported as mislabelled."""
DRAWS = 5
"""Number of random choices of examples per point of the learning curve."""


@dataclass(frozen=True)
class Review:
    """Findings on examples.

    Example:
        >>> print(Review({"wave": 3, "clap": 2}, ("wave/a.mp4: all its frames are black",), {1: 0.6, 2: 0.8}, "clap"))
        2 actions, 5 examples
        - wave/a.mp4: all its frames are black
        with 1, 2 examples per action, chosen at random, 60%, 80% of the others were named right
        two more examples of 'clap' would help most
    """

    actions: Mapping[str, int]
    """Action -> number of examples."""
    findings: Sequence[str]
    """One sentence each."""
    curve: Mapping[int, float] = field(default_factory=dict)
    """Examples per action -> accuracy on the other examples."""
    wanted: str | None = None
    """The action that more examples would help most; None if unknown."""
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Action -> what its examples are named by the others -> how many of them."""
    certainty: Mapping[str, float] = field(default_factory=dict)
    """Action -> probability of the right name, the mean of its examples that the others name."""

    def __str__(self) -> str:
        lines = [f"{many(len(self.actions), 'action')}, {many(sum(self.actions.values()), 'example')}"]
        lines += [f"- {finding}" for finding in self.findings] or ["nothing wrong was found"]
        if self.curve:
            counts, shares = ", ".join(map(str, self.curve)), ", ".join(f"{share:.0%}" for share in self.curve.values())
            lines.append(
                f"with {counts} examples per action, chosen at random, {shares} of the others were named right"
            )
        if self.wanted is not None:
            lines.append(f"two more examples of {self.wanted!r} would help most")
        return "\n".join(lines)


def review_folder(recognizer: "Recognizer", folder: Path | VideoDataset, progress: bool = False) -> Review:
    """Enrol a folder of examples, and look for faults.

    Args:
        recognizer: an empty one.
        folder: ACTION/VIDEO, ACTION/GROUP/VIDEO, or a dataset.
        progress: show a progress bar.

    Returns:
        The findings.

    Raises:
        ValueError: no such folder, nothing in it, or the same content in two actions.
    """
    dataset = drop_copies(folder if isinstance(folder, VideoDataset) else load_data(folder, groups=True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExampleWarning)
        errors = recognizer.enroll_folder(dataset, return_errors=True, progress=progress)
    findings = [f"cannot be read: {error}" for error in errors]
    findings += [str(warning.message) for warning in caught if issubclass(warning.category, ExampleWarning)]
    findings += [*dataset.notes, *_lengths(dataset)]
    found = review(recognizer.method, recognizer.enrolled)
    return replace(found, findings=list(dict.fromkeys([*findings, *found.findings])))


def review(method: Method, actions: Actions) -> Review:
    """Look for faults of enrolled examples.

    Args:
        method: made the encodings.
        actions: the examples.

    Returns:
        The findings.
    """
    counts = {name: len(action.examples) for name, action in actions.items()}
    findings = [*_numbers(counts), *_near_copies(actions)]
    if len(actions) < 2 or max(counts.values()) < 2:
        return Review(counts, findings)
    named = name_left_out(method, actions)
    findings += [*_groups(actions), *_mistaken(named), *_colliding(named)]
    curve = learning_curve(method.variants()[named.variant], actions)
    return Review(counts, findings, curve, _wanted(named, counts), named.confusion, named.certainty)


class Named(NamedTuple):
    """Left-out examples with their predictions."""

    left_out: LeftOut
    probabilities: Float[Tensor, "example way"]
    actions: Sequence[str]
    variant: int
    """The variant of the method that was chosen for them."""

    @property
    def answers(self) -> dict[tuple[str, str], str]:
        """Action and name of each example -> what the others name it."""
        videos = (example.video for example in self.left_out.examples)
        return {(truth, video): answer for video, (truth, answer) in zip(videos, self.pairs, strict=True)}

    @property
    def confusion(self) -> dict[str, dict[str, int]]:
        """Action -> answer -> number of examples."""
        counts = Counter(self.pairs)
        return {truth: {answer: counts[truth, answer] for answer in self.actions} for truth in self.actions}

    @property
    def certainty(self) -> dict[str, float]:
        """Action -> mean probability of it among its examples; only of actions that have left-out examples."""
        ways = self.left_out.ways
        own = self.probabilities[torch.arange(len(ways)), ways]
        return {name: own[ways == way].mean().item() for way, name in enumerate(self.actions) if (ways == way).any()}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """True and answered action of each."""
        answers = self.probabilities.argmax(-1).tolist()
        return [
            (self.actions[way], self.actions[answer])
            for way, answer in zip(self.left_out.ways.tolist(), answers, strict=True)
        ]


def name_left_out(method: Method, actions: Actions) -> Named:
    """Name each example by the others, as a calibrated recogniser would.

    Args:
        method: made the encodings.
        actions: the examples; at least two actions, one of them with two examples.

    Returns:
        The examples with their names.
    """
    left_out = leave_one_out(method, actions)
    choice = choose_variant(left_out.logits, left_out.ways)
    shares = (choice.scale * left_out.logits[choice.order]).softmax(-1)
    return Named(left_out, shares, list(actions), choice.order)


def _lengths(dataset: VideoDataset) -> Iterator[str]:
    """Report clips that are much longer or shorter than the others, and clips of a single frame."""
    seconds = {}
    for video in dataset.videos:
        try:
            info = probe(video.path, *video.span)
        except (VideoError, ValueError):
            continue  # already reported
        if info.frames == 1:
            yield f"{display(Path(video.place))}: it has a single frame, and so no action"
        elif info.duration:
            seconds[video] = info.duration
    usual = median(seconds.values()) if seconds else 0.0
    for video, length in seconds.items():
        if not usual / ODD_LENGTH <= length <= usual * ODD_LENGTH:
            kind = "long" if length > usual else "short"
            yield (
                f"{display(Path(video.place))}: it is very {kind} ({length:.1f} s; half of the clips last "
                f"{usual:.1f} s or less); does it show the action once?"
            )


def _numbers(counts: Mapping[str, int]) -> Iterator[str]:
    """Report actions with too few examples."""
    for name, count in counts.items():
        if count == 1:
            yield f"action {name!r} has a single example: nothing can tell how well it is recognised; add one"
    yield from unbalanced(counts)


def _near_copies(actions: Actions) -> Iterator[str]:
    """Report pairs of examples with nearly equal encodings."""
    for name, action in actions.items():
        for one, other in combinations(action.examples, 2):
            alike = min(
                torch.cosine_similarity(one.query[part].float(), other.query[part].float(), dim=-1).mean().item()
                for part in one.query
            )
            if alike > NEAR_COPY:
                pair = f"{_shown(one)} and {_shown(other)} ({name})"
                yield f"{pair} are nearly the same clip; one of them teaches nothing"


def _shown(example: Example) -> str:
    return display(Path(example.video))


def _groups(actions: Actions) -> Iterator[str]:
    """Report that no groups are known."""
    groups = {example.group for action in actions.values() for example in action.examples}
    if None in groups or len(groups) < 2:
        yield (
            "nobody said which examples come from one person or recording; if some do, expect less than is promised. "
            "Put them into folders, ACTION/PERSON/CLIP"
        )


def _mistaken(named: Named) -> Iterator[str]:
    """Examples that the others are sure to be of another action."""
    ways, best = named.left_out.ways, named.probabilities.amax(-1)
    sure = best > SURE * named.probabilities[torch.arange(len(ways)), ways]
    for i, (truth, answer) in enumerate(named.pairs):
        if sure[i]:
            video = _shown(named.left_out.examples[i])
            yield f"{video}: enrolled as {truth!r}, but the other examples say {answer!r}; is it right?"


def _colliding(named: Named) -> Iterator[str]:
    """Pairs of actions of which a third of the examples or more are taken for the other."""
    counts = Counter(truth for truth, _ in named.pairs)
    mixed = Counter(frozenset(pair) for pair in named.pairs if len(set(pair)) == 2)
    for pair, mistakes in mixed.most_common():
        share = mistakes / sum(counts[name] for name in pair)
        if share >= 1 / 3:
            first, second = sorted(pair)
            yield f"{first!r} and {second!r} are hard to tell apart ({share:.0%} of their examples are mixed up)"


def learning_curve(method: Method, actions: Actions) -> dict[int, float]:
    """Name examples by fewer others, to see whether more examples help.

    Args:
        method: as it is, without a choice of its variants.
        actions: the examples.

    Returns:
        Examples per action -> share of the others that were named right, the mean of some random choices.
    """
    most = sorted(len(action.examples) for action in actions.values())[len(actions) // 2]
    counts = [count for count in (1, 2, 3, 5, 8, 12, 20, 50, 100, 200) if count < most]
    rng = random.Random(0)
    return {count: sum(_drawn(method, actions, count, rng) for _ in range(DRAWS)) / DRAWS for count in counts}


@torch.no_grad()
def _drawn(method: Method, actions: Actions, count: int, rng: random.Random) -> float:
    """Choose examples at random, and name all others by them."""
    support, asked, ways = {}, [], []
    for way, (name, action) in enumerate(actions.items()):
        mixed: list[Example] = rng.sample(action.examples, len(action.examples))
        support[name] = Action.of(mixed[:count], action.text)
        asked += mixed[count:]
        ways += [way] * len(mixed[count:])
    supports = supports_of(method, support)
    turns = [[example] for example in asked] if method.traits.transductive else [asked]
    named = torch.cat(
        [method.match(episode(method, [(supports, queries(turn))])).logits[0].argmax(-1) for turn in turns]
    )
    return (named.cpu() == torch.tensor(ways)).float().mean().item()


def _wanted(named: Named, counts: Mapping[str, int]) -> str | None:
    """The action of which the least share is named right; of several, the one with the fewest examples."""
    right: dict[str, list[bool]] = {}
    for truth, answer in named.pairs:
        right.setdefault(truth, []).append(truth == answer)
    worst = min(((sum(each) / len(each), counts[name], name) for name, each in right.items()), default=None)
    return worst[2] if worst and worst[0] < 1 else None
