"""Who may ask: this machine alone, or whoever has the token; and no page of another site. Which names are allowed.

A browser lets any web page send requests to 127.0.0.1. So the service looks at the `Host` and `Origin` of a request:
a name that is not the service's own, or a page from elsewhere, is refused.
"""

import hmac
import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request

from fsar.service.limits import Refused
from fsar.video.kinds import is_hidden

LOCAL = ("127.0.0.1", "localhost", "::1")
SHORTEST = 16
"""Characters of a token."""
NAME = re.compile(r"\w(?:[\w .,'()+&-]{0,78}[\w)+'])?")


def is_local(host: str) -> bool:
    """Tell whether only this machine reaches a host.

    Example:
        >>> [is_local(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.1.5", "example.org")]
        [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_token(host: str, token: str | None) -> None:
    """Refuse to listen beyond this machine without a token.

    Args:
        host: to listen at.
        token: the service's token; None for none.

    Raises:
        ValueError: no token, or one that is too short.

    Example:
        >>> require_token("0.0.0.0", None)
        Traceback (most recent call last):
        ValueError: 0.0.0.0 can be reached from other machines, so a token is needed; write one of at least 16 \
characters to a file and give --token-file, or set FSAR_TOKEN
    """
    fix = f"write one of at least {SHORTEST} characters to a file and give --token-file, or set FSAR_TOKEN"
    if token is None and not is_local(host):
        raise ValueError(f"{host} can be reached from other machines, so a token is needed; {fix}")
    if token is not None and (len(token) < SHORTEST or not token.isascii() or not token.isprintable()):
        raise ValueError(f"the token has {len(token)} characters; {fix}")


def require_name(name: str, what: str) -> str:
    """Refuse a name that is no plain name of a folder.

    Args:
        name: of a recogniser or an action.
        what: which of the two, for the message.

    Returns:
        The name.

    Raises:
        Refused: it could lead elsewhere, or is too long.

    Example:
        >>> require_name("wave (left)", "action")
        'wave (left)'
        >>> require_name("../wave", "folder")
        Traceback (most recent call last):
        fsar.service.limits.Refused: '../wave' is no name for a folder; expected letters, digits, spaces and .,'()+&-, \
at most 80, a letter or digit first
    """
    if not NAME.fullmatch(name) or is_hidden(name) or len(os.fsencode(name)) > 200:
        raise Refused(
            422,
            f"{name[:100]!r} is no name for a {what}; expected letters, digits, spaces and .,'()+&-, at most 80, a "
            f"letter or digit first",
        )
    return name


def require_no_link(path: Path) -> Path:
    """Refuse a link, so that nothing is written or deleted where it leads.

    Args:
        path: of the service's own files; it need not exist.

    Returns:
        The path.

    Raises:
        ValueError: it is a link.
    """
    if path.is_symlink():
        raise ValueError(f"{path}: it is a link that leads elsewhere; delete the link, then start again")
    return path


def _host_of(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:  # such as [::1
        return None


class Guard:
    """Checks the head of each request.

    Args:
        host: that the service listens at.
        token: that requests must give; None if none is needed.
    """

    def __init__(self, host: str, token: str | None):
        self._hosts = (*LOCAL, host) if is_local(host) else None
        self._token = token

    def check(self, request: Request, public: bool = False) -> None:
        """Refuse a request that may not be served.

        Args:
            request: its head.
            public: anybody may ask for this, without the token.

        Raises:
            Refused: wrong host, page of another site, or wrong token.
        """
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if self._hosts is not None and _host_of(host) not in self._hosts:
            raise Refused(421, "the service answers at 127.0.0.1 and localhost only; use one of these in the address")
        from_elsewhere = origin is not None and urlsplit(origin).netloc != host
        if not public:  # pictures and videos of another page come without an origin, and a link to the page is no harm
            from_elsewhere |= request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if from_elsewhere:
            raise Refused(403, "the request comes from a page of another site; ask from a page of this service")
        if self._token is not None and not public and not self._is_right(request.headers.get("authorization", "")):
            message = "the token is missing or wrong; send the header `Authorization: Bearer TOKEN`"
            raise Refused(401, message, {"WWW-Authenticate": "Bearer"})

    def _is_right(self, header: str) -> bool:
        """Compare in a time that does not depend on the place of the first difference."""
        given = header.removeprefix("Bearer ").encode("utf-8", "replace")
        return hmac.compare_digest(given, (self._token or "").encode())
