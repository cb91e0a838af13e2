"""`fsar live`: which actions begin and end, in front of a camera?"""

import json
import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from fsar.cli.options import device_option, show_examples, tell
from fsar.cli.send import MqttSender, Sender, webhook
from fsar.cli.spot import loaded, model_options, rule_of, rule_options

if TYPE_CHECKING:
    from fsar.recognizer.live import Event


def add_options(parser: ArgumentParser) -> None:
    """Add the options: recogniser, source, windows, rule, where events go."""
    parser.add_argument(
        "--source",
        required=True,
        help="number of a camera, an address (rtsp, http, tcp, udp), or a video file, which plays at its own speed",
    )
    model_options(parser)
    rule_options(parser)
    parser.add_argument(
        "--agree",
        type=int,
        default=3,
        metavar="N",
        help="answers in a row that must agree; fewer is faster, more is surer; default: 3",
    )
    parser.add_argument(
        "--stall", type=float, default=10.0, metavar="SECONDS", help="connect again after so long without a picture"
    )
    parser.add_argument("--json", action="store_true", help="print events as JSON, one per line")
    parser.add_argument("--webhook", metavar="URL", help="also post each event to this address, as JSON")
    parser.add_argument(
        "--mqtt", metavar="URL", help="also publish each event: mqtt://[NAME:PASSWORD@]HOST[:PORT]/TOPIC (or mqtts)"
    )
    device_option(parser)
    show_examples(
        parser,
        "fsar live --model mine.fsar --source 0",
        "fsar live --model mine.fsar --source rtsp://10.0.0.7/door --json --webhook http://localhost:8000/events",
        "fsar live --model mine.fsar --source street.mp4",
    )


def run(options: Namespace) -> int:
    """Print and send events until the source ends or the user stops it."""
    from fsar.video.camera import source_named

    def say(words: str) -> None:
        tell([words])

    source = source_named(options.source, options.stall)
    with ExitStack() as stack:
        senders: list[Sender] = []
        for address, sender in ((options.webhook, webhook), (options.mqtt, MqttSender)):
            if address:
                senders.append(sender(address, say))
                stack.callback(senders[-1].close)
        recognizer, contract = loaded(options)
        rule = rule_of(options, recognizer)
        recognizer.fit()
        events = stack.enter_context(closing(recognizer.events(source, contract, rule, options.agree, say)))
        try:
            for event in events:
                text = json.dumps(as_dict(event), ensure_ascii=False)
                print(text if options.json else event, flush=True)
                for each in senders:
                    each.send(text)
        except KeyboardInterrupt:
            print("fsar: stopped", file=sys.stderr)
    return 0


def as_dict(event: "Event") -> dict[str, object]:
    """An event as it is sent. The end of an action that begins is not known."""
    segment = event.segment
    return {
        "event": event.kind,
        "source": segment.video,
        "action": segment.action,
        "probability": segment.probability,
        "start": segment.start,
        "end": None if event.kind == "begin" else segment.end,
        "known": round(event.time, 3),
        "utc": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }
