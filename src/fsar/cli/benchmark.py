"""`fsar benchmark`: what things cost on this machine. Each kind of measurement is a verb of its own."""

import csv
import io
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.cli.options import data_options, device_option, frame_cache, load_dataset, own_option
from fsar.names import many

_METHODS = "Parameters, operations, memory and seconds of methods, on random clips: no videos are needed."
_PARAMETERS = "Numbers of parameters that the papers print, beside ours; models are built without weights."
_BANK = "Clips a second of decoding, encoding and both, and which of them a bank waits for."


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
    add("--repeats", type=int, default=3, help="the median counts; default: 3; 0 times nothing")
    groups = "what trains: own, visual, text, joined by commas; several: a row for each; default: as the method's paper"
    add("--trains", nargs="+", metavar="GROUP[,GROUP]", help=groups)
    add("--no-training", action="store_true", help="measure no training episode, which takes most of the time")
    add("--out", type=Path, metavar="FILE.csv", help="write the table")
    device_option(methods)
    methods.set_defaults(measure=_methods)
    parameters = verbs.add_parser("parameters", help=_PARAMETERS, description=_PARAMETERS, allow_abbrev=False)
    parameters.add_argument("--out", type=Path, metavar="FILE.csv", help="write the table")
    parameters.set_defaults(measure=_parameters)
    _bank_options(verbs.add_parser("bank", help=_BANK, description=_BANK, allow_abbrev=False))


def _bank_options(bank: ArgumentParser) -> None:
    data_options(bank, features=False)
    own_option(bank)
    add = bank.add_argument
    add("--method", default="protonet", metavar="NAME[:OPTION=VALUE,...]", help="its encoder; default: protonet")
    add("--backbone", default="tiny", help="default: tiny; MODEL/random needs no weights")
    add("--videos", type=int, default=64, metavar="N", help="the first N videos; default: 64")
    add("--frames", type=int, help="frames per video, T; default: a video backbone's own, or 8")
    add("--sampling", help="tsn, trx, task-adapter, ...; default: tsn")
    add("--batch", type=int, metavar="B", help="videos encoded at once; default: 1 on a CPU, 16 on a GPU")
    add("--precision", choices=["float32", "tf32", "bf16"], default="float32")
    add("--workers", type=int, metavar="N", help="threads or processes that decode; default: one per core")
    device_option(bank)
    bank.set_defaults(measure=_bank)


def run(options: Namespace) -> int:
    """Measure, and print the table."""
    code: int = options.measure(options)
    return code


def _methods(options: Namespace) -> int:
    from itertools import product

    from fsar.backbones import load_backbone
    from fsar.devices import to_device
    from fsar.explain.costs import Setting, costs_rows, costs_table, measure
    from fsar.methods import METHODS, build_method, effective_options, method_class, parse_method
    from fsar.progress import progress_bar
    from fsar.training.parameters import require_groups

    if min(options.way, options.shot, options.query, options.frames) < 1 or options.repeats < 0:
        raise ValueError("--way, --shot, --query and --frames must be at least 1, and --repeats at least 0")
    size = {"way": options.way, "shot": options.shot, "query": options.query, "frames": options.frames}
    setting = Setting(**size, repeats=options.repeats, training=not options.no_training)
    chosen = list(product(options.backbone, options.method or METHODS, options.trains or [None]))
    rows, refused = [], []
    for backbone, spec, trains in progress_bar(chosen, "measure", "method", len(chosen), True):
        name, given = parse_method(spec)
        try:
            frames = {"frames": options.frames} if hasattr(method_class(name).Config, "frames") else {}
            fitting = effective_options(name, frames | given, keep=given)
            method = build_method(name, load_backbone(backbone), **fitting)
            groups = None if trains is None else trains.split(",")
            require_groups(method, groups or (), "--trains")
        except ValueError as error:
            if options.method:
                raise
            refused.append(f"{name} cannot run on {backbone}: {error}")
            continue
        rows.append(measure(to_device(method, options.device), spec, setting, groups))
    print(costs_table(rows))
    queries = many(options.query, "query", "queries")
    words = f"{options.way}-way {options.shot}-shot, {queries} per class, {options.frames} frames"
    print(f"\n{words}; random clips; " + (f"median of {options.repeats} runs" if options.repeats else "not timed"))
    for line in refused:
        print(line)
    _write(options.out, costs_rows(rows))
    return 0


def _write(out: Path | None, rows: list[list[object]]) -> None:
    """Write a table as CSV, if a file is named."""
    from fsar.files import write_text_atomic

    if out:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text_atomic(out, text.getvalue())
        print(f"wrote {out}")


def _parameters(options: Namespace) -> int:
    from fsar.explain.parameters import count_published, counted_rows, counted_table

    rows = count_published(progress=True)
    print(counted_table(rows))
    _write(options.out, counted_rows(rows))
    return 0


def _bank(options: Namespace) -> int:
    from fsar.backbones import load_backbone
    from fsar.bank.batches import batch_size
    from fsar.bank.speed import measure
    from fsar.devices import device_name, to_device
    from fsar.methods import build_method, parse_method

    if options.videos < 1 or (options.workers is not None and options.workers < 1):
        raise ValueError("--videos and --workers must be at least 1")
    chosen = (options.data, options.lists, options.class_names, options.skip_missing, options.benchmark)
    videos = load_dataset(*chosen).videos[: options.videos]
    name, given = parse_method(options.method)
    backbone = load_backbone(options.backbone)
    method = to_device(build_method(name, backbone, **given), options.device)
    cache = frame_cache(options, backbone)
    how = {"batch": options.batch, "precision": options.precision, "workers": options.workers}
    speeds = measure(method, videos, cache.frames or 8, cache.sampling, **how)
    print("| part | clips/s |\n|---|---:|")
    print(f"| decode, in threads | {speeds.threads:,.1f} |")
    print(f"| decode, in processes | {speeds.processes:,.1f} |")
    print(f"| encode | {speeds.encode:,.1f} |")
    print(f"| both: files to bank | {speeds.both:,.1f} |")
    share = 100 * speeds.both / min(speeds.threads, speeds.encode)
    size = batch_size(options.batch, method.device, cache.frames)
    words = f"{len(videos)} videos, {cache.frames} frames, {options.backbone}, {options.precision}, batches of {size}"
    print(f"\n{words}, {device_name(method.device)}")
    print(f"{speeds.slower} is the slower part; files to bank runs at {share:.0f} % of it")
    return 0
