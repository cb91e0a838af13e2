"""`fsar splits`: show the registered benchmarks, download or import their lists."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsar.datasets.benchmarks import Benchmark


def add_options(parser: ArgumentParser) -> None:
    """Add `list`, `show`, `fetch` and `import` with their options."""
    verbs = parser.add_subparsers(dest="what", metavar="verb", required=True)
    verbs.add_parser("list", help="show the benchmarks and which lists are on this machine", allow_abbrev=False)
    show = verbs.add_parser("show", help="show classes and sources of one benchmark", allow_abbrev=False)
    show.add_argument("name", metavar="NAME")
    fetch = verbs.add_parser("fetch", help="download published lists and check their hash", allow_abbrev=False)
    fetch.add_argument("names", nargs="+", metavar="NAME")
    fetch.add_argument("--mirror", metavar="URL", help="another address with the paths of raw.githubusercontent.com")
    take = verbs.add_parser("import", help="recognise and keep list files that you have", allow_abbrev=False)
    take.add_argument("files", nargs="+", type=Path, metavar="FILE")


def run(options: Namespace) -> int:
    """List, show, fetch or import."""
    {"list": _list, "show": _show, "fetch": _fetch, "import": _import}[options.what](options)
    return 0


def _list(options: Namespace) -> None:
    from fsar.datasets.base import SPLITS
    from fsar.datasets.benchmarks import BENCHMARKS, SHORT, benchmark

    rows = [("benchmark", "classes", "videos (train/val/test)", "hash", "lists")]
    for name in BENCHMARKS:
        known = benchmark(name)
        classes = "/".join(str(len(known.classes[split])) for split in SPLITS)
        videos = "/".join(f"{known.counts[split]:,}" for split in SPLITS)
        rows.append((name, classes, videos, known.fingerprint[:SHORT], _where(known)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _where(known: "Benchmark") -> str:
    """Say whether a benchmark's lists are on this machine."""
    from fsar.datasets.base import SPLITS
    from fsar.datasets.splits import is_here

    here = [split for split in SPLITS if is_here(known, split)]
    if len(here) == len(SPLITS):
        return "here"
    if known.derived:
        return "from the folders"
    return f"{', '.join(here)} here, others not fetched" if here else "not fetched"


def _show(options: Namespace) -> None:
    from fsar.datasets.benchmarks import SHORT, benchmark

    known = benchmark(options.name)
    print(f"{known.name}: {known.title}; hash {known.fingerprint}; lists: {_where(known)}")
    for split, labels in known.classes.items():
        print(f"\n{split}: {len(labels)} classes, {known.counts[split]:,} videos, hash {known.hashes[split][:SHORT]}")
        for label in labels:
            print(f"    {label} ({known.videos[label]})")
    print("\npublished in")
    for source in known.published:
        print(
            f"    {source.split}: https://github.com/{source.repository}/blob/{source.commit}/{source.path} "
            f"(lines: {source.format}; sha256 {source.sha256})"
        )


def _fetch(options: Namespace) -> None:
    from fsar.datasets.benchmarks import benchmark
    from fsar.datasets.splits import GITHUB, fetch_lists

    for known in [benchmark(name) for name in options.names]:  # report a misspelt name before fetching anything
        written = fetch_lists(known.name, options.mirror or GITHUB)
        print(f"{known.name}: {'fetched into' if written else 'already in'} {known.file('test').parent}")


def _import(options: Namespace) -> None:
    from fsar.datasets.base import SPLITS
    from fsar.datasets.benchmarks import benchmark
    from fsar.datasets.splits import import_lists, is_here

    found = import_lists(options.files)
    print(f"{found.name}: {', '.join(f'{split} ({len(e):,} videos)' for split, e in found.entries.items())}")
    if len(found.versions) > 1:
        undecided = ", ".join(split for split in SPLITS if split not in found.entries)
        print(f"{undecided} not given, so the version is open: {' or '.join(found.versions)}; import that list too")
        return
    known = benchmark(found.name)
    lacking = ", ".join(split for split in SPLITS if not is_here(known, split))
    print(f"not imported yet: {lacking}" if lacking else f"all lists are here, hash {known.fingerprint}")
