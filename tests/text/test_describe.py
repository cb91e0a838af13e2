"""Sub-actions by a language model, against a real server that answers well, badly, late, or not at all."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fsar import cli
from fsar.text.describe import (
    INSTRUCTION,
    AnswerCache,
    BadAnswer,
    TryAgain,
    checked_base_url,
    clip_tokens,
    describe,
    endpoint,
    local_model,
    parse_answer,
)
from fsar.text.prompts import parse_sub_actions, read_sub_actions

KEY = "sk-very-secret-0123456789"


def stages(label: str) -> list[str]:
    return [f"Someone gets ready for {label}.", f"Someone is busy with {label}.", f"Someone is done with {label}."]


# --------------------------------------------------------------------------- a server with a script


class Server(ThreadingHTTPServer):
    """Plays one step of its script per request, then answers well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Callable[[Handler], None]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
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
    handler.server.ending.wait(2)


def hung_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A running server; the cache is the test's own, and no key is set."""
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.ending.set()
    running.shutdown()
    thread.join()
    running.server_close()


# --------------------------------------------------------------------------- one class


def test_every_class_is_asked_for_once_as_the_paper_does(server: Server) -> None:
    corpus = describe(["Long_Jump", "ApplyEyeMakeup"], endpoint(server.url + "/", "tiny-llm", KEY))
    assert corpus == {label: tuple(stages(label)) for label in ("long jump", "apply eye makeup")}
    assert [body["path"] for body in server.bodies] == ["/v1/chat/completions"] * 2
    assert [(body["model"], body["temperature"]) for body in server.bodies] == [("tiny-llm", 0)] * 2
    (message,) = server.bodies[0]["messages"]
    assert message == {"role": "user", "content": INSTRUCTION.replace("{label}", "long jump")}
    assert message["content"].startswith("Given an action label long jump, describe three stages of the action.")
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_server_without_keys_gets_none(server: Server) -> None:
    describe(["wave"], endpoint(server.url, "m", "  "))
    assert "Authorization" not in server.headers[0]


LONG = " ".join(["extraordinarily"] * 80)
BAD: dict[str, tuple[Callable[[Handler], None], str]] = {
    "garbage": (says("I would rather not."), "no JSON list in it .it begins 'I would rather not"),
    "half a list": (says('["One.", "Two.", "Thr'), "no JSON list"),
    "two": (says('["One.", "Two."]'), "2 items in its list; expected exactly three"),
    "four": (says('["One.", "Two.", "Three.", "Four."]'), "4 items in its list"),
    "equal": (says('["One.", "Two.", "one. "]'), "two of its sentences are equal"),
    "empty": (says('["One.", " ", "Three."]'), "empty or no text"),
    "no texts": (says('[{"stage": 1}, {"stage": 2}, {"stage": 3}]'), "empty or no text"),
    "too long": (says(json.dumps(["One.", LONG, "Three."])), "'extraordinarily .* is too long.*CLIP reads 77"),
    "two lists": (says('["a", "b", "c"] or ["d", "e", "f"]'), "2 different lists"),
    "cannot be shown": (says(r'["One.", "Two\u0000.", "Three\ud800."]'), "characters that cannot be shown"),
    "nested": (says("[" * 15_000), "no JSON list"),
    "endless": (says("word " * 10_000), "it has 50000 characters"),
    "half an answer": (half, "without a whole chat completion .it begins '{.choices"),
    "no completion": (no_json, "without a whole chat completion .it begins '<html>Welcome to .31mnginx"),
    "null": (lambda handler: handler.reply(200, completion(None)), "without a whole chat completion"),
    "too many": (status(429, "slow down"), "answered 429: slow down"),
    "broken": (status(500, "out of memory"), "answered 500: out of memory"),
    "overloaded": (status(503), "answered 503: nothing"),
    "late": (late, r"gave no answer within 0\.3 s .--timeout"),
    "hung up": (hung_up, "Remote end closed|reset by peer"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_may_pass_is_asked_again_after_growing_delays(server: Server, kind: str) -> None:
    step, reason = BAD[kind]
    ask = endpoint(server.url, "m", KEY, timeout=0.3 if kind == "late" else 10)
    waited: list[float] = []
    server.script = [step] * 3
    assert describe(["wave"], ask, sleep=waited.append)["wave"] == tuple(stages("wave"))
    assert waited == [1, 2, 4] and len(server.bodies) == 4

    server.script = [step] * 2
    with pytest.raises(ValueError, match=f"no stages of 'wave' after 2 tries; the last one: .*({reason})") as raised:
        describe(["wave"], ask, retries=1, sleep=waited.append)
    assert waited == [1, 2, 4, 1] and KEY not in str(raised.value) and str(raised.value).isprintable()


def test_the_model_is_told_what_was_wrong(server: Server) -> None:
    server.script = [says('["One.", "Two."]'), status(500)]
    describe(["wave"], endpoint(server.url, "m"), sleep=lambda _: None)
    first, second, third = (body["messages"][0]["content"] for body in server.bodies)
    assert second == third == f"{first}\nAn earlier answer was of no use: there are 2 items in its list; expected " \
                              f"exactly three sentences."  # fmt: skip


def test_a_server_says_how_long_to_wait(server: Server) -> None:
    server.script = [status(429, Retry_After="7"), status(503, Retry_After="0.5"), status(429, Retry_After="soon")]
    waited: list[float] = []
    describe(["wave"], endpoint(server.url, "m"), sleep=waited.append)
    assert waited == [7, 0.5, 4]
    server.script = [status(429, Retry_After=formatdate(usegmt=True)), status(429, "no quota", Retry_After="86400")]
    with pytest.raises(ValueError, match="after 2 tries; .*429: no quota, to be asked again in 86400 s"):
        describe(["wave"], endpoint(server.url, "m"), sleep=waited.append)
    assert waited[3:] == [0]


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (400, "check --model"),
        (401, "set OPENAI_API_KEY"),
        (403, "the key may not use this model: choose another --model or another key"),
        (404, "check --model, and --base-url: the address before /chat/completions, often with /v1"),
        (405, "check --base-url and --model"),
    ],
)
def test_what_will_not_pass_is_not_asked_again(server: Server, number: int, fix: str) -> None:
    server.script = [status(number, f"Wrong key {KEY}:\n\x1b[31m" + "very " * 100)]
    with pytest.raises(ValueError, match=rf"answered {number}: Wrong key \[key\]: \[31mvery .*\.\.\.; {fix}") as raised:
        describe(["wave"], endpoint(server.url, "m", KEY))
    assert KEY not in str(raised.value) and str(raised.value).count("very") < 50 and len(server.bodies) == 1


