"""The recogniser: enrol a few example clips per action, then name new videos.

    recognizer = Recognizer("lite0")
    recognizer.enroll("wave", ["wave1.mp4", "wave2.mp4"])
    recognizer.enroll("clap", ["clap1.mp4", "clap2.mp4"])
    print(recognizer.predict("new.mp4"))

The method's variant, the probabilities and the threshold of "unknown" are fitted to the examples
(`fsar.recognizer.calibration`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsar.backbones import Backbone, load_backbone
from fsar.bank.fill import fill_bank
from fsar.bank.store import Bank
from fsar.datasets import Video
from fsar.methods import build_method
from fsar.methods.base import Method
from fsar.names import unknown
from fsar.recognizer.calibration import Fit, choose, leave_one_out, match, plain
from fsar.recognizer.examples import Example, padded
from fsar.recognizer.files import Contents, read_file, write_file
from fsar.text.prompts import class_text
from fsar.training.checkpoint import provenance_of
from fsar.training.parameters import kept_state
from fsar.video.frame_cache import FrameCache

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Answer:
    """What a video shows.

    Example:
        >>> answer = Answer("new.mp4", "wave", {"wave": 0.9, "clap": 0.1}, score=0.8, threshold=0.5)
        >>> print(answer)
        new.mp4: wave (wave 90%, clap 10%)
    """

    video: str
    action: str
    """The best action, or `unknown`."""
    probabilities: dict[str, float]
    """All actions, the likeliest first; they sum to one over the enrolled actions."""
    score: float
    """The best action's logit."""
    threshold: float | None
    """The answer is unknown if the score is below this; None if it could not be fitted."""

    def __str__(self) -> str:
        ranked = ", ".join(f"{name} {p:.0%}" for name, p in list(self.probabilities.items())[:3])
        return f"{self.video}: {self.action} ({ranked})"


