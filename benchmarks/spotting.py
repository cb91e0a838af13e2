"""Measure spotting on streams that are joined from labelled clips.

    python benchmarks/spotting.py FOLDER --strangers unclassified --shots 2 5 --seeds 0 1 2
    python benchmarks/spotting.py FOLDER --actions left right up down caret --strangers unclassified --naive --apart 10

FOLDER holds one folder of clips per action. For each seed, `shots` clips of each action are enrolled. A stream is
joined from other clips of these actions, in random order, with clips of strangers and pauses. So the true segments are
known exactly. The measures are those of `fsar.evaluation.spotting`, over the streams of all seeds.

`--naive` adds what one would do without spotting: the stream is cut into files as long as the middle example, each half
a length after the last one; `Recognizer.predict` names each file; neighbours of one name are one segment.

`--apart 10` answers every tenth window of the first stream by itself, too: `Recognizer.predict` is given its frames. So
it prints what encoding each frame once saves (the seconds for all windows are those of the tenth, times ten), and the
largest difference of a probability.

Processor seconds count all threads of this process, so other work on the machine does not change them much.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np

from fsar import Recognizer
from fsar.datasets import Video, load_data
from fsar.datasets.join import join_clips
from fsar.datasets.segments.segment import Segment
from fsar.evaluation.spotting import SpottingScore, score_segments
from fsar.recognizer import UNKNOWN
from fsar.recognizer.windows import Window
from fsar.video.frame_cache import SHORT_SIDE, FrameCache
from fsar.video.motion import MOVING
from fsar.video.picture import Frame
from fsar.video.reading import probe
from fsar.video.stream import TimedFrames

Value = TypeVar("Value")


def timed(work: Callable[[], Value]) -> tuple[Value, float]:
    """Call `work`; return its value and the processor seconds."""
    start = time.process_time()
    value = work()
    return value, time.process_time() - start


def chosen(options: argparse.Namespace, shots: int, seed: int) -> tuple[dict[str, list[Video]], list[Video]]:
    """Choose examples, and the clips of a stream."""
    data, rng = load_data(options.folder), random.Random(seed)
    by_label = {label: [video for video in data.videos if video.label == label] for label in data.classes}
    actions = options.actions or [label for label in by_label if label not in options.strangers]
    for clips in by_label.values():
        rng.shuffle(clips)
    examples = {label: by_label[label][:shots] for label in actions}
    asked = [video for label in actions for video in by_label[label][shots : shots + options.clips]]
    strange = [video for label in options.strangers for video in by_label[label][: options.strange]]
    return examples, asked + strange


def naively(recognizer: Recognizer, stream: Path, seconds: float) -> list[Segment]:
    """Cut a stream into windows of one length, name each, and join neighbours of one name."""
    duration = probe(stream).duration or 0.0
    starts = [i * seconds / 2 for i in range(max(1, int(2 * duration / seconds) - 1))]
    parts = [Video(f"{i}", stream, "", start, min(start + seconds, duration)) for i, start in enumerate(starts)]
    with tempfile.TemporaryDirectory() as folder:
        recognizer.cache = FrameCache(Path(folder), recognizer.cache.frames, MOVING)
        answers = [(part, recognizer.predict(part)) for part in parts]
    found = []
    for action, group in groupby(answers, key=lambda each: each[1].action):
        some = list(group)
        probability = max(answer.probabilities[action] for _, answer in some)
        found.append(Segment(stream.name, some[0][0].start or 0.0, some[-1][0].end or 0.0, action, probability))
    return [each for each in found if each.action != UNKNOWN]


def apart(recognizer: Recognizer, stream: Path, step: int) -> str:
    """Compare frames that are encoded once each with windows that are answered one by one."""
    windows, video = recognizer.windows(), TimedFrames(stream, SHORT_SIDE)
    kept: list[tuple[float, Frame]] = []

    def once() -> list[Window]:
        found = []
        for at, frame in video.wanted(windows.wants):
            kept.append((at, frame))
            found += windows.add(at, frame)
        return found + list(windows.finish(video.duration))

    every, spent = timed(once)
    some = every[::step]
    clips = [np.stack([frame for at, frame in kept if start - 1e-6 <= at < end - 1e-6]) for start, end, *_ in some]
    answers, alone = timed(lambda: [recognizer.predict(clip) for clip in clips])
    differences = [abs(window.shows.score - answer.score) for window, answer in zip(some, answers, strict=True)]
    minutes = video.duration / 60
    return (
        f"{len(every)} windows of {video.duration:.0f} s: {spent / minutes:.1f} processor s per minute of video with "
        f"each frame encoded once, {alone * len(every) / len(some) / minutes:.0f} with each window by itself "
        f"({len(some)} of them tried); largest difference of a score {max(differences):.1e}"
    )


def measured(options: argparse.Namespace, shots: int) -> None:
    """Print one line for a number of examples, and one for the naive way."""
    true: list[Segment] = []
    found: dict[str, list[Segment]] = {"spot": [], "naive": []}
    seconds: dict[str, float] = {}
    spent = dict.fromkeys(found, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            examples, asked = chosen(options, shots, seed)
            stream = Path(folder) / f"stream{shots}-{seed}.mp4"
            true += [each for each in join_clips(asked, stream, seed) if each.action not in options.strangers]
            seconds[stream.name] = probe(stream).duration or 0.0
            recognizer = Recognizer(options.backbone)
            for label, clips in examples.items():
                recognizer.enroll(label, clips)
            recognizer.fit()
            segments, took = timed(lambda recognizer=recognizer, stream=stream: recognizer.timeline(stream))
            spent["spot"] += took
            if options.apart and len(seconds) == 1:
                print(apart(recognizer, stream, options.apart))
            found["spot"] += [Segment(stream.name, s.start, s.end, s.action, s.probability) for s in segments]
            if options.naive:
                every = [e.length.seconds for a in recognizer.enrolled.values() for e in a.examples if e.length]
                length = statistics.median(every)
                segments, took = timed(
                    lambda recognizer=recognizer, stream=stream, length=length: naively(recognizer, stream, length)
                )
                spent["naive"] += took
                found["naive"] += segments
    for way in ("spot", "naive") if options.naive else ("spot",):
        score = score_segments(true, found[way], seconds)
        print(
            f"| {way}, {len(examples)} actions, {shots} examples | {line(score)} | {spent[way] / score.minutes:.1f} |"
        )


def line(score: SpottingScore) -> str:
    """The cells of a score."""
    f1 = [f"{score.f1[t]:.3f}" for t in (0.1, 0.25, 0.5)]
    low, high = score.intervals.get(0.25, (float("nan"), float("nan")))
    errors = score.errors
    kinds = f"{errors.right} / {errors.wrong_label} / {errors.badly_placed} / {errors.invented} / {errors.missed}"
    cells = [f"{score.true}", f1[0], f"{f1[1]} ({low:.2f} to {high:.2f})", f1[2]]
    cells += [f"{score.average_precision[0.25]:.3f}", f"{score.invented_per_minute:.2f}", kinds]
    return " | ".join(cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--actions", nargs="+", help="enrolled actions; default: all but the strangers")
    parser.add_argument("--strangers", nargs="*", default=[], help="actions that are shown and never enrolled")
    parser.add_argument("--backbone", default="lite0")
    parser.add_argument("--shots", nargs="+", type=int, default=[5])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=4, help="clips of each action in a stream")
    parser.add_argument("--strange", type=int, default=6, help="clips of each stranger in a stream")
    parser.add_argument("--naive", action="store_true", help="also cut fixed windows, and predict each")
    parser.add_argument("--apart", type=int, metavar="N", help="also answer every Nth window of a stream by itself")
    options = parser.parse_args()
    print("| way | true | F1@0.1 | F1@0.25 (interval over streams) | F1@0.5 | mAP@0.25 | invented a minute |", end="")
    print(" right / wrong label / badly placed / invented / missed | processor s per minute of video |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for shots in options.shots:
        measured(options, shots)


if __name__ == "__main__":
    main()
