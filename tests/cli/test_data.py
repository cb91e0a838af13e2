"""`fsar data`: what is missing or broken is named, and small copies hold the same frames."""

import json
import os
import shutil
import signal
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsar import cli
from fsar.datasets import check, load_benchmark
from fsar.datasets import prepare as preparing
from fsar.datasets.benchmarks import Benchmark, benchmark
from fsar.datasets.check import Report, check_benchmark
from fsar.datasets.prepare import prepare
from fsar.video.paths import VideoError
from fsar.video.reading import probe, read_frames
from fsar.video.sampling import frame_indices
from tests.processes import forked, limited, signal_at
from tests.video.test_reading import encode, greys, index_of

HMDB = "hmdb51@arn"
TRAIN, VAL, TEST = "brush_hair", "cartwheel", "fencing"  # a class of each split of HMDB51


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))


def make(root: Path, *names: str, frames: int = 10) -> Path:
    """Videos that differ from each other, by name below `root`."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        encode(root / name, textured(frames, 96, 160 + 2 * i) if frames > 20 else np.roll(greys(frames), i, 0))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A part of HMDB51's folders: eight videos, of which one is broken and one short."""
    root = make(tmp_path / "HMDB51", *(f"{folder}/{n}.avi" for folder in (TRAIN, VAL, TEST) for n in "ab"))
    make(root, f"{TEST}/short.avi", frames=5)
    (root / TEST / "broken.avi").write_text("no video")
    return root


def whole_benchmark(counts: Mapping[str, int]) -> Benchmark:
    """A benchmark that is all there with so many videos in classes of HMDB51."""
    known = benchmark(HMDB)
    classes = {split: tuple(label for label in labels if label in counts) for split, labels in known.classes.items()}
    return replace(known, classes=classes, videos=counts)


# --------------------------------------------------------------------------- check


def test_what_is_missing_broken_and_short_is_told(root: Path) -> None:
    report = check_benchmark(HMDB, root, progress=False)
    test = report.splits["test"]
    assert (test.published, test.found, test.readable, test.short) == (1292, 4, 3, 1)
    assert [report.splits[split].readable for split in ("train", "val")] == [2, 2]
    assert report.broken == {
        "fencing/broken": f"{root / TEST / 'broken.avi'}: invalid data found when processing "
        f"input; the file is broken or not a video"
    }
    assert report.short == {"fencing/short": 5}
    assert report.classes["test"]["fencing"] == 3 and report.differing["fencing"] == (3, benchmark(HMDB).videos[TEST])
    assert report.unnamed == 6766 - 8 and report.missing == ()
    said = " ".join(report.verdict())
    assert "3 of 1,292 videos (0.2 %) can be read: episodes are drawn from fewer videos" in said
    assert "4,280 videos (0.0 %) can be read: a model trained here sees fewer" in said
    assert "classes with fewer than 6 videos, which cannot be in 5-shot episodes (10): " in said
    assert "complete" not in said and not report.complete


def test_copies_are_named(root: Path) -> None:
    shutil.copy(root / TEST / "a.avi", root / TEST / "z.avi")
    shutil.copy(root / TEST / "b.avi", root / TRAIN / "of_another_class.avi")
    report = check_benchmark(HMDB, root, progress=False)
    a, b = root / TEST / "a.avi", root / TEST / "b.avi"
    assert report.copies == {"fencing/z": f"{root / TEST / 'z.avi'} has the content of {a}"}
    other = root / TRAIN / "of_another_class.avi"
    assert report.shared == (f"{other} (brush hair, train), {b} (fencing, test)",)
    said = " ".join(report.verdict())
    assert "copies of videos in the same class, which count once here (1)" in said
    assert "the same content in several classes or splits (1)" in said
    assert f"the same content in several classes (1):\n  {other}" in report.text()


def test_shorter_means_fewer_than_the_frames_taken(root: Path) -> None:
    assert check_benchmark(HMDB, root, frames=5, progress=False).short == {}
    assert len(check_benchmark(HMDB, root, frames=11, progress=False).short) == 7


def test_a_complete_one_is_comparable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / TEST / "broken.avi").unlink()
    monkeypatch.setattr(check, "benchmark", lambda name: whole_benchmark({"brush hair": 2, "cartwheel": 2, TEST: 3}))
    monkeypatch.setattr(Benchmark, "_check_class", lambda *_: None)  # it knows the published names
    report = check_benchmark(HMDB, root, progress=False)
    assert report.complete and report.differing == {} and report.unnamed == 0
    assert report.verdict()[0] == f"complete: accuracy is comparable with other numbers on {HMDB}"
    assert "reader leave out (1): fencing/short" in report.verdict()[-1]


