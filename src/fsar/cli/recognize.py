"""`fsar recognize`."""

import csv
import io
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsar.recognizer.recognizer import Answer, Recognizer


def add_options(parser: ArgumentParser) -> None:
    """Add the options: examples or a saved recogniser, videos, form of the answers."""
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="videos, or folders of videos")
    parser.add_argument("--examples", type=Path, help="folder with one folder of example clips per action")
    parser.add_argument("--model", type=Path, help="a recogniser that --save wrote; replaces --examples")
    parser.add_argument("--save", type=Path, help="write the recogniser to this file")
    parser.add_argument("--method", metavar="NAME[:OPTION=VALUE,...]", help="default: place-motion")
    parser.add_argument(
        "--checkpoint",
        metavar="DIR[:OPTION=VALUE,...]",
        help="a folder that `fsar train` wrote; replaces --method and --backbone",
    )
    parser.add_argument("--backbone", help="default: lite0 (see `fsar backbones`)")
    parser.add_argument("--frames", type=int, help="frames per video; default: 8")
    parser.add_argument("--sampling", help="how frames are chosen; default: tsn")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table", help="default: table")
    parser.add_argument(
        "--on-error", choices=["stop", "skip"], default="stop", help="at an unreadable video; default: stop"
    )


def run(options: Namespace) -> int:
    """Enrol the examples or load a recogniser, then name the videos."""
    if (options.examples is None) == (options.model is None):
        raise ValueError("give either --examples DIR (one folder of clips per action) or --model FILE")
    if not options.videos and not options.save:
        raise ValueError("give at least one VIDEO to name, or --save FILE to keep the recogniser")
    given = [name for name in ("method", "backbone", "frames", "sampling") if getattr(options, name) is not None]
    if options.checkpoint and (given or options.model):
        other = f"--{given[0]}" if given else "--model"
        raise ValueError(f"--checkpoint has its own method, backbone and frames; leave {other} out")
    if options.model and given:
        raise ValueError(f"--model has its own {given[0]}; leave --{given[0]} out, or enrol again with --examples")

    from fsar.devices import to_device
    from fsar.progress import progress_bar
    from fsar.video.reading import VideoError, display

    recognizer = _recognizer(options)
    to_device(recognizer.method, options.device)
    if options.examples:
        _enrol(recognizer, options)
    print(f"fsar: {recognizer.method.name} on {recognizer.backbone.name}, {len(recognizer.actions)} actions; "
          f"{recognizer.fit()}", file=sys.stderr)  # fmt: skip
    if options.save:
        recognizer.save(options.save)
    answers: list["Answer"] = []
    failed = 0
    videos = [video for given in options.videos for video in _videos_in(given)]
    for video in progress_bar(videos, "recognize", "video", len(videos), len(videos) > 1):
        try:
            answers.append(recognizer.predict(video))
        except VideoError as error:
            if options.on_error == "stop":
                raise
            failed += 1
            print(f"fsar: left out {display(video)}: {error.reason}", file=sys.stderr)
    if videos:
        print(_format_answers(answers, options.format))
    return 1 if failed else 0


def _recognizer(options: Namespace) -> "Recognizer":
    """Load a recogniser, or make an empty one."""
    from fsar.cli.options import frame_cache, load_checkpoint
    from fsar.methods import parse_method
    from fsar.recognizer.recognizer import Recognizer
    from fsar.video.frame_cache import FrameCache

    if options.model:
        return Recognizer.load(options.model)
    if options.checkpoint:
        trained, _ = load_checkpoint(options.checkpoint)
        return Recognizer(method=trained, cache=FrameCache.of_clip(trained.provenance.clip))
    name, chosen = parse_method(options.method or "place-motion")
    return Recognizer(options.backbone or "lite0", name, frame_cache(options), **chosen)


def _enrol(recognizer: "Recognizer", options: Namespace) -> None:
    from fsar.cli.options import tell
    from fsar.datasets import drop_copies, load_folder
    from fsar.video.reading import VideoError, display

    examples = drop_copies(load_folder(options.examples))
    tell(examples.notes)
    for video in examples.videos:
        try:
            recognizer.enroll(display(Path(video.label)), video)
        except VideoError as error:
            if options.on_error == "stop":
                raise
            print(f"fsar: example left out: {error}", file=sys.stderr)


def _videos_in(path: Path) -> list[Path]:
    """The video itself, or the sorted videos of a folder."""
    from fsar.cli.options import tell
    from fsar.datasets.folder import PassedOver, is_video
    from fsar.video.reading import display

    if not path.is_dir() or is_video(path):
        return [path]
    passed = PassedOver(path)
    found = passed.videos_in(path)
    tell(passed.notes())
    if not found:
        raise ValueError(f"{display(path)}: no videos in this folder")
    return found


def _format_answers(answers: Sequence["Answer"], form: str) -> str:
    from fsar.video.reading import display

    rows: list[dict[str, Any]] = [
        {
            "video": display(Path(answer.video)),
            "action": answer.action,
            "best": next(iter(answer.probabilities)),
            "probability": round(next(iter(answer.probabilities.values())), 4),
            "score": round(answer.score, 4),
            "threshold": None if answer.threshold is None else round(answer.threshold, 4),
            "probabilities": {name: round(p, 4) for name, p in answer.probabilities.items()},
        }
        for answer in answers
    ]
    if form == "json":
        return json.dumps(rows, indent=1)
    if form == "csv":
        names = sorted({name for row in rows for name in row["probabilities"]})
        text = io.StringIO()
        columns = ["video", "action", "best", "probability", "score", "threshold"]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*columns, *(f"p({name})" for name in names)])
        writer.writerows([*(row[c] for c in columns), *(row["probabilities"][n] for n in names)] for row in rows)
        return text.getvalue().rstrip("\n")
    width = max([5, *(len(row["video"]) for row in rows)])
    lines = [f"{'video':{width}}  {'action':24} likeliest"]
    for row in rows:
        ranked = ", ".join(f"{name} {p:.0%}" for name, p in list(row["probabilities"].items())[:3])
        lines.append(f"{row['video']:{width}}  {row['action']:24} {ranked}")
    return "\n".join(lines)
