"""Statuses as Mastodon writes them in JSON, made up: their members and length are as in life.

A status is kept as JSON in pieces around what changes, so that it can be written again with other
counts. `streams.py` says which events there are of them.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

TAGS, ACCOUNTS = 50_000, 100_000

WORDS = [
    "".join(random.Random(n).choices("abcdefghijklmnoprstuvw", k=2 + n % 9)) for n in range(3_000)
]


@dataclass
class Status:
    """A post that may be seen again: JSON in pieces around what changes."""

    number: int
    account: int
    mentioned: list[int]
    head: str
    tail: str
    content: str
    counts: tuple[int, int, int] = (0, 0, 0)
    edited_at: datetime | None = None


class Statuses:
    """Makes statuses up: the same ones, in the same order, for the same `chosen`."""

    def __init__(self, chosen: random.Random) -> None:
        self._random = chosen

    def new(self, at: datetime, replied: Status | None) -> Status:
        """A post, perhaps a reply."""
        chance = self._random.random
        account = self.account()
        number = self.number(at)
        # Some come from far away, hours late.
        late = timedelta(hours=5 * chance()) if chance() < 0.01 else timedelta(seconds=3 * chance())
        head = (
            f'{{"id": "{number}", "created_at": "{written(at - late)}",'
            f' "in_reply_to_id": {_quoted(replied.number if replied else None)},'
            f' "in_reply_to_account_id": {_quoted(replied.account if replied else None)},'
            ' "sensitive": false, "spoiler_text": "",'
            f' "visibility": "{self._random.choice(["public"] * 18 + ["unlisted", "private"])}",'
            f' "language": "{self._random.choice(["en", "en", "en", "de", "ja", "fr"])}",'
            f" {_addresses(account, number)}"
        )
        mentioned = [replied.account] if replied else []
        if chance() < 0.3:
            mentioned.append(self.account())
        tags = self._tags()
        status = Status(number, account, mentioned, head, "", self._content(tags))
        status.tail = self._tail(status, tags)
        return status

    def reblog(self, at: datetime, inner: Status) -> str:
        """The JSON of somebody's reblog of it."""
        account = self.account()
        number = self.number(at)
        outer = Status(
            number,
            account,
            [],
            f'{{"id": "{number}", "created_at": "{written(at)}", "in_reply_to_id": null,'
            ' "in_reply_to_account_id": null, "sensitive": false, "spoiler_text": "",'
            ' "visibility": "public", "language": null,'
            f" {_addresses(account, number, 'activity')}",
            f'"reblog": {payload(inner)}, "account": {self.account_json(account)},'
            ' "media_attachments": [], "mentions": [], "tags": [], "emojis": [], "card": null,'
            ' "poll": null}',
            "",
            inner.counts,
        )
        return payload(outer)

    def edit(self, status: Status, at: datetime) -> None:
        """Give it other words and other hashtags."""
        tags = self._tags()
        status.content, status.tail = self._content(tags), self._tail(status, tags)
        status.edited_at = at

    def _tail(self, status: Status, tags: list[str]) -> str:
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
        return f'"account": {self.account_json(status.account)}, {tail[1:]}'

    def _content(self, tags: list[str]) -> str:
        words = " ".join(self._random.choices(WORDS, k=5 + int(60 * self._random.random() ** 2)))
        links = " ".join(
            f'<a href="https://social.example/tags/{t}" class="mention hashtag"'
            f' rel="nofollow noopener noreferrer" target="_blank">#<span>{t}</span></a>'
            for t in tags
        )
        return f"<p>{words} &amp; more<br />{links}</p>"

    def account(self) -> int:
        """Somebody; a few more often."""
        return 100_000 + int(ACCOUNTS * self._random.random() ** 3)

    def _tags(self) -> list[str]:
        return [self._tag() for _ in range(min(12, int(self._random.expovariate(0.5))))]

    def _tag(self) -> str:
        """As in life: about the n-th most frequent by 1 / n, in more than one spelling."""
        number = int(TAGS ** self._random.random())
        return f"{'Tag' if self._random.random() < 0.1 else 'tag'}{number}"

    def account_json(self, account: int) -> str:
        """The account as its posts show it."""
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

    def number(self, at: datetime) -> int:
        """An id as Mastodon makes them: the time, then chance."""
        return int(at.timestamp() * 1000) << 16 | self._random.getrandbits(16)


def payload(status: Status) -> str:
    """The JSON of the post as it is now."""
    replies, reblogs, favourites = status.counts
    edited = f'"{written(status.edited_at)}"' if status.edited_at else "null"
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


def written(at: datetime) -> str:
    """As Mastodon writes times."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
