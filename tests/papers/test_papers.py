"""The papers' own numbers (src/fsar/papers): well-formed, and in agreement with what the papers say about them."""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

import fsar
from fsar.methods import METHODS, method_class
from fsar.papers import FAMILIES, PAPERS, SOURCES, citations, load_papers, paper_backbone, published, read_paper

FOLDER = Path(fsar.__file__).parent / "papers"
WHO = ("method", "variant", "backbone", "pretraining", "benchmark", "way", "shot", "quantity")

CELLS = {
    "ma-fsar": {
        "Table 1": 170,
        "Table 2": 112,
        "Table 3": 8,
        "Table 4": 15,
        "Table 5": 4,
        "Table 6": 3,
        "Table 7": 18,
        "Table 8": 16,
        "Table 9": 6,
        "Table 11": 16,
        "Table 12": 10,
        "Table 13": 10,
        "Table 14": 28,
        "Table 15": 20,
    },
    "task-adapter-pp": {
        "Table 1": 67,
        "Table 2": 116,
        "Table 3": 7,
        "Table 4": 6,
        "Table 5": 6,
        "Table 6": 4,
        "Table 7": 26,
        "Table 8": 20,
        "Table 9": 5,
        "section 4.3": 17,
    },
    "clip-mdmf": {"Table 1": 88, "Table 2": 125, "Table 3": 18, "Table 4": 12, "Table 5": 36, "Fig. 7": 4},
    "clip-spm": {"Table 1": 112, "Table 2": 142, "Table 3": 48, "Table 4": 18, "Table 5": 24, "Fig. 5": 4},
    "pages": {"README of CLIP-MEI": 15, "README of TS-FSAR": 10, "README of STRM": 4, "index of results": 8},
}

# Rows are named by their variant, or by "method", or "method backbone" where there are several.
ALL_ON = "HSMR on, SPM on, PADM on"
FULL = "three sub-actions on, order adaptation on, alignment on"

