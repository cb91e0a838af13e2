"""Draw the steps of a method as an SVG picture, from one line of text (docs/methods.yml).

Steps stand one below the other, so the picture is narrow enough for a phone. Its colours, those of the page, are in
docs/site.css.
"""

import html
import textwrap
from dataclasses import dataclass

WIDTH, GAP, LINE, PAD = 340, 22, 17, 9
"""Of the picture, between steps, of a line of text, and around the text of a box; in pixels."""
LETTERS = {1: 46, 2: 20, 3: 12}
"""Letters that fit into a line of a box, by the number of branches."""


@dataclass(frozen=True)
class Box:
    """A step in one branch: its words, and whether the method adds it."""

    lines: tuple[str, ...]
    own: bool
    left: float
    width: float

    @property
    def middle(self) -> float:
        """Of its width."""
        return self.left + self.width / 2


def steps_of(flow: str) -> list[list[tuple[str, bool]]]:
    """Read the steps of a flow: the words of each branch, and whether the method adds it.

    Raises:
        ValueError: a step without words, or with more than three branches.
    """
    steps = [[part.strip() for part in step.split("|")] for step in flow.split(">")]
    for step in steps:
        if not all(step) or len(step) > max(LETTERS):
            raise ValueError(f"the step {' | '.join(step)!r} of a flow needs words in one to three branches")
    return [[(part.removeprefix("*"), part.startswith("*")) for part in step] for step in steps]


def in_words(flow: str) -> str:
    """Say a flow in one sentence, for readers who do not see the picture."""
    steps = [" and, beside it, ".join(words for words, _ in step) for step in steps_of(flow)]
    return "; then ".join(steps) + "."


def drawn(flow: str) -> str:
    """Draw a flow as SVG: boxes in dashed lines are shared with other methods, full ones are the method's own."""
    top, before, shapes = 1, [], []
    for step in steps_of(flow):
        width = (WIDTH - 2 - 12 * (len(step) - 1)) / len(step)
        wrapped = [(tuple(textwrap.wrap(words, LETTERS[len(step)])), own) for words, own in step]
        boxes = [Box(*box, 1 + i * (width + 12), width) for i, box in enumerate(wrapped)]
        height = max(len(box.lines) for box in boxes) * LINE + 2 * PAD
        if before:
            shapes += arrows(before, boxes, top)
            top += GAP
        for box in boxes:
            shapes.append(rectangle(box, top, height))
        top, before = top + height, boxes
    words = html.escape(in_words(flow))
    return (
        f'<svg class="flow" viewBox="0 0 {WIDTH} {top + 1}" role="img" aria-label="{words}">'
        f"<title>{words}</title>{''.join(shapes)}</svg>"
    )


def rectangle(box: Box, top: float, height: float) -> str:
    """A box with its words in its middle."""
    first = top + height / 2 - LINE * (len(box.lines) - 1) / 2 + 4.5
    spans = "".join(
        f'<tspan x="{box.middle:g}" y="{first + i * LINE:g}">{html.escape(line)}</tspan>'
        for i, line in enumerate(box.lines)
    )
    kind = "own" if box.own else "shared"
    return (
        f'<rect class="{kind}" x="{box.left:g}" y="{top:g}" width="{box.width:g}" height="{height:g}" rx="5"/>'
        f"<text>{spans}</text>"
    )


def arrows(above: list[Box], below: list[Box], top: float) -> list[str]:
    """From each box to the one below; a step divides or joins branches, if the numbers differ."""
    if len(above) == len(below):
        pairs = list(zip(above, below, strict=True))
    else:
        pairs = [(first, second) for first in above for second in below]
    return [
        f'<path d="M{a.middle:g} {top:g}V{top + GAP / 2:g}H{b.middle:g}v{GAP / 2 - 1:g}m-4 -5l4 5l4 -5"/>'
        for a, b in pairs
    ]
