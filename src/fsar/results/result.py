"""Results: one accuracy with everything that it depends on, and its file."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fsar.files import write_text_atomic
from fsar.results.numbers import percent_interval


@dataclass(frozen=True, kw_only=True)
class Result:
    """One accuracy and everything needed to trust and repeat it."""

    method: str
    options: dict[str, Any]
    """All options of the method."""
    changed: dict[str, Any]
    """The options that differ from their defaults."""
    transductive: bool
    """Whether the queries of an episode see each other."""
    backbone: str
    weights: str
    """Hash of the backbone's weights."""
    clip: dict[str, Any]
    """Frames, sampling and size of the clips."""
    dataset: str
    dataset_fingerprint: str
    """Hash of the videos in use: their ids and classes."""
    split: str
    """`train`, `val`, `test` or `all`."""
    protocol: str
    """`clean`: val selects, test reports; otherwise the reason not to trust the number."""
    selection: str
    """How the trained state was chosen, and on which classes."""
    way: int
    shot: int
    query: int
    """Queries per class."""
    episodes: int
    seed: int | None
    """Seed of the episodes; None if they came from a manifest."""
    episodes_fingerprint: str
    """Hash of the episodes."""
    accuracy: float
    """In [0, 1], mean over episodes."""
    ci95: float
    """Half the 95 % interval over episodes."""
    per_class: dict[str, float]
    """Class -> accuracy of its queries."""
    confusion: dict[str, Any]
    """`classes`, and `counts` [actual, predicted] in their order."""
    training: dict[str, Any] | None
    """How the method was trained (recipe, training videos, groups); None if it was not."""
    seen_classes: tuple[str, ...]
    """Evaluated classes that the method was trained on; if there are any, this is not a few-shot accuracy."""
    skipped: dict[str, str]
    """id -> reason, of videos left out."""
    seconds: float
    """Time that matching took, without encoding."""
    versions: dict[str, str]
    """Versions of everything that may change a number."""
    trained_weights: str = ""
    """Hash of all weights of a trained method; empty if nothing was trained, and in results of older versions."""
    right: tuple[int, ...] = ()
    """Number of correct queries in each episode, in order; empty in results of older versions."""
    videos: int = 0
    """Number of videos in use; 0 in results of older versions."""
    files: str = ""
    """Hash of the videos' contents, which a smaller copy changes; empty in results of older versions."""
    absent: int = 0
    """Number of listed videos that were missing."""
    copies: int = 0
    """Number of videos left out because another video of their class has the same content."""
    resplit: int | None = None
    """Seed of a random split of the classes; None is the published one."""
    damaged: dict[str, int] = field(default_factory=dict)
    """id -> number of damaged or lost pictures, for videos that were used in spite of them."""
    precision: str = "float32"
    """Precision of the arithmetic: float32, tf32 or bf16."""

    date: str = ""
    """When it was measured, in UTC to the second; empty in results of older versions."""
    device: str = ""
    """What matched the episodes: `cpu (x86_64)`, or the name of the GPU; empty in results of older versions."""
    predictions: dict[str, Any] | None = None
    """On request, every query's answer: `video_ids` and `classes`; of each query its video, class (`actual`) and answer
    (`predicted`) as places in these lists, [episode, query]."""
    own: dict[str, str] = field(default_factory=dict)
    """Files, or installed packages, of a `method` and a `backbone` of one's own, with their hash or version."""
    label: str = ""
    """Name of its row that the reader chose (`fsar.results.naming`); files have none."""

    def save(self, path: Path) -> None:
        """Write the result as JSON."""
        content = asdict(self)
        del content["label"]
        # thousands of numbers: one line, not one each
        long = {name: json.dumps(content.pop(name), separators=(",", ":")) for name in ("predictions", "right")}
        text = json.dumps(content, indent=1).removesuffix("\n}")
        lines = "".join(f',\n "{name}": {numbers}' for name, numbers in long.items())
        write_text_atomic(path, f"{text}{lines}\n}}\n")

    @classmethod
    def load(cls, path: Path) -> "Result":
        """Read a file of `save`, also from a version with fewer fields.

        Raises:
            ValueError: no such file, not a result, or unknown or missing fields (another version of fsar).
        """
        content = _read(path)
        if not _is_result(content):
            raise ValueError(f"{path}: not a result; expected a JSON file that `fsar evaluate` wrote")
        return _from_json(content, path)

    def answers(self) -> Iterator[tuple[int, str, str, str]]:
        """Go through every query: number of the episode, video, its class, and the class that it was named as.

        Raises:
            ValueError: the answers were not kept.
        """
        kept = self.predictions
        if kept is None:
            raise ValueError("this result does not hold its answers; evaluate with --predictions")
        for episode, rows in enumerate(zip(kept["query"], kept["actual"], kept["predicted"], strict=True)):
            for video, actual, named in zip(*rows, strict=True):
                yield episode, kept["video_ids"][video], kept["classes"][actual], kept["classes"][named]

    @property
    def percent(self) -> str:
        """Mean accuracy ± half its 95 % interval, in percent."""
        return percent_interval(self.accuracy, self.ci95)

    @property
    def mode(self) -> str:
        """`inductive`, or `transductive` if the queries of an episode see each other."""
        return "transductive" if self.transductive else "inductive"


