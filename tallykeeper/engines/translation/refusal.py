"""What cannot be translated, with its reason."""

from __future__ import annotations


class Refused(Exception):
    """A SELECT, or a part of it, has no translation that was shown to be equal.

    The text is the reason, in words that may follow the name of the tally and a colon.
    """
