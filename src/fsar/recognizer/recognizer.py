"""The practitioner's door: a few clips per action -> a recogniser for new videos.

    recognizer = Recognizer("lite0")
    recognizer.enroll("wave", ["wave1.mp4", "wave2.mp4"])
    recognizer.enroll("clap", ["clap1.mp4", "clap2.mp4"])
    print(recognizer.predict("new.mp4"))

Everything that is chosen is chosen on the examples themselves, by leaving out one example of every class
at a time and naming it by the rest (`leave_one_out`):

- the method's variant (for place-and-motion its weight and alignment): highest accuracy, then lowest
  negative log-likelihood;
- the scale of the probabilities: the one of highest likelihood, with targets smoothed as in Platt scaling
  (n + 1) / (n + 2), so that a perfect score on few examples does not mean certainty;
- the threshold of "unknown": an answer is unknown where the best class's logit lies below it. A left-out
  example against all classes shows how known videos score; against all classes but its own, how unknown
  ones do. The threshold is where the two error rates are equal, taking both kinds of score as normally
  distributed, or lower, where one in ten of the known would fall below it: one's own actions resemble each
  other more than most strangers do, so the second kind of score is a hard case.

With one example in every class nothing can be left out: then the variant is the default, the
probabilities are not calibrated, and "unknown" is never answered; `fit` says so.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fsar.backbones import Backbone, load_backbone
from fsar.bank.fill import fill_bank
from fsar.bank.store import Bank
from fsar.datasets import Video
from fsar.files import atomic_path
from fsar.methods import build_method
from fsar.methods.base import Encoding, Episode, Method, Role
from fsar.names import unknown
from fsar.text.prompts import class_text
from fsar.training.checkpoint import provenance_of
from fsar.training.parameters import kept_state
from fsar.video.frame_cache import FrameCache

FORMAT = 3
UNKNOWN = "unknown"
MOST_MISSED = 0.1
"""Share of known videos that the threshold may call unknown, as far as the examples tell."""


@dataclass(frozen=True)
class Answer:
    """What a video shows."""

    video: str
    action: str
    """The best action, or `unknown`."""
    probabilities: dict[str, float]
    """All actions, the likeliest first; they sum to one over the enrolled actions."""
    score: float
    """The best action's logit."""
    threshold: float | None
    """Below it the answer is unknown; None where it could not be fitted."""

    def __str__(self) -> str:
        ranked = ", ".join(f"{name} {p:.0%}" for name, p in list(self.probabilities.items())[:3])
        return f"{self.video}: {self.action} ({ranked})"


@dataclass(frozen=True)
class Fit:
    """What was chosen on the examples, and how well they name each other."""

    options: dict[str, Any]
    """Options of the method in use."""
    scale: float
    """Factor on the logits before softmax."""
    threshold: float | None
    left_out: int
    """Examples that could be left out and named by the rest."""
    accuracy: float | None
    """Share of those that were named right; None where none could be left out."""
    known_missed: float | None
    """Share of left-out examples that the threshold calls unknown."""
    unknown_accepted: float | None
    """Share that it accepts as another class when their own is taken away."""

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        if self.accuracy is None:
            return (
                f"{options}; one example per action leaves nothing to choose on: probabilities are not calibrated "
                f"and 'unknown' is never answered. Give at least two examples of some action."
            )
        return (
            f"{options}; on {self.left_out} left-out examples: accuracy {self.accuracy:.0%}, called unknown by mistake "
            f"{self.known_missed:.0%}, accepted without their class {self.unknown_accepted:.0%}"
        )


@dataclass(frozen=True)
class _Example:
    """An enrolled video, encoded in both roles: to name others by, and to be left out and named itself."""

    video: str
    support: Encoding
    query: Encoding


