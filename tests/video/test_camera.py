"""Live sources: what can be opened, what is said if not, breaks, jumps of time, and the newest frames first."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any

import av
import numpy as np
import pytest

from fsar.video.camera import Connection, SourceError, source_named
from fsar.video.picture import Frame
from fsar.video.play import Picture, newest, play
from fsar.video.writing import write_video

BLACK = np.zeros((4, 4, 3), np.uint8)


class FakeClock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.time = 100.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, stop: Event) -> None:
        self.waits.append(round(seconds, 3))
        self.time += seconds


class Script:
    """A source that plays a script: each connection is a list of times, and perhaps an error at its end."""

    name = "script"

    def __init__(self, clock: FakeClock, *connections: list[Any], has_end: bool = False):
        self.clock, self.connections, self.has_end = clock, list(connections), has_end

    @contextmanager
    def open(self) -> Iterator[Connection]:
        if not self.connections:
            raise SourceError(self.name, "gone")
        yield Connection(self._pictures(self.connections.pop(0)), self.has_end)

    def _pictures(self, steps: list[Any]) -> Iterator[tuple[float | None, Any]]:
        for step in steps:
            if isinstance(step, str):
                raise SourceError(self.name, step)
            if not self.has_end:
                self.clock.time += 0.1
            yield step, lambda: BLACK


def taken(source: Any, clock: FakeClock, count: int, said: list[str]) -> list[Picture]:
    stop, found = Event(), []
    for picture in play(source, clock, stop, said.append):
        found.append(picture)
        if len(found) == count:
            stop.set()
    return found


def test_a_broken_stream_is_connected_again_after_longer_and_longer_pauses() -> None:
    clock, said = FakeClock(), list[str]()
    source = Script(clock, [0.0, 0.1, "no picture for 10 s"], ["refused"], ["refused"], [7.0, 7.1], [0.0])
    found = taken(source, clock, 5, said)
    assert [picture.part for picture in found] == [0, 0, 1, 1, 2]
    times = [picture.time for picture in found]
    assert times == sorted(times) and times[2] >= 1 + 2 + 4
    assert clock.waits == [1, 2, 4, 1]  # after a picture, the pauses begin anew
    assert said[0] == "script: no picture for 10 s; connecting again in 1 s"
    assert said.count("script: connected again") == 2


def test_pauses_have_a_limit_and_the_first_attempt_counts() -> None:
    clock = FakeClock()
    source = Script(clock, [0.0, "off"], *(["off"] for _ in range(9)), [0.0])
    assert len(taken(source, clock, 2, [])) == 2
    assert clock.waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
    with pytest.raises(SourceError, match="script: off"):
        taken(Script(clock, ["off"]), clock, 1, [])
    with pytest.raises(SourceError, match="before its first picture"):
        taken(Script(clock, []), clock, 1, [])


def test_a_recording_plays_at_its_own_speed_and_ends() -> None:
    clock = FakeClock()
    found = taken(Script(clock, [5.0, 5.5, 6.0], has_end=True), clock, 9, [])
    assert [picture.time for picture in found] == [0.0, 0.5, 1.0] and clock.waits == [0.5, 0.5]


def test_times_that_jump_or_lack_begin_another_part_or_follow_the_clock() -> None:
    clock = FakeClock()
    found = taken(Script(clock, [0.0, 0.1, 900.0, 900.1, 3.0]), clock, 5, [])
    assert [picture.part for picture in found] == [0, 0, 1, 1, 2]
    assert all(b.time - a.time < 0.5 for a, b in pairwise(found))
    clock = FakeClock()
    found = taken(Script(clock, [None] * 3), clock, 3, [])
    assert [(round(picture.time, 3), picture.part) for picture in found] == [(0.0, 0), (0.1, 0), (0.2, 0)]


def test_the_newest_items_win_and_errors_arrive() -> None:
    first_taken, all_read = Event(), Event()

    def items() -> Iterator[int]:
        yield 0
        first_taken.wait()
        yield from range(1, 1000)
        all_read.set()
        raise SourceError("camera", "unplugged")

    seen, stop = [], Event()
    with newest(items(), 3, stop) as box, pytest.raises(SourceError, match="unplugged"):
        for item in box:
            first_taken.set()
            all_read.wait()  # this reader is slow
            seen.append(item)
    assert seen == [0, 997, 998, 999] and box.dropped == 1000 - len(seen) and stop.is_set()


# ----------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (997, "camera 997: there is no such camera; found: "),
        ("/dev/video998", "camera 998: there is no such camera"),
        ("missing.mp4", "missing.mp4: no such file"),
        (".", "it is a folder"),
        ("tcp://127.0.0.1:9", "nothing answers there"),
        ("rtsp://me:secret@127.0.0.1:9/door", "^rtsp://127.0.0.1:9/door: nothing answers"),
    ],
)
@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="cameras are named as on Linux")
def test_what_cannot_be_opened_is_said_in_words(name: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        taken(source_named(name), FakeClock(), 1, [])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (av.error.OSError(errno.EBUSY, "Device or resource busy"), "another program uses it"),
        (av.error.OSError(errno.EIO, "Input/output error"), "it sends no video, or broke off"),
        (av.error.PermissionError(errno.EACCES, "Permission denied"), "group `video`"),
        (av.error.HTTPUnauthorizedError(1, "Unauthorized"), "NAME:PASSWORD@HOST"),
        (av.error.ExitError(2, "Immediate exit requested"), "no picture for 3 s"),
    ],
)
def test_errors_of_ffmpeg_are_said_in_words(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def refuse(*given: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("fsar.video.camera.av.open", refuse)
    monkeypatch.setattr("fsar.video.camera.sys.platform", "linux")
    for name in ("0", "rtsp://127.0.0.1/door"):
        with pytest.raises(SourceError, match=words):
            taken(source_named(name, 3.0), FakeClock(), 1, [])


def test_other_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="begins with rtsp, rtsps, http"):
        source_named("ftp://host/a.mp4")
    with pytest.raises(ValueError, match="more than 0"):
        source_named("0", 0.0)


# ----------------------------------------------------------------------- over a network


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A transport stream of 20 frames whose size changes after 10; frame i has brightness 10 i + 20."""
    parts = []
    for i, side in enumerate((64, 96)):
        path = tmp_path_factory.mktemp("stream") / f"{i}.ts"
        with av.open(path, "w", format="mpegts") as container:
            out = container.add_stream("libx264", 10, options={"tune": "zerolatency"})
            out.width, out.height, out.pix_fmt = side, side, "yuv420p"
            for n in range(10 * i, 10 * i + 10):
                picture = av.VideoFrame.from_ndarray(np.full((side, side, 3), 10 * n + 20, np.uint8))
                picture.pts = n
                container.mux(out.encode(picture))
            container.mux(out.encode())
        parts.append(path.read_bytes())
    return b"".join(parts)


