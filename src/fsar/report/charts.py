"""Curves and bars as inline SVG, built from elements.

Why not matplotlib, which draws the demo's pictures: a report has dozens of charts. In this form a chart of four curves
has 4 kB (matplotlib's SVG of the same chart: 29 kB), its text can be searched and read aloud, its colours follow the
page's light and dark style, and every bar shows its value under the mouse. The demo's pictures hold video frames, so
they are pixels anyway.

A chart fits a narrow column (`WIDTH` units), so its text is readable on a phone. A wide page shows several charts side
by side. Series differ in colour, dash and shape of their marks.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fsar.report.markup import Markup, element, join

WIDTH = 360
SERIES = 8
"""Largest number of series in a chart, so that a reader can tell them apart."""
_LEFT, _RIGHT, _TOP, _HEIGHT = 42, 12, 10, 190
_MARKS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f"M{x - 3:.1f} {y:.1f}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z",
    lambda x, y: f"M{x - 3:.1f} {y - 3:.1f}h6v6h-6Z",
    lambda x, y: f"M{x:.1f} {y - 4:.1f}l4 7h-8Z",
    lambda x, y: f"M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4Z",
)
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve."""

    name: str
    points: Sequence[Point]
    half_width: Sequence[float] = ()
    """Half the interval at each point; empty for no interval."""
    marked: bool = True
    """Draw a mark at every point."""
    best: int | None = None
    """Index of a point to draw a ring around."""
    faint: bool = False
    """Draw behind the others and without a name: the raw values of the next series."""
    reference: bool = False
    """Draw as a dotted line with its name beside it, such as chance; it has no colour and is not in the legend."""


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    x_ticks: Sequence[float] | None = None,
) -> Markup:
    """Draw curves over a common axis.

    Args:
        title: above the chart.
        series: at most `SERIES` (faint ones and references not counted), with at least one point each.
        x_label: name of the horizontal axis, with its unit.
        y_label: name of the vertical axis, with its unit.
        y_range: ends of the vertical axis; by default, what the points and their intervals need.
        x_ticks: places of numbers on the horizontal axis; by default, round numbers.

    Returns:
        A `figure` element.

    Example:
        >>> chart = line_chart("Loss", [Series(name="loss", points=[(0, 2.0), (100, 0.5)])], "episodes", "loss")
        >>> "<figcaption>Loss</figcaption>" in chart and "loss: 0.5 at 100" in chart
        True
    """
    xs = [x for one in series for x, _ in one.points]
    low, high = y_range or _extent(series)
    x_ticks = x_ticks or ticks(min(xs), max(xs), 5)
    y_ticks = ticks(low, high, 6)
    x_scale = _scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    y_scale = _scale(low, high, _HEIGHT, _TOP)
    drawn, number = [], 0
    for one in series:
        drawn.append(_curve(one, number, x_scale, lambda y: y_scale(min(max(y, low), high))))
        number += not (one.faint or one.reference)
    named = [one for one in series if not (one.faint or one.reference)]
    ends = "; ".join(f"{one.name}: {one.points[-1][1]:.3g} at {one.points[-1][0]:,.0f}" for one in named)
    grid = _grid(x_scale, y_scale, x_ticks, y_ticks, x_label, y_label)
    return _figure(
        title, f"{y_label} over {x_label}. {ends}", _HEIGHT + 34, grid, *drawn, names=[s.name for s in named]
    )


