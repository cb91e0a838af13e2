"""`fsar studio`."""

import webbrowser
from argparse import ArgumentParser, Namespace
from threading import Timer

from fsar.cli import serve
from fsar.cli.options import show_examples


def add_options(parser: ArgumentParser) -> None:
    """Add the options of `fsar serve`, and whether to open a browser."""
    serve.add_options(parser)
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    show_examples(parser, "fsar studio projects/")


def run(options: Namespace) -> int:
    """Serve the page, and open it."""
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.no_browser:
        opening = Timer(2.0, webbrowser.open, [f"http://{options.host}:{options.port}/"])
        opening.daemon = True
        opening.start()
    return serve.serve(options, with_page=True)
