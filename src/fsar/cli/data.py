"""`fsar data check` and `fsar data prepare`."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

EXIT_INCOMPLETE = 1


def add_options(parser: ArgumentParser) -> None:
    """Add `check` and `prepare` with their options."""
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


def _common_options(parser: ArgumentParser) -> None:
    parser.add_argument("benchmark", metavar="BENCHMARK", help="ucf101@arn, ssv2-full@otam-67k, ...")
    parser.add_argument("--root", type=Path, required=True, help="folder with the videos, at any depth")
    parser.add_argument("--workers", type=int, help="number of threads; default: one per core")


def run(options: Namespace) -> int:
    """Check or prepare a benchmark."""
    return options.work(options)


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