@dataclass(frozen=True)
class Stored:
    """A result and its file."""

    path: Path
    result: Result


def load_results(paths: Sequence[Path]) -> list[Stored]:
    """Read results from files and, at any depth, from folders; each file once.

    Args:
        paths: files, which must be results; or folders, whose other files are ignored.

    Returns:
        Results with their files; those of a folder in the order of their names.

    Raises:
        ValueError: no such path, a named file that is not a result, or a result of another version.
    """
    found: dict[Path, Stored] = {}
    for path in paths:
        if path.is_dir():
            for file, content in _results_below(path):
                found.setdefault(file.resolve(), Stored(file, _from_json(content, file)))
        else:
            found.setdefault(path.resolve(), Stored(path, Result.load(path)))
    return list(found.values())


def results_folder(run: Path) -> Path:
    """Folder of a run's results.

    Args:
        run: the run's folder, or the checkpoint in it.
    """
    inside = run.name == "checkpoint" and (run.parent / "recipe.yaml").is_file()
    return (run.parent if inside else run) / "results"


def _results_below(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(folder.rglob("*.json")):
        if any(part.startswith(".") for part in file.relative_to(folder).parts) or not file.is_file():
            continue
        try:
            content = _read(file)
        except ValueError:
            continue  # another program's
        if _is_result(content):
            yield file, content


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file or folder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a result that fsar wrote ({error})") from error


def _is_result(content: Any) -> bool:
    return isinstance(content, dict) and {"method", "accuracy", "ci95", "episodes_fingerprint"} <= content.keys()


def _from_json(content: Mapping[str, Any], path: Path) -> Result:
    known = [one.name for one in fields(Result)]
    needed = [one.name for one in fields(Result) if one.default is MISSING and one.default_factory is MISSING]
    lacking = [name for name in needed if name not in content]
    strange = [name for name in content if name not in known]
    if lacking or strange:
        what = f"lacks {', '.join(lacking)}" if lacking else f"holds {', '.join(strange)}, which is unknown here"
        raise ValueError(f"{path}: a result of another version of fsar: it {what}. Evaluate again, or delete the file")
    tuples = {name: tuple(content[name]) for name in ("seen_classes", "right") if name in content}
    result = Result(**{**content, **tuples})
    if result.right and len(result.right) != result.episodes:
        raise ValueError(f"{path}: damaged: {result.episodes} episodes, but counts of {len(result.right)}")
    return result


def versions() -> dict[str, str]:
    """Versions of everything that may change a number."""
    packages = ("fsar", "torch", "torchvision", "open_clip_torch", "timm", "av", "numpy", "lightning-fabric")
    return {"python": platform.python_version()} | {package: _version(package) for package in packages}


def _version(package: str) -> str:
    """The version that is installed; a source tree on the path, or part of another package, has none of its own."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def environment(device: str) -> dict[str, Any]:
    """Return versions, platform and device; without the time, so equal environments are equal."""
    return {"versions": versions(), "platform": platform.platform(), "device": device, "cpus": os.cpu_count()}


def short_hash(content: Any, size: int = 2) -> str:
    """Hash anything that JSON can hold.

    Args:
        content: dictionaries with equal keys and values have one hash, whatever their order.
        size: bytes of the hash; it has twice as many hexadecimal digits.

    Example:
        >>> short_hash({"way": 5, "shot": 1}) == short_hash({"shot": 1, "way": 5})
        True
        >>> len(short_hash("text", size=8))
        16
    """
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=size).hexdigest()
