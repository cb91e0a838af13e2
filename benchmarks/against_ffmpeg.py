"""Compare the reader with the program ffmpeg on 200 generated files: number of frames, and pixels of chosen frames.

    python benchmarks/against_ffmpeg.py [--files 200] [--keep FOLDER] [--ffmpeg PROGRAM]

The files combine codec and container, rotation and mirror, pixel shape, a constant or varying rate, and damage. The
project does not need ffmpeg; without it, this script only says so. The exit code is 1 if a file differs.

If ffmpeg and PyAV's libraries have different versions, they may decode damage differently: newer versions drop pictures
of H.265 and AV1 that need a lost one.
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from fsar.video.paths import VideoError
from fsar.video.reading import probe, read_frames
from fsar.video.sampling import frame_indices

WIDTH, HEIGHT, FRAMES, COUNT = 96, 64, 40, 8
MOST = 4.0
"""Allowed mean difference of pixels in [0, 255]: ffmpeg scales colours with another filter."""

CODECS = [
    *(("mp4", "libx264"), ("mov", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("flv", "libx264")),
    *(("mp4", "libx265"), ("mp4", "libsvtav1"), ("webm", "libvpx"), ("webm", "libvpx-vp9")),
    *(("mp4", "mpeg4"), ("avi", "mpeg4"), ("mpg", "mpeg2video"), ("wmv", "wmv2"), ("avi", "mjpeg"), ("mkv", "ffv1")),
]
OPTIONS = {
    "libx264": {"g": "10", "bf": "2"},
    "libx265": {"x265-params": "keyint=10:log-level=none"},
    "libsvtav1": {"g": "10", "preset": "12"},
    "libvpx": {"g": "10", "cpu-used": "8"},
    "libvpx-vp9": {"g": "10", "cpu-used": "8"},
    "mpeg4": {"g": "10", "q": "2"},
    "mpeg2video": {"g": "10", "bf": "2"},
}
MATRICES = {
    "as stored": None,
    "clockwise": (0, 1, -1, 0),
    "half a turn": (-1, 0, 0, -1),
    "counter-clockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
}
DAMAGE = ("none", "a packet", "200 bytes")


class Case(NamedTuple):
    """Properties of a file."""

    suffix: str
    codec: str
    turn: str
    shape: Fraction
    """Width of a pixel over its height."""
    varying: bool
    """Whether its rate varies."""
    damage: str

    def __str__(self) -> str:
        rate = "varying rate" if self.varying else "steady rate"
        return f"{self.codec} in {self.suffix}, {self.turn}, pixels {self.shape}, {rate}, damage: {self.damage}"


def cases() -> list[Case]:
    """Return all combinations that are possible."""
    found = []
    shapes = (Fraction(1), Fraction(4, 3), Fraction(8, 9))
    for (suffix, codec), turn, shape, varying, damage in product(CODECS, MATRICES, shapes, (False, True), DAMAGE):
        if turn != "as stored" and suffix not in ("mp4", "mov"):
            continue
        if shape != 1 and suffix in ("flv", "wmv", "avi"):
            continue
        if varying and suffix not in ("mp4", "mov", "mkv", "webm"):
            continue
        found.append(Case(suffix, codec, turn, shape, varying, damage))
    return found


def pictures() -> np.ndarray:
    """Make frames [frame, height, width, rgb] without symmetry; each has a bar at another place."""
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    frames[..., 0], frames[..., 1] = across * 2, down * 3
    for i, frame in enumerate(frames):
        frame[8:24, 2 * i : 2 * i + 14] = (240, 240, 240)
        frame[44:60, 80 - 2 * i : 92 - 2 * i] = (20, 20, 250)
    return frames


def make(path: Path, case: Case, number: int) -> None:
    """Write one file."""
    rng = np.random.default_rng(number)
    times = np.cumsum(rng.integers(10, 200, FRAMES)) if case.varying else np.arange(FRAMES) * 40
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream(case.codec, rate=25, options=OPTIONS.get(case.codec, {}))
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = {"mjpeg": "yuvj420p", "ffv1": "yuv444p"}.get(case.codec, "yuv420p")
        stream.codec_context.sample_aspect_ratio = case.shape
        if case.varying:
            stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, time in zip(pictures(), times.tolist(), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if case.varying:
                frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    if (matrix := MATRICES[case.turn]) is not None:
        at = content.index(b"tkhd") + 44
        a, b, c, d = (value << 16 for value in matrix)
        content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    damage(path, content, case, rng)
    path.write_bytes(content)


def damage(path: Path, content: bytearray, case: Case, rng: np.random.Generator) -> None:
    """Overwrite a packet, or 200 bytes within the packets."""
    if case.damage == "none":
        return
    with av.open(os.fspath(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    packet = packets[int(rng.integers(5, FRAMES - 5))]
    at = bytes(content).find(packet)
    if at < 0:  # containers that cut packets into pieces
        at = len(content) // 2
    size = len(packet) if case.damage == "a packet" else 200
    size = min(size, len(content) - at)
    content[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()


# --------------------------------------------------------------------------- comparing


def by_ffmpeg(program: str, path: Path, width: int, height: int) -> np.ndarray:
    """Decode every frame with ffmpeg, scaled to a size: [frame, height, width, rgb]."""
    command = [program, "-v", "quiet", "-threads", 1, "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-vf", f"scale={width}:{height}:flags=bilinear", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(list(map(str, command)), capture_output=True, check=False).stdout
    return np.frombuffer(raw, np.uint8)[: len(raw) // (width * height * 3) * (width * height * 3)].reshape(
        -1, height, width, 3
    )


def compare(program: str, path: Path) -> str:
    """Describe how a file differs; empty if it does not, `refused` with the reason if the reader refuses it."""
    try:
        info = probe(path)
        frames = read_frames(path, COUNT)
    except VideoError as error:
        return f"refused ({len(by_ffmpeg(program, path, WIDTH, HEIGHT))} frames by ffmpeg): {error.reason}"
    other = by_ffmpeg(program, path, info.width, info.height)
    if len(other) != info.frames:
        return f"{info.frames} frames, {len(other)} by ffmpeg"
    chosen = other[frame_indices(len(other), COUNT)]
    differences = np.abs(frames.astype(int) - chosen).mean((1, 2, 3))
    if differences.max() > MOST:
        return f"pixels differ by up to {differences.max():.1f} of 255 on average"
    return ""


def main() -> int:
    """Compare all files; print those that differ and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="folder for files that differ")
    parser.add_argument("--ffmpeg", default="ffmpeg", help="the program to compare with")
    options = parser.parse_args()
    if shutil.which(options.ffmpeg) is None:
        print("skipped: the program ffmpeg was not found")
        return 0
    every = cases()
    chosen = np.random.default_rng(0).permutation(len(every))[: options.files]
    same = refused = 0
    different = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FSAR_CACHE"] = str(Path(folder) / "cache")
        for number in chosen.tolist():
            case = every[number]
            path = Path(folder) / f"{number}.{case.suffix}"
            make(path, case, number)
            said = compare(options.ffmpeg, path)
            same, refused = same + (said == ""), refused + said.startswith("refused")
            if said:
                print(f"{number}: {case}: {said}", flush=True)
            if said and not said.startswith("refused"):
                different.append(number)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, options.keep)
            path.unlink()
    print(f"{len(chosen)} of {len(every)} kinds: {same} the same, {refused} refused, {len(different)} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
