"""Measure episodes per second from a filled bank: 10,000 5-way episodes, 2,400 videos of 8 x 512 features.

    python benchmarks/matching.py [--methods otam trx] [--shot 1 5] [--episodes 64]

Features are random, since speed does not depend on them; episodes are drawn as usual. The last column is the time of
all threads for 10,000 episodes: measured, or extrapolated from fewer. Feature maps have 7 x 7 places, and the bank then
holds only 144 videos. The adapted encoders of AIM and MA-FSAR are not part of matching. So AIM is left
out (its matching is that of its metric), and MA-FSAR runs with `fgma: false`; Task-Adapter's and Task-Adapter++'s are
left out, too.
"""

import argparse
import math
import resource
import time
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from fsar.backbones import Backbone
from fsar.bank.fill import enhance_bank
from fsar.bank.store import Bank
from fsar.datasets import Video, VideoDataset
from fsar.devices import Precision
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.matching import match_from_bank
from fsar.methods import METHODS, build_method

CLASSES, CLIPS, FRAMES, DIM = 24, 100, 8, 512
EPISODES = 10_000
OPTIONS: dict[str, dict[str, Any]] = {"ma-fsar": {"fgma": False}, "ts-fsar": {"init": "random"}}
LEFT_OUT = ("place-motion", "aim", "task-adapter", "task-adapter-pp")
MAPS = {"maps": (FRAMES, 7, 7, DIM)}
ENCODINGS: dict[str, dict[str, tuple[int, ...]]] = {
    "molo": MAPS,
    "strm": {"patches": (FRAMES, 16, DIM)},
    "ta2n": MAPS,
    "ts-fsar": {"relations": (FRAMES, 256 * 257 // 2), "tokens": (FRAMES, 256), "clip": (FRAMES, DIM)},
}
"""What the encoders of methods give for a video, if it is not `frames`."""
FRAMES_ONLY = {"frames": (FRAMES, DIM)}
BANK_BYTES = 2**26


class Stub(Backbone):
    """A backbone with 512 channels that never encodes a frame."""

    has_text = True

    def __init__(self) -> None:
        super().__init__("stub")
        self.dim = DIM
        visual = VisionTransformer(32, 16, DIM, layers=2, heads=8, mlp_ratio=4.0, output_dim=DIM)
        self.clip = nn.ModuleDict({"visual": visual})  # adapters go into it
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)  # says on which device the module is

    @property
    def logit_scale(self) -> torch.Tensor:
        """As CLIP's."""
        return torch.tensor(100.0, device=self.place.device)

    def text_features(self, texts: list[str]) -> torch.Tensor:
        """Random texts: the same for the same words."""
        seeds = [torch.Generator().manual_seed(crc32(text.encode())) for text in texts]
        return torch.stack([torch.randn(DIM, generator=seed) for seed in seeds]).to(self.place.device)


def dataset_of(clips: int = CLIPS) -> VideoDataset:
    """Videos of 24 classes, without files."""
    labels = [f"class {c}" for c in range(CLASSES)]
    videos = tuple(Video(f"{label}/{i}", None, label) for label in labels for i in range(clips))  # type: ignore[arg-type]
    return VideoDataset("random", videos, {label: label for label in labels}, {})


def bank_of(
    dataset: VideoDataset, precision: Precision = "float32", shapes: Mapping[str, tuple[int, ...]] = FRAMES_ONLY
) -> Bank:
    """Random features for all of them, by name and shape, to be matched in a precision; the same at every call."""
    seed = torch.Generator().manual_seed(0)
    videos = len(dataset.videos)
    features = {name: torch.randn(videos, *shape, generator=seed) for name, shape in shapes.items()}
    return Bank(tuple(video.id for video in dataset.videos), features, features, precision=precision)


def main() -> None:
    """Print one row per method and shot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=[m for m in METHODS if m not in LEFT_OUT])
    parser.add_argument("--shot", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--episodes", type=int, default=EPISODES)
    options = parser.parse_args()

    print("| method | shot | draw, s | match, s | episodes/s | peak memory, GB | processor s of 10,000 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in options.methods:
        shapes = ENCODINGS.get(name, FRAMES_ONLY)
        size = 4 * sum(math.prod(shape) for shape in shapes.values())
        dataset = dataset_of(min(CLIPS, max(6, BANK_BYTES // (CLASSES * size))))
        method = build_method(name, Stub(), **OPTIONS.get(name, {}))
        bank = enhance_bank(method, bank_of(dataset, shapes=shapes), dataset.videos, dataset.texts)
        for shot in options.shot:
            start = time.perf_counter()
            episodes = EpisodeSampler(dataset=dataset, shot=shot).draw(options.episodes)
            drawn = time.perf_counter() - start
            match_from_bank(method, bank, episodes[:8], dataset.texts, progress=False)  # the first use of a kernel
            start = time.process_time()
            scores = match_from_bank(method, bank, episodes, dataset.texts, progress=False)
            processor = (time.process_time() - start) * EPISODES / options.episodes
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            row = f"{drawn:.2f} | {scores.seconds:.2f} | {options.episodes / scores.seconds:,.0f} | {peak:.2f}"
            print(f"| {name} | {shot} | {row} | {processor:,.1f} |", flush=True)


if __name__ == "__main__":
    main()