def test_missing_videos_of_a_list_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "videos", "1.mp4", "3.mp4")
    monkeypatch.setattr(
        Benchmark, "stored", lambda self, split: [(TEST, str(n)) for n in range(1, 15)] if split == "test" else []
    )
    report = check_benchmark(HMDB, root, progress=False)
    assert report.missing == tuple(f"fencing/{n}" for n in sorted(map(str, range(1, 15))) if n not in ("1", "3"))
    assert "missing (12):\n  fencing/10\n" in report.text() and "... and 2 more (--json FILE has all)" in report.text()


def decoded(monkeypatch: pytest.MonkeyPatch, die_after: int = 99) -> list[str]:
    """Names of the videos that a check decodes from now on; it dies after so many."""
    names: list[str] = []

    def read(path: Path, *rest: int, **span: float) -> np.ndarray:
        if len(names) == die_after:
            raise KeyboardInterrupt
        names.append(path.stem)
        return read_frames(path, *rest, **span)

    monkeypatch.setattr(check, "read_frames", read)
    return names


def test_the_second_check_only_looks_for_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = check_benchmark(HMDB, root, progress=False)
    names = decoded(monkeypatch)
    assert check_benchmark(HMDB, root, progress=False) == first and names == ["broken"]  # a broken one is tried again
    names.clear()
    encode(root / TEST / "short.avi", greys(12))
    encode(root / TEST / "broken.avi", greys(12))
    second = check_benchmark(HMDB, root, progress=False)
    assert sorted(names) == ["broken", "short"] and second.short == {} == second.broken
    check_benchmark(HMDB, root, frames=4, progress=False)
    assert len(names) == 2 + 8  # other frames are other work


def test_a_frame_changed_in_a_folder_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "HMDB51" / TEST / "frames"
    folder.mkdir(parents=True)
    for i, frame in enumerate(greys(9)):
        Image.fromarray(frame).save(folder / f"{i}.png")
    assert check_benchmark(HMDB, tmp_path / "HMDB51", progress=False).broken == {}
    (folder / "5.png").write_text("no picture")
    assert list(check_benchmark(HMDB, tmp_path / "HMDB51", progress=False).broken) == ["fencing/frames"]


def test_a_stopped_check_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = decoded(monkeypatch, die_after=3)
    with pytest.raises(KeyboardInterrupt):
        check_benchmark(HMDB, root, workers=1, progress=False)
    memo = tmp_path / "cache" / "checked.txt"
    assert len(memo.read_text().splitlines()) == 3
    os.truncate(memo, memo.stat().st_size - 2)  # a kill may leave half a line
    rest = decoded(monkeypatch)
    assert check_benchmark(HMDB, root, progress=False).splits["test"].readable == 3
    assert sorted([*names[:2], *rest]) == ["a", "a", "a", "b", "b", "b", "broken", "short"]
    assert check_benchmark(HMDB, root, progress=False).splits["test"].readable == 3


def test_check_on_the_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    assert cli.main(["data", "check", "hmdb51", "--root", str(root), "--json", str(file), "--workers", "2"]) == 1
    said = capsys.readouterr().out
    assert "| test | 10 | 1,292 | 4 | 3 | 1 |" in said and "broken.avi: invalid data" in said
    written = json.loads(file.read_text())
    assert written["complete"] is False and written["verdict"] == said.splitlines()[-len(written["verdict"]) :]
    assert len(written["differing"]) == 51 and written["splits"]["test"]["readable"] == 3


