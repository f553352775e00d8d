"""A made-up stream of events, like that of a busy instance, and a database that has received it.

Of a hundred events 60 are new posts, 20 observations of known posts with other counts, 5 edits, 5
deletions, 10 notifications and conversations. Of the new posts 15 in a hundred are reblogs that
carry the post within, 20 are replies. One event in a hundred comes twice, as on two streams; one
in a thousand is malformed. Payloads have the members and the length of real ones, 2 to 3 kB.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from benchmarks.fediverse import EVENTS, INSTANCES, Fediverse
from tallies import sql

START = datetime(2026, 6, 1, tzinfo=UTC)
EVENTS_PER_SECOND = 5
TAGS, ACCOUNTS = 50_000, 100_000
# Of so many posts there may be observations, edits, reblogs, replies and deletions.
REMEMBERED = 30_000
AT_ONCE = 20_000

WORDS = [
    "".join(random.Random(n).choices("abcdefghijklmnoprstuvw", k=2 + n % 9)) for n in range(3_000)
]

# When it was received, event_type and payload.
Event = tuple[datetime, str, str]


@dataclass
class _Status:
    """A post that may be seen again: JSON in pieces around what changes."""

    number: int
    account: int
    mentioned: list[int]
    head: str
    tail: str
    content: str
    counts: tuple[int, int, int] = (0, 0, 0)
    edited_at: datetime | None = None


class Stream:
    """The stream from its beginning: each call of `take` goes on where the last one ended."""

    def __init__(self) -> None:
        self._random = random.Random(3)
        self._known: deque[_Status] = deque(maxlen=REMEMBERED)
        self._events = self._endless()

    def take(self, events: int) -> Iterator[Event]:
        """The next so many events."""
        return islice(self._events, events)

    def load(self, fediverse: Fediverse, events: int) -> None:
        """Write the next so many events, as a client would have received them."""
        for _ in range(0, events, AT_ONCE):
            _write(fediverse, list(self.take(min(AT_ONCE, events))))

    def _endless(self) -> Iterator[Event]:
        received, step = START, timedelta(seconds=1 / EVENTS_PER_SECOND)
        while True:
            kind, payload = self._event(received)
            twice = self._random.random() < 0.01
            for _ in range(2 if twice else 1):
                received += step
                yield received, kind, payload

    def _event(self, at: datetime) -> tuple[str, str]:
        chance = self._random.random()
        if chance < 0.6 or not self._known:
            return "update", self._new(at)
        if chance < 0.8:
            return "status", self._seen_again()
        if chance < 0.85:
            return "status.update", self._edited(at)
        if chance < 0.899:
            return "delete", json.dumps(str(self._known.popleft().number))
        if chance < 0.9:
            return "update", '{"id": "not a number", "content": null}'
        return self._other(at)

    def _new(self, at: datetime) -> str:
        chance = self._random.random()
        if chance < 0.15 and self._known:
            return self._reblog(at, self._some())
        replied = self._some() if chance < 0.35 and self._known else None
        status = self._status(at, replied)
        self._known.append(status)
        return _payload(status)

    def _seen_again(self) -> str:
        """Its counts have risen; seldom fallen, or stayed."""
        status, chance = self._some(), self._random.random()
        replies, reblogs, favourites = status.counts
        if chance < 0.87:
            more = self._random.choice([(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 3, 9)])
            status.counts = (replies + more[0], reblogs + more[1], favourites + more[2])
        elif chance < 0.9:
            status.counts = (replies, reblogs, max(0, favourites - 1))
        return _payload(status)

    def _edited(self, at: datetime) -> str:
        """Other words and other hashtags."""
        status, tags = self._some(), self._tags()
        status.content, status.tail = self._content(tags), self._tail(status, tags)
        status.edited_at = at
        return _payload(status)

    def _some(self) -> _Status:
        """Recent ones more often."""
        return self._known[-1 - int(len(self._known) * self._random.random() ** 2)]

    def _id(self, at: datetime) -> int:
        return int(at.timestamp() * 1000) << 16 | self._random.getrandbits(16)

    def _reblog(self, at: datetime, inner: _Status) -> str:
        account = self._account()
        number = self._id(at)
        outer = _Status(
            number,
            account,
            [],
            f'{{"id": "{number}", "created_at": "{_written(at)}", "in_reply_to_id": null,'
            ' "in_reply_to_account_id": null, "sensitive": false, "spoiler_text": "",'
            ' "visibility": "public", "language": null,'
            f" {_addresses(account, number, 'activity')}",
            f'"reblog": {_payload(inner)}, "account": {self._account_json(account)},'
            ' "media_attachments": [], "mentions": [], "tags": [], "emojis": [], "card": null,'
            ' "poll": null}',
            "",
            inner.counts,
        )
        return _payload(outer)

    def _status(self, at: datetime, replied: _Status | None) -> _Status:
        chance = self._random.random
        account = self._account()
        number = self._id(at)
        # Some come from far away, hours late.
        late = timedelta(hours=5 * chance()) if chance() < 0.01 else timedelta(seconds=3 * chance())
        head = (
            f'{{"id": "{number}", "created_at": "{_written(at - late)}",'
            f' "in_reply_to_id": {_quoted(replied.number if replied else None)},'
            f' "in_reply_to_account_id": {_quoted(replied.account if replied else None)},'
            ' "sensitive": false, "spoiler_text": "",'
            f' "visibility": "{self._random.choice(["public"] * 18 + ["unlisted", "private"])}",'
            f' "language": "{self._random.choice(["en", "en", "en", "de", "ja", "fr"])}",'
            f" {_addresses(account, number)}"
        )
        mentioned = [replied.account] if replied else []
        if chance() < 0.3:
            mentioned.append(self._account())
        tags = self._tags()
        status = _Status(number, account, mentioned, head, "", self._content(tags))
        status.tail = self._tail(status, tags)
        return status

    def _tail(self, status: _Status, tags: list[str]) -> str:
        chance = self._random.random
        tail = json.dumps(
            {
                "reblog": None,
                "media_attachments": [self._media(status.number)] if chance() < 0.25 else [],
                "mentions": [
                    {"id": str(m), "username": f"user{m}", "acct": f"user{m}@{_host(m)}"}
                    | {"url": f"https://{_host(m)}/@user{m}"}
                    for m in status.mentioned
                ],
                "tags": [{"name": t, "url": f"https://social.example/tags/{t}"} for t in tags],
                "emojis": [],
                "card": self._card() if chance() < 0.2 else None,
                "poll": None,
            }
        )
        return f'"account": {self._account_json(status.account)}, {tail[1:]}'

    def _content(self, tags: list[str]) -> str:
        words = " ".join(self._random.choices(WORDS, k=5 + int(60 * self._random.random() ** 2)))
        links = " ".join(
            f'<a href="https://social.example/tags/{t}" class="mention hashtag"'
            f' rel="nofollow noopener noreferrer" target="_blank">#<span>{t}</span></a>'
            for t in tags
        )
        return f"<p>{words} &amp; more<br />{links}</p>"

    def _account(self) -> int:
        return 100_000 + int(ACCOUNTS * self._random.random() ** 3)

    def _tags(self) -> list[str]:
        return [self._tag() for _ in range(min(12, int(self._random.expovariate(0.5))))]

    def _tag(self) -> str:
        """As in life: about the n-th most frequent by 1 / n, in more than one spelling."""
        number = int(TAGS ** self._random.random())
        return f"{'Tag' if self._random.random() < 0.1 else 'tag'}{number}"

    def _account_json(self, account: int) -> str:
        host = _host(account)
        pictures = f"https://files.{host}/accounts/{{}}/{account // 1000}/{account}/original"
        return json.dumps(
            {
                "id": str(account),
                "username": f"user{account}",
                "acct": f"user{account}@{host}",
                "display_name": f"{WORDS[account % 3_000]} {WORDS[account % 2_999]}".title(),
                "locked": False,
                "bot": account % 20 == 0,
                "discoverable": True,
                "group": False,
                "created_at": "2022-11-13T00:00:00.000Z",
                "note": f"<p>{' '.join(WORDS[account % 2_900 : account % 2_900 + 20])}</p>",
                "url": f"https://{host}/@user{account}",
                "avatar": pictures.format("avatars") + "/63c3e808423543ad.jpeg",
                "avatar_static": pictures.format("avatars") + "/63c3e808423543ad.jpeg",
                "header": pictures.format("headers") + "/b3694b479535a425.jpeg",
                "header_static": pictures.format("headers") + "/b3694b479535a425.jpeg",
                "followers_count": account % 5_000,
                "following_count": account % 900,
                "statuses_count": self._random.randrange(1, 20_000),
                "last_status_at": "2026-06-01",
                "emojis": [],
                "fields": [],
            }
        )

    def _media(self, number: int) -> dict[str, object]:
        files = f"https://files.social.example/cache/media_attachments/files/{number}"
        sides = {"width": 1200, "height": 800, "size": "1200x800", "aspect": 1.5}
        return {
            "id": str(number + 1),
            "type": "image",
            "url": f"{files}/original/29c796286484ffc6.png",
            "preview_url": f"{files}/small/29c796286484ffc6.png",
            "remote_url": None,
            "meta": {"original": sides, "small": sides},
            "description": " ".join(self._random.choices(WORDS, k=20)),
            "blurhash": "UeMt8Wt7S$t7RPayt7fQ0Kay4TRj-;j[M{fQ",
        }

    def _card(self) -> dict[str, object]:
        words = self._random.choices(WORDS, k=50)
        return {
            "url": f"https://news.example/{'-'.join(words[:6])}",
            "title": " ".join(words[:8]),
            "description": " ".join(words),
            "type": "link",
            "provider_name": "News",
            "image": None,
            "width": 400,
            "height": 300,
        }

    def _other(self, at: datetime) -> tuple[str, str]:
        status, account = self._some(), self._account_json(self._account())
        if self._random.random() < 0.5:
            return (
                "conversation",
                f'{{"id": "7", "unread": true, "accounts": [{account}],'
                f' "last_status": {_payload(status)}}}',
            )
        return (
            "notification",
            f'{{"id": "{self._id(at)}", "type": "favourite", "created_at": "{_written(at)}",'
            f' "account": {account}, "status": {_payload(status)}}}',
        )


def _payload(status: _Status) -> str:
    replies, reblogs, favourites = status.counts
    edited = f'"{_written(status.edited_at)}"' if status.edited_at else "null"
    return (
        f'{status.head}, "replies_count": {replies}, "reblogs_count": {reblogs},'
        f' "favourites_count": {favourites}, "edited_at": {edited},'
        f' "content": {json.dumps(status.content)}, {status.tail}'
    )


def _addresses(account: int, number: int, end: str = "") -> str:
    of_account = f"https://{_host(account)}/users/user{account}/statuses/{number}"
    uri = f"{of_account}/{end}" if end else of_account
    return f'"uri": "{uri}", "url": "https://{_host(account)}/@user{account}/{number}"'


def _host(account: int) -> str:
    return f"host{account % 500}.example"


def _quoted(number: int | None) -> str:
    return "null" if number is None else f'"{number}"'


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _write(fediverse: Fediverse, events: list[Event]) -> None:
    """COPY the events into the log, whose partitions of their days are made."""
    with fediverse.engine.begin() as connection:
        for day in sorted({received.date() for received, _, _ in events}):
            sql.execute(
                connection,
                f"CREATE TABLE IF NOT EXISTS {EVENTS}_{day:%Y%m%d} PARTITION OF {EVENTS}"
                f" FOR VALUES FROM ('{day}Z') TO ('{day + timedelta(days=1)}Z')",
            )
        driver = connection.connection.driver_connection
        assert driver is not None
        columns = "instance_id, received_at, event_type, payload"
        instance = sql.execute(connection, f"SELECT min(id) FROM {INSTANCES}").scalar_one()
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY {EVENTS} ({columns}) FROM STDIN") as copy,
        ):
            for received, kind, payload in events:
                copy.write_row((instance, received, kind, payload))