# (table, benchmark, shots, a, b, what the text says that a is above b: of several shots, the mean)
DIFFERENCES: dict[str, list[Any]] = {
    "ma-fsar": [
        ("Table 2", "ssv2-small", (1,), "ma-fsar ResNet-50", "otam", 16.1),  # 4.2.2
        ("Table 2", "ssv2-full", (1,), "ma-fsar ResNet-50", "otam", 16.0),
        ("Table 2", "ssv2-small", (5,), "ma-fsar ResNet-50", "otam", 9.8),
        ("Table 2", "ssv2-full", (5,), "ma-fsar ResNet-50", "otam", 11.3),
        ("Table 3", "ssv2-small", (1,), "FgMA on, TPCM on", "FgMA off, TPCM off", 27.7),  # 4.3.1
        ("Table 3", "ssv2-full", (1,), "FgMA on, TPCM on", "FgMA off, TPCM off", 31.7),
        ("Table 4", "ssv2-small", (1,), "frozen + LMA/LSTA + GTA", "frozen + LMA/LSTA", 1.9),  # 4.3.2
        ("Table 4", "ssv2-small", (1,), "frozen + LMA/LSTA + GTA + JA", "frozen + LMA/LSTA + GTA", 0.6),
        ("Table 4", "ssv2-small", (1,), "frozen + LMA/LSTA + GTA + JA", "fine-tuned visual-only", 2.6),
        (
            "Table 5",
            "ssv2-small",
            (1,),
            "LSTA in the query, LMA in the support",
            "LSTA in both branches (double LSTA)",
            0.6,
        ),  # 4.3.3
        (
            "Table 5",
            "ssv2-full",
            (1,),
            "LSTA in the query, LMA in the support",
            "LSTA in both branches (double LSTA)",
            0.7,
        ),
        ("Table 6", "ssv2-small", (1,), "TPCM", "unimodal transformer", 8.6),  # 4.3.4
        ("Table 6", "ssv2-small", (1,), "TPCM", "multimodal transformer", 1.8),
        ("Table 8", "ssv2-small", (1,), "adaptation", "full fine-tuning", 2.6),  # 4.3.7
        ("Table 8", "ssv2-full", (1,), "adaptation", "full fine-tuning", 2.8),
    ],
    "task-adapter-pp": [
        ("Table 1", "ssv2-small", (5,), "task-adapter", "ma-fsar", 5.7),  # 4.2
        ("Table 1", "ssv2-full", (1,), "task-adapter", "ma-fsar", 8.0),
        ("Table 1", "ssv2-small", (1, 5), "task-adapter", "ma-fsar", 3.4),
        ("Table 1", "ssv2-full", (1, 5), "task-adapter", "ma-fsar", 4.9),
        ("Table 1", "ssv2-small", (1, 3, 5), "task-adapter-pp", "task-adapter", 3.1),
        ("Table 1", "ssv2-full", (1, 3, 5), "task-adapter-pp", "task-adapter", 1.4),
        ("Table 1", "ssv2-full", (5,), "task-adapter-pp", "clip-fsar", 3.4),
        ("Table 1", "ssv2-small", (5,), "task-adapter-pp", "clip-fsar", 11.4),
        ("Table 1", "ssv2-full", (5,), "task-adapter-pp", "TSAM", 0.9),
        ("Table 1", "ssv2-full", (1,), "task-adapter-pp", "TSAM", 7.0),
        ("Table 1", "ssv2-full", (1, 5), "task-adapter-pp", "TSAM", 3.9),
        ("Table 1", "ssv2-small", (1,), "task-adapter-pp", "task-adapter", 3.4),  # 1, "up to"
        ("Table 2", "hmdb51", (5,), "task-adapter", "ma-fsar", 0.9),
        ("Table 2", "ucf101", (5,), "task-adapter", "ma-fsar", 0.2),
        ("Table 2", "kinetics100", (5,), "task-adapter", "ma-fsar", 0.8),
        ("Table 2", "hmdb51", (1, 3, 5), "task-adapter-pp", "task-adapter", 2.9),
        ("Table 2", "ucf101", (1, 3, 5), "task-adapter-pp", "task-adapter", 0.7),
        ("Table 2", "kinetics100", (1, 3, 5), "task-adapter-pp", "task-adapter", 1.0),
        ("Table 2", "hmdb51", (1, 5), "task-adapter-pp", "clip-fsar", 6.9),
        ("Table 2", "ucf101", (1, 5), "task-adapter-pp", "clip-fsar", 1.3),
        ("Table 2", "kinetics100", (1, 5), "task-adapter-pp", "clip-fsar", 1.8),
        ("Table 2", "hmdb51", (1, 5), "task-adapter-pp", "TSAM", 2.6),
        ("Table 2", "ucf101", (1, 5), "task-adapter-pp", "TSAM", 0.5),
        ("Table 2", "kinetics100", (1, 5), "task-adapter-pp", "TSAM", 0.2),
        ("Table 3", "ssv2-small", (1,), "AIM and task-specific adaptation, all layers", "AIM, all layers", 1.9),  # 4.3
        ("Table 3", "ssv2-small", (1,), "AIM, last layers", "AIM, all layers", 1.0),
        ("Table 3", "ssv2-small", (1,), "AIM and task-specific adaptation, last layers", "AIM, last layers", 5.9),
        (
            "Table 4",
            "ssv2-small",
            (1,),
            "three sub-actions on, order adaptation off, alignment off",
            "Task-Adapter",
            1.8,
        ),
        (
            "Table 4",
            "ssv2-small",
            (1,),
            "Task-Adapter",
            "three sub-actions off, order adaptation off, alignment on",
            1.7,
        ),
        (
            "Table 4",
            "ssv2-small",
            (1,),
            "three sub-actions on, order adaptation off, alignment on",
            "Task-Adapter",
            2.3,
        ),
        (
            "Table 5",
            "ssv2-small",
            (1,),
            "task-adapter-pp: video-text matching score",
            "task-adapter: video-text matching score",
            3.9,
        ),
        ("Table 8", "ssv2-small", (1,), "task adapters in the top 6 layers", "task adapters in all 12 layers", 5.0),
    ],
    "clip-mdmf": [
        ("Table 1", "ucf101", (5,), "clip-mdmf ResNet-50", "clip-fsar ResNet-50", 1.8),  # 4.3
        ("Table 1", "hmdb51", (5,), "clip-mdmf ResNet-50", "clip-fsar ResNet-50", 2.3),
        ("Table 2", "kinetics100", (5,), "clip-mdmf ResNet-50", "clip-fsar ResNet-50", 1.5),
        ("Table 2", "ssv2-full", (5,), "clip-mdmf ResNet-50", "clip-fsar ResNet-50", 5.2),
        ("Table 2", "ssv2-small", (5,), "clip-mdmf ResNet-50", "clip-fsar ResNet-50", 4.6),
        ("Table 2", "kinetics100", (1,), "clip-mdmf ResNet-50", "clip-fsar ResNet-50", 0.0),
        ("Table 4", "kinetics100", (5,), "distillation on, PPS off", "distillation off, PPS off", 0.1),  # 4.4.2
        ("Table 4", "ssv2-small", (5,), "distillation on, PPS off", "distillation off, PPS off", 0.5),
        ("Table 4", "hmdb51", (5,), "distillation on, PPS off", "distillation off, PPS off", 0.3),
        ("Table 4", "kinetics100", (5,), "distillation on, PPS on", "distillation off, PPS on", 0.4),
        ("Table 4", "ssv2-small", (5,), "distillation on, PPS on", "distillation off, PPS on", 1.3),
        ("Table 4", "hmdb51", (5,), "distillation on, PPS on", "distillation off, PPS on", 0.5),
    ],
    "clip-spm": [
        ("Table 2", "ssv2-small", (5,), "clip-spm ViT-B/16", "clip-mdmf ViT-B/16", 3.4),  # 4.3, "up to"
        ("Fig. 5", "hmdb51", (1,), "R = 16", "R = 1", 1.3),  # 4.4.4
        ("Fig. 5", "ssv2-small", (1,), "R = 16", "R = 1", 0.5),
    ],
}

