"""ELAN annotation files: tiers, times, the video, and XML that could do harm."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from fsar.datasets import load_data, load_segments

Annotation = tuple[str, int | None, int | None]


def aligned(number: int, value: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="s{number}" '
        f'TIME_SLOT_REF2="e{number}"><ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>'
    )


def referring(number: int, to: str, value: str) -> str:
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a{number}" ANNOTATION_REF="{to}"><ANNOTATION_VALUE>{value}'
        f"</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


LONG = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/me/long.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./long.mp4"/>'


def eaf(
    file: Path,
    tiers: dict[str, list[Annotation]],
    media: str = LONG,
    more: str = "",
    before: str = "",
) -> Path:
    """Write an annotation file as ELAN does."""
    slots, elements, number = [], [], 0
    for name, annotations in tiers.items():
        inner = []
        for value, start, end in annotations:
            number += 1
            for kind, time in (("s", start), ("e", end)):
                at = "" if time is None else f' TIME_VALUE="{time}"'
                slots.append(f'<TIME_SLOT TIME_SLOT_ID="{kind}{number}"{at}/>')
            inner.append(aligned(number, value))
        elements.append(f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID={quoteattr(name)}>{"".join(inner)}</TIER>')
    file.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n{before}<ANNOTATION_DOCUMENT AUTHOR="" FORMAT="3.0" VERSION="3.0">'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{media}<PROPERTY NAME="lastUsedAnnotationId">9</PROPERTY>'
        f"</HEADER><TIME_ORDER>{''.join(slots)}</TIME_ORDER>{''.join(elements)}{more}</ANNOTATION_DOCUMENT>",
        encoding="utf-8",
    )
    return file


WAVES: dict[str, list[Annotation]] = {"Gesture": [("wave", 500, 1250), (" clap ", 1250, 2000)]}


def test_annotations_are_segments(films: Path) -> None:
    dataset = load_data(eaf(films / "talk.eaf", WAVES | {"notes": []}))
    assert [(video.id, *video.span) for video in dataset.videos] == [
        ("wave/long@0.5-1.25", 0.5, 1.25),
        ("clap/long@1.25-2", 1.25, 2.0),
    ]
    assert dataset.name == "talk" and dataset.videos[0].path == films / "long.mp4" and dataset.notes == ()


def test_of_several_tiers_one_is_named(films: Path) -> None:
    file = eaf(films / "talk.eaf", WAVES | {"Speech": [("hello", 0, 900)], "empty": []})
    with pytest.raises(ValueError, match=r"2 tiers hold annotations \(Gesture, Speech\); name .*talk.eaf:tier=Gesture"):
        load_data(file)
    assert [video.label for video in load_data(f"{file}:tier=Speech").videos] == ["hello"]
    with pytest.raises(ValueError, match="talk.eaf: unknown tier 'Gestrue'; did you mean 'Gesture'"):
        load_segments(file, tier="Gestrue")
    with pytest.raises(ValueError, match="no segments"):
        load_segments(file, tier="empty")


def test_annotations_that_refer_to_others_have_their_times(films: Path) -> None:
    names = referring(7, "a1", "greet") + referring(8, "a7", "bid") + referring(9, "a9", "x")
    file = eaf(films / "talk.eaf", WAVES, more=f'<TIER TIER_ID="names">{names}</TIER>')
    dataset = load_segments(file, tier="names")
    assert [video.id for video in dataset.videos] == ["greet/long@0.5-1.25", "bid/long@0.5-1.25"]
    assert dataset.notes == (f"{file}: ignored 1 annotations without times",)


def test_what_is_ignored_is_named(films: Path) -> None:
    file = eaf(
        films / "talk.eaf", {"Gesture": [("wave", 0, 500), ("", 500, 600), (" ", 600, 700), ("clap", 700, None)]}
    )
    dataset = load_segments(file)
    assert [video.label for video in dataset.videos] == ["wave"]
    assert dataset.notes == (
        f"{file}: ignored 2 annotations without a value",
        f"{file}: ignored 1 annotations without times",
    )


def test_the_video_of_an_annotation_file(films: Path) -> None:
    sound = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/long.wav" MIME_TYPE="audio/x-wav" RELATIVE_MEDIA_URL="./long.wav"/>'
    first = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/at24.mp4" MIME_TYPE="unknown" RELATIVE_MEDIA_URL=""/>'
    late = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/long.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="250"/>'
    tiers: dict[str, list[Annotation]] = {"Gesture": [("wave", 0, 500)]}
    dataset = load_segments(eaf(films / "talk.eaf", tiers, sound + first + late))
    assert [video.id for video in dataset.videos] == ["wave/sub/at24@0-0.5"]
    assert dataset.notes == (f"{films / 'talk.eaf'}: it names 2 videos; the first, file:///x/at24.mp4, is taken",)
    assert load_segments(eaf(films / "talk.eaf", tiers, late)).videos[0].span == (0.25, 0.75)
    (films / "ein Tag.mp4").symlink_to(films / "long.mp4")
    spaced = '<MEDIA_DESCRIPTOR MEDIA_URL="" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./ein%20Tag.mp4"/>'
    assert load_segments(eaf(films / "talk.eaf", tiers, spaced)).videos[0].path.name == "ein Tag.mp4"
    for media in ("", sound):
        with pytest.raises(ValueError, match="talk.eaf: it names no video; link one in ELAN"):
            load_segments(eaf(films / "talk.eaf", tiers, media))


def test_a_folder_of_annotation_files_is_one_dataset(films: Path) -> None:
    eaf(films / "one.eaf", WAVES)
    at24 = '<MEDIA_DESCRIPTOR MEDIA_URL="at24.mp4" MIME_TYPE="video/mp4"/>'
    eaf(films / "two.EAF", {"Gesture": [("wave", 0, 500)]}, at24)
    (films / "._one.eaf").write_text("Mac")
    dataset = load_data(films)
    assert [video.id for video in dataset.videos] == ["wave/long@0.5-1.25", "clap/long@1.25-2", "wave/sub/at24@0-0.5"]
    assert dataset.notes == (f"{films}: read as segments: one.eaf, two.EAF",)
    assert len(load_data(f"{films}:tier=Gesture").videos) == 3


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("before", [BOMB, OUTSIDE, '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">'])
def test_document_types_are_refused_before_anything_is_expanded(films: Path, before: str) -> None:
    file = eaf(films / "talk.eaf", {"Gesture": [("&a;", 0, 500)]}, before=before)
    with pytest.raises(ValueError, match="talk.eaf: a document type declaration, which ELAN never writes"):
        load_segments(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ELAN file .no element found"),
        (b"<a><b></a>", "not an ELAN file .mismatched tag"),
        (b"<html/>", "its root is html, expected ANNOTATION_DOCUMENT"),
        (b"<ANNOTATION_DOCUMENT/>", "it names no video"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "not an ELAN file"),
        (b"<a>&undefined;</a>", "not an ELAN file .undefined entity"),
        (b"\xff\xfe\x00", "not an ELAN file"),
    ],
)
def test_files_that_elan_did_not_write(films: Path, content: bytes, message: str) -> None:
    (films / "talk.eaf").write_bytes(content)
    with pytest.raises(ValueError, match=f"talk.eaf: .*{message}"):
        load_segments(films / "talk.eaf")


def test_times_that_are_none(films: Path) -> None:
    file = eaf(films / "talk.eaf", WAVES)
    file.write_text(file.read_text().replace('"500"', '"soon"'))
    with pytest.raises(ValueError, match="'soon' is no time in milliseconds; save it with ELAN again"):
        load_segments(file)
    with pytest.raises(ValueError, match="talk.eaf, annotation a1: the segment from 1 to 0.5 s; expected 0 <= start"):
        load_segments(eaf(file, {"Gesture": [("wave", 1000, 500)]}))
    with pytest.raises(ValueError, match="annotation a1: the segment from 1 to 9 s lies beyond the end of .*long.mp4"):
        load_segments(eaf(file, {"Gesture": [("wave", 1000, 9000)]}))
