"""The feature bank: every video is encoded once, and matched as often as one likes.

On disk one safetensors file per video, named by the video's content, the frame sampling, the role and
(where the role's encoding reads it) the class text, in a folder named by everything else the encoding
depends on. So banks are shared between methods with the same encoder, between datasets and between
processes; a filled part is never computed again, and a killed run goes on where it stopped.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fsar.datasets import Video
from fsar.files import atomic_path, cache_dir
from fsar.frame_cache import FrameCache
from fsar.methods.base import Encoding, Method, Role
from fsar.progress import ahead, progress_bar
from fsar.transforms import to_clip
from fsar.video import VideoError

FORMAT = 1


@dataclass(frozen=True)
class Bank:
    """Encodings of videos: for each role, each named tensor is [video, ...]."""

    video_ids: tuple[str, ...]
    support: Encoding
    query: Encoding
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Videos that could not be read, with the reason."""


class BankStore:
    """Where encodings of one encoder lie on disk.

    Args:
        encoder: everything the encoding depends on beside the video (`Method.encoder`).
        folder: an explicit folder; by default one named by the encoder in the cache folder.

    Raises:
        ValueError: the folder holds another encoder's bank, or one of another version.
    """

    def __init__(self, encoder: Mapping[str, object], folder: Path | None = None):
        header = {"format": FORMAT, **encoder}
        name = blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=10).hexdigest()
        self.folder = folder or cache_dir() / "features" / name
        file = self.folder / "bank.json"
        if file.is_file():
            _require_same_encoder(file, header)
        else:
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(header, indent=1))

    def path(self, *key: str | None) -> Path:
        """File of the encoding named by `key`."""
        name = blake2b("\0".join(part or "" for part in key).encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def load(self, path: Path) -> Encoding | None:
        """Read an encoding; None where there is none, or a damaged one."""
        try:
            return load_file(path)
        except (FileNotFoundError, SafetensorError):
            return None

    def save(self, path: Path, encoding: Encoding) -> None:
        """Write an encoding, whole or not at all."""
        with atomic_path(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in encoding.items()}, temporary)


