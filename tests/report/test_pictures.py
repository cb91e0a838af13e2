"""Pictures and costs in the report."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from fsar.explain.costs import Costs, costs_rows
from fsar.explain.parameters import Counted, counted_rows
from fsar.explain.picture import Picture, save_picture
from fsar.report import write_report


def test_pictures_and_costs_are_shown(tmp_path: Path) -> None:
    """With note and words; PNG and CSV files of other programs stay out."""
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    save_picture(Picture(figure, "A line", "It rises & ends.", {"x": np.arange(2)}), tmp_path / "a.png", "So what?")
    Image.new("RGB", (4, 4)).save(tmp_path / "other.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    one = Costs(
        method="otam", backbone="tiny", device="cpu", parameters=9, trains="own, visual", trained=1_500_000,
        clip_gflops=0.5, episode_gflops=0.1, memory_mb=None, train_seconds=None, clip_seconds=0.02, match_seconds=0.001,
    )  # fmt: skip
    table = costs_rows([one])
    at = table[0].index("trains")
    for name, rows in {"costs": table, "older": [row[:at] + row[at + 1 :] for row in table]}.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    counted = Counted(
        source="MA-FSAR, Table 8", method="ma-fsar", variant="adaptation", backbone="ViT-B-32/openai",
        quantity="trained", published=18.54, ours=14.201344, ours_text=0.0, note="a < b",
    )  # fmt: skip
    with (tmp_path / "parameters.csv").open("w", newline="") as file:
        csv.writer(file).writerows(counted_rows([counted]))
    assert write_report([tmp_path], tmp_path / "report.html") == (0, 0)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img ") == 1 and 'alt="It rises &amp; ends."' in page and "<p>So what?</p>" in page
    assert (
        page.count("<td>otam</td>") == 2
        and "<td>own, visual</td>" in page
        and '<td class="number">1.50</td>' in page
        and '<td class="number">-</td>' in page
    )
    assert '<td class="number">18.54</td><td class="number">14.20</td>' in page and "<td>a &lt; b</td>" in page
