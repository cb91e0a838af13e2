"""Measure time and memory of reading videos: short, long and 8K.

    python benchmarks/video.py [--folder FOLDER] [--only NAME ...]

Each measurement runs in its own process: seconds of the wall clock, and peak memory minus the memory of imports. The
files are made first and kept in the folder; the long ones take minutes to make.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

FILES: dict[str, tuple[int, int, int, dict[str, str]]] = {
    "ten seconds of 320 x 240": (320, 240, 250, {"g": "60"}),
    "five minutes of 1280 x 720": (1280, 720, 9000, {"g": "60"}),
    "100,000 frames of 320 x 240": (320, 240, 100_000, {"g": "60"}),
    "an hour of 640 x 360": (640, 360, 108_000, {"g": "60"}),
    "16 frames of 7680 x 4320": (7680, 4320, 16, {"g": "8"}),
}
"""Name -> width, height, frames, options of the encoder."""

CODE = """
import os, resource, sys, time
from pathlib import Path
from fsar.video import FrameCache, probe, read_frames
import fsar.video.transforms
path, what = Path(sys.argv[1]), sys.argv[2]
read_frames(Path(sys.argv[3]), 2)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, begun = peak(), time.perf_counter()
if what == "probe": probe(path)
if what == "read": read_frames(path, 8)
if what == "again": read_frames(path, 8); begun = time.perf_counter(); read_frames(path, 8)
if what == "cache": FrameCache(Path(os.environ["FSAR_CACHE"]) / "frames").read(path)
print(f"{time.perf_counter() - begun:.2f} {peak() - before:.0f}")
"""


def make(path: Path, width: int, height: int, frames: int, options: dict[str, str]) -> None:
    """Write an H.264 file of a square that moves over texture."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 120, (height, width, 3)).astype(np.uint8)
    side = height // 4
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "30"} | options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            pixels = ground.copy()
            x, y = 4 * i % (width - side), 2 * i % (height - side)
            pixels[y : y + side, x : x + side] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def measured(path: Path, what: str, warm_up: Path) -> tuple[str, str]:
    """Measure seconds and megabytes of one way to read a file, in a new process with a new cache."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-c", CODE, path, what, warm_up],
            env=os.environ | {"FSAR_CACHE": cache},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return "failed", done.stderr.strip().splitlines()[-1]
    seconds, megabytes = done.stdout.split()
    return seconds, megabytes


def main() -> None:
    """Print one row per file and way to read it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fsar-benchmark-videos")
    parser.add_argument("--only", nargs="+", choices=list(FILES), default=list(FILES))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    warm_up = options.folder / "warm-up.mp4"
    make(warm_up, 64, 48, 3, {})
    print("| file | way | seconds | memory, MB |\n|---|---|---:|---:|")
    for name in options.only:
        path = options.folder / f"{name.replace(' ', '-').replace(',', '')}.mp4"
        if not path.exists():
            begun = time.perf_counter()
            make(path, *FILES[name])
            print(f"made {path.name} in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        for what in ("probe", "read", "again", "cache"):
            print(f"| {name} | {what} | {' | '.join(measured(path, what, warm_up))} |", flush=True)


if __name__ == "__main__":
    main()
