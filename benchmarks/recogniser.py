"""Measure the recogniser: cost for growing numbers of examples, accuracy on any folder of clips.

    python benchmarks/recogniser.py cost --actions 10 --examples 5 10 50
    python benchmarks/recogniser.py clips FOLDER --backbone lite0 --shots 2 5 --draws 3 --near 2 --far unclassified
    python benchmarks/recogniser.py still FOLDER --shots 3 --draws 3 --far unclassified

`cost` needs no videos: a stand-in for a backbone gives random features of lite0's sizes. It prints processor seconds on
one thread, so other work on the machine does not count: to fit, to add one example and answer, and to answer again. An
answer includes the encoding by the stand-in; the next column says how long the encoding takes.

`clips` takes FOLDER/ACTION/CLIP. Each draw enrols other examples and asks the remaining clips. `--near N` leaves N
random actions out and asks them as strangers; `--far ACTION` is never enrolled and always asked. "At 90 % kept" and
AUROC say what any threshold could do. What the recogniser promises (by leave-one-out) stands beside what comes true,
and the last line counts the draws in which it did.

The expected calibration error of one draw is partly chance, so that of all draws together is printed, too, with its
standard error and what chance would give if all probabilities were right; with `--reliability`, each bin.

With `--background N`, the first N clips of each far action are enrolled as background, and the others are asked.

`still` asks the same clips with 0 to 3 seconds of stillness before and after, from a camera that pans, and after a cut
from another scene. The encodings are kept, so a second run is fast.

Long: three measurements share the stand-in, the draws and the tables.
"""

import argparse
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.backbones.base import ImageEncoding
from fsar.datasets import Video, VideoDataset, load_data
from fsar.files import cache_dir, write_tensors_atomic
from fsar.methods.episode import Encoding
from fsar.recognizer import UNKNOWN, Score
from fsar.recognizer.judgement import Judgement, judge
from fsar.video.frame_cache import FrameCache

Value = TypeVar("Value")
Change: TypeAlias = Callable[[np.ndarray, float], np.ndarray]
"""From frames, uint8 [frame, height, width, rgb], and frames per second to other frames."""


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
    first = Recognizer(StandIn())  # so that the background clips are there
    first.enroll("action", [clip(), clip()])
    first.fit()
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
    """Outcome of one choice of examples: shares from 0 to 1; None if there was nothing to ask."""

    top1: float | None
    right: float | None
    missed: float | None
    near: float | None
    far: float | None
    near_at_90: float | None
    far_at_90: float | None
    near_auroc: float | None
    far_auroc: float | None
    calibration: float | None
    calibration_all: float | None
    promised: float | None
    low: float | None
    high: float | None
    missed_at_most: float | None
    accepted_at_most: float | None


HEAD = (
    "examples",
    "top-1",
    "right with unknown",
    "called unknown",
    "near accepted",
    "far accepted",
    "near at 90 % kept",
    "far at 90 % kept",
    "near AUROC",
    "far AUROC",
    "ECE of known",
    "ECE of all asked",
    "promised",
    "from",
    "to",
    "called unknown at most",
    "accepted at most",
)


def chosen(
    dataset: VideoDataset, shot: int, seed: int, near: int, far: Sequence[str]
) -> tuple[dict[str, list[Video]], list[tuple[str, Video]], list[str]]:
    """Choose examples, known videos to ask, and actions that stay strangers."""
    rng = random.Random(seed)
    actions = [label for label in dataset.classes if label not in far]
    strange = rng.sample(actions, near)
    examples, asked = {}, []
    for label in (label for label in actions if label not in strange):
        clips = [video for video in dataset.videos if video.label == label]
        rng.shuffle(clips)
        examples[label] = clips[:shot]
        asked += [(label, clip) for clip in clips[shot:]]
    return examples, asked, strange


def answered(recogniser: Recognizer, pairs: Sequence[tuple[str, Video]]) -> Score:
    """Answer labelled videos."""
    found = recogniser.predict_many([clip for _, clip in pairs])
    return Score([(label, answer) for (label, _), answer in zip(pairs, found, strict=True)])  # type: ignore[misc]


def separation(known: Score, strangers: Score) -> tuple[float | None, float | None]:
    """Strangers accepted where 90 % of the known are kept, and the area under the curve, by scores over thresholds."""
    if not strangers.answers or known.answers[0][1].threshold is None:
        return None, None
    one, other = (
        np.array([answer.score - answer.threshold for _, answer in score.answers])  # type: ignore[operator]
        if known.answers[0][1].threshold < 0
        else np.array([answer.score / answer.threshold for _, answer in score.answers])  # type: ignore[operator]
        for score in (known, strangers)
    )
    return float((other >= np.quantile(one, 0.1)).mean()), float((one[:, None] > other).mean())


