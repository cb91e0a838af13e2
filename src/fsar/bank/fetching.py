"""Videos at URLs: each is copied to this machine for as long as it is decoded."""

import os
import re
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any

from fsar.datasets.place import fetch, url_of
from fsar.video.apart import ApartCache
from fsar.video.paths import VideoError, VideoPath
from fsar.video.picture import Frames


@dataclass(frozen=True, eq=False)
class FetchingCache(ApartCache):
    """A frame cache that also takes URLs. A copy of a whole video goes when it was read; one of which segments are read
    stays as long as the folder.
    """

    locks: dict[str, Any] = field(default_factory=dict)
    guard: Any = field(default_factory=Lock)

    def content(self, video: VideoPath, start: float | None = None, end: float | None = None) -> str:
        """Hash the content of a video, as `FrameCache.content` does; that of a URL is the identity of its frames."""
        if isinstance(video, Path) and url_of(video) is not None:
            return self.identity(video, start, end)
        return super().content(video, start, end)

    def _ask(
        self, do: str, video: VideoPath, start: float | None, end: float | None
    ) -> tuple[dict[str, Any], Frames | None]:
        path = Path(os.fspath(video))  # type: ignore[arg-type]
        url = url_of(path)
        if url is None:
            return super()._ask(do, path, start, end)
        with self.guard:
            lock = self.locks.setdefault(url, Lock())
        local = self.root / "copies" / (blake2b(url.encode(), digest_size=16).hexdigest() + path.suffix)
        with lock:
            _copy(path, url, local)
            if start is None and end is None:  # nobody else may remove the copy meanwhile
                try:
                    return self._ask_copy(do, path, local, None, None)
                finally:
                    if do == "read":
                        local.unlink(missing_ok=True)
        return self._ask_copy(do, path, local, start, end)

    def _ask_copy(
        self, do: str, path: Path, local: Path, start: float | None, end: float | None
    ) -> tuple[dict[str, Any], Frames | None]:
        """Decode a copy, and tell of it by the name of the original."""
        try:
            made = super()._ask(do, local, start, end)
        except VideoError as error:
            raise VideoError(path, error.reason) from error
        if (local, start, end) in self.seen:
            self.seen[path, start, end] = self.seen.pop((local, start, end))
        return made


def _copy(path: Path, url: str, local: Path) -> None:
    if local.exists():
        return
    local.parent.mkdir(parents=True, exist_ok=True)
    try:
        fetch(url, local)  # another error ends the run, and the folder of this half of a copy
    except FileNotFoundError as error:
        raise VideoError(path, "no such file; check the URL") from error


def reason(text: str, folder: str) -> str:
    """Return a reason without the names of this machine's temporary files: equal on every machine.

    Args:
        text: of an error.
        folder: with the temporary files.

    Example:
        >>> reason("/tmp/fsar-7/copies/3f.mp4: the file is empty", "/tmp/fsar-7")
        'the file is empty'
    """
    return re.sub(rf"{re.escape(folder)}\S*: ", "", text)