def bar_chart(
    title: str, rows: Sequence[tuple[str, Sequence[float | None]]], names: Sequence[str], unit: str
) -> Markup:
    """Draw horizontal bars from 0 to 100: one group per row, and in each group one bar per name.

    Args:
        title: above the chart.
        rows: label of each group, and its values in percent in the order of `names`; None draws no bar.
        names: names of the series, at most `SERIES`.
        unit: name of the axis.

    Returns:
        A `figure` element.

    Example:
        >>> chart = bar_chart("Classes", [("wave", [50.0])], ["otam"], "accuracy, %")
        >>> "<title>otam, wave: 50.0 %</title>" in chart
        True
    """
    thick = 9 if len(names) < 3 else 6
    scale = _scale(0, 100, 2, WIDTH - 30)
    y, drawn = 6.0, []
    for label, values in rows:
        for line in textwrap.wrap(label, 54) or [label]:
            y += 12
            drawn.append(element("text", line, x=2, y=f"{y:.0f}", class_="label"))
        y += 4
        for number, value in enumerate(values):
            if value is not None:
                drawn.append(_bar(scale, y, thick, value, number, f"{names[number]}, {label}: {value:.1f} %"))
            y += thick + 1
        y += 5
    lines = [_line(scale(x), 4, scale(x), y, "grid") for x in (0, 25, 50, 75, 100)]
    numbers = [_text(scale(x), y + 13, f"{x:g}", "middle" if x else "start") for x in (0, 25, 50, 75, 100)]
    axis = _text((WIDTH - 30) / 2, y + 28, unit, "middle")
    return _figure(
        title,
        f"{unit}, {len(rows)} bars from the lowest to the highest",
        y + 34,
        *lines,
        *drawn,
        *numbers,
        axis,
        names=names,
        filled=True,
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Choose round numbers in an interval.

    Args:
        low: start of the interval.
        high: end of the interval.
        count: about how many numbers.

    Example:
        >>> ticks(0.13, 0.52, 4)
        [0.2, 0.3, 0.4, 0.5]
    """
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if raw <= factor * power * 1.0001)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _extent(series: Sequence[Series]) -> Point:
    lows, highs = [], []
    for one in series:
        widths = one.half_width or [0.0] * len(one.points)
        lows += [y - width for (_, y), width in zip(one.points, widths, strict=True)]
        highs += [y + width for (_, y), width in zip(one.points, widths, strict=True)]
    low, high = min(lows), max(highs)
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    width = high - low
    return lambda value: (start + end) / 2 if width == 0 else start + (end - start) * (value - low) / width


def _curve(one: Series, number: int, x_scale: Callable, y_scale: Callable) -> Markup:
    places = [(x_scale(x), y_scale(y)) for x, y in one.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    if one.reference:
        x, y = places[-1]
        words = "; ".join(f"{value:.3g} at {at:g}" for at, value in one.points)
        line = element("path", element("title", f"{one.name}: {words}"), d=path, class_="reference")
        return join(line, _text(x, y - 7, one.name, "end"))
    if one.faint:
        return element("path", d=path, class_=f"faint s{number}")
    parts = []
    if one.half_width:
        ends = [(x, y, w) for (x, y), w in zip(one.points, one.half_width, strict=True)]
        around = [(x, y + w) for x, y, w in ends] + [(x, y - w) for x, y, w in reversed(ends)]
        band = "M" + "L".join(f"{x_scale(x):.1f} {y_scale(y):.1f}" for x, y in around) + "Z"
        parts.append(element("path", d=band, class_="band"))
    parts.append(element("path", d=path, class_="line"))
    if one.marked:
        marks = "".join(_MARKS[number % len(_MARKS)](x, y) for x, y in places)
        parts.append(element("path", d=marks, class_="mark"))
    if one.best is not None:
        x, y = places[one.best]
        parts.append(element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=6, class_="ring"))
    return element("g", element("title", one.name), *parts, class_=f"s{number}")


def _grid(
    x_scale: Callable, y_scale: Callable, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str
) -> Markup:
    across = [_line(_LEFT, y_scale(y), WIDTH - _RIGHT, y_scale(y), "grid") for y in y_ticks]
    beside = [_text(_LEFT - 5, y_scale(y) + 4, f"{y:g}", "end") for y in y_ticks]
    below = [_text(x_scale(x), _HEIGHT + 15, _thousands(x), "middle") for x in x_ticks]
    middle = (_TOP + _HEIGHT) / 2
    turned = element(
        "text", y_label, x=0, y=0, text_anchor="middle", transform=f"translate(10 {middle:.0f}) rotate(-90)"
    )
    return join(*across, *beside, *below, _text((_LEFT + WIDTH - _RIGHT) / 2, _HEIGHT + 31, x_label, "middle"), turned)


def _thousands(number: float) -> str:
    return f"{number / 1000:,g}k" if number >= 10_000 else f"{number:,g}"


def _bar(scale: Callable, y: float, thick: int, value: float, number: int, words: str) -> Markup:
    width = max(scale(value) - scale(0), 0.5)
    bar = element(
        "rect", element("title", words), x=f"{scale(0):.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=thick
    )
    shown = _text(scale(value) + 4, y + thick - 0.5, f"{value:.0f}", "start") if thick == 9 else None
    return element("g", bar, shown, class_=f"s{number}")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=kind)


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _figure(
    title: str, description: str, height: float, *drawn: Markup, names: Sequence[str], filled: bool = False
) -> Markup:
    picture = element(
        "svg",
        element("title", title),
        element("desc", description),
        *drawn,
        viewbox=f"0 0 {WIDTH} {height:.0f}",
        role="img",
        aria_label=f"{title}. {description}",
    )
    keys = [element("li", _key(number, filled), name) for number, name in enumerate(names)]
    legend = element("ul", *keys, class_="legend")
    return element("figure", element("figcaption", title), legend, picture)


def _key(number: int, filled: bool) -> Markup:
    """Line and mark of a series, or its colour, for the legend."""
    parts = [
        element("path", d="M0 6L24 6", class_="line"),
        element("path", d=_MARKS[number % len(_MARKS)](12, 6), class_="mark"),
    ]
    shown = [element("rect", x=4, y=1, width=16, height=10)] if filled else parts
    group = element("g", *shown, class_=f"s{number}")
    return element("svg", group, viewbox="0 0 24 12", class_="key", aria_hidden="true")
