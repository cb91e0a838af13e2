"""Measure what a GPU brings, in one script of under ten minutes: the same results, and how fast.

    python benchmarks/gpu.py [--parts same match encode bank train] [--small]

    same    logits of every method on frame features: the GPU's in float32, tf32 and bf16 beside the CPU's
    match   10,000 5-way episodes from a bank of 2,400 videos, with 1 and 5 shots; of a slow method as many as fit in
            15 s, and the time of 10,000 is derived
    encode  ViT-B/16, clips of 8 x 224 x 224: clips a second in each precision, and the largest difference of features
    bank    files to bank with the same encoder, in fixed batches, decoded and from kept frames: the share
            of the encoder's own speed, and whether an encoding has the same bits whatever stands beside it in a batch
    train   one 5-way 1-shot episode, adapters and full fine-tuning: seconds and memory, in float32 and bf16

Weights and features are random, since speed does not depend on them. `--small` tries the script on a CPU.
"""

import argparse
import copy
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matching import Stub, bank_of, dataset_of

from fsar.backbones import Backbone, load_backbone
from fsar.bank.batches import encode_in_batches
from fsar.bank.fill import enhance_bank, fill_bank
from fsar.bank.store import Bank
from fsar.datasets import Video, VideoDataset
from fsar.devices import Precision, computing_in
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.matching import Scores, match_from_bank
from fsar.methods import METHODS, Method, build_method
from fsar.methods.encoder import FrameEncoder
from fsar.video.frame_cache import FrameCache
from fsar.video.writing import write_video
from training import FRAMES, measure, rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MOST_SECONDS = 15.0
"""Of matching in one row."""
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16") if DEVICE.type == "cuda" else ("float32", "bf16")


def methods() -> Iterator[tuple[str, Method]]:
    """Build every method that starts from frame features, with weights of one seed; not those with an own encoder."""
    for name in METHODS:
        torch.manual_seed(0)
        options = {"fgma": False} if name == "ma-fsar" else {}
        try:
            method = build_method(name, Stub(), **options)
        except ValueError:  # it puts adapters into an encoder
            continue
        if type(method.encoder()) is FrameEncoder:
            yield name, method


