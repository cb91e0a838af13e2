"""Fill a feature bank: every video is encoded once and then matched any number of times.

The bank on disk has one safetensors file per video, unless `Encoder.on_disk` is false. Its name is a hash of the
video's content, the frame sampling, the role and, if the encoding in that role reads it, the class text. The name of
the folder is a hash of everything else that the encoding depends on. A file holds the output of `Method.encoder`;
`Method.enhance` computes the rest. So methods and checkpoints with the same frozen encoder share these files, and
datasets and processes do, too. An encoding on disk is not computed again, and a killed run resumes.

The bank that is matched from lies in memory or, if it is large, in a file that has no name and ends with the process
(`Rows`).

Long: what fills a bank, in memory, on disk and on several devices, stands together.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fsar.backbones.base import layout_on
from fsar.backbones.given import PREFIX, GivenFeatures
from fsar.bank.batches import batch_size, encode_batch, in_batches
from fsar.bank.rows import LARGE, Rows
from fsar.bank.store import Bank, BankStore, NothingRead, open_store
from fsar.datasets import Video
from fsar.devices import Precision, computing_in, copies_on, single_threaded
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, FrameEncoder
from fsar.methods.episode import Encoding, Role
from fsar.methods.options import listed_on_features
from fsar.progress import ahead, in_turn, progress_bar
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError
from fsar.video.picture import Frames
from fsar.video.transforms import to_clip


def fill_bank(
    method: Method,
    videos: Sequence[Video],
    texts: Mapping[str, str] | None = None,
    *,
    cache: FrameCache | None = None,
    folder: Path | None = None,
    keep: bool = True,
    role: Role | None = None,
    enhance: bool = True,
    precision: Precision = "float32",
    leave_out: Mapping[str, str] | None = None,
    on_error: str = "stop",
    workers: int | None = None,
    devices: int = 1,
    batch: int | None = None,
    progress: bool = True,
) -> Bank:
    """Encode each video once, or once per role if the method encodes support videos and queries differently.

    Videos are encoded in batches of one size (`fsar.bank.batches`). So a result depends neither on the videos beside it
    nor on what the bank held before. `workers` threads decode ahead.

    Args:
        method: its `encode` is used.
        videos: in the order of the result.
        texts: class -> words; needed if a support video's encoding reads them.
        cache: how frames are taken; by default 8 by `tsn`.
        folder: of the bank on disk; by default in the cache folder.
        keep: read and write encodings on disk. False keeps them in memory, for an encoder that still trains.
        role: encode in this role only; the result then has the same encodings for both roles.
        enhance: False gives the output of `Method.encoder`, as training on a bank needs it.
        precision: of the arithmetic; the bank stores it, and episodes are matched in the same precision.
        leave_out: id -> reason; these videos are not read, and the result names them as skipped.
        on_error: `stop` at a broken video, or `skip` it and name it in the result.
        workers: decoding threads; by default one per core. Does not change the result.
        devices: GPUs, or copies on the CPU, that encode videos in turn (`fsar.devices.copies_on`). Does not change the
            result.
        batch: videos that are encoded at once; by default 1 on a CPU and 16 on a GPU. Another size may change the last
            digits, so banks on disk are kept apart by it.
        progress: show a progress bar.

    Returns:
        The bank: for each role, each named tensor of the encoding as [video, ...].

    Raises:
        VideoError: a broken video, with `on_error="stop"`.
        ValueError: no video; all videos are broken; `folder` holds the bank of another encoder; the device lacks the
            precision; the machine lacks the devices; the disk has no room for a large bank; `batch` is 0.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from fsar import build_method, load_backbone
        >>> from fsar.video.writing import write_video
        >>> method = build_method("otam", load_backbone("tiny"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file, frames = Path(folder) / "wave.mp4", FrameCache(Path(folder) / "frames")
        ...     write_video(file, np.zeros((20, 64, 64, 3), np.uint8), 10.0)
        ...     bank = fill_bank(method, [Video("wave/1", file, "wave")], cache=frames, keep=False, progress=False)
        >>> bank.query["frames"].shape  # video frame dim
        torch.Size([1, 8, 128])
    """
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error is {on_error!r}; expected stop or skip")
    if not videos:
        raise ValueError("there is no video to encode; give at least one")
    skipped = {video.id: leave_out[video.id] for video in videos if leave_out and video.id in leave_out}
    videos = [video for video in videos if video.id not in skipped]
    check_features(method, videos)
    if videos and videos[0].features is not None:
        return _given_bank(method, videos, texts, skipped, enhance)
    cache = cache or FrameCache()
    size = batch_size(batch, method.device, cache.frames)
    layout = layout_on(method.device, precision)
    apart: dict[str, Any] = {"framing": method.traits.framing, "batch": size, "layout": layout}
    store = open_store(method.encoder(), cache, folder, precision, code_of(method), **apart) if keep else None
    encoders = [VideoEncoder(one, cache, texts, store, role, enhance) for one in copies_on(method, devices)]
    encoder = encoders[0]
    rows = {role: Rows(len(videos)) for role in encoder.roles}
    kept: list[str] = []
    damaged: dict[str, int] = {}
    workers = workers or os.cpu_count() or 1
    prepared = ahead(encoder.prepare, videos, workers, most=max(2 * workers, 2 * size))
    batches = in_batches(zip(videos, prepared, strict=True), size, _is_to_be_encoded)
    made = chain.from_iterable(in_turn([partial(_encoded, one, precision, size) for one in encoders], batches))
    bar = progress_bar(zip(videos, made, strict=True), f"encode {method.name}", "video", len(videos), progress)
    # beside a GPU, the processor only prepares clips: a thread per clip, not all cores for each of them
    threads = single_threaded() if method.device.type == "cuda" else nullcontext()
    with threads, computing_in(precision, method.device):
        for video, encodings in bar:
            if isinstance(encodings, VideoError):
                if on_error == "stop":
                    raise encodings
                skipped[video.id] = str(encodings)
                continue
            for part, encoding in encodings.items():
                rows[part].append(encoding)
            if not kept and progress:
                _tell_size(rows, store)
            kept.append(video.id)
            if lost := cache.damaged(video.path):
                damaged[video.id] = lost
    if not kept:
        raise NothingRead(skipped)
    support, query = (rows[part].tensors for part in (encoder.roles[0], encoder.roles[-1]))
    return Bank(tuple(kept), support, query, skipped, damaged, precision)


def _tell_size(rows: Mapping[Role, Rows], store: BankStore | None) -> None:
    """Say the size of a large bank, when the first video shows it."""
    size = sum(part.bytes for part in rows.values())
    if size >= LARGE:
        kept = "" if store is None else f"; what other checkpoints share is kept in {store.folder}"
        tqdm.write(f"the bank takes {size / 1e9:.1f} GB, in a file that ends with this process{kept}", file=sys.stderr)


def check_features(method: Method, videos: Sequence[Video]) -> None:
    """Check, before any work, that a method takes videos as they are: read from files, or as features made elsewhere.

    Args:
        method: any.
        videos: of one dataset.

    Raises:
        ValueError: features made elsewhere for a method that looks into the image encoder, or that was built for other
            features; videos for a method that was built for features made elsewhere.
    """
    features, backbone = videos[0].features if videos else None, method.backbone
    if features is None:
        if isinstance(backbone, GivenFeatures):
            raise ValueError(
                f"{method.name} on {backbone.name} takes features made elsewhere, not videos; give --features FILE"
            )
        return
    file, (frames, dim) = videos[0].path, features.shape
    if backbone.name != f"{PREFIX}{dim}":
        raise ValueError(
            f"{method.name} is built for {backbone.name}, and {file} holds features of {dim} numbers, made elsewhere; "
            f"expected backbone {PREFIX}{dim}"
        )
    if type(method.encoder()) is not FrameEncoder:
        raise ValueError(
            f"{method.name} reads more of a video than one feature per frame, and {file} holds no more; choose a "
            f"method that starts from frame features: {listed_on_features(method.name)}"
        )
    trained = method.provenance
    if trained is not None and trained.clip["frames"] != frames:
        raise ValueError(
            f"{method.name} was trained with {trained.clip['frames']} features per video, and {file} has {frames}; "
            f"make as many for each video"
        )


def _given_bank(
    method: Method, videos: Sequence[Video], texts: Mapping[str, str] | None, skipped: Mapping[str, str], enhance: bool
) -> Bank:
    """The bank of features made elsewhere: they take the place of what the encoder gives."""
    rows = Rows(len(videos))
    for video in videos:
        rows.append({"frames": torch.from_numpy(np.asarray(video.features, np.float32))})
    start = Bank(tuple(video.id for video in videos), rows.tensors, rows.tensors, skipped)
    return enhance_bank(method, start, videos, texts or {}) if enhance else start


@torch.no_grad()
def enhance_bank(method: Method, start: Bank, videos: Sequence[Video], texts: Mapping[str, str]) -> Bank:
    """Compute the encodings of a method from the output of its frozen `method.encoder()`.

    Args:
        method: its `enhance` is used.
        start: the bank of `fill_bank(method, ..., enhance=False)`.
        videos: at least those in `start`, for their classes.
        texts: class -> words; read if a support video's encoding reads them.

    Returns:
        The bank that `fill_bank(method, ...)` gives for these videos.
    """
    label = {video.id: video.label for video in videos}
    roles = _roles(method.traits.roles_differ, None)
    made = {role: Rows(len(start.video_ids)) for role in roles}
    with computing_in(start.precision, method.device):
        for i, video_id in enumerate(start.video_ids):
            begun = {name: tensor[i] for name, tensor in start.query.items()}
            for role, rows in made.items():
                text = _text(method.traits, texts, label[video_id], role)
                rows.append(_of_one(method.enhance, method, begun, role, text))
    return replace(start, support=made[roles[0]].tensors, query=made[roles[-1]].tensors)


def load_clip(
    method: Method, cache: FrameCache, video: Path, start: float | None = None, end: float | None = None
) -> Tensor:
    """Read the frames of a video, or of a segment of it, as the method's backbone takes them.

    Args:
        method: gives size, mean and deviation of the input.
        cache: how frames are sampled, and where they are kept.
        video: a file, or a folder of frames.
        start: of a segment, in seconds; None is the start of the video.
        end: of a segment, in seconds; None is the end of the video.

    Returns:
        [frame, rgb, height, width], float32.

    Raises:
        VideoError: the video cannot be read.
    """
    return to_input(method, cache.read(video, start, end))


def to_input(method: Method, frames: Frames) -> Tensor:
    """Turn frames into the input of a method's backbone.

    Args:
        method: gives size, mean and deviation of the input.
        frames: uint8 [frame, height, width, rgb].

    Returns:
        [frame, rgb, height, width], float32.
    """
    backbone = method.backbone
    # a copy, since a memory map of the frame cache is read-only
    return to_clip(
        frames.copy(), backbone.image_size, *method.normalization, backbone.interpolation, method.traits.framing
    )


def code_of(method: Method) -> dict[str, str]:
    """Name the code that encodings depend on, if it is not of this package.

    Args:
        method: any.
    """
    own = method.origins()
    if type(method.encoder()) is FrameEncoder:
        own.pop("method", None)  # the backbone alone encodes
    return own


class Prepared(NamedTuple):
    """What can be read of a video without the model."""

    known: dict[Role, Encoding | None]
    """Encodings found on disk; None for a role without one."""
    clip: Tensor | None
    """[frame, rgb, height, width]; None if every encoding was found."""
    paths: Mapping[Role, Path]
    """Files of the encodings; empty if nothing is kept on disk."""


class VideoEncoder:
    """Encodes videos on one device: reads the encoder's output from disk or computes it, then applies `enhance`."""

    def __init__(
        self,
        method: Method,
        cache: FrameCache,
        texts: Mapping[str, str] | None,
        store: BankStore | None,
        role: Role | None,
        enhance: bool,
    ):
        self.method, self.cache, self.texts, self.store, self.enhance = method, cache, texts, store, enhance
        self.encoder = method.encoder()
        self.encoder_roles = _roles(self.encoder.roles_differ, role)
        self.roles = _roles(method.traits.roles_differ, role) if enhance else self.encoder_roles

    def prepare(self, video: Video) -> Prepared | VideoError:
        """Read the encodings on disk or, if one is missing, the clip. Runs in threads, since it needs no model."""
        try:
            if self.store is None:
                return Prepared(dict.fromkeys(self.encoder_roles), self._clip(video), {})
            frames = self.cache.identity(video.path, *video.span)
            paths = {role: self._path(self.store, frames, video, role) for role in self.encoder_roles}
            known = {role: self.store.load(path) for role, path in paths.items()}
            complete = all(encoding is not None for encoding in known.values())
            return Prepared(known, None if complete else self._clip(video), paths)
        except VideoError as error:
            return error

    def encode(self, video: Video, ready: Prepared) -> dict[Role, Encoding]:
        """Compute and keep the missing encodings; return the encoding in every role."""
        return self.encode_batch([(video, ready)], 1)[0]

    def encode_batch(self, batch: Sequence[tuple[Video, Prepared]], size: int) -> list[dict[Role, Encoding]]:
        """Do the same for several videos, of which at most `size` are encoded, in one batch of this size."""
        begun = {role: self._begun(batch, role, size) for role in self.encoder_roles}
        return [
            self._finished(video, {role: encodings[i] for role, encodings in begun.items()})
            for i, (video, _) in enumerate(batch)
        ]

    def _begun(self, batch: Sequence[tuple[Video, Prepared]], role: Role, size: int) -> list[Encoding]:
        """Return the encoder's output from disk; compute and write what is missing."""
        found = [ready.known[role] for _, ready in batch]
        missing = [(i, video, ready) for i, (video, ready) in enumerate(batch) if found[i] is None]
        named = [_text(self.encoder, self.texts, video.label, role) for _, video, _ in missing]
        texts = [self.method.encode_text([text]) for text in named if text]
        clips = [ready.clip for _, _, ready in missing if ready.clip is not None]
        made = encode_batch(self.encoder.encode, clips, size, self.method.device, role, texts)
        for (i, _, ready), encoding in zip(missing, made, strict=True):
            found[i] = encoding
            if self.store is not None and role in ready.paths:
                self.store.save(ready.paths[role], encoding)
        return [encoding for encoding in found if encoding is not None]

    def _finished(self, video: Video, begun: Mapping[Role, Encoding]) -> dict[Role, Encoding]:
        """Apply `enhance` to the encoder's output, in every role."""
        made = {}
        for role in self.roles:
            made[role] = begun[role if self.encoder.roles_differ else "query"]
            if self.enhance:
                text = _text(self.method.traits, self.texts, video.label, role)
                made[role] = _of_one(self.method.enhance, self.method, made[role], role, text)
        return made

    def _clip(self, video: Video) -> Tensor:
        return load_clip(self.method, self.cache, video.path, *video.span)

    def _path(self, store: BankStore, frames: str, video: Video, role: Role) -> Path:
        key = role if self.encoder.roles_differ else ""
        return store.path(frames, key, _text(self.encoder, self.texts, video.label, role))


def _is_to_be_encoded(item: tuple[Video, Prepared | VideoError]) -> bool:
    return isinstance(item[1], Prepared) and item[1].clip is not None


def _encoded(
    encoder: VideoEncoder, precision: Precision, size: int, batch: Sequence[tuple[Video, Prepared | VideoError]]
) -> list[dict[Role, Encoding] | VideoError]:
    """Encode what was prepared of videos, in a thread of the encoder's device; a broken video stays an error."""
    whole = [(video, ready) for video, ready in batch if isinstance(ready, Prepared)]
    with torch.no_grad(), computing_in(precision, encoder.method.device):  # each thread has its own modes
        made = iter(encoder.encode_batch(whole, size))
    return [ready if isinstance(ready, VideoError) else next(made) for _, ready in batch]


def _text(reader: Encoder | Traits, texts: Mapping[str, str] | None, label: str, role: Role) -> str | None:
    """Return the class text that the encoding in this role reads; None if it reads none."""
    return texts[label] if texts is not None and role == "support" and reader.support_reads_text else None


def _roles(differ: bool, role: Role | None) -> tuple[Role, ...]:
    """Roles to encode in: the requested one; else both if they differ, or `query` for both."""
    if not differ:
        return ("query",)
    return ("support", "query") if role is None else (role,)


def _of_one(
    enhance: Callable[..., Encoding], method: Method, begun: Encoding, role: Role, text: str | None
) -> Encoding:
    """Apply `enhance` to one encoding: the result does not depend on batches."""
    feature = method.encode_text([text]) if text else None
    one = {name: tensor[None].to(method.device) for name, tensor in begun.items()}
    return {name: tensor[0].cpu() for name, tensor in enhance(one, role, feature).items()}
