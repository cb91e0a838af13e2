"""The recogniser's file: save, load, and edit it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from fsar.backbones import Backbone
from fsar.backbones.late import LateBackbone
from fsar.files import locked, require_recognizer
from fsar.recognizer.calibration import plain
from fsar.recognizer.core import Core, load_fast
from fsar.recognizer.examples import short_names, with_short_names
from fsar.recognizer.files import Contents, read_file, write_file
from fsar.recognizer.state import Once, State
from fsar.recognizer.tuning import Tuned
from fsar.training.checkpoint import provenance_of
from fsar.training.parameters import kept_state
from fsar.video.frame_cache import FrameCache

Saved = TypeVar("Saved", bound="Saving")


class Saving(Core):
    """The file holds everything but the backbone's weights."""

    def save(self, path: str | os.PathLike[str], paths: bool = False) -> None:
        """Write everything but the backbone's weights to one file.

        Args:
            path: where to.
            paths: write the examples' whole paths; by default, only as much of each as tells them apart.

        Raises:
            ValueError: the path is a folder.
            OSError: the file cannot be written; an older file of that name stays as it was.
        """
        if os.path.isdir(path):
            file = Path(path, "mine.fsar")
            raise ValueError(f"{Path(path)}: a folder; give the name of a file that ends in .fsar, such as {file}")
        method, state = self.method, self._state
        trained = () if method.provenance is None else method.provenance.groups
        contents = Contents(
            backbone=self.backbone.name,
            weights=self.backbone.fingerprint(),
            method=method.name,
            own=method.origins(),
            options=method.options(),
            frames=self.cache.frames,
            sampling=self.cache.sampling,
            trained=None if method.provenance is None else asdict(method.provenance),
            actions=state.actions if paths else with_short_names(state.actions),
            background=state.background if paths else short_names(state.background),
            generated=self._generated.known or (),
            strictness=state.strictness,
            # everything that loading the backbone by its name does not bring back
            state=kept_state(method, (*trained, "own")),
            fit=state.fitted.known[0] if state.fitted.known else None,
            tuned=None if self.tuned is None else self.tuned.to_dict(),
        )
        write_file(Path(path), contents)

    @classmethod
    def load(
        cls: type[Saved],
        path: str | os.PathLike[str],
        backbone: Backbone | None = None,
        cache: FrameCache | None = None,
        strictness: float | None = None,
    ) -> Saved:
        """Read a recogniser that `save` wrote.

        Args:
            path: the file.
            backbone: with the weights that the file was made with; by default it is loaded by the name in the file.
            cache: frames on disk; by default with the frames and sampling in the file.
            strictness: another share of known videos that may be called unknown; None for the one in the file.

        Returns:
            A recogniser that answers as the saved one did.

        Raises:
            ValueError: not such a file, another format, or another backbone's weights.
        """
        contents = read_file(Path(path))
        return cls._restored(Path(path), contents, backbone or load_fast(contents.backbone), cache, strictness)

    @classmethod
    def _restored(
        cls: type[Saved],
        path: Path,
        contents: Contents,
        backbone: Backbone,
        cache: FrameCache | None,
        strictness: float | None = None,
    ) -> Saved:
        """Make the recogniser that a file holds."""
        cache = cache or FrameCache.of_clip({"frames": contents.frames, "sampling": contents.sampling})
        wanted = contents.strictness if strictness is None else strictness
        recognizer = cls(backbone, contents.method, cache, wanted, **contents.options)
        recognizer._named = str(path)
        method = recognizer.method
        try:
            method.load_state_dict(dict(contents.state), strict=False)
        except RuntimeError as error:  # other shapes
            raise ValueError(
                f"{path}: made with backbone {contents.backbone}, but the sizes of {backbone.name} differ; use "
                f"{contents.backbone}"
            ) from error
        method.provenance = contents.trained and provenance_of(contents.trained)
        _require_weights(path, contents, backbone)
        recognizer.tuned = None if contents.tuned is None else Tuned.read(contents.tuned)
        fitted = None
        if contents.fit and wanted == contents.strictness:
            fitted = contents.fit, next(m for m in method.variants() if plain(m.options()) == contents.fit.options)
        if contents.generated:
            recognizer._generated = Once(lambda: contents.generated)
            recognizer._generated()
        recognizer._state = State(method, contents.actions, contents.background, recognizer._generated, wanted, fitted)
        return recognizer

    @classmethod
    @contextmanager
    def edit(
        cls: type[Saved],
        path: str | os.PathLike[str],
        backbone: Backbone | None = None,
        cache: FrameCache | None = None,
    ) -> Iterator[Saved]:
        """Change a recogniser's file: load it, and save it at the end. An error leaves the file as it was.

        Another process that edits the file waits until this one is done, so no edit is lost. Processes that load the
        file meanwhile read it as it was before.

        Args:
            path: the file.
            backbone: as for `load`; by default it is loaded when something is encoded.
            cache: as for `load`.

        Yields:
            The recogniser.

        Raises:
            ValueError: as for `load`.
            OSError: the file cannot be written.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from fsar import Recognizer
            >>> noise = np.random.default_rng(0).integers(0, 256, (3, 8, 64, 64, 3), np.uint8)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = Path(folder) / "mine.fsar"
            ...     Recognizer("tiny").save(path)
            ...     with Recognizer.edit(path) as recognizer:
            ...         recognizer.enroll("noise", list(noise))
            ...     Recognizer.load(path).actions
            {'noise': 3}
        """
        path = Path(path)
        require_recognizer(path)
        with locked(path):
            contents = read_file(path)
            recognizer = cls._restored(path, contents, backbone or _late(path, contents), cache)
            before = recognizer._state
            yield recognizer
            if recognizer._state is not before:
                recognizer.save(path)


def _late(path: Path, contents: Contents) -> Backbone:
    """The file's backbone, loaded at its first use unless it is trained or one's own."""

    def load() -> Backbone:
        backbone = load_fast(contents.backbone)
        _require_weights(path, contents, backbone)
        return backbone

    if contents.state or contents.trained or contents.own:
        return load_fast(contents.backbone)
    return LateBackbone(contents.backbone, contents.weights, load)


def _require_weights(path: Path, contents: Contents, backbone: Backbone) -> None:
    """Refuse other weights than those that the file was made with."""
    if backbone.fingerprint() != contents.weights:
        raise ValueError(
            f"{path}: made with backbone {contents.backbone} (weights {contents.weights}), but the one given is "
            f"{backbone.name} (weights {backbone.fingerprint()}); use the same weights, or enrol again"
        )
