"""Write small copies of a benchmark's videos: H.264 files or folders of JPEG frames, short side at most 256 pixels.

A copy keeps every frame and the frame rate, so sampling chooses the same frames from copy and source. A copy is
written whole or not at all, and whole copies are kept. So a killed run resumes, and the files do not depend on the
number of workers.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image

from fsar.datasets.benchmarks import Listed, benchmark
from fsar.files import atomic_path, write_text_atomic
from fsar.names import unknown
from fsar.progress import ahead, progress_bar
from fsar.video.frame_cache import SHORT_SIDE
from fsar.video.paths import VideoError, display
from fsar.video.reading import probe, stream_frames
from fsar.video.writing import write_video

FORMS = ("mp4", "jpg")
VERSION = 1  # increase it with every change to the copies
_FRAMES_PER_SECOND = 30.0  # for folders of frames, which name no rate
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did."""

    benchmark: str
    out: Path
    written: int
    """Videos written by this run."""
    present: int
    """Copies that an earlier run wrote."""
    left_out: Mapping[str, str]
    """Videos that could not be read: id -> path and reason."""
    missing: tuple[str, ...]
    """Ids of listed videos that are not below the root."""
    bytes_before: int
    """Size of the sources of all copies."""
    bytes_after: int
    seconds: float

    def text(self) -> str:
        """Sum up in a few lines."""
        lines = [
            f"{self.written} videos written, {self.present} already there, {len(self.left_out)} left out, "
            f"{len(self.missing)} not found, in {self.seconds:.0f} s",
            f"{self.bytes_before / 1e6:,.1f} MB before, {self.bytes_after / 1e6:,.1f} MB after",
            f"to use the copies: --benchmark {self.benchmark} --data {display(self.out)}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Step:
    """The outcome for one video."""

    id: str
    written: bool
    bytes_before: int = 0
    bytes_after: int = 0
    error: VideoError | None = None


def prepare(
    name: str,
    root: Path,
    out: Path,
    form: str = "mp4",
    on_error: str = "stop",
    workers: int | None = None,
    progress: bool = True,
) -> Prepared:
    """Write small copies of a benchmark's videos, each to `out/label/id.mp4` or as frames into `out/label/id/`.

    Args:
        name: of the benchmark.
        root: folder with the videos, as downloaded.
        out: a folder outside of `root`.
        form: `mp4` (H.264) or `jpg` (a folder of frames per video).
        on_error: `stop` at a video that cannot be read, or `skip` it and name it in the result.
        workers: threads; by default one per core.
        progress: show a progress bar.

    Returns:
        What was written, left out and missing.

    Raises:
        VideoError: a broken video, with `on_error="stop"`.
        ValueError: an unknown name, form or on_error; no workers; no video of the benchmark below `root`; one folder
            within the other; `out` holds another form.
        OSError: `out` cannot be written, or its disk is full.
    """
    if form not in FORMS:
        raise ValueError(unknown(form, FORMS, "form"))
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error is {on_error!r}; expected stop or skip")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1")
    begun = time.perf_counter()
    chosen = benchmark(name)
    _require_apart(root, out)
    listed = chosen.listed(root)
    there = [video for video in listed if video.path is not None]
    if not there:
        raise ValueError(f"no video of {chosen.name} is below {display(root)}; check the folder")
    _claim(out, form)
    steps = ahead(partial(_prepare_one, out=out, form=form), there, workers or os.cpu_count() or 1)
    done = []
    for step in progress_bar(steps, "prepare", "video", len(there), progress):
        if step.error is not None and on_error == "stop":
            raise step.error
        done.append(step)
    kept = [step for step in done if step.error is None]
    return Prepared(
        benchmark=chosen.name,
        out=out,
        written=sum(step.written for step in kept),
        present=sum(not step.written for step in kept),
        left_out={step.id: str(step.error) for step in done if step.error is not None},
        missing=tuple(f"{video.label}/{video.id}" for video in listed if video.path is None),
        bytes_before=sum(step.bytes_before for step in kept),
        bytes_after=sum(step.bytes_after for step in kept),
        seconds=time.perf_counter() - begun,
    )


def _prepare_one(video: Listed, out: Path, form: str) -> _Step:
    assert video.path is not None
    folder = out / video.label
    target = folder / (video.id if form == "jpg" else f"{video.id}.mp4")
    name = f"{video.label}/{video.id}"
    written = not _is_whole(target)
    try:
        if written:
            (_write_frames if form == "jpg" else _transcode)(video.path, target)
    except VideoError as error:
        return _Step(name, False, error=error)
    return _Step(name, written, _size(video.path), _size(target))


def _is_whole(target: Path) -> bool:
    """Whether the copy exists and can be opened; a full disk may have cut it short."""
    try:
        probe(target)
    except VideoError:
        return False
    return True


def _transcode(source: Path, target: Path) -> None:
    info = probe(source)
    write_video(target, stream_frames(source, SHORT_SIDE), info.fps or _FRAMES_PER_SECOND)


def _write_frames(source: Path, target: Path) -> None:
    probe(source)  # refuses a source that is cut short
    shutil.rmtree(target, ignore_errors=True)  # an incomplete copy
    with atomic_path(target) as temporary:
        try:
            temporary.mkdir()
            for number, frame in enumerate(stream_frames(source, SHORT_SIDE), start=1):
                picture = BytesIO()  # in memory first: Pillow does not report a full disk
                Image.fromarray(frame).save(picture, "jpeg", quality=_JPEG_QUALITY)
                (temporary / f"{number:06d}.jpg").write_bytes(picture.getvalue())
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _require_apart(root: Path, out: Path) -> None:
    inner, outer = out.resolve(), root.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ValueError(
            f"{display(out)} and {display(root)} lie within each other, so every video would be found twice; "
            f"give an output folder outside"
        )


def _claim(out: Path, form: str) -> None:
    """Record the form of a folder's copies; refuse a folder with copies of another form."""
    file = out / "prepared.json"
    wanted = {"form": form, "short_side": SHORT_SIDE, "version": VERSION}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_text_atomic(file, json.dumps(wanted))
        return
    except (OSError, ValueError) as error:
        raise ValueError(f"{display(file)}: cannot be read ({error}); give another output folder") from error
    if found != wanted:
        raise ValueError(f"{display(out)} holds videos prepared as {found}, not {wanted}; give another output folder")
