"""The report: every number asked for, beside every published one, escaped, in one file that loads nothing."""

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from fsar.cli import main
from fsar.datasets.benchmarks import benchmark
from fsar.methods import method_class
from fsar.papers import SOURCES, load_papers, published, table_name
from fsar.papers.compare import beside
from fsar.report import page, write_report
from fsar.report.benchmark import MINUS, confused, short_names
from fsar.report.charts import Series, bar_chart, line_chart, ticks
from fsar.report.markup import Markup, element
from fsar.report.runs import read_runs
from fsar.results.result import Result
from fsar.training.recipes import load_recipe

NASTY = "<script>alert('x')</script> & \"co\""


def result(method: str, dataset: str = "ssv2-small@cmn", backbone: str = "RN50/openai", **changes: Any) -> Result:
    """A result as the packaged recipe would give it, trained as the paper says; `changes` are fields of it."""
    known = benchmark(dataset) if "@" in dataset else None
    classes = list(known.classes["test"]) if known else ["wave", "clap"]
    recipe = None
    if method not in ("zero-shot", "protonet") and known:
        recipe = json.loads(json.dumps(asdict(load_recipe(f"{method}/{known.family}"))))
        recipe |= {"backbone": backbone, "shot": changes.get("shot", 1), **changes.pop("recipe", {})}
    chosen = (recipe or {}).get("options", {}) | changes.pop("options", {})
    config: Any = method_class(method).Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()})
    training = None
    if recipe:
        recipe["options"] = chosen
        training = {"recipe": recipe, "dataset": dataset, "dataset_fingerprint": "b" * 64, "selection": "on val"}
    counts = [[9 if i == j else int(j == 0) for j in range(len(classes))] for i in range(len(classes))]
    made = Result(
        method=method, options=json.loads(json.dumps(asdict(config))), changed={}, transductive=False,
        backbone=backbone, weights="0" * 16, clip={"frames": 8, "sampling": "tsn", "short_side": 256, "version": 1},
        dataset=dataset, dataset_fingerprint=known.hashes["test"] if known else "a" * 64, split="test",
        protocol="clean", selection="best of the validations, on the val classes", way=5, shot=1, query=1,
        episodes=10_000, seed=0, episodes_fingerprint="e" * 64, accuracy=0.512, ci95=0.004,
        per_class={label: 0.5 + i / 100 for i, label in enumerate(classes)},
        confusion={"classes": classes, "counts": counts}, training=training, seen_classes=(), skipped={}, seconds=1.0,
        versions={"python": "3.11", "fsar": "0.1.0"},
    )  # fmt: skip
    return replace(made, **changes)


def run_folder(folder: Path, steps: int = 40) -> Path:
    """What a training run leaves: its log, with validations at 10, 20, ..., the best at 20."""
    recipe = load_recipe("ma-fsar/world")
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.dump())
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "loss": 3 / step, "terms": {}, "accuracy": 0.5, "rate": 1.0, "seconds": 9.0,
                      "memory_gb": 1.25})  # fmt: skip
        if step % 10 == 0:
            lines.append({"step": step, "val_accuracy": 0.437 if step == 20 else 0.4, "val_ci95": 0.01})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