# (table, benchmark, shot, row, the number in the text)
QUOTED: dict[str, list[Any]] = {
    "ma-fsar": [
        ("Table 4", "ssv2-small", 1, "frozen + LMA/LSTA", 54.0),  # 4.3.2
        ("Table 4", "ssv2-small", 1, "fine-tuned visual-only", 53.9),
        ("Table 11", "ssv2-small", 0, "CLIP-Freeze", 28.8),  # 4.3.9
    ],
    "task-adapter-pp": [("Table 5", "ssv2-small", 1, "task-adapter: video-text matching score", 50.4)],
    "clip-mdmf": [
        ("Table 1", "ucf101", 3, "clip-fsar ResNet-50", 95.4),  # 4.3
        ("Table 1", "ucf101", 3, "clip-mdmf ResNet-50", 98.0),
        ("Table 1", "hmdb51", 3, "clip-fsar ResNet-50", 78.3),
        ("Table 1", "hmdb51", 3, "clip-mdmf ResNet-50", 79.4),
        ("Table 1", "ucf101", 1, "clip-fsar ResNet-50", 92.4),
        ("Table 1", "ucf101", 1, "clip-mdmf ResNet-50", 94.3),
        ("Table 2", "kinetics100", 3, "clip-fsar ResNet-50", 90.8),
        ("Table 2", "kinetics100", 3, "clip-mdmf ResNet-50", 92.0),
        ("Table 2", "ssv2-full", 3, "clip-fsar ResNet-50", 60.7),
        ("Table 2", "ssv2-full", 3, "clip-mdmf ResNet-50", 63.9),
        ("Table 2", "ssv2-small", 3, "clip-fsar ResNet-50", 54.0),
        ("Table 2", "ssv2-small", 3, "clip-mdmf ResNet-50", 56.3),
        ("Table 2", "ssv2-small", 1, "clip-fsar ResNet-50", 52.1),
        ("Table 2", "ssv2-small", 1, "clip-mdmf ResNet-50", 52.3),
        ("Table 3", "ssv2-small", 5, "global view (GTC) alone, PPS off", 58.1),  # 4.4.2
        ("Table 3", "hmdb51", 5, "global view (GTC) alone, PPS off", 82.4),
        ("Table 4", "ssv2-small", 5, "distillation off, PPS off", 56.6),
        ("Table 4", "ssv2-small", 5, "distillation on, PPS off", 57.1),
        ("Table 4", "hmdb51", 5, "distillation on, PPS off", 82.4),
    ],
    "clip-spm": [
        *(("Table 1", "hmdb51", k, "clip-spm ViT-B/16", x) for k, x in ((1, 78.2), (3, 86.3), (5, 88.6))),  # 4.3
        *(("Table 1", "ucf101", k, "clip-spm ViT-B/16", x) for k, x in ((1, 96.2), (3, 98.2), (5, 98.7))),
        *(("Table 2", "ssv2-small", k, "clip-spm ViT-B/16", x) for k, x in ((1, 57.8), (3, 62.4), (5, 66.2))),
        ("Table 2", "kinetics100", 1, "clip-spm ResNet-50", 90.9),
        ("Table 2", "kinetics100", 1, "clip-spm ViT-B/16", 92.8),
        ("Fig. 5", "hmdb51", 1, "R = 1", 76.1),  # 4.4.4
        ("Fig. 5", "ssv2-small", 1, "R = 1", 50.3),
    ],
}

