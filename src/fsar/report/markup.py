"""HTML and SVG as nested functions. Text is always escaped; only `Markup` passes as it is."""

import html
from collections.abc import Sequence

Child = str | int | float | None


class Markup(str):
    """Text that is HTML already; `element` escapes every other string."""

    __slots__ = ()


def element(tag: str, *children: Child, **attributes: Child | bool) -> Markup:
    """Build an element.

    Args:
        tag: its name.
        children: text (escaped), markup (unchanged), None (left out).
        attributes: `class_` stands for `class`, `stroke_width` for `stroke-width`. None and False are left out; True is
            an attribute without a value.

    Returns:
        The element with its children.

    Example:
        >>> element("p", "a < b", element("b", 3), class_="quiet")
        '<p class="quiet">a &lt; b<b>3</b></p>'
    """
    listed = "".join(_attribute(name, value) for name, value in attributes.items() if value not in (None, False))
    if tag in _EMPTY:
        return Markup(f"<{tag}{listed}>")
    return Markup(f"<{tag}{listed}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Put children side by side; text is escaped, None is left out.

    Example:
        >>> join("a & ", Markup("<b>b</b>"), None)
        'a &amp; <b>b</b>'
    """
    return Markup("".join(c if isinstance(c, Markup) else html.escape(str(c)) for c in children if c is not None))


def scroll(head: Markup, rows: Sequence[Markup]) -> Markup:
    """Build a table in a box that scrolls sideways if the table is wider than the page."""
    table = element("table", element("thead", head), element("tbody", *rows))
    return element("div", table, class_="scroll", tabindex=0)


def header(words: Sequence[str], numbers: Sequence[str], *more: str) -> Markup:
    """Build the header row of a table: columns of words, then of numbers, then of words again."""
    cells = [element("th", column, scope="col") for column in words]
    cells += [element("th", *_unbroken(column), scope="col", class_="number") for column in numbers]
    return element("tr", *cells, *(element("th", column, scope="col") for column in more))


_EMPTY = ("meta", "br", "img")


def _attribute(name: str, value: Child | bool) -> str:
    name = name.rstrip("_").replace("_", "-").replace("viewbox", "viewBox")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


def _unbroken(words: str) -> list[Markup]:
    """Words that a line may break between, but not inside: "1-shot" stays whole."""
    return [join(element("span", word, class_="fixed"), " ") for word in words.split()]
