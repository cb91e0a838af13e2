"""Timelines of long videos: a chart with a row for each action, and a page with the videos and click-to-seek."""

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from fsar.datasets.segments.segment import Segment, clock
from fsar.names import many
from fsar.report.charts import SERIES, ticks
from fsar.report.markup import Markup, element

WIDTH = 960
_LEFT, _ROW, _BAR = 150, 22, 14
_PLAY = """
document.querySelectorAll("[data-start]").forEach((part) => part.addEventListener("click", () => {
  const film = document.getElementById(part.dataset.film);
  film.currentTime = Number(part.dataset.start);
  film.play();
}));
"""
_OWN = (
    "[data-start] { cursor: pointer } figure.timeline { max-width: none } video { max-width: 100%; max-height: 24rem }"
)


def timeline_chart(segments: Sequence[Segment], duration: float, film: str | None = None) -> Markup:
    """Draw the segments of one video: a row for each action, time from left to right.

    Args:
        segments: of the video.
        duration: of the video, in seconds.
        film: id of the `video` element that a click seeks in; None for a picture alone.

    Returns:
        An `svg` element.

    Example:
        >>> chart = timeline_chart([Segment("a.mp4", 1.0, 2.5, "wave", 0.9)], 10.0)
        >>> "<title>0:01.0 to 0:02.5: wave 90%</title>" in chart
        True
    """
    actions = sorted({each.action for each in segments})
    height = _ROW * max(1, len(actions)) + 24
    scale = (WIDTH - _LEFT - 10) / max(duration, 1e-3)
    drawn = []
    for time in ticks(0.0, duration, 8):
        x = _LEFT + time * scale
        drawn.append(element("line", x1=f"{x:.1f}", y1=0, x2=f"{x:.1f}", y2=height - 20, class_="grid"))
        drawn.append(element("text", clock(time).removesuffix(".0"), x=f"{x:.1f}", y=height - 4, text_anchor="middle"))
    for row, action in enumerate(actions):
        drawn.append(element("text", action, x=0, y=_ROW * row + 15, class_="label"))
        bars = [_bar(each, row, scale, film) for each in segments if each.action == action]
        drawn.append(element("g", *bars, class_=f"s{row % SERIES}"))
    words = f"{many(len(segments), 'segment')} in {clock(duration)}"
    return element("svg", element("desc", words), *drawn, viewbox=f"0 0 {WIDTH} {height}", role="img", aria_label=words)


def _bar(segment: Segment, row: int, scale: float, film: str | None) -> Markup:
    words = f"{clock(segment.start)} to {clock(segment.end)}: {segment.action} {segment.probability:.0%}"
    return element(
        "rect",
        element("title", words),
        x=f"{_LEFT + segment.start * scale:.1f}",
        y=_ROW * row + (_ROW - _BAR) // 2,
        width=f"{max(1.0, (segment.end - segment.start) * scale):.1f}",
        height=_BAR,
        opacity=f"{0.35 + 0.65 * segment.probability:.2f}",
        data_film=film,
        data_start=None if film is None else f"{segment.start:.3f}",
    )


def timeline_picture(segments: Sequence[Segment], duration: float) -> str:
    """Draw a timeline as an SVG file of its own.

    Args:
        segments: of one video.
        duration: of the video, in seconds.
    """
    chart = timeline_chart(segments, duration)
    style = element("style", _style())
    opened = chart.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" ', 1)
    return opened.replace("<desc>", f"{style}<desc>", 1) + "\n"


def timeline_page(segments: Sequence[Segment], seconds: Mapping[str, float], home: Path) -> str:
    """Build a page with every video, its timeline, and a list of its segments; a click plays a segment.

    Args:
        segments: of all videos.
        seconds: path of each video -> its duration.
        home: folder of the page; videos are linked from there, not copied.

    Returns:
        HTML that loads nothing but the videos.
    """
    parts = [_section(i, v, [s for s in segments if s.video == v], seconds[v], home) for i, v in enumerate(seconds)]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", "When does it happen?"),
        element("style", _style()),
    )
    words = f"{many(len(segments), 'segment')} in {many(len(seconds), 'video')}. A click plays a segment."
    header = element("header", element("h1", "When does it happen?"), element("p", words))
    body = element("body", header, element("main", *parts), element("script", Markup(_PLAY)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _section(number: int, video: str, segments: Sequence[Segment], seconds: float, home: Path) -> Markup:
    film = f"film-{number}"
    address = quote(os.path.relpath(video, home).replace(os.sep, "/"))
    rows = [
        element(
            "li",
            element("a", f"{clock(each.start)} to {clock(each.end)}", data_film=film, data_start=f"{each.start:.3f}"),
            f" {each.action} {each.probability:.0%}",
        )
        for each in segments
    ]
    return element(
        "section",
        element("h2", Path(video).name),
        element("video", "", id=film, src=address, controls=True, preload="metadata"),
        element("figure", timeline_chart(segments, seconds, film), class_="timeline"),
        element("ul", *rows) if rows else element("p", "nothing was found"),
    )


def _style() -> Markup:
    return Markup(resources.files("fsar.report").joinpath("style.css").read_text(encoding="utf-8") + _OWN)
