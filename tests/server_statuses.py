"""Statuses as servers other than Mastodon write them."""

from __future__ import annotations

from typing import Any

from tests.integration.fediverse_log import status


def pleroma(**fields: Any) -> dict[str, Any]:
    """A status of Pleroma or Akkoma: flake ids, an object of its own, no `edited_at`."""
    return {
        "id": "AeQ9xYzV1b2C3d4E5f",
        "uri": "https://ple.example/objects/6b0c9a3e-7f5d-4f0e-9a51-0d1f2b3c4d5e",
        "url": "https://ple.example/notice/AeQ9xYzV1b2C3d4E5f",
        "created_at": "2026-11-20T11:00:00.000Z",
        "account": {
            "id": "9zYxWvUtSrQpOnMlKj",
            "username": "lain",
            "acct": "lain",
            "fqn": "lain@ple.example",
            "display_name": "lain",
            "followers_count": 0,
            "pleroma": {"is_admin": False, "tags": []},
        },
        "application": None,
        "content": "the wired",
        "spoiler_text": "",
        "sensitive": False,
        "visibility": "public",
        "language": None,
        "in_reply_to_id": None,
        "in_reply_to_account_id": None,
        "replies_count": 0,
        "reblogs_count": 1,
        "favourites_count": 2,
        "reblog": None,
        "poll": None,
        "quote": None,
        "emojis": [],
        "media_attachments": [],
        "mentions": [],
        "tags": [{"name": "wired", "url": "https://ple.example/tag/wired"}],
        "pleroma": {
            "content": {"text/plain": "the wired"},
            "conversation_id": 4711,
            "emoji_reactions": [{"name": "❤", "count": 5, "me": False}],
            "local": True,
            "quote_id": None,
            "quote_url": None,
            "thread_muted": False,
        },
        **fields,
    }


def gotosocial(**fields: Any) -> dict[str, Any]:
    """A status of GoToSocial: ULIDs in all places, and counts that may be left out."""
    return {
        "id": "01HWRRWYV739R3GG41NDQEYZ86",
        "created_at": "2026-11-20T11:00:00.391Z",
        "edited_at": None,
        "in_reply_to_id": None,
        "in_reply_to_account_id": None,
        "sensitive": False,
        "spoiler_text": "",
        "visibility": "unlisted",
        "language": "en",
        "uri": "https://gts.example/users/dumpsterqueer/statuses/01HWRRWYV739R3GG41NDQEYZ86",
        "url": "https://gts.example/@dumpsterqueer/statuses/01HWRRWYV739R3GG41NDQEYZ86",
        "content": "<p>hello #sloths</p>",
        "reblog": None,
        "account": {
            "id": "01F8MH1H7YV1Z7D2C8K2730QBF",
            "username": "dumpsterqueer",
            "acct": "dumpsterqueer",
            "display_name": "",
            "created_at": "2022-06-04T13:12:00.000Z",
            "roles": [{"id": "user", "name": "user", "color": ""}],
        },
        "media_attachments": [
            {
                "id": "01F8MH7TDVANYKWVE8VVKFPJTJ",
                "type": "gifv",
                "url": "https://gts.example/fileserver/a.gif",
                "preview_url": None,
                "description": None,
                "blurhash": "",
            }
        ],
        "mentions": [{"id": "01FHMQX3GAABWSM0S2VZEC2SWC", "acct": "admin", "username": "admin"}],
        "tags": [{"name": "sloths"}],
        "emojis": [],
        "card": None,
        "poll": None,
        "interaction_policy": {"can_reply": {"always": ["public"], "with_approval": []}},
        **fields,
    }


def pixelfed(**fields: Any) -> dict[str, Any]:
    """A status of Pixelfed: numbers, also as JSON's; a caption as content; times with an offset."""
    return {
        "id": 512345678901234567,
        "uri": "https://pix.example/p/dansup/512345678901234567",
        "url": "https://pix.example/p/dansup/512345678901234567",
        "in_reply_to_id": None,
        "in_reply_to_account_id": None,
        "reblog": None,
        "content": "a cat",
        "created_at": "2026-11-20T12:00:00.000000+01:00",
        "emojis": [],
        "replies_count": 0,
        "reblogs_count": "3",
        "favourites_count": 4,
        "sensitive": False,
        "spoiler_text": "",
        "visibility": "public",
        "application": {"name": "web", "website": None},
        "language": None,
        "mentions": [],
        "tags": [{"name": "Cat", "url": "https://pix.example/discover/tags/Cat"}],
        "account": {
            "id": 371234567890123456,
            "username": "dansup",
            "acct": "dansup",
            "display_name": "dansup",
            "followers_count": 1,
            "created_at": "2018-06-01T03:54:08.000000Z",
        },
        "media_attachments": [
            {"id": 88, "type": "image", "url": "https://pix.example/1.jpg", "description": None}
        ],
        "poll": None,
        **fields,
    }


def note(**fields: Any) -> dict[str, Any]:
    """A note as Misskey's own API writes it."""
    return {
        "id": "9zxk3abcde",
        "createdAt": "2026-11-20T11:00:00.123Z",
        "userId": "9aaaaaaaaa",
        "user": {
            "id": "9aaaaaaaaa",
            "name": "Syuilo <3",
            "username": "syuilo",
            "host": None,
            "isBot": False,
            "followersCount": 3,
            "notesCount": 9,
        },
        "text": "a < b & c\n#misskey",
        "cw": None,
        "visibility": "public",
        "localOnly": False,
        "renoteCount": 1,
        "repliesCount": 2,
        "reactions": {"👍": 3, ":blobcat@.:": 2},
        "reactionEmojis": {},
        "fileIds": [],
        "files": [],
        "replyId": None,
        "renoteId": None,
        "tags": ["misskey"],
        "mentions": ["9bbbbbbbbb"],
        **fields,
    }


def compatible(**fields: Any) -> dict[str, Any]:
    """A note as Sharkey, Iceshrimp or Firefish write it in Mastodon's form."""
    return {
        **status("9zxk3abcde"),
        "account": {"id": "9aaaaaaaaa", "username": "kainoa", "acct": "@kainoa@mk.example"},
        "content": "<p><span>hi</span></p>",
        "language": "",
        "edited_at": "",
        "in_reply_to_id": "",
        "emoji_reactions": [{"name": "👍", "count": 2}],
        "reactions": [{"name": "👍", "count": 2}],
        "favourites_count": 2,
        "quote": None,
        **fields,
    }
