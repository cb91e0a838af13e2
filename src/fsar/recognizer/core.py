"""What all parts of the recogniser rest on: method, encoder, and the state at this moment."""

from threading import RLock
from typing import Any

from fsar.backbones import Backbone, fast, load_backbone
from fsar.methods import build_method
from fsar.methods.base import Method
from fsar.names import many
from fsar.recognizer.background import uses_background
from fsar.recognizer.calibration import STRICTNESS, Fit
from fsar.recognizer.encoding import ClipEncoder, Ready
from fsar.recognizer.examples import Actions
from fsar.recognizer.sources import VideoSource
from fsar.recognizer.state import Once, State
from fsar.recognizer.tuning import Tuned
from fsar.video.frame_cache import FrameCache
from fsar.video.motion import MOVING
from fsar.video.paths import VideoError


def load_fast(name: str) -> Backbone:
    """Load a backbone for a recogniser, as fast as it can be."""
    backbone = load_backbone(name)
    if fast.is_installed() and not backbone.has_text:  # transformers of CLIP gain little
        fast.speed_up(backbone)
    return backbone


def _cache_for(method: Method) -> FrameCache:
    """How frames are taken if nobody says it."""
    if method.provenance:
        return FrameCache.of_clip(method.provenance.clip)
    return FrameCache(frames=method.backbone.clip_frames or 8, sampling=MOVING)


class Core:
    """Method, encoder and state of a recogniser; see `Recognizer` for the arguments."""

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
            built = load_fast(backbone or "lite0") if isinstance(backbone, str | None) else backbone
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
        self._named: str | None = None
        """The file that it was loaded from."""
        self.tuned: Tuned | None = None
        """Windows and rule for long videos that were chosen on annotated ones; None for the usual ones."""

    def __repr__(self) -> str:
        counts = self.actions
        facts = many(len(counts), "action"), many(sum(counts.values()), "clip")
        return f"{type(self).__name__}({(self._named or self.backbone.name)!r}, {', '.join(facts)})"

    def read_by(self, cache: FrameCache) -> None:
        """Let another frame cache decode, with the frames and sampling of this recogniser.

        Args:
            cache: such as one that decodes in other processes.
        """
        self.cache, self._encoder = cache, ClipEncoder(self.method, cache)

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

    def fit(self) -> Fit:
        """Choose variant, scale and threshold on the examples. The first prediction does this by itself.

        Returns:
            What was chosen, and how well the examples name each other.

        Raises:
            ValueError: no action is enrolled.
        """
        return self._ready_state().fitted()[0]

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
