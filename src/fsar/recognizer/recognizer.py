"""The recogniser: enrol a few example clips per action, then name new videos.

    recognizer = Recognizer("lite0")
    recognizer.enroll("wave", ["wave1.mp4", "wave2.mp4"])
    recognizer.enroll("clap", "clips/clap/")
    print(recognizer.predict("new.mp4"))

The method's variant, the probabilities and the threshold of "unknown" are fitted to the examples
(`fsar.recognizer.calibration`). Any number of threads may ask and edit one recogniser: an edit replaces the whole state
at once, and an answer uses one state from beginning to end.

Long: one class has the whole public interface; most of the file is documentation.
"""

import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from fsar.backbones import Backbone, fast, load_backbone
from fsar.datasets import VideoDataset, drop_copies, load_data
from fsar.datasets.segments.segment import Segment
from fsar.files import locked
from fsar.methods import build_method
from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.names import unknown
from fsar.progress import ahead, progress_bar
from fsar.recognizer.answer import UNKNOWN, Answer, Neighbour
from fsar.recognizer.background import BACKGROUND, uses_background
from fsar.recognizer.calibration import STRICTNESS, Fit, plain
from fsar.recognizer.contract import Contract, contract_of
from fsar.recognizer.counting import Repetitions, count, main_action
from fsar.recognizer.encoding import ClipEncoder, Ready
from fsar.recognizer.examples import (
    Action,
    Actions,
    Example,
    find,
    find_anywhere,
    short_names,
    with_examples,
    with_short_names,
    without,
)
from fsar.recognizer.faults import ExampleWarning
from fsar.recognizer.files import Contents, read_file, require_file, write_file
from fsar.recognizer.judgement import judge
from fsar.recognizer.live import AGREE, Event, watch
from fsar.recognizer.matching import correspondence, similarities
from fsar.recognizer.score import Score
from fsar.recognizer.sources import VideoSource, expanded
from fsar.recognizer.state import Once, State
from fsar.recognizer.timeline import Rule, WindowScores, scan, spot
from fsar.recognizer.tuning import Tuned
from fsar.recognizer.windows import BATCH, Windows
from fsar.text.words import class_text
from fsar.training.checkpoint import provenance_of
from fsar.training.parameters import kept_state
from fsar.video.camera import Source as LiveSource
from fsar.video.camera import source_named
from fsar.video.frame_cache import FrameCache
from fsar.video.motion import MOTION
from fsar.video.paths import VideoError, display
from fsar.video.play import Clock


def _loaded(name: str) -> Backbone:
    """Load a backbone for a recogniser, as fast as it can be."""
    backbone = load_backbone(name)
    if fast.is_installed() and not backbone.has_text:  # transformers of CLIP gain little
        fast.speed_up(backbone)
    return backbone


def _cache_for(method: Method) -> FrameCache:
    """How frames are taken if nobody says it."""
    return FrameCache.of_clip(method.provenance.clip) if method.provenance else FrameCache(sampling=MOTION)


