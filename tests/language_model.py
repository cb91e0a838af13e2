"""A language model's server for tests: it answers well, badly, late, or not at all."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret-0123456789"


def stages(label: str) -> list[str]:
    return [f"Someone gets ready for {label}.", f"Someone is busy with {label}.", f"Someone is done with {label}."]


class Server(ThreadingHTTPServer):
    """Plays one step of its script per request, then answers well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Callable[[Handler], None]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.taken = threading.Semaphore(0)
        """Counts requests whose step has been taken from the script."""
        self.ending = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def asked(self) -> list[str]:
        """Class of every request."""
        texts = [body["messages"][0]["content"] for body in self.bodies]
        return [text.removeprefix("Given an action label ").partition(", describe three")[0] for text in texts]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append({**body, "path": self.path})
        self.server.headers.append(dict(self.headers))
        step = self.server.script.pop(0) if self.server.script else good
        self.server.taken.release()
        step(self)

    def reply(self, status: int, content: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def completion(text: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def good(handler: Handler) -> None:
    handler.reply(200, completion(json.dumps(stages(handler.server.asked[-1]))))


def says(text: str) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(200, completion(text))


def status(number: int, said: str = "", **headers: str) -> Callable[[Handler], None]:
    content = json.dumps({"error": {"message": said}}).encode() if said else b""
    return lambda handler: handler.reply(number, content, **headers)


def half(handler: Handler) -> None:
    handler.reply(200, completion(json.dumps(stages("x")))[:60], length=500)


def no_json(handler: Handler) -> None:
    handler.reply(200, b"<html>Welcome to \x1b[31mnginx</html>")


def late(handler: Handler) -> None:
    handler.server.ending.wait()


def hung_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server, stopped at the end."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:  # otherwise the process would wait for the thread at its end
        server.ending.set()
        server.shutdown()
        thread.join()
        server.server_close()
