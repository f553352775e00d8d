"""What there is to measure: the figures' names and meanings, and the SQL that they are read with.

By Prometheus's conventions: a name ends in its unit, times are seconds, sizes bytes. The names are
an interface; dashboards and alert rules are written with them.
"""

from __future__ import annotations

from tallykeeper.database import sql
from tallykeeper.declarations.tally import LOGGED_AT

MOST_PENDING = 1_000_000
PREFIX = "tallykeeper"

TALLY = ("system", "tally")
SYSTEM = ("system",)
# Name, what it says, labels.
GAUGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("up", "1 where the database could be read, 0 where not.", ()),
    (
        "tally_up",
        "1 where the tally is installed and all its figures could be read, 0 where not.",
        TALLY,
    ),
    (
        "pending_changes",
        "Rows of the change log that no refresh has consumed yet; the live view counts them in."
        f" Counted up to {MOST_PENDING}.",
        TALLY,
    ),
    (
        "oldest_pending_seconds",
        "Age of the oldest pending change; 0 where none is pending.",
        TALLY,
    ),
    (
        "last_refresh_timestamp_seconds",
        "When the last refresh or rebuild was done, as a Unix time; absent before the first.",
        TALLY,
    ),
    (
        "last_refresh_duration_seconds",
        "How long the last refresh or rebuild took; absent before the first.",
        TALLY,
    ),
    ("rows", "Rows of the derived table after its last refresh; absent until built.", TALLY),
    (
        "last_verify_timestamp_seconds",
        "When the last comparison with the sources was made, as a Unix time; absent before it.",
        TALLY,
    ),
    (
        "differing_keys",
        "Keys that differed from the sources at the last verify; absent before the first.",
        TALLY,
    ),
    (
        "all_compared_timestamp_seconds",
        "Since when every key has been compared with the sources, as a Unix time; absent before the"
        " first complete round of the audit.",
        TALLY,
    ),
    ("stale", "1 where the next refresh rebuilds the tally, 0 where it does not.", TALLY),
    ("table_bytes", "Size of the derived table on disk, with indexes and TOAST.", TALLY),
    ("log_bytes", "Size of the change log on disk.", TALLY),
    (
        "waiting_rows",
        "Rows of a system's raw log that are still to be processed.",
        SYSTEM,
    ),
    (
        "oldest_waiting_seconds",
        "Age of the oldest row of a system's raw log that is still to be processed; 0 where none.",
        SYSTEM,
    ),
    (
        "open_incidents",
        "Incidents that are open: found, and not right again; absent where none is.",
        ("subject", "kind"),
    ),
    ("scrape_duration_seconds", "How long reading these figures took.", ()),
)

INCIDENTS = "incidents"
INCIDENTS_EVER = "Incidents found so far, open or resolved, those too that were deleted since."

STATE = f"{sql.ENGINE_SCHEMA}.tally_state"
OF_STATE = (
    "rows",
    "last_refresh_timestamp_seconds",
    "last_refresh_duration_seconds",
    "last_verify_timestamp_seconds",
    "differing_keys",
    "stale",
)
AUDITS = f"{sql.ENGINE_SCHEMA}.audits"
ALL_COMPARED = "all_compared_timestamp_seconds"
STATES = f"""
SELECT s.tally,
       s.rows - (SELECT coalesce(sum(c.rows), 0)
                 FROM {sql.ENGINE_SCHEMA}.cascaded AS c WHERE c.tally = s.tally) AS rows,
       extract(epoch FROM s.refreshed_at) AS last_refresh_timestamp_seconds,
       s.seconds AS last_refresh_duration_seconds,
       extract(epoch FROM v.verified_at) AS last_verify_timestamp_seconds,
       v.differing AS differing_keys,
       EXISTS (SELECT FROM {sql.ENGINE_SCHEMA}.stale_marks AS m WHERE m.tally = s.tally) AS stale
FROM {STATE} AS s LEFT JOIN {sql.ENGINE_SCHEMA}.verifications AS v USING (tally)"""
COMPARED = f"SELECT tally, extract(epoch FROM compared_since) AS {ALL_COMPARED} FROM {AUDITS}"
# A partitioned table has no size of its own, and one that is not has no tree.
SIZES = """
SELECT coalesce((SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(r.relation)),
                pg_total_relation_size(r.relation)) AS table_bytes,
       pg_total_relation_size(r.log) AS log_bytes
FROM (SELECT to_regclass(%s) AS relation, to_regclass(%s) AS log) AS r"""
# Rows of a log lie about in the order in which they were written; so the oldest is among the first.
PENDING = f"""
SELECT count(*) AS rows,
       greatest(0, coalesce(extract(epoch FROM statement_timestamp() - min({LOGGED_AT})), 0))
           AS seconds
FROM (SELECT {LOGGED_AT} FROM {{log}} LIMIT %s) AS first"""
ALL_THERE = "SELECT bool_and(to_regclass(t) IS NOT NULL) AS found FROM unnest(%s::text[]) AS t"
