"""Class names -> sub-actions of the user's own classes, written by a language model.

The instruction's first sentence is Task-Adapter++'s (section 3.5); the rest, which asks for the form of the answer, is
ours. One class per request. An answer that is not three different sentences within CLIP's tokens is asked for again,
and the model is told what was wrong: at temperature 0 it would answer the same.

    ask = endpoint("http://localhost:8000/v1", "my-model")       # or local_model("/models/my-model")
    corpus = describe(["long jump", "high jump"], ask)
    Path("mine.yaml").write_text(dump_sub_actions(corpus, credit("my-model")))
"""

import json
import re
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import cache
from hashlib import sha256
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPErrorProcessor, OpenerDirector, ProxyHandler, Request, build_opener

import open_clip
import yaml

from fsar.files import cache_dir, write_text_atomic
from fsar.progress import progress_bar
from fsar.text.prompts import SUB_ACTION_PROMPT, SubActions, class_text, dump_sub_actions, parse_sub_actions

INSTRUCTION = (
    "Given an action label {label}, describe three stages of the action.\n"
    "Answer with nothing but a JSON list of exactly three short sentences: what the beginning of the action looks "
    "like, what its process looks like, and what its end looks like. Each sentence has at most 25 words and shows "
    "what can be seen."
)
CLIP_TOKENS = 77
LONGEST_ANSWER = 20_000  # characters, thoughts left out
LONGEST_BODY = 2**22  # bytes of an HTTP answer
LONGEST_DELAY = 60.0  # seconds between two requests, unless the server asks for more
LONGEST_WAIT = 600.0  # seconds a server may ask to wait
NEW_TOKENS = 1024  # of a local model

Ask = Callable[[str], str]
"""A language model: instruction -> answer."""


class TryAgain(ValueError):
    """What may go well when it is asked again, at best `after` seconds."""

    def __init__(self, reason: str, after: float | None = None):
        super().__init__(reason)
        self.after = after


class BadAnswer(TryAgain):
    """An answer that is no three stages."""


# --------------------------------------------------------------------------- classes -> corpus


@dataclass(frozen=True)
class AnswerCache:
    """Good answers of one model, a file per class, so that a failed or killed run goes on where it stopped."""

    source: str
    """Where the model is: its base URL, or a local name."""
    model: str

    def read(self, label: str) -> SubActions | None:
        """Return the stages of a class text, or None where there are none that can be read."""
        try:
            return _stages(json.loads(self._file(label).read_text(encoding="utf-8"))["stages"], label)
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None

    def write(self, label: str, stages: SubActions) -> None:
        """Keep the stages of a class text."""
        write_text_atomic(self._file(label), json.dumps({"label": label, "stages": stages}, indent=1))

    def _file(self, label: str) -> Path:
        key = json.dumps([self.source, self.model, INSTRUCTION, label])
        return cache_dir() / "describe" / f"{sha256(key.encode()).hexdigest()[:32]}.json"


def describe(
    names: Sequence[str],
    ask: Ask,
    cache: AnswerCache | None = None,
    refresh: bool = False,
    retries: int = 5,
    sleep: Callable[[float], object] = time.sleep,
    progress: bool = False,
) -> dict[str, SubActions]:
    """Ask a language model for the three stages of every class; class text -> beginning, process, end.

    Args:
        names: classes, in any form that `class_text` reads.
        ask: the model, as `endpoint` or `local_model` gives it.
        cache: where good answers are kept; None keeps none.
        refresh: also ask for what the cache has.
        retries: how often a class is asked for again, after growing delays.
        sleep: what waits.
        progress: show a bar.

    Raises:
        ValueError: no words in a name, two names with the same words, a model that cannot be asked, or one that
            gave no good answer to the last retry; the message names the class and the last reason.
    """
    if retries < 0:
        raise ValueError(f"retries is {retries}; expected 0 or more")
    labels = distinct_labels((name, class_text(name)) for name in names)
    corpus = {}
    with progress_bar(labels, "describe", "class", len(labels), progress) as bar:
        for label in bar:
            stages = None if cache is None or refresh else cache.read(label)
            if stages is None:
                stages = _ask_until_good(label, ask, retries, sleep, bar.set_postfix_str)
                if cache is not None:
                    cache.write(label, stages)
            corpus[label] = stages
    return corpus


