"""Which files and folders below a class are videos, and that ignored files are named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsar import cli
from fsar.datasets import load_folder
from fsar.datasets.folder import is_video
from fsar.recognizer.sources import videos_below
from fsar.video.paths import VideoError
from fsar.video.reading import read_frames
from tests.datasets.test_datasets import ids, touch
from tests.video.test_reading import encode, greys

CAMERAS = ("MTS", "m2ts", "VOB", "3g2", "mxf", "MOD", "qt")
OTHERS = ("ogv", "asf", "y4m", "f4v", "apng", "ivf", "h264", "webp", "divx", "rmvb")


@pytest.mark.parametrize("suffix", CAMERAS + OTHERS)
def test_files_of_every_suffix_of_video_are_read(tmp_path: Path, suffix: str) -> None:
    assert ids(load_folder(touch(tmp_path, f"jump/a.{suffix}"))) == ["jump/a"]


def picture(path: Path) -> None:
    Image.new("RGB", (64, 48)).save(path, "webp" if path.suffix == ".webp" else "jpeg")


def moving_webp(path: Path) -> None:
    frames = [Image.fromarray(frame) for frame in greys(3)]
    frames[0].save(path, "webp", save_all=True, append_images=frames[1:])


def film(path: Path) -> None:
    encode(path.with_suffix(".mp4"), greys(3)).rename(path)


def sound(path: Path) -> None:
    path.write_bytes(b"RIFF" + bytes([36, 0, 0, 0]) + b"WAVEfmt " + bytes(28))


CONTENTS: list[tuple[str, Callable[[Path], object], bool]] = [
    ("film", film, True),  # no suffix
    ("clip.001", film, True),
    ("photo", picture, False),
    ("photo.webp", picture, False),
    ("moving.webp", moving_webp, True),
    ("sound", sound, False),
    ("list", lambda path: path.write_text("ffconcat version 1.0\nfile a.mp4\n"), False),
    ("screen", lambda path: path.write_text("\x1b[31mred\n" * 99), False),
    ("empty", lambda path: path.touch(), False),
    ("film.part", film, False),  # half downloaded
    ("film.jpg", film, False),
]


@pytest.mark.parametrize(("name", "make", "expected"), CONTENTS, ids=[name for name, _, _ in CONTENTS])
def test_the_content_decides_if_the_suffix_does_not(
    tmp_path: Path, name: str, make: Callable[[Path], object], expected: bool
) -> None:
    make(tmp_path / name)
    assert is_video(tmp_path / name) is expected


def test_what_is_ignored_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "wave/a.mp4", "wave/poster.jpg", "wave/notes.txt", "wave/._a.mp4", "wave/@eaDir/a.mp4/x.jpg")
    touch(tmp_path, "jump/person1/1.mp4", "jump/person1/2.mp4", "jump/person2/deep/3.mp4", "__MACOSX/wave/a.mp4")
    touch(tmp_path, "jump/bare/readme.md", "jump/frames/1/1.jpg", "wave/.DS_Store", "loose.mkv", "readme.txt")
    (tmp_path / "walk").mkdir()
    dataset = load_folder(tmp_path)
    assert ids(dataset) == ["wave/a"]
    assert dataset.notes == (
        "ignored 2 files that are no videos: wave/notes.txt, wave/poster.jpg",
        "ignored 3 hidden files or folders: __MACOSX, wave/._a.mp4, wave/@eaDir",
        "ignored 3 folders whose videos lie too deep: jump/frames (1 deeper), jump/person1 (2 deeper), "
        "jump/person2 (1 deeper); move them up, to CLASS/VIDEO",
        "ignored 1 folder without videos or frames: jump/bare",
        "ignored 1 video outside of the class folders: loose.mkv; move it into the folder of its class",
        "no video of 2 classes: jump, walk",
    )


def test_folders_of_a_class_are_groups_if_asked(tmp_path: Path) -> None:
    touch(tmp_path, "wave/a.mp4", "wave/ann/a.mp4", "clap/ann/a.mp4", "clap/ben/deep/a.mp4", "clap/frames/1.jpg")
    dataset = load_folder(tmp_path, groups=True)
    assert {video.id: video.group for video in dataset.videos} == {
        "clap/ann/a": "ann",
        "clap/frames": None,
        "wave/a": None,
        "wave/ann/a": "ann",
    }
    assert "ignored 1 folder whose videos lie too deep: clap/ben/deep (1 deeper)" in dataset.notes[0]
    assert dataset.notes[1] == "took sub-folders as groups (persons or recordings): ann, ben"


def test_links_do_not_lead_round_in_circles(tmp_path: Path) -> None:
    root = tmp_path / "all" / "links"
    touch(root, "wave/zoe/a.mp4")
    (root / "loop").symlink_to("..")
    (root / "clap").symlink_to("/nowhere")
    (root / "wave" / "zoe" / "up").symlink_to(root)
    (root / "wave" / "self").symlink_to("self")
    dataset = load_folder(root, groups=True)
    assert ids(dataset) == ["wave/zoe/a"]
    assert dataset.notes[:2] == (
        "ignored 2 links to folders that were entered already: loop, wave/zoe/up",
        "ignored 2 links to what is missing: clap, wave/self; mend or remove them",
    )
    (root / "gone.mp4").symlink_to("/nowhere.mp4")
    (root / "self.mp4").symlink_to("self.mp4")
    (root / "more").symlink_to(root / "wave")
    videos, notes = videos_below(tmp_path)
    assert [video.name for video in videos] == ["gone.mp4", "a.mp4", "self.mp4"]
    assert "ignored 3 links to folders that were entered already: " in notes[0]
    with pytest.raises(VideoError, match=r"gone.mp4: a link to /nowhere.mp4, which is missing; link to the file"):
        read_frames(root / "gone.mp4")
    with pytest.raises(VideoError, match=r"self.mp4: a link that leads to itself"):
        read_frames(root / "self.mp4")


def test_nothing_is_said_of_a_folder_that_is_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "wave/a.mp4", "wave/b/1.jpg", "wave/b/2.jpg", ".DS_Store", "wave/Thumbs.db", "labels.csv.bak")
    assert load_folder(tmp_path).notes == ()


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    touch(tmp_path, "wave/a.mp4", *(f"wave/{i}.txt" for i in range(9)))
    assert load_folder(tmp_path).notes == (
        "ignored 9 files that are no videos: wave/0.txt, wave/1.txt, wave/2.txt, wave/3.txt, wave/4.txt, ...",
    )


def test_a_folder_without_videos_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "train/wave/a.mp4", "train/clap/b.mp4")
    with pytest.raises(
        ValueError, match=r"no videos found.*whose videos lie too deep: train/clap \(1 deeper\), train/w"
    ):
        load_folder(tmp_path)


@pytest.mark.parametrize("extra", ["poster.jpg", "@eaDir/thumb.jpg", "__MACOSX/._clip.jpg", "._0.jpg"])
def test_a_picture_beside_clips_does_not_make_their_folder_a_video(tmp_path: Path, extra: str) -> None:
    touch(tmp_path, "wave/1.mp4", "wave/2.mp4", f"wave/{extra}")
    assert not is_video(tmp_path / "wave")
    assert ids(load_folder(tmp_path)) == ["wave/1", "wave/2"]


def test_recognize_tells_what_it_passes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name in ("wave/1.mp4", "wave/2.mp4", "clap/1.mp4", "clap/2.mp4", "new/a.mp4", "new/b.mp4"):
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        encode(tmp_path / "all" / name, rng.integers(0, 255, (3, 48, 64, 3), np.uint8))
    (tmp_path / "all/new").rename(tmp_path / "new")
    touch(tmp_path, "all/walk/deeper/most/1.mp4", "new/IMG_0001.jpg")
    (tmp_path / "new/more").mkdir()
    (tmp_path / "new/b.mp4").rename(tmp_path / "new/more/c.mp4")
    encode(tmp_path / "new/b.mp4", rng.integers(0, 255, (3, 48, 64, 3), np.uint8))
    words = ["recognize", "--backbone", "tiny", "--examples", str(tmp_path / "all"), str(tmp_path / "new")]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert "fsar: ignored 1 folder whose videos lie too deep: walk/deeper/most (1 deeper)" in said.err
    assert "fsar: no video of 1 class: walk" in said.err
    assert "fsar: ignored 1 file that is no video: IMG_0001.jpg" in said.err
    assert "more/c.mp4" in said.out
