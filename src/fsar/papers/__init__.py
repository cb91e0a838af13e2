"""The numbers of the four papers, and of pages of methods that they compare with, as data: each with its source.

The YAML files in this folder hold the tables. The head of each file says what its paper leaves open, and where papers
contradict themselves or each other. Accuracies are in percent, as printed.

    load_papers()             every cell
    published(...)            the cells of one method, benchmark, way and shot
    fsar.papers.origins       how the numbers of each method were made
    fsar.papers.runs          the run of this project that makes a cell, or why there is none
    fsar.papers.compare       a result of ours beside the cells, and what differs
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

from fsar.config import read_yaml
from fsar.names import unknown

PAPERS = {"ma-fsar": "MA-FSAR", "task-adapter-pp": "Task-Adapter++", "clip-mdmf": "CLIP-MDMF", "clip-spm": "CLIP-SPM"}
"""The four papers: files in this folder, and their names."""
SOURCES = {**PAPERS, "pages": "Pages of methods"}
"""All files in this folder, and their names: the papers, and pages of methods that they compare with."""
FAMILIES = {
    "hmdb51": "HMDB51",
    "ucf101": "UCF101",
    "kinetics100": "Kinetics-100",
    "ssv2-small": "SSv2-Small",
    "ssv2-full": "SSv2-Full",
}
"""Benchmarks of the papers, without the versions of their lists."""
BACKBONES = ("ResNet-50", "ViT-B/32", "ViT-B/16", "ViT-B", "ViViT", "C3D", "not stated")
PRETRAININGS = ("ImageNet", "ImageNet-21K", "CLIP", "JFT", "not stated")
UNTRAINED = "none"
"""`Cell.training` of a row in which nothing was trained."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One number of one table. Cells with equal content are still different cells."""

    paper: str
    """A key of `SOURCES`."""
    table: str
    """"Table 1", "Fig. 7", "section 4.3"."""
    caption: str
    protocol: str
    """How the table was measured, according to the paper."""
    number: int
    """Position in the table's data, from 1."""
    method: str
    """Name of the method in this project; if the project lacks it, the spelling of the paper."""
    backbone: str
    pretraining: str
    variant: str | None = None
    """The row of an ablation table; None in a main table."""
    options: Mapping[str, Any] | None = None
    """Options that differ from this project's recipe; empty for the default model, None in a main table."""
    training: Mapping[str, Any] | str | None = None
    """Other keys of the recipe that differ; `UNTRAINED` if nothing was trained."""
    also: tuple[Mapping[str, Any], ...] = ()
    """Other runs (`method`, `options`) that may have made the number, if the paper leaves this open."""
    resplit: tuple[int, ...] = ()
    """Seeds of our random splits of the classes; empty for the published split."""
    leaks: bool | None = None
    """Whether labels of queries reached the scores; None if this is as in the method's other rows."""
    benchmark: str | None = None
    """A key of `FAMILIES`."""
    way: int | None = None
    shot: int | None = None
    """Examples per class, K; 0 if only class texts are read."""
    accuracy: float | None = None
    """In percent."""
    quantity: str | None = None
    """Quantity of `value`, if it is not an accuracy on a benchmark."""
    value: float | None = None
    note: str | None = None

    @property
    def is_default(self) -> bool:
        """Whether this is the method as its paper proposes it."""
        if self.options is None:
            return self.variant is None
        return not (self.options or self.training or self.resplit)

    @property
    def source(self) -> str:
        """Paper and table: "MA-FSAR, Table 2"."""
        return f"{SOURCES[self.paper]}, {self.table}"

    @property
    def id(self) -> str:
        """Name of the cell on the command line: "ma-fsar/table-2/5"."""
        return f"{self.paper}/{table_name(self.table)}/{self.number}"


def table_name(table: str) -> str:
    """Write the name of a table without spaces and dots.

    Example:
        >>> table_name("Fig. 7")
        'fig-7'
    """
    return re.sub(r"[ .]+", "-", table.lower())


@cache
def load_papers() -> tuple[Cell, ...]:
    """Read every cell of every paper, in the papers' order.

    Example:
        >>> len(load_papers())
        1378
    """
    return tuple(cell for paper in SOURCES for cell in read_paper(_text(paper), paper))


@cache
def citations() -> dict[str, str]:
    """Read how to cite each paper.

    Example:
        >>> citations()["clip-spm"][:28]
        'Li, Lu, Wang, Li, Le. Distin'
    """
    return {paper: read_yaml(_text(paper))["citation"] for paper in SOURCES}


def published(
    method: str,
    family: str,
    way: int,
    shot: int,
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Cell, ...]:
    """Look up all published accuracies held for one setting; they may disagree.

    Args:
        method: a name in `fsar methods`, or a paper's spelling.
        family: a benchmark without its version, a key of `FAMILIES`.
        way: classes per episode.
        shot: examples per class; 0 if the class texts alone are read.
        backbone: a backbone of this project, like `ViT-B-16/openai`; only cells with its architecture and pre-training.
        options: only cells with these options (see `Cell.options`); `{}` for the default model.

    Returns:
        The cells, in the papers' order; none if this project holds no such number. Other papers may print one.

    Example:
        >>> [(cell.source, cell.accuracy) for cell in published("ma-fsar", "hmdb51", 5, 1, "ViT-B-32/openai")]
        [('MA-FSAR, Table 1', 77.3)]
    """
    wanted = None if backbone is None else paper_backbone(backbone)
    return tuple(
        cell
        for cell in load_papers()
        if cell.accuracy is not None
        and (cell.method, cell.benchmark, cell.way, cell.shot) == (method, family, way, shot)
        and (backbone is None or wanted == (cell.backbone, cell.pretraining.removesuffix("-21K")))
        and (options is None or (cell.is_default if not options else cell.options == options))
    )


