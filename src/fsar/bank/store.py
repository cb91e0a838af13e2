"""The feature bank, and its files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fsar import cache_limit
from fsar.devices import Precision
from fsar.files import atomic_path, cache_dir, write_text_atomic
from fsar.methods.encoder import Encoder
from fsar.methods.episode import Encoding
from fsar.video.frame_cache import FrameCache

FORMAT = 1


@dataclass(frozen=True)
class Bank:
    """Encodings of videos."""

    video_ids: tuple[str, ...]
    support: Encoding
    """In the support role: each named tensor is [video, ...]."""
    query: Encoding
    """In the query role: each named tensor is [video, ...]."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """id -> reason, of videos that were left out."""
    damaged: Mapping[str, int] = field(default_factory=dict)
    """id -> number of damaged or lost pictures, for videos that could be read in spite of them."""
    precision: Precision = "float32"
    """Precision of the encodings; episodes are matched in the same."""


class NothingRead(ValueError):
    """Not one of the videos could be used.

    Args:
        skipped: id -> reason.
    """

    def __init__(self, skipped: Mapping[str, str]):
        super().__init__(f"none of the {len(skipped)} videos could be used; the first: {next(iter(skipped.values()))}")
        self.skipped = skipped


class BankStore:
    """The files with the encodings of one encoder.

    Args:
        encoder: everything that the encoding depends on besides the video (`Encoder.key` and the clip's settings).
        folder: by default, a folder for this encoder in the cache folder.

    Raises:
        ValueError: the folder holds the bank of another encoder or of another version, or other files.
    """

    def __init__(self, encoder: Mapping[str, object], folder: Path | None = None):
        header = {"format": FORMAT, **encoder}
        name = blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=10).hexdigest()
        self.folder = folder or cache_dir() / "features" / name
        file = self.folder / "bank.json"
        if file.is_file():
            _require_same_encoder(file, header)
        elif folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(
                f"{folder} is no bank, and not empty; a bank fills its folder with files, so name a new or empty one"
            )
        else:
            write_text_atomic(file, json.dumps(header, indent=1))

    def path(self, *key: str | None) -> Path:
        """Return the file of the encoding with this key."""
        name = blake2b("\0".join(part or "" for part in key).encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def load(self, path: Path) -> Encoding | None:
        """Read an encoding; None if it is missing or damaged."""
        try:
            found = load_file(path)
            cache_limit.used(path)
            return found
        except (FileNotFoundError, SafetensorError):
            return None

    def save(self, path: Path, encoding: Encoding) -> None:
        """Write an encoding, whole or not at all."""
        with atomic_path(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in encoding.items()}, temporary)
        cache_limit.written(path)


def open_store(
    encoder: Encoder,
    cache: FrameCache,
    folder: Path | None = None,
    precision: Precision = "float32",
    code: Mapping[str, str] | None = None,
    framing: str = "short-side",
    batch: int = 1,
    layout: str = "contiguous",
) -> BankStore | None:
    """Open the place on disk of an encoder's encodings.

    Args:
        encoder: says what else its encodings depend on, and whether they are worth keeping.
        cache: says how frames are taken.
        folder: an explicit folder, which keeps any encoding; by default one in the cache folder.
        precision: encodings of another precision than float32 are kept apart.
        code: of a method and backbone that are not of this package; encodings of other code are kept apart.
        framing: how frames are resized (`Traits.framing`); encodings of another than the usual one are kept apart.
        batch: videos that are encoded at once; encodings of other sizes than 1 are kept apart.
        layout: of images in memory (`fsar.backbones.base.layout_on`); the other one is kept apart.

    Returns:
        The store; None if nothing is to be kept.

    Raises:
        ValueError: as `BankStore`.
    """
    if not encoder.on_disk and folder is None:
        return None
    return BankStore(encoder_key(encoder, cache, precision, code, framing, batch, layout), folder)


def encoder_key(
    encoder: Encoder,
    cache: FrameCache,
    precision: Precision = "float32",
    code: Mapping[str, str] | None = None,
    framing: str = "short-side",
    batch: int = 1,
    layout: str = "contiguous",
) -> dict[str, object]:
    """Describe everything that encodings depend on besides the videos.

    Args:
        encoder: as for `open_store`.
        cache: as for `open_store`.
        precision: as for `open_store`.
        code: as for `open_store`.
        framing: as for `open_store`.
        batch: as for `open_store`.
        layout: as for `open_store`.
    """
    apart: dict[str, object] = {} if precision == "float32" else {"precision": precision}
    apart |= {"own": dict(code)} if code else {}
    apart |= {} if framing == "short-side" else {"framing": framing}
    apart |= {} if batch == 1 else {"batch": batch}
    apart |= {} if layout == "contiguous" else {"layout": layout}
    return encoder.key() | {"clip": cache.settings()} | apart


def _require_same_encoder(file: Path, header: Mapping[str, object]) -> None:
    try:
        found = dict(json.loads(file.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: not a bank's header ({error}); give another folder") from error
    differing = [key for key in sorted({*found, *header}) if found.get(key) != header.get(key)]
    if differing:
        listed = "; ".join(f"{key} is {found.get(key)!r} there, {header.get(key)!r} here" for key in differing)
        raise ValueError(f"{file.parent} holds a bank of another encoder: {listed}. Give another folder, or none")
