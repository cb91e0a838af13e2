"""The numbers that the four papers print, as data: every cell with its paper and table.

The YAML files here hold the tables, and at their heads what each paper leaves open, where it contradicts itself, and
where the papers contradict one another. Accuracies are in percent, as printed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

import yaml

from fsar.names import unknown

PAPERS = {"ma-fsar": "MA-FSAR", "task-adapter-pp": "Task-Adapter++", "clip-mdmf": "CLIP-MDMF", "clip-spm": "CLIP-SPM"}
"""Files here, and what their papers are called."""
FAMILIES = {"hmdb51": "HMDB51", "ucf101": "UCF101", "kinetics100": "Kinetics-100", "ssv2-small": "SSv2-Small",
            "ssv2-full": "SSv2-Full"}  # fmt: skip
"""Benchmarks of the papers, whatever the version of their lists."""
BACKBONES = ("ResNet-50", "ViT-B/32", "ViT-B/16", "ViT-B", "ViViT", "C3D", "not stated")
PRETRAININGS = ("ImageNet", "ImageNet-21K", "CLIP", "JFT", "not stated")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of one table."""

    paper: str
    """A key of `PAPERS`."""
    table: str
    """"Table 1", "Fig. 7", "section 4.3"."""
    caption: str
    protocol: str
    """What the paper says of how the table was measured."""
    method: str
    """This project's name where it has the method, else as the paper spells it."""
    backbone: str
    pretraining: str
    variant: str | None = None
    """The row of an ablation table; None in a main table."""
    options: Mapping[str, Any] | None = None
    """What changes against this project's recipe; empty is the default model, None has no such switch."""
    benchmark: str | None = None
    """A key of `FAMILIES`."""
    way: int | None = None
    shot: int | None = None
    """0 reads the class texts alone."""
    accuracy: float | None = None
    """In percent."""
    quantity: str | None = None
    """What `value` is, where it is no accuracy on a benchmark."""
    value: float | None = None
    note: str | None = None

    @property
    def is_default(self) -> bool:
        """Whether it is the method as its paper proposes it."""
        return self.variant is None if self.options is None else not self.options

    @property
    def source(self) -> str:
        """Paper and table: "MA-FSAR, Table 2"."""
        return f"{PAPERS[self.paper]}, {self.table}"


@cache
def load_papers() -> tuple[Cell, ...]:
    """Read every cell of every paper, in the papers' order."""
    return tuple(cell for paper in PAPERS for cell in read_paper(_text(paper), paper))


@cache
def citations() -> dict[str, str]:
    """How to cite each paper."""
    return {paper: _load(_text(paper))["citation"] for paper in PAPERS}


def published(
    method: str,
    family: str,
    way: int,
    shot: int,
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Cell, ...]:
    """Look up every accuracy that any of the papers prints; where they disagree, all of them.

    Args:
        method: a name in `fsar methods`, or a paper's spelling.
        family: a benchmark without its version, a key of `FAMILIES`.
        way, shot: of the episodes; shot 0 reads class texts alone.
        backbone: one of ours, as `ViT-B-16/openai`: only the cells on what it is called in the papers.
        options: only cells whose options these are (see `Cell.options`), `{}` for the default model.
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
    """What the papers call one of our backbones: its architecture and pre-training; None where they have no such.

    Task-Adapter++ prints ImageNet-21K for the rows that the others have on ImageNet; both are ImageNet here.
    """
    model, _, weights = name.removeprefix("timm/").replace("@", "/").partition("/")
    if name.startswith("timm/"):
        found = _IMAGENET.get(model.partition(".")[0])
        return None if found is None or weights == "random" else (found, "ImageNet")
    is_openai = weights == "openai" or ("@" in name and model.endswith("-quickgelu"))
    found = _CLIP.get(model.removesuffix("-quickgelu"))
    return (found, "CLIP") if found and is_openai else None


_CLIP = {"RN50": "ResNet-50", "ViT-B-32": "ViT-B/32", "ViT-B-16": "ViT-B/16"}
_IMAGENET = {"resnet50": "ResNet-50", "vit_base_patch32_224": "ViT-B/32"}


def read_paper(text: str, source: str) -> tuple[Cell, ...]:
    """Read one paper's YAML.

    Raises:
        ValueError: an unknown key, a name that is none of the known ones, or a row that lacks something.
    """
    content = _load(text)
    _require(content, ("paper", "citation", "tables"), source)
    if content["paper"] not in PAPERS:
        raise ValueError(f"{source}: {unknown(str(content['paper']), PAPERS, 'paper')}")
    cells = []
    for table in content["tables"]:
        _require(table, ("table", "caption", "protocol", "rows"), source)
        head = {"paper": content["paper"], **{key: table[key] for key in ("table", "caption", "protocol")}}
        cells += [_cell(head, row, f"{source}, {table['table']}: {row}") for row in table["rows"]]
    return tuple(cells)


def _text(paper: str) -> str:
    return (resources.files("fsar") / "papers" / f"{paper}.yaml").read_text(encoding="utf-8")


def _load(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # the C one is ten times as fast


def _require(mapping: Any, keys: tuple[str, ...], where: str) -> None:
    """Exactly these keys, each with something in it."""
    if not isinstance(mapping, dict):
        raise ValueError(f"{where}: expected the keys {', '.join(keys)}, got {type(mapping).__name__}")
    for key in mapping:
        if key not in keys:
            raise ValueError(f"{where}: {unknown(str(key), keys, 'key')}")
    if missing := [key for key in keys if not mapping.get(key)]:
        raise ValueError(f"{where}: nothing under {', '.join(missing)}; add it")


_ROW = tuple(item.name for item in fields(Cell) if item.name not in ("paper", "table", "caption", "protocol"))
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
    if "options" in row and "variant" not in row:
        raise ValueError(f"{where}: has options and no variant that names them")
    return Cell(**head, **row)