def distinct_labels(classes: Iterable[tuple[str, str]]) -> list[str]:
    """Return the texts of (name, text) pairs.

    Raises:
        ValueError: a text without words or with characters that cannot be shown, or one that two names share.
    """
    names: dict[str, str] = {}
    for name, text in classes:
        if not text or not text.isprintable():
            raise ValueError(f"class {name!r} has no words that can be read; expected a name like 'long jump'")
        if text in names:
            raise ValueError(f"the classes {names[text]!r} and {name!r} are both read as {text!r}; rename one, or "
                             f"leave it out")  # fmt: skip
        names[text] = name
    return list(names)


def _ask_until_good(
    label: str, ask: Ask, retries: int, sleep: Callable[[float], object], note: Callable[[str], object]
) -> SubActions:
    instruction = INSTRUCTION.replace("{label}", label)
    complaint = ""
    for attempt in range(retries + 1):
        try:
            stages = parse_answer(ask(instruction + complaint), label)
        except TryAgain as error:
            if isinstance(error, BadAnswer):
                complaint = f"\nAn earlier answer was of no use: {error}."
            delay = min(2.0 ** min(attempt, 10), LONGEST_DELAY) if error.after is None else error.after
            if attempt == retries or delay > LONGEST_WAIT:
                wait = f", to be asked again in {delay:.0f} s" if delay > LONGEST_WAIT else ""
                tries = "try" if attempt == 0 else "tries"
                raise ValueError(
                    f"no stages of {label!r} after {attempt + 1} {tries}; the last one: {error}{wait}"
                ) from error
            note(f"{label}, again in {delay:g} s: {error}")
            sleep(delay)
        else:
            note("")
            return stages
    raise AssertionError("the last try returns or raises")


# --------------------------------------------------------------------------- answer -> stages


def parse_answer(text: str, label: str) -> SubActions:
    """Read three stages from an answer: one JSON list of three sentences, whatever stands around it.

    Raises:
        BadAnswer: no such list or several, or sentences that are empty, equal, or too long for CLIP.
    """
    text = text.rpartition("</think>")[2]
    if len(text) > LONGEST_ANSWER:
        raise BadAnswer(f"it has {len(text)} characters; expected three short sentences")
    lists = _json_lists(text)
    if not lists:
        raise BadAnswer(f"there is no JSON list in it (it begins {shortened(text, 60)!r})")
    fitting = [found for found in lists if len(found) == 3 and all(isinstance(item, str) for item in found)]
    if len(fitting) > 1 and any(found != fitting[0] for found in fitting):
        raise BadAnswer(f"there are {len(fitting)} different lists of three sentences in it; expected one")
    return _stages(fitting[0] if fitting else lists[-1], label)


def _json_lists(text: str) -> list[list[Any]]:
    """Every outermost JSON list in a text."""
    decoder = json.JSONDecoder()
    lists = []
    start = text.find("[")
    while start >= 0:
        end = start + 1
        try:
            found, end = decoder.raw_decode(text, start)
            lists.append(found)
        except ValueError:
            pass  # a bracket of the text around
        except RecursionError:
            break  # nothing but brackets
        start = text.find("[", end)
    return lists


def _stages(found: Any, label: str) -> SubActions:
    if not isinstance(found, list) or len(found) != 3:
        number = len(found) if isinstance(found, list) else "no"
        raise BadAnswer(f"there are {number} items in its list; expected exactly three sentences")
    if not all(isinstance(item, str) and item.strip() for item in found):
        raise BadAnswer("an item of its list is empty or no text; expected three sentences")
    sentences = [" ".join(item.split()) for item in found]
    if not all(sentence.isprintable() for sentence in sentences):
        raise BadAnswer("a sentence holds characters that cannot be shown; expected plain text")
    if len({sentence.casefold() for sentence in sentences}) != 3:
        raise BadAnswer("two of its sentences are equal; expected three different stages")
    for sentence in sentences:
        if (tokens := clip_tokens(SUB_ACTION_PROMPT.format(label=label, sentence=sentence))) > CLIP_TOKENS:
            raise BadAnswer(f"the sentence {shortened(sentence, 60)!r} is too long: {tokens} tokens with the class; "
                            f"CLIP reads {CLIP_TOKENS}")  # fmt: skip
    return sentences[0], sentences[1], sentences[2]


@cache
def _tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.get_tokenizer("ViT-B-32")


