"""The exported folder: graphs, settings, and the files that run them."""

import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsar.bank.fill import to_input
from fsar.export.graphs import EncoderGraph, MatcherGraph, part_names, write_graph
from fsar.export.int8 import write_int8
from fsar.files import atomic_path
from fsar.methods.base import Method
from fsar.names import unknown
from fsar.progress import progress_bar
from fsar.recognizer import Recognizer
from fsar.recognizer.background import generated_clips
from fsar.recognizer.calibration import FLOOR, Fit
from fsar.recognizer.judgement import measure
from fsar.recognizer.sources import open_source
from fsar.video.frame_cache import FrameCache
from fsar.video.motion import BY_MOTION
from fsar.video.paths import VideoPath, as_path, display
from fsar.video.transforms import FRAMINGS

FOLDER = Path(__file__).parent / "folder"
FORMAT = 1
SETTINGS = "recogniser.json"
ENCODER, MATCHER, SMALL = "encoder.onnx", "matcher.onnx", "encoder.int8.onnx"
EQUAL = 1e-3
"""Largest deviation of a graph on a trial clip, as a share of the largest number that the method itself gives."""
TRIAL_CLIPS = 8
"""Generated clips that the graphs are tried on, and that the whole numbers are measured on."""
WEB = Path(__file__).parent / "onnxruntime-web"
"""onnxruntime-web, if `make web` fetched it; a wheel built after that holds it."""
WEB_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PAGE_FILES = ("index.html", "page.js", "recogniser.js")
EVEN = ("tsn", "task-adapter")
"""Samplings that take the middle of equal parts of a video."""


def export(recognizer: Recognizer, folder: VideoPath, int8: bool = True, web: VideoPath | None = None) -> Path:
    """Write a recogniser as a folder that runs without PyTorch and without this package.

    Args:
        recognizer: with at least two examples.
        folder: where to; an earlier export there is replaced.
        int8: write the smaller encoder, too.
        web: folder of the npm package onnxruntime-web, for the page; by default the one that `make web` fetched. If
            there is none, or if the method looks at whole clips, the page is left out.

    Returns:
        The folder: `python FOLDER/run.py VIDEO` names videos, and `FOLDER/index.html` what a camera shows.

    Raises:
        ValueError: the method or its encoder cannot be exported, onnx or onnxruntime is missing, the folder holds
            something else, or `web` lacks a file.
        OSError: the folder cannot be written; nothing is half-written.

    Example:
        >>> import tempfile
        >>> noise = np.random.default_rng(0).integers(0, 256, (4, 8, 64, 64, 3), np.uint8)
        >>> recognizer = Recognizer("tiny", method="protonet")
        >>> recognizer.enroll("one", list(noise[:2]))
        >>> recognizer.enroll("other", list(noise[2:]))
        >>> with tempfile.TemporaryDirectory() as place:
        ...     made = export(recognizer, Path(place) / "small", int8=False)
        ...     sorted(file.name for file in made.glob("*.onnx")), (made / "run.py").is_file()
        (['encoder.onnx', 'matcher.onnx'], True)
    """
    place = as_path(folder)
    if place.exists() and any(place.iterdir()) and not (place / SETTINGS).is_file():
        raise ValueError(f"{display(place)}: holds something else than an export; choose a new folder")
    _require_packages()
    _require_exportable(recognizer)
    files = _files_of(recognizer.method, None if web is None else as_path(web))
    with atomic_path(place) as made:
        made.mkdir()
        try:
            trial = _trial_clips(recognizer)
            steps = [partial(_write_graphs, recognizer, made, trial)]
            if int8:
                steps += [partial(_write_small, made, trial)]
            for step in progress_bar(steps, "export", "step", len(steps)):
                step()
            (made / SETTINGS).write_text(
                json.dumps(settings_of(recognizer), indent=1, ensure_ascii=False) + "\n", "utf-8"
            )
            for name, file in files.items():
                (made / name).parent.mkdir(exist_ok=True)
                shutil.copy(file, made / name)
        except BaseException:
            shutil.rmtree(made)
            raise
        if place.exists():
            shutil.rmtree(place)
    return place


