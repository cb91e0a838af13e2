"""Write docs/methods.csv, the sortable table of methods, from docs/results.md, docs/costs.csv and docs/methods.yml.

python scripts/methods_table.py              # the table
python scripts/methods_table.py --measure    # costs.csv first: minutes on one core; run it with OMP_NUM_THREADS=1
"""

import argparse
import copy
import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from fsar.files import write_text_atomic
from fsar.methods import METHODS, default_traits
from fsar.progress import progress_bar

DOCS = Path(__file__).parents[1] / "docs"
ACCURACY = ("1-shot, untrained", "5-shot, untrained", "1-shot, trained", "5-shot, trained")
COST = ("ms per clip", "ms per episode", "checkpoint, MB")
HEAD = ("method", *ACCURACY, *COST, "reads class names", "licence of its code")
COSTS = ("method", "clip_ms", "episode_ms", "checkpoint_mb")
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
    lines = (DOCS / "costs.csv").read_text(encoding="utf-8").splitlines()
    costs = {row["method"]: row for row in csv.DictReader(lines)}
    about = yaml.safe_load((DOCS / "methods.yml").read_text(encoding="utf-8"))
    rows = []
    for name in METHODS:
        before, after = untrained.get(name, [""] * 2), trained.get(name, [""] * 4)
        # without a row of the first table, the start of the training on the same classes
        plain = [percent(own or started) for own, started in zip(before[:2], (after[0], after[2]), strict=True)]
        reads = "yes" if default_traits(name).reads_text else "no"
        cost = [costs.get(name, {}).get(column, "") for column in COSTS[1:]]
        rows.append((name, *plain, percent(after[1]), percent(after[3]), *cost, reads, about[name]["licence"]))
    return as_csv([HEAD, *rows])


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    """Write rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def measured() -> str:
    """Measure the milliseconds of every method with `tiny`, and count what its checkpoint holds on a ViT-B/16."""
    import torch

    from fsar.backbones import load_backbone
    from fsar.explain.costs import Setting, measure
    from fsar.methods import build_method
    from fsar.training.parameters import group_of

    rows, vit = [], load_backbone("ViT-B-16/random").to("meta")
    for name in progress_bar(METHODS, "measure", "method", len(METHODS), True):
        costs = measure(build_method(name, load_backbone("tiny")), name, Setting(training=False))
        assert costs.clip_seconds is not None and costs.match_seconds is not None
        with torch.device("meta"):
            method = build_method(name, copy.deepcopy(vit))
        trained = sum(p.numel() for key, p in method.named_parameters() if group_of(key) in method.traits.trains)
        milliseconds = (f"{float(f'{1000 * seconds:.2g}'):g}" for seconds in (costs.clip_seconds, costs.match_seconds))
        rows.append((name, *milliseconds, f"{4 * trained / 1e6:.3g}"))
    return as_csv([COSTS, *rows])


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure costs.csv first")
    if parser.parse_args().measure:
        write_text_atomic(DOCS / "costs.csv", measured())
    write_text_atomic(DOCS / "methods.csv", table())
    print(f"wrote {DOCS / 'methods.csv'}")


if __name__ == "__main__":
    main()
