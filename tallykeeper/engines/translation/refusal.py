"""What cannot be translated or computed, with its reason."""

from __future__ import annotations

from tallykeeper.errors import TallyError


class Refused(TallyError):
    """A SELECT, or a part of it, has no translation that was shown to be equal.

    The text is the reason, in words that may follow the name of the tally and a colon.
    """


class NotExported(TallyError):
    """Rows could not be written to files, or a result could not be read."""
