"""Measure the recogniser: cost for growing numbers of examples, accuracy on any folder of clips.

    python benchmarks/recogniser.py cost --actions 10 --examples 5 10 50
    python benchmarks/recogniser.py clips FOLDER --backbone lite0 --shots 2 5 --draws 3 --near 2 --far unclassified

`cost` needs no videos: a stand-in for a backbone gives random features of lite0's sizes. It prints processor seconds on
one thread, so other work on the machine does not count: to fit, to add one example and answer, and to answer again. An
answer includes the encoding by the stand-in; the next column says how long the encoding takes.

`clips` reads FOLDER/ACTION/CLIP. Each draw enrols random examples and predicts the remaining clips. `--near N` leaves
N random actions out; their clips should be answered "unknown". `--far ACTION` is never enrolled, and its clips should
always be answered "unknown". The table shows the rates that the recogniser promises (by leave-one-out) beside the
measured ones.
"""

import argparse
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from fsar import Recognizer, load_backbone, load_folder
from fsar.backbones import Backbone
from fsar.backbones.base import ImageEncoding
from fsar.datasets import VideoDataset
from fsar.recognizer import UNKNOWN, Score

Value = TypeVar("Value")


class StandIn(Backbone):
    """A backbone that gives random features of lite0's sizes; equal images give equal features."""

    def __init__(self) -> None:
        super().__init__("stand-in")
        self.dim, self.image_size, self.mean, self.std = 1280, 32, (0.5,) * 3, (0.5,) * 3

    def encode_images(self, images: torch.Tensor) -> ImageEncoding:
        """Seed the generator with the image."""
        made = []
        for image in images:
            generator = torch.Generator().manual_seed(int(image.double().sum().abs() * 1e6))
            made.append(torch.rand(7, 7, self.dim, generator=generator))
        maps = torch.stack(made)
        return ImageEncoding(maps.mean((1, 2)), maps)


def timed(work: Callable[[], Value]) -> tuple[Value, float]:
    """Call `work`; return its value and the processor seconds."""
    start = time.process_time()
    value = work()
    return value, time.process_time() - start


def cost(options: argparse.Namespace) -> None:
    """Print one line for each number of examples."""
    rng = np.random.default_rng(0)

    def clip() -> np.ndarray:
        return rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)

    torch.set_num_threads(1)
    print("| actions x examples | fit, s | one more and answer, s | answer, ms | of which encoding | file, MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for count in options.examples:
        recogniser = Recognizer(StandIn())
        names = [f"action {i}" for i in range(options.actions)]
        for name in names:
            recogniser.enroll(name, [clip() for _ in range(count)])
        query, inputs = clip(), torch.rand(8, 3, 32, 32)
        _, fitting = timed(recogniser.fit)
        recogniser.predict(query)
        _, ten = timed(partial(ten_times, recogniser.predict, query))
        _, encoding = timed(partial(ten_times, recogniser.method.encode, inputs))
        recogniser.enroll(names[0], clip())
        _, again = timed(partial(recogniser.predict, query))
        with tempfile.TemporaryDirectory() as folder:
            recogniser.save(Path(folder) / "mine.fsar")
            size = (Path(folder) / "mine.fsar").stat().st_size / 1e6
        cells = (f"{fitting:.2f}", f"{again:.2f}", f"{100 * ten:.0f}", f"{100 * encoding:.0f}", f"{size:.0f}")
        print(f"| {options.actions} x {count} | {' | '.join(cells)} |", flush=True)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB")


def ten_times(work: Callable[[Value], object], value: Value) -> None:
    """Predict ten clips."""
    for _ in range(10):
        work(value)


class Draw(NamedTuple):
    """Rates of one draw, from 0 to 1; None if no such clip was predicted."""

    top1: float | None
    right: float | None
    missed: float | None
    near: float | None
    far: float | None
    promised: float | None
    promised_missed: float | None
    promised_accepted: float | None


def draw(dataset: VideoDataset, backbone: Backbone, shot: int, seed: int, near: int, far: Sequence[str]) -> Draw:
    """Enrol `shot` clips of each action and predict all others."""
    rng = random.Random(seed)
    actions = [label for label in dataset.classes if label not in far]
    strange = rng.sample(actions, near)
    enrolled = [label for label in actions if label not in strange]
    recogniser = Recognizer(backbone)
    asked = []
    for label in enrolled:
        clips = [video for video in dataset.videos if video.label == label]
        rng.shuffle(clips)
        recogniser.enroll(label, clips[:shot])
        asked += [(label, clip) for clip in clips[shot:]]
    fit = recogniser.fit()

    def answers(pairs: Sequence[tuple[str, object]]) -> Score:
        found = recogniser.predict_many([clip for _, clip in pairs])  # type: ignore[misc]
        return Score([(label, answer) for (label, _), answer in zip(pairs, found, strict=True)])  # type: ignore[misc]

    known = answers(asked)
    right = sum(answer.best == label for label, answer in known.answers) / len(known.answers)
    strangers = [[(UNKNOWN, video) for video in dataset.videos if video.label in labels] for labels in (strange, far)]
    accepted = [answers(pairs).unknown_accepted for pairs in strangers]
    promised = fit.accuracy, fit.known_missed, fit.unknown_accepted
    return Draw(right, known.accuracy, known.known_missed, *accepted, *promised)


def clips(options: argparse.Namespace) -> None:
    """Print one line for each number of examples: the mean over draws, and each draw in brackets."""
    dataset, backbone = load_folder(options.folder), load_backbone(options.backbone)
    print(
        "| examples | top-1 | right with unknown | called unknown | near strangers accepted | far strangers accepted "
        "| promised: right | called unknown | strangers accepted |"
    )
    print("|---:|" + "---:|" * 8)
    for shot in options.shots:
        draws = [draw(dataset, backbone, shot, seed, options.near, options.far) for seed in range(options.draws)]
        cells = []
        for values in zip(*draws, strict=True):
            there = [100 * value for value in values if value is not None]
            each = " ".join(f"{value:.0f}" for value in there)
            cells.append(f"{statistics.mean(there):.0f} ({each})" if there else "")
        print(f"| {shot} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    costs = parts.add_parser("cost")
    costs.add_argument("--actions", type=int, default=10)
    costs.add_argument("--examples", type=int, nargs="+", default=[5, 10, 50])
    costs.set_defaults(run=cost)
    asks = parts.add_parser("clips")
    asks.add_argument("folder", type=Path)
    asks.add_argument("--backbone", default="lite0")
    asks.add_argument("--shots", type=int, nargs="+", default=[2, 5])
    asks.add_argument("--draws", type=int, default=3)
    asks.add_argument("--near", type=int, default=0, help="how many random actions to leave out as strangers")
    asks.add_argument("--far", nargs="*", default=[], help="folders that are always strangers")
    asks.set_defaults(run=clips)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
