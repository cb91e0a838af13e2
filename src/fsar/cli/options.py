"""Options that several verbs have: videos, frames and checkpoints."""

import sys
import warnings
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsar.datasets import VideoDataset
    from fsar.methods import Method
    from fsar.video.frame_cache import FrameCache


def data_options(parser: ArgumentParser, default: str | None) -> None:
    """Add the options on videos.

    Args:
        parser: gets the options.
        default: of `--data`.
    """
    parser.add_argument(
        "--data",
        default=default,
        help="a folder of class folders; segments of long videos (segments.csv, ELAN, BORIS, Label Studio); or `world`",
    )
    parser.add_argument("--benchmark", metavar="NAME", help="see `fsar splits list`; its videos are in --data")
    parser.add_argument("--lists", nargs="+", type=Path, help="split lists; their videos are in --data")
    parser.add_argument("--class-names", type=Path, help="JSON names of the classes that lists give by number")
    parser.add_argument("--skip-missing", action="store_true", help="leave out listed videos that are missing")


def load_dataset(
    data: str,
    lists: Sequence[Path] | None,
    class_names: Path | None,
    skip_missing: bool,
    benchmark: str | None = None,
    copies: bool = True,
) -> "VideoDataset":
    """Load the videos that `data_options` asks for, and tell what was ignored.

    Args:
        data: a folder, or `world`.
        lists: split lists; None or none for a folder of class folders.
        class_names: JSON names of classes that lists give by number.
        skip_missing: leave out listed videos that are missing.
        benchmark: name of a registered benchmark.
        copies: keep copies of a video in its class.

    Raises:
        ValueError: no such folder, list or benchmark, or options that contradict each other.
    """
    from fsar.datasets import drop_copies

    dataset = _load(data, lists, class_names, skip_missing, benchmark)
    if not copies:
        dataset = drop_copies(dataset)
    tell(dataset.notes)
    return dataset


def tell(notes: Iterable[str]) -> None:
    """Print what a user should know beside the answer."""
    for note in notes:
        print(f"fsar: {note}", file=sys.stderr)


def device_option(parser: ArgumentParser) -> None:
    """Ask where to compute."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def error_option(parser: ArgumentParser) -> None:
    """Ask what to do at a broken video."""
    parser.add_argument(
        "--on-error", choices=["stop", "skip"], default="stop", help="at an unreadable video; default: stop"
    )


def show_examples(parser: ArgumentParser, *lines: str) -> None:
    """Show examples of use below the help."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["examples:", *(f"  {line}" for line in lines)])


@contextmanager
def telling() -> Iterator[None]:
    """Print warnings as `tell` prints notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            tell(dict.fromkeys(str(warning.message) for warning in caught))


def _load(
    data: str, lists: Sequence[Path] | None, class_names: Path | None, skip_missing: bool, benchmark: str | None
) -> "VideoDataset":
    from fsar.datasets import load_benchmark, load_data, load_lists, load_world

    if benchmark and (lists or class_names):
        raise ValueError("--benchmark has its own lists and class names; leave --lists and --class-names out")
    if benchmark and data == "world":
        raise ValueError(f"--benchmark {benchmark} needs --data DIR, the folder of its videos")
    if benchmark:
        return load_benchmark(benchmark, Path(data), skip_missing)
    if lists:
        return load_lists(lists, Path(data), class_names, None, skip_missing)
    return load_world() if data == "world" else load_data(data)


def frame_cache(options: Namespace, sampling: str = "tsn") -> "FrameCache":
    """The frames that `--frames` and `--sampling` ask for; if not given, 8 by `sampling`."""
    from fsar.video.frame_cache import FrameCache

    return FrameCache(frames=8 if options.frames is None else options.frames, sampling=options.sampling or sampling)


def load_checkpoint(spec: str) -> tuple["Method", str]:
    """Load a trained method from `DIR[:OPTION=VALUE,...]` or `hf-hub:ORG/NAME[:OPTION=VALUE,...]`.

    Returns:
        The method, and the folder or repository.
    """
    from fsar.methods import parse_method
    from fsar.training.checkpoint import load_pretrained

    hub = "hf-hub:" if spec.startswith("hf-hub:") else ""
    folder, chosen = parse_method(spec.removeprefix("hf-hub:"))
    return load_pretrained(hub + folder, **chosen), hub + folder
