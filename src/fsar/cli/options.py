"""Options that several verbs have: videos, frames and checkpoints."""

import sys
import warnings
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsar.backbones import Backbone
    from fsar.datasets import VideoDataset
    from fsar.methods import Method
    from fsar.video.frame_cache import FrameCache


def data_options(parser: ArgumentParser, features: bool = True, usual: str | None = None) -> None:
    """Add the options on videos.

    Args:
        parser: gets the options.
        features: whether features made elsewhere can take their place.
        usual: what the verb takes without --data, for the help.
    """
    parser.add_argument(
        "--data",
        help="a folder of class folders; segments of long videos (segments.csv, ELAN, BORIS, Label Studio); or `world`"
        + (f"; default: {usual}" if usual else ""),
    )
    if features:
        made = "instead of videos: features by any model (npz, safetensors, parquet), or a bank of `fsar bank fill`"
        parser.add_argument("--features", type=Path, metavar="FILE", help=made)
    parser.add_argument("--benchmark", metavar="NAME", help="see `fsar splits list`; its videos are in --data")
    parser.add_argument("--lists", nargs="+", type=Path, help="split lists; their videos are in --data")
    parser.add_argument("--class-names", type=Path, help="JSON names of the classes that lists give by number")
    parser.add_argument("--skip-missing", action="store_true", help="leave out listed videos that are missing")


def own_option(parser: ArgumentParser) -> None:
    """Ask for files of one's own that may be run."""
    words = "files of your own that a recipe, checkpoint or recogniser may run"
    parser.add_argument("--own", nargs="+", type=Path, metavar="FILE.py", help=words)


def load_dataset(
    data: str | None,
    lists: Sequence[Path] | None = None,
    class_names: Path | None = None,
    skip_missing: bool = False,
    benchmark: str | None = None,
    copies: bool = True,
    features: Path | None = None,
) -> "VideoDataset":
    """Load the videos that `data_options` asks for, and tell what was ignored.

    Args:
        data: a folder, segments, or `world`.
        lists: split lists; None or none for a folder of class folders.
        class_names: JSON names of classes that lists give by number.
        skip_missing: leave out listed videos that are missing.
        benchmark: name of a registered benchmark.
        copies: keep copies of a video in its class.
        features: file of features made elsewhere, which takes the place of all others.

    Raises:
        ValueError: no such folder, list or benchmark, or options that contradict each other.
    """
    from fsar.datasets import drop_copies
    from fsar.datasets import load_dataset as load

    dataset = load(
        data,
        lists=lists,
        class_names=class_names,
        skip_missing=skip_missing,
        benchmark=benchmark,
        features=features,
    )
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


def devices_option(parser: ArgumentParser) -> None:
    """Ask where to compute, and on how many devices."""
    device_option(parser)
    words = "GPUs that share the work (copies on the CPU, without one); the result stays the same"
    parser.add_argument("--devices", type=int, default=1, metavar="N", help=words)


def share_options(parser: ArgumentParser) -> None:
    """Ask how several machines or actors divide shards.

    Args:
        parser: gets the options.
    """
    add = parser.add_argument
    add("--shard", metavar="I/N", help="do every N-th shard, from the I-th on (1/N to N/N): one of N machines")
    words = "do it with actors of Ray, here or on the cluster at this address (`auto`: that of this machine)"
    add("--ray", nargs="?", const="", metavar="ADDRESS", help=words)
    add("--actors", type=int, default=1, metavar="N", help="with --ray: how many; default: 1")
    add(
        "--gpus",
        type=float,
        default=0,
        metavar="N",
        help="with --ray: GPUs of each actor, such as 1 or 0.5; needs one here, too",
    )


def part_of(shards: int, words: str | None) -> list[int]:
    """Choose the shards of one of several machines.

    Args:
        shards: of the bank.
        words: `I/N`; None for all.

    Raises:
        ValueError: not of this form.

    Example:
        >>> part_of(5, "1/2"), part_of(5, "2/2"), part_of(2, None)
        ([0, 2, 4], [1, 3], [0, 1])
    """
    if words is None:
        return [*range(shards)]
    number, _, count = words.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--shard is {words!r}; expected I/N with I from 1 to N, such as 3/8")
    return [*range(int(number) - 1, shards, int(count))]


def error_option(parser: ArgumentParser) -> None:
    """Ask what to do at a broken video."""
    parser.add_argument(
        "--on-error", choices=["stop", "skip"], default="stop", help="at an unreadable video; default: stop"
    )


def name_option(parser: ArgumentParser) -> None:
    """Ask for the names of rows."""
    words = "name the row of the results in RUN, a folder or file"
    parser.add_argument("--name", nargs="+", default=[], metavar="RUN=LABEL", help=words)


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


def frame_cache(options: Namespace, backbone: "Backbone | None" = None, sampling: str = "tsn") -> "FrameCache":
    """The frames that `--frames` and `--sampling` ask for; by default, as many as the backbone takes, or 8."""
    from fsar.video.frame_cache import FrameCache

    usual = (backbone and backbone.clip_frames) or 8
    return FrameCache(frames=usual if options.frames is None else options.frames, sampling=options.sampling or sampling)


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
