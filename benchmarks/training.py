"""Measure the cost of a training episode: trainable parameters, seconds, peak memory (as MA-FSAR's Table 15).

    python benchmarks/training.py                  # ViT-B/32 rows
    python benchmarks/training.py --patch 16 --way 2   # ViT-B/16 rows, with little memory

Weights are random, since they do not change the cost. Every row runs in its own process, on 5-way 1-shot episodes
with one query per class, 8 frames of 224 x 224, float32. Seconds are the mean over `--episodes` after one episode for
warming up. Memory is the peak allocation of the GPU; on a CPU, it is how much the process grew after the model was
loaded.
"""

import argparse
import json
import subprocess
import sys
import time

import torch

from fsar.backbones import load_backbone
from fsar.devices import computing_in, peak_memory
from fsar.methods import build_method
from fsar.text.prompts import read_sub_actions
from fsar.training.episode_loss import EpisodeLoss
from fsar.training.parameters import freeze, make_optimizer
from fsar.training.recipes import Recipe

FRAMES = 8
LABELS = list(read_sub_actions("ssv2-small"))[:64]


def rows(patch: int) -> list[dict]:
    """Measure the chosen rows and print the table."""
    vit, full = f"ViT-B-{patch}-quickgelu/random", {"own": 1e-5, "visual": 1e-5}
    adapted = {"backbone": vit, "lr": {"own": 1e-3}}
    two_towers = {"layers": 6, "text_layers": 2, "sub_actions": "ssv2-small"}
    return [
        {"name": "OTAM, full", "method": "otam", "backbone": "timm/resnet50/random", "lr": {"visual": 1e-5}},
        {"name": "HyRSM, full", "method": "hyrsm", "backbone": "timm/resnet50/random", "lr": full},
        {"name": "CLIP-FSAR, full", "method": "clip-fsar", "backbone": vit, "lr": full},
        {"name": "MA-FSAR, full", "method": "ma-fsar", "options": {"fgma": False}, "backbone": vit, "lr": full},
        {"name": "MA-FSAR, adapters", "method": "ma-fsar", "backbone": vit, "lr": {"own": 2e-4}},
        {
            "name": "MA-FSAR, adapters, recomputed",
            "method": "ma-fsar",
            "backbone": vit,
            "lr": {"own": 2e-4},
            "checkpoint": True,
        },
        {"name": "Task-Adapter, L = 2", "method": "task-adapter", "options": {"layers": 2}, **adapted},
        {"name": "Task-Adapter, L = 6", "method": "task-adapter", "options": {"layers": 6}, **adapted},
        {"name": "Task-Adapter++, L = 6", "method": "task-adapter-pp", "options": two_towers, **adapted},
        {"name": "CLIP-MDMF, full", "method": "clip-mdmf", "backbone": vit, "lr": full},
        {"name": "CLIP-SPM, full", "method": "clip-spm", "backbone": vit, "lr": full},
        {"name": "ProtoNet, full fine-tuning", "method": "protonet", "backbone": vit, "lr": {"visual": 1e-5}},
    ]


def measure(row: dict, way: int, episodes: int) -> dict:
    """Train on random clips; measure time and memory."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    method = build_method(row["method"], load_backbone(row["backbone"]), **row.get("options", {})).to(device)
    labels = LABELS[:way]
    method.begin_training(LABELS)
    freeze(method, tuple(row["lr"]))
    if row.get("checkpoint"):
        method.backbone.checkpoint_activations()
    optimizer = make_optimizer(Recipe(method=row["method"], lr=row["lr"]), method)
    loss, size = EpisodeLoss(method).train(), method.backbone.image_size
    loaded = 0.0 if device == "cuda" else peak_memory()
    support = torch.randn(1, way, 1, FRAMES, 3, size, size, device=device)
    query, ways = torch.randn(1, way, FRAMES, 3, size, size, device=device), torch.arange(way, device=device)[None]
    with torch.no_grad():
        text = method.text_input(labels)[None] if method.traits.reads_text else None
    draws = torch.rand(1, way, way, device=device) if method.traits.draws else None
    times = []
    for _ in range(episodes + 1):
        begun = time.perf_counter()
        with computing_in(row.get("precision", "float32"), torch.device(device)):
            terms, _ = loss(support, query, text, ways, ways, draws)
        sum(terms.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return {
        "trained": sum(p.numel() for p in method.parameters() if p.requires_grad),
        "in all": sum(p.numel() for p in method.parameters()),
        "seconds": sum(times[1:]) / episodes,
        "gb": peak_memory() - loaded,
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, choices=(16, 32), default=32)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--way", type=int, default=5, help="classes per episode; fewer need less memory")
    parser.add_argument("--rows", nargs="+", type=int, help="numbers of the rows to measure, from 0")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(json.loads(options.row), options.way, options.episodes)))
        return
    print(f"| ViT-B/{options.patch} or ResNet-50 | trained | in all | s / episode | peak memory, GB |")
    print("|---|---:|---:|---:|---:|")
    for i, row in enumerate(rows(options.patch)):
        if options.rows and i not in options.rows:
            continue
        command = [
            sys.executable,
            __file__,
            "--episodes",
            str(options.episodes),
            "--way",
            str(options.way),
            "--row",
            json.dumps(row),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        got = json.loads(done.stdout.splitlines()[-1])
        trained, total = got["trained"] / 1e6, got["in all"] / 1e6
        cells = f"{row['name']} | {trained:.2f} M | {total:.1f} M | {got['seconds']:.2f} | {got['gb']:.2f}"
        print(f"| {cells} |", flush=True)
    print(f"\n{got['device']}, float32, torch {torch.__version__}")


if __name__ == "__main__":
    main()
