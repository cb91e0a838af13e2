"""The timeline of an uploaded video: its frames come from decoding processes, some at a time."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsar.recognizer import Recognizer
from fsar.recognizer.timeline import WindowScores, spot
from fsar.recognizer.windows import Window
from fsar.service.decoders import DecodedApart
from fsar.service.tasks import Tell

PIECE = 64
"""Frames that are decoded and held on disk at once."""


def timeline(recognizer: Recognizer, video: Path, folder: Path, tell: Tell = lambda share: None) -> dict[str, Any]:
    """Tell when which action happens, as `Recognizer.timeline` does.

    Args:
        recognizer: one that a project loaded.
        video: a file.
        folder: for decoded frames, which do not stay.
        tell: is told the share of the video that was seen.

    Returns:
        `duration` in seconds, and `segments`, each with action, start, end and probability.

    Raises:
        ValueError: as for `Recognizer.timeline`.
    """
    assert isinstance(recognizer.cache, DecodedApart)
    contract = recognizer.contract()
    windows, found = recognizer.windows(contract), list[Window]()
    tell(0.0)
    held = folder / f"frames-{uuid4().hex}"
    whole = replace(recognizer.cache, folder=held, frames=None)
    try:
        times = whole.times(video)
        assert times is not None  # a file has times
        starts, duration = times[:-1].tolist(), float(times[-1])
        for first in range(0, len(starts), PIECE):
            tell(first / len(starts))
            piece = starts[first : first + PIECE]
            frames = whole.read(video, piece[0], float(times[first + len(piece)]))
            for time, frame in zip(piece, frames, strict=True):
                found += windows.add(time, frame)
            for file in held.rglob("*.npy"):
                file.unlink()
    finally:
        shutil.rmtree(held, ignore_errors=True)
    found += windows.finish(duration)
    scores = WindowScores.of(video.name, duration, list(recognizer.actions), found, contract.spans)
    segments = [{key: value for key, value in asdict(each).items() if key != "video"} for each in spot(scores)]
    return {"duration": duration, "segments": segments}
