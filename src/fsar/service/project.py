"""One project: `NAME.fsar`, a recogniser's file, and beside it `NAME/ACTION/CLIP`, its clips.

The recogniser's file says what is enrolled. It is replaced as a whole, and only then are clips moved to where it says.
So a kill at any moment leaves the state before a change or after it, and at worst a clip in the folder that is not
enrolled. Hidden folders hold what `undo` needs: `NAME/.removed` and `NAME/.history`.

Long: every change goes through `_edit`, which keeps file, clips and memory as one.
"""

import base64
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from threading import Lock, RLock
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from fsar.datasets import Video
from fsar.files import locked
from fsar.names import unknown
from fsar.recognizer import Recognizer
from fsar.recognizer.background import BACKGROUND
from fsar.recognizer.faults import fault_of
from fsar.recognizer.review import name_left_out, review
from fsar.service.decoders import DecodedApart
from fsar.service.growth import Growth, effect_of
from fsar.service.limits import Refused
from fsar.service.security import require_name
from fsar.service.uploads import Upload
from fsar.video.paths import display
from fsar.video.picture import Frame
from fsar.video.writing import write_video

SUFFIX = ".fsar"
UNDONE = 10
"""Changes of a recogniser that can be taken back."""
PREVIEW, CUT = 240, 720
"""Pixels of the short side of a preview, and of a clip that was cut out of a video."""
SMALL = 112
"""Pixels of the short side of a frame that is shown beside another one."""

Clips = set[tuple[str, str]]
"""Action and name of clips."""