def _files_of(method: Method, web: Path | None) -> dict[str, Path]:
    """List the files that are copied as they are: name in the folder -> place."""
    names: tuple[str, ...] = ("run.py", "frames.py")
    source = web or WEB
    source = source / "dist" if (source / "dist").is_dir() else source
    lacking = [name for name in WEB_FILES if not (source / name).is_file()]
    if web is not None and lacking:
        raise ValueError(
            f"{display(web)}: no {', '.join(lacking)}; expected the folder of the npm package onnxruntime-web"
        )
    if lacking or not method.encoder().by_frame:
        return {name: FOLDER / name for name in names}
    files = {name: FOLDER / name for name in (*names, *PAGE_FILES)}
    return files | {f"onnxruntime-web/{name}": source / name for name in WEB_FILES}


def settings_of(recognizer: Recognizer) -> dict[str, Any]:
    """Everything that the graphs do not hold: actions, how clips are made, scale and thresholds.

    Args:
        recognizer: with at least two examples.
    """
    fit, method = recognizer.fit(), recognizer.method
    return {
        "format": FORMAT,
        "method": method.name,
        "backbone": method.backbone.name,
        "actions": list(recognizer.actions),
        **_scale_of(fit, list(recognizer.actions)),
        "clip": _clip_of(method, recognizer.cache),
        "by_frame": method.encoder().by_frame,
        **_windows_of(recognizer),
    }


def _scale_of(fit: Fit, actions: list[str]) -> dict[str, Any]:
    thresholds = {} if fit.threshold is None else {action: fit.threshold_of(action) for action in actions}
    floor = None if fit.thresholds is None else FLOOR / 100
    return {
        "scale": fit.scale,
        "thresholds": thresholds,
        "steepness": fit.steepness,
        "floor": floor,
        "doubt": fit.doubt,
    }


def _clip_of(method: Method, cache: FrameCache) -> dict[str, Any]:
    framing, size = FRAMINGS[method.traits.framing], method.backbone.image_size
    mean, std = method.normalization
    return {
        "frames": cache.frames,
        "motion": BY_MOTION.get(cache.sampling),  # its weight; none: even in time
        "size": size,
        "resize": round(size * framing.side),
        "squeeze": framing.squeezed,
        "interpolation": framing.interpolation or method.backbone.interpolation,
        "mean": list(mean),
        "std": list(std),
    }


def _windows_of(recognizer: Recognizer) -> dict[str, Any]:
    """What a live stream is looked at with; nothing if the examples' lengths are not known."""
    try:
        contract = recognizer.contract()
    except ValueError:
        return {"windows": None, "rate": None}
    return {"windows": list(contract.lengths), "rate": contract.rate}


# ----------------------------------------------------------------------- graphs


def _write_graphs(recognizer: Recognizer, folder: Path, trial: list[Tensor]) -> None:
    """Write both graphs, and try them on clips."""
    method, state = recognizer.method, recognizer._ready_state()
    names = part_names(method, trial[0])
    encoder = EncoderGraph(method)
    with _for_export(method):
        with torch.no_grad():  # what follows from the examples is computed before anything is recorded
            measure(state, method.encode(trial[0][None], "query"))
        parts = encoder(trial[0])
        try:
            write_graph(folder / ENCODER, encoder, (trial[0],), (["images"], names), encoder.by_frame)
            matcher = MatcherGraph(method, state, names)
            write_graph(folder / MATCHER, matcher, parts, (names, ["logits", "score"]), False)
            made = _run(folder, trial[:2], encoder.by_frame)
        except OSError:
            raise
        except Exception as error:  # the errors of the exporter and of onnxruntime have no common class
            raise ValueError(f"{_cannot(method)}: {str(error).splitlines()[0]}. {_POSSIBLE}") from error
        _require_equal(recognizer, trial[:2], made)