def paper_backbone(name: str) -> tuple[str, str] | None:
    """Return the papers' name for a backbone of this project.

    For rows that other papers call ImageNet, Task-Adapter++ prints ImageNet-21K; both are ImageNet here.

    Args:
        name: a backbone of this project, like `RN50/openai`.

    Returns:
        Architecture and pre-training; None if the papers have no such backbone.

    Example:
        >>> paper_backbone("timm/resnet50.tv_in1k")
        ('ResNet-50', 'ImageNet')
    """
    model, _, weights = name.removeprefix("timm/").replace("@", "/").partition("/")
    if name.startswith("timm/"):
        found = _IMAGENET.get(model.partition(".")[0])
        return None if found is None or weights == "random" else (found, "ImageNet")
    is_openai = weights == "openai" or ("@" in name and model.endswith("-quickgelu"))
    found = _CLIP.get(model.removesuffix("-quickgelu"))
    return (found, "CLIP") if found and is_openai else None


_CLIP = {"RN50": "ResNet-50", "ViT-B-32": "ViT-B/32", "ViT-B-16": "ViT-B/16"}
_IMAGENET = {"resnet50": "ResNet-50", "vit_base_patch32_224": "ViT-B/32", "vit_base_patch16_224": "ViT-B/16"}


def read_paper(text: str, source: str) -> tuple[Cell, ...]:
    """Read one paper's YAML.

    Args:
        text: content of the file.
        source: name of the file, for messages.

    Returns:
        Its cells, in the order of the file.

    Raises:
        ValueError: an unknown key or name, or an incomplete row.
    """
    content = read_yaml(text)
    _require(content, ("paper", "citation", "tables"), source)
    if content["paper"] not in SOURCES:
        raise ValueError(f"{source}: {unknown(str(content['paper']), SOURCES, 'paper')}")
    cells = []
    for table in content["tables"]:
        _require(table, ("table", "caption", "protocol", "rows"), source)
        head = {"paper": content["paper"], **{key: table[key] for key in ("table", "caption", "protocol")}}
        cells += [
            _cell({**head, "number": number}, row, f"{source}, {table['table']}: {row}")
            for number, row in enumerate(table["rows"], 1)
        ]
    return tuple(cells)


def _text(paper: str) -> str:
    return (resources.files("fsar") / "papers" / f"{paper}.yaml").read_text(encoding="utf-8")


def _require(mapping: Any, keys: tuple[str, ...], where: str) -> None:
    """Refuse missing, unknown and empty keys."""
    if not isinstance(mapping, dict):
        raise ValueError(f"{where}: expected the keys {', '.join(keys)}, got {type(mapping).__name__}")
    for key in mapping:
        if key not in keys:
            raise ValueError(f"{where}: {unknown(str(key), keys, 'key')}")
    if missing := [key for key in keys if not mapping.get(key)]:
        raise ValueError(f"{where}: nothing under {', '.join(missing)}; add it")


_HEAD = ("paper", "table", "caption", "protocol", "number")
_ROW = tuple(item.name for item in fields(Cell) if item.name not in _HEAD)
_NAMES = {"benchmark": tuple(FAMILIES), "backbone": BACKBONES, "pretraining": PRETRAININGS}


def _cell(head: Mapping[str, Any], row: Any, where: str) -> Cell:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a row of `key: value`")
    for key in row:
        if key not in _ROW:
            raise ValueError(f"{where}: {unknown(str(key), _ROW, 'key')}")
    is_accuracy = "accuracy" in row
    needed = ("benchmark", "way", "shot", "accuracy") if is_accuracy else ("quantity", "value")
    if missing := [key for key in ("method", "backbone", "pretraining", *needed) if key not in row]:
        raise ValueError(f"{where}: lacks {', '.join(missing)}")
    if is_accuracy and ("quantity" in row or "value" in row):
        raise ValueError(f"{where}: is an accuracy and another quantity at once; make it two rows")
    for key, known in _NAMES.items():
        if key in row and row[key] not in known:
            raise ValueError(f"{where}: {unknown(str(row[key]), known, key)}")
    number = row["accuracy" if is_accuracy else "value"]
    if not isinstance(number, float) or number <= 0 or (is_accuracy and number > 100):
        raise ValueError(f"{where}: {number!r} is no {'accuracy in percent' if is_accuracy else 'positive number'}")
    _require_ablation(row, where)
    lists = {key: tuple(row[key]) for key in ("also", "resplit") if key in row}
    return Cell(**head, **{**row, **lists})


def _require_ablation(row: Mapping[str, Any], where: str) -> None:
    """Refuse contradictory keys of an ablation table."""
    if "options" in row and "variant" not in row:
        raise ValueError(f"{where}: has options and no variant that names them")
    for key in ("training", "resplit", "leaks"):
        if key in row and "options" not in row:
            raise ValueError(f"{where}: has {key} and no options; give options: {{}} for the default model")
    training = row.get("training", {})
    if training != UNTRAINED and not isinstance(training, dict):
        raise ValueError(f"{where}: training is {training!r}; expected keys of a recipe, or {UNTRAINED}")
