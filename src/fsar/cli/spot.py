"""`fsar spot`: when does which action happen in long videos?"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.edit import known_actions
from fsar.cli.given import load_recognizer, require_given
from fsar.cli.options import device_option, error_option, show_examples, tell

if TYPE_CHECKING:
    from fsar.datasets.segments.segment import Segment
    from fsar.recognizer import Recognizer
    from fsar.recognizer.contract import Contract
    from fsar.recognizer.timeline import Rule, WindowScores

FORMATS = ("table", "csv", "json", "vtt", "srt", "eaf", "boris", "label-studio")


def add_options(parser: ArgumentParser) -> None:
    """Add the options: recogniser, videos, windows, rule, form."""
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="videos, or folders of videos")
    model_options(parser)
    parser.add_argument("--fps", type=float, help="frames per second of a folder of frames")
    rule_options(parser)
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write one file per video into this folder")
    parser.add_argument(
        "--scores", type=Path, metavar="DIR", help="keep the answers for all windows, one .npz per video"
    )
    parser.add_argument("--clips", type=Path, metavar="DIR", help="cut the segments out: DIR/ACTION/VIDEO_TIMES.mp4")
    parser.add_argument("--picture", type=Path, metavar="DIR", help="draw each video's timeline: DIR/VIDEO.svg")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="a page with the videos; a click plays a segment"
    )
    parser.add_argument(
        "--tune",
        metavar="SEGMENTS",
        help="choose threshold and windows on annotated videos (a file of segments, as --data takes it); the "
        "recogniser keeps them",
    )
    error_option(parser)
    device_option(parser)
    show_examples(
        parser,
        "fsar spot long.mp4 --model mine.fsar",
        "fsar spot recordings/ --model mine.fsar --format csv > segments.csv",
        "fsar spot --tune segments.csv --model mine.fsar",
        "fsar spot long.mp4 --model mine.fsar --format vtt --out subtitles/",
    )


def model_options(parser: ArgumentParser) -> None:
    """Add what is looked at: the recogniser, lengths of windows, frames per second."""
    parser.add_argument("--model", type=Path, required=True, help="a recogniser that `fsar recognize --save` wrote")
    parser.add_argument(
        "--window",
        nargs="+",
        type=float,
        metavar="SECONDS",
        help="lengths of windows; default: as long as the examples",
    )
    parser.add_argument("--rate", type=float, help="frames per second that are looked at; default: by the examples")


def rule_options(parser: ArgumentParser) -> None:
    """Add how segments are chosen."""
    parser.add_argument("--begin", type=float, help="probability from which a segment is possible; default: 0.25")
    parser.add_argument("--keep", type=float, help="probability that joins two segments of one action; default: 0.2")
    parser.add_argument("--shortest", type=float, metavar="SECONDS", help="drop shorter segments; default: 0")


UNTUNED = (
    "the rule is not tuned to your videos: expect wrong segments where something resembles an action. Mark what one "
    "video shows (segments.csv): `fsar spot --tune` fits the rule to it, `fsar evaluate --spotting` measures it"
)


def run(options: Namespace) -> int:
    """Spot every video; the segments of each are printed or written at once."""
    require_given(options)
    from fsar.datasets.segments.write import FORMATS as WRITERS
    from fsar.datasets.segments.write import OF_ONE_VIDEO, cut
    from fsar.files import write_text_atomic
    from fsar.recognizer.timeline import spot
    from fsar.report.timeline import timeline_page, timeline_picture

    if options.tune is not None:
        _tune(options)
    elif not options.videos:
        raise ValueError("give at least one VIDEO to spot, or --tune SEGMENTS")
    if not options.videos:
        return 0
    videos = list(videos_of(options.videos))
    if options.format in OF_ONE_VIDEO and len(videos) > 1 and options.out is None:
        raise ValueError(f"--format {options.format} is about one video, and there are {len(videos)}; add --out DIR")
    files = _files(videos, options.out, WRITERS[options.format][0])
    recognizer, contract = loaded(options)
    if recognizer.tuned is None:
        tell([UNTUNED])
    rule = rule_of(options, recognizer)
    found: list[Segment] = []
    seconds: dict[str, float] = {}
    for video, file in zip(videos, files, strict=True):
        scores = _scanned(recognizer, contract, video, options)
        if scores is None:
            continue
        segments = spot(scores, rule)
        if not segments:
            tell([_why_none(scores, rule)])
        found += segments
        seconds[str(video)] = scores.duration
        if file is not None:
            write_text_atomic(file, _text(options.format, segments, video))
        if options.picture is not None:
            write_text_atomic(_beside(video, options.picture, ".svg"), timeline_picture(segments, scores.duration))
        if options.clips is not None:
            cut(video, segments, options.clips)
    if options.report is not None:
        write_text_atomic(options.report, timeline_page(found, seconds, options.report.parent))
    if options.out is None:
        print(_text(options.format, found, videos[0]), end="")
    return 1 if len(seconds) < len(videos) else 0


def loaded(options: Namespace) -> "tuple[Recognizer, Contract]":
    """Load the recogniser, and tell what is looked at and what it costs."""
    recognizer = load_recognizer(options)
    contract = recognizer.contract(options.window, options.rate)
    tell([f"{recognizer.method.name} on {recognizer.backbone.name}, {known_actions(recognizer)}; {contract}"])
    if recognizer.fit().threshold is None:
        tell(["nothing can be called unknown, so expect segments where nothing happens; enrol more examples"])
    if not recognizer.method.encoder().by_frame:
        per_second = contract.windows_per_second() * (recognizer.cache.frames or 1)
        tell(
            [
                f"{recognizer.method.name} encodes a whole clip at once, so each window is encoded by itself: "
                f"{per_second:.0f} frames for a second of video, instead of {contract.rate:.0f}"
            ]
        )
    return recognizer, contract


def rule_of(options: Namespace, recognizer: "Recognizer") -> "Rule":
    """The rule that the options ask for, or else the recogniser's own."""
    from dataclasses import replace

    from fsar.recognizer.timeline import Rule

    usual = Rule() if recognizer.tuned is None else recognizer.tuned.rule
    given = {name: getattr(options, name) for name in ("begin", "keep", "shortest")}
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


