"""Class names -> texts -> text features.

Template sets, by name: `ma-fsar` has the 16 templates of MA-FSAR's Table 10, `clip-spm` the 16 of CLIP-SPM's Table 6,
each in the paper's order. `name:R` is the first R of a set. A text with `{}` is a single template; `{}` alone is
the bare class name.

Sub-actions (Task-Adapter++, section 3.5) are three sentences for every class: its beginning, its process and its end. A
corpus of them is a YAML file:

    version: 1
    classes:
      "long jump":              # the class name as `class_text` reads it
        - "Run up for momentum."
        - "Take off with a powerful leap."
        - "Land and maintain balance."

The package has one for each benchmark (`src/fsar/text/subactions/`); `fsar describe` writes one for other classes.
"""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from fsar.backbones import Backbone
from fsar.config import read_yaml
from fsar.names import unknown
from fsar.text.words import class_text

TEMPLATE_SETS = {
    "ma-fsar": (
        "{}",
        "a photo of action {}",
        "a picture of action {}",
        "Human action of {}",
        "{}, an action",
        "{} this is an action",
        "{}, a video of action",
        "Playing action of {}",
        "Playing a kind of action, {}",
        "Doing a kind of action, {}",
        "Look, the human is {}",
        "Can you recognize the action of {}",
        "Video classification of {}",
        "A video of {}",
        "The man is {}",
        "The woman is {}",
    ),
    "clip-spm": (
        "A photo of action {}",
        "A picture of action {}",
        "Human action of {}",
        "{}, an action",
        "{} this is an action",
        "{}, a video of action",
        "Playing action of {}",
        "{}",
        "Playing a kind of action, {}",
        "Doing a kind of action, {}",
        "Look, the human is {}",
        "Can you recognize the action of {}?",
        "Video classification of {}",
        "A video of {}",
        "The man is {}",
        "The woman is {}",
    ),
}


def templates(name: str) -> tuple[str, ...]:
    """Resolve a template set, its first R (`clip-spm:4`), or a single template (`a video of {}`).

    Args:
        name: one of these.

    Returns:
        Sentences with `{}` in place of the class name.

    Raises:
        ValueError: an unknown set, or an R outside 1 to its length.

    Example:
        >>> templates("ma-fsar:2")
        ('{}', 'a photo of action {}')
    """
    if "{}" in name:
        return (name,)
    set_name, _, count = name.partition(":")
    if set_name not in TEMPLATE_SETS:
        raise ValueError(unknown(set_name, TEMPLATE_SETS, "template set") + ", or one template holding {}")
    chosen = TEMPLATE_SETS[set_name]
    if not count:
        return chosen
    if not count.isdigit() or not 1 <= int(count) <= len(chosen):
        raise ValueError(f"{name!r} asks for {count!r} templates; {set_name} has 1 to {len(chosen)}")
    return chosen[: int(count)]


_CACHE: WeakKeyDictionary[Backbone, tuple[int, dict[tuple[str, str], Tensor]]] = WeakKeyDictionary()
"""Backbone -> how often its text tower has changed, and what it then gave: (class, template set) -> feature."""


@torch.no_grad()
def class_features(
    backbone: Backbone, labels: Sequence[str], template_set: str, rng: np.random.Generator | None = None
) -> Float[Tensor, "label dim"]:
    """Compute the text feature of each class: the mean over templates, not normalised.

    The result is cached per backbone, class text and template set, for as long as the text tower does not change.

    Args:
        backbone: with a text tower.
        labels: words of the classes.
        template_set: as `templates` takes it.
        rng: draws one template per class instead of the mean.

    Returns:
        One feature per class.

    Raises:
        ValueError: an unknown template set, or a backbone without a text tower.

    Example:
        >>> from fsar.backbones import load_backbone
        >>> class_features(load_backbone("tiny"), ["waving", "clapping"], "a video of {}").shape
        torch.Size([2, 128])
    """
    if rng is not None:
        own = templates(template_set)
        return torch.cat([class_features(backbone, [label], own[rng.integers(len(own))]) for label in labels])
    cache = _cache_of(backbone)
    for label in dict.fromkeys(labels):
        if (label, template_set) not in cache:
            texts = [template.replace("{}", label) for template in templates(template_set)]
            cache[label, template_set] = backbone.text_features(texts).mean(0)
    device = next(backbone.parameters(), torch.empty(0)).device
    return torch.stack([cache[label, template_set].to(device) for label in labels])


def _cache_of(backbone: Backbone) -> dict[tuple[str, str], Tensor]:
    """Features of the text tower as it is now; a step of the optimiser raises the version of a parameter."""
    version = sum(p._version for name, p in backbone.named_parameters() if not name.startswith("clip.visual."))
    if backbone not in _CACHE or _CACHE[backbone][0] != version:
        _CACHE[backbone] = (version, {})
    return _CACHE[backbone][1]


SubActions = tuple[str, str, str]
"""Sentences for a class's beginning, process and end."""
SUB_ACTIONS_VERSION = 1
SUB_ACTION_PROMPT = "A video of action about {label}: {sentence}"
"""The sentence around a sub-action that CLIP reads."""


def packaged_sub_actions() -> list[str]:
    """List the packaged corpora of sub-actions, one per benchmark.

    Example:
        >>> packaged_sub_actions()[:3]
        ['hmdb51', 'kinetics100', 'ssv2-full']
    """
    return sorted(Path(str(file)).stem for file in _SUB_ACTIONS.iterdir() if file.name.endswith(".yaml"))