def table(*names: str) -> Callable[..., None]:
    """Print the head of a table; return what prints a row."""
    print(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    return lambda *cells: print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def same(small: bool) -> None:
    """Compare the logits of one bank on both devices."""
    row = table("method", "precision", "largest difference of logits", "largest logit", "same predictions, %")
    dataset = dataset_of(2 if small else 100)
    episodes = EpisodeSampler(dataset=dataset).draw(10 if small else 100)
    for name, method in methods():
        scores = {}
        for device, precision in [(torch.device("cpu"), "float32"), *((DEVICE, p) for p in PRECISIONS)]:
            here = copy.deepcopy(method).to(device)
            cut = bank_of(dataset, precision)
            enhanced = enhance_bank(here, cut, dataset.videos, dataset.texts)
            scores[device.type, precision, len(scores)] = match_from_bank(
                here, enhanced, episodes, dataset.texts, progress=False
            )
        first, *others = scores.items()
        for (_, precision, _), other in others:
            off = np.abs(other.logits - first[1].logits).max()
            agree = 100 * (other.predicted == first[1].predicted).mean()
            row(name, precision, f"{off:.1e}", f"{np.abs(first[1].logits).max():.1f}", f"{agree:.1f}")


def match(small: bool) -> None:
    """Time episodes of each method."""
    row = table("method", "shot", "enhance, s", "episodes", "10,000 episodes, s", "episodes/s", "GPU memory, GB")
    dataset = dataset_of(6 if small else 100)
    bank = bank_of(dataset)
    for name, method in methods():
        method.to(DEVICE)
        for shot in (1, 5):
            begun = time.perf_counter()
            enhanced = enhance_bank(method, bank, dataset.videos, dataset.texts)
            ready = time.perf_counter() - begun
            forget_peak()
            tried = matched(method, enhanced, dataset, shot, 10 if small else 200)
            count = 20 if small else min(10_000, int(MOST_SECONDS * 200 / tried.seconds))
            scores = matched(method, enhanced, dataset, shot, count)
            row(
                name,
                shot,
                f"{ready:.1f}",
                f"{count:,}",
                f"{scores.seconds * 10_000 / count:.1f}",
                f"{count / scores.seconds:,.0f}",
                f"{peak():.2f}",
            )


def matched(method: Method, bank: Bank, dataset: VideoDataset, shot: int, count: int) -> Scores:
    """Match a number of episodes."""
    episodes = EpisodeSampler(dataset=dataset, shot=shot).draw(count)
    return match_from_bank(method, bank, episodes, dataset.texts, progress=False)


def encode(small: bool) -> None:
    """Time the image encoder alone, with clips that are on the device already."""
    row = table("precision", "clips at a time", "clips/s", "largest difference of features", "largest feature")
    backbone = load_backbone("tiny" if small else "ViT-B-16-quickgelu/random").to(DEVICE).eval()
    clips = clips_for(backbone, 4 if small else 64)
    exact = features(backbone, clips[:4], "float32")
    for precision in PRECISIONS:
        off = (features(backbone, clips[:4], precision) - exact).abs().max()
        for size in (1, 4) if small else (1, 8, 64):
            features(backbone, clips[:size], precision)
            taken = seconds(partial(features, backbone, clips[:size], precision), 2 if small else 10)
            row(precision, size, f"{size / taken:,.1f}", f"{off:.1e}", f"{exact.abs().max():.1f}")


def bank(small: bool) -> None:
    """Fill a bank from files, and compare with the encoder alone in batches of the same size."""
    row = table(
        *("precision", "batch", "encoder alone, clips/s", "files to bank, clips/s", "share, %"),
        *("kept frames to bank, clips/s", "share, %", "same bits in any company"),
    )
    name = "tiny" if small else "ViT-B-16-quickgelu/random"
    method = build_method("otam", load_backbone(name)).to(DEVICE).eval()
    count = 8 if small else 400
    with tempfile.TemporaryDirectory() as place:
        with ThreadPoolExecutor() as writers:
            videos = list(writers.map(lambda i: write(Path(place) / f"{i}.mp4", i), range(count)))
        for precision, size in (
            ("float32", 1),
            *((p, 4 if small else 16) for p in PRECISIONS),
            ("bf16", 4 if small else 64),
        ):
            clips = [*clips_for(method.backbone, 2 * size).cpu()]
            alone = encoded(method, clips, size, precision)  # warms up
            taken = seconds(partial(encoded, method, clips, size, precision), 2 if small else 10)
            cache = FrameCache(Path(place) / f"frames-{precision}-{size}")
            most, rates = len(clips) / taken, []
            for _ in ("decoded", "from kept frames"):
                begun = time.perf_counter()
                fill_bank(method, videos, cache=cache, keep=False, precision=precision, batch=size, progress=False)
                rates.append(count / (time.perf_counter() - begun))
            same = "yes" if bits_stay(method, clips, alone, size, precision) else "NO"
            shown = [cell for rate in rates for cell in (f"{rate:,.1f}", f"{100 * rate / most:.0f}")]
            row(precision, size, f"{most:,.1f}", *shown, same)


def encoded(method: Method, clips: list[torch.Tensor], size: int, precision: Precision) -> torch.Tensor:
    """Features of clips on the CPU, in batches of one size."""
    with computing_in(precision, DEVICE):
        rows = encode_in_batches(method.encoder().encode, clips, size, DEVICE)
        return torch.stack([row["frames"] for row in rows])


def bits_stay(method: Method, clips: list[torch.Tensor], first: torch.Tensor, size: int, precision: Precision) -> bool:
    """Tell whether features have the same bits in other orders, and with fewer clips."""
    for order in (range(len(clips))[::-1], range(1, len(clips), 3), [0]):
        if not torch.equal(encoded(method, [clips[i] for i in order], size, precision), first[list(order)]):
            return False
    return True


def train(small: bool) -> None:
    """Time an episode of training, and its memory."""
    row = table("method", "precision", "trained, M", "s / episode", "GPU memory, GB")
    for line in rows(16):
        chosen = {**line, "backbone": "tiny", "options": {}} if small else line
        for precision in ("float32", "bf16"):
            forget_peak()
            try:
                got = measure({**chosen, "precision": precision}, way=2 if small else 5, episodes=1 if small else 5)
            except Exception as error:  # one row must not end a lease
                row(line["name"], precision, f"{type(error).__name__}: {str(error)[:80]}", "-", "-")
                continue
            row(line["name"], precision, f"{got['trained'] / 1e6:.2f}", f"{got['seconds']:.3f}", f"{got['gb']:.2f}")


def write(file: Path, seed: int) -> Video:
    """Write a video of 3 s at 320 x 240."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 255, (30, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    write_video(file, np.stack([np.roll(ground, 3 * t, 1) for t in range(75)]), 25.0)
    return Video(file.stem, file, f"class {seed % 10}")


def clips_for(backbone: Backbone, count: int) -> torch.Tensor:
    """Random clips [clip, frame, rgb, height, width] on the device."""
    size = backbone.image_size
    return torch.randn(count, FRAMES, 3, size, size, generator=torch.Generator().manual_seed(0)).to(DEVICE)


@torch.no_grad()
def features(backbone: Backbone, clips: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Features [clip, frame, dim], in float32."""
    with computing_in(precision, DEVICE):
        return backbone.features(clips).float()


def seconds(run: Callable[[], object], times: int) -> float:
    """Seconds of one run, the median of `times`."""
    taken = []
    for _ in range(times):
        wait()
        begun = time.perf_counter()
        run()
        wait()
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def wait() -> None:
    """Wait for the GPU."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def forget_peak() -> None:
    """Start to count the GPU's memory anew."""
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> float:
    """Peak of the GPU's memory in GB; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if DEVICE.type == "cuda" else 0.0


def main() -> None:
    """Run the parts that were asked for."""
    parts = {"same": same, "match": match, "encode": encode, "bank": bank, "train": train}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--small", action="store_true", help="little of everything: tries the script, measures nothing")
    options = parser.parse_args()
    named = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    print(f"{named}, {os.cpu_count()} CPU cores, torch {torch.__version__}, Python {sys.version.split()[0]}")
    for part in options.parts:
        begun = time.perf_counter()
        print(f"\n## {part}: {parts[part].__doc__}")
        parts[part](options.small)
        print(f"\n{part}: {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
