"""Whatever is wrong, the message names it and says what to do; nothing half-written is left or read."""

import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fsar import cli
from fsar.backbones import Backbone, load_backbone
from fsar.bank.fill import fill_bank
from fsar.bank.store import BankStore
from fsar.datasets import Video, VideoDataset, load_folder
from fsar.evaluation.loop import evaluate
from fsar.methods import Method, build_method
from fsar.progress import progress_bar
from fsar.recognizer import Recognizer
from fsar.recognizer.files import KEY, read_parts
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError
from fsar.video.reading import probe, read_frames
from tests.processes import as_a_user, forked, limited, signal_at
from tests.video.test_odd_files import overwrite
from tests.video.test_reading import encode, greys, index_of

QUICK = ["--split", "all", "--method", "protonet", "--way", "2", "--episodes", "20"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of three clips."""
    root = tmp_path_factory.mktemp("clips")
    for i, name in enumerate(("clap/0", "clap/1", "clap/2", "wave/0", "wave/1", "wave/2")):
        (root / name).parent.mkdir(exist_ok=True)
        encode(root / f"{name}.mp4", np.roll(greys(10, 64, 64), i, 0))
    return root


@pytest.fixture
def data(clips: Path, tmp_path: Path) -> Path:
    """A copy of the clips that a test may spoil."""
    return shutil.copytree(clips, tmp_path / "data")


@pytest.fixture(scope="module")
def protonet(tiny: Backbone) -> Method:
    return build_method("protonet", tiny)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone, also in the processes it starts."""
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Run `fsar` within this process, which must refuse; returns what it says."""
    assert cli.main([os.fspath(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    (message,) = (line for line in said.err.splitlines() if line.startswith("fsar: error: "))
    return message.removeprefix("fsar: error: ")


# --------------------------------------------------------------------------- broken videos


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def text(path: Path) -> Path:
    path.write_text("These are not the pictures you are looking for.\n" * 50)
    return path


def cut(path: Path, share: float, frames: int = 40, **how: object) -> Path:
    """Write a video of textured frames and keep the first share of its bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (frames, 64, 64, 3)).astype(np.uint8)
    encode(path, noise, **how)  # type: ignore[arg-type]
    os.truncate(path, int(path.stat().st_size * share))
    return path


def only_sound(path: Path) -> Path:
    with av.open(os.fspath(path), "w") as container:
        voice = container.add_stream("aac", rate=16000, layout="mono")
        for begin in range(0, 16000, 1024):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 16000, begin
            container.mux(voice.encode(samples))
        container.mux(voice.encode())
    return path