def clip_tokens(text: str) -> int:
    """Count the tokens of a text as CLIP reads it, its start and end included; 200 stands for more."""
    return int(_tokenizer()([text], context_length=200)[0].argmax()) + 1  # the end token has the highest id


def shortened(text: str, length: int = 200) -> str:
    """Give a foreign text in one line that is safe to print, cut to `length`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 10 * length]).split())
    return line if len(line) <= length else line[: length - 3] + "..."


# --------------------------------------------------------------------------- models


def endpoint(base_url: str, model: str, key: str | None = None, timeout: float = 60.0) -> Ask:
    """Ask a model behind an OpenAI-compatible server.

    Args:
        base_url: the address before `/chat/completions`, like `http://localhost:8000/v1`.
        model: its name on the server.
        key: sent as bearer token, to that address only; never shown.
        timeout: seconds without an answer.

    Raises:
        ValueError: an address that is not http(s), or a name, key or time-out that cannot be sent. The function that
            is returned raises `TryAgain` for what may pass (time-outs, cut connections, 429, 5xx, an answer that is no
            chat completion), and ValueError, naming the status and the fix, for what does not.
    """
    url = f"{checked_base_url(base_url)}/chat/completions"
    if not model.strip() or not model.isprintable():
        raise ValueError(f"the model is {model!r}; expected its name on the server")
    if not 0 < timeout <= 86_400:
        raise ValueError(f"the time-out is {timeout:g}; expected seconds, above 0 and within a day")
    key = checked_key(key)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "fsar"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    opener = _opener(url)

    def ask(instruction: str) -> str:
        messages = [{"role": "user", "content": instruction}]
        body = json.dumps({"model": model, "messages": messages, "temperature": 0}).encode()
        status, text, said = _post(opener, Request(url, body, headers, method="POST"), timeout)
        if key and len(key) >= 8:  # shorter ones are no secret, as in OPENAI_API_KEY=none
            text = text.replace(key, "[key]")
        if status != 200:
            raise _refusal(url, status, text, said)
        return _completion(url, text)

    return ask


def checked_base_url(base_url: str) -> str:
    """Return the address without a final slash.

    Raises:
        ValueError: not an http(s) address, or one with a user, password or query in it.
    """
    expected = "expected http(s)://HOST[:PORT][/PATH], like http://localhost:8000/v1"
    if "@" in base_url or "?" in base_url or "#" in base_url:  # may hold a secret: not shown
        raise ValueError(f"--base-url has a user, a query or a fragment; {expected}, and the key in OPENAI_API_KEY")
    try:
        parts = urlsplit(base_url)
        host, _ = (parts.hostname or "").encode("idna"), parts.port  # both raise where they are none
    except ValueError:
        host = b""
    if not host or not re.fullmatch(r"https?://[!-~]+", base_url, re.IGNORECASE):
        raise ValueError(f"--base-url is {shortened(base_url)!r}; {expected}")
    return base_url.rstrip("/")


def checked_key(key: str | None) -> str | None:
    """Return the key without blanks around it; None for none.

    Raises:
        ValueError: characters in it that no HTTP header may hold; the message does not show it.
    """
    key = (key or "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise ValueError("OPENAI_API_KEY holds blanks or characters beyond ASCII; copy the key again")
    return key or None


class _AnyStatus(HTTPErrorProcessor):
    """Hand every answer over as it is: an error raises nothing, and no redirect takes the key elsewhere."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


def _opener(url: str) -> OpenerDirector:
    local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    return build_opener(_AnyStatus(), *([ProxyHandler({})] if local else []))


def _post(opener: OpenerDirector, request: Request, timeout: float) -> tuple[int, str, Message]:
    """Status, text and headers of the answer."""
    try:
        with opener.open(request, timeout=timeout) as response:
            text = response.read(LONGEST_BODY).decode("utf-8", "replace")
            return response.status, text, response.headers
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ValueError(f"{request.full_url}: its certificate is not trusted ({reason.verify_message}); "
                             f"check --base-url, or name the authority's file in SSL_CERT_FILE") from error  # fmt: skip
        if isinstance(reason, TimeoutError):
            raise TryAgain(f"{request.full_url} gave no answer within {timeout:g} s (--timeout)") from error
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise TryAgain(f"{request.full_url}: {shortened(said)}; check --base-url, and that the server runs") from error


FIXES = {
    400: "check --model and what the server accepts",
    401: "set OPENAI_API_KEY to a key of this server",
    403: "the key may not use this model: choose another --model or another key in OPENAI_API_KEY",
    404: "check --model, and --base-url: the address before /chat/completions, often with /v1 at its end",
}
PASSING = (408, 409, 425, 429)
"""Statuses below 500 that may pass."""


def _refusal(url: str, status: int, text: str, headers: Message) -> ValueError:
    if 300 <= status < 400:
        return ValueError(f"{url} answered {status} and points to {shortened(headers.get('Location', 'nowhere'))}; "
                          f"give the address before /chat/completions there as --base-url")  # fmt: skip
    said = f"{url} answered {status}: {_message(text)}"
    if status in PASSING or status >= 500:
        return TryAgain(said, _seconds(headers.get("Retry-After")))
    return ValueError(f"{said}; {FIXES.get(status, 'check --base-url and --model')}")


def _message(text: str) -> str:
    """What the server says for itself."""
    try:
        content = json.loads(text)
        error = content.get("error", content)
        text = error if isinstance(error, str) else error.get("message") or error.get("detail") or text
    except (ValueError, AttributeError, RecursionError):
        pass
    return shortened(str(text)) or "nothing"


def _seconds(retry_after: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: a number or a date."""
    if retry_after is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", retry_after):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _completion(url: str, text: str) -> str:
    try:
        content = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        content = None
    if not isinstance(content, str):
        raise TryAgain(f"{url} answered 200 without a whole chat completion (it begins {shortened(text, 80)!r})")
    return content


def local_model(name: str) -> Ask:
    """Ask a model on this machine through `transformers`: its folder, or its id on the Hugging Face hub.

    Raises:
        ValueError: `transformers` is not installed, or there is no such model. The function that is returned raises it
            where the model fails.
    """
    try:
        from transformers import pipeline
    except ImportError as error:
        raise ValueError(
            f"a local model needs the package transformers ({error}); pip install 'fsar[describe]'"
        ) from error
    import torch

    failures = (OSError, ValueError, RuntimeError, ImportError, LookupError)
    try:
        generate = pipeline("text-generation", model=name, device=0 if torch.cuda.is_available() else -1)
    except failures as error:
        raise ValueError(f"could not load {name!r}: {shortened(str(error))}; expected the folder or the hub id of a "
                         f"text-generation model") from error  # fmt: skip
    chats = getattr(generate.tokenizer, "chat_template", None)

    def ask(instruction: str) -> str:
        given = [{"role": "user", "content": instruction}] if chats else f"{instruction}\nAnswer: "
        try:
            made = generate(given, max_new_tokens=NEW_TOKENS, do_sample=False, return_full_text=False)
        except failures as error:
            raise ValueError(f"{name!r} failed: {shortened(str(error))}; try a smaller model") from error
        return str(made[0]["generated_text"])

    return ask


# --------------------------------------------------------------------------- files


def credit(model: str) -> str:
    """Give the comment at the head of a corpus that a model wrote."""
    return (
        f"Beginning, process and end of every class, written by {model}.\n"
        f"Read it and edit it: order and facts are the model's."
    )


BLANK: SubActions = ("", "", "")
"""The stages of a class in a template; reading them is refused, with the name of the class."""
TEMPLATE_COMMENT = "Fill in three sentences for every class: what its beginning, its process and its end look like."


def read_to_extend(file: Path) -> tuple[str, dict[str, SubActions]]:
    """Read the head comment of a corpus and its classes, without those that a template left blank.

    Raises:
        ValueError: not a corpus.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: not YAML ({shortened(str(error))})") from error
    if isinstance(content, dict) and isinstance(content.get("classes"), dict):
        content["classes"] = {name: stages for name, stages in content["classes"].items() if stages != list(BLANK)}
        corpus = parse_sub_actions(yaml.safe_dump(content, sort_keys=False), str(file))
    else:
        corpus = parse_sub_actions(text, str(file))  # says what it is not
    head = re.match(r"(?:#.*\n)*", text)
    return "\n".join(line[1:].strip() for line in (head[0] if head else "").splitlines()), corpus


def write_corpus(file: Path, corpus: dict[str, SubActions], comment: str) -> None:
    """Write a corpus, whole or not at all."""
    write_text_atomic(file, dump_sub_actions(corpus, comment))
