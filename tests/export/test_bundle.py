"""The exported folder answers as the recogniser does, alone."""

import importlib.util
import shutil
import struct
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fsar import Recognizer, cli
from fsar.backbones import Backbone
from fsar.export import bundle, export
from fsar.export.bundle import FOLDER
from fsar.export.graphs import write_graph
from fsar.recognizer.answer import Answer
from fsar.video.frame_cache import FrameCache
from fsar.video.motion import BY_MOTION, motion_energy, motion_indices, small_grey
from fsar.video.transforms import to_clip
from fsar.video.writing import write_video
from tests.conftest import SHARED, needs_shared
from tests.export.conftest import Exported, moving, said, said_here, taught

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason="the extra `export` is not installed")


def same(found: dict[str, Any], expected: Answer) -> None:
    assert found["action"] == expected.action and found["best"] == expected.best
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    assert found["score"] == pytest.approx(expected.score, rel=1e-4, abs=1e-4)
    assert found["threshold"] == pytest.approx(expected.threshold)


def turned(video: Path) -> None:
    """Write into a file's head that its pictures are turned, as a phone held upright does."""
    content = bytearray(video.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *(value << 16 for value in (0, 1, 0, -1, 0, 0)), 0, 0, 1 << 30)
    video.write_bytes(content)


def test_it_answers_without_torch(exported: Exported, tmp_path: Path) -> None:
    """Large, small and turned files, one without motion, one with few frames, and one that is broken."""
    shown = {
        "small": moving(2, 45, 7),
        "large": moving(46, 3, 8, height=300, width=402),
        "still": np.full((20, 48, 64, 3), 90, np.uint8),
        "short": moving(0, 48, 9, frames=5),
        "turned": moving(0, 48, 3),
    }
    videos = [tmp_path / f"{name}.mp4" for name in shown]
    for video, frames in zip(videos, shown.values(), strict=True):
        write_video(video, frames, 10.0)
    turned(videos[-1])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    found = said(exported.folder, *videos, tmp_path / "broken.mp4", status=2)
    assert [each["video"] for each in found] == list(map(str, videos))
    for answer, video in zip(found, videos, strict=True):
        same(answer, exported.recognizer.predict(video))
    assert {answer["best"] for answer in found} == {"right", "left"}


def test_it_says_why_a_video_cannot_be_read(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("no video")
    Path("empty.mp4").touch()
    said_here(exported.folder, "text.mp4", "none.mp4", "empty.mp4", ".", status=2)
    assert capsys.readouterr().err.splitlines() == [
        "text.mp4: invalid data found when processing input; the file is broken or not a video",
        "none.mp4: no such file; check the name",
        "empty.mp4: the file is empty; copy it again from its source",
        ".: it is a folder; give a video file",
    ]


def test_it_answers_with_openvino_and_with_whole_numbers(exported: Exported, small_video: Path) -> None:
    pytest.importorskip("openvino", reason="the extra `fast` is not installed")
    (found,) = said_here(exported.folder, small_video, "--openvino")
    same(found, exported.recognizer.predict(small_video))
    (small,) = said_here(exported.folder, small_video, "--int8")
    assert small["probabilities"] == pytest.approx(found["probabilities"], abs=0.2)
    assert small["probabilities"] != found["probabilities"]


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
    for sampling, weight in BY_MOTION.items():
        expected = motion_indices(motion_energy(greys, 8), 8, sampling)
        assert frames.chosen(greys, 8, weight).tolist() == expected.tolist()


@pytest.mark.parametrize("method", ["otam", "bi-mhm", "ridge", "clip-fsar"])
def test_other_methods(method: str, shallow: Backbone, tmp_path: Path) -> None:
    """Each writes its graphs, which are compared with it on clips of the world."""
    recognizer = taught(Recognizer(shallow, method=method, cache=FrameCache(frames=4)))
    folder = export(recognizer, tmp_path / method, int8=False)
    if method == "otam":
        write_video(tmp_path / "new.mp4", moving(2, 44, 5), 10.0)
        same(said_here(folder, tmp_path / "new.mp4")[0], recognizer.predict(tmp_path / "new.mp4"))


def test_what_cannot_be_exported(exported: Exported, shallow: Backbone, tmp_path: Path) -> None:
    """A refused export leaves no folder behind, not even a hidden one, and leaves alone what was there."""

    def refused(reason: str, recognizer: Recognizer = exported.recognizer, **options: Any) -> None:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=reason):
            export(recognizer, tmp_path / "folder", **options)
        assert sorted(tmp_path.rglob("*")) == before

    even = taught(Recognizer(shallow, cache=FrameCache(sampling="trx")))
    refused("cannot be exported with this sampling: unknown sampling 'trx'", even)
    refused("no ort.wasm.min.js.*expected the folder of the npm package", web=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "EQUAL", -1.0)
        refused("place-motion on small cannot be exported: its graph gives")
        shutil.copytree(exported.folder, tmp_path / "folder")
        refused("place-motion on small cannot be exported: its graph gives")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.onnx.export", partial(no_export, tmp_path))
        refused("place-motion on small cannot be exported: no operation. Exports are tested for")
    (tmp_path / "folder" / "recogniser.json").unlink()
    refused("folder: holds something else than an export; choose a new folder")


