"""Look at the paths that a user gave before anything heavy is imported: a wrong one should not cost seconds."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.files import require_recognizer

if TYPE_CHECKING:
    from fsar.recognizer import Recognizer

NO_FOLDER = "no such folder; expected one folder of clips per action in it"


def require_path(path: Path, words: str = "no such file or folder; check the path") -> None:
    """Refuse a path that is not there, or a URL.

    Args:
        path: of a video, a folder, or a file of segments with its option.
        words: the reason, and the fix.

    Raises:
        ValueError: nothing is there.
    """
    from fsar.datasets.segments import split_options
    from fsar.video.paths import display

    if not split_options(path)[0].exists():
        raise ValueError(f"{display(path)}: {words}")


def require_given(options: Namespace) -> None:
    """Refuse a recogniser that is not there, and videos unless broken ones are to be skipped."""
    require_recognizer(options.model)
    for path in options.videos if options.on_error == "stop" else ():
        require_path(path)


def load_recognizer(options: Namespace) -> "Recognizer":
    """Load the recogniser in `options.model` to `options.device`."""
    require_recognizer(options.model)
    from fsar.devices import to_device
    from fsar.recognizer import Recognizer

    recognizer = Recognizer.load(options.model)
    to_device(recognizer.method, options.device)
    return recognizer
