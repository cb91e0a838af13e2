"""How much of a file is missing, and whether its parts make sense, read off their headers."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from fsar.video.structure import structure
from tests.video.test_reading import encode, greys

FILES = {
    "mp4": ("libx264", {}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "faststart.mov": ("libx264", {"movflags": "faststart"}),
    "avi": ("mpeg4", {}),
    "webm": ("libvpx", {}),
    "wmv": ("wmv2", {}),
}


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    codec, muxer = FILES[request.param]
    path = tmp_path / f"a.{request.param}"
    return encode(path, greys(20), codec, options={"g": "5"}, muxer=muxer)


def test_a_whole_file_lacks_nothing(file: Path) -> None:
    for deep in (False, True):
        found = structure(file, deep)
        assert (found.missing, found.garbled) == (0, False)


def test_what_is_cut_off_is_measured(file: Path) -> None:
    size = file.stat().st_size
    os.truncate(file, size * 3 // 4)
    assert structure(file).missing == pytest.approx(0.25, abs=0.1)


def test_a_fragment_cut_in_its_header_counts_whole(tmp_path: Path) -> None:
    """Four fragments of five frames each: what the last one held is unknown, but not nothing."""
    muxer = {"movflags": "frag_keyframe+empty_moov"}
    path = encode(tmp_path / "a.mp4", greys(20), options={"g": "5"}, muxer=muxer)
    os.truncate(path, path.read_bytes().rfind(b"moof") + 30)
    assert structure(path).missing == pytest.approx(0.25)


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.webm", "libvpx")])
def test_parts_that_make_no_sense_are_noticed(tmp_path: Path, name: str, codec: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3)).astype(np.uint8)
    path = encode(tmp_path / name, noise, codec)
    with av.open(os.fspath(path)) as container:
        coded = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    header = content.index(coded[12]) - 12
    content[header : header + 400] = b"\xff\x07" * 200
    path.write_bytes(content)
    assert structure(path, deep=True).garbled


def test_other_files_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(b"G" + bytes(187))
    assert structure(tmp_path / "a.ts").missing == 0
