"""`fsar demo`: from video files to a report in minutes, without a network.

It renders the generated world, evaluates methods on the world's novel classes with the built-in backbone, enrols a few
actions, recognises held-out clips, and writes one self-contained HTML page. The pictures hold video frames and
matrices, so matplotlib draws them as pixels; curves and bars of a report are SVG (`fsar.report.charts`).
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsar.alignment import frame_similarity, otam_alignment
from fsar.backbones import Backbone, load_backbone
from fsar.bank.fill import fill_bank
from fsar.bank.store import Bank
from fsar.datasets import VideoDataset, load_world
from fsar.datasets.world_actions import PAIRS
from fsar.evaluation.episodes import Episodes, EpisodeSampler
from fsar.evaluation.loop import accuracy, evaluate
from fsar.evaluation.matching import match_from_bank
from fsar.files import write_text_atomic
from fsar.methods import build_method
from fsar.methods.base import Method
from fsar.recognizer import Answer, Recognizer
from fsar.report.markup import Markup, element, join
from fsar.results.numbers import likeliest, percent
from fsar.results.result import Result
from fsar.video.frame_cache import FrameCache

ROWS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("zero-shot", {}, "class names only, no example"),
    ("protonet", {}, "cosine of time means; ignores order"),
    ("bi-mhm", {}, "nearest frames in any order; ignores order"),
    ("otam", {}, "soft ordered alignment"),
    ("protonet", {"similarity": "frame-wise"}, "first frame to first, last to last"),
    ("ridge", {}, "ridge regression on time means"),
    ("logistic", {}, "logistic regression on time means"),
    ("nearest-mean", {}, "distance to class means, with their spread"),
    ("tip-adapter", {}, "class names, and examples that are near"),
    ("place-motion", {}, "where things are and how they move"),
)
SHOTS = (1, 5)


def run_demo(folder: Path, episodes: int) -> Path:
    """Run everything and write the page.

    Args:
        folder: where `report.html` goes.
        episodes: per row and shot of the table.

    Returns:
        The page's path.
    """
    world = load_world()
    novel = world.split("test")
    cache = FrameCache()
    backbone = load_backbone("tiny")

    rows, results = [], []
    for name, options, remark in ROWS:
        method = build_method(name, backbone, **options)
        bank = fill_bank(method, novel.videos, novel.texts, cache=cache)
        five = [evaluate(method, world, shot=shot, episodes=episodes, cache=cache, bank=bank) for shot in SHOTS]
        pairs = [reversed_pairs(method, novel, bank, shot, episodes // len(PAIRS)) for shot in SHOTS]
        rows.append((name + "".join(f" ({v})" for v in options.values()), remark, five, pairs))
        results += five
    print(_text_table(rows))  # noqa: T201 (the demo speaks to a person)

    answers, summary = _recognise(novel, cache, backbone)
    otam = build_method("otam", backbone)
    bank = fill_bank(otam, novel.videos, novel.texts, cache=cache, progress=False)
    episode = EpisodeSampler(dataset=novel, way=3, shot=1, seed=4).draw(1)
    page = _PAGE.format(
        table=_html_table(rows),
        episodes=episodes,
        fingerprint=results[0].dataset_fingerprint[:12],
        manifest=results[0].episodes_fingerprint[:12],
        episode=_image(_episode_picture(episode, novel, cache), "frames of three labelled clips and three queries"),
        alignment=_image(_alignment_picture(novel, bank, cache), "frames of two clips, their distances, the alignment"),
        confusion=_image(_confusion_picture(results[-1], novel), "matrix of shown and answered actions"),
        recognition=_answers_table(answers),
        summary=join(summary),
    )
    write_text_atomic(folder / "report.html", page)
    return folder / "report.html"


def reversed_pairs(method: Method, dataset: VideoDataset, bank: Bank, shot: int, episodes: int) -> float:
    """Measure accuracy between an action and its time-reverse, in 2-way episodes.

    Args:
        method: the method.
        dataset: with both actions of at least one pair.
        bank: encodings of the dataset's videos.
        shot: examples per class.
        episodes: per pair.

    Returns:
        Mean over pairs, from 0 to 1.
    """
    pairs = [[a.name for a in pair] for pair in PAIRS if pair[0].name in dataset.classes]
    scores = []
    for pair in pairs:
        drawn = EpisodeSampler(dataset=dataset.only(pair), way=2, shot=shot).draw(max(episodes, 1))
        scores.append(accuracy(match_from_bank(method, bank, drawn, dataset.texts, progress=False), drawn)[0])
    return float(np.mean(scores))


def _recognise(novel: VideoDataset, cache: FrameCache, backbone: Backbone) -> tuple[list[tuple[str, Answer]], str]:
    """Enrol five clips each of four actions; name held-out clips of these actions and of two that are not enrolled."""
    enrolled, strange = list(novel.classes[:4]), list(novel.classes[4:6])
    recognizer = Recognizer(backbone, cache=cache)
    by_class = {label: [v.path for v in novel.videos if v.label == label] for label in novel.classes}
    for label in enrolled:
        recognizer.enroll(novel.texts[label], by_class[label][:5])
    answers = [
        (novel.texts[label] if label in enrolled else "unknown", recognizer.predict(path))
        for label in (*enrolled, *strange)
        for path in by_class[label][5:10]
    ]
    right = sum(answer.action == truth for truth, answer in answers)
    return answers, f"{right} of {len(answers)} right. Chosen on the examples: {recognizer.fit()}."


def _text_table(rows: Sequence) -> str:
    lines = [f"{'method':28} 5-way 1-shot  5-way 5-shot  reversed pairs, 2-way: 1-shot 5-shot"]
    for name, _, five, pairs in rows:
        cells = "  ".join(f"{result.percent:>12}" for result in five)
        lines.append(f"{name:28} {cells}" + " " * 24 + "  ".join(f"{percent(p):>6}" for p in pairs))
    return "\n".join(lines)


def _html_table(rows: Sequence) -> Markup:
    body = []
    for name, remark, five, pairs in rows:
        numbers = [result.percent for result in five] + [percent(pair) for pair in pairs]
        first = element("td", name, element("br"), element("small", remark))
        body.append(element("tr", first, *(element("td", number) for number in numbers)))
    groups = element(
        "tr",
        element("th", "method", rowspan=2),
        element("th", "5-way, novel classes", colspan=2),
        element("th", "2-way, an action and its reverse", colspan=2),
    )
    shots = element("tr", *(element("th", f"{shot}-shot") for shot in (*SHOTS, *SHOTS)))
    chance = element("tr", *(element("td", word) for word in ("chance", 20, 20, 50, 50)), class_="chance")
    return element("table", groups, shots, chance, *body)


def _answers_table(answers: list[tuple[str, Answer]]) -> Markup:
    head = element("tr", *(element("th", word) for word in ("shown", "answer", "likeliest")))
    rows = []
    for truth, answer in answers:
        cells = (element("td", word) for word in (truth, answer.action, likeliest(answer.probabilities, 2)))
        rows.append(element("tr", *cells, class_="right" if answer.action == truth else "wrong"))
    return element("table", head, *rows)


def _strip(axes: Axes, frames: np.ndarray, title: str) -> None:
    axes.imshow(np.concatenate(list(frames), axis=1))
    axes.set_title(title, fontsize=8, loc="left")
    axes.axis("off")


def _episode_picture(episodes: Episodes, dataset: VideoDataset, cache: FrameCache) -> Figure:
    paths = {video.id: video.path for video in dataset.videos}
    strips = [
        (i, f"support: {dataset.texts[episodes.classes[c]]}")
        for c, i in zip(episodes.way_class[0], episodes.support[0, :, 0], strict=True)
    ]
    strips += [
        (i, f"query (shows: {dataset.texts[episodes.classes[episodes.way_class[0, t]]]})")
        for i, t in zip(episodes.query[0], episodes.target[0], strict=True)
    ]
    figure = Figure(figsize=(9, 1.35 * len(strips)), layout="constrained")
    for axes, (i, title) in zip(figure.subplots(len(strips), 1), strips, strict=True):
        _strip(axes, cache.read(paths[episodes.video_ids[i]]), title)
    return figure


def _alignment_picture(dataset: VideoDataset, bank: Bank, cache: FrameCache) -> Figure:
    """Show how OTAM aligns the frames of two clips of one action."""
    first, second = [v for v in dataset.videos if v.label == "something_growing"][:2]
    rows = [bank.video_ids.index(video.id) for video in (first, second)]
    query, support = (bank.query["frames"][row][None] for row in rows)
    distance = 1 - frame_similarity(query, support, eps=0.01)[0, 0]
    path = otam_alignment(distance, smoothing=0.1, direction="query-to-support")
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    rooms = figure.subplot_mosaic(
        [["query", "query"], ["support", "support"], ["distance", "path"]], height_ratios=[1, 1, 3.2]
    )
    _strip(rooms["query"], cache.read(first.path), f"query: {dataset.texts[first.label]}")
    _strip(rooms["support"], cache.read(second.path), f"support: {dataset.texts[second.label]}")
    for name, values, title in (
        ("distance", distance, "frame distance"),
        ("path", path, "weight of each pair of frames in the alignment"),
    ):
        shown = rooms[name].imshow(values.numpy(), cmap="viridis")
        rooms[name].set(xlabel="support frame", ylabel="query frame")
        rooms[name].set_title(title, fontsize=9)
        figure.colorbar(shown, ax=rooms[name])
    return figure


def _confusion_picture(result: Result, dataset: VideoDataset) -> Figure:
    classes = result.confusion["classes"]
    counts = np.array(result.confusion["counts"], float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [dataset.texts[label] for label in classes]
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="named as", ylabel="shown")
    for i, j in np.ndindex(*shares.shape):
        if shares[i, j] >= 0.005:
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    return figure


def _image(figure: Figure, words: str) -> Markup:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return element("img", src=f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", alt=words)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>fsar demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
img {{ max-width: 100% }} table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ border: 1px solid #ccc; padding: .3rem .7rem; text-align: left }} small {{ color: #666 }}
.chance td {{ color: #888 }}
.right td:nth-child(2) {{ background: #e2f4e2 }} .wrong td:nth-child(2) {{ background: #f8dede }}
</style></head><body>
<h1>Few-shot action recognition in one run</h1>
<p>Video files of a generated world, decoded and encoded once with the built-in backbone <code>tiny</code>.
The backbone has seen none of these classes, and nothing was trained for this table.</p>
<h2>What the order of frames is worth</h2>
{table}
<p>Accuracy in % ± 95 % interval over {episodes} episodes. An action and its time-reverse have the same frames.
A method that ignores their order is at chance between the two. Videos {fingerprint}, episodes {manifest}.</p>
<h2>An episode</h2><p>One labelled clip of each of three actions, and three clips to name.</p>{episode}
<h2>An alignment</h2><p>OTAM aligns the query's frames with the support's, in order.</p>{alignment}
<h2>Confusions</h2><p>place-motion, 5-way 5-shot; share in % of each action's queries.</p>{confusion}
<h2>A recogniser from five clips per action</h2><p>Four actions are enrolled. The clips below are new. For clips of two
other actions the right answer is <em>unknown</em>. {summary}</p>{recognition}
</body></html>
"""