def test_a_redirect_is_not_followed_with_the_key(server: Server) -> None:
    server.script = [status(302, Location="http://127.0.0.1:9/elsewhere")]
    with pytest.raises(ValueError, match="answered 302 and points to http://127.0.0.1:9/elsewhere; give the address"):
        endpoint(server.url, "m", KEY)("hello")
    assert len(server.bodies) == 1


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waited: list[float] = []
    ask = endpoint(f"http://127.0.0.1:{port}/v1", "m", KEY)
    with pytest.raises(ValueError, match="after 3 tries.*Connection refused; check --base-url, and that the server"):
        describe(["wave"], ask, retries=2, sleep=waited.append)
    assert waited == [1, 2]


def test_an_echo_of_the_key_is_hidden(server: Server) -> None:
    server.script = [says(f"Your key is {KEY}!")]
    with pytest.raises(ValueError, match="Your key is .key.!") as raised:
        describe(["wave"], endpoint(server.url, "m", KEY), retries=0)
    assert KEY not in str(raised.value)
    server.script = [says(json.dumps(stages("none")))]
    assert endpoint(server.url, "m", "none")("hello") == json.dumps(stages("none"))  # a word, and no secret


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "ftp://host/v1", "file:///etc/passwd", "", "http://", "http://ho st/v1", "http://host:99999999",
     "http://[::1/v1", "http://a..b/v1", "http://host/\n/v1", "http://hôst/v1"],
)  # fmt: skip
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"--base-url is '.*'; expected http\(s\)://HOST"):
        endpoint(url, "m")
    assert checked_base_url("HTTPS://[::1]:80/v1/") == "HTTPS://[::1]:80/v1"


@pytest.mark.parametrize("url", [f"http://me:{KEY}@host/v1", f"http://host/v1?key={KEY}"])
def test_an_address_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="has a user, a query or a fragment") as raised:
        endpoint(url, "m")
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY} ü"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds blanks or characters beyond ASCII") as raised:
        endpoint("http://localhost/v1", "m", key)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_other_settings_are_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="time-out is .*; expected seconds"):
        endpoint("http://localhost/v1", "m", None, timeout)
    with pytest.raises(ValueError, match="the model is 'a.nb'; expected its name"):
        endpoint("http://localhost/v1", "a\nb")
    with pytest.raises(ValueError, match="retries is -1; expected 0 or more"):
        describe(["wave"], lambda _: "", retries=-1)