def test_exit_status_of_a_complete_check(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(HMDB, "", 8, {}, {}, {}, (), 0, {}, {})
    monkeypatch.setattr(check, "check_benchmark", lambda *_: report)
    assert cli.main(["data", "check", HMDB, "--root", str(root)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("chek",), "unknown verb of `fsar data` 'chek'; did you mean 'check'"),
        (("check", HMDB, "--rot", "x"), "unknown option of `fsar data check` '--rot'; did you mean '--root'"),
        (("check", "hmdb52", "--root", "."), "did you mean 'hmdb51@arn'"),
        (("check", HMDB, "--root", "nowhere"), "nowhere: no such folder"),
        (("check", HMDB, "--root", ".", "--frames", "0"), "frames is 0; expected at least 1"),
        (("prepare", HMDB, "--root", ".", "--out", "out"), "lie within each other"),
        (("prepare", HMDB, "--root", "empty", "--out", "out"), "no video of hmdb51@arn is below empty"),
        (("prepare", HMDB, "--root", ".", "--out", "out", "--workers", "0"), "workers is 0; expected at least 1"),
    ],
)
def test_mistakes_are_named(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert cli.main(["data", *words]) == 2
    assert message in capsys.readouterr().err


# --------------------------------------------------------------------------- prepare


def prepared(source: Path, out: Path, **options: str) -> Path:
    """Prepare one video as if it were all there is of a class."""
    folder = out.with_name(f"{out.name}-root") / TEST
    folder.mkdir(parents=True)
    (folder / source.name).symlink_to(source)
    done = prepare(HMDB, folder.parent, out, progress=False, **options)
    assert (done.written, done.present, done.left_out) == (1, 0, {})
    return next(path for path in (out / TEST).iterdir())


def textured(count: int, height: int, width: int) -> np.ndarray:
    """Smooth pictures that move."""
    y, x, t = np.meshgrid(np.arange(height), np.arange(width), np.arange(count), indexing="ij")
    waves = [127 + 100 * np.sin(x / 23 + y / 31 + k + t / 5) for k in range(3)]
    return np.stack(waves, -1).transpose(2, 0, 1, 3).astype(np.uint8)


@pytest.mark.parametrize("form", ["mp4", "jpg"])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.avi", "mpeg4", "yuv420p"), ("a.webm", "libvpx-vp9", "yuv420p"), ("a.mp4", "libx264", "yuvj420p")],
)
def test_the_copy_has_the_frames_of_its_source(tmp_path: Path, name: str, codec: str, pix_fmt: str, form: str) -> None:
    source = encode(tmp_path / name, textured(21, 96, 160), codec, pix_fmt, fps=25, options={"b": "4M"})
    target = prepared(source, tmp_path / "out", form=form)
    assert probe(target).frames == len(read_frames(source, None)) == 21
    assert form == "jpg" or probe(target).fps == pytest.approx(25)
    before, after = (read_frames(path).astype(float) for path in (source, target))
    assert np.abs(before - after).mean() < 2


def test_large_frames_become_small_and_small_ones_stay(tmp_path: Path) -> None:
    large = encode(tmp_path / "large.mkv", textured(9, 300, 533), "ffv1", "yuv444p")
    info = probe(prepared(large, tmp_path / "one"))
    assert (info.width, info.height, info.frames) == (454, 256, 9)
    odd = encode(tmp_path / "odd.mkv", textured(9, 95, 133), "ffv1", "yuv444p")
    info = probe(prepared(odd, tmp_path / "two"))
    assert (info.width, info.height) == (132, 94)


def test_a_phone_video_is_written_upright(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16] = 255
    path = encode(tmp_path / "phone.mp4", np.stack([picture] * 9))
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *(value << 16 for value in (0, 1, 0, -1, 0, 0)), 0, 0, 1 << 30)
    path.write_bytes(content)
    target = prepared(path, tmp_path / "out")
    assert (probe(target).width, probe(target).height, probe(target).rotation) == (48, 64, 0)
    assert np.abs(read_frames(path, 3).astype(int) - read_frames(target, 3)).mean() < 3


def test_frames_that_give_no_picture_are_not_counted(tmp_path: Path) -> None:
    source = encode(tmp_path / "late.mkv", greys(20), options={"g": "10", "bf": "0"}, drop=4)
    pictures = read_frames(source, None)
    target = prepared(source, tmp_path / "out")
    assert probe(target).frames == len(pictures) == probe(source).frames == 10
    assert index_of(read_frames(target)) == [index_of(pictures)[i] for i in frame_indices(len(pictures))]


def test_uneven_times_give_an_even_rate(tmp_path: Path) -> None:
    source = encode(tmp_path / "uneven.mkv", greys(20), times=[40 * i + 900 * (i > 9) for i in range(20)])
    target = prepared(source, tmp_path / "out")
    assert index_of(read_frames(target, None)) == list(range(20))


