"""Class names -> texts -> text features.

Template sets, by name: `ma-fsar` (the 16 of MA-FSAR Table 10, in its order), `clip-spm` (the 16 of
CLIP-SPM Table 6, in its order). `name:R` is the first R of a set; any text holding `{}` is a single
template; `name` as `{}` alone is the bare class name.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fsar.backbones import Backbone
from fsar.names import unknown

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

    Raises:
        ValueError: an unknown set, or an R outside 1 to its length.
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


def class_text(name: str) -> str:
    """Read a class name as words: lower case, underscores to spaces, brackets dropped.

    `Dropping [something] into [something]` -> `dropping something into something`.
    """
    return " ".join(name.replace("_", " ").replace("[", "").replace("]", "").split()).lower()


_CACHE: WeakKeyDictionary[Backbone, dict[tuple[str, str], Tensor]] = WeakKeyDictionary()


@torch.no_grad()
def class_features(
    backbone: Backbone, labels: Sequence[str], template_set: str, rng: np.random.Generator | None = None
) -> Float[Tensor, "label dim"]:
    """Mean over templates of the un-normalised text features of each class; with `rng`, one drawn per class.

    Cached per backbone, class text and template set: the text tower is frozen in every method that
    reads its features this way.
    """
    if rng is not None:
        own = templates(template_set)
        return torch.cat([class_features(backbone, [label], own[rng.integers(len(own))]) for label in labels])
    cache = _CACHE.setdefault(backbone, {})
    for label in dict.fromkeys(labels):
        if (label, template_set) not in cache:
            texts = [template.replace("{}", label) for template in templates(template_set)]
            cache[label, template_set] = backbone.text_features(texts).mean(0)
    device = next(backbone.parameters(), torch.empty(0)).device
    return torch.stack([cache[label, template_set].to(device) for label in labels])
