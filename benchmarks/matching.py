"""Measure episodes per second from a filled bank: 10,000 5-way episodes, 2,400 videos of 8 x 512 features.

    python benchmarks/matching.py [--methods otam trx] [--shot 1 5]

Features are random, since speed does not depend on them; episodes are drawn as usual. The adapted encoders of AIM and
MA-FSAR are not part of matching. So AIM is left out (its matching is that of its metric), and MA-FSAR runs with
`fgma: false`.
"""

import argparse
import resource
import time
from zlib import crc32

import torch
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


class Stub(Backbone):
    """A backbone with 512 channels that never encodes a frame."""

    has_text = True

    def __init__(self) -> None:
        super().__init__("stub")
        self.dim = DIM
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


def bank_of(dataset: VideoDataset, precision: Precision = "float32") -> Bank:
    """Random features [video, frame, dim] for all of them, to be matched in a precision; the same at every call."""
    seed = torch.Generator().manual_seed(0)
    features = {"frames": torch.randn(len(dataset.videos), FRAMES, DIM, generator=seed)}
    return Bank(tuple(video.id for video in dataset.videos), features, features, precision=precision)


def main() -> None:
    """Print one row per method and shot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=[m for m in METHODS if m not in ("place-motion", "aim")])
    parser.add_argument("--shot", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--episodes", type=int, default=10_000)
    options = parser.parse_args()

    dataset = dataset_of()
    bank = bank_of(dataset)
    print("| method | shot | draw, s | match, s | episodes/s | peak memory, GB |\n|---|---:|---:|---:|---:|---:|")
    for name in options.methods:
        for shot in options.shot:
            start = time.perf_counter()
            episodes = EpisodeSampler(dataset=dataset, shot=shot).draw(options.episodes)
            drawn = time.perf_counter() - start
            method = build_method(name, Stub(), **{"ma-fsar": {"fgma": False}}.get(name, {}))
            enhanced = enhance_bank(method, bank, dataset.videos, dataset.texts)
            scores = match_from_bank(method, enhanced, episodes, dataset.texts, progress=False)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            speed = options.episodes / scores.seconds
            print(f"| {name} | {shot} | {drawn:.2f} | {scores.seconds:.2f} | {speed:,.0f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
