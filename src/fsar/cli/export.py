"""`fsar export`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.cli.options import own_option, show_examples, telling
from fsar.files import require_recognizer


def add_options(parser: ArgumentParser) -> None:
    """Add the options: file, folder."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a recogniser that `fsar recognize --save` wrote")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to; an earlier export there is replaced")
    parser.add_argument(
        "--web", type=Path, metavar="DIR", help="folder of the npm package onnxruntime-web, for the page in the browser"
    )
    own_option(parser)
    show_examples(parser, "fsar export mine.fsar mine/", "python mine/run.py new.mp4")


def run(options: Namespace) -> int:
    """Write the folder, and list its files."""
    require_recognizer(options.model)
    from fsar.export import export
    from fsar.recognizer import Recognizer
    from fsar.video.paths import display

    with telling():
        recognizer = Recognizer.load(options.model)
        folder = export(recognizer, options.folder, web=options.web)
    for place in sorted(folder.iterdir()):
        files = [place, *place.rglob("*")]
        print(f"{display(place)}  {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
    print(f"python {display(folder / 'run.py')} VIDEO... names videos; it needs numpy, onnxruntime and av")
    if (folder / "index.html").is_file():
        print(f"python -m http.server --directory {display(folder)} serves the page at http://localhost:8000")
    elif recognizer.method.encoder().by_frame:
        print(
            "no page for the browser, since onnxruntime-web is not here: npm pack onnxruntime-web@1.20.1, unpack "
            "it, and give its folder as --web"
        )
    else:
        name = recognizer.method.name
        print(f"no page for the browser: it needs a method that encodes each frame by itself, and {name} does not")
    return 0
