"""Segments are written in the formats of other programs, and read back from them."""

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fsar.datasets.segments import load_segments
from fsar.datasets.segments.segment import Segment
from fsar.datasets.segments.write import FORMATS, read_found, to_csv, to_eaf, to_srt, to_vtt


@pytest.fixture
def segments(small_video: Path, tmp_path: Path) -> list[Segment]:
    """Three segments of two videos in this folder."""
    shutil.copy(small_video, tmp_path / "other.mp4")
    return [
        Segment("small.mp4", 0.25, 0.75, "wave, slowly", 0.75),
        Segment("small.mp4", 1.0, 1.5, "<clap>", 0.5),
        Segment("other.mp4", 0.5, 2.0, "wave, slowly", 1.0),
    ]


@pytest.mark.parametrize("form", ["csv", "boris", "label-studio", "eaf"])
def test_what_is_written_is_read_back(form: str, segments: list[Segment], tmp_path: Path) -> None:
    some = segments[:2] if form == "eaf" else segments
    suffix, write = FORMATS[form]
    file = tmp_path / f"found{suffix}"
    file.write_text(write(some))
    read = load_segments(file)
    seen = {(v.path.name, v.label, round(v.start or 0, 2), round(v.end or 0, 2)) for v in read.videos}
    assert seen == {(each.video, each.action, each.start, each.end) for each in some}


@pytest.mark.parametrize("form", ["csv", "json"])
def test_probabilities_are_read_back(form: str, segments: list[Segment], tmp_path: Path) -> None:
    suffix, write = FORMATS[form]
    (tmp_path / f"found{suffix}").write_text(write(segments))
    assert set(read_found(tmp_path / f"found{suffix}")) == set(segments)


def test_no_segment_is_a_valid_file_too(small_video: Path) -> None:
    assert to_csv([]) == "file,start,end,label,probability\n" and to_vtt([]).startswith("WEBVTT\n")
    assert to_srt([]) == ""
    root = ElementTree.fromstring(to_eaf([], str(small_video)))
    assert root.find("TIER") is not None and root.find("TIER/ANNOTATION") is None


def test_subtitles_hold_every_segment_in_time(segments: list[Segment]) -> None:
    times = re.findall(r"(\S+) --> (\S+)", to_vtt(segments[:2]))
    assert times == [("00:00:00.250", "00:00:00.750"), ("00:00:01.000", "00:00:01.500")]
    assert to_srt([Segment("a.mp4", 3725.0, 3726.5, "wave")]).splitlines()[1] == "01:02:05,000 --> 01:02:06,500"


def test_a_strange_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"video": "a.mp4"}]')
    with pytest.raises(ValueError, match="not segments that"):
        read_found(tmp_path / "a.json")
    (tmp_path / "a.csv").write_text("file,start,end,label,probability\na.mp4,1,2,wave,high\n")
    with pytest.raises(ValueError, match="a probability is no number"):
        read_found(tmp_path / "a.csv")
