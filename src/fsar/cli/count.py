"""`fsar count`: how often do videos repeat an action?"""

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from fsar.cli.given import load_recognizer, require_given
from fsar.cli.options import device_option, error_option, show_examples
from fsar.cli.spot import videos_of


def add_options(parser: ArgumentParser) -> None:
    """Add the options: recogniser, videos, action, form."""
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO", help="videos, or folders of videos")
    parser.add_argument("--model", type=Path, required=True, help="a recogniser that `fsar recognize --save` wrote")
    parser.add_argument(
        "--action", help="the action, of which each example shows one repetition; default: what most of a video shows"
    )
    parser.add_argument(
        "--begin",
        type=float,
        default=0.0,
        help="probability that a repetition needs; 0.25 suits videos in which the action is rare; default: 0",
    )
    parser.add_argument("--fps", type=float, help="frames per second of a folder of frames")
    parser.add_argument("--json", action="store_true", help="print one line of JSON per video, with all times")
    error_option(parser)
    device_option(parser)
    show_examples(
        parser,
        "fsar count training.mp4 --model mine.fsar --action squat",
        "fsar count recordings/ --model mine.fsar --json",
    )


def run(options: Namespace) -> int:
    """Count in every video; each count is printed at once."""
    from fsar.video.paths import VideoError, display

    require_given(options)
    recognizer = load_recognizer(options)
    failed = 0
    for video in videos_of(options.videos):
        try:
            found = recognizer.count(video, options.action, options.fps, progress=True, begin=options.begin)
        except VideoError as error:
            if options.on_error == "stop":
                raise
            failed += 1
            print(f"fsar: left out {display(error.path)}: {error.reason}", file=sys.stderr)
            continue
        if options.json:
            times = [asdict(each) for each in found.segments]
            text = json.dumps({"video": found.video, "action": found.action, "count": len(found), "repetitions": times})
        else:
            text = str(found)
        print(text, flush=True)
    return 1 if failed else 0
