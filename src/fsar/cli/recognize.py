"""`fsar recognize`."""

import csv
import io
import json
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsar.cli.edit import add_examples, known_actions
from fsar.cli.given import require_path
from fsar.cli.options import device_option, error_option, own_option, part_of, share_options, show_examples, telling
from fsar.files import require_folder, require_recognizer
from fsar.names import many
from fsar.results.numbers import likeliest

if TYPE_CHECKING:
    from fsar.datasets import Video
    from fsar.methods import Method
    from fsar.recognizer import Answer, Recognizer


def add_options(parser: ArgumentParser) -> None:
    """Add the options: examples or a saved recogniser, videos, form of the answers."""
    parser.add_argument(
        "videos", nargs="*", type=Path, metavar="VIDEO", help="videos, folders of videos, or files of segments"
    )
    parser.add_argument(
        "--examples",
        type=Path,
        help="folder with one folder of example clips per action, and a folder `background` or `unknown` for clips "
        "that show none of them; or a file of segments (as --data takes it)",
    )
    parser.add_argument("--model", type=Path, help="a recogniser that --save wrote; replaces --examples")
    parser.add_argument("--save", type=Path, help="write the recogniser to this file")
    parser.add_argument(
        "--keep-paths",
        action="store_true",
        help="with --save: keep where the examples lie, so that --explain can show them; anyone with the file sees it",
    )
    parser.add_argument("--method", metavar="NAME[:OPTION=VALUE,...]", help="default: place-motion")
    parser.add_argument(
        "--checkpoint",
        metavar="DIR[:OPTION=VALUE,...]",
        help="a folder that `fsar train` wrote; replaces --method and --backbone",
    )
    own_option(parser)
    parser.add_argument("--backbone", help="default: lite0 (see `fsar backbones`)")
    parser.add_argument("--frames", type=int, help="frames per video; default: a video backbone's own, or 8")
    parser.add_argument("--sampling", help="how frames are chosen; default: moving, the part in which something moves")
    device_option(parser)
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table", help="default: table")
    parser.add_argument(
        "--strictness",
        type=float,
        metavar="SHARE",
        help="share of videos of enrolled actions that may be called unknown; more of it accepts fewer strangers; "
        "default: 0.1",
    )
    error_option(parser)
    parser.add_argument(
        "--nearest",
        type=int,
        default=0,
        metavar="N",
        help="name the N most similar examples beside each answer; all examples of an action decide together, so the "
        "most similar one may show another action",
    )
    drawn = "draw why: nearest example, frames that agree, heat of what decided; a PNG of each video"
    parser.add_argument("--explain", type=Path, metavar="DIR", help=drawn)
    words = "folder or URL for the answers as Parquet, a thousand videos a file; again: only what is missing (--model)"
    parser.add_argument("--out", metavar="DIR", help=words)
    share_options(parser)
    show_examples(
        parser,
        "fsar recognize --examples my_actions/ --save mine.fsar    # my_actions/ACTION/clip.mp4",
        "fsar recognize --model mine.fsar new_clips/ --format csv",
        "fsar recognize --model mine.fsar archive/ --out answers/ --ray --actors 2",
    )


def run(options: Namespace) -> int:
    """Enrol the examples or load a recogniser, then name the videos; every answer is printed at once."""
    _check(options)
    if options.out:
        return _answer_in_bulk(options)

    from fsar.devices import to_device

    recognizer = _recognizer(options)
    to_device(recognizer.method, options.device)
    folders = []
    if options.examples:
        _warn_if_untrained(recognizer.method)
        with telling():
            folders = add_examples(recognizer, options)
    fit = recognizer.fit()
    print(
        f"fsar: {recognizer.method.name} on {recognizer.backbone.name}, {known_actions(recognizer, folders)}; "
        f"{fit if options.examples else fit.brief}",  # `fsar model` repeats all of it
        file=sys.stderr,
    )
    if options.save:
        recognizer.save(options.save, paths=options.keep_paths)
        print(f"fsar: saved to {options.save}", file=sys.stderr)
    return _answer(recognizer, options) if options.videos else 0