# (table, benchmark, shot, row): nothing with its backbone and pre-training is above it, as the text says
BEST: dict[str, list[Any]] = {
    "ma-fsar": [
        *(("Table 1", b, k, "ma-fsar ViT-B/16") for b in ("ucf101", "kinetics100") for k in (1, 5)),
        ("Table 1", "hmdb51", 1, "ma-fsar ViT-B/16"),
        *(("Table 2", b, 1, "ma-fsar ResNet-50") for b in ("ssv2-small", "ssv2-full")),
        *(("Table 9", b, 1, "prompt template: mixture of 16") for b in ("ssv2-small", "kinetics100")),
        *(("Table 12", b, 1, "r = 0.5") for b in ("ssv2-small", "kinetics100")),
        ("Table 13", "kinetics100", 1, "alpha = 0.75"),
        ("Table 13", "ssv2-small", 1, "alpha = 0.25"),
    ],
    "task-adapter-pp": [
        *(("Table 1", b, k, "task-adapter-pp") for b in ("ssv2-small", "ssv2-full") for k in (1, 3, 5)),
        *(("Table 2", b, k, "task-adapter-pp") for b in ("hmdb51", "ucf101", "kinetics100") for k in (1, 3, 5)),
        ("Table 4", "ssv2-small", 1, FULL),
        *(("Table 7", b, k, "1-layer cross attention") for b in ("ssv2-small", "kinetics100") for k in (1, 3, 5)),
        ("Table 8", "ssv2-small", 1, "order adapters in the top 2 layers"),
    ],
    "clip-mdmf": [
        *(("Table 4", b, 5, "distillation on, PPS on") for b in ("kinetics100", "ssv2-small", "hmdb51")),
        *(("Table 5", b, 5, "bidirectional, t- and v-compare") for b in ("kinetics100", "ssv2-small", "hmdb51")),
    ],
    "clip-spm": [
        ("Table 1", "hmdb51", 1, "clip-spm ResNet-50"),
        ("Table 2", "kinetics100", 1, "clip-spm ResNet-50"),
        ("Table 2", "kinetics100", 1, "clip-spm ViT-B/16"),
        *(("Table 2", "ssv2-full", k, "clip-spm ResNet-50") for k in (1, 3, 5)),
        *(("Table 2", "ssv2-small", k, "clip-spm ViT-B/16") for k in (1, 3, 5)),
        *(("Table 3", b, k, ALL_ON) for b in ("hmdb51", "ssv2-small") for k in (1, 3, 5)),
        *(("Table 5", b, 1, "support and query consistency") for b in ("hmdb51", "ssv2-small")),
        ("Table 5", "hmdb51", 5, "support and query consistency"),
    ],
}

CONTRADICTED = [  # (paper, table, benchmark, shots, a, b, the text's difference, the cells'): named in the files' heads
    ("ma-fsar", "Table 3", "ssv2-small", (1,), "FgMA on, TPCM off", "FgMA off, TPCM off", 13.5, 16.9),
    ("ma-fsar", "Table 3", "ssv2-full", (1,), "FgMA on, TPCM off", "FgMA off, TPCM off", 16.3, 19.6),
    ("ma-fsar", "Table 3", "ssv2-small", (1,), "FgMA off, TPCM on", "FgMA off, TPCM off", 16.9, 13.5),
    ("ma-fsar", "Table 3", "ssv2-full", (1,), "FgMA off, TPCM on", "FgMA off, TPCM off", 19.6, 16.3),
    ("ma-fsar", "Table 4", "ssv2-small", (1,), "fine-tuned visual-only", "frozen", 12.4, 11.6),
    ("ma-fsar", "Table 11", "ssv2-small", (0,), "ma-fsar", "CLIP-Freeze", 18.8, 18.3),
    ("task-adapter-pp", "Table 1", "ssv2-small", (1, 5), "task-adapter-pp", "TSAM", 4.3, 4.8),
    (
        "task-adapter-pp",
        "Table 4",
        "ssv2-small",
        (1,),
        "three sub-actions on, order adaptation on, alignment off",
        "Task-Adapter",
        2.5,
        2.6,
    ),
]

