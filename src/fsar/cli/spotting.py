"""`fsar evaluate --spotting`: found segments of long videos against true ones."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.given import load_recognizer
from fsar.cli.options import tell

if TYPE_CHECKING:
    from fsar.datasets.segments.segment import Segment
    from fsar.evaluation.spotting import SpottingScore


def add_options(parser: ArgumentParser) -> None:
    """Add the options on segments of long videos."""
    parser.add_argument(
        "--spotting",
        metavar="SEGMENTS",
        help="instead of episodes: score segments of long videos against these true ones (segments.csv, ELAN, BORIS, "
        "Label Studio); those of the label `unknown` do not count",
    )
    parser.add_argument("--model", type=Path, help="of --spotting: a recogniser that spots these videos")
    parser.add_argument(
        "--found", type=Path, metavar="FILE", help="of --spotting: what `fsar spot` found (csv or json)"
    )


def run(options: Namespace) -> int:
    """Print the measures; write them as JSON into `--out`."""
    from fsar.files import write_text_atomic

    if (options.model is None) == (options.found is None):
        raise ValueError("--spotting needs either --model FILE (a recogniser) or --found FILE (what `fsar spot` found)")
    true, seconds = truth(options.spotting)
    found = _by_model(options, list(seconds)) if options.model else _from_file(options.found, seconds)
    score = scored(true, found, seconds)
    print(score)
    if options.out is not None:
        write_text_atomic(options.out / "spotting.json", json.dumps(score.to_dict(), indent=1) + "\n")
    return 0


def truth(segments: str) -> "tuple[list[Segment], dict[str, float]]":
    """Read true segments.

    Args:
        segments: a file, as `--data` takes it.

    Returns:
        The segments; and each video's duration in seconds.

    Raises:
        ValueError: it cannot be read, or a segment is not inside its video.
    """
    from fsar.datasets import load_segments
    from fsar.datasets.join import UNKNOWN
    from fsar.datasets.segments import split_options
    from fsar.datasets.segments.segment import Segment
    from fsar.video.reading import probe

    file, chosen = split_options(segments)
    data = load_segments(file, **chosen)
    tell(data.notes)
    seconds = {str(video.path): 0.0 for video in data.videos}
    seconds = {path: probe(path).duration or 0.0 for path in seconds}
    every = [Segment(str(v.path), v.start or 0.0, v.end or seconds[str(v.path)], v.label) for v in data.videos]
    return [each for each in every if each.action != UNKNOWN], seconds


def scored(true: "list[Segment]", found: "list[Segment]", seconds: Mapping[str, float]) -> "SpottingScore":
    """Score the found segments, and tell of actions that were found but are never true, or the other way round."""
    from fsar.evaluation.spotting import score_segments

    never = sorted({each.action for each in true} - {each.action for each in found})
    if never:
        tell([f"never found: {', '.join(never)}"])
    return score_segments(true, found, seconds)


def _by_model(options: Namespace, videos: list[str]) -> "list[Segment]":
    recognizer = load_recognizer(options)
    return [segment for video in videos for segment in recognizer.timeline(video, progress=True)]


def _from_file(file: Path, seconds: Mapping[str, float]) -> "list[Segment]":
    """Read found segments; their videos are those of the truth with the same name."""
    from dataclasses import replace

    from fsar.datasets.segments.write import read_found

    homes: dict[str, list[str]] = {}
    for path in seconds:
        homes.setdefault(Path(path).stem, []).append(path)
    made = []
    for segment in read_found(file):
        home = homes.get(Path(segment.video).stem, [])
        if len(home) != 1:
            count = "no video" if not home else f"{len(home)} videos"
            raise ValueError(f"{file}: a segment of {segment.video}, and the truth has {count} of that name")
        made.append(replace(segment, video=home[0]))
    return made
