"""What numbers new items, moved beyond ids that were given by hand.

Invariants: the application's next item gets an id that is free, and no sequence is ever
moved back.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table, text

# Of an identity or serial column here or, of a partition, in its parents; and any that the column's
# default names.
_SEQUENCES = """
SELECT DISTINCT seq FROM (
  SELECT CAST(CAST(pg_get_serial_sequence(CAST(CAST(relid AS regclass) AS text), 'id')
    AS regclass) AS text)
  FROM (SELECT CAST(:items AS regclass) UNION SELECT relid
        FROM pg_partition_ancestors(CAST(:items AS regclass))) AS t (relid)
  UNION ALL
  SELECT CAST(CAST(d.refobjid AS regclass) AS text)
  FROM pg_attribute AS a
  JOIN pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
  JOIN pg_depend AS d ON d.classid = CAST('pg_attrdef' AS regclass) AND d.objid = f.oid
    AND d.refclassid = CAST('pg_class' AS regclass)
  JOIN pg_class AS c ON c.oid = d.refobjid AND c.relkind = 'S'
  WHERE a.attrelid = CAST(:items AS regclass) AND a.attname = 'id'
) AS s (seq) WHERE seq IS NOT NULL
"""
_ADVANCE = """
SELECT setval(CAST(:sequence AS regclass), :id) FROM {sequence}
WHERE last_value < :id OR (last_value = :id AND NOT is_called)
"""


def sequences_of(connection: Connection, items: Table) -> Sequence[str]:
    """The sequences that number a table's rows, quoted as SQL wants them; perhaps none."""
    name = connection.dialect.identifier_preparer.format_table(items)
    return connection.scalars(text(_SEQUENCES), {"items": name}).all()


def advance(connection: Connection, sequences: Sequence[str], largest: int) -> None:
    """Let the sequences go on after `largest`, unless they are beyond it; at once, uncommitted."""
    for sequence in sequences:
        statement = text(_ADVANCE.format(sequence=sequence))
        connection.execute(statement, {"sequence": sequence, "id": largest})
