"""All projects of a folder: recognisers' files `NAME.fsar`, and their clips `NAME/ACTION/CLIP`.

The command line takes both as they are (`fsar recognize --model NAME.fsar`, `--examples NAME/`), and the service takes
what the command line left.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from threading import Lock, RLock
from typing import Any

from fsar.backbones import Backbone
from fsar.devices import to_device
from fsar.names import unknown
from fsar.recognizer import Recognizer
from fsar.recognizer.background import BACKGROUND
from fsar.recognizer.files import read_file
from fsar.service.decoders import DecodedApart, Decoders
from fsar.service.limits import Limits, Refused
from fsar.service.project import SUFFIX, Project
from fsar.service.security import NAME, require_name
from fsar.service.tasks import Tell
from fsar.video.motion import MOVING

NEARLY = 0.9
"""Share of the room on the disk from which on it is said to be nearly full."""
BUILT_IN = ("tiny", "lite0")
METHODS = ("place-motion", "bi-mhm", "otam", "protonet")
"""Methods that need no training; the first one is that of a new recogniser."""


class Projects:
    """All projects in one folder. Threads may use them at once; recognisers with the same backbone share it.

    Args:
        root: the folder; links in it that lead out of it are not followed.
        decoders: decode the clips.
        limits: of clips and room.
        backbone: of new recognisers.
    """

    def __init__(self, root: Path, decoders: Decoders, limits: Limits, backbone: str = "lite0"):
        self.root = root.resolve(strict=True)
        self.limits, self.backbone = limits, backbone
        self._decoders = decoders
        self._backbones: dict[str, Backbone] = {}
        self._projects: dict[str, Project] = {}
        self._lock, self._loading = RLock(), Lock()
        for name in self.names():
            self.get(name).forget_history()

    def names(self) -> list[str]:
        """List the recognisers."""
        files = (file for file in self.root.glob(f"*{SUFFIX}") if file.is_file() and not file.is_symlink())
        return sorted(file.stem for file in files if NAME.fullmatch(file.stem))

    def get(self, name: str) -> Project:
        """Find a project.

        Raises:
            Refused: there is none of this name.
        """
        with self._lock:
            if name not in self.names():
                raise Refused(404, unknown(name[:100], self.names(), "recogniser"))
            if name not in self._projects:
                self._projects[name] = Project(name, self.root, self.load, self.require_room, self.limits.clips)
            return self._projects[name]

    def create(self, name: str, backbone: str | None = None) -> Project:
        """Make an empty recogniser.

        Raises:
            Refused: a name that is taken or not allowed, another backbone, or too many recognisers.
        """
        self._require_free(name, backbone or self.backbone)
        return self._add(name, Recognizer(self._shared(backbone or self.backbone), cache=self._cache(8, MOVING)))

    def rebuild(self, name: str, to: str, method: str, backbone: str, tell: Tell) -> dict[str, Any]:
        """Make another recogniser of the same clips, with another method or backbone.

        Args:
            name: of the recogniser whose clips are taken.
            to: name of the new one.
            method: one of `METHODS`.
            backbone: as for `create`.
            tell: is told the share that is done.

        Returns:
            `made`, the name of the new one; for it and the old one, the share of the examples that the others name
            right, `accuracy` and `before`.

        Raises:
            ValueError: a clip's file is not in the folder, or cannot be decoded any more.
            Refused: an unknown method, or as for `create`.
        """
        if method not in METHODS:
            raise Refused(422, unknown(method, METHODS, "method"))
        self._require_free(to, backbone)
        old = self.get(name)
        made = Recognizer(self._shared(backbone), method, cache=self._cache(8, MOVING))
        groups = {
            **old.recognizer.examples,
            **({BACKGROUND: old.recognizer.background} if method == METHODS[0] else {}),
        }
        clips = [(action, old.clip_of(action, video)) for action, videos in groups.items() for video in videos]
        for i, (action, clip) in enumerate(clips):
            tell(i / len(clips))
            made.enroll(action, clip)
        accuracy, before = made.fit().accuracy, old.recognizer.fit().accuracy
        tell(1.0)
        new = self._add(to, made)
        for action, clip in clips:
            new.adopt(action, clip)
        return {"made": to, "accuracy": accuracy, "before": before}

    def take(self, name: str, file: Path) -> Project:
        """Take a recogniser's file from elsewhere; it has encodings, and no clips.

        A process with limits on memory and time loads it first (see `fsar.service.worker`).

        Raises:
            ValueError: it is no such file, or runs code of its own.
            Refused: as for `create`.
        """
        require_name(name, "recogniser")
        self._decoders.ask({"do": "load", "video": os.fspath(file), "backbones": list(self.backbones)})
        self._require_free(name, read_file(file).backbone)
        return self._add(name, self.load(file))

    def _require_free(self, name: str, backbone: str) -> None:
        require_name(name, "recogniser")
        if backbone not in self.backbones:
            raise Refused(
                422, unknown(backbone, self.backbones, "backbone") + "; `fsar serve --backbone` sets another one"
            )
        if name in self.names() or (self.root / name).exists():
            raise Refused(409, f"there is a recogniser or a folder {name!r} already; choose another name")
        if len(self.names()) >= self.limits.recognizers:
            raise Refused(409, f"there are {self.limits.recognizers} recognisers, and no more are taken; delete one")
        self.require_room(0)

    @property
    def backbones(self) -> dict[str, None]:
        """Backbones of recognisers; others could be fetched from elsewhere, or be files of this machine."""
        return dict.fromkeys((self.backbone, *BUILT_IN))

    def _add(self, name: str, recognizer: Recognizer) -> Project:
        with self._lock:
            try:
                (self.root / name).mkdir()
            except FileExistsError as error:  # of a request at the same time
                raise Refused(409, f"there is a recogniser {name!r} already; choose another name") from error
            recognizer.save(self.root / f"{name}{SUFFIX}")
            return self.get(name)

    def delete(self, name: str) -> None:
        """Delete a recogniser and its clips. Files that are none of its clips stay.

        Raises:
            Refused: there is none of this name.
        """
        with self._lock:
            self.get(name).delete()
            del self._projects[name]

    def load(self, path: Path) -> Recognizer:
        """Load a recogniser; its backbone is shared unless the file changes it."""
        contents = read_file(path)
        shared = None if contents.state else self._shared(contents.backbone)
        recognizer = Recognizer.load(path, shared, self._cache(contents.frames, contents.sampling))
        to_device(recognizer.method)
        return recognizer

    def disk(self) -> dict[str, Any]:
        """Tell how much room the folder takes and has, in bytes, and a warning before it is full."""
        sizes = {}
        for folder, _, files in os.walk(self.root):
            for file in files:
                with suppress(FileNotFoundError):
                    stat = os.lstat(os.path.join(folder, file))
                    sizes[stat.st_ino] = stat.st_size
        used, free = sum(sizes.values()), shutil.disk_usage(self.root).free
        limit = min(round(self.limits.disk_gb * 1e9), used + free)
        full = f"{used / 1e9:.2f} of {limit / 1e9:.2f} GB are used; delete clips or recognisers, or make room"
        return {"used": used, "limit": limit, "warning": full if used > NEARLY * limit else None}

    def require_room(self, size: int) -> None:
        """Refuse what would not fit on the disk.

        Args:
            size: bytes to add.

        Raises:
            Refused: it does not fit.
        """
        disk = self.disk()
        if disk["used"] + size > disk["limit"]:
            raise Refused(507, f"no room for {size / 1e6:.1f} MB more: {disk['warning']}")

    def _cache(self, frames: int | None, sampling: str) -> DecodedApart:
        return DecodedApart(frames=frames, sampling=sampling, decoders=self._decoders)

    def _shared(self, name: str) -> Backbone:
        with self._loading:
            if name not in self._backbones:
                self._backbones[name] = Recognizer(name).backbone
            return self._backbones[name]
