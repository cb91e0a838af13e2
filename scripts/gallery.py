"""Make the figures of the four papers on the generated world, and a page with all of them.

    python scripts/gallery.py runs/ gallery/ [--clips CLIPS/]     # writes gallery/gallery.html

`runs/` holds trained runs by the name of their method: `fsar train --config METHOD/world --out runs/METHOD` for
ma-fsar, aim, task-adapter-pp, clip-mdmf, clip-spm and otam (full fine-tuning). Two curves need a run for each number:

    fsar train --config clip-mdmf/world --sweep options.distill_weight=0,0.25,0.5,0.75,1 --out runs/sweeps/lambda
    fsar train --config clip-spm/world --sweep options.templates=clip-spm:4,clip-spm:8,clip-spm:16 \\
        --out runs/sweeps/prompts

What is there already is not made again, so a killed gallery resumes. CLIPS is a folder of real clips (ACTION/CLIP), for
the pictures with `lite0`. What each picture shows is written in `NOTES`; a corrected sentence needs no new picture.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fsar import cli
from fsar.datasets import load_world
from fsar.files import atomic_path
from fsar.methods import METHODS

SETTING = ["--data", "world", "--way", "3", "--shot", "1"]
EXAMPLES, TESTS = 4, 10
"""Clips of each action of the recogniser."""
NOTES = {
    "01-ma-fsar-fig-1b-5": "All three models look at the thing while it is small, and at its corners when it is large. "
    "They hardly differ; MA-FSAR gives up to 22 % of its attention to the token of time, and at most 4 % to the text.",
    "02-ma-fsar-fig-1b-5-rollout": "Rollout finds the same places, but paler, since every block keeps half of what it "
    "had.",
    "03-ma-fsar-fig-1c": "Few trained parameters and high accuracy do not exclude each other; which method wins here "
    "says little, since the trainings were stopped early.",
    "04-ma-fsar-table-13": "Text harms on the generated world: alpha 0, without the text branch, is best, and text "
    "alone (1) is 11 points above chance (20 %).",
    "05-task-adapter-pp-fig-11": "The class token looks at the things that move, and at their leading edges in the "
    "last frames; while nothing is there, it looks at itself more. All rows of the last matrix favour the same "
    "video, so the task's videos are hardly told apart.",
    "06-task-adapter-pp-stages": "Circles: frames with equal numbers count. The frames hardly decide between two "
    "classes; the first stage of the text names the right one (bold), the others do not, and the answer is wrong.",
    "07-clip-mdmf-fig-4": "Distillation helps by about three points; how strongly it is weighed makes no difference "
    "that 1,000 episodes could show.",
    "08-clip-mdmf-fig-5-6": "Clouds of one colour are classes that the features tell apart. Left and right stay mixed, "
    "since a mean over frames has no order; a silhouette near 0 says that classes touch.",
    "09-clip-mdmf-fig-7": "CLIP-MDMF is better in every class; no interval holds 0.",
    "10-clip-mdmf-fig-8-11": "Bright places speak for the score. Where the background is bright and the thing is dark, "
    "the picture shows nothing of the action.",
    "11-clip-mdmf-alignment": "Circles are larger near the diagonal in both views: the soft path prefers the "
    "order of frames.",
    "12-clip-spm-fig-5": "The curve shows nothing: its differences are smaller than its intervals.",
    "13-clip-spm-fig-6": "Clouds of one colour are classes that the features tell apart; `prompt` and `fused` are what "
    "matching makes of a query, from the texts of all classes, not of its own. Both silhouettes stay near 0.",
    "14-clip-spm-fig-7": "Bright places speak for the score. Where the background is bright and the thing is dark, the "
    "picture shows nothing of the action.",
    "15-shots": "The second and third example help more than two further ones.",
    "16-ways": "More classes make every method worse, the better ones by less; chance is 50, 20 and 12.5 %.",
    "18-gradcam-real": "All three answers are wrong. Bright places lie on and beside the arms that "
    "move, and many in the background: an encoder that was "
    "never trained on actions counts the contours of a person, not the movement.",
    "19-alignment-real": "Circles: the soft path prefers the order of frames. Dots: the scores of the classes.",
    "17-reliability": "All points lie within what chance allows: 40 answers are few, and most are above 90 %.",
    "20-map-real": "Colours are mixed in every group (silhouette -0.05): means over frames do not tell these gestures "
    "apart. OTAM changes no features, so there is only the map before it.",
    "21-why": "Frames with equal numbers count together, so the order agrees. Most of the similarity comes from the "
    "left and the right edge, near the thing's start and end. The empty side often counts as much: the heat marks "
    "places that agree, not the thing itself.",
}
"""File -> how to read the picture, also where it shows nothing. The others say it in their title and their words."""


def results(runs: Path, episodes: int) -> Iterator[tuple[str, list[str]]]:
    """Evaluations that curves read: a folder, and the command that fills it."""
    every = [str(run) for run in sorted(runs.iterdir()) if (run / "checkpoint").is_dir()]
    few = ["--episodes", str(episodes)]
    yield "shots", ["--checkpoint", *every, "--shot", "1", "3", "5", *few]
    yield "ways", ["--checkpoint", *every, "--way", "2", "5", "8", *few]
    yield "alpha", ["--checkpoint", str(runs / "ma-fsar"), "--sweep", "alpha=0:1:0.1", *few]
    for sweep in ("lambda", "prompts"):
        yield sweep, ["--checkpoint", str(runs / "sweeps" / sweep), *few]
    for name in ("otam", "clip-mdmf"):
        yield f"classes/{name}", ["--checkpoint", str(runs / name), "--predictions", *few]


def figures(runs: Path, out: Path) -> Iterator[tuple[str, list[str]]]:
    """Name of each figure of the papers, and its command."""
    world = load_world()
    growing = next(v.path for v in world.split("test").videos if v.label == "something_growing")
    run = {name: ["--checkpoint", str(runs / name)] for name in ("task-adapter-pp", "clip-mdmf", "clip-spm")}
    three = ["--checkpoint", *(str(runs / name) for name in ("otam", "aim", "ma-fsar"))]
    looks = ["attention", str(growing), *three, "--text", "something growing"]
    made = out / "results"
    yield "01-ma-fsar-fig-1b-5", looks
    yield "02-ma-fsar-fig-1b-5-rollout", [*looks, "--rollout"]
    one_shot = sorted(str(result) for result in (made / "shots").glob("*_1shot_*.json"))
    yield "03-ma-fsar-fig-1c", ["curves", *one_shot, "--x", "parameters"]
    yield "04-ma-fsar-table-13", ["curves", str(made / "alpha"), "--x", "alpha"]
    yield "05-task-adapter-pp-fig-11", ["attention", *SETTING, *run["task-adapter-pp"]]
    yield "06-task-adapter-pp-stages", ["alignment", *SETTING, *run["task-adapter-pp"]]
    yield "07-clip-mdmf-fig-4", ["curves", str(made / "lambda"), "--x", "distill_weight"]
    yield "08-clip-mdmf-fig-5-6", ["map", "--data", "world", *run["clip-mdmf"]]
    yield "09-clip-mdmf-fig-7", ["classes", *(str(made / "classes" / name) for name in ("clip-mdmf", "otam"))]
    yield "10-clip-mdmf-fig-8-11", ["gradcam", *SETTING, *run["clip-mdmf"]]
    yield "11-clip-mdmf-alignment", ["alignment", *SETTING, *run["clip-mdmf"]]
    yield "12-clip-spm-fig-5", ["curves", str(made / "prompts"), "--x", "templates"]
    yield "13-clip-spm-fig-6", ["map", "--data", "world", *run["clip-spm"], "--projection", "umap"]
    yield "14-clip-spm-fig-7", ["gradcam", *SETTING, *run["clip-spm"], "--of-truth"]
    yield "15-shots", ["curves", str(made / "shots"), "--x", "shot"]
    yield "16-ways", ["curves", str(made / "ways"), "--x", "way"]
    yield "17-reliability", ["reliability", str(out / "recogniser.fsar"), str(out / "clips" / "tests")]


def real_figures(clips: Path) -> Iterator[tuple[str, list[str]]]:
    """Pictures of real clips with a convolutional encoder."""
    real = ["--data", str(clips), "--split", "all", "--way", "3", "--method", "otam", "--backbone", "lite0"]
    yield "18-gradcam-real", ["gradcam", *real]
    yield "19-alignment-real", ["alignment", *real]
    yield "20-map-real", ["map", "--data", str(clips), "--split", "all", "--method", "otam", "--backbone", "lite0"]


def costs() -> Iterator[tuple[str, list[str]]]:
    """Tables of what methods cost: every method on `tiny`, the papers' rows at full size without times."""
    yield "parameters", ["parameters"]
    sized = ["otam", "hyrsm", "clip-fsar", "aim", "task-adapter", "ma-fsar", "ma-fsar:fc_text_per_layer=true"]
    yield "full-size", ["methods", "--method", *sized, "--backbone", "ViT-B-32/random", "--repeats", "0"]
    for method in METHODS:
        yield method, ["methods", "--method", method]


