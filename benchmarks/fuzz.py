"""Break small videos of every container in many ways, and read them: allowed are only frames or a VideoError.

    python benchmarks/fuzz.py [--mutations 10000] [--only N --keep FILE]

Mutation N depends only on its number. Each mutation is read in a worker process. A crash, more than 20 seconds, more
than 1 GB, or another exception than VideoError is a failure; the exit code is then 1. `--only N` makes one mutation
again and keeps its file.
"""

import argparse
import multiprocessing
import os
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

SECONDS, MEGABYTES = 20.0, 1024.0
FRAMES, SIDE = 14, 64
"""Of the files that are broken. The encoder x265 writes beyond its memory if a picture is narrower than 64 pixels."""

SEEDS: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "h264.mp4": ("libx264", "yuv420p", {"g": "5", "bf": "2"}, {}),
    "fragments.mp4": ("libx264", "yuv420p", {"g": "5"}, {"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mov": ("libx265", "yuv420p", {"x265-params": "keyint=5:log-level=none"}, {"movflags": "faststart"}),
    "mpeg4.mp4": ("mpeg4", "yuv420p", {"g": "5", "bf": "2"}, {}),
    "av1.mp4": ("libsvtav1", "yuv420p", {"g": "5", "preset": "12"}, {}),
    "h264.mkv": ("libx264", "yuv420p", {"g": "5"}, {}),
    "vp8.webm": ("libvpx", "yuv420p", {"g": "5", "cpu-used": "8"}, {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"g": "5", "cpu-used": "8"}, {}),
    "ffv1.mkv": ("ffv1", "yuv444p", {}, {}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "5"}, {}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}, {}),
    "h264.ts": ("libx264", "yuv420p", {"g": "5"}, {}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"g": "5", "bf": "2"}, {}),
    "h264.flv": ("libx264", "yuv420p", {"g": "5"}, {}),
    "wmv2.wmv": ("wmv2", "yuv420p", {"g": "5"}, {}),
    "vp9.ivf": ("libvpx-vp9", "yuv420p", {"g": "5", "cpu-used": "8"}, {}),
    "raw.h264": ("libx264", "yuv420p", {"g": "5"}, {}),
    "mpeg2.mxf": ("mpeg2video", "yuv420p", {"g": "5"}, {}),
    "h264.nut": ("libx264", "yuv420p", {"g": "5"}, {}),
    "a.gif": ("gif", "rgb8", {}, {}),
    "a.apng": ("apng", "rgb24", {}, {}),
    "motion.mjpeg": ("mjpeg", "yuvj420p", {}, {}),
}
IMAGES = ("a.webp", "frames")
"""Read by Pillow: an animated image, and a folder of frames of which one is broken."""


class Outcome(NamedTuple):
    """The outcome of reading a mutation."""

    number: int
    name: str
    """Of the file it was made from."""
    kind: str
    """`frames`, `VideoError`, or the failure."""
    seconds: float
    megabytes: float
    """Peak of the memory in use."""

    @property
    def failed(self) -> bool:
        """Whether this is a failure."""
        return self.kind not in ("frames", "VideoError") or self.seconds > SECONDS or self.megabytes > MEGABYTES


# --------------------------------------------------------------------------- files and mutations


def pictures() -> np.ndarray:
    """Make frames [frame, height, width, rgb] of a square that moves over noise."""
    frames = np.random.default_rng(0).integers(0, 90, (1, SIDE, SIDE, 3)).repeat(FRAMES, 0).astype(np.uint8)
    for i, frame in enumerate(frames):
        frame[10:26, 2 * i : 2 * i + 16] = 200
    return frames


def write_seeds(folder: Path) -> dict[str, bytes]:
    """Make the files to break: name -> content."""
    from PIL import Image

    made = {}
    for name, (codec, pix_fmt, options, muxer) in SEEDS.items():
        with av.open(os.fspath(folder / name), "w", options=muxer) as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, pix_fmt
            for pixels in pictures():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        made[name] = (folder / name).read_bytes()
    planes = (av.VideoFrame.from_ndarray(frame, format="rgb24").to_ndarray(format="yuv420p") for frame in pictures())
    head = f"YUV4MPEG2 W{SIDE} H{SIDE} F25:1 Ip A1:1 C420jpeg\n".encode()
    made["a.y4m"] = head + b"".join(b"FRAME\n" + plane.tobytes() for plane in planes)
    first, *others = [Image.fromarray(frame) for frame in pictures()]
    first.save(folder / "a.webp", save_all=True, append_images=others, duration=100)
    made["a.webp"] = (folder / "a.webp").read_bytes()
    for i, name in enumerate(("frame.jpg", "frame.png")):
        first.save(folder / name)
        made[f"frames/{i}{name[5:]}"] = (folder / name).read_bytes()
    return made


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(0, len(data), rng.integers(1, 40)):
        data[at] ^= 1 << int(rng.integers(8))


