"""The small verbs: `demo`, `world`, `probe`, `methods`, `backbones`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.names import many


def demo_options(parser: ArgumentParser) -> None:
    """Add the options: folder, episodes."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for report.html; default: demo")
    parser.add_argument("--episodes", type=int, default=2000, help="per number of the table; default: 2000")


def demo(options: Namespace) -> int:
    """Run the demo."""
    from fsar.report.demo import run_demo

    print(f"wrote {run_demo(options.out, options.episodes)}")
    return 0


def world_options(parser: ArgumentParser) -> None:
    """Add the options: folder, clips."""
    parser.add_argument("--out", type=Path, required=True, help="folder to render into")
    parser.add_argument("--clips", type=int, default=20, help="clips per class; default: 20")


def world(options: Namespace) -> int:
    """Render the world."""
    from fsar.datasets.world import render_world
    from fsar.datasets.world_actions import ACTIONS

    if options.clips < 1:
        raise ValueError(f"--clips is {options.clips}; expected at least 1")
    render_world(options.out, options.clips)
    print(f"{len(ACTIONS)} classes with {many(options.clips, 'clip')} each in {options.out}")
    return 0


def probe_options(parser: ArgumentParser) -> None:
    """Add the videos."""
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")


def probe(options: Namespace) -> int:
    """Print frames, length, size and rotation of each video."""
    from dataclasses import asdict

    from fsar.video.paths import display
    from fsar.video.reading import probe

    for video in options.videos:
        facts = ", ".join(f"{key} {_rounded(value)}" for key, value in asdict(probe(video)).items())
        print(f"{display(video)}: {facts}")
    return 0


def _rounded(value: object) -> object:
    """A duration to the millisecond."""
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def methods_options(parser: ArgumentParser) -> None:
    """Add the option: a method."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="explain this method's options")


def methods(options: Namespace) -> int:
    """List the methods, or explain one."""
    from fsar.methods import describe_method, list_methods

    print(describe_method(options.name) if options.name else list_methods())
    return 0


def backbones(options: Namespace) -> int:
    """List the backbones."""
    import fsar.backbones

    print(fsar.backbones.__doc__)
    return 0


def no_options(parser: ArgumentParser) -> None:
    """Add no options."""