class Checked(HTMLParser):
    """Fails at tags that do not match; gathers text, and everything that a browser would load."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "data", "action", "srcset", "poster"):
                self.loaded.append(str(value))
            if name == "id":
                self.ids.append(str(value))
            assert not name.startswith("on")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def text_of(*results: Result) -> str:
    return Checked(page(results, [])).text


# --------------------------------------------------------------------------- the page


def test_one_file_that_loads_nothing(tmp_path: Path) -> None:
    result("clip-spm").save(tmp_path / "in" / "a.json")
    run_folder(tmp_path / "in" / "run")
    assert write_report([tmp_path / "in"], tmp_path / "out" / "report.html") == (1, 1)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.html"]
    text = (tmp_path / "out" / "report.html").read_text()
    checked = Checked(text)
    assert checked.loaded and all(target.removeprefix("#") in checked.ids for target in checked.loaded)
    assert len(set(checked.ids)) == len(checked.ids)
    assert text.startswith("<!doctype html>") and "<script" not in text
    assert not re.search(r"url\(|@import|http", text.partition("</style>")[0])


def test_numbers_of_ours() -> None:
    seeds = [result("clip-fsar", accuracy=a, recipe={"seed": i}) for i, a in enumerate((0.501, 0.511, 0.521))]
    text = text_of(*seeds, result("otam", accuracy=0.4321, ci95=0.0123), result("otam", accuracy=0.6543, shot=5))
    assert "51.1 ± 2.5 3 training seeds, sd 1.0" in text
    assert "43.2 ± 1.2" in text and "65.4 ± 0.4" in text
    assert "5-way 1-shot" in text and "5-way 5-shot" in text
    for fact in ("10,000 episodes", benchmark("ssv2-small@cmn").hashes["test"][:12], "protocol clean", "fsar 0.1.0"):
        assert fact in text


def test_other_videos_stand_apart() -> None:
    """Two versions of a benchmark, or other videos of one, never share a table."""
    versions = [result("zero-shot", dataset=f"kinetics100@{v}") for v in ("cmn", "clip-fsar")]
    titles = re.findall(r"<h2>(.*?)</h2>", page([*versions, replace(versions[0], dataset_fingerprint="c" * 64)], []))
    assert [title for title in titles if title.startswith("kinetics100")] == [
        f"kinetics100@cmn, test, videos {benchmark('kinetics100@cmn').hashes['test'][:8]}",
        "kinetics100@clip-fsar, test",
        "kinetics100@cmn, test, videos cccccccc",
    ]


def test_every_cell_of_the_papers_is_there() -> None:
    html = page([result("zero-shot")], [])
    below = html[html.index('<section id="papers"') :]
    for cell in load_papers():
        number = str(cell.value if cell.accuracy is None else cell.accuracy)
        start = below.index(f'id="{cell.paper}-{table_name(cell.table)}"')
        assert f">{number}<" in re.sub(r"> / ", ">", below[start : below.index("</details>", start)]), cell


def test_where_nothing_is_published() -> None:
    text = text_of(replace(result("protonet"), dataset="my clips"))
    assert "fsar holds no published numbers on my clips" in text and "What differs" not in text
    assert "fsar holds no published number of clip-fsar at 10-way 1-shot" in text_of(
        result("clip-fsar"), result("clip-fsar", way=10)
    )


def test_names_are_escaped() -> None:
    bad = replace(
        result("protonet"),
        dataset=f"{NASTY} data",
        per_class={NASTY: 0.5, "wave": 0.1},
        skipped={NASTY: NASTY},
        confusion={"classes": [NASTY, "wave"], "counts": [[5, 5], [9, 1]]},
        changed={"x": NASTY},
        backbone=NASTY,
    )
    html = page([bad], [])
    assert "<script" not in html and html.count("&lt;script&gt;") > 5
    assert NASTY.lower() in Checked(html).text
    assert element("p", NASTY, title='"') == (
        '<p title="&quot;">&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;co&quot;</p>'
    )
    assert element("p", Markup("<b>x</b>"), None, 3) == "<p><b>x</b>3</p>"


def test_provenance() -> None:
    text = text_of(replace(result("clip-spm"), weights="feedbeef", episodes_fingerprint="d0" * 32))
    for fact in ("weights: feedbeef", "episodes_fingerprint: d0d0", "val_every: 5000", "lr: own: 1.0e-05"):
        assert fact in text


def test_curves_bars_and_confusions() -> None:
    ways = [result("ma-fsar", way=way, accuracy=0.6 - way / 50) for way in (5, 6, 8)]
    shots = [result(m, shot=shot, accuracy=0.5 + shot / 50) for shot in (1, 3, 5) for m in ("trx", "ma-fsar")]
    html = page([*ways, *shots[2:]], [])
    assert "1-shot, over ways" in html and "5-way, over shots" in html
    assert "over ways" not in page(ways[:2], [])
    curve = html[html.index("1-shot, over ways") :].partition("</figure>")[0]
    assert "accuracy, %" in curve and "ways (classes per episode)" in curve and ">8</text>" in curve
    assert "<title>chance: 20 at 5; 16.7 at 6; 12.5 at 8</title>" in curve and curve.count('class="key"') == 1
    assert "chance:" not in html[html.index("5-way, over shots") :].partition("</figure>")[0]
    bars = html[html.index("Accuracy of each class") :].partition("</figure>")[0]
    assert all(
        element("title", f"ma-fsar, {label}: {50 + i:.1f} %") in bars
        for i, label in enumerate(benchmark("ssv2-small@cmn").classes["test"])
    )
    assert confused([result("ma-fsar")])[0] == (
        10.0,
        *(benchmark("ssv2-small@cmn").classes["test"][i] for i in (1, 0)),
    )


def test_a_curve_joins_what_was_trained_for_each_shot() -> None:
    """The field trains K-shot models for K-shot results: other recipes, one curve."""
    results = [result("clip-spm", shot=shot, accuracy=0.5 + shot / 50) for shot in (1, 3, 5)]
    assert "5-way, over shots" in page(results, [])
    own = [replace(r, training=results[0].training) for r in results]
    assert page(own, []).count("<figcaption>5-way, over shots") == 1


def test_short_names() -> None:
    assert short_names(["a x=1 (tiny)", "b (tiny)"]) == ["a", "b"]
    assert short_names(["a x=1 (tiny), inductive", "a x=1 (tiny), transductive"]) == ["a, inductive", "a, transductive"]
    assert short_names(["a x=1 (tiny)", "a x=2 (tiny)"]) == ["a x=1", "a x=2"]
    assert short_names(["a (tiny, trained on w)", "a (lite0, trained on w)"]) == ["a (tiny)", "a (lite0)"]


# --------------------------------------------------------------------------- beside the papers


@pytest.mark.parametrize(
    "method,dataset,backbone,shot",
    [
        ("clip-fsar", "ssv2-small@cmn", "RN50/openai", 1),
        ("clip-fsar", "ssv2-full@otam-77k", "ViT-B-16/openai", 5),
        ("otam", "hmdb51@arn", "timm/resnet50", 1),
        ("ma-fsar", "ucf101@arn", "ViT-B-16/openai", 5),
        ("task-adapter-pp", "ssv2-small@cmn", "ViT-B-16/openai", 5),
        ("clip-mdmf", "kinetics100@cmn", "RN50/openai", 5),
    ],
)
def test_every_published_value_with_its_table(method: str, dataset: str, backbone: str, shot: int) -> None:
    html = page([result(method, dataset, backbone, shot=shot)], [])
    section = html[html.index("Beside published numbers") : html.index("What differs")]
    cells = published(method, dataset.partition("@")[0], 5, shot, backbone, {})
    assert len(cells) > 1
    rows = section.split("<tr>")
    for cell in cells:
        link = f'href="#{cell.paper}-{cell.table.lower().replace(" ", "-")}">{cell.table}</a>'
        assert any(
            f'<span class="value">{cell.accuracy:.1f}</span>' in row
            and f"{SOURCES[cell.paper]}: " in row
            and link in row
            for row in rows
        ), cell
    assert {f"{cell.accuracy:.1f}" for cell in cells} == set(re.findall(r'value">([\d.]+)<', section)) - {"51.2"}


def test_what_may_be_subtracted() -> None:
    """Ours minus published; bold numbers and no difference if the two measure different things."""
    made = result("clip-mdmf", "hmdb51@arn", accuracy=0.651)
    [own, *_] = beside([made])
    assert own.comparable and f"{MINUS}1.7" in text_of(made)
    html = page([replace(made, split="val")], [])
    assert f"{MINUS}1.7" not in html and '<td class="number">none</td>' in html
    assert re.search(r"<b>\d+</b></a>", html) and "measured on the val classes here" in html
    text = text_of(made)
    assert own.differences and all(difference.words in text for difference in own.differences)


# --------------------------------------------------------------------------- training runs


def test_runs(tmp_path: Path) -> None:
    [run] = read_runs([run_folder(tmp_path / "runs" / NASTY.replace("/", ""))])
    assert run.best == 1 and len(run.steps) == 40
    html = page([], [run])
    text = Checked(html).text
    assert "43.7 ± 1.0" in text and "0.10" in text and "alert('x')" in text and "<script" not in html
    assert 'class="ring"' in html and f"{40 * run.recipe['episodes_per_step']:,} of" in text


def test_a_run_on_features_is_named_after_their_file(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"data": None, "features": "there/mine.npz"}))
    assert "<td>mine</td>" in page([], read_runs([folder]))


def test_logs_cut_short_and_broken(tmp_path: Path) -> None:
    log = run_folder(tmp_path / "run") / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 41, "lo')
    assert len(read_runs([tmp_path])[0].steps) == 40
    log.write_text("{\n" + log.read_text())
    with pytest.raises(ValueError, match="log.jsonl, line 1"):
        read_runs([tmp_path])
    log.write_text("")
    assert read_runs([tmp_path]) == []
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump([1]))
    with pytest.raises(ValueError, match="recipe.yaml: not a recipe"):
        read_runs([tmp_path])


# --------------------------------------------------------------------------- the command


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result("otam").save(tmp_path / "results" / "a.json")
    out = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "results"), "--out", str(out)]) == 0
    assert "1 result, 0 training runs" in capsys.readouterr().out and out.is_file()
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text('{"method": ')
    for arguments, words in {
        (str(tmp_path / "empty"),): "no results and no training runs in",
        (str(tmp_path / "broken.json"),): "broken.json",
        (str(tmp_path / "nowhere"),): "no such file or folder",
        (str(tmp_path / "results"), "--out", str(tmp_path)): "ends in .html",
        (str(tmp_path / "results"), "--uot", "x.html"): "did you mean '--out'",
    }.items():
        assert main(["report", *arguments]) == 2
        assert words in capsys.readouterr().err


# --------------------------------------------------------------------------- charts


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 100, 5) == [0, 20, 40, 60, 80, 100]
    assert ticks(0.13, 0.52, 4) == [0.2, 0.3, 0.4, 0.5]
    assert ticks(5, 5, 5) == [5]


def test_charts_say_what_they_show() -> None:
    curve = Series(name="a & b", points=[(1.0, 10.0), (3.0, 30.0)], half_width=[1.0, 2.0], best=1)
    chart = line_chart("Title <1>", [curve], "x, s", "y, %", y_range=(0, 40))
    Checked(chart)
    for part in ("<title>Title &lt;1&gt;</title>", "<desc>y, % over x, s. a &amp; b: 30 at 3</desc>", 'role="img"',
                 ">x, s</text>", ">y, %</text>", 'class="band"', 'class="ring"'):  # fmt: skip
        assert part in chart
    path = re.search(r'd="(M42[^"]*)" class="line"', chart)
    assert path and path[1] == "M42.0 145.0L348.0 55.0"  # a quarter and three quarters of the way from 190 up to 10
    bars = bar_chart("Bars", [("long " * 20, [50.0, None])], ["one", "two"], "%")
    assert bars.count('class="label"') == 2 and bars.count("<title>one, long") == 1 and "<title>two" not in bars
