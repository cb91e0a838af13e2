"""The recogniser's examples: enrol, remove, relabel, correct."""

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fsar.datasets import VideoDataset, drop_copies, load_data
from fsar.names import unknown
from fsar.progress import ahead, progress_bar
from fsar.recognizer.answer import UNKNOWN
from fsar.recognizer.background import BACKGROUND, uses_background
from fsar.recognizer.core import Core
from fsar.recognizer.encoding import Ready
from fsar.recognizer.examples import Action, Actions, Example, find, find_anywhere, with_examples, without
from fsar.recognizer.faults import ExampleWarning, unbalanced
from fsar.recognizer.sources import VideoSource, expanded
from fsar.recognizer.state import State
from fsar.text.words import class_text
from fsar.video.paths import VideoError, as_path, display


class Editing(Core):
    """Every edit makes a new state, which replaces the old one at once."""

    def enroll(self, name: str, videos: VideoSource | Iterable[VideoSource], progress: bool = False) -> None:
        """Add examples of an action. The same content given twice counts once.

        Args:
            name: the action, new or known.
            videos: one video or several. A folder of videos stands for all of them.
            progress: show a progress bar.

        Raises:
            ValueError: a broken video (a VideoError), no video, a video that is an example of another action, or the
                name `unknown` or an empty one. Nothing is added then.
        """
        given = list(expanded(videos))
        if not given:
            raise ValueError(f"action {name!r} came without a video; give at least one example")
        self._enroll([(name, video) for video in given], return_errors=False, progress=progress)

    def enroll_background(self, videos: VideoSource | Iterable[VideoSource], progress: bool = False) -> None:
        """Add clips that show none of the actions, such as what people do between them.

        They raise the threshold of "unknown" where actions would be recognised in them.

        Args:
            videos: as for `enroll`.
            progress: show a progress bar.

        Raises:
            ValueError: as for `enroll`; or the method cannot use background clips, since its logits of classes depend
                on each other or on class texts.
        """
        self.enroll(BACKGROUND, videos, progress)

    def enroll_folder(
        self, folder: str | os.PathLike[str] | VideoDataset, return_errors: bool = False, progress: bool = False
    ) -> list[VideoError]:
        """Add examples of many actions.

        Args:
            folder: with one folder of videos per action, ACTION/VIDEO; or a dataset, whose classes are the actions.
                The videos of a person or a recording may lie together, ACTION/GROUP/VIDEO: they are left out together
                when the examples name each other. Clips in a folder `background` or `unknown` show none of the actions.
            return_errors: leave broken videos out.
            progress: show a progress bar.

        Returns:
            The errors of videos that were left out.

        Raises:
            ValueError: as for `enroll`; nothing is added then.

        Warns:
            ExampleWarning: an action has far fewer examples than another one.
        """
        dataset = folder if isinstance(folder, VideoDataset) else drop_copies(load_data(os.fspath(folder), groups=True))
        names = ((BACKGROUND if video.label == UNKNOWN else display(Path(video.label))) for video in dataset.videos)
        pairs = list(zip(names, dataset.videos, strict=True))
        errors = self._enroll(pairs, return_errors, progress)
        for words in unbalanced(self.actions):
            warnings.warn(words, ExampleWarning, stacklevel=2)
        return errors

    def remove(self, action: str, video: str | os.PathLike[str] | None = None) -> None:
        """Forget an action, or one of its examples. An action without examples is forgotten, too.

        Args:
            action: the action.
            video: name of an example as in `examples`, or the end of its path; None for all examples.

        Raises:
            ValueError: no such action or example, or several examples of that name.
        """
        with self._editing:
            actions = self._everything
            if action not in actions:
                raise ValueError(unknown(action, actions, "action"))
            self._replace(without(actions, action, None if video is None else find(actions, action, video)))

    def relabel(self, action: str, video: str | os.PathLike[str], to: str) -> None:
        """Move an example to another action, new or known.

        Args:
            action: where the example is.
            video: its name as in `examples`, or the end of its path.
            to: where it belongs.

        Raises:
            ValueError: no such action or example, several examples of that name, or the name `unknown`. If the method
                reads class texts into its examples, the example is encoded again, so its file must be readable.
        """
        self._check_name(to)
        with self._editing:
            actions = self._everything
            if action not in actions:
                raise ValueError(unknown(action, actions, "action"))
            example = find(actions, action, video)
            rest = without(actions, action, example)
            if self.method.traits.support_reads_text:
                example = self._encoder.example(self._read(Path(example.video), to))
            self._replace(with_examples(rest, [(to, example)], self._text))

    def correct(self, video: VideoSource, action: str) -> str | None:
        """Make a video an example of an action, wherever it was enrolled before.

        Args:
            video: a new video, or one that was enrolled; of an enrolled one, the name as in `examples` will do.
            action: what it shows, a new or known action.

        Returns:
            The action that it was an example of; None if it was none.

        Raises:
            ValueError: neither a readable video nor the name of one example, or the name `unknown`.
        """
        self._check_name(action)
        with self._editing:
            actions = self._everything
            home, example = self._enrolled(video, action)
            if home == action:
                return action
            rest = actions if home is None else without(actions, home, actions[home].like(example))
            self._replace(with_examples(rest, [(action, example)], self._text))
            return home

    def _enroll(
        self, pairs: Sequence[tuple[str, VideoSource]], return_errors: bool, progress: bool
    ) -> list[VideoError]:
        """Encode examples while the next ones are decoded, then add all at once."""
        for name in dict.fromkeys(name for name, _ in pairs):
            self._check_name(name)
        added, errors = [], []
        read = ahead(lambda pair: self._encoder.read(pair[1], pair[0]), pairs, os.cpu_count() or 1)
        bar = progress_bar(zip(pairs, read, strict=True), "enrol", "example", len(pairs), progress)
        for (name, _), ready in bar:
            if not isinstance(ready, VideoError):
                added.append((name, self._example(ready)))
            elif return_errors:
                errors.append(ready)
            else:
                raise ready
        with self._editing:
            self._replace(with_examples(self._everything, added, self._text))
        return errors

    def _example(self, ready: Ready) -> Example:
        """Encode an example, and warn of one that cannot help."""
        if ready.fault is not None:
            name = display(Path(ready.name))
            warnings.warn(f"{name}: {ready.fault}; is it a good example?", ExampleWarning, stacklevel=4)
        return self._encoder.example(ready)

    def _enrolled(self, video: VideoSource, action: str) -> tuple[str | None, Example]:
        """Find a video among the examples, by its name or its content; and encode it as an example of an action.

        Returns:
            The action that it is an example of, or None; and the example.
        """
        actions = self._everything
        reads_text = self.method.traits.support_reads_text
        if isinstance(video, str | os.PathLike) and not os.path.exists(video):
            home, example = find_anywhere(actions, as_path(video))
            return home, self._example(self._read(Path(example.video), action)) if reads_text else example
        made = self._example(self._read(video, action))
        homes = (name for name, known in actions.items() if known.like(made) is not None)
        return next(homes, None), made

    def _text(self, name: str) -> Tensor | None:
        """Encoded class text, if the method reads it."""
        if not self.method.traits.reads_text:
            return None
        with torch.no_grad():
            return self.method.encode_text([class_text(name)])[0]

    def _check_name(self, name: str) -> None:
        if not name.strip():
            raise ValueError(f"the action's name is {name!r}; give it a name that an answer can show")
        if name == UNKNOWN:
            raise ValueError(f"{UNKNOWN!r} is the answer for videos of no action; give the action another name")
        if name == BACKGROUND and not uses_background(self.method):
            raise ValueError(
                f"{self.method.name} cannot use clips of no action, since it compares classes with each other or reads "
                f"their names; leave them out, or use place-motion"
            )
        if self.method.traits.reads_text:
            self.method.check_texts([class_text(name)])

    @property
    def _everything(self) -> Actions:
        """Actions and, if there is any, background."""
        state = self._state
        return {**state.actions, **({BACKGROUND: Action.of(state.background)} if state.background else {})}

    def _replace(self, everything: Actions) -> None:
        before = self._state
        actions = {name: action for name, action in everything.items() if name != BACKGROUND}
        background = everything[BACKGROUND].examples if BACKGROUND in everything else ()
        if background == before.background:
            background = before.background
        self._state = State(self.method, actions, background, self._generated, before.strictness, before=before)
