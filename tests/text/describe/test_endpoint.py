"""Sub-actions by a language model, against a real server that answers well, badly, late, or not at all."""

import json
from collections.abc import Callable
from email.utils import formatdate

import pytest

from fsar.text.describe import INSTRUCTION, checked_base_url, describe, endpoint
from tests.language_model import KEY, Handler, Server, completion, half, hung_up, late, no_json, says, stages, status
from tests.processes import free_port


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
    "garbage": (says("I would rather not."), "no JSON list .it begins 'I would rather not"),
    "half a list": (says('["One.", "Two.", "Thr'), "no JSON list"),
    "two": (says('["One.", "Two."]'), "the list has 2 items; expected exactly three"),
    "four": (says('["One.", "Two.", "Three.", "Four."]'), "the list has 4 items"),
    "equal": (says('["One.", "Two.", "one. "]'), "two sentences are equal"),
    "empty": (says('["One.", " ", "Three."]'), "empty or not a text"),
    "no texts": (says('[{"stage": 1}, {"stage": 2}, {"stage": 3}]'), "empty or not a text"),
    "too long": (says(json.dumps(["One.", LONG, "Three."])), "'extraordinarily .* is too long.*CLIP reads 77"),
    "two lists": (says('["a", "b", "c"] or ["d", "e", "f"]'), "2 different lists"),
    "cannot be shown": (says(r'["One.", "Two\u0000.", "Three\ud800."]'), "characters that cannot be shown"),
    "nested": (says("[" * 15_000), "no JSON list"),
    "endless": (says("word " * 10_000), "the answer has 50000 characters"),
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
    patient, hasty = endpoint(server.url, "m", KEY), endpoint(server.url, "m", KEY, timeout=0.3)

    def ask(prompt: str) -> str:
        """Ask hastily only while the server will be late: a busy machine may take its time for anything else."""
        try:
            return (hasty if kind == "late" and server.script else patient)(prompt)
        finally:
            server.taken.acquire()

    waited: list[float] = []
    server.script = [step] * 3
    assert describe(["wave"], ask, sleep=waited.append)["wave"] == tuple(stages("wave"))
    assert waited == [1, 2, 4] and len(server.bodies) == 4

    server.script = [step] * 2
    with pytest.raises(
        ValueError, match=f"no usable answer for 'wave' after 2 tries; the last one: .*({reason})"
    ) as raised:
        describe(["wave"], ask, retries=1, sleep=waited.append)
    assert waited == [1, 2, 4, 1] and KEY not in str(raised.value) and str(raised.value).isprintable()


def test_the_model_is_told_what_was_wrong(server: Server) -> None:
    server.script = [says('["One.", "Two."]'), status(500)]
    describe(["wave"], endpoint(server.url, "m"), sleep=lambda _: None)
    first, second, third = (body["messages"][0]["content"] for body in server.bodies)
    assert (
        second == third == f"{first}\nAn earlier answer could not be used: the list has 2 items; expected "
        f"exactly three sentences."
    )


def test_a_server_says_how_long_to_wait(server: Server) -> None:
    server.script = [status(429, Retry_After="7"), status(503, Retry_After="0.5"), status(429, Retry_After="soon")]
    waited: list[float] = []
    describe(["wave"], endpoint(server.url, "m"), sleep=waited.append)
    assert waited == [7, 0.5, 4]
    server.script = [status(429, Retry_After=formatdate(usegmt=True)), status(429, "no quota", Retry_After="86400")]
    with pytest.raises(ValueError, match="after 2 tries; .*429: no quota; the server asks to wait 86400 s"):
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
    waited: list[float] = []
    ask = endpoint(f"http://127.0.0.1:{free_port()}/v1", "m", KEY)
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
    [
        "localhost:8000/v1",
        "ftp://host/v1",
        "file:///etc/passwd",
        "",
        "http://",
        "http://ho st/v1",
        "http://host:99999999",
        "http://[::1/v1",
        "http://a..b/v1",
        "http://host/\n/v1",
        "http://hôst/v1",
    ],
)
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
    with pytest.raises(ValueError, match="OPENAI_API_KEY has blanks or characters beyond ASCII") as raised:
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