def _check(options: Namespace) -> None:
    """Refuse what can be told before the work: options that contradict each other, paths that are not there."""
    if (options.examples is None) == (options.model is None):
        raise ValueError("give either --examples DIR (one folder of clips per action) or --model FILE")
    given = [name for name in ("method", "backbone", "frames", "sampling") if getattr(options, name) is not None]
    if options.checkpoint and (given or options.model):
        other = f"--{given[0]}" if given else "--model"
        raise ValueError(f"--checkpoint has its own method, backbone and frames; leave {other} out")
    if options.model and given:
        raise ValueError(f"--model has its own {given[0]}; leave --{given[0]} out, or enrol again with --examples")
    if options.explain:
        require_folder(options.explain, "--explain")
    if options.out and (options.model is None or not options.videos):
        raise ValueError("--out needs --model FILE (see --save), which every machine loads, and videos")
    if not options.out and (options.shard or options.ray is not None):
        raise ValueError("--shard and --ray divide what goes to --out DIR; add it, or leave them out")
    if options.strictness is not None and not 0 < options.strictness < 1:
        raise ValueError(f"--strictness is {options.strictness:g}; expected a share between 0 and 1, such as 0.1")
    if options.nearest < 0:
        raise ValueError(f"--nearest is {options.nearest}; expected 0 or more")
    if options.keep_paths and not (options.save and options.examples):
        raise ValueError("--keep-paths belongs to --examples DIR and --save FILE; add them, or leave it out")
    if options.save and options.save.is_dir():
        raise ValueError(f"--save {options.save} is a folder; expected a file, such as {options.save / 'mine.fsar'}")
    if options.model:
        require_recognizer(options.model)
    for path in [*filter(None, [options.examples]), *options.videos]:
        require_path(path)
    if not options.videos and not options.save:
        raise ValueError("give at least one VIDEO to name, or --save FILE to keep the recogniser")


def _recognizer(options: Namespace) -> "Recognizer":
    """Load a recogniser, or make an empty one."""
    from fsar.cli.options import frame_cache, load_checkpoint
    from fsar.methods import parse_method
    from fsar.recognizer import Recognizer
    from fsar.recognizer.calibration import STRICTNESS
    from fsar.video.motion import MOVING

    if options.model:
        return Recognizer.load(options.model, strictness=options.strictness)
    strictness = STRICTNESS if options.strictness is None else options.strictness
    if options.checkpoint:
        trained, _ = load_checkpoint(options.checkpoint)
        return Recognizer(method=trained, strictness=strictness)
    name, chosen = parse_method(options.method or "place-motion")
    usual = options.frames is None and options.sampling is None
    cache = None if usual else frame_cache(options, sampling=MOVING)
    return Recognizer(options.backbone or "lite0", name, cache, strictness, **chosen)


def _warn_if_untrained(method: "Method") -> None:
    """Say on standard error that a method has layers that should have been trained, and were not."""
    if method.provenance is None and "own" in method.traits.trains:
        print(
            f"fsar: {method.name} was not trained, so its own layers have their first, mostly random values; give "
            f"--checkpoint RUN of `fsar train`, or leave --method out for place-motion, which needs no training",
            file=sys.stderr,
        )


