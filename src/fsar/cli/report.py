"""`fsar report`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.cli.options import name_option
from fsar.names import many


def add_options(parser: ArgumentParser) -> None:
    """Add the options: what to report on, and the file to write."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        default=[Path("runs")],
        help="results (JSON), and folders of results and training runs; default: runs",
    )
    name_option(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="default: report.html"
    )


def run(options: Namespace) -> int:
    """Write the page."""
    from fsar.report import write_report
    from fsar.results.naming import read_names
    from fsar.video.paths import display

    if options.out.suffix not in (".html", ".htm") or options.out.is_dir():
        raise ValueError(f"--out is {display(options.out)!r}; expected the name of a file that ends in .html")
    for path in options.paths:
        if not path.exists():
            raise ValueError(f"{display(path)}: no such file or folder; name results, or folders that hold them")
    results, runs = write_report(options.paths, options.out, read_names(options.name))
    print(f"wrote {display(options.out)}: {many(results, 'result')}, {many(runs, 'training run')}")
    return 0