class Recognizer:
    """Names the action in a video by a few enrolled examples of each.

    Args:
        backbone: a name for `load_backbone`, or a backbone.
        method: a name in `METHODS`, or a method that `load_pretrained` gave (which has its own backbone).
        cache: frames on disk.
        options: of the method.
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
                raise ValueError(f"the {method.name} given has its backbone and options; give neither beside it")
            self.method = method
        else:
            built = load_backbone(backbone or "lite0") if isinstance(backbone, str | None) else backbone
            self.method = build_method(method, built, **options)
        if self.method.leaks_labels:
            raise ValueError(
                f"{self.method.name} in this variant reads labels of queries, which a new video has not; it is for "
                f"audits of published numbers. Use variant=paper or variant=official"
            )
        self.backbone = self.method.backbone
        self.cache = cache or FrameCache()
        self._examples: dict[str, list[_Example]] = {}
        self._texts: dict[str, Tensor] = {}
        self._fitted: tuple[Fit, Method] | None = None

    @property
    def actions(self) -> dict[str, int]:
        """Enrolled actions and how many examples each has."""
        return {name: len(examples) for name, examples in self._examples.items()}

    def enroll(self, name: str, videos: str | Path | Iterable[str | Path], progress: bool = False) -> None:
        """Add one or more examples of an action, new or known. A video given twice counts once.

        Raises:
            ValueError: a broken video (a VideoError), no video, or the name `unknown`.
        """
        paths = [Path(video) for video in ([videos] if isinstance(videos, str | Path) else videos)]
        if not paths:
            raise ValueError(f"action {name!r} came without a video; give at least one example")
        if name == UNKNOWN:
            raise ValueError(f"{UNKNOWN!r} is the answer for videos of no action; give the action another name")
        if self.method.needs_text and name not in self._texts:
            with torch.no_grad():
                self._texts[name] = self.method.encode_text([class_text(name)])[0]
        bank = self._encode(paths, name, progress)
        known = {example.video: example for example in self._examples.get(name, [])}
        for i, video in enumerate(paths):
            support, query = ({part: t[i] for part, t in role.items()} for role in (bank.support, bank.query))
            known[str(video)] = _Example(str(video), support, query)
        self._examples[name] = list(known.values())
        self._fitted = None

    def remove(self, name: str) -> None:
        """Forget an action.

        Raises:
            ValueError: it is not enrolled.
        """
        if name not in self._examples:
            raise ValueError(unknown(name, self._examples, "action"))
        del self._examples[name]
        self._texts.pop(name, None)
        self._fitted = None

    def predict(self, video: str | Path) -> Answer:
        """Name one video.

        Raises:
            ValueError: fewer than two actions enrolled, or a broken video (a VideoError).
        """
        fit, method = self._fit()
        query = self._encode([Path(video)], None, progress=False).query
        with torch.no_grad():
            (logits,) = _match(method, self._supports(), query, self._text())
        probabilities = (fit.scale * logits).softmax(-1).tolist()
        order = logits.argsort(descending=True).tolist()
        names = list(self._examples)
        score = float(logits.max())
        is_known = fit.threshold is None or score >= fit.threshold
        ranked = {names[i]: probabilities[i] for i in order}
        return Answer(str(video), names[order[0]] if is_known else UNKNOWN, ranked, score, fit.threshold)

    def fit(self) -> Fit:
        """Choose variant, scale and threshold on the examples; done by itself at the first prediction."""
        return self._fit()[0]

    def save(self, path: str | Path) -> None:
        """Write everything but the backbone to one file."""
        fit = self._fitted[0] if self._fitted else None
        header = {
            "format": FORMAT,
            "backbone": self.backbone.name,
            "weights": self.backbone.fingerprint(),
            "method": self.method.name,
            "options": self.method.options(),
            "frames": self.cache.frames,
            "sampling": self.cache.sampling,
            "trained": None if self.method.provenance is None else asdict(self.method.provenance),
            "examples": [[name, example.video] for name, group in self._examples.items() for example in group],
            "fit": asdict(fit) if fit else None,
        }
        examples = [example for group in self._examples.values() for example in group]
        tensors = {}
        for role in _roles(self.method):
            encodings = [getattr(example, role) for example in examples]
            for part in encodings[0] if encodings else ():
                tensors[f"{role}.{part}"] = torch.stack([encoding[part] for encoding in encodings])
        if self._texts:
            tensors["text"] = torch.stack([self._texts[name] for name in self._examples])
        tensors |= {f"method.{key}": value for key, value in _own_state(self.method).items()}
        with atomic_path(Path(path)) as temporary:
            save_file(tensors, temporary, {"fsar.recognizer": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path, backbone: Backbone | None = None, cache: FrameCache | None = None) -> "Recognizer":
        """Read a recogniser that `save` wrote.

        Raises:
            ValueError: not such a file, of another version, or made with another backbone's weights.
        """
        header, tensors = _read(Path(path))
        if header.get("format") != FORMAT:
            raise ValueError(
                f"{path}: written in format {header.get('format')}, this version reads {FORMAT}; enrol the examples "
                f"again, or use the version of fsar that wrote it"
            )
        backbone = backbone or load_backbone(header["backbone"])
        cache = cache or FrameCache.of_clip(header)
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in header["options"].items()}
        recognizer = cls(backbone, header["method"], cache, **options)
        own = {key[7:]: value for key, value in tensors.items() if key.startswith("method.")}
        try:
            recognizer.method.load_state_dict(own, strict=False)
        except RuntimeError as error:  # of other shapes
            raise ValueError(
                f"{path}: made with backbone {header['backbone']}, whose sizes {backbone.name} has not; use the same"
            ) from error
        recognizer.method.provenance = header["trained"] and provenance_of(header["trained"])
        if backbone.fingerprint() != header["weights"]:
            raise ValueError(
                f"{path}: made with backbone {header['backbone']} (weights {header['weights']}), but the one at hand "
                f"is {backbone.name} (weights {backbone.fingerprint()}); use the same weights, or enrol again"
            )
        for i, (name, video) in enumerate(header["examples"]):
            encoded = {
                role: {key[len(role) + 1 :]: t[i] for key, t in tensors.items() if key.startswith(f"{role}.")}
                for role in _roles(recognizer.method)
            }
            query = encoded["query"]
            recognizer._examples.setdefault(name, []).append(_Example(video, encoded.get("support", query), query))
        if "text" in tensors:
            recognizer._texts = dict(zip(recognizer._examples, tensors["text"], strict=True))
        if header["fit"]:
            fit = Fit(**header["fit"])
            chosen = next(m for m in recognizer.method.variants() if _json(m.options()) == fit.options)
            recognizer._fitted = fit, chosen
        return recognizer

    def _encode(self, paths: Sequence[Path], name: str | None, progress: bool) -> Bank:
        videos = [Video(str(path), path, name or "") for path in paths]
        texts = {name: class_text(name)} if name else {"": ""}
        return fill_bank(self.method, videos, texts, self.cache, progress=progress, role=None if name else "query")

    def _supports(self, role: Role = "support") -> tuple[Encoding, Tensor]:
        """All examples in a role, padded to the largest class: tensors [way, shot, ...] and the mask [way, shot]."""
        groups = [[getattr(example, role) for example in group] for group in self._examples.values()]
        most = max(map(len, groups))
        mask = torch.tensor([[i < len(group) for i in range(most)] for group in groups])
        padded = [group + group[:1] * (most - len(group)) for group in groups]
        parts = groups[0][0]
        return {p: torch.stack([torch.stack([e[p] for e in group]) for group in padded]) for p in parts}, mask

    def _text(self) -> Tensor | None:
        """Class texts [way, ...], for methods that read them."""
        return torch.stack([self._texts[name] for name in self._examples]) if self.method.needs_text else None

    def _fit(self) -> tuple[Fit, Method]:
        if len(self._examples) < 2:
            have = ", ".join(self._examples) or "none"
            raise ValueError(f"a recogniser needs at least two actions; enrolled: {have}")
        if self._fitted is None:
            supports, text = self._supports(), self._text()
            queries, _ = self._supports("query")
            with torch.no_grad():
                runs = [(method, *leave_one_out(method, supports, queries, text)) for method in self.method.variants()]
            self._fitted = _choose(runs)
        return self._fitted


def leave_one_out(
    method: Method, supports: tuple[Encoding, Tensor], queries: Encoding, text: Tensor | None
) -> tuple[Float[Tensor, "example way"], Int[Tensor, " example"]]:
    """Name examples by the rest: in round k every class with at least two examples gives its k-th one.

    Taking one from every class at a time keeps the classes balanced and needs as many rounds as the
    largest class has examples, not as many as there are examples. A left-out example is encoded as a
    query (`queries`, beside `supports`), which has not read the text of its class.

    Returns:
        Logits and true ways of the left-out examples; none where no class has two.
    """
    encodings, mask = supports
    enough = mask.sum(-1) > 1
    logits, ways = [], []
    for k in range(mask.shape[1]):
        out = (enough & mask[:, k]).nonzero()[:, 0]
        if len(out) == 0:
            continue
        rest = mask.clone()
        rest[out, k] = False
        # one query at a time, as in `predict`
        for way in out.tolist():
            query = {part: tensor[way, k][None] for part, tensor in queries.items()}
            logits.append(_match(method, (encodings, rest), query, text))
            ways.append(way)
    stacked = torch.cat(logits) if logits else torch.empty(0, len(mask))
    return stacked, torch.tensor(ways, dtype=torch.long)


def _match(
    method: Method, supports: tuple[Encoding, Tensor], query: Encoding, text: Tensor | None
) -> Float[Tensor, "query way"]:
    encodings, mask = supports
    episode = Episode(
        {part: tensor[None].to(method.device) for part, tensor in encodings.items()},
        {part: tensor[None].to(method.device) for part, tensor in query.items()},
        mask[None].to(method.device),
        None if text is None else text[None].to(method.device),
    )
    return method.match(episode).logits[0].cpu()


def _choose(runs: Sequence[tuple[Method, Tensor, Tensor]]) -> tuple[Fit, Method]:
    """Take the variant that names left-out examples best, and fit its scale and threshold."""
    rated = []
    for order, (method, logits, ways) in enumerate(runs):
        if len(ways) == 0:
            return Fit(_json(method.options()), 1.0, None, 0, None, None, None), method
        scale, loss = _fit_scale(logits, ways)
        accuracy = (logits.argmax(-1) == ways).float().mean().item()
        rated.append(((-accuracy, loss, order), scale, method, logits, ways))
    (minus_accuracy, _, _), scale, method, logits, ways = min(rated, key=lambda run: run[0])
    own = torch.nn.functional.one_hot(ways, logits.shape[1]).bool()
    known = logits.amax(-1)
    strange = logits.masked_fill(own, -torch.inf).amax(-1)
    threshold = _fit_threshold(known, strange)
    fit = Fit(
        options=_json(method.options()),
        scale=scale,
        threshold=threshold,
        left_out=len(ways),
        accuracy=-minus_accuracy,
        known_missed=(known < threshold).float().mean().item(),
        unknown_accepted=(strange >= threshold).float().mean().item(),
    )
    return fit, method


def _fit_scale(logits: Tensor, ways: Tensor) -> tuple[float, float]:
    """Scale of highest likelihood with Platt's smoothed targets, and its mean negative log-likelihood."""
    examples, classes = logits.shape
    right = (examples + 1) / (examples + 2)
    target = torch.full_like(logits, (1 - right) / (classes - 1)).scatter(1, ways[:, None], right)
    scales = torch.logspace(-2, 3, 201) / max(logits.std().item(), 1e-12)
    losses = torch.stack([-(target * (s * logits).log_softmax(-1)).sum(-1).mean() for s in scales])
    best = int(losses.argmin())
    return scales[best].item(), losses[best].item()


def _fit_threshold(known: Tensor, strange: Tensor) -> float:
    """Score at which both error rates would be equal, were both kinds of score normally distributed.

    A best cut through the few scores themselves would jump with every example. Where known and strange
    overlap much, the threshold stops where `MOST_MISSED` of the known would fall below it.
    """
    spread_known, spread_strange = (max(x.std(correction=0).item(), 1e-6) for x in (known, strange))
    share = spread_strange / (spread_known + spread_strange)
    equal = share * known.mean().item() + (1 - share) * strange.mean().item()
    return min(equal, NormalDist(known.mean().item(), spread_known).inv_cdf(MOST_MISSED))


def _roles(method: Method) -> tuple[Role, ...]:
    """Roles in which an example is encoded differently."""
    return ("support", "query") if method.roles_differ else ("query",)


def _own_state(method: Method) -> dict[str, Tensor]:
    """What the method has beside the backbone as it is loaded by name: its own, and whatever was trained."""
    return kept_state(method, (*(method.provenance.groups if method.provenance else ()), "own"))


def _json(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back (tuples are lists there)."""
    return json.loads(json.dumps(options))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such recogniser file")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["fsar.recognizer"])
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a recogniser that fsar wrote, or cut short ({error})") from error