def _tune(options: Namespace) -> None:
    """Choose threshold and windows on annotated videos; the recogniser's file keeps them."""
    from fsar.cli.spotting import truth
    from fsar.files import locked
    from fsar.recognizer import Recognizer
    from fsar.recognizer.tuning import Tuned, annotated_contract, tune

    true, seconds = truth(options.tune)
    recognizer, contract = loaded(options)
    annotated = annotated_contract(recognizer.enrolled, recognizer.cache, true, contract.rate)
    usual = Tuned(rule_of(options, recognizer), contract)
    best, before, after = tune(
        usual, annotated, lambda video, other: recognizer.scan(video, other, progress=True), true, seconds
    )
    with locked(options.model):
        recognizer = Recognizer.load(options.model)
        recognizer.tuned = best
        recognizer.save(options.model)
    f1 = [f"{100 * score.f1[0.25]:.1f}" for score in (before, after)]
    tell(
        [
            f"F1 at tIoU 0.25 on these videos: {f1[0]} before, {f1[1]} with a probability of {best.rule.begin:g} and "
            f"{best.contract}; {options.model} keeps this. Expect a little less on other videos"
        ]
    )


def videos_of(paths: list[Path]) -> Iterator[Path]:
    """The videos themselves, and those of folders; tells what was passed over."""
    from fsar.recognizer.sources import videos_below

    for path in paths:
        found, notes = videos_below(path)
        tell(notes)
        yield from found


def _scanned(recognizer: "Recognizer", contract: "Contract", video: Path, options: Namespace) -> "WindowScores | None":
    """Answer the windows of one video; None if it could not be read and is to be left out."""
    from fsar.video.paths import VideoError, display

    try:
        scores = recognizer.scan(video, contract, options.fps, progress=True)
    except VideoError as error:
        if options.on_error == "stop":
            raise
        print(f"fsar: left out {display(error.path)}: {error.reason}", file=sys.stderr)
        return None
    if scores.duration < contract.lengths[0]:
        tell([f"{display(video)} lasts {scores.duration:g} s, less than the shortest window; it is one window"])
    if options.scores is not None:
        scores.save(_beside(video, options.scores, ".npz"))
    return scores


def _why_none(scores: "WindowScores", rule: "Rule") -> str:
    """Say why a video has no segment."""
    from fsar.datasets.segments.segment import clock
    from fsar.recognizer.timeline import surest

    best, name = surest(scores), scores.video
    if best is None or best.probability >= rule.begin:
        return f"{name}: no segment lasts {rule.shortest:g} s or more (--shortest)"
    shown = f"{best.action} at {clock(best.start)} with a probability of {best.probability:.2g}"
    return f"{name}: no segment; the surest window shows {shown}, below {rule.begin:g} (--begin)"


def _files(videos: list[Path], folder: Path | None, suffix: str) -> list[Path | None]:
    """Where to write the segments of each video; None to print them."""
    if folder is None:
        return [None] * len(videos)
    files = [_beside(video, folder, suffix) for video in videos]
    for file in files:
        if files.count(file) > 1:
            raise ValueError(f"several videos would be written to {file}; spot them in separate runs")
    return list(files)


def _beside(video: Path, folder: Path, suffix: str) -> Path:
    return folder / f"{video.stem}{suffix}"


def _text(form: str, segments: "list[Segment]", video: Path) -> str:
    from fsar.datasets.segments.write import FORMATS as WRITERS
    from fsar.datasets.segments.write import to_eaf

    return to_eaf(segments, str(video)) if form == "eaf" else WRITERS[form][1](segments)
