"""Who may ask: this machine alone, or whoever has the token; and no page of another site.

A browser lets any web page send requests to 127.0.0.1. So the service looks at the `Host` and `Origin` of a request:
a name that is not the service's own, or a page from elsewhere, is refused.
"""

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request

from fsar.service.limits import Refused

LOCAL = ("127.0.0.1", "localhost", "::1")
SHORTEST = 16
"""Characters of a token."""


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


class Guard:
    """Checks the head of each request.

    Args:
        host: that the service listens at.
        token: that requests must give; None if none is needed.
    """

    def __init__(self, host: str, token: str | None):
        self._local = is_local(host)
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
        if self._local and urlsplit(f"//{host}").hostname not in LOCAL:
            raise Refused(421, "the service answers at 127.0.0.1 and localhost only; use one of these in the address")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refused(403, "the request comes from a page of another site; ask from a page of this service")
        if self._token is not None and not public and not self._is_right(request.headers.get("authorization", "")):
            message = "the token is missing or wrong; send the header `Authorization: Bearer TOKEN`"
            raise Refused(401, message, {"WWW-Authenticate": "Bearer"})

    def _is_right(self, header: str) -> bool:
        """Compare in a time that does not depend on the place of the first difference."""
        given = header.removeprefix("Bearer ").encode("utf-8", "replace")
        return hmac.compare_digest(given, (self._token or "").encode())
