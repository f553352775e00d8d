"""Where messages go: the addresses of TALLY_ALERT_URLS, and sending text to one through Apprise.

It knows no incidents and no orchestrator; which message goes to whom, and what happens when it does
not arrive, is decided elsewhere. Invariants: an address is a secret as a whole (tokens stand in
it). A target is known by its kind and a digest, and neither an address nor a piece of one gets into
a message, a repr or a log, also not through the libraries that do the sending.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote

from tallykeeper.settings import alert_urls, not_an_alert_url

# Of the text of an address, what is shorter than this is found by chance in any sentence.
SHORTEST_SECRET = 4
DIGEST_LENGTH = 10


class NotSent(RuntimeError):
    """A message did not go out: says why, without the address."""


@dataclass(frozen=True)
class Target:
    """One address: known by `name`, its kind and a digest, as in `mailto-1f0c9a77b2`."""

    name: str
    _url: str = field(repr=False, compare=False)

    def send(self, title: str, body: str) -> None:
        """Send plain text; returns when the other side has accepted it.

        Raises NotSent. May take as long as the other side lets it.
        """
        notifier = _notifier(self._url)
        if notifier is None:
            raise NotSent("the address is none that anything can be sent to")
        with _captured_logs() as said:
            try:
                accepted = notifier.notify(body=body, title=title, body_format="text")
            except Exception as error:  # noqa: BLE001 -- of a plugin; its words may be the address
                raise NotSent(f"the sending broke off with {type(error).__name__}") from None
        if not accepted:
            reason = "; ".join(said) or "it was refused without a reason"
            raise NotSent(_without_secrets(reason, self._url))


def targets() -> list[Target]:
    """The targets that TALLY_ALERT_URLS names. Raises SettingError."""
    return targets_of(alert_urls())


def targets_of(urls: Sequence[str]) -> list[Target]:
    """A target for each address; raises SettingError, which tells of a malformed one by place."""
    for place, url in enumerate(urls, 1):
        if _notifier(url) is None:
            raise not_an_alert_url(place, len(urls))
    return [Target(name_of(url), url) for url in urls]


def name_of(url: str) -> str:
    """By what a target is known: the same for the same address, and not to be read back."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:DIGEST_LENGTH]
    return f"{url.partition('://')[0].lower()}-{digest}"


def _notifier(url: str) -> Any:
    with _captured_logs():
        return _apprise().instantiate(url, suppress_exceptions=True)


@cache
def _apprise() -> Any:
    # Loading all its plugins takes a second: only who sends pays for that, once.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        for name in ("apprise", "urllib3.connectionpool"):
            logging.getLogger(name).addFilter(_Silence())
        with _captured_logs():
            apprise.Apprise.instantiate("json://127.0.0.1")
    return apprise.Apprise


class _Silence(logging.Filter):
    """Keeps what the libraries say of a sending from every log, and the warnings for the sender."""

    def filter(self, record: logging.LogRecord) -> bool:
        said: list[str] | None = getattr(_sending, "said", None)
        if said is None:
            return True
        if record.levelno >= logging.WARNING:
            said.append(" ".join(record.getMessage().split()))
        return False


_sending = threading.local()


@contextmanager
def _captured_logs() -> Iterator[list[str]]:
    """While it lasts, this thread's sending is logged nowhere; what went wrong is in the list."""
    said: list[str] = []
    before, _sending.said = getattr(_sending, "said", None), said
    try:
        yield said
    finally:
        _sending.said = before


def _without_secrets(text: str, url: str) -> str:
    """The text without any piece of the address but its kind and its host."""
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest)[0].rpartition("@")[2].partition(":")[0]
    pieces = {p for p in re.split(r"[/?#&=@:,;]", rest) if p and p not in (host, scheme)}
    pieces |= {unquote(piece) for piece in pieces}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= SHORTEST_SECRET:
            text = text.replace(piece, "***")
    return re.sub(r"\w+://\S+", "***", text)
