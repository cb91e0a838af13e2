"""Batches of one size: a device is full, and a video's encoding does not depend on the videos beside it.

A library computes the rows of a batch alike, whatever the other rows hold, but another number of rows may be summed in
another order. So every batch has the same number of videos; the last one is filled up with its last video.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fsar.methods.episode import Encoding, Role

Item = TypeVar("Item")
MOST_WAITING = 4
"""A batch is encoded when it is full, or when so many times its size wait for it that need no encoding themselves."""


def batch_size(asked: int | None, device: torch.device, frames: int | None) -> int:
    """Return how many videos are encoded at once.

    Args:
        asked: by the user; None is 1 on a CPU, which larger batches do not make faster, and 16 on a GPU.
        device: that encodes.
        frames: of a clip; None if clips differ in length, and then each is encoded by itself.

    Raises:
        ValueError: less than one video is asked for.

    Example:
        >>> cpu = torch.device("cpu")
        >>> batch_size(None, cpu, frames=8), batch_size(4, cpu, frames=8), batch_size(4, cpu, frames=None)
        (1, 4, 1)
    """
    if asked is not None and asked < 1:
        raise ValueError(f"batch is {asked}; expected 1 or more videos")
    if frames is None:
        return 1
    return asked or (16 if device.type == "cuda" else 1)


def in_batches(items: Iterable[Item], size: int, counts: Callable[[Item], bool]) -> Iterator[list[Item]]:
    """Group items in their order, so that a group has at most `size` items that count.

    Args:
        items: what is grouped.
        size: of a batch.
        counts: whether an item is to be encoded; the others wait for their turn beside it.

    Example:
        >>> list(in_batches("aXbcXd", 2, str.islower))
        [['a', 'X', 'b'], ['c', 'X', 'd']]
    """
    group: list[Item] = []
    counted = 0
    for item in items:
        group.append(item)
        counted += counts(item)
        if counted == size or len(group) == MOST_WAITING * size or (size == 1 and counted == 0):
            yield group
            group, counted = [], 0
    if group:
        yield group


def encode_batch(
    encode: Callable[..., Encoding],
    clips: Sequence[Tensor],
    size: int,
    device: torch.device,
    role: Role = "query",
    texts: Sequence[Tensor] | None = None,
) -> list[Encoding]:
    """Encode one batch; it is filled up to its size.

    Args:
        encode: `Encoder.encode`.
        clips: of at most `size` videos, [frame, rgb, height, width] each.
        size: of the batch.
        device: of the encoder.
        role: of the videos.
        texts: class text [1, ...] of each video, if the encoder reads it.

    Returns:
        The encoding of each video, on the CPU.

    Raises:
        ValueError: there are more clips than `size`.
    """
    if len(clips) > size:
        raise ValueError(f"a batch has {len(clips)} clips; expected at most {size}")
    if not clips:
        return []
    empty = size - len(clips)
    # one clip keeps its strides, which kernels and so the last digits depend on
    batch = clips[0][None] if size == 1 else torch.stack([*clips, *[clips[-1]] * empty])
    if device.type == "cuda":
        batch = batch.pin_memory()  # then the copy runs beside what the device still computes
    text = torch.cat([*texts, *[texts[-1]] * empty]) if texts else None
    made = encode(batch.to(device, non_blocking=True), role, text)
    parts = {name: tensor.cpu() for name, tensor in made.items()}
    # clones: a row of its own, not a view that keeps the whole batch
    return [{name: part[i].clone() if size > 1 else part[i] for name, part in parts.items()} for i in range(len(clips))]


@torch.no_grad()
def encode_in_batches(
    encode: Callable[..., Encoding], clips: Iterable[Tensor], size: int, device: torch.device
) -> Iterator[Encoding]:
    """Encode clips in batches of one size; encodings come in the order of the clips.

    Args:
        encode: `Encoder.encode`.
        clips: [frame, rgb, height, width] each, all of one shape.
        size: videos in a batch.
        device: of the encoder.

    Example:
        >>> def encode(clips, role, text):
        ...     return {"mean": clips.mean((1, 2, 3, 4))}
        >>> clips = (torch.full((2, 3, 4, 4), float(i)) for i in range(3))
        >>> [encoding["mean"].item() for encoding in encode_in_batches(encode, clips, 2, torch.device("cpu"))]
        [0.0, 1.0, 2.0]
    """
    for group in in_batches(clips, size, lambda clip: True):
        yield from encode_batch(encode, group, size, device)
