"""Measure counting on clips that are joined end to end: mean absolute error, and off-by-one accuracy.

    python benchmarks/counting.py clips FOLDER --backbone lite0 --streams 12
    python benchmarks/counting.py world --backbone lite0 --streams 12

`clips` takes FOLDER/ACTION/CLIP. A clip may repeat its action; its period is that of its pixels (`period`), so the
truth does not rest on the recogniser. In turn, each clip's name (a person, as in `person1.mp4`) is enrolled with one
other, by the first repetition of each clip. The clips of the other names are cut to whole repetitions and joined in
random order until there are 5 to 12 repetitions. `world` renders actions of the generated world; each repetition has
its own speed, 0.7 to 1.4 times that of the example.

The mean absolute error is |found - true| / true; off by one is the share of streams with |found - true| <= 1. These are
the usual measures of repetition counting.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from fsar import Recognizer
from fsar.datasets.world import FRAMES_PER_SECOND, render_clip
from fsar.datasets.world_actions import ACTIONS
from fsar.video.picture import Frames
from fsar.video.reading import probe, read_frames
from fsar.video.writing import write_video


def at_speed(frames: Frames, speed: float) -> Frames:
    """Take frames so that a clip lasts 1 / speed times as long."""
    count = max(4, round(len(frames) / speed))
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]


def period(frames: Frames) -> int:
    """Frames per repetition: the first lag at which the pictures resemble the first ones again; all if none does."""
    grey = frames.astype(float).mean(-1)[:, ::4, ::4].reshape(len(frames), -1)
    apart = ((grey[:, None] - grey[None]) ** 2).mean(-1)
    by_lag = np.array([apart.diagonal(lag).mean() for lag in range(len(frames) - 3)])
    far = by_lag.max()
    for lag in range(8, len(by_lag) - 1):
        if by_lag[lag] <= min(by_lag[lag - 1], by_lag[lag + 1]) and by_lag[lag] < 0.6 * far:
            return lag
    return len(frames)


def of_clips(folder: Path, backbone: str, index: int, rng: random.Random, out: Path):
    """Recogniser, stream, action, number of repetitions: clips of persons that are not enrolled."""
    actions = sorted(each.name for each in folder.iterdir() if each.is_dir())
    action = actions[index % len(actions)]
    names = sorted({path.name for path in folder.glob("*/*.*")})
    known = {names[index // len(actions) % len(names)], names[(index // len(actions) + 1) % len(names)]}
    recognizer = Recognizer(backbone)
    for name in actions:
        for path in sorted((folder / name).iterdir()):
            if path.name in known:
                frames, one = read_frames(path, None), out.parent / f"{name}-{path.stem}.mp4"
                write_video(one, frames[: period(frames)], probe(path).fps)
                recognizer.enroll(name, [one])
    rest = [path for path in sorted((folder / action).iterdir()) if path.name not in known]
    joined, count, wanted = [], 0, rng.randint(5, 12)
    while count < wanted:
        frames = read_frames(rng.choice(rest), None)
        length = period(frames)
        times = min(max(1, round(len(frames) / length)), wanted - count)
        joined += list(frames[: times * length])
        count += times
    write_video(out, joined, probe(rest[0]).fps)
    return recognizer, action, count


def of_world(backbone: str, index: int, rng: random.Random, out: Path):
    """Recogniser, stream, action, number of repetitions: rendered clips at changing speed."""
    chosen = [action for action in ACTIONS if action.split == "test"][:6]
    recognizer = Recognizer(backbone)
    for action in chosen:
        paths = [out.parent / f"{action.name}{i}.mp4" for i in range(2)]
        for i, path in enumerate(paths):
            if not path.exists():
                write_video(path, render_clip(action, i), FRAMES_PER_SECOND)
        recognizer.enroll(action.name, paths)
    action, count = chosen[index % len(chosen)], rng.randint(3, 8)
    clip = render_clip(action, 10 + index)
    frames = [frame for _ in range(count) for frame in at_speed(clip, rng.uniform(0.7, 1.4))]
    write_video(out, frames, FRAMES_PER_SECOND)
    return recognizer, action.name, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["clips", "world"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--backbone", default="lite0")
    parser.add_argument("--streams", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, errors, close, seconds = random.Random(options.seed), [], [], 0.0
    with tempfile.TemporaryDirectory() as home:
        for index in range(options.streams):
            out = Path(home) / f"stream{index}.mp4"
            if options.kind == "clips":
                recognizer, action, true = of_clips(options.folder, options.backbone, index, rng, out)
            else:
                recognizer, action, true = of_world(options.backbone, index, rng, out)
            begun = time.process_time()
            found = recognizer.count(out, action)
            seconds += time.process_time() - begun
            errors.append(abs(len(found) - true) / true)
            close.append(abs(len(found) - true) <= 1)
            print(f"{action:40} true {true}, found {len(found)}", flush=True)
    print(
        f"mean absolute error {np.mean(errors):.2f}, off by one {np.mean(close):.0%} of {len(errors)} streams; ", end=""
    )
    print(f"{seconds / len(errors):.1f} s of processor time per stream")


if __name__ == "__main__":
    main()
