"""Segments from ELAN: an annotation file (`.eaf`) names its video and holds annotations with times on tiers.

The value of an annotation is the class. Its time slots give the times, in milliseconds. An annotation that refers to
another annotation has the times of that one. If several tiers hold annotations, the user names one, since tiers may
hold different things.

The file is XML. A document type declaration is refused, so no entity is ever expanded or fetched.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.parsers import expat

from fsar.datasets.segments.table import Row, Segments
from fsar.names import unknown
from fsar.video.kinds import VIDEO_SUFFIXES
from fsar.video.paths import display


def read_eaf(file: Path, tier: str | None = None) -> Segments:
    """Read an ELAN annotation file.

    Args:
        file: the `.eaf` file.
        tier: its annotations are read; needed if several tiers hold annotations.

    Raises:
        ValueError: not such a file, no video in it, no such tier, or several tiers and no `tier`.
    """
    root = _parse(file)
    shown = display(file)
    video, origin, notes = _video(root, shown)
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iterfind("TIME_ORDER/TIME_SLOT")}
    spans = _spans(root)
    tiers = {name: list(_annotations(element)) for element in root.iterfind("TIER") if (name := element.get("TIER_ID"))}
    chosen = _choose(tiers, tier, shown)
    rows, untimed, empty = [], 0, 0
    for annotation, value in tiers[chosen]:
        start, end = (slots.get(slot) for slot in spans.get(annotation, (None, None)))
        if not value:
            empty += 1
        elif start is None or end is None:
            untimed += 1
        else:
            first, last = ((_milliseconds(time, shown) + origin) / 1000 for time in (start, end))
            rows.append(Row(f"{shown}, annotation {annotation}", video, first, last, value))
    if empty:
        notes.append(f"{shown}: ignored {empty} annotations without a value")
    if untimed:
        notes.append(f"{shown}: ignored {untimed} annotations without times")
    return Segments(rows, notes)


def _parse(file: Path) -> ElementTree.Element:
    shown = display(file)

    def refuse(*_: object) -> None:
        raise ValueError(f"{shown}: a document type declaration, which ELAN never writes; save it with ELAN again")

    try:
        content = file.read_bytes()
        check = expat.ParserCreate()
        check.StartDoctypeDeclHandler = refuse
        check.Parse(content, True)
        root = ElementTree.fromstring(content)
    except OSError as error:
        raise ValueError(f"{shown}: cannot be read ({error.strerror or error})") from error
    except (expat.ExpatError, ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"{shown}: not an ELAN file ({error}); save it with ELAN again") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"{shown}: not an ELAN file: its root is {root.tag}, expected ANNOTATION_DOCUMENT")
    return root


def _video(root: ElementTree.Element, shown: str) -> tuple[str, int, list[str]]:
    """Return the first video of the file, the time in it that annotations count from, and a note on other videos."""
    videos = []
    for media in root.iterfind("HEADER/MEDIA_DESCRIPTOR"):
        url = media.get("RELATIVE_MEDIA_URL") or media.get("MEDIA_URL") or ""
        name = unquote(url)
        if media.get("MIME_TYPE", "").startswith("video/") or Path(name).suffix.lower() in VIDEO_SUFFIXES:
            videos.append((name, _milliseconds(media.get("TIME_ORIGIN", "0"), shown)))
    if not videos:
        raise ValueError(f"{shown}: it names no video; link one in ELAN (Edit > Linked Files)")
    notes = []
    if len(videos) > 1:
        notes.append(f"{shown}: it names {len(videos)} videos; the first, {videos[0][0]}, is taken")
    return *videos[0], notes


def _milliseconds(text: str, shown: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{shown}: {text!r} is no time in milliseconds; save it with ELAN again") from error


def _annotations(tier: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Return id and value of a tier's annotations."""
    for annotation in tier.iterfind("ANNOTATION/*"):
        yield annotation.get("ANNOTATION_ID", ""), (annotation.findtext("ANNOTATION_VALUE") or "").strip()


def _spans(root: ElementTree.Element) -> dict[str, tuple[str | None, str | None]]:
    """Return annotation -> its two time slots."""
    spans: dict[str, tuple[str | None, str | None]] = {}
    refers: dict[str, str] = {}
    for annotation in root.iterfind("TIER/ANNOTATION/*"):
        own = annotation.get("ANNOTATION_ID", "")
        if annotation.tag == "ALIGNABLE_ANNOTATION":
            spans[own] = annotation.get("TIME_SLOT_REF1"), annotation.get("TIME_SLOT_REF2")
        else:
            refers[own] = annotation.get("ANNOTATION_REF", "")
    for own in refers:
        other, seen = own, {own}
        while other in refers and refers[other] not in seen:
            other = refers[other]
            seen.add(other)
        spans[own] = spans.get(other, (None, None))
    return spans


def _choose(tiers: dict[str, list[tuple[str, str]]], tier: str | None, shown: str) -> str:
    filled = [name for name, annotations in tiers.items() if any(value for _, value in annotations)]
    if tier is not None:
        if tier not in tiers:
            raise ValueError(f"{shown}: {unknown(tier, tiers, 'tier')}")
        return tier
    if not filled:
        raise ValueError(f"{shown}: no annotation in it; annotate the video in ELAN first")
    if len(filled) > 1:
        raise ValueError(
            f"{shown}: {len(filled)} tiers hold annotations ({', '.join(filled)}); name the one whose values are the "
            f"classes, as in --data {shown}:tier={filled[0]}"
        )
    return filled[0]
