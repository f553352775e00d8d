"""What a check's metadata says of the rolling audit: what it compared, how far it is, since when.

The figures are the engine's (`tallykeeper.maintain.audit`); here they are put into words for
people.
"""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
from sqlalchemy import Engine

from tallykeeper import Audit, Audited, Tally
from tallykeeper.maintain.audit import audit_of

# Since when every key has been compared.
COMPARED_SINCE = "all_keys_compared_since"


def audit_metadata(
    engine: Engine, tally: Tally, turn: Audited | None
) -> dict[str, dg.MetadataValue]:
    """How far the audit is, in words, and since when every key has been compared.

    `turn` is what the check itself had compared of it; None: nothing but all of the tally.
    """
    with engine.connect() as connection:
        audit = audit_of(connection, tally)
    if audit is None:
        return {}
    metadata: dict[str, dg.MetadataValue] = {"audit": dg.MetadataValue.text(in_words(audit, turn))}
    if audit.done is not None:
        metadata["audit_done"] = dg.MetadataValue.float(round(audit.done, 3))
    if audit.compared_since is not None:
        metadata[COMPARED_SINCE] = dg.MetadataValue.timestamp(audit.compared_since)
    return metadata


def in_words(audit: Audit, turn: Audited | None) -> str:
    """What this turn of the audit compared, how much of the round is done, what is covered."""
    sentences = []
    if turn is not None and turn.stretches:
        first, last = turn.stretches[0], turn.stretches[-1]
        named = first if first == last else f"{first}, and so on up to {last}"
        sentences.append(f"Compared beside what was written: {named}.")
    if audit.done is not None and audit.complete_by is not None:
        sentences.append(
            f"{audit.done:.0%} of the round that began at {_at(audit.started_at)} is done, and all"
            f" of it is due by {_at(audit.complete_by)}."
        )
    if audit.compared_since is not None:
        sentences.append(f"All keys compared since {_at(audit.compared_since)}.")
    return " ".join(sentences)


def _at(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
