"""`fsar serve`."""

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fsar.cli.options import own_option, show_examples
from fsar.names import many


def add_options(parser: ArgumentParser) -> None:
    """Add the options: folder, address, limits."""
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="recognisers NAME.fsar, and their clips NAME/ACTION/CLIP"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; any other one needs a token")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--token-file", type=Path, help="a file with the token that requests must give; or FSAR_TOKEN")
    parser.add_argument("--backbone", default="lite0", help="of new recognisers; default: lite0")
    workers = min(4, os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=workers, help=f"decoding processes; default: {workers}")
    parser.add_argument("--places", type=int, default=32, help="requests at once; others must wait; default: 32")
    parser.add_argument("--upload-mb", type=float, default=100.0, help="largest video; default: 100")
    parser.add_argument("--video-seconds", type=float, default=300.0, help="longest video; default: 300")
    parser.add_argument("--disk-gb", type=float, default=20.0, help="largest size of DIR; default: 20")
    own_option(parser)
    show_examples(
        parser,
        "fsar serve projects/",
        "curl --data-binary @new.mp4 http://127.0.0.1:8000/v1/recognizers/gestures/predict",
    )


def run(options: Namespace) -> int:
    """Serve until a signal comes; then finish what was accepted."""
    return serve(options, with_page=False)


def serve(options: Namespace, with_page: bool) -> int:
    """Serve, with or without the page of `fsar studio`."""
    if not hasattr(os, "fork"):
        raise ValueError(
            "this system cannot fork processes, which keep broken videos away from the service; use Linux, macOS or WSL"
        )
    try:
        import uvicorn

        from fsar.service.app import build_app
        from fsar.service.house import House
        from fsar.service.http import Impatient
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed; run pip install 'fsar[service]'") from error
    from fsar.service.limits import Limits
    from fsar.service.security import Guard, require_token

    for name in ("workers", "places", "upload_mb", "video_seconds", "disk_gb"):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}; expected more than 0")
    token = _token(options.token_file)
    require_token(options.host, token)
    limits = Limits(
        upload_mb=options.upload_mb,
        video_seconds=options.video_seconds,
        places=options.places,
        disk_gb=options.disk_gb,
    )
    house = House(options.folder, limits, options.backbone, options.workers)
    app = build_app(house, Guard(options.host, token))
    if with_page:
        from fsar.studio.page import add_page

        add_page(app)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn stops at the signal and then sends it again
    config = uvicorn.Config(
        app,
        options.host,
        options.port,
        http=Impatient,
        ws="none",
        log_level="warning",
        access_log=False,
        limit_concurrency=8 * options.places,  # connections; the queue is for requests
        server_header=False,
    )
    shown = f"[{options.host}]" if ":" in options.host else options.host
    what = "open this address in a browser" if with_page else "/docs explains the requests"
    served = many(len(house.projects.names()), "recogniser")
    print(
        f"fsar: {served} of {options.folder} at http://{shown}:{options.port}/; {what}; Ctrl-C stops",
        file=sys.stderr,
        flush=True,
    )
    uvicorn.Server(config).run()
    return 0


def _token(file: Path | None) -> str | None:
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    return os.environ.get("FSAR_TOKEN") or None
