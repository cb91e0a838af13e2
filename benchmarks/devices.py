"""Compare a GPU with the CPU: logits and episodes per second; features and clips per second in each precision.

    python benchmarks/devices.py [--device cuda:0] [--methods otam trx] [--episodes 2000] [--clips 256]

Matching starts from random features, 5-way 1-shot, 2,400 videos of 8 x 512; untrained methods have the same random
weights on both devices. Encoding takes random clips of 8 frames through a ViT-B/16 with random weights, one clip at a
time, as a bank is filled. Differences of features are relative to the largest float32 feature.
"""

import argparse
import copy
import time

import numpy as np
import torch
from torch import Tensor

from fsar.backbones import load_backbone
from fsar.bank.fill import enhance_bank
from fsar.bank.store import Bank
from fsar.datasets import Video, VideoDataset
from fsar.devices import Precision, computing_in, device_name
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.matching import match_from_bank
from fsar.methods import Method, build_method

CLASSES, CLIPS, FRAMES, DIM = 24, 100, 8, 512


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--methods", nargs="+", default=["otam", "trx"])
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--backbone", default="ViT-B-16/random")
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"{device}: {device_name(device)}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    match(options.methods, options.episodes, device)
    encode(options.backbone, options.clips, device)


def match(names: list[str], count: int, device: torch.device) -> None:
    """Print one row per method: the largest difference of logits, and episodes per second."""
    labels = [f"class {c}" for c in range(CLASSES)]
    videos = tuple(Video(f"{label}/{i}", None, label) for label in labels for i in range(CLIPS))  # type: ignore[arg-type]
    dataset = VideoDataset("random", videos, {label: label for label in labels}, {})
    torch.manual_seed(0)
    features = {"frames": torch.randn(len(videos), FRAMES, DIM)}
    start = Bank(tuple(video.id for video in videos), features, features)
    episodes = EpisodeSampler(dataset=dataset).draw(count)
    print("\n| method | cpu, episodes/s | device, episodes/s | largest logit | largest difference | other answers |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in names:
        here = build_method(name, load_backbone(f"features/{DIM}")).eval()
        there = copy.deepcopy(here).to(device)
        found = []
        for method in (here, there):
            bank = enhance_bank(method, start, videos, dataset.texts)
            match_from_bank(method, bank, episodes[:10], dataset.texts, progress=False)  # warm up
            found.append(match_from_bank(method, bank, episodes, dataset.texts, progress=False))
        a, b = found
        print(
            f"| {name} ({there.device}) | {count / a.seconds:,.0f} | {count / b.seconds:,.0f} "
            f"| {np.abs(a.logits).max():.3g} | {np.abs(a.logits - b.logits).max():.1e} "
            f"| {(a.predicted != b.predicted).sum()} of {a.predicted.size} |",
            flush=True,
        )


def encode(name: str, count: int, device: torch.device) -> None:
    """Print one row per precision: clips per second, and the largest difference from float32."""
    torch.manual_seed(0)
    method = build_method("otam", load_backbone(name)).eval()
    size = method.backbone.image_size
    clips = torch.randn(min(count, 8), FRAMES, 3, size, size)  # few different ones: random numbers cost time, too
    expected = _features(method, clips[:2], "float32", 2)[0]
    method = method.to(device)
    reference, _ = _features(method, clips, "float32", len(clips))
    largest = reference.abs().max()
    difference = (reference[:2] - expected).abs().max() / largest
    print(f"\n{name}, float32: {device} differs from the cpu by {difference:.1e} of the largest feature\n")
    print("| precision | clips/s | largest difference from float32 |\n|---|---:|---:|")
    precisions: tuple[Precision, ...] = ("float32", "tf32", "bf16") if device.type == "cuda" else ("float32", "bf16")
    for precision in precisions:
        made, _ = _features(method, clips, precision, len(clips))  # also warms up
        seconds = _features(method, clips, precision, count)[1]
        print(f"| {precision} | {count / seconds:,.1f} | {(made - reference).abs().max() / largest:.1e} |", flush=True)


@torch.no_grad()
def _features(method: Method, clips: Tensor, precision: Precision, count: int) -> tuple[Tensor, float]:
    """Encode `count` clips one by one, repeating them; return the features of the last round, and seconds."""
    begun, made = time.perf_counter(), {}
    with computing_in(precision, method.device):
        for i in range(count):
            place = i % len(clips)
            made[place] = method.encode(clips[place][None].to(method.device))["frames"][0].float().cpu()
    return torch.stack([made[place] for place in sorted(made)]), time.perf_counter() - begun


if __name__ == "__main__":
    main()