def _overwrite(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _run(data, rng)
    data[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes() if rng.random() < 0.7 else bytes(size)


def _cut_end(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(1, len(data) + 1)) :]


def _cut_out(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _run(data, rng)
    del data[at : at + size]


def _double(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _run(data, rng)
    data[at:at] = data[at : at + size]


def _move(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _run(data, rng)
    piece = data[at : at + size]
    del data[at : at + size]
    to = int(rng.integers(0, len(data) + 1))
    data[to:to] = piece


def _shuffle_boxes(data: bytearray, rng: np.random.Generator) -> None:
    """Put the parts of a file in another order: boxes of the top level, or equal pieces."""
    parts, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or at + size > len(data) or not data[at + 4 : at + 8].isalnum():
            break
        parts.append(data[at : at + size])
        at += size
    if len(parts) < 2:
        step = max(1, len(data) // 7)
        parts, at = [data[i : i + step] for i in range(0, len(data), step)], len(data)
    rest = data[at:]
    data[:] = b"".join(bytes(parts[i]) for i in rng.permutation(len(parts))) + bytes(rest)


def _lie(data: bytearray, rng: np.random.Generator) -> None:
    """Write an extreme number at a place of a size or count."""
    numbers = [0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 60_000, 1 << 24]
    for _ in range(int(rng.integers(1, 6))):
        value, at = numbers[int(rng.integers(len(numbers)))], int(rng.integers(0, len(data)))
        form = [">I", "<I", ">H", "<H", "B"][int(rng.integers(5))]
        bits = 8 * struct.calcsize(form)
        packed = struct.pack(form, value & ((1 << bits) - 1))
        data[at : at + len(packed)] = packed


def _run(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    """Choose a place and a length, mostly short."""
    at = int(rng.integers(0, len(data)))
    return at, min(len(data) - at, int(rng.integers(1, 1 + 2 ** int(rng.integers(1, 12)))))


OPERATIONS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    *(_flip, _overwrite, _cut_end, _cut_out),
    *(_double, _move, _shuffle_boxes, _lie, _lie),
)


def mutated(seeds: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """Make mutation `number`: the name of its file and its content."""
    rng = np.random.default_rng(number)
    name = sorted(seeds)[int(rng.integers(len(seeds)))]
    data = bytearray(seeds[name])
    head = bytearray(data[: int(rng.integers(32, 600))]) if rng.random() < 0.3 else None  # often only the headers
    target = data if head is None else head
    for _ in range(int(rng.integers(1, 4))):
        if target:
            OPERATIONS[int(rng.integers(len(OPERATIONS)))](target, rng)
    if head is not None:
        data[: min(len(data), 600)] = head
    return name, bytes(data)


# --------------------------------------------------------------------------- reading


def read(path: Path) -> None:
    """Read a video in every way."""
    from fsar.video.reading import probe, read_frames, stream_frames

    probe(path)
    read_frames(path, 8)
    read_frames(path, 3, "time", short_side=16)
    for _ in stream_frames(path, 16):
        pass


def serve(connection: Connection, seeds: dict[str, bytes], folder: Path) -> None:
    """Read the mutations whose numbers arrive; runs in its own process."""
    os.environ["FSAR_CACHE"] = str(folder / "cache")
    from fsar.video.paths import VideoError

    while (number := connection.recv()) is not None:
        name, content = mutated(seeds, number)
        path = folder / f"{number}-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        _forget_peak()
        begun = time.monotonic()
        try:
            read(path.parent if "/" in name else path)
            kind = "frames"
        except VideoError:
            kind = "VideoError"
        except BaseException as error:
            kind = f"{type(error).__name__}: {error}"
        connection.send(Outcome(number, name, kind, time.monotonic() - begun, _peak()))
        path.unlink()
        if "/" in name:
            path.parent.rmdir()


def _forget_peak() -> None:
    """Reset the peak of the memory in use."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak of all mutations so far is told
        return


def _peak() -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


def run(numbers: Iterable[int], seeds: dict[str, bytes], folder: Path) -> Iterable[Outcome]:
    """Read mutations in a worker; one that crashes or hangs is replaced.

    Args:
        numbers: of the mutations.
        seeds: the files they are made from.
        folder: for the mutations; files stay there only after a crash.
    """
    context = multiprocessing.get_context("spawn")
    worker, ours = None, None
    for number in numbers:
        if worker is None or ours is None:
            ours, theirs = context.Pipe()
            worker = context.Process(target=serve, args=(theirs, seeds, folder), daemon=True)
            worker.start()
            theirs.close()
        ours.send(number)
        begun = time.monotonic()
        outcome = None
        try:
            if ours.poll(SECONDS + 40):  # the first mutation waits for imports
                outcome = ours.recv()
        except (EOFError, ConnectionResetError):
            outcome = None
        if outcome is None:
            worker.kill()
            worker.join()
            took = time.monotonic() - begun
            kind = "hang" if took > SECONDS else f"crash (exit status {worker.exitcode})"
            outcome = Outcome(number, mutated(seeds, number)[0], kind, took, 0.0)
            worker = None
        yield outcome
    if worker is not None and ours is not None:
        ours.send(None)
        worker.join(10)


def main() -> int:
    """Run all mutations; print what failed and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--only", type=int, help="number of one mutation to make again")
    parser.add_argument("--keep", type=Path, help="file for this mutation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = write_seeds(Path(folder))
        if options.only is not None and options.keep is not None:
            options.keep.write_bytes(mutated(seeds, options.only)[1])
        numbers = range(options.mutations) if options.only is None else [options.only]
        kinds: Counter[str] = Counter()
        slowest = largest = 0.0
        failures = 0
        for outcome in run(numbers, seeds, Path(folder)):
            kinds[outcome.kind.partition(":")[0]] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
            if outcome.failed:
                failures += 1
                print(f"failed: {outcome}", flush=True)
            if sum(kinds.values()) % 1000 == 0:
                print(f"{sum(kinds.values()):,} mutations, {failures} failures", file=sys.stderr, flush=True)
    counts = ", ".join(f"{kind}: {count:,}" for kind, count in kinds.most_common())
    print(f"{sum(kinds.values()):,} mutations of {len(seeds)} files: {counts}")
    print(f"{failures} failures; slowest {slowest:.1f} s, most memory {largest:.0f} MB")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
