"""What the environment says of the fediverse alone; read anew at every call."""

from __future__ import annotations

from tallykeeper import settings

DEFAULT_KEEP_EVENTS_DAYS = 30


def redact_deleted() -> bool:
    """Whether contents of deleted posts are removed: TALLY_FEDIVERSE_REDACT, no where unset.

    Raises SettingError where it is neither 1 nor 0.
    """
    value = settings.read("TALLY_FEDIVERSE_REDACT")
    if value not in (None, "0", "1"):
        raise settings.SettingError(
            "TALLY_FEDIVERSE_REDACT", "1 or 0", str(value), "write 1 to redact, or unset it"
        )
    return value == "1"


def keep_events_days() -> int:
    """For how many days raw events are kept: TALLY_FEDIVERSE_KEEP_DAYS, 30.

    Raises SettingError where it is no whole number from 1.
    """
    return settings.count("TALLY_FEDIVERSE_KEEP_DAYS", DEFAULT_KEEP_EVENTS_DAYS, "days")


def mastodon_token() -> str | None:
    """The access token with which an instance is listened to, TALLY_MASTODON_TOKEN; None: none.

    Never shown. Raises SettingError where it could not be sent.
    """
    value = settings.read("TALLY_MASTODON_TOKEN")
    if value is not None and settings.TOKEN.fullmatch(value) is None:
        raise settings.SettingError(
            "TALLY_MASTODON_TOKEN",
            "an access token (visible ASCII characters, without blanks)",
            "something else",
            "copy it from the instance's settings, under Development",
        )
    return value
