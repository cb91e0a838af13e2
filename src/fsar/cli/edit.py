"""`fsar enroll`, `fsar forget`, `fsar correct`: change a recogniser's file.

A change is written whole or not at all. If two processes change one file, they take turns.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.given import NO_FOLDER, require_path
from fsar.cli.options import device_option, error_option, show_examples, telling
from fsar.files import require_recognizer
from fsar.names import many, nearest

if TYPE_CHECKING:
    from fsar.recognizer import Recognizer


def enroll_options(parser: ArgumentParser) -> None:
    """Add the options: file, examples."""
    _model(parser)
    parser.add_argument(
        "--examples",
        type=Path,
        required=True,
        help="folder with one folder of clips per action (ACTION/CLIP or ACTION/PERSON/CLIP), and a folder "
        "`background` or `unknown` for clips that show none of them; or a file of segments",
    )
    error_option(parser)
    device_option(parser)
    show_examples(parser, "fsar enroll mine.fsar --examples more_actions/")


def enroll(options: Namespace) -> int:
    """Add examples of known and new actions."""
    require_recognizer(options.model)
    require_path(options.examples, NO_FOLDER)
    from fsar.devices import to_device
    from fsar.recognizer import Recognizer

    with telling(), Recognizer.edit(options.model) as recognizer:
        to_device(recognizer.method, options.device)
        before, clips = recognizer.actions, len(recognizer.background)
        folders = add_examples(recognizer, options)
        for name, count in recognizer.actions.items():
            if count != before.get(name, 0):
                known = f"now {many(count, 'example')}" if name in before else "a new action"
                print(f"{name}: {count - before.get(name, 0)} added, {known}")
        added = len(recognizer.background) - clips
        if added:
            print(f"background: {added} added, now {known_clips(recognizer, folders)}")
        if recognizer.actions == before and not added:
            print("nothing added: these examples were enrolled already")
        _settle(recognizer)
    return 0


def add_examples(recognizer: "Recognizer", options: Namespace) -> list[str]:
    """Enrol the folder in `options.examples`, and tell what was left out.

    Returns:
        Names of the folders whose clips became background, if the examples lie in folders.
    """
    from fsar.cli.options import tell
    from fsar.datasets import drop_copies, load_data
    from fsar.recognizer.answer import UNKNOWN
    from fsar.recognizer.background import BACKGROUND

    examples = drop_copies(load_data(options.examples, groups=True))
    tell(examples.notes)
    errors = recognizer.enroll_folder(examples, return_errors=options.on_error == "skip", progress=True)
    tell(f"example left out: {error}" for error in errors)
    labels = {video.label for video in examples.videos} if options.examples.is_dir() else set()
    return sorted(labels & {UNKNOWN, BACKGROUND})


def known_actions(recognizer: "Recognizer", folders: Sequence[str] = ()) -> str:
    """Count the actions and, if there are any, the background clips.

    Args:
        recognizer: with examples.
        folders: that the background clips came from, if that is known.
    """
    actions = many(len(recognizer.actions), "action")
    return f"{actions} and {known_clips(recognizer, folders)}" if recognizer.background else actions


def known_clips(recognizer: "Recognizer", folders: Sequence[str]) -> str:
    """Count the background clips, and name the folders that they came from."""
    called = " and ".join(f"{name}/" for name in folders)
    place = f" ({'folder' if len(folders) == 1 else 'folders'} {called})" if folders else ""
    return many(len(recognizer.background), "background clip") + place


def forget_options(parser: ArgumentParser) -> None:
    """Add the options: file, action, clip."""
    _model(parser)
    parser.add_argument("action", metavar="ACTION")
    parser.add_argument(
        "clip", metavar="CLIP", nargs="?", help="name of one example, or the end of its path; without it, the action"
    )
    show_examples(parser, "fsar forget mine.fsar wave wave2.mp4    # one example", "fsar forget mine.fsar wave")


def forget(options: Namespace) -> int:
    """Remove an action, or one of its examples."""
    require_recognizer(options.model)
    from fsar.recognizer import Recognizer

    with telling(), Recognizer.edit(options.model) as recognizer:
        recognizer.remove(options.action, options.clip)
        left = _left(recognizer, options.action)
        print(f"{options.action}: {many(left, 'example') + ' left' if left else 'forgotten, with all its examples'}")
        _settle(recognizer)
    return 0


def _left(recognizer: "Recognizer", action: str) -> int:
    """Count the examples of an action, or those of the background."""
    from fsar.recognizer.background import BACKGROUND

    return len(recognizer.background) if action == BACKGROUND else recognizer.actions.get(action, 0)


def correct_options(parser: ArgumentParser) -> None:
    """Add the options: file, clip, action."""
    _model(parser)
    parser.add_argument("clip", metavar="CLIP", help="a video, or the name of an example")
    parser.add_argument("action", metavar="ACTION", help="what it shows")
    show_examples(
        parser,
        "fsar correct mine.fsar new.mp4 wave      # the answer for new.mp4 was wrong: it shows wave",
        "fsar correct mine.fsar clap2.mp4 wave    # clap2.mp4 was enrolled as an example of clap",
    )


def correct(options: Namespace) -> int:
    """Correct a clip: it becomes an example of the given action only."""
    require_recognizer(options.model)
    from fsar.recognizer import Recognizer
    from fsar.video.paths import display

    with telling(), Recognizer.edit(options.model) as recognizer:
        known = list(recognizer.actions)
        before = recognizer.correct(options.clip, options.action)
        clip, action = display(Path(options.clip)), display(Path(options.action))
        if before == options.action:
            print(f"{clip} is an example of {action} already")
        else:
            print(f"{clip} is now an example of {action}" + (f", no longer of {before}" if before else ""))
        if before and not _left(recognizer, before):
            print(f"{before} has no example left and is gone")
        if options.action not in known:
            near = nearest(options.action, known)
            meant = f"; if you meant {near!r}: fsar correct {options.model} {options.clip} {near}" if near else ""
            print(f"{action} is a new action{meant}")
        _settle(recognizer)
    return 0


def _model(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a recogniser that `fsar recognize --save` wrote")


def _settle(recognizer: "Recognizer") -> None:
    """Fit before the file is saved, so that the next answer is fast; print the expected quality."""
    counts = recognizer.actions
    if len(counts) > 1 or max(counts.values(), default=0) > 1:
        print(recognizer.fit())
    else:
        print(f"enrolled now: {', '.join(counts) or 'no action'}; enrol more before it can answer")