def test_names_are_told_apart_by_their_words() -> None:
    with pytest.raises(ValueError, match="'Long_Jump' and 'long jump' are both read as 'long jump'; rename one"):
        describe(["Long_Jump", "wave", "long jump"], lambda _: "")
    for name in ("", "__", "a\x00b", "a\udcffb"):
        with pytest.raises(ValueError, match="has no words that can be read"):
            describe([name], lambda _: "")


def test_a_list_is_found_in_its_surroundings() -> None:
    wanted = ("One.", "Two [sic].", "Three.")
    text = '["One.", "Two\\n [sic].", "Three."]'
    for answer in (
        text,
        f"```json\n{text}\n```",
        f"Sure [see 1]: {text}. Anything else?",
        f'<think>["a", "b", "c"] perhaps?</think>{text}',
        f'{{"stages": {text}}}',
        f"{text}\nAgain: {text}",
    ):
        assert parse_answer(answer, "wave") == wanted
    with pytest.raises(BadAnswer):
        parse_answer(f"[{text}]", "wave")


def test_sentences_are_measured_with_their_class_as_clip_does() -> None:
    assert clip_tokens("wave") == 3 and clip_tokens("wave" + " !" * 10) == 13 and clip_tokens("wave " * 500) == 200
    room = 77 - clip_tokens("A video of action about wave: ")
    answer = json.dumps(["One.", "Two.", " ".join(["wave"] * room)])
    assert parse_answer(answer, "wave")
    with pytest.raises(BadAnswer, match="is too long: 79 tokens"):
        parse_answer(answer, "long long wave")


# --------------------------------------------------------------------------- many classes


def test_a_failed_run_goes_on_where_it_stopped(server: Server) -> None:
    cache = AnswerCache(server.url, "m")
    ask = endpoint(server.url, "m")
    server.script = [good, good, status(401, "expired")]
    with pytest.raises(ValueError, match="401: expired"):
        describe(["a", "b", "c", "d"], ask, cache)
    corpus = describe(["a", "b", "c", "d"], ask, cache)
    assert list(corpus) == ["a", "b", "c", "d"] and server.asked == ["a", "b", "c", "c", "d"]
    describe(["d", "a"], ask, cache, refresh=True)
    assert server.asked[5:] == ["d", "a"]
    describe(["a"], ask, AnswerCache(server.url, "other"))
    describe(["a"], ask, AnswerCache("http://elsewhere", "m"))
    describe(["a"], ask)
    assert server.asked[7:] == ["a", "a", "a"]


def test_a_spoilt_cache_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    cache, ask = AnswerCache(server.url, "m"), endpoint(server.url, "m")
    for spoilt in ("", "[]", '{"stages": ["a", "b"]}', '{"stages": "abc"}'):
        describe(["a"], ask, cache)
        (file,) = (tmp_path / "cache" / "describe").iterdir()
        file.write_text(spoilt)
        assert cache.read("a") is None
    assert server.asked == ["a"] * 4


# --------------------------------------------------------------------------- a local model


def stand_in(monkeypatch: pytest.MonkeyPatch, template: str | None, answer: str | Exception) -> list[Any]:
    """Put a module `transformers` in place that answers; returns what its pipeline is given."""
    given: list[Any] = []

    def pipeline(task: str, model: str, device: int) -> Callable[..., list[dict[str, str]]]:
        if model == "missing":
            raise OSError("missing is not a local folder\nand is not a valid model identifier")

        def generate(inputs: Any, **options: Any) -> list[dict[str, str]]:
            given.append((task, inputs, options["do_sample"], options["return_full_text"]))
            if isinstance(answer, Exception):
                raise answer
            return [{"generated_text": answer}]

        generate.tokenizer = types.SimpleNamespace(chat_template=template)  # type: ignore[attr-defined]
        return generate

    module = types.ModuleType("transformers")
    module.pipeline = pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    return given


def test_a_local_model_is_asked_by_its_chat_template(monkeypatch: pytest.MonkeyPatch) -> None:
    given = stand_in(monkeypatch, "{{ messages }}", json.dumps(stages("wave")))
    assert describe(["wave"], local_model("folder")) == {"wave": tuple(stages("wave"))}
    instruction = INSTRUCTION.replace("{label}", "wave")
    assert given == [("text-generation", [{"role": "user", "content": instruction}], False, False)]
    given = stand_in(monkeypatch, None, json.dumps(stages("wave")))
    describe(["wave"], local_model("folder"))
    assert given[0][1] == f"{instruction}\nAnswer: "


