"""Compare the bank with encoding videos again for every episode, and a cached clip with a decoded one.

python benchmarks/bank.py [--data DIR --split all --backbone lite0 --episodes 50]
python benchmarks/bank.py --backbone ViT-B-16/random --videos 20 --episodes 3 \\
    --method task-adapter:layers=2,temporal_embedding_at=first_adapted_block,half_tokens=true
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from fsar.backbones import load_backbone
from fsar.bank.fill import fill_bank
from fsar.datasets import load_folder, load_world
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.matching import match_from_bank, match_naively
from fsar.methods import build_method, parse_method
from fsar.video.frame_cache import FrameCache
from fsar.video.reading import read_frames


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="default: the generated world")
    parser.add_argument("--split", default="test")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--method", default="otam", help="NAME[:OPTION=VALUE,...]")
    parser.add_argument("--videos", type=int, help="videos per class, at most")
    parser.add_argument("--episodes", type=int, default=100)
    options = parser.parse_args()

    dataset = (load_folder(options.data) if options.data else load_world()).split(options.split)
    if options.videos:
        rank = {v.id: sum(w.label == v.label for w in dataset.videos[:i]) for i, v in enumerate(dataset.videos)}
        dataset = dataset.without([video_id for video_id, place in rank.items() if place >= options.videos])
    with tempfile.TemporaryDirectory() as folder:
        cache = FrameCache(Path(folder) / "frames")
        decoded, cached = [], []
        for video in dataset.videos[:100]:
            start = time.perf_counter()
            read_frames(video.path)
            decoded.append(time.perf_counter() - start)
            cache.read(video.path)
            start = time.perf_counter()
            cache.read(video.path)
            cached.append(time.perf_counter() - start)
        slow, fast = (1e3 * statistics.median(times) for times in (decoded, cached))
        print(f"a clip: decoded {slow:.2f} ms, cached {fast:.2f} ms")

        name, chosen = parse_method(options.method)
        method = build_method(name, load_backbone(options.backbone), **chosen)
        episodes = EpisodeSampler(dataset=dataset).draw(options.episodes)
        place = Path(folder) / "bank"
        fill = partial(fill_bank, method, dataset.videos, dataset.texts, cache=cache, folder=place, progress=False)
        start = time.perf_counter()
        bank = fill()
        filled = time.perf_counter() - start
        start = time.perf_counter()
        fill()
        again = time.perf_counter() - start
        size = sum(file.stat().st_size for file in (Path(folder) / "bank").rglob("*.safetensors"))
        banked = match_from_bank(method, bank, episodes, dataset.texts, progress=False)
        anew = match_naively(method, dataset, episodes, cache=cache, progress=False)
        per_episode = anew.seconds / options.episodes
        print(f"{options.method} on {options.backbone}, {len(dataset.videos)} videos, {options.episodes} episodes")
        print(
            f"bank {filled:.1f} s to fill ({again:.1f} s from disk, {size / 1e6:.0f} MB) + {banked.seconds:.2f} s, "
            f"anew {anew.seconds:.1f} s; same predictions: "
            f"{(banked.predicted == anew.predicted).all()}, largest difference of logits "
            f"{np.abs(banked.logits - anew.logits).max():.1e}"
        )
        full = filled + 10_000 * banked.seconds / options.episodes
        print(
            f"10,000 episodes at these rates: bank {full:.0f} s, anew {10_000 * per_episode:,.0f} s, "
            f"ratio {10_000 * per_episode / full:.0f}"
        )


if __name__ == "__main__":
    main()
