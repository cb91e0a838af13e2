#!/usr/bin/env python3
"""Name the action in videos: `python run.py VIDEO...` prints one line of JSON for each.

It needs numpy, av, and onnxruntime (with `--openvino`, openvino instead). The models, `recogniser.json`
and `frames.py` lie beside it. The answers are those of the recogniser that was exported.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from frames import read, to_input

FOLDER = Path(__file__).parent
Arrays = dict[str, np.ndarray]


def answer(logits: np.ndarray, score: float, recogniser: dict[str, Any]) -> dict[str, Any]:
    """Turn what the matcher gives into the recogniser's answer."""
    names, scaled = recogniser["actions"], recogniser["scale"] * logits.astype(float)
    best = names[int(logits.argmax())]
    threshold, slope = recogniser["thresholds"].get(best), recogniser["steepness"]
    shares, unknown = np.exp(scaled - scaled.max()), None
    if threshold is not None and slope is not None:
        logarithm = recogniser["floor"] is not None
        odds = math.log(max(score, recogniser["floor"]) / threshold) if logarithm else score - threshold
        known = math.exp(min(slope * odds, 700))
        known = known if known >= 1 else known + recogniser["doubt"] * (1 - known)
        unknown = 1 / (1 + known)
    shares *= (1 - (unknown or 0)) / shares.sum()
    found = dict(zip(names, shares.tolist(), strict=True)) | ({} if unknown is None else {"unknown": unknown})
    action = best if threshold is None or score >= threshold else "unknown"
    ordered = dict(sorted(found.items(), key=lambda item: -item[1]))
    return {"action": action, "best": best, "probabilities": ordered, "score": score, "threshold": threshold}


@cache
def openvino_core() -> Any:
    """Give one core of OpenVINO to both models; after two cores have ended, Ctrl-C can crash."""
    from openvino import Core

    return Core()


def opened(file: Path, openvino: bool) -> Callable[[Arrays], Arrays]:
    """Load a model: named arrays -> named arrays; of those given, it takes what it needs."""
    if openvino:
        model = openvino_core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        wanted = [each.any_name for each in model.inputs]
        outputs = [each.any_name for each in model.outputs]
        return lambda given: dict(zip(outputs, model({name: given[name] for name in wanted}).values(), strict=True))
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    wanted, outputs = ([each.name for each in ends] for ends in (session.get_inputs(), session.get_outputs()))
    return lambda given: dict(zip(outputs, session.run(None, {name: given[name] for name in wanted}), strict=True))


def reason(video: str, error: Exception) -> str:
    """Say why a video cannot be read, and what to do."""
    if isinstance(error, FileNotFoundError):
        return "no such file; check the name"
    if isinstance(error, IsADirectoryError) or Path(video).is_dir():
        return "it is a folder; give a video file"
    if isinstance(error, PermissionError):
        return "no permission to read it; change its mode or owner"
    if Path(video).is_file() and not Path(video).stat().st_size:
        return "the file is empty; copy it again from its source"
    words = getattr(error, "strerror", None) or str(error)
    return f"{words[0].lower()}{words[1:]}; the file is broken or not a video"


def main() -> int:
    """Name the videos on the command line; the exit code is 2 if one of them cannot be read."""
    parser = argparse.ArgumentParser(description="Name the action in videos; one line of JSON for each.")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--int8", action="store_true", help="the smaller encoder, encoder.int8.onnx")
    parser.add_argument("--openvino", action="store_true", help="run the models with OpenVINO")
    options = parser.parse_args()
    recogniser = json.loads((FOLDER / "recogniser.json").read_text(encoding="utf-8"))
    encoder = opened(FOLDER / ("encoder.int8.onnx" if options.int8 else "encoder.onnx"), options.openvino)
    matcher, status = opened(FOLDER / "matcher.onnx", options.openvino), 0
    for video in options.videos:
        try:
            images = to_input(read(video, recogniser["clip"]), recogniser["clip"])
        except (av.FFmpegError, ValueError) as error:
            print(f"{video}: {reason(video, error)}", file=sys.stderr)
            status = 2
            continue
        found = matcher(encoder({"images": images}))
        print(json.dumps({"video": video, **answer(found["logits"], float(found["score"]), recogniser)}), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