def test_a_local_model_that_is_not_there_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, None, RuntimeError("CUDA out of memory.\nTried to allocate"))
    with pytest.raises(ValueError, match="could not load 'missing': missing is not a local folder and is not a valid"):
        local_model("missing")
    with pytest.raises(
        ValueError, match="'folder' failed: CUDA out of memory. Tried to allocate; try a smaller"
    ) as raised:
        describe(["wave"], local_model("folder"))
    assert not isinstance(raised.value, TryAgain)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"needs the package transformers .*; pip install 'fsar\[describe\]'"):
        local_model("folder")


# --------------------------------------------------------------------------- the command line


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fsar(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`fsar describe` within this process, in a folder of its own: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["describe", *words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err and KEY not in said.out + said.err
        return code, said.out, said.err

    return run


def process(*words: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fsar.cli", "describe", *words]
    environment = {**os.environ, "OPENAI_API_KEY": KEY}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more)


def test_a_killed_run_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    for label in ("Long_Jump", "High_Jump", "Wave"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "1.mp4").touch()
    words = ("--data", "data", "--out", "new/mine.yaml", "--base-url", server.url, "--model", "tiny-llm")
    server.script = [good, good, late]
    first = process(*words, cwd=tmp_path)
    while len(server.bodies) < 3:
        assert first.poll() is None, first.communicate()
        server.ending.wait(0.02)
    first.send_signal(signal.SIGKILL)
    assert KEY not in "".join(first.communicate()) and not (tmp_path / "new").exists()

    second = process(*words, cwd=tmp_path)
    said, wrong = second.communicate(timeout=60)
    assert second.returncode == 0 and "Traceback" not in wrong and KEY not in said + wrong
    assert server.asked == ["high jump", "long jump", "wave", "wave"]
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    file = tmp_path / "new" / "mine.yaml"
    assert read_sub_actions(str(file)) == {label: tuple(stages(label)) for label in ("high jump", "long jump", "wave")}
    head = file.read_text().splitlines()[:2]
    assert f"written by tiny-llm ({server.url})" in head[0]
    assert "Read it and edit it: order and facts are the model's" in head[1]
    assert said.splitlines()[-1] == (
        "then: fsar evaluate --data data --method task-adapter-pp:sub_actions=new/mine.yaml"
    )
    assert "Someone is done with wave." in said
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(kept) == 3 and not any(KEY in path.read_text() for path in (*kept, file))


def test_a_failed_run_says_what_it_keeps(server: Server, fsar: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    words = ("a", "b", "c", "--out", "f.yaml", "--base-url", server.url, "--model", "m", "--retries", "0")
    server.script = [good, says(f"no, {KEY}")]
    code, said, wrong = fsar(*words)
    assert code == 2 and not said and not Path("f.yaml").exists()
    message = wrong.splitlines()[-1]
    assert message.startswith("fsar: error: no stages of 'b' after 1 try; the last one: there is no JSON list in it")
    assert message.endswith("1 of the 3 classes are described and kept; run the same command again to go on")
    assert fsar(*words)[0] == 0
    assert server.asked == ["a", "b", "b", "c"]
    server.script = [status(401, f"bad key {KEY}")]
    code, _, wrong = fsar("d", *words[3:8], "m2", "--force")
    assert code == 2 and "bad key [key]; set OPENAI_API_KEY" in wrong and "kept" not in wrong


def test_without_a_model_there_is_a_template_to_fill_in(fsar: Run) -> None:
    code, said, _ = fsar("LongJump", "wave", "--out", "mine.yaml")
    assert code == 0 and "a template, because no model was given" in said and "--base-url URL --model NAME" in said
    text = Path("mine.yaml").read_text()
    assert text.startswith("# Fill in three sentences for every class")
    with pytest.raises(
        ValueError, match=r"mine\.yaml: 'long jump' has \['', '', ''\]; expected three different sentenc"
    ):
        read_sub_actions("mine.yaml")
    for place, sentence in enumerate((*stages("long jump"), *stages("wave"))):
        assert text.count("''") == 6 - place
        text = text.replace("''", sentence, 1)
    assert parse_sub_actions(text, "mine.yaml") == {
        "long jump": tuple(stages("long jump")),
        "wave": tuple(stages("wave")),
    }


def test_an_existing_file_is_refused_replaced_or_extended(server: Server, fsar: Run) -> None:
    model = ("--base-url", server.url, "--model", "m")
    own = "# Mine.\nversion: 1\nclasses:\n  Wave: [Up., To and fro., Down.]\n  clap: ['', '', '']\n"
    file = Path("mine.yaml")
    file.write_text(own)
    code, _, wrong = fsar("wave", "clap", "bow", "--out", "mine.yaml", *model)
    assert code == 2 and "mine.yaml exists; add --extend" in wrong and "--force" in wrong
    assert file.read_text() == own and not server.bodies

    code, said, _ = fsar("wave", "clap", "bow", "--out", "mine.yaml", *model, "--extend")
    assert code == 0 and "2 new classes" in said and server.asked == ["clap", "bow"]
    assert list(read_sub_actions("mine.yaml").items()) == [
        ("wave", ("Up.", "To and fro.", "Down.")),
        ("clap", tuple(stages("clap"))),
        ("bow", tuple(stages("bow"))),
    ]
    head = file.read_text().splitlines()[:3]
    assert head[0] == "# Mine." and f"written by m ({server.url})" in head[1]

    before = file.read_text()
    assert "nothing to describe: mine.yaml has all" in fsar("bow", "--out", "mine.yaml", *model, "--extend")[1]
    assert file.read_text() == before
    assert fsar("hop", "--out", "mine.yaml", *model, "--extend")[0] == 0
    assert file.read_text().count("written by") == 1 and list(read_sub_actions("mine.yaml"))[-1] == "hop"
    assert fsar("hop", "--out", "mine.yaml", *model, "--force")[0] == 0
    assert list(read_sub_actions("mine.yaml")) == ["hop"] and "Mine." not in file.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [("[", "not YAML"), (b"\xff", "not YAML"), ("a: b", "not a corpus"), ("version: 2\nclasses: {}\n", "version is 2"),
     ("version: 1\nclasses: {a: [b, '', c]}", "'a' has")],
)  # fmt: skip
def test_what_is_no_corpus_is_not_extended(fsar: Run, text: str | bytes, message: str) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    Path("f.yaml").write_bytes(content)
    code, _, wrong = fsar("wave", "--out", "f.yaml", "--extend")
    assert code == 2 and f"f.yaml: {message}" in wrong and Path("f.yaml").read_bytes() == content


SERVED = ("--base-url", "http://localhost:9/v1", "--model", "m")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "f.yaml"), "give either the names of classes, or --data"),
        (("wave", "--data", "d", "--out", "f.yaml"), "give either the names of classes, or --data"),
        (("--data", "nowhere", "--out", "f.yaml"), "nowhere: no such folder"),
        (("wave", "--out", "hmdb51"), "expected a name that ends in .yaml"),
        (("wave", "--out", "folder.yaml", "--force"), "folder.yaml is a folder"),
        (("Wave", "wave", "--out", "f.yaml"), "'Wave' and 'wave' are both read as 'wave'"),
        (("wave", "--out", "f.yaml", "--force", "--extend"), "give one of them"),
        (("wave", "--out", "f.yaml", "--local", "x", *SERVED), "give one of them"),
        (("wave", "--out", "f.yaml", *SERVED[:2]), "--base-url needs --model NAME"),
        (("wave", "--out", "f.yaml", "--model", "m"), "--model has no effect without --base-url"),
        (("wave", "--out", "f.yaml", "--local", "x", "--timeout", "3"), "--timeout has no effect without --base-url"),
        (("wave", "--out", "f.yaml", "--refresh"), "--refresh has no effect without --base-url URL or --local"),
        (("wave", "--out", "f.yaml", "--skip-missing"), "--skip-missing has no effect without --lists"),
        (("wave", "--out", "f.yaml", *SERVED, "--retries", "-1"), "retries is -1"),
        (("wave", "--out", "f.yaml", "--base-url", "file:///etc/passwd", "--model", "m"), "expected http(s)://HOST"),
        (("wave", "--out", "f.yaml", "--base-urls", "x"), "did you mean '--base-url'"),
    ],
)
def test_mistakes_are_named(fsar: Run, words: tuple[str, ...], message: str) -> None:
    Path("folder.yaml").mkdir()
    code, said, wrong = fsar(*words)
    assert code == 2 and not said and message in wrong and not Path("f.yaml").exists()


def test_two_folders_with_the_same_words_are_named(fsar: Run) -> None:
    for label in ("Long_Jump", "LongJump"):
        Path("data", label).mkdir(parents=True)
        Path("data", label, "1.mp4").touch()
    code, _, wrong = fsar("--data", "data", "--out", "f.yaml")
    assert code == 2 and "the classes 'LongJump' and 'Long_Jump' are both read as 'long jump'" in wrong