def draw(
    dataset: VideoDataset, backbone: Backbone, shot: int, seed: int, near: int, far: Sequence[str], background: int
) -> tuple[Draw, list[Score]]:
    """Enrol `shot` clips of each action, and ask all the others; known videos, near and far strangers."""
    examples, asked, strange = chosen(dataset, shot, seed, near, far)
    recogniser = Recognizer(backbone)
    unrelated = {label: [video for video in dataset.videos if video.label == label] for label in far}
    if background:
        recogniser.enroll_background([video for clips in unrelated.values() for video in clips[:background]])
    for label, clips in examples.items():
        recogniser.enroll(label, clips)
    fit = recogniser.fit()
    known = answered(recogniser, asked)
    right = sum(answer.best == label for label, answer in known.answers) / len(known.answers)
    strangers = [
        answered(recogniser, [(UNKNOWN, video) for video in videos])
        for videos in (
            [video for video in dataset.videos if video.label in strange],
            [video for clips in unrelated.values() for video in clips[background:]],
        )
    ]
    at_90, auroc = zip(*(separation(known, each) for each in strangers), strict=True)
    accepted = [each.unknown_accepted for each in strangers]
    promised = None if fit.right is None else fit.right / fit.left_out
    figures = Draw(
        right,
        known.accuracy,
        known.known_missed,
        *accepted,
        *at_90,
        *auroc,
        known.calibration_error,
        together([known, *strangers]).calibration_error,
        promised,
        *(fit.expected or (None, None)),
        fit.missed_at_most,
        fit.accepted_at_most,
    )
    return figures, [known, *strangers]


def together(scores: Sequence[Score]) -> Score:
    """Answers of several scores as one."""
    return Score([pair for score in scores for pair in score.answers])


def calibration(name: str, draws: Sequence[Score], bins: bool) -> str:
    """Calibration of all draws together, with its standard error over draws (jackknife); maybe each bin."""
    score = together(draws)
    error = f"{name}, all draws together: ECE {100 * (score.calibration_error or 0):.1f} %"
    if len(draws) > 1:
        others = [together([*draws[:i], *draws[i + 1 :]]).calibration_error or 0 for i in range(len(draws))]
        error += f" ± {100 * (len(draws) - 1) / len(draws) ** 0.5 * statistics.pstdev(others):.1f}"
    error += f"; chance alone gives {100 * (score.calibration_chance or 0):.1f}"
    return "\n  ".join([error, *(map(str, score.reliability) if bins else ())])


def promises(draws: Sequence[Draw], asked: Sequence[int]) -> str:
    """Count the draws in which what was promised came true.

    A share of few clips takes few values only, so it is also counted with half a clip more or less (the continuity
    correction).

    Args:
        draws: one for each choice of examples.
        asked: number of known clips that each of them asked.
    """
    found: dict[str, list[tuple[float | None, float | None, float | None]]] = {
        "right answers": [(each.low, each.right, each.high) for each in draws],
        "called unknown": [(0.0, each.missed, each.missed_at_most) for each in draws],
        "near strangers accepted": [(0.0, each.near, each.accepted_at_most) for each in draws],
    }
    told = []
    for name, each in found.items():
        there = [(*one, 0.5 / count) for one, count in zip(each, asked, strict=True) if None not in one]
        strict, loose = (
            sum(low - share * half <= true <= high + share * half for low, true, high, half in there)
            for share in (0, 1)
        )
        told += [f"{name} {strict} of {len(there)} draws" + (f" ({loose} with half a clip)" if loose > strict else "")]
    return "promises that came true: " + ", ".join(told)


def clips(options: argparse.Namespace) -> None:
    """Print one line for each number of examples: the mean over draws, and each draw in brackets."""
    dataset = load_data(options.folder, groups=True)
    backbone = Recognizer(options.backbone).backbone  # as fast as a recogniser makes it
    print(f"| {' | '.join(HEAD)} |")
    print("|---:|" + "---:|" * (len(HEAD) - 1))
    for shot in options.shots:
        seeds = range(options.draws)
        draws, scores = zip(
            *(draw(dataset, backbone, shot, seed, options.near, options.far, options.background) for seed in seeds),
            strict=True,
        )
        cells = []
        for values in zip(*draws, strict=True):
            there = [100 * value for value in values if value is not None]
            each = " ".join(f"{value:.0f}" for value in there)
            cells.append(f"{statistics.mean(there):.0f} ({each})" if there else "")
        print(f"| {shot} | {' | '.join(cells)} |", flush=True)
        print(calibration("known", [known for known, *_ in scores], options.reliability))
        print(calibration("all asked", [together(three) for three in scores], options.reliability))
        print(promises(draws, [len(known.answers) for known, *_ in scores]) + "\n", flush=True)