def _require_same_encoder(file: Path, header: Mapping[str, object]) -> None:
    try:
        found = dict(json.loads(file.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: not a bank's header ({error}); give another folder") from error
    differing = [key for key in sorted({*found, *header}) if found.get(key) != header.get(key)]
    if differing:
        listed = "; ".join(f"{key} is {found.get(key)!r} there, {header.get(key)!r} here" for key in differing)
        raise ValueError(f"{file.parent} holds a bank of another encoder: {listed}. Give another folder, or none")


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
) -> Bank:
    """Encode each video once (twice where a method's support role reads the class text).

    Videos are encoded one at a time, so that a result depends neither on how they are batched nor on
    what was in the bank before; decoding runs ahead in `workers` threads.

    Args:
        method: whose `encode` to use.
        videos: in the order of the result.
        texts: class -> words; needed where `method.support_reads_text`.
        cache: frames; by default 8 by `tsn`.
        folder: where the bank lies on disk; by default in the cache folder.
        on_error: `stop` at a broken video, or `skip` it and name it in the result.
        workers: decoding threads; by default one per core.
        progress: show a progress bar.
        keep: read and write encodings on disk; without it they only live in the result, as suits an
            encoder that is still training.
        role: encode in this role only; it then stands for both in the result.

    Raises:
        VideoError: a broken video, with `on_error="stop"`.
        ValueError: no video, every video is broken, or `folder` holds another encoder's bank.
    """
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error is {on_error!r}; expected stop or skip")
    if not videos:
        raise ValueError("there is no video to encode; give at least one")
    cache = cache or FrameCache()
    roles: tuple[Role, ...] = ("support", "query") if method.roles_differ else ("query",)
    if role is not None:
        roles = (role,) if method.roles_differ else ("query",)
    stores = _stores(method, roles, cache, folder) if keep else {}
    encodings: dict[Role, list[Encoding]] = {role: [] for role in roles}
    kept, skipped = [], {}

    def text_of(video: Video, role: Role) -> str | None:
        return texts[video.label] if texts and role == "support" and method.support_reads_text else None

    def prepare(video: Video) -> tuple[dict[Role, Path], dict[Role, Encoding | None], Tensor | None] | VideoError:
        """Whatever can be had without the model: encodings on disk, or else the clip."""
        try:
            if not stores:
                return {}, dict.fromkeys(roles), load_clip(method, cache, video.path)
            content = cache.content(video.path)
            paths = {
                role: stores[role].path(content, role if method.support_reads_text else "", text_of(video, role))
                for role in roles
            }
            known = {role: stores[role].load(path) for role, path in paths.items()}
            if all(encoding is not None for encoding in known.values()):
                return paths, known, None
            return paths, known, load_clip(method, cache, video.path)
        except VideoError as error:
            return error

    device = method.device
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
            for role in roles:
                encoding = known[role]
                if encoding is None:
                    assert clip is not None
                    text = text_of(video, role)
                    feature = method.encode_text([text]).to(device) if text else None
                    batch = method.encode(clip[None].to(device), role, feature)
                    encoding = {name: tensor[0].cpu() for name, tensor in batch.items()}
                    if stores:
                        stores[role].save(paths[role], encoding)
                encodings[role].append(encoding)
            kept.append(video.id)
    if not kept:
        raise ValueError(f"none of the {len(videos)} videos could be read; the first: {next(iter(skipped.values()))}")
    stacked = {role: _stack(encodings.pop(role)) for role in roles}
    support, query = stacked[roles[0]], stacked[roles[-1]]
    return Bank(tuple(kept), support, query, skipped)


def _stores(method: Method, roles: Sequence[Role], cache: FrameCache, folder: Path | None) -> dict[Role, BankStore]:
    """Where each role's encodings lie; in an explicit folder, apart where the roles depend on different things."""
    encoders = {role: method.encoder(role) | {"clip": cache.settings()} for role in roles}
    apart = folder is not None and len({str(encoder) for encoder in encoders.values()}) > 1
    return {role: BankStore(encoders[role], folder / role if apart and folder else folder) for role in roles}


_ENHANCED_AT_ONCE = 32  # videos; bounds memory


@torch.no_grad()
def enhance_bank(method: Method, start: Bank, videos: Sequence[Video], texts: Mapping[str, str]) -> Bank:
    """Go on from a bank of `method.frozen_start()` to the method's own encodings."""
    label = {video.id: video.label for video in videos}
    chunks = range(0, len(start.video_ids), _ENHANCED_AT_ONCE)

    def enhanced(role: Role) -> Encoding:
        parts = []
        for first in chunks:
            ids = start.video_ids[first : first + _ENHANCED_AT_ONCE]
            reads_text = role == "support" and method.support_reads_text
            text = method.encode_text([texts[label[video_id]] for video_id in ids]) if reads_text else None
            begun = {name: t[first : first + _ENHANCED_AT_ONCE].to(method.device) for name, t in start.query.items()}
            parts.append(method.enhance(begun, role, text))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    query = enhanced("query")
    return Bank(start.video_ids, enhanced("support") if method.roles_differ else query, query, start.skipped)


def load_clip(method: Method, cache: FrameCache, video: Path) -> Tensor:
    """Frames of a video as the method's backbone takes them: [frame, rgb, height, width]."""
    backbone = method.backbone
    # a copy, since the cache's memory map is read-only
    frames = cache.read(video).copy()
    return to_clip(frames, backbone.image_size, backbone.mean, backbone.std, backbone.interpolation)


def _stack(encodings: list[Encoding]) -> Encoding:
    return {name: torch.stack([encoding[name] for encoding in encodings]) for name in encodings[0]}