def _write_small(folder: Path, trial: list[Tensor]) -> None:
    """Write the encoder in whole numbers, or warn that it does not run."""
    try:
        write_int8(folder / ENCODER, folder / SMALL, [clip.numpy() for clip in trial])
        _run(folder, trial[:1], False, SMALL)
    except OSError:
        raise
    except Exception as error:  # onnxruntime's errors have no common class
        (folder / SMALL).unlink(missing_ok=True)
        warnings.warn(f"no {SMALL}, since it does not run: {str(error).splitlines()[0]}", stacklevel=2)


def _run(
    folder: Path, clips: Sequence[Tensor], by_frame: bool, encoder_file: str = ENCODER
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Match clips by the graphs: logits and score of each. The last one is encoded frame by frame, as by the page."""
    from onnxruntime import InferenceSession

    encoder, matcher = (
        InferenceSession(str(folder / name), providers=["CPUExecutionProvider"]) for name in (encoder_file, MATCHER)
    )
    names, made = [each.name for each in encoder.get_outputs()], []
    for number, clip in enumerate(clips, 1):
        step = 1 if by_frame and number == len(clips) else len(clip)
        parts = [encoder.run(None, {"images": images.numpy()}) for images in clip.split(step)]
        given = dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))
        # a part of weight 0 is no input of the matcher
        logits, score = matcher.run(None, {each.name: given[each.name] for each in matcher.get_inputs()})
        made.append((logits, score))
    return made


@torch.no_grad()
def _require_equal(recognizer: Recognizer, clips: Sequence[Tensor], made: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Compare the graphs with the method."""
    method = recognizer.method
    for clip, found in zip(clips, made, strict=True):
        own = measure(recognizer._ready_state(), method.encode(clip[None], "query"))
        for mine, expected in zip(found, (own.logits[0].numpy(), own.scores[0].numpy()), strict=True):
            if not np.abs(mine - expected).max() <= EQUAL * max(1.0, np.abs(expected).max()):
                raise ValueError(f"{_cannot(method)}: its graph gives {mine}, and the method {expected}. {_POSSIBLE}")


def _trial_clips(recognizer: Recognizer) -> list[Tensor]:
    """Render some background clips as the encoder takes them: [frame, rgb, height, width] each."""
    made = []
    for (_, render), _ in zip(generated_clips(), range(TRIAL_CLIPS), strict=False):
        frames = open_source(render(), recognizer.cache).frames
        assert frames is not None
        made.append(to_input(recognizer.method, frames))
    return made


@contextmanager
def _for_export(method: Method) -> Iterator[None]:
    """Let the backbone encode with PyTorch itself, which alone can be recorded."""
    backbone, fast = method.backbone, method.backbone.fast
    backbone.fast = None
    try:
        yield
    finally:
        backbone.fast = fast


# ----------------------------------------------------------------------- what cannot be exported

_POSSIBLE = (
    "Exports are tested for place-motion, protonet, otam, bi-mhm and ridge on lite0, timm and CLIP encoders; enrol the "
    "examples with one of them"
)


def _cannot(method: Method) -> str:
    return f"{method.name} on {method.backbone.name} cannot be exported"


def _require_packages() -> None:
    for package in ("onnx", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise ValueError(f"an export needs the package {package}: pip install 'fsar[export]'") from error


def _require_exportable(recognizer: Recognizer) -> None:
    """Refuse, before any work, what no folder can do."""
    method, cache = recognizer.method, recognizer.cache
    recognizer._ready_state()
    if cache.frames is None:
        raise ValueError(f"{_cannot(method)} with all frames of a clip; enrol again with a number, such as frames=8")
    if cache.sampling not in (*BY_MOTION, *EVEN):
        raise ValueError(
            f"{_cannot(method)} with this sampling: {unknown(cache.sampling, (*BY_MOTION, *EVEN), 'sampling')}. "
            "Enrol the examples again with one of them"
        )
    if not any(True for _ in method.backbone.parameters()):
        raise ValueError(f"{_cannot(method)}: another program runs its encoder already, as ONNX. {_POSSIBLE}")
    if method.traits.draws:
        raise ValueError(f"{_cannot(method)}: it draws random numbers for each video. {_POSSIBLE}")