DISAGREEMENTS = {  # main-table cells that the papers print with different numbers, by method
    "clip-cpm2c": 1,
    "CMN++": 3,
    "HCL": 2,
    "molo": 4,
    "strm": 6,
    "clip-fsar": 23,
    "clip-mdmf": 5,
    "otam": 5,
    "trx": 6,
}


@cache
def paper(name: str) -> dict[str, Any]:
    """The file of a paper, its rows under `table`, in the order of the file."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return {**content, "rows": {table["table"]: table["rows"] for table in content["tables"]}}


def named(row: dict[str, Any]) -> set[str]:
    method, variant = row["method"], row.get("variant", "")
    return {method, f"{method} {row['backbone']}", variant, f"{method}: {variant}"}


def readings(name: str, table: str, benchmark: str, shot: int, row: str) -> list[float]:
    """The accuracy of a cell, or several if the cell can be read in several ways."""
    found = [
        entry["accuracy"]
        for entry in paper(name)["rows"][table]
        if row in named(entry)
        and "accuracy" in entry
        and (entry.get("benchmark"), entry.get("shot")) == (benchmark, shot)
    ]
    assert found, f"{name}, {table}: no {row!r} on {benchmark}, {shot}-shot"
    return found


def differences(name: str, table: str, benchmark: str, shots: tuple[int, ...], a: str, b: str) -> list[float]:
    """Mean over shots of a - b; one, or several where the cells have several readings."""
    totals = [0.0]
    for shot in shots:
        pairs = [
            x - y for x in readings(name, table, benchmark, shot, a) for y in readings(name, table, benchmark, shot, b)
        ]
        totals = [total + pair for total in totals for pair in pairs]
    return [total / len(shots) for total in totals]


def by_paper(table: dict[str, list[Any]]) -> list[Any]:
    return [pytest.param(name, *case, id=f"{name}-{index}") for name in table for index, case in enumerate(table[name])]


def test_files() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted([*SOURCES, "methods"])


@pytest.mark.parametrize("name", SOURCES)
def test_tables(name: str) -> None:
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert content["paper"] == name
    assert {table["table"]: len(table["rows"]) for table in content["tables"]} == CELLS[name]
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", SOURCES)
def test_rows(name: str) -> None:
    for table, rows in paper(name)["rows"].items():
        for row in rows:
            where = f"{name}, {table}: {row}"
            assert row.get("shot", 1) in (0, 1, 3, 5) and row.get("way", 5) == 5, where
            known = {method for method in METHODS if method.replace("-", "") == row["method"].lower().replace("-", "")}
            assert not known or row["method"] in known, f"{where}: the project has a name for it"
            assert all(isinstance(row.get(key, ""), str) for key in ("method", "variant", "note")), where


def test_reader_gives_every_row_of_every_file() -> None:
    cells = load_papers()
    assert [(cell.paper, cell.table) for cell in cells] == [
        (name, table) for name in SOURCES for table, rows in paper(name)["rows"].items() for _ in rows
    ]
    rows = [row for name in SOURCES for rows in paper(name)["rows"].values() for row in rows]
    for cell, row in zip(cells, rows, strict=True):
        assert all(getattr(cell, key) == row.get(key) for key in (*WHO, "accuracy", "value", "options", "note"))
        assert cell.caption and cell.protocol and cell.source == f"{SOURCES[cell.paper]}, {cell.table}"
    assert set(citations()) == set(SOURCES) and "2025" in citations()["ma-fsar"]
    assert {cell.benchmark for cell in cells} == {*FAMILIES, None}


ROW = {
    "method": "otam",
    "backbone": "ResNet-50",
    "pretraining": "CLIP",
    "benchmark": "hmdb51",
    "way": 5,
    "shot": 1,
    "accuracy": 50.0,
}


@pytest.mark.parametrize(
    "change,words",
    [
        ({"acuracy": 1.0}, "did you mean 'accuracy'"),
        ({"backbone": "ViT-B-16"}, "did you mean 'ViT-B/16'"),
        ({"pretraining": "Clip"}, "did you mean 'CLIP'"),
        ({"benchmark": "hmdb"}, "did you mean 'hmdb51'"),
        ({"accuracy": 50}, "50 is no accuracy"),
        ({"accuracy": 101.0}, "101.0 is no accuracy"),
        ({"quantity": "s", "value": 1.0}, "make it two rows"),
        ({"options": {}}, "no variant that names them"),
        ({"shot": None}, "lacks shot"),
        ({"accuracy": None}, "lacks quantity, value"),
    ],
)
def test_reader_refuses(change: dict[str, Any], words: str) -> None:
    row = {key: value for key, value in (ROW | change).items() if value is not None}
    table = {"table": "Table 1", "caption": "c", "protocol": "p", "rows": [row]}
    content = {"paper": "ma-fsar", "citation": "c", "tables": [table]}
    with pytest.raises(ValueError, match=f"mine.yaml, Table 1.*{words}"):
        read_paper(yaml.safe_dump(content), "mine.yaml")
    assert len(read_paper(yaml.safe_dump({**content, "tables": [{**table, "rows": [ROW]}]}), "mine.yaml")) == 1
    with pytest.raises(ValueError, match="mine.yaml.*did you mean 'citation'"):
        read_paper(yaml.safe_dump({**content, "citatoin": "c"}), "mine.yaml")


def test_lookup_gives_all_values_with_their_sources() -> None:
    """CLIP-FSAR on SSv2-Small: three papers, two values."""
    found = published("clip-fsar", "ssv2-small", 5, 1, "RN50/openai")
    assert [(cell.source, cell.accuracy) for cell in found] == [
        ("MA-FSAR, Table 2", 52.1),
        ("CLIP-MDMF, Table 2", 52.1),
        ("CLIP-SPM, Table 2", 52.0),
    ]
    backbones = {cell.backbone for cell in published("clip-fsar", "ssv2-small", 5, 1)}
    assert backbones == {"ResNet-50", "ViT-B/32", "ViT-B/16"}
    assert published("clip-fsar", "ssv2-small", 6, 1) == published("otam", "hmdb51", 5, 1, "tiny") == ()


def test_lookup_by_options() -> None:
    every = published("task-adapter-pp", "ssv2-small", 5, 1, "ViT-B-16/openai")
    default = published("task-adapter-pp", "ssv2-small", 5, 1, "ViT-B-16/openai", {})
    [conv] = published("task-adapter-pp", "ssv2-small", 5, 1, "ViT-B-16/openai", {"alignment": "conv1d"})
    assert {cell.accuracy for cell in default} == {63.6} and len(default) > 5
    assert conv.accuracy == 55.4 and conv in every and conv not in default
    [text_alone] = published("zero-shot", "hmdb51", 5, 0)
    assert text_alone.table == "Table 11"


def test_imagenet_21k_is_imagenet_for_the_lookup() -> None:
    papers = {cell.paper for cell in published("otam", "hmdb51", 5, 1, "timm/resnet50")}
    assert papers == set(PAPERS)


def test_backbones_of_the_papers() -> None:
    names = {
        "ViT-B-16/openai": ("ViT-B/16", "CLIP"),
        "ViT-B-32-quickgelu@/a/b.safetensors": ("ViT-B/32", "CLIP"),
        "RN50/openai": ("ResNet-50", "CLIP"),
        "timm/resnet50": ("ResNet-50", "ImageNet"),
        "timm/resnet50.tv_in1k": ("ResNet-50", "ImageNet"),
        "timm/vit_base_patch32_224": ("ViT-B/32", "ImageNet"),
        "timm/resnet50/random": None,
        "tiny": None,
        "lite0": None,
        "ViT-B-16/random": None,
        "hf-hub:a/b": None,
        "ViT-B-16/laion2b_s34b_b88k": None,
        "ViT-L-14/openai": None,
    }
    assert {name: paper_backbone(name) for name in names} == names


@pytest.mark.parametrize("name", SOURCES)
def test_a_cell_that_stands_twice_says_why(name: str) -> None:
    for table, rows in paper(name)["rows"].items():
        cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in rows:
            cells.setdefault(tuple(row.get(key) for key in WHO), []).append(row)
        for entries in cells.values():
            if len(entries) > 1:
                assert all("note" in entry for entry in entries), f"{name}, {table}: {entries}"
                numbers = [entry.get("accuracy", entry.get("value")) for entry in entries]
                assert len(set(numbers)) == len(numbers), f"{name}, {table}: {entries}"


@pytest.mark.parametrize("name", PAPERS)
def test_options_are_options_of_the_method(name: str) -> None:
    seen = {
        (row["method"], yaml.safe_dump(row["options"])): row
        for rows in paper(name)["rows"].values()
        for row in rows
        if "options" in row
    }
    assert len(seen) > 5
    for (method, _), row in seen.items():
        config = method_class(method).Config
        config(**row["options"])
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(config)
        parser.parse_object(row["options"])  # values, too


@pytest.mark.parametrize("name", PAPERS)
def test_one_variant_has_one_set_of_options(name: str) -> None:
    for table, rows in paper(name)["rows"].items():
        options: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            if "variant" in row:
                options.setdefault((row["method"], row["variant"]), set()).add(yaml.safe_dump(row.get("options")))
        assert all(len(each) == 1 for each in options.values()), f"{name}, {table}"


@pytest.mark.parametrize("name,table,benchmark,shots,a,b,said", by_paper(DIFFERENCES))
def test_differences_of_the_text(
    name: str, table: str, benchmark: str, shots: tuple[int, ...], a: str, b: str, said: float
) -> None:
    found = differences(name, table, benchmark, shots, a, b)
    assert any(abs(difference - said) < 0.0501 for difference in found), found  # rounded, or cut off at a half


@pytest.mark.parametrize("name,table,benchmark,shot,row,said", by_paper(QUOTED))
def test_numbers_of_the_text(name: str, table: str, benchmark: str, shot: int, row: str, said: float) -> None:
    assert readings(name, table, benchmark, shot, row) == [said]


@pytest.mark.parametrize("name,table,benchmark,shot,row", by_paper(BEST))
def test_bests_of_the_text(name: str, table: str, benchmark: str, shot: int, row: str) -> None:
    column = [
        entry
        for entry in paper(name)["rows"][table]
        if (entry.get("benchmark"), entry.get("shot")) == (benchmark, shot)
    ]
    column = [entry for entry in column if "accuracy" in entry]
    [best] = [entry for entry in column if row in named(entry)]
    rivals = [entry for entry in column if all(entry[key] == best[key] for key in ("backbone", "pretraining"))]
    assert len(rivals) > 1 and all(entry["accuracy"] <= best["accuracy"] for entry in rivals)


@pytest.mark.parametrize("name,table,benchmark,shots,a,b,said,cells", CONTRADICTED)
def test_known_contradictions(
    name: str, table: str, benchmark: str, shots: tuple[int, ...], a: str, b: str, said: float, cells: float
) -> None:
    """Where the text is not what its cells give, the cells are as printed."""
    [difference] = differences(name, table, benchmark, shots, a, b)
    assert difference == pytest.approx(cells) and abs(difference - said) > 0.0501


def test_averages_of_ma_fsar() -> None:
    """Its "Average" columns check every cell beside them; two of them are cut off rather than rounded."""
    checked = 0
    for table in ("Table 1", "Table 2"):
        for row in paper("ma-fsar")["rows"][table]:
            if "quantity" in row:
                benchmarks = row["quantity"].removeprefix("mean accuracy of ").split(", ")
                who = f"{row['method']} {row['backbone']}"
                cells = [readings("ma-fsar", table, each, row["shot"], who)[0] for each in benchmarks]
                assert row["value"] == pytest.approx(sum(cells) / len(cells), abs=0.08), row
                checked += 1
    assert checked == 42 + 34


def test_averages_of_cross_validation() -> None:
    for benchmark in ("kinetics100", "ssv2-small"):
        for shot in (1, 5):
            rounds = [
                readings("ma-fsar", "Table 14", benchmark, shot, f"random split, round {i}")[0] for i in range(1, 6)
            ]
            [average] = readings("ma-fsar", "Table 14", benchmark, shot, "random split, average of 5 rounds")
            assert average == pytest.approx(sum(rounds) / 5, abs=0.0501)


def test_cost_of_ma_fsar() -> None:
    """Section 4.3.7: 1.6 G less memory and 0.4 h less time than full fine-tuning; Table 4: growing parameters."""
    tables = paper("ma-fsar")["rows"]

    def values(table: str, quantity: str) -> list[float]:
        return [row["value"] for row in tables[table] if row.get("quantity") == quantity]

    full, adapted = values("Table 8", "GPU memory, G")[:2]
    assert full - adapted == pytest.approx(1.6)
    full, adapted = values("Table 8", "training time of 10,000 tasks, h")[:2]
    assert full - adapted == pytest.approx(0.4)
    assert values("Table 4", "tunable parameters, M") == [3.2, 91.0, 7.9, 15.1, 18.5]
    grown = values("Table 4", "full parameters, M")[1:]
    assert all(a < b for a, b in pairwise(grown))


@pytest.mark.parametrize(
    "name,tables",
    [
        (
            "ma-fsar",
            {
                "ssv2-small": (
                    "Table 2",
                    "Table 3",
                    "Table 4",
                    "Table 5",
                    "Table 6",
                    "Table 7",
                    "Table 8",
                    "Table 9",
                    "Table 12",
                    "Table 13",
                    "Table 14",
                    "Table 15",
                ),
                "kinetics100": ("Table 1", "Table 7", "Table 9", "Table 12", "Table 13", "Table 14"),
            },
        ),
        (
            "task-adapter-pp",
            {"ssv2-small": ("Table 1", "Table 4", "Table 5", "Table 6", "Table 7", "Table 8", "Table 9")},
        ),
        ("clip-mdmf", {"kinetics100": ("Table 2", "Table 4", "Table 5"), "hmdb51": ("Table 1", "Table 4", "Table 5")}),
        (
            "clip-spm",
            {
                "hmdb51": ("Table 1", "Table 3", "Table 4", "Table 5", "Fig. 5"),
                "ssv2-small": ("Table 2", "Table 3", "Table 4", "Table 5", "Fig. 5"),
            },
        ),
    ],
)
def test_the_full_model_is_the_same_in_every_table(name: str, tables: dict[str, tuple[str, ...]]) -> None:
    """Its ablation rows repeat the number of the main tables."""
    backbone = {"ma-fsar": "ViT-B/32", "task-adapter-pp": "ViT-B/16"}.get(name, "ResNet-50")
    for benchmark, wanted in tables.items():
        shots = (5,) if name == "clip-mdmf" else (1,)
        main = readings(name, wanted[0], benchmark, shots[0], f"{name} {backbone}")
        for table in wanted[1:]:
            numbers = [
                row["accuracy"]
                for row in paper(name)["rows"][table]
                if row["method"] == name
                and row["backbone"] == backbone
                and "accuracy" in row
                and (row["benchmark"], row["shot"]) == (benchmark, shots[0])
            ]
            assert main[0] in numbers, f"{name}, {table}, {benchmark}: {main[0]}"


def test_where_the_papers_disagree() -> None:
    """A competitor's cell is each paper's own reading; the heads of the files name the methods of these."""
    cells: dict[tuple[Any, ...], dict[str, set[float]]] = {}
    for name in PAPERS:
        for table in ("Table 1", "Table 2"):
            for row in paper(name)["rows"][table]:
                if "accuracy" in row:
                    pretraining = row["pretraining"].removesuffix("-21K")  # Task-Adapter++ has it for the same rows
                    key = (
                        row.get("variant", row["method"]),
                        row["backbone"],
                        pretraining,
                        row["benchmark"],
                        row["shot"],
                    )
                    cells.setdefault(key, {}).setdefault(name, set()).add(row["accuracy"])
    found: dict[str, int] = {}
    for (method, *_), of in cells.items():
        if len(of) > 1 and len(set.union(*of.values())) > 1:
            found[method] = found.get(method, 0) + 1
    assert found == DISAGREEMENTS
