"""Make the figures of the four papers on the generated world, and a page with all of them.

    python scripts/gallery.py runs/ gallery/ [--clips CLIPS/]     # writes gallery/gallery.html

`runs/` holds trained runs by the name of their method: `fsar train --config METHOD/world --out runs/METHOD` for
ma-fsar, aim, task-adapter-pp, clip-mdmf, clip-spm and otam (full fine-tuning). Pictures that are there already are not
drawn again. CLIPS is a folder of real clips (ACTION/CLIP), for the figures with a convolutional encoder.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from fsar import cli
from fsar.datasets import load_world

SETTING = ["--data", "world", "--way", "3", "--shot", "1"]


def results(runs: Path) -> Iterator[tuple[str, list[str]]]:
    """Evaluations that curves read: a folder, and the command that fills it."""
    every = [str(run) for run in sorted(runs.iterdir()) if (run / "checkpoint").is_dir()]
    yield "shots", ["--checkpoint", *every, "--shot", "1", "3", "5"]
    yield "ways", ["--checkpoint", *every, "--way", "2", "5", "8"]
    yield "alpha", ["--checkpoint", str(runs / "ma-fsar"), "--sweep", "alpha=0:1:0.1"]
    prompts = ",".join(f"clip-spm:{r}" for r in (1, 4, 8, 16))
    yield "prompts", ["--method", "clip-spm", "--sweep", f"templates={prompts}"]
    for name in ("otam", "clip-mdmf"):
        yield f"classes/{name}", ["--checkpoint", str(runs / name), "--predictions"]


def pictures(runs: Path, out: Path, clips: Path | None) -> Iterator[tuple[str, list[str], str]]:
    """File, command, and how to read the picture."""
    world = load_world()
    growing = next(v.path for v in world.split("test").videos if v.label == "something_growing")
    run = {name: ["--checkpoint", str(runs / name)] for name in ("task-adapter-pp", "clip-mdmf", "clip-spm")}
    three = ["--checkpoint", *(str(runs / name) for name in ("otam", "aim", "ma-fsar"))]
    text = ["--text", "something growing"]
    yield (
        "01-ma-fsar-fig-1b-5",
        ["attention", str(growing), *three, *text],
        "Bright patches get the class token's attention; the rows are three models on the same frames.",
    )
    yield "02-ma-fsar-rollout", ["attention", str(growing), *three, *text, "--rollout"], ""
    yield (
        "03-task-adapter-pp-fig-11",
        ["attention", *SETTING, *run["task-adapter-pp"]],
        "Bright patches get the attention; below the frames, attention over frames and over the videos of the task.",
    )
    yield (
        "04-task-adapter-pp-stages",
        ["alignment", *SETTING, *run["task-adapter-pp"]],
        "Circles: which pairs of frames count. Bars: scores of the classes, and of their three stages.",
    )
    yield (
        "05-clip-mdmf-alignment",
        ["alignment", *SETTING, *run["clip-mdmf"]],
        "Circles: which pairs of frames count, in the local and in the global view.",
    )
    yield "06-clip-mdmf-fig-5-6", ["map", "--data", "world", *run["clip-mdmf"]], ""
    yield (
        "07-clip-mdmf-fig-8-11",
        ["gradcam", *SETTING, *run["clip-mdmf"]],
        "Bright places speak for the class. If only the background is bright, it shows nothing of the action.",
    )
    yield "08-clip-spm-fig-6", ["map", "--data", "world", *run["clip-spm"], "--projection", "umap"], ""
    yield "09-ma-fsar-fig-1c", ["curves", str(out / "results" / "shots"), "--x", "parameters"], ""
    yield "10-shots", ["curves", str(out / "results" / "shots"), "--x", "shot"], ""
    yield "11-ways", ["curves", str(out / "results" / "ways"), "--x", "way"], ""
    yield "12-ma-fsar-table-13", ["curves", str(out / "results" / "alpha"), "--x", "alpha"], ""
    yield "13-clip-spm-fig-5", ["curves", str(out / "results" / "prompts"), "--x", "templates"], ""
    both = [str(out / "results" / "classes" / name) for name in ("clip-mdmf", "otam")]
    yield "14-clip-mdmf-fig-7", ["classes", *both], ""
    if clips is not None:
        real = ["--data", str(clips), "--split", "all", "--way", "2", "--method", "otam", "--backbone", "lite0"]
        yield "15-gradcam-real", ["gradcam", *real], ""
        yield "16-alignment-real", ["alignment", *real], ""


def main() -> None:
    """Evaluate, draw, and write the page."""
    parser = argparse.ArgumentParser(description="Make the figures of the four papers on the generated world.")
    parser.add_argument("runs", type=Path, help="folder of trained runs, by the name of their method")
    parser.add_argument("out", type=Path, help="folder for the pictures and gallery.html")
    parser.add_argument("--clips", type=Path, help="folder of real clips, ACTION/CLIP")
    options = parser.parse_args()
    done = options.out / "results"
    for folder, words in results(options.runs):
        if not (done / folder).is_dir():
            must(["evaluate", "--data", "world", "--episodes", "1000", *words, "--out", str(done / folder)])
    if not (options.out / "costs.csv").is_file():
        must(["benchmark", "methods", "--out", str(options.out / "costs.csv")])
    for name, words, note in pictures(options.runs, options.out, options.clips):
        if not (options.out / f"{name}.png").is_file():
            must(["explain", *words, "--note", note, "--out", str(options.out / f"{name}.png")])
    must(["report", str(options.out), "--out", str(options.out / "gallery.html")])


def must(words: list[str]) -> None:
    """Run a command of fsar; stop if it fails."""
    print("fsar", *words)
    if status := cli.main(words):
        raise SystemExit(status)


if __name__ == "__main__":
    main()
