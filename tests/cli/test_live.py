"""`fsar live` on a file, and where its events go."""

import json
import sys
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar

import pytest

from fsar import Recognizer, cli
from fsar.backbones import Backbone
from fsar.cli.send import TRIES, MqttSender, QueuedSender, Refused, webhook
from fsar.video.writing import write_video
from tests.recognizer.conftest import moving

Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Backbone) -> Path:
    """A folder with `mine.fsar` and `short.mp4`, which shows one action."""
    folder = tmp_path_factory.mktemp("live")
    recognizer = Recognizer(tiny)
    recognizer.enroll("right", [moving(0, 48, seed) for seed in range(3)])
    recognizer.enroll("left", [moving(48, 0, seed) for seed in range(3)])
    recognizer.fit()
    recognizer.save(folder / "mine.fsar")
    write_video(folder / "short.mp4", moving(0, 48), 10.0)
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


class Receiver:
    """A web server that keeps what is posted; it first answers the given codes."""

    def __init__(self, *codes: int):
        self.got: list[Any] = []
        answers = list(codes)
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"]))
                code = answers.pop(0) if answers else 200
                if code == 200:
                    got.append(json.loads(text))
                self.send_response(code)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()


def test_events_are_printed_and_posted(here: Path, receiver: Receiver, capsys: Said) -> None:
    words = ["live", "--model", "mine.fsar", "--source", "short.mp4", "--window", "0.8", "--rate", "10"]
    assert cli.main([*words, "--json", "--webhook", receiver.url]) == 0
    said = capsys.readouterr()
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [(each["event"], each["action"], each["end"]) for each in events][-3:] == [
        ("begin", "right", None),
        ("end", "right", pytest.approx(0.8, abs=0.11)),
        ("final", "right", pytest.approx(0.8, abs=0.11)),
    ]
    assert receiver.got == events
    assert {"source", "probability", "start", "known", "utc"} < set(events[0])
    assert "windows of 0.8 s" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "997"], "there is no such camera"),
        (["--source", "missing.mp4"], "missing.mp4: no such file"),
        (["--source", "ftp://x/y"], "expected an address that begins with"),
        (["--source", "short.mp4", "--agree", "0"], "from 1 on"),
        (["--source", "short.mp4", "--stall", "0"], "more than 0"),
        (["--source", "short.mp4", "--webhook", "x"], "expected an address such as https"),
        (["--source", "short.mp4", "--mqtt", "mqtt://host"], "mqtt://NAME:PASSWORD@HOST:1883/TOPIC"),
    ],
)
def test_mistakes_are_named(here: Path, capsys: Said, words: list[str], message: str) -> None:
    assert cli.main(["live", "--model", "mine.fsar", "--window", "0.8", "--rate", "10", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_user_stops_it(here: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: Any) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("fsar.recognizer.Recognizer.events", stopped)
    assert cli.main(["live", "--model", "mine.fsar", "--window", "0.8", "--source", "0"]) == 0
    assert "fsar: stopped" in capsys.readouterr().err


# ----------------------------------------------------------------------- senders


def test_a_busy_receiver_is_asked_again_after_longer_pauses() -> None:
    receiver, said, pauses = Receiver(503, 429), list[str](), list[float]()
    sender = webhook(receiver.url, said.append)
    sender._wait = pauses.append  # type: ignore[assignment]
    sender.send('{"a": 1}')
    sender.close()
    receiver.server.shutdown()
    assert receiver.got == [{"a": 1}] and pauses == [1.0, 2.0]
    assert len(said) == 1 and "HTTP 503" in said[0]


def test_what_is_refused_or_unreachable_is_lost_and_said() -> None:
    receiver, said = Receiver(400), list[str]()
    sender = webhook(receiver.url, said.append)
    sender.send("{}")
    sender.close()
    receiver.server.shutdown()
    assert "refused an event: HTTP 400" in said[0] and said[-1].endswith("1 events were not sent")

    attempts, said = [], []

    def fail(text: str) -> None:
        attempts.append(text)
        raise OSError("no route")

    sender = QueuedSender(fail, "it", said.append, wait=lambda seconds: None)
    sender.send("x")
    sender.close()
    assert len(attempts) == TRIES and f"in {TRIES} attempts" in said[1]


def test_a_slow_receiver_never_holds_up_the_loop() -> None:
    free, begun, got, said = Event(), Event(), list[str](), list[str]()

    def slow(text: str) -> None:
        begun.set()
        free.wait(10)
        got.append(text)

    sender = QueuedSender(slow, "it", said.append, most=3)
    sender.send("0")
    assert begun.wait(10)
    for i in range(1, 8):
        sender.send(str(i))
    free.set()
    sender.close()
    assert got == ["0", "5", "6", "7"] or got == ["0", "6", "7"]  # the request to end may take a place
    assert said[0] == "it is too slow; the oldest events are dropped"


class _Client:
    """Stands in for the client of paho-mqtt."""

    made: ClassVar[list["_Client"]] = []

    def __init__(self, version: object):
        self.calls: list[tuple[Any, ...]] = []
        self.rc = 0
        self.made.append(self)

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **options: self.calls.append((name, *given))

    def publish(self, topic: str, text: str, qos: int) -> Any:
        self.calls.append(("publish", topic, text, qos))
        if self.rc == 0:
            self.on_publish(self)  # the broker received it
        return types.SimpleNamespace(rc=self.rc)


def test_mqtt(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("paho.mqtt.client")
    module.Client = _Client  # type: ignore[attr-defined]
    module.CallbackAPIVersion = types.SimpleNamespace(VERSION2=2)  # type: ignore[attr-defined]
    mqtt, paho = types.ModuleType("paho.mqtt"), types.ModuleType("paho")
    mqtt.client = module  # type: ignore[attr-defined]
    for name, each in (("paho", paho), ("paho.mqtt", mqtt), ("paho.mqtt.client", module)):
        monkeypatch.setitem(sys.modules, name, each)
    said: list[str] = []
    sender = MqttSender("mqtts://me:se%40cret@broker/home/door", said.append)
    sender.send("{}")
    client = _Client.made[-1]
    client.rc = 15  # too many wait
    sender.send("{}")
    sender.close()
    assert ("connect_async", "broker", 8883) in client.calls and ("username_pw_set", "me", "se@cret") in client.calls
    assert ("publish", "home/door", "{}", 1) in client.calls
    assert [name for name, *_ in client.calls][-2:] == ["disconnect", "loop_stop"]
    assert said == [
        "MQTT broker broker: too many events wait; new ones are dropped",
        "MQTT broker broker: 1 events were not sent",
    ]


def test_a_missing_client_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(ValueError, match=r"pip install 'fsar\[mqtt\]'"):
        MqttSender("mqtt://broker/door", print)


def test_a_refusal_is_no_reason_to_try_again() -> None:
    attempts: list[str] = []

    def refuse(text: str) -> None:
        attempts.append(text)
        raise Refused("no")

    sender = QueuedSender(refuse, "it", lambda words: None)
    sender.send("x")
    sender.close()
    assert attempts == ["x"]