_SUB_ACTIONS = resources.files("fsar.text") / "subactions"


def sub_actions(labels: Sequence[str], source: str | None = None) -> list[SubActions]:
    """Look up the three stages of each class text.

    Args:
        labels: class texts, as `class_text` gives them.
        source: a packaged corpus (`hmdb51`) or a file; None looks each class up in all packaged ones.

    Returns:
        Three sentences per class.

    Raises:
        ValueError: no such corpus, not a corpus, or or classes that it lacks (the message says how to describe
            them); no source, and the packaged corpora describe a class differently.

    Example:
        >>> len(sub_actions(["brush hair"], "hmdb51")[0])
        3
    """
    sources = packaged_sub_actions() if source is None else [source]
    corpora = [read_sub_actions(name) for name in sources]
    for label in labels:
        holders = {name: corpus[label] for name, corpus in zip(sources, corpora, strict=True) if label in corpus}
        if len(set(holders.values())) > 1:
            raise ValueError(
                f"the packaged corpora {' and '.join(holders)} describe {label!r} differently; name one of them, as in "
                f"sub_actions: {next(iter(holders))}"
            )
    found = [next((corpus[label] for corpus in corpora if label in corpus), None) for label in labels]
    missing = [label for label, stages in zip(labels, found, strict=True) if stages is None]
    if missing:
        listed = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{source or 'the packaged corpora'}: no sub-actions for {len(missing)} of {len(labels)} classes "
            f"({listed}); write them with `fsar describe`, and give the file as sub_actions=FILE"
        )
    return [stages for stages in found if stages is not None]


@cache
def _packaged(name: str) -> Mapping[str, SubActions]:
    return parse_sub_actions((_SUB_ACTIONS / f"{name}.yaml").read_text(encoding="utf-8"), name)


def read_sub_actions(source: str) -> Mapping[str, SubActions]:
    """Read a corpus of sub-actions: class text -> beginning, process, end.

    Args:
        source: a packaged corpus, or a file.

    Raises:
        ValueError: neither a packaged corpus nor a file, or not a corpus.
    """
    if source in packaged_sub_actions():
        return _packaged(source)
    file = Path(source)
    if not file.is_file():
        raise ValueError(unknown(source, packaged_sub_actions(), "corpus of sub-actions") + ", or a YAML file")
    facts = file.stat()
    return _of_file(file.resolve(), source, (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size))


@lru_cache(maxsize=8)
def _of_file(file: Path, source: str, state: tuple[int, ...]) -> Mapping[str, SubActions]:
    """Read a file; once as long as its `state` stays, since every step of training asks for it."""
    return parse_sub_actions(file.read_text(encoding="utf-8"), source)


def parse_sub_actions(text: str, source: str) -> dict[str, SubActions]:
    """Parse the YAML of a corpus: this project's form, or that of Task-Adapter++'s public code.

    The public code's form has no `classes:`; a class holds its sentences, directly or under the key `sub_act_en_li`.

    Args:
        text: the file's content.
        source: its name, for errors.

    Returns:
        Class text -> beginning, process, end.

    Raises:
        ValueError: not YAML, of another version, or a class without three distinct sentences.
    """
    try:
        content = read_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not YAML ({' '.join(str(error).split())})") from error
    if isinstance(content, dict) and content and all(_public_stages(entry) for entry in content.values()):
        content = {"version": SUB_ACTIONS_VERSION, "classes": {k: _public_stages(v) for k, v in content.items()}}
    if not isinstance(content, dict) or not isinstance(content.get("classes"), dict):
        raise ValueError(
            f"{source}: not a corpus of sub-actions; expected `version: 1` and `classes:` with three sentences for "
            f"each class, as `fsar describe` writes, or the form of Task-Adapter++'s public code"
        )
    if content.get("version") != SUB_ACTIONS_VERSION:
        raise ValueError(f"{source}: version is {content.get('version')!r}; this fsar reads {SUB_ACTIONS_VERSION}")
    corpus = {}
    for label, stages in content["classes"].items():
        fits = isinstance(stages, list) and all(isinstance(stage, str) and stage.strip() for stage in stages)
        if not fits or len(stages) != 3 or len(set(stages)) != 3:
            raise ValueError(
                f"{source}: {label!r} has {stages!r}; expected three different sentences: its beginning, its process "
                f"and its end"
            )
        corpus[class_text(str(label))] = (stages[0], stages[1], stages[2])
    return corpus


def _public_stages(entry: object) -> object:
    """Return the sentences of a class in the public code's form; None if it has another form."""
    if isinstance(entry, dict):
        return entry.get("sub_act_en_li")
    return entry if isinstance(entry, list) else None


def dump_sub_actions(corpus: Mapping[str, SubActions], comment: str = "") -> str:
    """Write a corpus as the YAML that `read_sub_actions` reads.

    Args:
        corpus: class text -> beginning, process, end.
        comment: lines at the head of the file.

    Example:
        >>> print(dump_sub_actions({"waving": ("Raise.", "Swing.", "Lower.")}), end="")
        version: 1
        classes:
          waving:
          - Raise.
          - Swing.
          - Lower.
    """
    classes = {label: list(stages) for label, stages in corpus.items()}
    content = {"version": SUB_ACTIONS_VERSION, "classes": classes}
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