def no_pictures(path: Path) -> Path:
    """Write a stream's header and nothing after it."""
    with av.open(os.fspath(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path


def hidden(path: Path) -> Path:
    path.mkdir()
    (path / "notes.txt").write_text("no frames")
    return path


def corrupt_frame(path: Path) -> Path:
    path.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    for i in range(4):
        Image.fromarray(noise).save(path / f"frame{i}.jpg")
    os.truncate(path / "frame2.jpg", 900)
    return path


def frames_of_two_sizes(path: Path) -> Path:
    path.mkdir()
    for i, side in enumerate((32, 32, 40, 32)):
        Image.new("RGB", (side, 32)).save(path / f"{i}.png")
    return path


FASTSTART = {"movflags": "faststart"}
BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("missing.mp4", lambda path: None, "no such file; check the name"),
    "empty": ("empty.mp4", empty, "the file is empty; copy it again"),
    "text": ("text.mp4", text, "invalid data .*broken or not a video"),
    "no index at its end": ("cut.mp4", lambda path: cut(path, 0.6), "invalid data .*broken or not a video"),
    "cut mp4": ("cut.mp4", lambda path: cut(path, 0.5, muxer=FASTSTART), "cut short.*copy it again"),
    "short cut mp4": (
        "cut.mp4",
        lambda path: cut(path, 0.7, 8, muxer=FASTSTART),
        r"cut short: it ends within frame \d; copy",
    ),
    "cut mov": ("cut.mov", lambda path: cut(path, 0.9, muxer=FASTSTART), "cut short.*copy it again"),
    "cut avi": ("cut.avi", lambda path: cut(path, 0.5, fps=25, codec="mpeg4"), "cut short.*copy it again"),
    "cut webm": (
        "cut.webm",
        lambda path: cut(path, 0.4, codec="libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"}),
        r"cut short: it ends after \d\.\d of 4.0 seconds; copy it again",
    ),
    "only sound": ("sound.mp4", only_sound, "only sound; a video with pictures was expected"),
    "no pictures": ("zero.mp4", no_pictures, "it holds no frames; record or export it again"),
    "folder without frames": ("frames", hidden, r"holds no frames; expected \.jpg or \.png files"),
    "corrupt frame": ("frames", corrupt_frame, "frame2.jpg.*truncated.*broken"),
    "frames of two sizes": (
        "frames",
        frames_of_two_sizes,
        "differ in size .32x32, 40x32.; expected the frames",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_video_is_named_with_the_reason(
    tmp_path: Path, kind: str, protonet: Method, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make, reason = BROKEN[kind]
    path = tmp_path / name
    make(path)
    for read in (lambda: read_frames(path, None), lambda: FrameCache(frames=None).read(path)):
        with pytest.raises(VideoError, match=reason) as raised:
            read()
        assert str(path) in str(raised.value)
    with pytest.raises(VideoError, match=reason):
        fill_bank(protonet, [Video("a/b", path, "a")], cache=FrameCache(frames=None), progress=False)
    if kind not in (
        "corrupt frame",
        "frames of two sizes",
    ):  # which only reading them all can tell
        with pytest.raises(VideoError, match=reason):
            probe(path)
        assert str(path) in refused(capsys, "probe", path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi", "gif"])
def test_one_frame_is_a_video(tmp_path: Path, suffix: str) -> None:
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4", "gif": "gif"}.get(suffix, "libx264")
    path = encode(tmp_path / f"one.{suffix}", greys(5)[4:], codec, "rgb8" if suffix == "gif" else "yuv420p", 25)
    assert index_of(read_frames(path)) == [4] * 8
    assert probe(path).frames == 1


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder anyone may write to, and no right to read what is forbidden, even for root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o777)
        shutil.rmtree(folder)


def test_what_may_not_be_read_says_so(unprivileged: Path, protonet: Method) -> None:
    root = unprivileged / "data"
    (root / "frames").mkdir(parents=True)
    video = encode(root / "secret.mp4", greys(3))
    cache = FrameCache(unprivileged / "cache")

    for forbidden, path in ((video, video), (root / "frames", root / "frames"), (root, video)):
        forbidden.chmod(0o000)
        for read in (read_frames, probe, cache.read):
            with pytest.raises(VideoError, match=r"no permission to read.*change its mode or owner") as raised:
                read(path)
            assert str(path) in str(raised.value)
        with pytest.raises(ValueError, match=r"none of the 1 videos could be used.*no permission"):
            videos = [Video("a/b", path, "a")]
            fill_bank(protonet, videos, cache=cache, folder=unprivileged / "bank", on_error="skip", progress=False)
        forbidden.chmod(0o777)

    for forbidden in (root, root / "frames"):
        forbidden.chmod(0o000)
        with pytest.raises(ValueError, match="no permission to read the folder; change its mode or owner"):
            load_folder(root)
        forbidden.chmod(0o777)


def test_a_broken_video_stops_or_is_left_out_and_named(data: Path, protonet: Method) -> None:
    empty(data / "wave" / "3.mp4")
    text(data / "clap" / "3.mp4")
    dataset = load_folder(data)
    with pytest.raises(VideoError, match=r"clap/3\.mp4: invalid data"):
        fill_bank(protonet, dataset.videos, progress=False)
    with pytest.raises(ValueError, match="on_error is 'ignore'; expected stop or skip"):
        fill_bank(protonet, dataset.videos, on_error="ignore", progress=False)
    bank = fill_bank(protonet, dataset.videos, on_error="skip", progress=False)
    assert set(bank.skipped) == {"wave/3", "clap/3"}
    assert "the file is empty" in bank.skipped["wave/3"]
    assert len(bank.video_ids) == 6
    result = evaluate(protonet, dataset, "all", way=2, shot=2, episodes=10, bank=bank, progress=False)
    assert dict(bank.skipped) == result.skipped


def test_a_setting_is_no_fault_of_the_videos(data: Path, protonet: Method) -> None:
    videos = load_folder(data).videos
    with pytest.raises(ValueError, match="unknown frame sampling 'tns'; did you mean 'tsn'") as raised:
        fill_bank(protonet, videos, cache=FrameCache(sampling="tns"), on_error="skip", progress=False)
    assert not isinstance(raised.value, VideoError) and "none of the" not in str(raised.value)


def test_a_damaged_video_is_used_and_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3)).astype(np.uint8)
    overwrite(encode(data / "wave" / "3.mp4", frames, options={"g": "5", "bf": "0"}), [12])
    assert cli.main(["evaluate", "--data", str(data), *QUICK, "--out", str(data.parent / "out")]) == 0
    said = capsys.readouterr()
    assert "wave/3 is damaged: 1 of its pictures are broken or lost" in said.err
    (file,) = (data.parent / "out").glob("*.json")
    assert json.loads(file.read_text())["damaged"] == {"wave/3": 1}
    assert ", 1 damaged" in said.out


def test_the_command_line_leaves_a_broken_video_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty(data / "wave" / "3.mp4")
    assert cli.main(["evaluate", "--data", str(data), *QUICK, "--on-error", "skip"]) == 0
    said = capsys.readouterr()
    assert "left out wave/3: " in said.err and "the file is empty" in said.err
    assert "protonet" in said.out

    examples = ["--examples", str(data), "--backbone", "tiny", "--method", "protonet", "--format", "json"]
    (data / "wave" / "3.mp4").rename(data.parent / "new.mp4")
    new = [str(data.parent / "new.mp4"), str(data / "wave" / "0.mp4")]
    assert cli.main(["recognize", *examples, *new, "--on-error", "skip"]) == 1
    said = capsys.readouterr()
    assert "new.mp4: the file is empty" in said.err
    assert [Path(row["video"]).name for row in json.loads(said.out)] == ["0.mp4"]


def test_training_stops_at_a_broken_video_or_leaves_it_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one of which a frame is broken that only some draws meet."""
    (data / "labels.csv").write_text("folder,label,split\nclap,clapping,train\nwave,waving,train\n")
    empty(data / "wave" / "3.mp4")
    (data / "clap" / "late").mkdir()
    for i in range(20):
        Image.new("RGB", (64, 64)).save(data / "clap" / "late" / f"{i}.png")
    (data / "clap" / "late" / "19.png").write_bytes(b"")
    assert read_frames(data / "clap" / "late").shape == (8, 64, 64, 3)
    changes = ["way=2", "query=1", "episodes=8", "episodes_per_step=1", "val_every=0", "lr.visual=1e-5"]
    words = ["train", "--config", "otam/hmdb51", "--backbone", "tiny", "--data", data, "--set", *changes]
    words += ["accelerator=cpu", "--out"]
    assert "wave/3.mp4: the file is empty" in refused(capsys, *words, data.parent / "run")
    again = refused(capsys, *words, data.parent / "run", "--on-error", "skip")
    assert "holds another run: on_error is 'stop' there" in again
    assert cli.main([*map(str, words), str(data.parent / "other"), "--on-error", "skip"]) == 0
    assert "left out wave/3: " in capsys.readouterr().err
    left_out = json.loads((data.parent / "other" / "left_out.json").read_text())
    assert sorted(left_out) == ["clap/late", "wave/3"] and "19.png" in left_out["clap/late"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["evaluate", "recognize"])
def test_the_command_line_stops_at_a_broken_video(data: Path, own_cache: Path, verb: str) -> None:
    broken = cut(data / "wave" / "3.mp4", 0.5, muxer=FASTSTART)
    words = ["--data", data, *QUICK] if verb == "evaluate" else ["--examples", data, "--backbone", "tiny", broken]
    run = forked(verb, *words)
    assert (run.returncode, run.stdout) == (2, "")
    assert f"fsar: error: {broken}: cut short" in run.stderr and "Traceback" not in run.stderr


# --------------------------------------------------------------------------- folders and labels.csv


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("class,label\nwave,waving\n", "expected the columns folder, label .* got class, label"),
        ("", "expected the columns folder, label .* got nothing"),
        ("folder,label\nwav,waving\n", "line 2: unknown folder 'wav'; did you mean 'wave'"),
        ("folder,label\nclap,clapping\nwave\n", "line 3: folder 'wave' has no label; give its words"),
        ("label,folder\nwaving\n", "line 2: unknown folder ''"),
        ("folder,label,split\nwave,waving,tset\n", "line 2: unknown split 'tset'; did you mean 'test'"),
        (b"folder,label\nwave,caf\xe9\n", "not UTF-8 text; save it as UTF-8"),
        (b"folder,label\nwave," + b"a" * 200_000 + b"\n", "not a comma-separated table .field larger"),
    ],
)
def test_a_wrong_labels_file_says_where(data: Path, content: str | bytes, message: str) -> None:
    (data / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as raised:
        load_folder(data)
    assert str(data / "labels.csv") in str(raised.value)


def test_folders_that_differ_in_case_only_are_refused(data: Path) -> None:
    if (data / "WAVE").exists():
        pytest.skip("this file system does not tell them apart")
    (data / "Wave").mkdir()
    with pytest.raises(ValueError, match=r"'Wave' and 'wave' differ in case only.*rename or merge"):
        load_folder(data)


def test_videos_that_differ_in_suffix_only_are_refused(data: Path) -> None:
    shutil.copy(data / "wave" / "0.mp4", data / "wave" / "0.avi")
    with pytest.raises(ValueError, match="same name but for the suffix; keep one"):
        load_folder(data)


def test_a_folder_without_videos_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such folder; expected one folder per class"):
        load_folder(tmp_path / "missing")
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"no videos found; expected .*/CLASS/VIDEO"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluat"], "unknown verb 'evaluat'; did you mean 'evaluate'"),
        (["evaluate", "--epsodes", "3"], "'--epsodes'; did you mean '--episodes'"),
        (["evaluate", "--method", "protonett"], "unknown method 'protonett'; did you mean 'protonet'"),
        (["evaluate", "--method", "otam:smothing=1"], "option of otam 'smothing'; did you mean 'smoothing'"),
        (["evaluate", "--method", "otam:smoothing=much"], "method otam: .*smoothing.*much"),
        (["evaluate", "--method", "otam:smoothing"], "cannot read 'smoothing'.*option=value"),
        (["evaluate", "--backbone", "tinny"], "unknown backbone 'tinny'; did you mean 'tiny'"),
        (
            ["evaluate", "--split", "tets", "--method", "protonet"],
            "unknown split 'tets'; did you mean 'test'",
        ),
        (["evaluate", "--method", "protonet"], "no class in split 'test' .splits there: none.*labels.csv"),
        (["evaluate", "--classes", "waev", *QUICK], "unknown class of data 'waev'; did you mean 'wave'"),
        (["evaluate", "--sampling", "tns", *QUICK], "unknown frame sampling 'tns'; did you mean 'tsn'"),
        (["evaluate", "--frames", "0", *QUICK], "cannot choose 0 frames"),
        (
            ["evaluate", *QUICK, "--shot", "3"],
            "3-shot episodes with 1 query per.*clap has 3, wave has 3.*[Ll]ower shot",
        ),
        (["evaluate", *QUICK, "--way", "5"], "5-way episodes need 5 classes; data has 2 here: clap, wave"),
        (["evaluate", *QUICK, "--way", "0"], "at least one way"),
        (["recognize"], "either --examples DIR .* or --model FILE"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(
    data: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    more = ["--data", str(data)] if words[0] == "evaluate" else []
    said = " ".join(refused(capsys, *words, *more).split())
    assert pytest.raises(ValueError, match=message).matches(ValueError(said)), said


def test_a_class_with_too_few_clips_is_named(data: Path, protonet: Method) -> None:
    for name in "12":
        (data / "wave" / f"{name}.mp4").unlink()
    with pytest.raises(ValueError, match="need 2 videos in every class; wave has 1"):
        evaluate(protonet, load_folder(data), "all", way=2, episodes=5, progress=False)


# --------------------------------------------------------------------------- names that are not UTF-8

BYTES_CLASS, BYTES_CLIP = os.fsdecode(b"caf\xe9"), os.fsdecode(b"clip\xff.mp4")


@pytest.fixture
def byte_names(data: Path) -> Path:
    """The clips under names as old disks have them."""
    try:
        (data / "wave").rename(data / BYTES_CLASS)
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    for folder in (data / "clap", data / BYTES_CLASS):
        (folder / "0.mp4").rename(folder / BYTES_CLIP)
    return data


def test_names_that_are_not_utf8_are_read(byte_names: Path, protonet: Method, tmp_path: Path) -> None:
    video = byte_names / BYTES_CLASS / BYTES_CLIP
    assert probe(video).frames == 10
    assert FrameCache(tmp_path / "cache").read(video).shape == (8, 64, 64, 3)
    dataset = load_folder(byte_names)
    assert dataset.classes == (BYTES_CLASS, "clap")
    assert dataset.texts[BYTES_CLASS] == r"caf\xe9"
    result = evaluate(protonet, dataset, "all", way=2, episodes=10, progress=False)
    result.save(tmp_path / "result.json")
    assert 0 <= json.loads((tmp_path / "result.json").read_text())["accuracy"] <= 1


def test_messages_about_names_that_are_not_utf8_can_be_printed(byte_names: Path, protonet: Method) -> None:
    video = byte_names / BYTES_CLASS / BYTES_CLIP
    empty(video)
    with pytest.raises(VideoError, match=r"caf\\xe9/clip\\xff\.mp4: the file is empty") as raised:
        read_frames(video)
    str(raised.value).encode()
    bank = fill_bank(protonet, load_folder(byte_names).videos, on_error="skip", progress=False)
    "".join(bank.skipped.values()).encode()
    (byte_names / "labels.csv").write_text("folder,label\ncaf,coffee\n")
    with pytest.raises(ValueError, match=r"unknown folder 'caf'") as refusal:
        load_folder(byte_names)
    str(refusal.value).encode()


def test_the_command_line_takes_names_that_are_not_utf8(byte_names: Path, own_cache: Path) -> None:
    video = byte_names / BYTES_CLASS / BYTES_CLIP
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict", "PYTHONDONTWRITEBYTECODE": "1"}
    run = as_a_user("probe", video, env=environment)
    assert (run.returncode, run.stderr) == (0, "")
    assert r"caf\xe9/clip\xff.mp4: frames 10" in run.stdout
    empty(video)
    run = as_a_user("probe", video, env=environment)
    assert run.returncode == 2
    assert r"caf\xe9/clip\xff.mp4: the file is empty" in run.stderr and "Traceback" not in run.stderr


def test_the_long_verbs_take_names_that_are_not_utf8(
    byte_names: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--data", str(byte_names), *QUICK, "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0, capsys.readouterr().err
    assert "protonet" in capsys.readouterr().out
    for form in ("table", "json", "csv"):
        command = ["recognize", "--examples", str(byte_names), "--backbone", "tiny", "--method", "protonet"]
        assert cli.main([*command, "--format", form, str(byte_names / BYTES_CLASS)]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.count(r"clip\xff" if form != "json" else r"clip\\xff") == 1


# --------------------------------------------------------------------------- full disks, banks, kills


def whole_clips(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*.npy") if not path.name.startswith(".")}


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_next_run_goes_on(data: Path, own_cache: Path) -> None:
    bank = own_cache / "bank"
    command = ["evaluate", "--data", str(data), *QUICK, "--bank", str(bank)]
    frames_do_not_fit = forked(*command, before=limited(20_000))
    wrong = frames_do_not_fit.stderr
    assert frames_do_not_fit.returncode == 2
    assert "could not write" in wrong and "make room" in wrong and "Traceback" not in wrong
    assert not whole_clips(own_cache) and not list(own_cache.rglob(".writing-*"))

    for video in load_folder(data).videos:
        FrameCache().read(video.path)
    assert len(whole_clips(own_cache)) == 6
    encodings_do_not_fit = forked(*command, before=limited(2_000))
    wrong = encodings_do_not_fit.stderr
    assert encodings_do_not_fit.returncode == 2
    assert str(bank) in wrong and "make room" in wrong and "Traceback" not in wrong
    assert not list(bank.rglob("*.safetensors")) and not list(own_cache.rglob(".writing-*"))

    assert cli.main(command) == 0
    assert len(list(bank.rglob("*.safetensors"))) == 6


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_where_it_stopped(
    data: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = own_cache / "bank"
    command = ["evaluate", "--data", str(data), *QUICK, "--bank", str(bank)]
    run = forked(*command, before=signal_at("os.rename", r"bank.*\.safetensors", 4))
    assert run.returncode == -signal.SIGKILL
    found = {path: path.stat().st_mtime_ns for path in bank.rglob("[!.]*.safetensors")}
    assert len(found) == 3
    assert cli.main(command) == 0
    resumed = capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == written for path, written in found.items())
    assert len(list(bank.rglob("[!.]*.safetensors"))) == 6
    assert cli.main([*command[:-1], str(own_cache / "another")]) == 0
    assert capsys.readouterr().out == resumed


@pytest.mark.slow
def test_ctrl_c_says_that_nothing_is_lost(data: Path, own_cache: Path) -> None:
    bank = own_cache / "bank"
    interrupt = signal_at("os.rename", r"bank.*\.safetensors", 2, signal.SIGINT)
    run = forked("evaluate", "--data", data, *QUICK, "--bank", bank, before=interrupt)
    assert run.returncode == 130
    assert "fsar: interrupted; finished work is kept" in run.stderr and "Traceback" not in run.stderr
    assert list(bank.rglob("*.safetensors"))


def test_ctrl_c_while_a_bar_is_made_leaves_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    monkeypatch.setattr("tqdm.std.tqdm._get_free_pos", interrupt)
    try:
        progress_bar([1], "match", "episode", 1)
    except KeyboardInterrupt as caught:
        caught.__traceback__ = None  # which held the bar
    gc.collect()
    assert not told


def test_a_bank_of_another_encoder_or_version_is_refused(tmp_path: Path) -> None:
    BankStore({"backbone": "tiny"}, tmp_path)
    BankStore({"backbone": "tiny"}, tmp_path)
    with pytest.raises(ValueError, match=r"backbone is 'tiny' there, 'lite0' here\. Give another folder") as raised:
        BankStore({"backbone": "lite0"}, tmp_path)
    assert str(tmp_path) in str(raised.value)
    (tmp_path / "bank.json").write_text(json.dumps({"backbone": "tiny", "format": 99}))
    with pytest.raises(ValueError, match="format is 99 there, 1 here"):
        BankStore({"backbone": "tiny"}, tmp_path)
    for content in ('{"backbone": "ti', "[1, 2]", "3"):
        (tmp_path / "bank.json").write_text(content)
        with pytest.raises(ValueError, match=r"bank\.json: not a bank's header"):
            BankStore({"backbone": "tiny"}, tmp_path)


def test_a_bank_of_another_sampling_is_refused(data: Path, protonet: Method, tmp_path: Path) -> None:
    videos, folder = load_folder(data).videos, tmp_path / "bank"
    fill_bank(protonet, videos, folder=folder, progress=False)
    with pytest.raises(ValueError, match=r"clip is .*'tsn'.* there, .*'trx'.* here"):
        fill_bank(protonet, videos, cache=FrameCache(sampling="trx"), folder=folder, progress=False)


@pytest.mark.parametrize("kept", [0, 4, 100, 2000])
def test_a_damaged_encoding_is_made_again(data: Path, protonet: Method, tmp_path: Path, kept: int) -> None:
    videos = load_folder(data).videos
    before = fill_bank(protonet, videos, folder=tmp_path / "bank", progress=False)
    file = next((tmp_path / "bank").rglob("*.safetensors"))
    content = file.read_bytes()
    os.truncate(file, kept)
    after = fill_bank(protonet, videos, folder=tmp_path / "bank", progress=False)
    torch.testing.assert_close(after.query["frames"], before.query["frames"], rtol=0, atol=0)
    assert file.read_bytes() == content


# --------------------------------------------------------------------------- recogniser files


@pytest.fixture(scope="module")
def recognizer(clips: Path, tiny: Backbone) -> Recognizer:
    made = Recognizer(tiny, "protonet")
    for action in ("clap", "wave"):
        made.enroll(action, sorted((clips / action).iterdir()))
    return made


NOT_ONE = "not a recogniser that fsar wrote, or cut short"


def rewrite(path: Path, **changes: object) -> Path:
    """Change the header of a recogniser file."""
    header, tensors = read_parts(path)
    save_file(tensors, path, {KEY: json.dumps(header | changes)})
    return path


def test_a_saved_recognizer_answers_as_before(recognizer: Recognizer, tiny: Backbone, data: Path) -> None:
    recognizer.save(data / "model")
    video = data / "wave" / "1.mp4"
    assert Recognizer.load(data / "model", tiny).predict(video) == recognizer.predict(video)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: rewrite(path, format=99), "format 99, this version reads 3 to 5; enrol the examples again"),
        (lambda path: rewrite(path, weights="0" * 16), r"made with backbone tiny \(weights 0{16}\), but"),
        (lambda path: os.truncate(path, path.stat().st_size - 100), NOT_ONE),
        (lambda path: os.truncate(path, 20), NOT_ONE),
        (empty, NOT_ONE),
        (text, NOT_ONE),
        (lambda path: save_file({"a": torch.zeros(3)}, path), NOT_ONE),
        (lambda path: path.unlink(), "no such recogniser file"),
    ],
    ids=["version", "weights", "cut", "cut header", "empty", "text", "other tensors", "missing"],
)
def test_a_wrong_recognizer_file_is_refused(
    recognizer: Recognizer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    path = tmp_path / "model.fsar"
    recognizer.save(path)
    spoil(path)
    with pytest.raises(ValueError, match=message) as raised:
        Recognizer.load(path)
    assert str(path) in str(raised.value)
    assert str(path) in refused(capsys, "recognize", "--model", path, tmp_path)


def test_a_recognizer_of_other_weights_is_refused(recognizer: Recognizer, tmp_path: Path) -> None:
    recognizer.save(tmp_path / "model")
    other = load_backbone("tiny")
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match="use the same weights, or enrol again"):
        Recognizer.load(tmp_path / "model", other)


def test_enrolling_says_what_is_missing(recognizer: Recognizer, tiny: Backbone, data: Path) -> None:
    fresh = Recognizer(tiny, "protonet")
    with pytest.raises(ValueError, match="action 'wave' came without a video; give at least one"):
        fresh.enroll("wave", [])
    with pytest.raises(VideoError, match="no such file; check the name"):
        fresh.enroll("wave", [data / "missing.mp4"])
    fresh.enroll("wave", [data / "wave" / "0.mp4"])
    with pytest.raises(ValueError, match="at least two actions, or two examples of one; enrolled: wave"):
        fresh.predict(data / "wave" / "1.mp4")
    with pytest.raises(ValueError, match="unknown action 'waev'; did you mean 'wave'"):
        fresh.remove("waev")


def test_a_full_disk_while_saving_leaves_the_old_file(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "model"
    recognizer.save(path)
    old = path.read_bytes()
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))
    try:
        with pytest.raises(OSError, match=r"could not write .*model: .*make room"):
            recognizer.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert load_file(path)


def test_an_empty_dataset_is_no_bank(protonet: Method) -> None:
    with pytest.raises(ValueError, match="there is no video to encode; give at least one"):
        fill_bank(protonet, VideoDataset("none", (), {}, {}).videos, progress=False)