class Project:
    """One recogniser and its clips.

    Args:
        name: of the recogniser.
        root: folder of its file; its clips are in the folder of its name there.
        load: reads a recogniser's file.
        require_room: refuses so many bytes more if they do not fit.
        most: clips.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        load: Callable[[Path], Recognizer],
        require_room: Callable[[int], None],
        most: int,
    ):
        self.name, self.file, self.folder = name, root / f"{name}{SUFFIX}", root / name
        self._load, self._require_room, self._most = load, require_room, most
        self._editing, self._loading = RLock(), Lock()
        self._known: tuple[object, Recognizer] | None = None
        self._history: list[Path] = []
        self._saved: object = None
        self._growth = Growth(self.folder / ".growth.jsonl")

    # ----------------------------------------------------------------------- questions

    @property
    def recognizer(self) -> Recognizer:
        """The recogniser, loaded again if another program changed its file."""
        with self._loading:
            state = self._state()
            if self._known is None or self._known[0] != state:
                self._known = state, self._load(self.file)
            return self._known[1]

    def describe(self) -> dict[str, Any]:
        """Tell what is enrolled, and what to expect of answers."""
        recognizer = self.recognizer
        fit, lacking = None, None
        try:
            fit = recognizer.fit()
        except ValueError as error:  # too few examples
            lacking = str(error)
        files = {name for _, _, names in os.walk(self.folder) for name in names}
        actions = {name: [self._named(video) for video in videos] for name, videos in recognizer.examples.items()}
        return {
            "name": self.name,
            "backbone": recognizer.backbone.name,
            "method": recognizer.method.name,
            "actions": actions,
            "background": [self._named(video) for video in recognizer.background],
            "absent": sorted({clip for _, clip in self._clips(recognizer) if Path(clip).name not in files}),
            "lacking": lacking,
            "expected": None if fit is None else fit.expected,
            "fit": None if fit is None else str(fit),
            "undo": len(self._history),
            "state": self._label(),
        }

    def predict(self, upload: Upload, nearest: int = 0, pairs: bool = False) -> dict[str, Any]:
        """Name the action in a video.

        Args:
            upload: the video.
            nearest: how many of the most similar examples to name.
            pairs: show each frame that was taken of the video beside the most similar one of the nearest example.

        Returns:
            The answer as plain values; with `pairs`, two pictures each, as addresses that hold a JPEG. There are none
            if the method does not compare frames, or the example's file is not in the folder.

        Raises:
            ValueError: a broken video, or too few examples.
        """
        answer = self.recognizer.predict(upload.path, nearest).to_dict()
        near = [each | {"video": self._named(each["video"])} for each in answer["nearest"]]
        shown = {"pairs": self._pairs(upload, near)} if pairs else {}
        return answer | {"video": upload.path.name, "nearest": near} | shown

    def check(self) -> dict[str, Any]:
        """Look for faults of the examples, and for what would help most."""
        recognizer = self.recognizer
        found = asdict(review(recognizer.method, recognizer.enrolled))
        for video in (video for videos in recognizer.examples.values() for video in videos):
            found["findings"] = [each.replace(display(Path(video)), self._named(video)) for each in found["findings"]]
        return found | {"growth": self._growth.points()}

    def clip(self, action: str, clip: str) -> Path:
        """Find the file of an example.

        Raises:
            Refused: no such example, or its file is not in the folder.
        """
        if (action, clip) not in self._clips(self.recognizer):
            raise Refused(404, f"{clip[:100]!r} is no example of {action[:100]!r}")
        found = self._file(self.folder / action, clip)
        if found is None:
            raise Refused(404, f"the file of {clip!r} is not in the folder of the recogniser; only its encoding is")
        return found

    def clip_of(self, action: str, video: str) -> Path:
        """Find the file of an example by its name in the recogniser, as `clip` does."""
        return self.clip(action, self._named(video))

    def preview(self, action: str, clip: str, folder: Path) -> Path:
        """Make a small version of an example that every browser plays, unless there is one.

        Args:
            action: of the example.
            clip: its name.
            folder: for such files.

        Raises:
            ValueError: it cannot be decoded.
            Refused: no such example, or its file is not in the folder.
        """
        path, cache = self.clip(action, clip), self._cache
        preview = folder / f"{cache.content(path)}.mp4"
        if not preview.exists():
            cache.copy(path, preview, PREVIEW)
        return preview

    # ----------------------------------------------------------------------- changes

    def enroll(
        self, action: str, upload: Upload, start: float | None = None, end: float | None = None
    ) -> dict[str, Any]:
        """Make a video, or a segment of it, an example of an action, known or new.

        Args:
            action: what it shows.
            upload: the video.
            start: of the segment, in seconds; None for the start of the video.
            end: of the segment, in seconds; None for the end of the video.

        Returns:
            Action, name of the clip, whether it was new, and a fault if it has one.

        Raises:
            ValueError: a broken video, or one that is an example of another action.
            Refused: a wrong name, too many clips, or no room.
        """
        if start is not None or end is not None:
            with self._written(
                upload.path.parent, lambda to: self._cache.copy(upload.path, to, CUT, start, end)
            ) as part:
                return self.enroll(action, part)
        fault = self._look(upload)
        with self._editing, self._kept(action, upload) as clip, self._edit() as recognizer:
            before = recognizer.actions.get(action), recognizer.background
            recognizer.enroll(action, clip)
            added = before != (recognizer.actions.get(action), recognizer.background)
        return {"action": action, "clip": clip.name, "added": added, "fault": fault}

    def enroll_pixels(self, action: str, upload: Upload, width: int, height: int, fps: float) -> dict[str, Any]:
        """Make pictures that came as pixels an example of an action.

        Args:
            action: what they show.
            upload: the pictures one after the other, four bytes per pixel: red, green, blue, and one that is ignored.
            width: of each, in pixels.
            height: of each, in pixels.
            fps: pictures per second.

        Returns:
            As `enroll`.

        Raises:
            Refused: the size does not fit, or as for `enroll`.
            ValueError: as for `enroll`.
        """
        count, rest = divmod(upload.size, 4 * width * height)
        if rest:
            raise Refused(422, f"the body has {upload.size} bytes; pictures of {width} x {height} do not fit")
        frames = np.memmap(upload.path, np.uint8, "r").reshape(count, height, width, 4)
        opaque = (np.ascontiguousarray(frame[..., :3]) for frame in frames)
        with self._written(upload.path.parent, lambda to: write_video(to, opaque, fps)) as part:
            return self.enroll(action, part)

    def correct(self, action: str, upload: Upload) -> dict[str, Any]:
        """Make a video an example of an action, and of no other one.

        Returns:
            As `enroll`; the action that it `was` an example of; and the `effect` on the other examples, each named by
            the others: how many were right, before and after, and those whose name changed.

        Raises:
            ValueError: a broken video.
            Refused: as for `enroll`.
        """
        fault = self._look(upload)
        with self._editing:
            before = self._named_left_out()
            with self._kept(action, upload) as clip, self._edit() as recognizer:
                was = recognizer.correct(clip, action)
            effect = effect_of(before, self._named_left_out())
        made = {"action": action, "clip": clip.name, "added": was != action, "was": was, "fault": fault}
        return made | {"effect": effect}

    def adopt(self, action: str, file: Path) -> None:
        """Put the file of an example that is enrolled already into the folder."""
        clip = self._inside(self.folder / require_name(action, "action")) / file.name
        clip.parent.mkdir(exist_ok=True)
        os.link(file, clip)

    def move(self, action: str, clip: str, to: str) -> None:
        """Make an example one of another action, known or new.

        Raises:
            Refused: no such example, a wrong name, or a clip of this name is there already.
        """
        require_name(to, "action")
        self._require_example(action, clip)
        if (to, clip) in self._clips(self.recognizer) or (self._inside(self.folder / to) / clip).exists():
            raise Refused(409, f"{to!r} has a clip named {clip!r} already; rename one of the two files")
        with self._edit() as recognizer:
            recognizer.relabel(action, clip, to)

    def trim(self, action: str, clip: str, start: float, end: float) -> None:
        """Keep a part of an example only.

        Args:
            action: of the example.
            clip: its name.
            start: of the part, in seconds.
            end: of the part, in seconds.

        Raises:
            Refused: no such example, or its file is not in the folder.
            ValueError: the part is empty or beyond the end.
        """
        path = self.clip(action, clip)
        scratch = self._inside(self.folder / ".removed")
        scratch.mkdir(exist_ok=True)
        with self._written(scratch, lambda to: self._cache.copy(path, to, CUT, start, end)) as part:
            self._look(part)
            group = self._group(action, clip)
            with self._editing, self._kept(action, part, group) as kept, self._edit() as recognizer:
                video = Video(kept.stem, kept, action, group=group)
                recognizer.enroll(action, video)  # first, so that the action keeps its place
                recognizer.remove(action, clip)

    def remove(self, action: str, clip: str | None = None) -> None:
        """Forget an example, or an action; the clips' files can come back by `undo`.

        Raises:
            Refused: no such action or example.
        """
        self._require_example(action, clip)
        with self._edit() as recognizer:
            recognizer.remove(action, clip)

    def undo(self, state: str | None = None) -> None:
        """Take the last change back.

        Args:
            state: as `describe` told it; None for any.

        Raises:
            Refused: nothing to take back; another program changed the file since; or the state is another one, so that
                somebody else's change would be taken back.
        """
        with self._editing, locked(self.file):
            if state not in (None, self._label()):
                message = "it was changed meanwhile, in another window perhaps; look at the examples, then undo again"
                raise Refused(409, message)
            if not self._history:
                raise Refused(409, "there is no change to take back")
            if self._state() != self._saved:
                raise Refused(409, "another program changed the recogniser meanwhile; correct it by hand")
            before = self._clips(self.recognizer)
            self._history.pop().replace(self.file)
            self._saved = self._state()
            self._tidy(before, self._clips(self.recognizer))
            self._growth.add(self.recognizer)

    def delete(self) -> None:
        """Delete the recogniser and its clips."""
        with self._editing:
            files = [self._file(self.folder / action, clip) for action, clip in self._clips(self.recognizer)]
            self.file.unlink()
            for file in files:
                if file is not None:
                    file.unlink()
            self.forget_history()
            if self.folder.is_symlink():
                return
            self._growth.file.unlink(missing_ok=True)
            for folder, _, _ in os.walk(self.folder, topdown=False):
                with suppress(OSError):  # not empty: files that nobody enrolled
                    os.rmdir(folder)

    def forget_history(self) -> None:
        """Make everything final that could be taken back."""
        self._history = []
        if self.folder.resolve() != self.folder:
            return
        for folder in (self.folder / ".history", self.folder / ".removed"):
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)

    # ----------------------------------------------------------------------- parts

    def _state(self) -> object:
        try:
            stat = os.lstat(self.file)
        except FileNotFoundError as error:
            raise Refused(404, f"the recogniser {self.name!r} was deleted") from error
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _label(self) -> str:
        return blake2b(repr(self._state()).encode(), digest_size=8).hexdigest()

    @contextmanager
    def _edit(self) -> Iterator[Recognizer]:
        """Change the recogniser and its file; after an error, both are as before."""
        with self._editing, locked(self.file):
            recognizer = self.recognizer
            before = self._clips(recognizer)
            try:
                yield recognizer
                with suppress(ValueError):  # too few examples
                    recognizer.fit()  # the file then answers at once
                self._remember()
                recognizer.save(self.file)
            except BaseException:
                self._known = None  # the recogniser in memory may be ahead of its file
                raise
            self._saved = self._state()
            self._known = self._saved, recognizer
            self._tidy(before, self._clips(recognizer))
            self._growth.add(recognizer)

    def _remember(self) -> None:
        """Keep the file as it is now, for `undo`."""
        folder = self._inside(self.folder / ".history")
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"{self.file.stat().st_mtime_ns}{SUFFIX}"
        with suppress(FileExistsError):
            os.link(self.file, kept)
        self._history.append(kept)
        if len(self._history) > UNDONE:
            self._history.pop(0).unlink(missing_ok=True)

    def _tidy(self, before: Clips, after: Clips) -> None:
        """Move the files of clips to where the recogniser says they belong."""
        removed = self._inside(self.folder / ".removed")
        for action, clip in sorted(before - after):
            file = self._file(self.folder / action, clip)
            home = next((other for other, name in after - before if name == clip), None)
            if file is not None:
                _move(file, removed / action / clip if home is None else self._inside(self.folder / home) / clip)
        for action, clip in after - before:
            if (removed / action / clip).exists():
                _move(removed / action / clip, self._inside(self.folder / action) / clip)

    @contextmanager
    def _kept(self, action: str, upload: Upload, group: str | None = None) -> Iterator[Path]:
        """Put an upload among the clips of an action, or of a person or recording in it.

        It does not stay after an error, or if it was enrolled before.
        """
        require_name(action, "action")
        self._require_room(upload.size)
        if len(self._clips(self.recognizer)) >= self._most:
            raise Refused(409, f"it has {self._most} examples, and no more are taken; remove some")
        clip = self._inside(self._inside(self.folder / action) / (group or "")) / upload.path.name
        clip.parent.mkdir(parents=True, exist_ok=True)
        new = not clip.exists()
        if new:
            os.link(upload.path, clip)
        try:
            yield clip
        finally:
            if new and (action, self._named(os.fspath(clip))) not in self._clips(self.recognizer):
                clip.unlink()
                with suppress(OSError):  # not empty
                    clip.parent.rmdir()

    @contextmanager
    def _written(self, folder: Path, write: Callable[[Path], None]) -> Iterator[Upload]:
        """Write a video for a while, named by its content as an upload is."""
        part = folder / f"part-{uuid4().hex}.mp4"
        named = part
        try:
            write(part)
            digest = blake2b(part.read_bytes(), digest_size=16).hexdigest()
            named = part.replace(part.with_name(f"part-{digest}.mp4"))
            yield Upload(named, named.stat().st_size)
        finally:
            named.unlink(missing_ok=True)

    def _named_left_out(self) -> dict[tuple[str, str], str]:
        """Action and clip of each example -> what the others name it; empty if there are too few."""
        recognizer = self.recognizer
        if len(recognizer.actions) < 2 or max(recognizer.actions.values()) < 2:
            return {}
        answers = name_left_out(recognizer.method, recognizer.enrolled).answers
        return {(action, self._named(video)): answer for (action, video), answer in answers.items()}

    def _pairs(self, upload: Upload, near: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
        file = self._file(self.folder / near[0]["action"], near[0]["video"]) if near else None
        if file is None or near[0]["frames"] is None:
            return []
        mine, others = self._cache.read(upload.path), self._cache.read(file)
        return [(_small(frame), _small(others[i])) for frame, i in zip(mine, near[0]["frames"], strict=True)]

    @property
    def _cache(self) -> DecodedApart:
        cache = self.recognizer.cache
        assert isinstance(cache, DecodedApart)
        return cache

    def _look(self, upload: Upload) -> str | None:
        """Decode an upload before it comes among the clips, and look for a fault."""
        return fault_of(self.recognizer.cache.read(upload.path))

    def _require_example(self, action: str, clip: str | None) -> None:
        clips = self._clips(self.recognizer)
        if action not in {each for each, _ in clips}:
            raise Refused(404, unknown(action[:100], sorted({each for each, _ in clips}), "action"))
        if clip is not None and (action, clip) not in clips:
            raise Refused(404, f"{clip[:100]!r} is no example of {action[:100]!r}")

    def _clips(self, recognizer: Recognizer) -> Clips:
        every = {**recognizer.examples, BACKGROUND: recognizer.background}
        return {(action, self._named(video)) for action, videos in every.items() for video in videos}

    def _group(self, action: str, clip: str) -> str | None:
        """The person or recording of an example, if the examples lie in folders of such."""
        examples = self.recognizer.enrolled[action].examples if action in self.recognizer.enrolled else ()
        return next((example.group for example in examples if self._named(example.video) == clip), None)

    def _named(self, video: str) -> str:
        """Name an example by its path below its action."""
        path = Path(video)
        if path.is_relative_to(self.folder):
            return Path(*path.relative_to(self.folder).parts[1:]).as_posix()
        return path.as_posix()

    def _file(self, folder: Path, clip: str) -> Path | None:
        """Find a file below a folder by the end of its path; links are not followed."""
        wanted = Path(clip).parts
        if folder.parent != self.folder or folder.resolve() != folder:  # a link, or `..`
            return None
        for inner, _, files in os.walk(folder):
            for name in files:
                path = Path(inner, name)
                if path.parts[-len(wanted) :] == wanted and not path.is_symlink():
                    return path
        return None

    def _inside(self, path: Path) -> Path:
        if path.resolve() != path:
            raise Refused(403, f"{path.name!r} is a link that leads elsewhere; put the folder itself there")
        return path


def _small(frame: Frame) -> str:
    """A frame as a small JPEG that an address holds."""
    picture, content = Image.fromarray(frame), BytesIO()
    picture.thumbnail((2 * SMALL, SMALL))
    picture.save(content, "jpeg", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _move(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    file.replace(to)
    with suppress(OSError):  # not empty
        file.parent.rmdir()
