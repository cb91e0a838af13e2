"""A language model behind an OpenAI-compatible server."""

import json
import re
import ssl
import time
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPErrorProcessor, OpenerDirector, ProxyHandler, Request, build_opener

from fsar.text.describe.answers import Ask, TryAgain, shortened

LONGEST_BODY = 2**22
"""How many bytes of an HTTP answer are read."""
FIXES = {
    400: "check --model and what the server accepts",
    401: "set OPENAI_API_KEY to a key of this server",
    403: "the key may not use this model: choose another --model or another key in OPENAI_API_KEY",
    404: "check --model, and --base-url: the address before /chat/completions, often with /v1 at its end",
}
PASSING = (408, 409, 425, 429)
"""Statuses below 500 that are temporary."""


def endpoint(base_url: str, model: str, key: str | None = None, timeout: float = 60.0) -> Ask:
    """Ask a model behind an OpenAI-compatible server.

    Args:
        base_url: the address before `/chat/completions`, like `http://localhost:8000/v1`.
        model: its name on the server.
        key: sent as bearer token, to that address only; never shown.
        timeout: seconds to wait for an answer.

    Returns:
        A function instruction -> answer. It raises `TryAgain` for a temporary failure (a time-out, a
        broken connection, 429, 5xx, an answer that is not a chat completion), and ValueError with the status and the
        fix for other failures.

    Raises:
        ValueError: an address that is not http(s), or a name, key or time-out that cannot be sent.
    """
    url = f"{checked_base_url(base_url)}/chat/completions"
    if not model.strip() or not model.isprintable():
        raise ValueError(f"the model is {model!r}; expected its name on the server")
    if not 0 < timeout <= 86_400:
        raise ValueError(f"the time-out is {timeout:g}; expected seconds, above 0 and at most a day")
    key = _checked_key(key)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "fsar"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    opener = _opener(url)

    def ask(instruction: str) -> str:
        messages = [{"role": "user", "content": instruction}]
        body = json.dumps({"model": model, "messages": messages, "temperature": 0}).encode()
        status, text, said = _post(opener, Request(url, body, headers, method="POST"), timeout)
        if key and len(key) >= 8:  # a shorter key is no secret, as in OPENAI_API_KEY=none
            text = text.replace(key, "[key]")
        if status != 200:
            raise _refusal(url, status, text, said)
        return _completion(url, text)

    return ask


def checked_base_url(base_url: str) -> str:
    """Check an address.

    Args:
        base_url: what the user gave.

    Returns:
        The address without a final slash.

    Raises:
        ValueError: not an http(s) address, or an address with a user, a password or a query.

    Example:
        >>> checked_base_url("http://localhost:8000/v1/")
        'http://localhost:8000/v1'
    """
    expected = "expected http(s)://HOST[:PORT][/PATH], like http://localhost:8000/v1"
    if "@" in base_url or "?" in base_url or "#" in base_url:  # may hold a secret: not shown
        raise ValueError(f"--base-url has a user, a query or a fragment; {expected}. A key belongs in OPENAI_API_KEY")
    try:
        parts = urlsplit(base_url)
        host, _ = (parts.hostname or "").encode("idna"), parts.port  # each raises if it is not valid
    except ValueError:
        host = b""
    if not host or not re.fullmatch(r"https?://[!-~]+", base_url, re.IGNORECASE):
        raise ValueError(f"--base-url is {shortened(base_url)!r}; {expected}")
    return base_url.rstrip("/")


def _checked_key(key: str | None) -> str | None:
    """Remove blanks around the key; None for no key. A message never shows it."""
    key = (key or "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise ValueError("OPENAI_API_KEY has blanks or characters beyond ASCII; copy the key again")
    return key or None


class _AnyStatus(HTTPErrorProcessor):
    """Return every answer: an error status raises nothing, and a redirect is not followed, so the key stays here."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


def _opener(url: str) -> OpenerDirector:
    local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    return build_opener(_AnyStatus(), *([ProxyHandler({})] if local else []))


def _post(opener: OpenerDirector, request: Request, timeout: float) -> tuple[int, str, Message]:
    """Send a request; return status, text and headers of the answer."""
    try:
        with opener.open(request, timeout=timeout) as response:
            text = response.read(LONGEST_BODY).decode("utf-8", "replace")
            return response.status, text, response.headers
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ValueError(
                f"{request.full_url}: its certificate is not trusted ({reason.verify_message}); check --base-url, or "
                f"name the authority's file in SSL_CERT_FILE"
            ) from error
        if isinstance(reason, TimeoutError):
            raise TryAgain(f"{request.full_url} gave no answer within {timeout:g} s (--timeout)") from error
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise TryAgain(f"{request.full_url}: {shortened(said)}; check --base-url, and that the server runs") from error


def _refusal(url: str, status: int, text: str, headers: Message) -> ValueError:
    """Build the error for a status other than 200: `TryAgain` if it is temporary."""
    if 300 <= status < 400:
        target = shortened(headers.get("Location", "nowhere"))
        return ValueError(
            f"{url} answered {status} and points to {target}; give the address before /chat/completions there as "
            f"--base-url"
        )
    said = f"{url} answered {status}: {_message(text)}"
    if status in PASSING or status >= 500:
        return TryAgain(said, _seconds(headers.get("Retry-After")))
    return ValueError(f"{said}; {FIXES.get(status, 'check --base-url and --model')}")


def _message(text: str) -> str:
    """Return the server's own words in the body of an error."""
    try:
        content = json.loads(text)
        error = content.get("error", content)
        text = error if isinstance(error, str) else error.get("message") or error.get("detail") or text
    except (ValueError, AttributeError, RecursionError):
        pass
    return shortened(str(text)) or "nothing"


def _seconds(retry_after: str | None) -> float | None:
    """Read the seconds to wait from a Retry-After header, which holds a number or a date."""
    if retry_after is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", retry_after):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _completion(url: str, text: str) -> str:
    """Return the answer in a chat completion."""
    try:
        content = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        content = None
    if not isinstance(content, str):
        raise TryAgain(f"{url} answered 200 without a whole chat completion (it begins {shortened(text, 80)!r})")
    return content
