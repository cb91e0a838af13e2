"""`fsar data check`, `fsar data prepare` and `fsar data join`."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

EXIT_INCOMPLETE = 1


def add_options(parser: ArgumentParser) -> None:
    """Add `check`, `prepare` and `join` with their options."""
    verbs = parser.add_subparsers(dest="data_verb", metavar="verb", required=True)
    check = verbs.add_parser(
        "check",
        help="find, decode and count every video; say whether accuracies can be compared",
        description="Find, decode and count every video of a benchmark, and say whether accuracies on these videos can "
        "be compared with published ones. A killed check resumes. Exit code: 0 complete, 1 incomplete, 2 wrong usage.",
        allow_abbrev=False,
    )
    _common_options(check)
    check.add_argument(
        "--frames", type=int, default=8, help="frames sampled per video, T; a video with fewer counts as short"
    )
    check.add_argument("--json", type=Path, help="write the whole report to this file")
    check.set_defaults(work=_check)
    prepare = verbs.add_parser(
        "prepare",
        help="write small copies: H.264 or JPEG frames, short side at most 256",
        description="Write small copies of a benchmark's videos with all frames and the same frame rate: H.264, short "
        "side at most 256. A killed run resumes. Exit code: 0 every listed video has a copy, 1 some are missing or "
        "left out, 2 wrong usage.",
        allow_abbrev=False,
    )
    _common_options(prepare)
    prepare.add_argument("--out", type=Path, required=True, help="folder to write to, outside of --root")
    prepare.add_argument("--frames-as", choices=["jpg"], help="write folders of JPEG frames instead of video files")
    prepare.add_argument(
        "--on-error", choices=["stop", "skip"], default="stop", help="what to do if a video cannot be read"
    )
    prepare.set_defaults(work=_prepare)
    join = verbs.add_parser(
        "join",
        help="join labelled clips to long test videos, with the true segments beside them",
        description="Join labelled clips to long videos in random order, with pauses in which the last picture stands "
        "still. DIR/segments.csv says where each clip is. Use clips that are not enrolled.",
        allow_abbrev=False,
    )
    join.add_argument("clips", metavar="CLIPS", help="folder with one folder of clips per action, or segments")
    join.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    join.add_argument("--strangers", nargs="+", default=[], help="actions that the recogniser does not know")
    join.add_argument("--streams", type=int, default=1, help="number of videos; default: 1")
    join.add_argument("--count", type=int, help="clips in each video, chosen at random; default: all")
    join.add_argument("--pause", nargs=2, type=float, default=[0.5, 2.0], metavar=("FROM", "TO"), help="in seconds")
    join.add_argument("--fps", type=float, default=12.0, help="frames per second; default: 12")
    join.add_argument("--seed", type=int, default=0, help="of order and pauses; default: 0")
    join.set_defaults(work=_join)


def _common_options(parser: ArgumentParser) -> None:
    parser.add_argument("benchmark", metavar="BENCHMARK", help="ucf101@arn, ssv2-full@otam-67k, ...")
    parser.add_argument("--root", type=Path, required=True, help="folder with the videos, at any depth")
    parser.add_argument("--workers", type=int, help="number of threads; default: one per core")


def run(options: Namespace) -> int:
    """Check or prepare a benchmark."""
    return options.work(options)


def _join(options: Namespace) -> int:
    from fsar.cli.options import tell
    from fsar.datasets import load_data
    from fsar.datasets.join import Pace, write_streams

    data = load_data(options.clips)
    tell(data.notes)
    segments = write_streams(
        data,
        options.out,
        strangers=options.strangers,
        streams=options.streams,
        count=options.count,
        seed=options.seed,
        pace=Pace(tuple(options.pause), options.fps),
        progress=True,
    )
    print(f"{options.out}: {options.streams} videos with {len(segments)} clips; the truth is in segments.csv")
    return 0


def _check(options: Namespace) -> int:
    from fsar.datasets.check import check_benchmark

    report = check_benchmark(options.benchmark, options.root, options.frames, options.workers)
    print(report.text())
    if options.json:
        report.save(options.json)
    return 0 if report.complete else EXIT_INCOMPLETE


def _prepare(options: Namespace) -> int:
    from fsar.datasets.prepare import prepare

    form = options.frames_as or "mp4"
    done = prepare(options.benchmark, options.root, options.out, form, options.on_error, options.workers)
    for name, reason in done.left_out.items():
        print(f"fsar: left out {name}: {reason}", file=sys.stderr)
    print(done.text())
    return EXIT_INCOMPLETE if done.left_out or done.missing else 0