@pytest.mark.parametrize("form", ["mp4", "jpg"])
def test_a_folder_of_frames_is_a_video_too(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "some.frames"
    folder.mkdir()
    for i, frame in enumerate(greys(12)):
        Image.fromarray(frame).save(folder / f"{i}.png")
    target = prepared(folder, tmp_path / "out", form=form)
    assert target.name == ("some.frames.mp4" if form == "mp4" else "some.frames")
    assert index_of(read_frames(target, None)) == list(range(12))
    assert form == "mp4" or [p.name for p in sorted(target.iterdir())][::11] == ["000001.jpg", "000012.jpg"]


def files(out: Path) -> dict[str, bytes]:
    """All that lies below a folder, but for what a kill left half written."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".writing-" not in str(path)
    }


@pytest.mark.parametrize("form", ["mp4", "jpg"])
def test_a_broken_video_stops_it_or_is_left_out(root: Path, tmp_path: Path, form: str) -> None:
    with pytest.raises(VideoError, match=r"broken.avi: invalid data"):
        prepare(HMDB, root, tmp_path / "out", form, progress=False)
    done = prepare(HMDB, root, tmp_path / "out", form, "skip", progress=False)
    assert done.written + done.present == 7 and list(done.left_out) == ["fencing/broken"]
    assert done.bytes_before == sum(p.stat().st_size for p in root.rglob("*") if p.suffix and p.stem != "broken")
    assert done.bytes_after == sum(map(len, files(tmp_path / "out").values())) - len(
        files(tmp_path / "out")["prepared.json"]
    )
    dataset = load_benchmark(HMDB, tmp_path / "out", skip_missing=True)
    assert {v.id for v in dataset.videos} == {
        v.id for v in load_benchmark(HMDB, root, skip_missing=True).videos if v.id != "fencing/broken"
    }
    assert not list((tmp_path / "out").rglob(".writing-*"))


@pytest.mark.parametrize("form", ["mp4", "jpg"])
def test_the_number_of_workers_does_not_matter(root: Path, tmp_path: Path, form: str) -> None:
    for workers in (1, 2):
        prepare(HMDB, root, tmp_path / f"out{workers}", form, "skip", workers, progress=False)
    assert files(tmp_path / "out1") == files(tmp_path / "out2") and len(files(tmp_path / "out1")) > 7


@pytest.mark.parametrize("form", ["mp4", "jpg"])
def test_what_lies_there_whole_is_left_alone(
    root: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(HMDB, root, out, form, "skip", progress=False)
    whole = files(out)
    damaged = out / TEST / ("a.mp4" if form == "mp4" else "a/000001.jpg")
    os.truncate(damaged, damaged.stat().st_size // 2)
    shutil.rmtree(out / "cartwheel")
    done = prepare(HMDB, root, out, form, "skip", progress=False)
    assert (done.written, done.present) == (3, 4)
    assert files(out) == whole
    monkeypatch.setattr(preparing, "stream_frames", None)  # nothing is decoded a third time
    assert prepare(HMDB, root, out, form, "skip", progress=False).present == 7


def test_forms_do_not_mix(root: Path, tmp_path: Path) -> None:
    prepare(HMDB, root, tmp_path / "out", "mp4", "skip", progress=False)
    with pytest.raises(ValueError, match=r"holds videos prepared as .*mp4.* give another output folder"):
        prepare(HMDB, root, tmp_path / "out", "jpg", "skip", progress=False)


@pytest.mark.parametrize("form", ["mp4", "jpg"])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, form: str) -> None:
    root, out = make(tmp_path / "HMDB51", *(f"{TEST}/{n:02d}.avi" for n in range(8)), frames=40), tmp_path / "out"
    words = ["data", "prepare", HMDB, "--root", root, "--out", out, "--workers", "1"]
    words += ["--frames-as", "jpg"] if form == "jpg" else []
    assert forked(*words, before=signal_at("os.rename", f"out/{TEST}/", 3)).returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in out.glob(f"{TEST}/[!.]*")}
    assert len(before) == 2
    done = prepare(HMDB, root, out, form, progress=False)
    assert (done.present, done.written) == (len(before), 8 - len(before))
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    prepare(HMDB, root, tmp_path / "at once", form, progress=False)
    assert files(out) == files(tmp_path / "at once")
    assert len(load_benchmark(HMDB, out, skip_missing=True).videos) == 8


@pytest.mark.parametrize("form", ["mp4", "jpg"])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(root: Path, tmp_path: Path, form: str) -> None:
    words = ["data", "prepare", HMDB, "--root", root, "--out", tmp_path / "out", "--on-error", "skip"]
    words += ["--frames-as", "jpg"] if form == "jpg" else []
    run = forked(*words, before=limited(500))
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "could not write" in run.stderr and "make room" in run.stderr
    assert list(files(tmp_path / "out")) == ["prepared.json"]
    assert not list((tmp_path / "out").rglob(".writing-*"))


def test_prepare_on_the_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "prepare", HMDB, "--root", str(root), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "broken.avi" in capsys.readouterr().err
    assert cli.main([*words, "--on-error", "skip"]) == 1
    said = capsys.readouterr()
    assert "fsar: left out fencing/broken: " in said.err
    assert "1 left out, 6758 not found" in said.out and f"--benchmark {HMDB} --data {tmp_path / 'out'}" in said.out


def test_the_wrong_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["data", "check", "hmdb51@arn", "--root", str(tmp_path)]) == 2
    assert "none of the 6766 videos of hmdb51@arn is below" in capsys.readouterr().err