def still(options: argparse.Namespace) -> None:
    """Print top-1 for known videos with stillness around them, a camera that pans, or a cut."""
    dataset, cache = load_data(options.folder, groups=True), FrameCache(frames=None)
    backbone = Recognizer(options.backbone).backbone
    print(f"| sampling | {' | '.join(CHANGES)} |")
    print("|---|" + "---:|" * len(CHANGES))
    for sampling in options.sampling:
        right: dict[str, list[float]] = {name: [] for name in CHANGES}
        for seed in range(options.draws):
            examples, asked, _ = chosen(dataset, options.shots[0], seed, 0, options.far)
            recogniser = Recognizer(backbone, cache=FrameCache(sampling=sampling))
            for label, clips in examples.items():
                recogniser.enroll(label, clips)
            some = asked[:: options.every]
            for name in CHANGES:
                encodings = [encoded(recogniser, video, name, cache) for _, video in some]
                stacked = {part: torch.stack([each[part] for each in encodings]) for part in encodings[0]}
                named = [best_of(judgement) for judgement in judge(recogniser._ready_state(), stacked)]
                hits = [best == label for best, (label, _) in zip(named, some, strict=True)]
                right[name].append(sum(hits) / len(hits))
        print(
            f"| {sampling} | {' | '.join(f'{100 * statistics.mean(each):.0f}' for each in right.values())} |",
            flush=True,
        )


def encoded(recogniser: Recognizer, video: Video, change: str, cache: FrameCache) -> Encoding:
    """Encode a changed clip; the encoding is kept in the cache folder, so a measurement that was stopped resumes."""
    key = (recogniser.backbone.fingerprint(), recogniser.cache.sampling, recogniser.cache.frames, video.place, change)
    path = cache_dir() / "still" / f"{blake2b(repr(key).encode(), digest_size=16).hexdigest()}.safetensors"
    if not path.exists():
        ready = recogniser._read(CHANGES[change](*frames_of(cache, video)))
        write_tensors_atomic(path, recogniser._encoder.query(ready), {})
    return load_file(path)


def best_of(judgement: Judgement) -> str:
    """The likeliest action, even if the answer is unknown."""
    shares = {name: share for name, share in judgement.probabilities.items() if name != UNKNOWN}
    return max(shares, key=lambda name: shares[name])


def frames_of(cache: FrameCache, video: Video) -> tuple[np.ndarray, float]:
    """All frames of a video, and how many there are per second."""
    frames = np.asarray(cache.read(video.path, *video.span))
    times = cache.times(video.path, *video.span)
    return frames, 12.0 if times is None else (len(times) - 1) / (times[-1] - times[0])


def padded(before: float, after: float) -> Change:
    """Add seconds of stillness: the first and last frame again and again, with the noise of a camera everywhere."""

    def changed(frames: np.ndarray, fps: float) -> np.ndarray:
        numbers = [0] * round(before * fps) + list(range(len(frames))) + [-1] * round(after * fps)
        return noisy(frames[numbers])

    return changed


def noisy(frames: np.ndarray) -> np.ndarray:
    """Add the noise of a camera."""
    noise = np.random.default_rng(0).normal(0, 3, frames.shape).astype(np.float32)
    return (frames + noise).clip(0, 255).astype(np.uint8)


def cropped(moving: bool) -> Change:
    """Cut out four fifths of the picture: its middle, or from left to right as a camera pans."""

    def changed(frames: np.ndarray, fps: float) -> np.ndarray:
        height, width = (4 * size // 5 for size in frames.shape[1:3])
        top, room = (frames.shape[1] - height) // 2, frames.shape[2] - width
        lefts = np.linspace(0, room, len(frames)).round().astype(int) if moving else [room // 2] * len(frames)
        shown = [frame[top : top + height, left : left + width] for frame, left in zip(frames, lefts, strict=True)]
        return noisy(np.stack(shown))

    return changed


def cut(frames: np.ndarray, fps: float) -> np.ndarray:
    """Show one second of another, still scene before: the last frame upside down, with other colours."""
    other = np.repeat(frames[-1:, ::-1, :, [2, 0, 1]], round(fps), 0)
    return noisy(np.concatenate([other, frames]))


CHANGES: dict[str, Change] = {
    "as is": padded(0, 0),
    **{f"{after} s after": padded(0, after) for after in (1, 2, 3)},
    **{f"{around} s around": padded(around, around) for around in (1, 2, 3)},
    "middle": cropped(moving=False),
    "pan": cropped(moving=True),
    "cut": cut,
}


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
    asks.add_argument("--background", type=int, default=0, help="how many clips of each far action to enrol")
    asks.add_argument("--far", nargs="*", default=[], help="folders that are always strangers")
    asks.add_argument("--reliability", action="store_true", help="print each bin of the reliability diagrams")
    asks.set_defaults(run=clips)
    around = parts.add_parser("still")
    around.add_argument("folder", type=Path)
    around.add_argument("--backbone", default="lite0")
    around.add_argument("--shots", type=int, nargs=1, default=[3])
    around.add_argument("--draws", type=int, default=3)
    around.add_argument("--every", type=int, default=3, help="ask every so manieth of the known videos")
    around.add_argument("--sampling", nargs="+", default=["tsn", "moving"])
    around.add_argument("--far", nargs="*", default=[], help="folders that are left out")
    around.set_defaults(run=still)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
