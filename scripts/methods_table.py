"""Write docs/methods.csv, the sortable table of methods, from docs/results.md and the methods themselves.

python scripts/methods_table.py
"""

import argparse
import csv
import io
import re
from pathlib import Path

from fsar.files import write_text_atomic
from fsar.methods import METHODS, default_traits

DOCS = Path(__file__).parents[1] / "docs"
HEAD = ("method", "1-shot, untrained", "5-shot, untrained", "1-shot, trained", "5-shot, trained", "reads class names")
UNTRAINED = "| method | 5-way 1-shot | 5-way 5-shot |"
TRAINED = "| method | untrained 1-shot | trained 1-shot |"


def recorded(page: str, head: str) -> dict[str, list[str]]:
    """Read the first table of a page that begins so: method -> its other cells."""
    lines = page[page.index(head) :].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.removesuffix(", frozen encoder"): cells for name, *cells in rows}


def percent(cell: str) -> str:
    """Leave the interval out.

    >>> percent("83.3 ± 0.7")
    '83.3'
    """
    return re.split(r" ?±", cell)[0]


def table() -> str:
    """Make the table as CSV."""
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    untrained, trained = recorded(page, UNTRAINED), recorded(page, TRAINED)
    rows = []
    for name in METHODS:
        before, after = untrained.get(name, [""] * 2), trained.get(name, [""] * 4)
        # without a row of the first table, the start of the training on the same classes
        plain = [percent(own or started) for own, started in zip(before[:2], (after[0], after[2]), strict=True)]
        reads = "yes" if default_traits(name).reads_text else "no"
        rows.append((name, *plain, percent(after[1]), percent(after[3]), reads))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEAD, *rows])
    return text.getvalue()


def main() -> None:
    """Write the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    write_text_atomic(DOCS / "methods.csv", table())
    print(f"wrote {DOCS / 'methods.csv'}")


if __name__ == "__main__":
    main()