class Recognizer:
    """Names the action in a video by comparing it with a few enrolled examples of each action.

    Args:
        backbone: a backbone, or its name for `load_backbone`; `lite0` by default.
        method: a name in `METHODS`, or a method that `load_pretrained` gave. A given method has its own backbone.
        cache: frames on disk; by default 8 frames per clip, chosen as TSN does.
        options: options of the method.

    Raises:
        ValueError: an unknown backbone, method or option; a backbone or options beside a given method; or a variant
            that reads labels of queries.
    """

    def __init__(
        self,
        backbone: str | Backbone | None = None,
        method: str | Method = "place-motion",
        cache: FrameCache | None = None,
        **options: Any,
    ):
        if isinstance(method, Method):
            if backbone is not None or options:
                raise ValueError(
                    f"the {method.name} given has its own backbone and options; leave backbone and options out"
                )
            self.method = method
        else:
            built = load_backbone(backbone or "lite0") if isinstance(backbone, str | None) else backbone
            self.method = build_method(method, built, **options)
        if self.method.traits.leaks_labels:
            raise ValueError(
                f"{self.method.name} in this variant reads labels of queries, which a new video does not have; the "
                f"variant only serves audits of published numbers. Use variant=paper or variant=official"
            )
        self.backbone = self.method.backbone
        self.cache = cache or FrameCache()
        self._examples: dict[str, list[Example]] = {}
        self._texts: dict[str, Tensor] = {}
        self._fitted: tuple[Fit, Method] | None = None

    @property
    def actions(self) -> dict[str, int]:
        """Enrolled actions, each with its number of examples."""
        return {name: len(examples) for name, examples in self._examples.items()}

    def enroll(
        self, name: str, videos: str | Path | Video | Iterable[str | Path | Video], progress: bool = False
    ) -> None:
        """Add examples of an action. A video that is given twice, or a copy of it, counts once.

        Args:
            name: the action, new or known.
            videos: one video or several: files, folders of frames, or segments of files.
            progress: show a progress bar.

        Raises:
            ValueError: a broken video (a VideoError), no video, a video that is an example of another action, or the
                name `unknown`. Nothing is added then.
        """
        given = [_video(video) for video in ([videos] if isinstance(videos, str | Path | Video) else videos)]
        if not given:
            raise ValueError(f"action {name!r} came without a video; give at least one example")
        if name == UNKNOWN:
            raise ValueError(f"{UNKNOWN!r} is the answer for videos of no action; give the action another name")
        new = self._new(name, given)
        if not new:
            return
        if self.method.traits.reads_text and name not in self._texts:
            with torch.no_grad():
                self._texts[name] = self.method.encode_text([class_text(name)])[0]
        known = {example.video: example for example in self._examples.get(name, [])}
        bank = self._encode(list(new.values()), name, progress)
        for i, (content, video) in enumerate(new.items()):
            query = {part: tensor[i] for part, tensor in bank.query.items()}
            differ = self.method.traits.roles_differ
            support = {part: tensor[i] for part, tensor in bank.support.items()} if differ else query
            known[video.place] = Example(video.place, support, query, content)
        self._examples[name] = list(known.values())
        self._fitted = None

    def remove(self, name: str) -> None:
        """Forget an action and its examples.

        Raises:
            ValueError: the action is not enrolled.
        """
        if name not in self._examples:
            raise ValueError(unknown(name, self._examples, "action"))
        del self._examples[name]
        self._texts.pop(name, None)
        self._fitted = None

    def predict(self, video: str | Path | Video) -> Answer:
        """Name the action in one video.

        Args:
            video: a file, a folder of frames, or a segment of a file.

        Returns:
            The best action or `unknown`, with the probabilities of all actions.

        Raises:
            ValueError: fewer than two actions are enrolled, or the video is broken (a VideoError).
        """
        fit, method = self._fit()
        one = _video(video)
        query = self._encode([one], None, progress=False).query
        with torch.no_grad():
            (logits,) = match(method, padded(self._examples, "support"), query, self._text())
        probabilities = (fit.scale * logits).softmax(-1).tolist()
        order = logits.argsort(descending=True).tolist()
        names = list(self._examples)
        score = float(logits.max())
        is_known = fit.threshold is None or score >= fit.threshold
        ranked = {names[i]: probabilities[i] for i in order}
        return Answer(one.place, names[order[0]] if is_known else UNKNOWN, ranked, score, fit.threshold)

    def fit(self) -> Fit:
        """Choose variant, scale and threshold on the examples. The first prediction does this by itself.

        Returns:
            What was chosen, and how well the examples name each other.

        Raises:
            ValueError: fewer than two actions are enrolled.
        """
        return self._fit()[0]

    def save(self, path: str | Path) -> None:
        """Write everything but the backbone's weights to one file.

        Raises:
            OSError: the file cannot be written; an older file of that name stays as it was.
        """
        method = self.method
        trained = () if method.provenance is None else method.provenance.groups
        contents = Contents(
            backbone=self.backbone.name,
            weights=self.backbone.fingerprint(),
            method=method.name,
            options=method.options(),
            frames=self.cache.frames,
            sampling=self.cache.sampling,
            trained=None if method.provenance is None else asdict(method.provenance),
            examples=self._examples,
            texts=self._texts,
            # everything that loading the backbone by its name does not bring back
            state=kept_state(method, (*trained, "own")),
            fit=self._fitted[0] if self._fitted else None,
        )
        write_file(Path(path), contents)

    @classmethod
    def load(cls, path: str | Path, backbone: Backbone | None = None, cache: FrameCache | None = None) -> "Recognizer":
        """Read a recogniser that `save` wrote.

        Args:
            path: the file.
            backbone: with the weights that the file was made with; by default it is loaded by the name in the file.
            cache: frames on disk; by default with the frames and sampling in the file.

        Returns:
            A recogniser that answers as the saved one did.

        Raises:
            ValueError: not such a file, another format, or another backbone's weights.
        """
        contents = read_file(Path(path))
        backbone = backbone or load_backbone(contents.backbone)
        cache = cache or FrameCache.of_clip({"frames": contents.frames, "sampling": contents.sampling})
        recognizer = cls(backbone, contents.method, cache, **contents.options)
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
        recognizer._examples = {action: list(group) for action, group in contents.examples.items()}
        recognizer._texts = dict(contents.texts)
        if contents.fit:
            chosen = next(m for m in method.variants() if plain(m.options()) == contents.fit.options)
            recognizer._fitted = contents.fit, chosen
        return recognizer

    def _new(self, name: str, videos: Sequence[Video]) -> dict[str, Video]:
        """Take each content that is no example of the action yet: content -> video.

        Raises:
            ValueError: a video is an example of another action; or it is broken (a VideoError).
        """
        enrolled = {e.content: (action, e.video) for action, group in self._examples.items() for e in group}
        new: dict[str, Video] = {}
        for video in videos:
            content = self.cache.content(video.path, *video.span)
            action, other = enrolled.get(content, (name, ""))
            if action != name:
                raise ValueError(
                    f"{video.place} has the content of {other}, an example of {action!r}; it cannot be an example of "
                    f"{name!r} too: leave it out of one of them"
                )
            if not other:
                new.setdefault(content, video)
        return new

    def _encode(self, videos: Sequence[Video], name: str | None, progress: bool) -> Bank:
        videos = [replace(video, label=name or "") for video in videos]
        texts = {name: class_text(name)} if name else {"": ""}
        return fill_bank(
            self.method, videos, texts, cache=self.cache, progress=progress, role=None if name else "query"
        )

    def _text(self) -> Tensor | None:
        """Class texts [way, ...], if the method reads them."""
        return torch.stack([self._texts[name] for name in self._examples]) if self.method.traits.reads_text else None

    def _fit(self) -> tuple[Fit, Method]:
        if len(self._examples) < 2:
            have = ", ".join(self._examples) or "none"
            raise ValueError(f"a recogniser needs at least two actions; enrolled: {have}. Enrol another one")
        if self._fitted is None:
            supports, text = padded(self._examples, "support"), self._text()
            queries, _ = padded(self._examples, "query")
            with torch.no_grad():
                runs = [(method, *leave_one_out(method, supports, queries, text)) for method in self.method.variants()]
            self._fitted = choose(runs)
        return self._fitted


def _video(video: str | Path | Video) -> Video:
    """Take a path as a video without a class."""
    return video if isinstance(video, Video) else Video(str(video), Path(video), "")
