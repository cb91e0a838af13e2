"""Train the built-in backbone `tiny`: a two-tower CLIP on captioned frames of the generated world.

    python scripts/train_tiny.py            # minutes on two cores; writes src/fsar/backbones/weights/tiny.safetensors

Only the *train* classes of the world are rendered, with seeds that no clip of the dataset has. Captions name the
objects of a frame, their places and their sizes. Every second caption leaves out the looks, so that features hold
place and size as well as colour. The loss is CLIP's symmetric cross-entropy; equal captions in a batch share the
target. The log is scripts/train_tiny.log (JSON lines).
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fsar.backbones.clip import TINY_CONFIG, tiny_tokenize
from fsar.datasets.world import describe_frame, draw_scene, render_scene
from fsar.datasets.world_actions import ACTIONS
from fsar.video.transforms import to_clip

FRAMES_PER_CLIP = 4
FIRST_SEED = 1_000_000  # far from the seeds of the dataset


def render(clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Render frames and captions.

    Returns:
        Frames uint8 [image, rgb, height, width] at tiny's size, and token ids [caption=2, image, token].
    """
    actions = [action for action in ACTIONS if action.split == "train"]
    images, full, bare = [], [], []
    for index in range(clips):
        times = np.sort(np.random.default_rng(index).random(FRAMES_PER_CLIP))
        scene = draw_scene(actions[index % len(actions)], FIRST_SEED + index, times)
        images.append(to_clip(render_scene(scene, times), 64, (0, 0, 0), (1, 1, 1), "bicubic"))
        full += [describe_frame(scene, frame) for frame in range(FRAMES_PER_CLIP)]
        bare += [describe_frame(scene, frame, looks=False) for frame in range(FRAMES_PER_CLIP)]
    tokens = torch.stack([tiny_tokenize(full), tiny_tokenize(bare)])
    return (torch.cat(images) * 255).round().to(torch.uint8), tokens


def encode_text(model: open_clip.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Encode texts, cut to the longest caption of the batch."""
    length = int(tokens.argmax(-1).max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection


def main() -> None:
    """Render frames, train `tiny` and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1_600)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "src/fsar/backbones/weights/tiny.safetensors"
    )
    options = parser.parse_args()

    torch.manual_seed(0)
    start = time.time()
    images, tokens = render(options.clips)
    print(f"rendered {len(images)} frames in {time.time() - start:.0f} s")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    model = open_clip.CLIP(**TINY_CONFIG)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=options.rate
    )
    warm_up = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min(1, (s + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1, s / options.steps))),
    )
    log = Path(__file__).with_suffix(".log").open("w")
    parameters = sum(p.numel() for p in model.parameters())
    print(json.dumps({"parameters": parameters, **vars(options), "out": options.out.name}, default=str), file=log)
    generator = torch.Generator().manual_seed(0)
    for step in range(options.steps):
        batch = torch.randint(len(images), (options.batch,), generator=generator)
        pixels = (images[batch] / 255 - mean) / std
        image = F.normalize(model.encode_image(pixels), dim=-1)
        captions = tokens[torch.randint(2, batch.shape, generator=generator), batch]
        text = F.normalize(encode_text(model, captions), dim=-1)
        logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
        equal = (captions[:, None] == captions[None]).all(-1).float()
        target = equal / equal.sum(-1, keepdim=True)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == options.steps - 1:
            accuracy = equal.gather(1, logits.argmax(-1, keepdim=True)).mean()
            row = {"step": step, "loss": round(loss.item(), 4), "accuracy": round(accuracy.item(), 3)}
            print(json.dumps(row | {"seconds": round(time.time() - start)}), file=log, flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, options.out)


if __name__ == "__main__":
    main()
