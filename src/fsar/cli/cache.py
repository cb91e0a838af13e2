"""`fsar cache`: how large the cache is, and how to make it smaller."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.cli.options import show_examples
from fsar.names import many

DAY = 24 * 3600


def add_options(parser: ArgumentParser) -> None:
    """Add what may be done."""
    parser.add_argument("--older", type=float, metavar="DAYS", help="remove what nothing has used for so many days")
    parser.add_argument("--to", type=float, metavar="GB", help="remove what was used least recently, down to this size")
    parser.add_argument("--clear", action="store_true", help="remove all frames, encodings and window scores")
    show_examples(parser, "fsar cache", "fsar cache --older 30", "fsar cache --to 2")


def run(options: Namespace) -> int:
    """Remove what is asked for, then print the size of each folder."""
    from fsar import cache_limit
    from fsar.files import cache_dir

    if sum((options.older is not None, options.to is not None, options.clear)) > 1:
        raise ValueError("--older, --to and --clear exclude each other; give one of them")
    for name in ("older", "to"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < float("inf"):
            raise ValueError(f"--{name} is {value:g}; expected 0 or more")
    folder = cache_dir()
    _require_readable(folder)
    removed = None
    if options.older is not None:
        removed = cache_limit.remove_older(folder, options.older * DAY)
    elif options.to is not None:
        removed = cache_limit.make_room(folder, round(options.to * 1e9))
    elif options.clear:
        removed = cache_limit.make_room(folder, 0)
    if removed is not None:
        print(f"removed {many(removed, 'file')}; what is needed is made again")
    print("\n".join(describe_cache(folder)))
    return 0


def _require_readable(folder: Path) -> None:
    """Refuse a file, or a folder that may not be read; before the first use there is none."""
    try:
        os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        words = f"cache {folder}: {error.strerror}; expected a folder that you may read. Set FSAR_CACHE to another one"
        raise ValueError(words) from error


def describe_cache(folder: Path) -> list[str]:
    """Say how large a cache is.

    Args:
        folder: the cache folder.

    Returns:
        Lines of text: the whole beside the limit, then each folder in it.
    """
    from fsar import cache_limit

    sizes = {room.name: folder_size(room) for room in sorted(folder.glob("*")) if room.is_dir()}
    limit = cache_limit.cache_limit()
    allowed = "no limit" if limit is None else f"the limit for {', '.join(cache_limit.ROOMS)} is {limit / 1e9:g} GB"
    lines = [f"{folder}: {sum(sizes.values()) / 1e9:.2f} GB; {allowed} (FSAR_CACHE_LIMIT)"]
    return lines + [f"  {name}: {size / 1e9:.3f} GB" for name, size in sizes.items()]


def folder_size(folder: Path) -> int:
    """Add up the bytes of all files in a folder; files that vanish meanwhile count nothing.

    Args:
        folder: with its sub-folders.
    """
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:  # another process removed it
            continue
    return total
