"""An HTTP session that stays with one Mastodon server, whatever that server answers.

Invariants: no request follows a redirect to another server, none goes to a host that
neither is the instance's own nor lies below it nor was named by the user, and the access token is
sent in clear text to this machine alone.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests

_PORTS = {"https": 443, "http": 80}


class Elsewhere(Exception):
    """The server leads to where nothing may be read from or sent to: says where that is."""


class ConfinedSession(requests.Session):
    """A session for the instance at `base_url`, and for its streams at `streaming_host`, if any."""

    def __init__(self, base_url: str, streaming_host: str | None) -> None:
        super().__init__()
        self._own = urlsplit(base_url).hostname or ""
        self._named = streaming_host

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send it if it may be sent there. Raises Elsewhere."""
        target = urlsplit(request.url or "")
        host = target.hostname or ""
        if host not in (self._own, self._named) and not host.endswith(f".{self._own}"):
            raise Elsewhere(
                f"its streams are at {host}, which is another server; where you trust it, name it"
                f" with --streaming-host {host}"
            )
        if "Authorization" in request.headers:
            require_encrypted(host, target.scheme == "https")
        return super().send(request, **options)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where a redirect leads to on the same server. Raises Elsewhere where to another one."""
        location = super().get_redirect_target(resp)
        if location is not None:
            there, here = urlsplit(urljoin(resp.url, location)), urlsplit(resp.url)
            if _server(there) != _server(here) and not _is_same_but_encrypted(there, here):
                # Nobody else holds this answer, so nobody else would end its connection.
                resp.close()
                raise Elsewhere(
                    f"it redirects to {there.scheme}://{there.netloc.rpartition('@')[2]}, which is"
                    " another server; listen to that one by its own address if it is meant"
                )
        return location


def require_encrypted(host: str, is_encrypted: bool) -> None:
    """Check that the token may be sent there. Raises Elsewhere where it would be in clear text."""
    if not is_encrypted and not _is_here(host):
        raise Elsewhere(
            f"the access token would go to {host} in clear text; use https, or unset"
            " TALLY_MASTODON_TOKEN"
        )


def _server(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _is_same_but_encrypted(there: SplitResult, here: SplitResult) -> bool:
    ours = ("http", here.hostname, _PORTS["http"])
    return _server(here) == ours and _server(there) == ("https", here.hostname, _PORTS["https"])


def _is_here(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