def no_export(place: Path, *_: object, **__: object) -> None:
    assert list(place.glob(".writing*"))  # what a refusal has to remove
    raise RuntimeError("no operation\nand a long graph")


def test_any_number_of_frames(exported: Exported) -> None:
    """The page encodes frames one by one, and a stream as many as it has."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(exported.folder / "encoder.onnx"))
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    whole = session.run(None, {"images": images})
    for number in range(3):
        for part, one in zip(whole, session.run(None, {"images": images[number : number + 1]}), strict=True):
            assert one.shape == (1, *part.shape[1:]) and one[0] == pytest.approx(part[number], abs=1e-5)


def test_padding_is_constant(tmp_path: Path) -> None:
    """The quantiser lost widths that the graph computes from the size of its images, as those of lite0."""

    class Padded(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (torch.nn.functional.pad(images, [0, images.shape[-1] % 2 + 1, 0, 1]),)

    write_graph(tmp_path / "padded.onnx", Padded(), (torch.zeros(2, 3, 5, 5),), (["images"], ["padded"]), True)
    import onnx
    from onnxruntime import InferenceSession

    assert "Shape" not in {node.op_type for node in onnx.load(tmp_path / "padded.onnx").graph.node}
    (made,) = InferenceSession(str(tmp_path / "padded.onnx")).run(None, {"images": np.ones((1, 3, 5, 5), np.float32)})
    assert made.shape == (1, 3, 6, 7)


def test_an_encoder_in_whole_numbers_that_does_not_run_is_left_out(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "write_int8", lambda encoder, target, clips: target.write_bytes(b"no model"))
    with pytest.warns(UserWarning, match=r"no encoder\.int8\.onnx, since it does not run: "):
        bundle._write_small(tmp_path, [torch.zeros(8, 3, 16, 16)])
    assert not list(tmp_path.iterdir())


def test_the_command(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice into one folder: the second export replaces the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsar.recognizer.saving.load_fast", lambda name: exported.recognizer.backbone)
        patch.setattr(bundle, "write_int8", lambda encoder, target, clips: shutil.copy(encoder, target))  # takes long
        exported.recognizer.save(tmp_path / "mine.fsar")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "recogniser.json").write_text("{}")
        assert cli.main(["export", str(tmp_path / "mine.fsar"), str(tmp_path / "mine")]) == 0
    printed = capsys.readouterr().out
    assert "encoder.int8.onnx" in printed and "run.py VIDEO... names videos" in printed
    assert (tmp_path / "mine" / "recogniser.json").read_text() == (exported.folder / "recogniser.json").read_text()


@needs_shared
def test_real_files(exported: Exported) -> None:
    """Files of three data sets, decoded and chosen from as the recogniser does."""
    assert SHARED is not None
    videos = [
        min((SHARED / "clips" / place).iterdir())
        for place in ("egogestar/left", "weizmann4/bend", "surveillance/fight")
    ]
    for found, video in zip(said_here(exported.folder, *videos), videos, strict=True):
        same(found, exported.recognizer.predict(video))
