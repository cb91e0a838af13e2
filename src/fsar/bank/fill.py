"""The feature bank: every video is encoded once, and matched as often as one likes.

On disk one safetensors file per video, named by the video's content, the frame sampling, the role and
(where the role's encoding reads it) the class text, in a folder named by everything else the encoding
depends on. What lies there is what `Method.encoder` gives: methods and checkpoints with the same frozen encoder
share it, and `Method.enhance` computes the rest in memory. Banks are shared
between datasets and processes, too; a filled part is never computed again, and a killed run goes on where
it stopped.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsar.bank.store import Bank, BankStore
from fsar.datasets import Video
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder
from fsar.methods.episode import Encoding, Role
from fsar.progress import ahead, progress_bar
from fsar.video.frame_cache import FrameCache
from fsar.video.reading import VideoError
from fsar.video.transforms import to_clip


def fill_bank(
    method: Method,
    videos: Sequence[Video],
    texts: Mapping[str, str] | None = None,
    cache: FrameCache | None = None,
    folder: Path | None = None,
    on_error: str = "stop",
    workers: int | None = None,
    progress: bool = True,
    keep: bool = True,
    role: Role | None = None,
    leave_out: Mapping[str, str] | None = None,
    enhance: bool = True,
) -> Bank:
    """Encode each video once (twice where a method's support role reads the class text).

    Videos are encoded one at a time, so that a result depends neither on how they are batched nor on
    what was in the bank before; decoding runs ahead in `workers` threads.

    Args:
        method: whose `encode` to use.
        videos: in the order of the result.
        texts: class -> words; needed if a support video's encoding reads them.
        cache: frames; by default 8 by `tsn`.
        folder: where the bank lies on disk; by default in the cache folder.
        on_error: `stop` at a broken video, or `skip` it and name it in the result.
        workers: decoding threads; by default one per core.
        progress: show a progress bar.
        keep: read and write encodings on disk; without it they only live in the result, as suits an
            encoder that is still training.
        role: encode in this role only; it then stands for both in the result.
        leave_out: id -> reason, of videos to skip unread; those among `videos` are named as skipped.
        enhance: False gives what `Method.encoder` alone makes, as training on a bank needs it.

    Raises:
        VideoError: a broken video, with `on_error="stop"`.
        ValueError: no video, every video is broken, or `folder` holds another encoder's bank.
    """
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error is {on_error!r}; expected stop or skip")
    if not videos:
        raise ValueError("there is no video to encode; give at least one")
    cache = cache or FrameCache()
    skipped = {video.id: leave_out[video.id] for video in videos if leave_out and video.id in leave_out}
    videos = [video for video in videos if video.id not in skipped]
    encoder = method.encoder()
    store = BankStore(encoder.key() | {"clip": cache.settings()}, folder) if keep else None
    encoder_roles = _roles(encoder.roles_differ, role)
    roles = _roles(method.traits.roles_differ, role) if enhance else encoder_roles
    encodings = {role: _Rows(len(videos)) for role in roles}
    kept = []

    def text_of(reader: Encoder | Traits, video: Video, role: Role) -> str | None:
        return texts[video.label] if texts and role == "support" and reader.support_reads_text else None

    def prepare(video: Video) -> tuple[dict[Role, Path], dict[Role, Encoding | None], Tensor | None] | VideoError:
        """Whatever can be had without the model: encodings on disk, or else the clip."""
        try:
            if store is None:
                return {}, dict.fromkeys(encoder_roles), load_clip(method, cache, video.path, *video.span)
            content = cache.content(video.path, *video.span)
            paths = {
                role: store.path(content, role if encoder.roles_differ else "", text_of(encoder, video, role))
                for role in encoder_roles
            }
            known = {role: store.load(path) for role, path in paths.items()}
            if all(encoding is not None for encoding in known.values()):
                return paths, known, None
            return paths, known, load_clip(method, cache, video.path, *video.span)
        except VideoError as error:
            return error

    prepared = ahead(prepare, videos, workers or os.cpu_count() or 1)
    bar = progress_bar(zip(videos, prepared, strict=True), "encode", "video", len(videos), progress)
    with torch.no_grad():
        for video, outcome in bar:
            if isinstance(outcome, VideoError):
                if on_error == "stop":
                    raise outcome
                skipped[video.id] = str(outcome)
                continue
            paths, known, clip = outcome
            for part in [part for part, encoding in known.items() if encoding is None]:
                assert clip is not None
                known[part] = new = _of_one(encoder.encode, method, clip, part, text_of(encoder, video, part))
                if store is not None:
                    store.save(paths[part], new)
            for part in roles:
                encoding = known[part if encoder.roles_differ else "query"]
                assert encoding is not None
                if enhance:
                    encoding = _of_one(method.enhance, method, encoding, part, text_of(method.traits, video, part))
                encodings[part].append(encoding)
            kept.append(video.id)
    if not kept:
        raise ValueError(f"none of the {len(skipped)} videos could be used; the first: {next(iter(skipped.values()))}")
    return Bank(tuple(kept), encodings[roles[0]].tensors, encodings[roles[-1]].tensors, skipped)


def _roles(differ: bool, role: Role | None) -> tuple[Role, ...]:
    """Roles to encode in: both, the one asked for, or `query` if they do not differ."""
    if not differ:
        return ("query",)
    return ("support", "query") if role is None else (role,)


def _of_one(
    function: Callable[..., Encoding], method: Method, video: Tensor | Encoding, role: Role, text: str | None
) -> Encoding:
    """Apply `encode` to one clip, or `enhance` to one encoding; nothing rests on how videos are batched."""
    feature = method.encode_text([text]) if text else None
    device = method.device
    if isinstance(video, Tensor):
        batch: Any = video[None].to(device)
    else:
        batch = {name: tensor[None].to(device) for name, tensor in video.items()}
    return {name: tensor[0].cpu() for name, tensor in function(batch, role, feature).items()}


@torch.no_grad()
def enhance_bank(method: Method, start: Bank, videos: Sequence[Video], texts: Mapping[str, str]) -> Bank:
    """Compute the method's own encodings from what a frozen `method.encoder()` gave."""
    label = {video.id: video.label for video in videos}
    roles = _roles(method.traits.roles_differ, None)
    made = {role: _Rows(len(start.video_ids)) for role in roles}
    for i, video_id in enumerate(start.video_ids):
        begun = {name: tensor[i] for name, tensor in start.query.items()}
        for role, encodings in made.items():
            text = texts[label[video_id]] if role == "support" and method.traits.support_reads_text else None
            encodings.append(_of_one(method.enhance, method, begun, role, text))
    return Bank(start.video_ids, made[roles[0]].tensors, made[roles[-1]].tensors, start.skipped)


def load_clip(
    method: Method, cache: FrameCache, video: Path, start: float | None = None, end: float | None = None
) -> Tensor:
    """Frames of a video, or of a segment of it, as the method's backbone takes them: [frame, rgb, height, width]."""
    backbone = method.backbone
    # a copy, since the cache's memory map is read-only
    frames = cache.read(video, start, end).copy()
    return to_clip(frames, backbone.image_size, *method.normalization, backbone.interpolation)


class _Rows:
    """Encodings of videos as one tensor for each part, filled row by row.

    Kept one by one they would lie between the large tensors that come and go, which then find no room any more:
    the memory of 2,400 videos would grow by gigabytes.
    """

    def __init__(self, count: int):
        self.count, self.filled = count, 0
        self.whole: Encoding = {}

    def append(self, encoding: Encoding) -> None:
        """Fill the next row."""
        if not self.whole:
            self.whole = {name: tensor.new_empty((self.count, *tensor.shape)) for name, tensor in encoding.items()}
        for name, tensor in encoding.items():
            self.whole[name][self.filled] = tensor
        self.filled += 1

    @property
    def tensors(self) -> Encoding:
        """The rows filled so far."""
        return {name: tensor[: self.filled] for name, tensor in self.whole.items()}