@contextmanager
def served(kind: Any, handler: Any) -> Iterator[int]:
    server = kind(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


def brightness(frame: Frame) -> int:
    return round(float(frame.mean()))


def test_a_stream_over_http_changes_its_size_stalls_and_is_told(stream: bytes) -> None:
    free = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/live" else 404)
            self.end_headers()
            if self.path == "/live":
                self.wfile.write(stream)
                self.wfile.flush()
                free.wait(20)  # stalls

        def log_message(self, *words: object) -> None:
            pass

    said: list[str] = []
    clock = FakeClock()
    with served(ThreadingHTTPServer, Handler) as port:
        found = taken(source_named(f"http://127.0.0.1:{port}/live", 1.0), clock, 21, said)
        with pytest.raises(SourceError, match="no such stream"):
            taken(source_named(f"http://127.0.0.1:{port}/other", 1.0), clock, 1, [])
    free.set()
    frames = [picture.frame() for picture in found]
    assert {frame.shape for frame in frames} == {(64, 64, 3)}
    assert {picture.part for picture in found[:15]} == {0} and found[-1].part == 1
    assert brightness(frames[15]) > brightness(frames[5]) + 50
    assert any("no picture for 1 s; connecting again in 1 s" in words for words in said)


def test_a_stream_that_never_shows_a_picture_ends_with_its_thread() -> None:
    gone = Event()

    class Handler(BaseHTTPRequestHandler):
        timeout = 20

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while self.path == "/garbage":
                    self.wfile.write(os.urandom(100_000))
                self.connection.recv(1)  # waits until the other side hangs up
            gone.set()

        def log_message(self, *words: object) -> None:
            pass

    with served(ThreadingHTTPServer, Handler) as port:
        for path, seconds, words in (("garbage", 60.0, "it sends no video"), ("silent", 1.0, "no picture for 1 s")):
            gone.clear()
            source, stop = source_named(f"http://127.0.0.1:{port}/{path}", seconds), Event()
            with pytest.raises(SourceError, match=words), newest(play(source, FakeClock(), stop), 3, stop) as box:
                next(iter(box))
            assert not [each for each in enumerate_threads() if each.name == "fsar-camera"]
            assert gone.wait(20)  # the connection is closed, not only left


def test_a_stream_by_rtsp(stream: bytes) -> None:
    """A server of the least kind: RTP in the RTSP connection."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):
                self.talk()

        def talk(self) -> None:
            while request := self.rfile.readline().decode():
                head = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(": ")
                    head[name.lower()] = value
                self.answer(request.split()[0], head["cseq"])

        def answer(self, verb: str, number: str) -> None:
            body, more = "", ""
            if verb == "DESCRIBE":
                body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:one\r\n"
                more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif verb == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\nPublic: DESCRIBE, SETUP, PLAY\r\n{more}\r\n"
            self.wfile.write((head + body).encode())
            if verb == "PLAY":
                for i in range(0, len(stream), 7 * 188):
                    part = stream[i : i + 7 * 188]
                    rtp = bytes([0x80, 33]) + (i // (7 * 188)).to_bytes(2, "big") + bytes(4) + b"fsar"
                    self.wfile.write(b"$\0" + (len(rtp) + len(part)).to_bytes(2, "big") + rtp + part)

    with served(ThreadingTCPServer, Handler) as port:
        found = taken(source_named(f"rtsp://127.0.0.1:{port}/door", 5.0), FakeClock(), 8, [])
    frames = [picture.frame() for picture in found]
    assert len(frames) == 8 and brightness(frames[7]) > brightness(frames[1])


def test_a_stream_opens_no_files(tmp_path: Path) -> None:
    """A playlist that a server sends could name a file of this machine."""
    write_video(tmp_path / "secret.mp4", [np.zeros((64, 64, 3), np.uint8)] * 5, 5.0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = {
                "/hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n",
                "/ff": f"ffconcat version 1.0\nfile '{tmp_path}/secret.mp4'\n",
            }[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words: object) -> None:
            pass

    with served(ThreadingHTTPServer, Handler) as port:
        for path in ("hls", "ff"):
            with pytest.raises(SourceError, match="list of other addresses"):
                taken(source_named(f"http://127.0.0.1:{port}/{path}", 2.0), FakeClock(), 1, [])
