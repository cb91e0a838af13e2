"""`fsar test`, `fsar check-examples`, `fsar model`: test a recogniser, check its examples, show its content."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.given import NO_FOLDER, load_recognizer, require_path
from fsar.cli.options import device_option, error_option, show_examples, tell, telling
from fsar.files import require_recognizer
from fsar.names import many

if TYPE_CHECKING:
    from fsar.recognizer.examples import Example


def test_options(parser: ArgumentParser) -> None:
    """Add the options: file, labelled videos, form."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a recogniser that `fsar recognize --save` wrote")
    parser.add_argument(
        "videos",
        type=Path,
        metavar="LABELLED",
        help="folder with one folder of clips per action, and a folder `unknown` for clips of other actions",
    )
    parser.add_argument("--format", choices=["table", "json"], default="table", help="default: table")
    error_option(parser)
    device_option(parser)
    show_examples(parser, "fsar test mine.fsar tests/", "fsar test mine.fsar tests/ --format json > score.json")


def test(options: Namespace) -> int:
    """Predict labelled videos, and count the correct answers."""
    from fsar.datasets import load_data

    require_path(options.videos, NO_FOLDER)
    recognizer = load_recognizer(options)
    videos = load_data(options.videos, groups=True)
    tell(videos.notes)
    score = recognizer.score(videos, return_errors=options.on_error == "skip", progress=True)
    print(json.dumps(score.to_dict()) if options.format == "json" else score)
    return 1 if score.errors else 0


def check_options(parser: ArgumentParser) -> None:
    """Add the options: examples, backbone."""
    parser.add_argument(
        "examples",
        type=Path,
        metavar="DIR",
        help="folder with one folder of clips per action (ACTION/CLIP or ACTION/PERSON/CLIP), or a file of segments",
    )
    parser.add_argument("--backbone", default="lite0", help="default: lite0")
    device_option(parser)
    show_examples(parser, "fsar check-examples my_actions/")


def check(options: Namespace) -> int:
    """Find harmful and useless examples, and say what would help most."""
    require_path(options.examples, NO_FOLDER)
    from fsar.devices import to_device
    from fsar.recognizer import Recognizer
    from fsar.recognizer.review import review_folder

    recognizer = Recognizer(options.backbone)
    to_device(recognizer.method, options.device)
    with telling():
        print(review_folder(recognizer, options.examples, progress=True))
    return 0


def model_options(parser: ArgumentParser) -> None:
    """Add the file."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a recogniser that `fsar recognize --save` wrote")
    parser.add_argument("--clips", action="store_true", help="name every example and background clip")
    show_examples(parser, "fsar model mine.fsar", "fsar model mine.fsar --clips")


def model(options: Namespace) -> int:
    """Show the content of a recogniser's file; this does not need the backbone."""
    require_recognizer(options.model)
    from fsar.recognizer.files import read_file
    from fsar.video.paths import display

    contents = read_file(options.model)
    frames = "all" if contents.frames is None else contents.frames
    size = options.model.stat().st_size / 1e6
    trained = ", trained" if contents.trained else ""
    made_with = f"{contents.method}{trained} on {contents.backbone}, {frames} frames per clip"
    print(f"{display(options.model)}: {size:.1f} MB, {made_with}")
    width = max((len(name) for name in contents.actions), default=0)

    def shown(examples: Iterable["Example"]) -> None:
        for example in examples if options.clips else ():
            print(f"{'':{width}}    {display(Path(example.video))}")

    for name, action in contents.actions.items():
        groups = {example.group for example in action.examples} - {None}
        known = f", {many(len(groups), 'group')} (persons or recordings)" if groups else ""
        count = len(action.examples)
        print(f"{name:{width}}  {many(count, 'example')}{known}")
        shown(action.examples)
    if contents.background:
        print(f"{many(len(contents.background), 'background clip')}, which show none of the actions")
        shown(contents.background)
    print(contents.fit or "not fitted yet: the first answer fits it")
    return 0
