"""`fsar papers`: cells by filters, and the commands of any cell."""

import csv
import io

import pytest

from fsar.cli import main
from fsar.papers import load_papers
from fsar.papers.runs import runs_of


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["papers", *arguments]) == 0
    return capsys.readouterr().out


def test_list_of_all_cells(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(said(capsys, "--format", "csv"))))
    assert [row["cell"] for row in rows] == [cell.id for cell in load_papers()]
    assert sum(not row["why not"] for row in rows) == 1133


@pytest.mark.parametrize(
    "filters,count",
    [
        (("--paper", "ma-fsar", "--table", "Table 3"), 8),
        (("--paper", "ma-fsar", "--table", "table-3"), 8),
        (("--method", "zero-shot"), 4),
        (("--paper", "pages", "--method", "strm"), 4),
        (("--benchmark", "ssv2-full", "--method", "clip-spm", "--shot", "5"), 2),
    ],
)
def test_filters(filters: tuple[str, ...], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, *filters).splitlines()
    assert len(lines) == 2 + count and lines[0].startswith("| cell | method |")


def test_a_cell_with_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    [cell] = [cell for cell in load_papers() if cell.id == "clip-spm/table-1/101"]
    text = said(capsys, cell.id, "--data", "/videos of HMDB51")
    for command in runs_of(cell)[0].commands("/videos of HMDB51", "runs/clip-spm_table-1_101"):
        assert f"    {command}\n" in text
    for words in (
        "77.4 %",
        "queries: 4 or 1 per class in the test; they see each other",
        "--protocol paper",
        "trained: what the method adds and the visual encoder, on 1-shot episodes",
    ):
        assert words in text


def test_what_is_special_of_a_cell_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for cell, words in {
        "ma-fsar/table-1/1": "no run: CMN++ is not a method of this project",
        "ma-fsar/table-1/153": "it is the mean of 3 runs",
        "ma-fsar/table-3/1": "the paper leaves open whether it is this instead",
        "ma-fsar/table-11/1": "read out by: the class texts alone",
        "ma-fsar/table-15/4": "the mean of `seconds` in runs/ma-fsar_table-15_4/log.jsonl",
        "task-adapter-pp/table-1/62": "an audit, no accuracy; without that",
    }.items():
        assert words in said(capsys, cell)
    shown = said(capsys, "--paper", "ma-fsar", "--table", "Table 6", "--commands")
    assert shown.count("fsar train") == 3


@pytest.mark.parametrize(
    "arguments,words",
    [
        (("clip-spm/table-3/99",), "unknown cell 'clip-spm/table-3/99'"),
        (("nothing",), "fsar/table-2/1, ma-fsar/table-3/1"),
        (("--method", "ma-fasr"), "did you mean 'ma-fsar'"),
        (("--table", "Table 33"), "unknown table 'table-33'; did you mean"),
        (("--method", "soap"), "fsar holds no published number of soap; `fsar papers` lists those that it holds"),
        (("--method", "SOAP"), "unknown method 'SOAP'; did you mean 'soap'?"),
        (("--method", "MOLO"), "unknown method 'MOLO'; did you mean 'molo'?"),
        (("--method", "otm"), "unknown method 'otm'; did you mean 'otam'?"),
        (
            ("--method", "clip-mei", "--benchmark", "ssv2-small"),
            "fsar holds no published number with --method clip-mei --benchmark ssv2-small; expected --benchmark to be "
            "one of: hmdb51, ",
        ),
        (("ma-fsar/table-3/1", "--shot", "1"), "leave out one of them"),
        (("--format", "xml"), "unknown format 'xml'"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers", *arguments]) == 2
    assert words in capsys.readouterr().err
