"""What a run leaves behind, and tables of it."""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fsar.files import atomic_path


@dataclass(frozen=True, kw_only=True)
class Result:
    """One accuracy and everything needed to trust and repeat it."""

    method: str
    options: dict[str, Any]
    changed: dict[str, Any]
    """The options that differ from their defaults."""
    transductive: bool
    backbone: str
    weights: str
    """Hash of the backbone's weights."""
    clip: dict[str, Any]
    """Frames, sampling and size of the clips."""
    dataset: str
    dataset_fingerprint: str
    """Canonical hash of the videos in use."""
    split: str
    protocol: str
    """`clean`: val selects, test reports."""
    selection: str
    """What was chosen on which split."""
    way: int
    shot: int
    query: int
    """Queries per class."""
    episodes: int
    seed: int | None
    """None where the episodes came from a manifest."""
    episodes_fingerprint: str
    accuracy: float
    """In [0, 1], mean over episodes."""
    ci95: float
    """Half the 95 % interval over episodes."""
    per_class: dict[str, float]
    confusion: dict[str, Any]
    training: dict[str, Any] | None
    """How the method was trained (recipe, training videos, groups); None where it was not."""
    seen_classes: tuple[str, ...]
    """Evaluated classes that it was trained on: with any, this is no few-shot number."""
    skipped: dict[str, str]
    """Videos left out because they could not be read."""
    seconds: float
    """Matching alone."""
    versions: dict[str, str]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @property
    def percent(self) -> str:
        """Accuracy as the field prints it, in percent."""
        return f"{100 * self.accuracy:.1f} ± {100 * self.ci95:.1f}"


def versions() -> dict[str, str]:
    """Versions of everything that may change a number."""
    packages = ("fsar", "torch", "torchvision", "open_clip_torch", "timm", "av", "numpy", "lightning-fabric")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}


def table(results: Sequence[Result]) -> str:
    """Markdown table: a row per method, a column per way and shot; accuracy in percent ± 95 % interval.

    Runs of one recipe that differ in the seed share a row: the mean over seeds, the mean of their intervals
    (an upper bound of the mean's, since they were evaluated on the same episodes), and the seeds' standard
    deviation.
    """
    columns = list(dict.fromkeys((r.way, r.shot) for r in results))
    groups: dict[tuple[str, tuple[int, int]], list[Result]] = {}
    for result in results:
        groups.setdefault((_row_name(result), (result.way, result.shot)), []).append(result)
    rows = list(dict.fromkeys(row for row, _ in groups))
    cells = {place: _cell(group) for place, group in groups.items()}
    header = ["method", *(f"{way}-way {shot}-shot" for way, shot in columns)]
    lines = [header, ["---", *("---:" for _ in columns)]]
    lines += [[row, *(cells.get((row, column), "") for column in columns)] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(results: Sequence[Result]) -> str:
    if len(results) == 1:
        return results[0].percent
    mean = statistics.mean(r.accuracy for r in results)
    ci95 = statistics.mean(r.ci95 for r in results)
    spread = statistics.stdev(r.accuracy for r in results)
    return f"{100 * mean:.1f} ± {100 * ci95:.1f} ({len(results)} seeds: sd {100 * spread:.1f})"


def _row_name(result: Result) -> str:
    changed = ", ".join(f"{key}={value}" for key, value in result.changed.items() if key != "inductive")
    mode = ""
    if "inductive" in result.options:
        mode = ", transductive" if result.transductive else ", inductive"
    leak = f" [{result.protocol}]" if result.protocol != "clean" else ""
    trained = ""
    if result.training is not None:
        recipe = result.training["recipe"]
        same = {key: value for key, value in recipe.items() if key not in ("seed", "workers", "devices", "nodes")}
        run = blake2b(json.dumps(same, sort_keys=True).encode(), digest_size=2).hexdigest()
        trained = f", trained on {result.training['dataset']} {recipe['way']}-way {recipe['shot']}-shot, recipe {run}"
    return f"{result.method}{f' {changed}' if changed else ''} ({result.backbone}{trained}){mode}{leak}"
