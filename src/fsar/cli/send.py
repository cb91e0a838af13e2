"""Events of `fsar live` go to a web address or an MQTT broker, without holding up the recogniser.

A thread sends. Events wait in a queue of limited length; if it is full, the oldest one is dropped. An event that cannot
be sent is tried again, each time after twice the pause. What is lost is said.
"""

import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Condition, Event, Thread
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

MOST_WAITING = 100
"""Events in the queue."""
TRIES = 6
"""Attempts for one event; the pauses between them are 1, 2, 4, 8 and 16 s."""
_SECONDS = 10.0  # for one attempt
_AT_THE_END = 5.0  # seconds for what is left when the program ends

_SENT, _WAITS = 0, 4  # MQTT_ERR_SUCCESS; MQTT_ERR_NO_CONN: the client sends it when it is connected

Tell = Callable[[str], None]
Wait = Callable[[float], object]


class Sender(Protocol):
    """Where events go."""

    def send(self, text: str) -> None:
        """Take an event, at once."""

    def close(self) -> None:
        """Send what is left, for some seconds."""


class Refused(Exception):
    """The receiver does not want an event, so trying again is of no use."""


class QueuedSender:
    """Sends in a thread, again and again.

    Args:
        deliver: sends one event; raises `Refused`, or an OSError if another attempt may succeed.
        name: of the receiver, for messages.
        tell: is told what is lost.
        wait: waits some seconds; by default until then or until `close`.
        most: events that may wait.

    Example:
        >>> sender = QueuedSender(print, "the screen", print)
        >>> sender.send("an event")
        >>> sender.close()
        an event
    """

    def __init__(
        self,
        deliver: Callable[[str], object],
        name: str,
        tell: Tell,
        wait: Wait | None = None,
        most: int = MOST_WAITING,
    ):
        self._deliver, self._name, self._tell = deliver, name, tell
        self._closing = Event()
        self._wait = wait or self._closing.wait
        self._queue: Queue[str | None] = Queue(most)
        self._lost = 0
        self._thread = Thread(target=self._run, name="fsar-send", daemon=True)
        self._thread.start()

    def send(self, text: str) -> None:
        """Take an event, at once; drop the oldest one if too many wait."""
        self._put(text)

    def _put(self, text: str | None) -> None:
        while True:
            try:
                return self._queue.put_nowait(text)
            except Full:
                with suppress(Empty):
                    self._queue.get_nowait()
                    self._lost += 1
                    if self._lost == 1:
                        self._tell(f"{self._name} is too slow; the oldest events are dropped")

    def close(self) -> None:
        """Send what is left, for some seconds; tell what could not be sent."""
        self._put(None)
        self._thread.join(_AT_THE_END)
        self._closing.set()
        left = self._queue.qsize() if self._thread.is_alive() else 0
        if self._lost + left:
            self._tell(f"{self._name}: {self._lost + left} events were not sent")

    def _run(self) -> None:
        while (text := self._queue.get()) is not None:
            self._try(text)

    def _try(self, text: str) -> None:
        pause = 1.0
        for attempt in range(1, TRIES + 1):
            try:
                self._deliver(text)
                return
            except Refused as error:
                self._tell(f"{self._name} refused an event: {error}")
                break
            except OSError as error:
                reason = getattr(error, "reason", None) or error
                if attempt == 1:
                    self._tell(f"{self._name}: {reason}; trying again")
                if attempt < TRIES and not self._closing.is_set():
                    self._wait(pause)
                    pause *= 2
        else:
            self._tell(f"{self._name}: an event could not be sent in {TRIES} attempts, and is lost")
        self._lost += 1


def webhook(address: str, tell: Tell) -> QueuedSender:
    """Post events to a web address, as JSON.

    Args:
        address: http://... or https://...
        tell: is told what is lost.

    Raises:
        ValueError: another kind of address.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--webhook is {address!r}; expected an address such as https://example.org/events")

    def post(text: str) -> None:
        head = {"Content-Type": "application/json", "User-Agent": "fsar"}
        request = urllib.request.Request(address, text.encode(), head, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS):
                pass
        except urllib.error.HTTPError as error:
            with error:
                if error.code < 500 and error.code not in (408, 429):  # too slow, too many
                    raise Refused(f"HTTP {error.code} {error.reason}") from error
            raise OSError(f"HTTP {error.code} {error.reason}") from error

    return QueuedSender(post, f"webhook {parts.hostname}", tell)


class MqttSender:
    """Publishes events to an MQTT broker; the client of paho-mqtt connects again and repeats what was not received.

    Args:
        address: mqtt://[NAME:PASSWORD@]HOST[:PORT]/TOPIC, or mqtts:// with TLS.
        tell: is told what is lost.

    Raises:
        ValueError: another kind of address, or paho-mqtt is not installed.
    """

    def __init__(self, address: str, tell: Tell):
        parts = urlsplit(address)
        self._topic = unquote(parts.path.strip("/"))
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not self._topic:
            raise ValueError("--mqtt expects an address such as mqtt://NAME:PASSWORD@HOST:1883/TOPIC")
        try:
            from paho.mqtt import client as mqtt
        except ImportError as error:
            raise ValueError("--mqtt needs paho-mqtt, which is not installed: pip install 'fsar[mqtt]'") from error
        self._name, self._tell, self._lost = f"MQTT broker {parts.hostname}", tell, 0
        self._known, self._received = Condition(), 0  # what the broker has received
        self._sent = 0
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(MOST_WAITING)
        self._client.reconnect_delay_set(1, 30)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_connect_fail = lambda *words: tell(f"{self._name} does not answer; trying again")
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.connect_async(parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883))
        self._client.loop_start()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._tell(f"{self._name} refuses the connection: {reason}")

    def _on_publish(self, *words: Any) -> None:
        with self._known:
            self._received += 1
            self._known.notify()

    def send(self, text: str) -> None:
        """Take an event, at once; drop it if too many wait."""
        if int(self._client.publish(self._topic, text, qos=1).rc) in (_SENT, _WAITS):
            self._sent += 1
            return
        self._lost += 1
        if self._lost == 1:
            self._tell(f"{self._name}: too many events wait; new ones are dropped")

    def close(self) -> None:
        """Send what is left, for some seconds."""
        with self._known:
            self._known.wait_for(lambda: self._received >= self._sent, _AT_THE_END)
            lost = self._lost + self._sent - self._received
        if lost:
            self._tell(f"{self._name}: {lost} events were not sent")
        self._client.disconnect()
        self._client.loop_stop()
