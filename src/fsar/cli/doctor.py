"""`fsar doctor`: what this machine has, what is missing, and how to get it."""

import os
import platform
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from packaging.requirements import Requirement

READ = {"h264": "H.264", "hevc": "H.265", "vp9": "VP9", "av1": "AV1", "mpeg4": "MPEG-4", "mjpeg": "MJPEG"}
"""Decoders that most videos need; FFmpeg's names."""
NOT_FOR_USERS = ("dev", "docs")


class Finding(NamedTuple):
    """What a check found."""

    subject: str
    words: str
    works: bool = True


def add_options(parser: ArgumentParser) -> None:
    """Add no options."""


def run(options: Namespace) -> int:
    """Print all findings; the exit code is 1 if something that is needed does not work."""
    findings = [finding for check in CHECKS for finding in _found(check)]
    for subject, words, works in findings:
        print(f"{'' if works else 'PROBLEM '}{subject}: {words}")
    problems = sum(not finding.works for finding in findings)
    print(f"{problems} problems" if problems else "everything that is needed works")
    return 1 if problems else 0


def _found(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; that it fails in any way is a finding, too: two builds that do not fit, say."""
    findings = []
    try:
        for finding in check():
            findings.append(finding)
    except Exception as error:
        name = check.__name__.strip("_")
        findings.append(Finding(name, f"{type(error).__name__}: {error}; install it again", works=False))
    return findings


def _system() -> Iterator[Finding]:
    yield Finding("system", f"{platform.platform()}, Python {platform.python_version()} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    """Compare what `pyproject.toml` asks for with what is installed: the core, then each extra."""
    from packaging.requirements import Requirement

    try:
        wanted, own = [Requirement(line) for line in requires("fsar") or ()], version("fsar")
    except PackageNotFoundError:
        yield Finding("fsar", "not installed as a package; run pip install fsar", works=False)
        return
    core = [words for one in wanted if _applies(one, "") for words in _missing(one)]
    words = "; ".join(core) + "; run pip install --upgrade fsar" if core else "all packages it needs are there"
    yield Finding(f"fsar {own}", words, works=not core)
    for extra in metadata("fsar").get_all("Provides-Extra") or ():
        if extra not in NOT_FOR_USERS:
            parts = _parts(extra, wanted)
            missing = [words for one in parts for words in _missing(one)]
            yield Finding(
                f"extra {extra}", f"{'; '.join(missing)}; pip install 'fsar[{extra}]'" if missing else "there"
            )


def _applies(requirement: "Requirement", extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _parts(extra: str, wanted: Sequence["Requirement"]) -> list["Requirement"]:
    """List what an extra adds to the core; an extra may name others as `fsar[...]`."""
    own = [one for one in wanted if not _applies(one, "") and _applies(one, extra)]
    others = [part for one in own if one.name == "fsar" for inner in one.extras for part in _parts(inner, wanted)]
    return [one for one in own if one.name != "fsar"] + others


def _missing(requirement: "Requirement") -> list[str]:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return [f"{requirement.name} is missing"]
    good = requirement.specifier.contains(found, prereleases=True)
    return [] if good else [f"{requirement.name} is {found}, and {requirement.specifier} is needed"]


def _devices() -> Iterator[Finding]:
    import torch

    from fsar.devices import device_name

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpu = ", ".join(device_name(torch.device("cuda", i)) for i in range(count)) or "no GPU that torch can use"
    yield Finding("devices", f"{os.cpu_count()} processors, {torch.get_num_threads()} threads of torch; {gpu}")


def _codecs() -> Iterator[Finding]:
    """Write a small video and read it again; look for the usual decoders."""
    import av
    import numpy as np

    from fsar.video.reading import read_frames
    from fsar.video.writing import write_video

    missing = [name for codec, name in READ.items() if codec not in av.codecs_available]
    reads = ", ".join(name for name in READ.values() if name not in missing)
    yield Finding("reads", reads, works="H.264" not in missing)
    if missing:
        yield Finding("does not read", f"{', '.join(missing)}; videos of this kind must be converted first")
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "test.mp4"
            write_video(path, np.zeros((4, 64, 64, 3), np.uint8), fps=8.0)
            count = len(read_frames(path, None))
        yield Finding("video", "written and read", works=count == 4)
    except (OSError, ValueError) as error:
        yield Finding("video", str(error), works=False)


def _encoder() -> Iterator[Finding]:
    """Encode a clip with the encoder that comes with the package."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:  # its operators do not load
        words = f"{error}; torch and torchvision are of two builds: install both from one index"
        yield Finding("torchvision", words, works=False)
        return
    from fsar.backbones import load_backbone

    tiny = load_backbone("tiny")
    features = tiny.features(torch.zeros(1, 2, 3, tiny.image_size, tiny.image_size))
    yield Finding("encoder", "tiny encodes a clip", works=bool(features.isfinite().all()))


def _cache() -> Iterator[Finding]:
    from fsar.cli.cache import describe_cache
    from fsar.files import cache_dir, write_text_atomic

    try:
        folder = cache_dir()
        file = folder / ".doctor"
        write_text_atomic(file, "")
        file.unlink()
        yield Finding("cache", describe_cache(folder)[0])
    except ValueError as error:  # of a setting
        yield Finding("cache", str(error), works=False)
    except OSError as error:
        yield Finding("cache", f"{error} Set FSAR_CACHE to a folder that you may write", works=False)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_system, _packages, _devices, _codecs, _encoder, _cache)