def _answer(recognizer: "Recognizer", options: Namespace) -> int:
    """Print an answer for every video; 1 if a video could not be read."""
    from fsar.progress import one_output, progress_bar
    from fsar.video.paths import VideoError, display

    videos = [video for given in options.videos for video in _videos_in(given)]
    names = [display(Path(video.place)) for video in videos]
    writer = WRITERS[options.format](names, list(recognizer.actions))
    answers = recognizer.predict_many(videos, options.nearest, return_errors=options.on_error == "skip")
    failed, alone = 0, False
    shown = len(videos) > 1 and not one_output()
    bar = progress_bar(zip(videos, answers, strict=True), "recognize", "video", len(videos), shown)
    try:
        for video, answer in bar:
            if isinstance(answer, VideoError):
                failed += 1
                bar.write(f"fsar: left out {display(answer.path)}: {answer.reason}", file=sys.stderr)
            else:
                bar.write(writer.row(_row(answer)), file=sys.stdout)
                sys.stdout.flush()
                if options.explain:
                    alone |= not _explain(answer, video, options.explain)
    finally:
        if end := writer.end():
            print(end)
    if alone:
        print(
            "fsar: pictures without an example: its file is not where the recogniser says, or the recogniser keeps "
            "only its name; save it with --keep-paths, or ask with --examples DIR",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _explain(answer: "Answer", video: "Video", folder: Path) -> bool:
    """Draw why a video was answered so; tell whether the nearest example could be shown."""
    from fsar.explain import explanation_picture, save_picture

    name = re.sub(r"[^\w.-]+", "_", str(video.place)).strip("_.")
    explanation = answer.explain()
    save_picture(explanation_picture(explanation), folder / f"{name}.png")
    return explanation.example is not None


def _answer_in_bulk(options: Namespace) -> int:
    """Write the answers to Parquet files; 1 if a video could not be read."""
    from functools import partial

    from fsar.bank.archive import counted
    from fsar.bank.cluster import Actors, on_ray
    from fsar.bank.listing import videos_at
    from fsar.recognizer.bulk import answer, answers_at

    bank = answers_at(options.out, options.model, videos_at(map(str, options.videos)))
    numbers = part_of(bank.shards, options.shard)
    if options.ray is None:
        answer(bank, _loaded(options), numbers)
    else:
        missing = sorted({*bank.missing()} & {*numbers})
        actors = Actors(options.actors, gpus=options.gpus, address=options.ray or None)
        on_ray(partial(_answerer, options), missing, actors)
    found = counted(bank, numbers)
    print(f"{bank.place}: {many(found.read, 'video')} in {many(len(numbers), 'shard')}, {found.broken} broken")
    if numbers and not found.read:
        raise ValueError(f"not one of {found.broken} videos could be read; {bank.place}/index has the reasons")
    return 1 if found.broken else 0


def _loaded(options: Namespace) -> "Recognizer":
    from fsar.devices import to_device

    recognizer = _recognizer(options)
    to_device(recognizer.method, options.device)
    return recognizer


def _answerer(options: Namespace) -> "Callable[[int], object]":
    """Load the recogniser, in an actor."""
    from fsar.datasets.shards import ShardedBank
    from fsar.recognizer.bulk import answer_shard
    from fsar.video.apart import SECONDS, Decoders

    recognizer, bank = _loaded(options), ShardedBank(options.out)
    decoders = Decoders(1, SECONDS, fork=False)
    return lambda number: answer_shard(bank, number, recognizer, decoders)


def _videos_in(path: Path) -> list["Video"]:
    """The video itself, the sorted videos of a folder and its sub-folders, or the segments of a file."""
    from fsar.cli.options import tell
    from fsar.datasets import Video, load_segments
    from fsar.datasets.segments import is_segments, split_options
    from fsar.recognizer.sources import videos_below

    file, chosen = split_options(path)
    if chosen or (is_segments(file) and not file.is_dir()):
        segments = load_segments(file, **chosen)
        tell(segments.notes)
        return list(segments.videos)
    found, notes = videos_below(path)
    tell(notes)
    return [Video(str(video), video, "") for video in found]


def _row(answer: "Answer") -> dict[str, Any]:
    """One answer as it is printed."""
    from fsar.video.paths import display

    row: dict[str, Any] = {
        "video": display(Path(answer.video)),
        "action": answer.action,
        "best": answer.best,
        "probability": round(answer.probabilities[answer.best], 4),
        "unknown": None if answer.unknown is None else round(answer.unknown, 4),
        "score": round(answer.score, 4),
        "threshold": None if answer.threshold is None else round(answer.threshold, 4),
        "probabilities": {name: round(p, 4) for name, p in answer.probabilities.items()},
    }
    if answer.nearest:
        row["nearest"] = [
            {"action": each.action, "video": display(Path(each.video)), "similarity": round(each.similarity, 4)}
            for each in answer.nearest
        ]
        row["disagreement"] = answer.disagreement
    return row


class _Table:
    """Aligned columns for people."""

    def __init__(self, videos: Sequence[str], actions: Sequence[str]):
        self.width = max(map(len, ["video", *videos]))
        self.head = f"{'video':{self.width}}  {'action':24} likeliest\n"

    def row(self, answer: Mapping[str, Any]) -> str:
        """One line, after the head at the first time."""
        head, self.head = self.head, ""
        ranked = likeliest(answer["probabilities"])
        near = "".join(f"; near {each['action']}: {each['video']}" for each in answer.get("nearest", ()))
        why = f" ({answer['disagreement']})" if answer.get("disagreement") else ""
        return f"{head}{answer['video']:{self.width}}  {answer['action']:24} {ranked}{near}{why}"

    def end(self) -> str:
        """Nothing."""
        return ""


class _Csv:
    """A comma-separated table with a column for each action."""

    columns = ("video", "action", "best", "probability", "unknown", "score", "threshold")

    def __init__(self, videos: Sequence[str], actions: Sequence[str]):
        self.actions = sorted(actions)
        self.head = True

    def row(self, answer: Mapping[str, Any]) -> str:
        """One line, after the head at the first time."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self.head:
            writer.writerow([*self.columns, *(f"p({name})" for name in self.actions)])
        self.head = False
        probabilities = [answer["probabilities"][name] for name in self.actions]
        writer.writerow([*(answer[name] for name in self.columns), *probabilities])
        return text.getvalue().rstrip("\n")

    def end(self) -> str:
        """Nothing."""
        return ""


class _Json:
    """A list with one answer per line."""

    def __init__(self, videos: Sequence[str], actions: Sequence[str]):
        self.start = "["

    def row(self, answer: Mapping[str, Any]) -> str:
        """The next item of the list."""
        start, self.start = self.start, ","
        return start + json.dumps(answer)

    def end(self) -> str:
        """Close the list."""
        return "]" if self.start == "," else "[]"


WRITERS: dict[str, type[_Table] | type[_Csv] | type[_Json]] = {"table": _Table, "csv": _Csv, "json": _Json}
