"""From a video as a user gives it to its encoding: through frame cache and bank if it is on disk, else in memory."""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from fsar.bank.fill import Prepared, VideoEncoder, to_input
from fsar.bank.store import BankStore, open_store
from fsar.datasets import Video
from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.recognizer.background import BACKGROUND, generated_clips
from fsar.recognizer.examples import Example, Length, compact
from fsar.recognizer.faults import fault_of
from fsar.recognizer.sources import Source, VideoSource, open_source
from fsar.text.words import class_text
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError


@dataclass(frozen=True, eq=False)
class Ready:
    """A video that was read and now needs the model."""

    name: str
    """Its path, or a name made of its content."""
    content: str
    """Hash of its content."""
    video: Video
    prepared: Prepared
    encoder: VideoEncoder
    """What continues with it."""
    seconds: float
    """Time for reading it."""
    fault: str | None = None
    """What is wrong with an example, in words."""
    length: Length | None = None
    """How long an example lasts."""
    on_disk: bool = True
    """Whether `video` can be read again; frames in memory cannot."""


class ClassTexts(dict[str, str]):
    """Action -> its words."""

    def __missing__(self, action: str) -> str:
        return class_text(action)


class ClipEncoder:
    """Encodes single videos for a recogniser. The backbone's weights are hashed once.

    Args:
        method: whose encoding is made; its weights must not change from now on.
        cache: which frames are taken, and where they are kept.
    """

    def __init__(self, method: Method, cache: FrameCache):
        self.method = method
        self.cache = cache

    def read(self, video: VideoSource, action: str | None = None) -> Ready | VideoError:
        """Do what needs no model: find the encodings on disk, or decode the frames. Threads may do this ahead.

        Args:
            video: as the user gave it.
            action: what an example shows; None for a new video.

        Returns:
            What `query` or `example` takes next; or what is wrong with the video.

        Raises:
            ValueError: an array of another shape or type.
        """
        started = time.perf_counter()
        encoder = self._of_queries if action is None else self._of_examples
        try:
            source = open_source(video, self.cache)
            fault, length = (None, None) if action is None else (self._fault(source), self._length(source))
        except VideoError as error:
            return error
        prepared: Prepared | VideoError
        if source.frames is None:
            assert source.video is not None
            seen = replace(source.video, label=action or "")
            prepared = encoder.prepare(seen)
        else:
            seen = Video(source.name, Path(source.name), action or "")
            prepared = Prepared(dict.fromkeys(encoder.encoder_roles), to_input(self.method, source.frames), {})
        if isinstance(prepared, VideoError):
            return prepared
        seconds, on_disk = time.perf_counter() - started, source.frames is None
        return Ready(source.name, source.content, seen, prepared, encoder, seconds, fault, length, on_disk)

    @torch.no_grad()
    def query(self, ready: Ready) -> Encoding:
        """Encode a new video."""
        return ready.encoder.encode(ready.video, ready.prepared)["query"]

    @torch.no_grad()
    def example(self, ready: Ready) -> Example:
        """Encode an example of the action that it was read for, in both roles.

        Raises:
            ValueError: the encoding is not finite.
        """
        made = {
            role: compact(encoding, ready.name)
            for role, encoding in ready.encoder.encode(ready.video, ready.prepared).items()
        }
        support = made.get("support", made["query"])
        return Example(ready.name, ready.content, support, made["query"], ready.video.group, ready.length)

    @torch.no_grad()
    def background(self) -> tuple[Example, ...]:
        """Encode the generated background clips, once per encoder and machine if its encodings stay on disk."""
        encoder, store, made = self._of_examples, self._store, []
        for name, render in generated_clips():
            paths = {} if store is None else {role: store.path(name, role) for role in encoder.encoder_roles}
            known = {role: store.load(paths[role]) if store else None for role in encoder.encoder_roles}
            missing = any(encoding is None for encoding in known.values())
            shown = open_source(render(), self.cache).frames if missing else None
            clip = None if shown is None else to_input(self.method, shown)
            video = Video(name, Path(name), BACKGROUND)
            made.append(self.example(Ready(name, name, video, Prepared(known, clip, paths), encoder, 0.0)))
        return tuple(made)

    def _fault(self, source: Source) -> str | None:
        if source.video is None:
            return None if source.frames is None else fault_of(source.frames)
        return fault_of(self.cache.read(source.video.path, *source.video.span))

    def _length(self, source: Source) -> Length | None:
        video = source.video
        return Length.of(source.times if video is None else self.cache.times(video.path, *video.span))

    @cached_property
    def _store(self) -> BankStore | None:
        return open_store(self.method.encoder(), self.cache, framing=self.method.traits.framing)

    @cached_property
    def _of_queries(self) -> VideoEncoder:
        return VideoEncoder(self.method, self.cache, None, self._store, "query", enhance=True)

    @cached_property
    def _of_examples(self) -> VideoEncoder:
        return VideoEncoder(self.method, self.cache, ClassTexts(), self._store, None, enhance=True)
