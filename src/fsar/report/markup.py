"""HTML and SVG built from functions, so that what is text stays text: everything is escaped but markup itself."""

import html

Child = str | int | float | None


class Markup(str):
    """Text that is HTML already; `element` escapes every other string."""

    __slots__ = ()


def element(tag: str, *children: Child, **attributes: Child | bool) -> Markup:
    """Build an element.

    Args:
        tag: its name.
        children: text (escaped), markup (kept), None (left out).
        attributes: `class_` is `class`, `stroke_width` is `stroke-width`; None and False are left out, True is bare.
    """
    listed = "".join(_attribute(name, value) for name, value in attributes.items() if value not in (None, False))
    if tag in _EMPTY:
        return Markup(f"<{tag}{listed}>")
    return Markup(f"<{tag}{listed}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Put children beside each other, text escaped."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(str(c)) for c in children if c is not None))


_EMPTY = ("meta", "br")


def _attribute(name: str, value: Child | bool) -> str:
    name = name.rstrip("_").replace("_", "-").replace("viewbox", "viewBox")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
