"""Which folders are the frames of a video, and which images are its frames."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsar.video import FrameCache, VideoError, probe, read_frames
from fsar.video.kinds import is_frame_folder, is_hidden


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def paint(folder: Path, brightness: int, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((30, 40, 3), brightness, np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0001.jpg", "0002.JPG"], True),
        (["1.png", ".DS_Store", "._1.png", "Thumbs.db", "notes.txt"], True),
        (["1.jpg", "@eaDir/1.jpg"], True),  # a thumbnail that a NAS keeps
        ([], False),
        (["._1.jpg", ".2.jpg"], False),
        (["a.jpg/inside.txt"], False),  # a folder with an image's name
        (["IMG_1.jpg", "IMG_2.MOV"], False),
        (["poster.jpg", "clip1/0001.jpg"], False),
        (["poster.jpg", "person1/a.mts"], False),
    ],
)
def test_folders_of_frames(tmp_path: Path, names: list[str], expected: bool) -> None:
    assert is_frame_folder(touch(tmp_path, *names)) is expected


def test_hidden_names() -> None:
    hidden = [".a.mp4", "._a.mp4", "@eaDir", "__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN"]
    assert all(map(is_hidden, hidden))
    assert not any(map(is_hidden, ["a.mp4", "_a.mp4", "@home", "MACOSX"]))


@pytest.mark.parametrize(
    "flow", [("flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"), ("x_{:05d}.jpg", "y_{:05d}.jpg"), ("flow_{:04d}.png",)]
)
def test_optical_flow_beside_the_pictures_is_left_aside(tmp_path: Path, flow: tuple[str, ...]) -> None:
    paint(tmp_path, 200, *(f"img_{i:05d}.jpg" for i in range(1, 9)))
    for pattern in flow:
        paint(tmp_path, 128, *(pattern.format(i) for i in range(1, 9)))
    assert probe(tmp_path).frames == 8
    frames = read_frames(tmp_path, None)
    assert len(frames) == 8 and (frames > 190).all()


def test_flow_alone_is_a_video_if_it_is_one_sequence(tmp_path: Path) -> None:
    assert probe(paint(tmp_path / "one", 128, "flow_x_1.jpg", "flow_x_2.jpg")).frames == 2
    paint(tmp_path / "two", 128, "flow_x_1.jpg", "flow_y_1.jpg")
    with pytest.raises(VideoError, match=r"two: its images are of 2 kinds by their names \(1 like flow_x_1.jpg, 1 "):
        probe(tmp_path / "two")


def test_two_sequences_are_refused(tmp_path: Path) -> None:
    paint(tmp_path, 200, "img_1.jpg", "img_2.jpg", "img_3.jpg")
    paint(tmp_path, 10, "depth_1.png", "depth_2.png")
    with pytest.raises(VideoError, match=r"2 like depth_\d.png, 3 like img_\d.jpg.*keep one kind per folder"):
        read_frames(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["1.jpg", "2.JPG", "10.png"],
        ["a.jpg", "b.jpg"],
        ["0.jpg", "0.25.jpg", "0.5.jpg", "1.jpg"],  # times
        ["v_run_g01_c01_0001.jpg", "v_run_g01_c01_0002.jpg"],
    ],
)
def test_names_of_one_sequence(tmp_path: Path, names: list[str]) -> None:
    assert probe(paint(tmp_path, 99, *names)).frames == len(names)


def test_what_systems_write_changes_no_content(tmp_path: Path) -> None:
    one, two = (paint(tmp_path / name, 99, "1.jpg", "2.jpg") for name in ("one", "two"))
    touch(two, ".DS_Store", "Thumbs.db", "@eaDir/1.jpg")
    cache = FrameCache(tmp_path / "cache")
    assert cache.content(one) == cache.content(two)