def recogniser(out: Path) -> None:
    """Lay out a few actions of the world as a user would, enrol them, and draw why some clips were answered so."""
    for folder, first, last in (("examples", 0, EXAMPLES), ("tests", EXAMPLES, EXAMPLES + TESTS)):
        test = load_world().split("test")
        for label in test.classes[:4]:
            action = out / "clips" / folder / label
            action.mkdir(parents=True, exist_ok=True)
            for video in [v for v in test.videos if v.label == label][first:last]:
                if not (action / video.path.name).exists():
                    (action / video.path.name).symlink_to(video.path.resolve())
    asked = sorted((out / "clips" / "tests").iterdir())[0]
    model = ["--backbone", "tiny", "--save", str(out / "recogniser.fsar")]
    shown = [str(video) for video in sorted(asked.iterdir())[:2]]
    must(["recognize", "--examples", str(out / "clips" / "examples"), *model, *shown, "--explain", str(out / "21-why")])


def main() -> None:
    """Evaluate, draw, and write the page."""
    parser = argparse.ArgumentParser(description="Make the figures of the four papers on the generated world.")
    parser.add_argument("runs", type=Path, help="folder of trained runs, by the name of their method")
    parser.add_argument("out", type=Path, help="folder for the pictures and gallery.html")
    parser.add_argument("--clips", type=Path, help="folder of real clips, ACTION/CLIP")
    parser.add_argument("--episodes", type=int, default=1000, help="of each evaluation; default: 1000")
    options = parser.parse_args()
    out = options.out
    if not (out / "recogniser.fsar").is_file():
        recogniser(out)
    for folder, words in results(options.runs, options.episodes):
        if not (out / "results" / folder / "done").is_file():
            must(["evaluate", "--data", "world", *words, "--out", str(out / "results" / folder)])
            (out / "results" / folder / "done").touch()
    for name, words in [*figures(options.runs, out), *(real_figures(options.clips) if options.clips else ())]:
        if not (out / f"{name}.png").is_file():
            must(["explain", *words, "--out", str(out / f"{name}.png")])
    for name, words in costs():
        if not (out / "costs" / f"{name}.csv").is_file():
            must(["benchmark", *words, "--out", str(out / "costs" / f"{name}.csv")])
    for name, note in NOTES.items():
        for picture in [*out.glob(f"{name}.png"), *(out / name).glob("*.png")]:
            write_note(picture, note)
    must(["report", str(out), "--out", str(out / "gallery.html")])


def write_note(picture: Path, note: str) -> None:
    """Write what a picture shows into its file, as `--note` does; `fsar report` reads it from there."""
    with Image.open(picture) as image:
        image.load()
        about = PngInfo()
        for key, words in {**image.info, "Comment": note}.items():
            if isinstance(words, str):
                about.add_text(key, words)
        with atomic_path(picture) as temporary:
            image.save(temporary, format="png", pnginfo=about, dpi=image.info.get("dpi"))


def must(words: list[str]) -> None:
    """Run a command of fsar; stop if it fails."""
    print("fsar", *words, flush=True)
    if status := cli.main(words):
        raise SystemExit(status)


if __name__ == "__main__":
    main()
