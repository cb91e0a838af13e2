"""`fsar benchmark`: what things cost on this machine. Each kind of measurement is a verb of its own."""

import csv
import io
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.cli.options import device_option, own_option

_METHODS = "Parameters, operations, memory and seconds of methods, on random clips: no videos are needed."


def add_options(parser: ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="kind", required=True, metavar="what")
    methods = verbs.add_parser("methods", help=_METHODS, description=_METHODS, allow_abbrev=False)
    own_option(methods)
    add = methods.add_argument
    names = "default: all methods that the backbone can run"
    add("--method", nargs="+", metavar="NAME[:OPTION=VALUE,...]", help=names)
    add("--backbone", nargs="+", default=["tiny"], help="default: tiny; MODEL/random needs no weights")
    add("--way", type=int, default=5)
    add("--shot", type=int, default=1)
    add("--query", type=int, default=1, help="queries per class")
    add("--frames", type=int, default=8)
    add("--repeats", type=int, default=3, help="the median counts; default: 3")
    add("--out", type=Path, metavar="FILE.csv", help="write the table")
    device_option(methods)
    methods.set_defaults(measure=_methods)


def run(options: Namespace) -> int:
    """Measure, and print the table."""
    code: int = options.measure(options)
    return code


def _methods(options: Namespace) -> int:
    from itertools import product

    from fsar.backbones import load_backbone
    from fsar.devices import to_device
    from fsar.explain.costs import Setting, costs_rows, costs_table, measure
    from fsar.files import write_text_atomic
    from fsar.methods import METHODS, build_method, method_class, parse_method
    from fsar.progress import progress_bar

    if min(options.way, options.shot, options.query, options.frames, options.repeats) < 1:
        raise ValueError("--way, --shot, --query, --frames and --repeats must be at least 1")
    size = {"way": options.way, "shot": options.shot, "query": options.query, "frames": options.frames}
    setting = Setting(**size, repeats=options.repeats)
    chosen = list(product(options.backbone, options.method or METHODS))
    rows, refused = [], []
    for backbone, spec in progress_bar(chosen, "measure", "method", len(chosen), True):
        name, given = parse_method(spec)
        try:
            frames = {"frames": options.frames} if hasattr(method_class(name).Config, "frames") else {}
            method = build_method(name, load_backbone(backbone), **(frames | given))
        except ValueError as error:
            if options.method:
                raise
            refused.append(f"{name} cannot run on {backbone}: {error}")
            continue
        rows.append(measure(to_device(method, options.device), spec, setting))
    print(costs_table(rows))
    words = f"{options.way}-way {options.shot}-shot, {options.query} queries per class, {options.frames} frames"
    print(f"\n{words}; random clips; median of {options.repeats} runs")
    for line in refused:
        print(line)
    if options.out:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(costs_rows(rows))
        write_text_atomic(options.out, text.getvalue())
        print(f"wrote {options.out}")
    return 0
