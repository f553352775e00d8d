"""How long rows of sources are kept: what the project says, and pruning what is older.

`[tool.tallykeeper.prune]` of pyproject.toml names each source with how many days its rows are kept,
the column that says how old a row is where several could, and whether groups that lose rows may be
frozen where a tally is not made of counts and sums:

    "shop.orders" = { keep_days = 400, by = "placed_at", freeze = true }
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from tallykeeper.discovery import all_systems
from tallykeeper.maintain.pruning.prune import Pruned, PruneProgress, prune
from tallykeeper.settings import SettingError, project_root, project_table

KEYS = {"keep_days", "by", "freeze"}
_TODO = 'write it as in "shop.orders" = { keep_days = 400, by = "placed_at" }'


@dataclass(frozen=True)
class Retention:
    """Rows of `source` are kept for so many days by its column `by`; None: its only one.

    `freeze`: groups that lose rows may be frozen.
    """

    source: str
    keep_days: int
    by: str | None = None
    freeze: bool = False

    def before(self, now: datetime) -> datetime:
        """The start of the first day, UTC, whose rows are kept."""
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return day - timedelta(days=self.keep_days)


def retentions() -> list[Retention]:
    """What the project says. Raises SettingError where that is malformed."""
    root = project_root()
    place = f"[tool.tallykeeper.prune] of {root / 'pyproject.toml'}"
    table = (project_table(root) or {}).get("prune", {})
    if not isinstance(table, dict):
        raise SettingError(place, "a table of sources", str(table), _TODO)
    return [_retention(f"{place}: {source}", source, given) for source, given in table.items()]


def _retention(place: str, source: str, given: object) -> Retention:
    if not isinstance(given, dict) or "keep_days" not in given or set(given) - KEYS:
        wanted = "keep_days, and by and freeze where they are needed"
        raise SettingError(place, wanted, str(given), _TODO)
    days, by, freeze = given["keep_days"], given.get("by"), given.get("freeze", False)
    if not isinstance(days, int) or isinstance(days, bool) or days < 1:
        raise SettingError(place, "a whole number of days, at least 1", str(days), _TODO)
    if by is not None and not isinstance(by, str):
        raise SettingError(place, "the name of a column", str(by), _TODO)
    if not isinstance(freeze, bool):
        raise SettingError(place, "freeze as true or false", str(freeze), _TODO)
    return Retention(source, days, by, freeze)


def prune_due(
    engine: Engine,
    *,
    dry_run: bool = False,
    on_progress: Callable[[PruneProgress], None] | None = None,
) -> Iterator[Pruned]:
    """Prune each source that the project names of what is older than it is kept.

    Raises what `prune` does; the sources before that one are pruned then.
    """
    tallies = [tally for system in all_systems() for tally in system.tallies]
    for each in retentions():
        yield prune(
            engine,
            each.source,
            each.before(datetime.now(UTC)),
            tallies=tallies,
            by=each.by,
            freeze=each.freeze,
            dry_run=dry_run,
            on_progress=on_progress,
        )
