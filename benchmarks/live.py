"""Measure live recognition: delays and frames kept in real time, and memory over an accelerated hour.

    python benchmarks/live.py delay VIDEO SEGMENTS.csv --model mine.fsar [--agree 3] [--rate 12]
    python benchmarks/live.py rule VIDEO SEGMENTS.csv --model mine.fsar [--agree 3] [--rate 12]
    python benchmarks/live.py soak --hours 1

`delay` plays a video with known segments (`fsar data join` makes some) at its own speed, as a camera would. It prints
the time from the end of an action until its begin, its end and what is final were told (median and 95 %; below 0: told
before the action was over), the frames kept, processor seconds per second, and segment F1 at temporal IoU 0.25 of what
is final. The load of the machine stands beside it.

`rule` shows every frame of the video as fast as it can, with the video's own times as the clock. So it prints the part
of the delay that windows, batches and `--agree` make on any machine, and nothing of the machine's own.

`soak` shows a generated stream to the recogniser with the stand-in `tiny` as fast as it can, with a clock of its own
that jumps over pauses, and breaks the connection once every ten minutes of the stream. It prints memory every ten
minutes.
"""

import argparse
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch

from fsar import Recognizer
from fsar.datasets.join import UNKNOWN
from fsar.datasets.segments.segment import Segment
from fsar.datasets.segments.write import read_found
from fsar.recognizer.contract import Contract
from fsar.recognizer.live import Event as LiveEvent
from fsar.recognizer.live import LiveSpotter, batch_of
from fsar.video.camera import Connection, SourceError
from fsar.video.frame_cache import SHORT_SIDE
from fsar.video.play import play
from fsar.video.stream import TimedFrames

FPS = 10.0


def delay(options: argparse.Namespace) -> None:
    recognizer = Recognizer.load(options.model)
    contract = recognizer.contract(None, options.rate)
    said: list[str] = []
    recognizer.fit()
    list(recognizer.windows(contract, 1).add(0.0, np.zeros((64, 64, 3), np.uint8)))  # compiles the backbone
    wall, used = time.monotonic(), time.process_time()
    events = list(recognizer.events(options.video, contract, None, options.agree, said.append))
    wall, used = time.monotonic() - wall, time.process_time() - used
    print(f"{contract}; batches of {batch_of(contract)}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{wall:.1f} s, {used / wall:.2f} processor seconds per second; {said[-1] if said else 'no frame dropped'}")
    tell(events, options)


def rule(options: argparse.Namespace) -> None:
    recognizer = Recognizer.load(options.model)
    contract = recognizer.contract(None, options.rate)
    batch = batch_of(contract)
    spotter = LiveSpotter(lambda: recognizer.windows(contract, batch), contract, None, options.agree)
    frames = TimedFrames(options.video, SHORT_SIDE)
    events = [event for time, frame in frames.wanted(lambda time: True) for event in spotter.add(time, frame)]
    events += spotter.cut(frames.duration)
    print(f"{contract}; batches of {batch}; delays of the rule alone")
    tell(events, options)


def tell(events: list[LiveEvent], options: argparse.Namespace) -> None:
    """Print delays and F1."""
    truth = [each for each in read_found(options.segments) if each.video == options.video.name]
    truth = [each for each in truth if each.action != UNKNOWN]
    for kind in ("begin", "end", "final"):
        found = []
        for each in truth:
            right = [e for e in events if e.kind == kind and overlap(e.segment, each) >= 0.25]
            found += [right[0].time - each.end] if right else []
        late = f"{np.median(found):.2f} s, 95 % {np.quantile(found, 0.95):.2f} s" if found else "-"
        print(f"{kind}: {len(found)} of {len(truth)} told; after the action's end, median {late}")
    ends = [event.segment for event in events if event.kind == "final"]
    hits = sum(any(overlap(one, each) >= 0.25 for one in ends) for each in truth)
    withdrawn = sum(event.kind == "withdrawn" for event in events)
    print(f"F1 at 0.25: {2 * hits / max(1, len(ends) + len(truth)):.2f}; {len(ends)} final, {withdrawn} withdrawn")


def overlap(one: Segment, other: Segment) -> float:
    """Temporal IoU if both show one action."""
    return Segment("", one.start, one.end, "").iou(Segment("", other.start, other.end, "")) * (
        one.action == other.action
    )


class Instant:
    """A clock that jumps over pauses."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Seconds."""
        return self.time

    def wait(self, seconds: float, stop: Event) -> None:
        """Jump."""
        self.time += seconds


class Endless:
    """A square that goes right and left with rests, whose connection breaks every ten minutes."""

    name = "generated"

    def __init__(self, clock: Instant, hours: float):
        self.clock, self.seconds = clock, 3600 * hours

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """Connect."""
        yield Connection(self._pictures(), has_end=False)

    def _pictures(self) -> Iterator[Any]:
        for i in range(int(600 * FPS)):
            if self.clock.time >= self.seconds:
                raise KeyboardInterrupt
            self.clock.time += 1 / FPS
            yield i / FPS, partial(picture, i % 40, i)
        raise SourceError(self.name, "broken")


def picture(step: int, seed: int) -> np.ndarray:
    """Eight steps right, twelve of rest, eight left, twelve of rest; over noise."""
    place = [*range(0, 56, 7), *[48] * 12, *range(48, -1, -7)[:8], *[0] * 12]
    frame = np.random.default_rng(seed % 97).integers(0, 40, (64, 64, 3)).astype(np.uint8)
    column = min(48, place[min(step, len(place) - 1)])
    frame[24:40, column : column + 16] = 255
    return frame


def soak(options: argparse.Namespace) -> None:
    recognizer = Recognizer("tiny")
    recognizer.enroll("right", [np.stack([picture(i, i + 9 * n) for i in range(8)]) for n in range(3)])
    recognizer.enroll("left", [np.stack([picture(20 + i, i + 9 * n) for i in range(8)]) for n in range(3)])
    contract = Contract((0.8,), FPS)
    spotter = LiveSpotter(lambda: recognizer.windows(contract, batch_of(contract)), contract, name="generated")
    clock, part, last, shown, ends = Instant(), 0, 0.0, 0.0, 0
    begun = time.process_time()
    try:
        for each in play(Endless(clock, options.hours), clock, Event()):
            if each.part != part:
                ends += sum(event.kind == "final" for event in spotter.cut(last))
                part = each.part
            last = each.time
            ends += sum(event.kind == "final" for event in spotter.add(last, each.frame()))
            if last >= shown:
                print(f"{last / 60:5.0f} min: {resident():.1f} MB, {ends} actions, {part} breaks", flush=True)
                shown += 600
    except KeyboardInterrupt:
        pass
    seconds = time.process_time() - begun
    print(f"{last / 60:5.0f} min: {resident():.1f} MB, {ends} actions; {seconds:.0f} processor seconds; peak ", end="")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f} MB")


def resident() -> float:
    """Memory in use, in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    for run in (delay, rule):
        delays = kinds.add_parser(run.__name__)
        delays.add_argument("video", type=Path)
        delays.add_argument("segments", type=Path)
        delays.add_argument("--model", type=Path, required=True)
        delays.add_argument("--agree", type=int, default=3)
        delays.add_argument("--rate", type=float)
        delays.set_defaults(run=run)
    soaks = kinds.add_parser("soak")
    soaks.add_argument("--hours", type=float, default=1.0)
    soaks.set_defaults(run=soak)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