class Recognizer:
    """Names the action in a video by comparing it with a few enrolled examples of each action.

    Videos may be paths of files or of folders of frames, arrays of frames (uint8 [frame, height, width, rgb]), the
    bytes of a file, open binary files, or a `Video`, which can be a segment of a file.

    Args:
        backbone: a backbone, or its name for `load_backbone`; `lite0` by default. Its weights must not change later.
        method: a name in `METHODS`, or a method that `load_pretrained` gave. A given method has its own backbone.
        cache: frames on disk; by default 8 frames per clip, taken from where something moves (`fsar.video.motion`), or
            as a trained method was trained.
        strictness: share of videos of enrolled actions that may be called unknown. The larger it is, the fewer
            strangers are accepted.
        options: options of the method.

    Raises:
        ValueError: an unknown backbone, method or option; a backbone or options beside a given method; or a variant
            that reads labels of queries.

    Example:
        >>> import numpy as np
        >>> def clip(start, end):  # a bright square that moves from one column to another
        ...     frames = np.zeros((8, 64, 64, 3), np.uint8)
        ...     for frame, column in zip(frames, np.linspace(start, end, 8).astype(int)):
        ...         frame[24:40, column : column + 16] = 255
        ...     return frames
        >>> recognizer = Recognizer("tiny")
        >>> recognizer.enroll("right", [clip(0, 48), clip(0, 40)])
        >>> recognizer.enroll("left", [clip(48, 0), clip(40, 0)])
        >>> recognizer.predict(clip(4, 44)).best
        'right'
    """

    def __init__(
        self,
        backbone: str | Backbone | None = None,
        method: str | Method = "place-motion",
        cache: FrameCache | None = None,
        strictness: float = STRICTNESS,
        **options: Any,
    ):
        if not 0 < strictness < 1:
            raise ValueError(f"strictness is {strictness}; expected a share between 0 and 1, such as 0.1")
        if isinstance(method, Method):
            if backbone is not None or options:
                raise ValueError(
                    f"the {method.name} given has its own backbone and options; leave backbone and options out"
                )
            self.method = method
        else:
            built = _loaded(backbone or "lite0") if isinstance(backbone, str | None) else backbone
            self.method = build_method(method, built, **options)
        if self.method.traits.leaks_labels:
            raise ValueError(
                f"{self.method.name} in this variant reads labels of queries, which a new video does not have; the "
                f"variant only serves audits of published numbers. Use variant=paper or variant=official"
            )
        self.backbone = self.method.backbone
        self.cache = cache or _cache_for(self.method)
        self._encoder = ClipEncoder(self.method, self.cache)
        self._generated = Once(self._encoder.background)
        self._state = State(self.method, {}, (), self._generated, strictness)
        self._editing = RLock()
        self.tuned: Tuned | None = None
        """Windows and rule for long videos that were chosen on annotated ones; None for the usual ones."""

    # ----------------------------------------------------------------------- examples

    @property
    def actions(self) -> dict[str, int]:
        """Enrolled actions, each with its number of examples."""
        return {name: len(action.examples) for name, action in self._state.actions.items()}

    @property
    def examples(self) -> dict[str, tuple[str, ...]]:
        """Enrolled actions, each with the names of its examples."""
        actions = self._state.actions.items()
        return {name: tuple(example.video for example in action.examples) for name, action in actions}

    @property
    def background(self) -> tuple[str, ...]:
        """Names of the clips that were enrolled as background."""
        return tuple(example.video for example in self._state.background)

    @property
    def enrolled(self) -> Actions:
        """Everything that is enrolled, with its encodings; a value that never changes."""
        return self._state.actions

    def enroll(self, name: str, videos: VideoSource | Iterable[VideoSource], progress: bool = False) -> None:
        """Add examples of an action. The same content given twice counts once.

        Args:
            name: the action, new or known.
            videos: one video or several. A folder of videos stands for all of them.
            progress: show a progress bar.

        Raises:
            ValueError: a broken video (a VideoError), no video, a video that is an example of another action, or the
                name `unknown`. Nothing is added then.
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
        """
        dataset = folder if isinstance(folder, VideoDataset) else drop_copies(load_data(os.fspath(folder), groups=True))
        names = ((BACKGROUND if video.label == UNKNOWN else display(Path(video.label))) for video in dataset.videos)
        pairs = list(zip(names, dataset.videos, strict=True))
        return self._enroll(pairs, return_errors, progress)

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

    def fit(self) -> Fit:
        """Choose variant, scale and threshold on the examples. The first prediction does this by itself.

        Returns:
            What was chosen, and how well the examples name each other.

        Raises:
            ValueError: no action is enrolled.
        """
        return self._ready_state().fitted()[0]

    # ----------------------------------------------------------------------- answers

    def predict(self, video: VideoSource, nearest: int = 0) -> Answer:
        """Name the action in one video.

        Args:
            video: a path, frames, bytes or an open file.
            nearest: how many of the most similar examples to name. This search grows with the number of examples;
                the rest of the answer does not if the method matches with means.

        Returns:
            The best action or `unknown`, with the probabilities of all actions.

        Raises:
            ValueError: no action is enrolled, the video is broken (a VideoError), or an array of another
                shape or type.
        """
        self._ready_state()
        return self._answer(self._read(video), nearest)

    def predict_many(
        self, videos: Iterable[VideoSource], nearest: int = 0, return_errors: bool = False, workers: int | None = None
    ) -> Iterator[Answer | VideoError]:
        """Name the action in each of many videos, while the next ones are decoded.

        Args:
            videos: as for `predict`. A folder of videos stands for all of them.
            nearest: as for `predict`.
            return_errors: give the error in the place of a broken video, and go on to the next.
            workers: decoding threads; by default one per core.

        Yields:
            The answers, in the order of the videos.

        Raises:
            ValueError: as for `predict`; with `return_errors`, only if no action is enrolled.
        """
        self._ready_state()
        read = ahead(self._encoder.read, expanded(videos), workers or os.cpu_count() or 1)
        for ready in read:
            if not isinstance(ready, VideoError):
                yield self._answer(ready, nearest)
            elif return_errors:
                yield ready
            else:
                raise ready

    def timeline(
        self,
        video: str | os.PathLike[str],
        windows: Sequence[float] | None = None,
        rate: float | None = None,
        rule: Rule | None = None,
        fps: float | None = None,
        progress: bool = False,
    ) -> list[Segment]:
        """Tell when which action happens in a long video.

        Args:
            video: a file, or a folder of frames.
            windows: lengths of the windows in seconds; by default as long as the examples.
            rate: frames per second that are looked at; by default by the examples.
            rule: how segments are chosen from the answers for windows (see `fsar.recognizer.timeline`).
            fps: frames per second of a folder of frames.
            progress: show a progress bar.

        Returns:
            Segments in the order of time, which do not overlap. What is unknown gives no segment.

        Raises:
            ValueError: as for `predict`; or the examples' durations are not known, and `windows` is not given.
        """
        usual = None if self.tuned is None else self.tuned.rule
        return spot(self.scan(video, self.contract(windows, rate), fps, progress), rule or usual)

    def contract(self, windows: Sequence[float] | None = None, rate: float | None = None) -> Contract:
        """Tell what is looked at in a long video: the lengths of windows, and frames per second.

        Args:
            windows: lengths in seconds; by default as long as the examples.
            rate: frames per second; by default by the examples.

        Raises:
            ValueError: as for `timeline`.
        """
        if self.tuned is not None and windows is None and rate is None:
            return self.tuned.contract
        return contract_of(self._ready_state().actions, self.cache, windows, rate)

    def scan(
        self,
        video: str | os.PathLike[str],
        contract: Contract | None = None,
        fps: float | None = None,
        progress: bool = False,
    ) -> WindowScores:
        """Answer all windows of a long video; `spot` chooses segments from the answers.

        Args:
            video: as for `timeline`.
            contract: what is looked at; by default that of `contract()`.
            fps: as for `timeline`.
            progress: show a progress bar.

        Raises:
            ValueError: as for `timeline`.
        """
        return scan(self._ready_state(), self.method, self.cache, video, contract or self.contract(), fps, progress)

    def count(
        self,
        video: str | os.PathLike[str],
        action: str | None = None,
        fps: float | None = None,
        progress: bool = False,
    ) -> Repetitions:
        """Count how often a video repeats an action, such as an exercise (see `fsar.recognizer.counting`).

        Args:
            video: a file, or a folder of frames.
            action: an enrolled action; each of its examples shows one repetition. By default the action that fills
                most of the timeline.
            fps: frames per second of a folder of frames.
            progress: show a progress bar.

        Returns:
            Each repetition, with its times.

        Raises:
            ValueError: an unknown action, or as for `timeline`.
        """
        if action is None:
            action = main_action(self.timeline(video, fps=fps, progress=progress), self.actions)
        return count(self._ready_state(), self.method, self.cache, video, action, fps, progress)

    def windows(self, contract: Contract | None = None, batch: int = BATCH) -> Windows:
        """Prepare to answer the windows of a stream whose frames come one by one.

        Args:
            contract: what is looked at; by default that of `contract()`.
            batch: frames that are encoded together.

        Returns:
            What takes the frames; later edits of the recogniser have no effect on it.

        Raises:
            ValueError: as for `timeline`.
        """
        return Windows(self._ready_state(), self.method, self.cache, contract or self.contract(), batch)

    def watch(
        self,
        source: str | int | os.PathLike[str] | LiveSource,
        contract: Contract | None = None,
        rule: Rule | None = None,
        agree: int = AGREE,
        tell: Callable[[str], None] = lambda words: None,
    ) -> Iterator[Segment]:
        """Give the actions in a live source, each when it has ended. `events` also tells when one begins.

        Args:
            source: the number of a camera, an address such as `rtsp://...`, or a video file, which plays at its own
                speed.
            contract: what is looked at; by default that of `contract()`.
            rule: as for `timeline`.
            agree: answers in a row that must agree.
            tell: is told in words when the connection is lost or found, and how many frames were dropped.

        Yields:
            Segments whose times count from the first picture. They end with a recording; a camera has no end.

        Raises:
            ValueError: as for `timeline`; or the source cannot be opened (a SourceError).
        """
        for event in self.events(source, contract, rule, agree, tell):
            if event.kind == "end":
                yield event.segment

    def events(
        self,
        source: str | int | os.PathLike[str] | LiveSource,
        contract: Contract | None = None,
        rule: Rule | None = None,
        agree: int = AGREE,
        tell: Callable[[str], None] = lambda words: None,
        clock: Clock | None = None,
    ) -> Generator[Event, None, None]:
        """Tell when actions begin and end in a live source (see `fsar.recognizer.live`).

        Args:
            source: as for `watch`.
            contract: as for `watch`.
            rule: as for `watch`.
            agree: as for `watch`.
            tell: as for `watch`.
            clock: the time that the source follows; by default that of the world.

        Yields:
            Events, as soon as they are known.

        Raises:
            ValueError: as for `watch`.
        """
        contract = contract or self.contract()
        opened = source_named(source) if isinstance(source, str | int | os.PathLike) else source
        rule = rule or (None if self.tuned is None else self.tuned.rule)
        self.fit()
        return watch(lambda batch: self.windows(contract, batch), contract, opened, rule, agree, tell, clock)

    def score(
        self, folder: str | os.PathLike[str] | VideoDataset, return_errors: bool = False, progress: bool = False
    ) -> Score:
        """Answer labelled videos and count.

        Args:
            folder: with one folder of videos per action, ACTION/VIDEO; or a dataset. Videos of other actions belong
                to a folder `unknown`.
            return_errors: leave broken videos out and list their errors in the result.
            progress: show a progress bar.

        Returns:
            Accuracy, confusion, and all answers.

        Raises:
            ValueError: a folder that is neither an enrolled action nor `unknown`, or as for `predict`.
        """
        dataset = folder if isinstance(folder, VideoDataset) else load_data(os.fspath(folder))
        labels = [display(Path(video.label)) for video in dataset.videos]
        known = [*self._ready_state().actions, UNKNOWN]
        for label in labels:
            if label not in known:
                raise ValueError(
                    unknown(label, known, "action") + f". Put videos of other actions into a folder {UNKNOWN!r}"
                )
        answers = self.predict_many(dataset.videos, return_errors=return_errors)
        bar = progress_bar(zip(labels, answers, strict=True), "score", "video", len(labels), progress)
        found = list(bar)
        return Score(
            [(label, answer) for label, answer in found if isinstance(answer, Answer)],
            [error for _, error in found if isinstance(error, VideoError)],
        )

    # ----------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str], paths: bool = False) -> None:
        """Write everything but the backbone's weights to one file.

        Args:
            path: where to.
            paths: write the examples' whole paths; by default, only as much of each as tells them apart.

        Raises:
            OSError: the file cannot be written; an older file of that name stays as it was.
        """
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
        cls,
        path: str | os.PathLike[str],
        backbone: Backbone | None = None,
        cache: FrameCache | None = None,
        strictness: float | None = None,
    ) -> "Recognizer":
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
        backbone = backbone or _loaded(contents.backbone)
        cache = cache or FrameCache.of_clip({"frames": contents.frames, "sampling": contents.sampling})
        wanted = contents.strictness if strictness is None else strictness
        recognizer = cls(backbone, contents.method, cache, wanted, **contents.options)
        method = recognizer.method
        try:
            method.load_state_dict(dict(contents.state), strict=False)
        except RuntimeError as error:  # other shapes
            raise ValueError(
                f"{path}: made with backbone {contents.backbone}, but the sizes of {backbone.name} differ; use "
                f"{contents.backbone}"
            ) from error
        method.provenance = contents.trained and provenance_of(contents.trained)
        if backbone.fingerprint() != contents.weights:
            raise ValueError(
                f"{path}: made with backbone {contents.backbone} (weights {contents.weights}), but the one given "
                f"is {backbone.name} (weights {backbone.fingerprint()}); use the same weights, or enrol again"
            )
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
        cls, path: str | os.PathLike[str], backbone: Backbone | None = None, cache: FrameCache | None = None
    ) -> Iterator["Recognizer"]:
        """Change a recogniser's file: load it, and save it at the end. An error leaves the file as it was.

        Another process that edits the file waits until this one is done, so no edit is lost. Processes that load the
        file meanwhile read it as it was before.

        Args:
            path: the file.
            backbone: as for `load`.
            cache: as for `load`.

        Yields:
            The recogniser.

        Raises:
            ValueError: as for `load`.
            OSError: the file cannot be written.

        Example:
            >>> import tempfile
            >>> import numpy as np
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
        require_file(path)
        with locked(path):
            recognizer = cls.load(path, backbone, cache)
            before = recognizer._state
            yield recognizer
            if recognizer._state is not before:
                recognizer.save(path)

    # ----------------------------------------------------------------------- parts

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
            home, example = find_anywhere(actions, video)
            return home, self._example(self._read(Path(example.video), action)) if reads_text else example
        made = self._example(self._read(video, action))
        homes = (name for name, known in actions.items() if known.like(made) is not None)
        return next(homes, None), made

    @staticmethod
    def _correspondence(method: Method, example: Example, query: Encoding) -> tuple[int, ...] | None:
        return None if method.traits.reads_text else correspondence(method, example, query)

    def _text(self, name: str) -> Tensor | None:
        """Encoded class text, if the method reads it."""
        if not self.method.traits.reads_text:
            return None
        with torch.no_grad():
            return self.method.encode_text([class_text(name)])[0]

    def _check_name(self, name: str) -> None:
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

    def _ready_state(self) -> State:
        state = self._state
        if not state.actions:
            raise ValueError("no action is enrolled; enrol examples first")
        alone = [action for action in state.actions.values() if len(state.actions) == 1]
        if alone and (len(alone[0].examples) == 1 or not uses_background(self.method)):
            instead = ", or two examples of one" if uses_background(self.method) else f" with {self.method.name}"
            raise ValueError(
                f"a recogniser needs at least two actions{instead}; enrolled: {', '.join(state.actions)}. Enrol more"
            )
        return state

    def _read(self, video: VideoSource, action: str | None = None) -> Ready:
        ready = self._encoder.read(video, action)
        if isinstance(ready, VideoError):
            raise ready
        return ready

    def _answer(self, ready: Ready, nearest: int) -> Answer:
        """Encode a video that was read, and match it with one state."""
        started = time.perf_counter()
        state = self._ready_state()
        query = self._encoder.query(ready)
        (judged,) = judge(state, {part: each[None] for part, each in query.items()})
        method = state.fitted()[1]
        near = similarities(method, state.actions, query)[:nearest] if nearest else []
        return Answer(
            video=ready.name,
            action=judged.action,
            probabilities=dict(sorted(judged.probabilities.items(), key=lambda item: -item[1])),
            score=judged.score,
            threshold=judged.threshold,
            nearest=tuple(
                Neighbour(action, example.video, value, self._correspondence(method, example, query))
                for value, action, example in near
            ),
            seconds=ready.seconds + time.perf_counter() - started,
        )
