"""Every way to write users, tags and items, few enough of each that writers meet.

Where items are leaves of a partitioned table, statements name the leaf or the table above it, and
items move from one leaf to the other. Invariants: a transaction that sets an item's creator holds
the creator's row, as PostgreSQL does by itself but not for a replica; so no item ever names a user
that is not there, which its foreign key forbids.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from tests.concurrency.writers import Cursor, Operation

REGULAR, AUTO = "regular", "auto"
LEAVES = {REGULAR: "gallery.content_items", AUTO: "gallery.content_items_auto"}
WHOLE = "gallery.content_items_all"
USERS = tuple(str(UUID(int=number)) for number in range(1, 6))
# The last ones are seldom named, so that a tag's id can be changed now and then.
TAGS = tuple(str(UUID(int=0x7A6_0000 + number)) for number in range(9))
NEVER_TAGS = tuple(str(UUID(int=0xBAD_0000 + number)) for number in range(2))
ITEMS = 40
LONGEST_ARRAY = 8

Item = tuple[int, str, str]
"""Id, creator, and the array as PostgreSQL spells it."""

HOLDING = "SELECT id FROM gallery.users WHERE id = %s FOR KEY SHARE"
ROWS = (
    "SELECT DISTINCT ON (r.id) r.id, u.id AS creator_id, r.tags::uuid[] AS tags"
    " FROM unnest(%s::int[], %s::uuid[], %s::text[]) AS r (id, creator, tags),"
    " LATERAL (SELECT u.id FROM gallery.users AS u WHERE u.id = r.creator FOR KEY SHARE) AS u"
)


@dataclass(frozen=True)
class Target:
    """A table that statements may name, and what makes its rows of one source."""

    name: str
    source: str
    # The table has a column for it, which a table above the leaves has to be given.
    split: bool = False

    @property
    def columns(self) -> str:
        return "id, creator_id, tags" + (", source_type" if self.split else "")

    @property
    def value(self) -> str:
        return f", '{self.source}'" if self.split else ""

    @property
    def identity(self) -> str:
        return "id, source_type" if self.split else "id"

    @property
    def rows(self) -> str:
        """A condition: the source's own rows, where the table has those of others too."""
        return f"source_type = '{self.source}'" if self.split else "true"


PLAIN = tuple(Target(name, source) for source, name in LEAVES.items())
PARTITIONED = tuple(
    Target(name, source, split=True) for source, leaf in LEAVES.items() for name in (leaf, WHOLE)
)


@dataclass
class GalleryWrites:
    """Statements against `targets`."""

    targets: Sequence[Target]
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def operations(self) -> tuple[Operation, ...]:
        """All of them, with weights that keep some tens of items, most users and most tags."""
        kinds = (
            ("insert item", 5, self.insert_item),
            ("insert items", 9, self.insert_items),
            ("copy items", 2, self.copy_items),
            ("upsert items", 4, self.upsert_items),
            ("merge items", 3, self.merge_items),
            ("append to an array", 4, self.append),
            ("append to arrays", 2, self.append_to_many),
            ("append a null", 1, self.append_null),
            ("take from arrays", 4, self.take_out),
            ("replace in arrays", 2, self.replace_in),
            ("cut arrays", 2, self.cut),
            ("write an array anew", 4, self.write_array),
            ("turn arrays around", 1, self.turn_around),
            ("change nothing", 1, self.change_nothing),
            ("change what does not count", 2, self.change_irrelevant),
            ("give items to another creator", 4, self.change_creator),
            ("change the primary key", 1, self.change_id),
            ("hand items over to the other source", 3, self.hand_over),
            ("delete item", 2, self.delete_item),
            ("delete items", 1, self.delete_items),
            ("insert users", 8, insert_users),
            ("rename user", 1, rename_user),
            ("delete user with items", 1, self.delete_user_with_items),
            ("delete users without items", 1, self.delete_idle_users),
            ("insert tags", 8, insert_tags),
            ("rename tag", 1, rename_tag),
            ("change the id of a tag", 2, change_tag_id),
            ("delete tag", 2, delete_tag),
            ("delete tags", 0.7, delete_tags),
            ("edit items and delete their tag", 2, self.edit_and_delete_tag),
            ("delete a tag and write it again", 1, delete_and_insert_tag),
            ("truncate", 0.12, self.truncate),
        )
        return tuple(Operation(name, weight, run) for name, weight, run in kinds)

    def insert_item(self, cursor: Cursor, rng: random.Random) -> None:
        self._insert(cursor, rng, [_item(rng)], "")

    def insert_items(self, cursor: Cursor, rng: random.Random) -> None:
        self._insert(cursor, rng, _items(rng), " ON CONFLICT DO NOTHING")

    def upsert_items(self, cursor: Cursor, rng: random.Random) -> None:
        into = rng.choice(self.targets)
        self._insert(
            cursor,
            rng,
            _items(rng),
            f" ON CONFLICT ({into.identity}) DO UPDATE"
            " SET tags = excluded.tags, creator_id = excluded.creator_id",
            into,
        )

    def copy_items(self, cursor: Cursor, rng: random.Random) -> None:
        into, creator = rng.choice(self.targets), rng.choice(USERS)
        if cursor.execute(HOLDING, [creator]).fetchone() is None:
            return
        with cursor.copy(f"COPY {into.name} ({into.columns}) FROM STDIN") as copy:
            for _ in range(rng.randint(1, 6)):
                # Beyond the usual ids, or every COPY would collide.
                row = (1000 + rng.getrandbits(30), creator, _array(rng))
                copy.write_row((*row, into.source) if into.split else row)

    def merge_items(self, cursor: Cursor, rng: random.Random) -> None:
        into = rng.choice(self.targets)
        same = f"m.id = s.id AND {into.rows.replace('source_type', 'm.source_type')}"
        cursor.execute(
            f"MERGE INTO {into.name} AS m USING ({ROWS}) AS s ON {same}"
            f" WHEN MATCHED AND mod(m.id, 3) = {rng.randrange(3)} THEN DELETE"
            " WHEN MATCHED THEN UPDATE SET tags = s.tags, creator_id = s.creator_id"
            f" WHEN NOT MATCHED THEN INSERT ({into.columns})"
            f" VALUES (s.id, s.creator_id, s.tags{into.value})",
            _columns(_items(rng)),
        )

    def append(self, cursor: Cursor, rng: random.Random) -> None:
        name = rng.choice(self.targets).name
        cursor.execute(
            f"UPDATE {name} SET tags = tags || %s::uuid[]"
            f" WHERE id = ({_any_id(name)}) AND cardinality(tags) < {LONGEST_ARRAY}",
            [_array(rng)],
        )

    def append_to_many(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET tags = array_append(tags, %s)"
            f" WHERE {_some(rng)} AND cardinality(tags) < {LONGEST_ARRAY}",
            [_tag(rng)],
        )

    def append_null(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET tags = array_append(tags, NULL)"
            f" WHERE {_some(rng)} AND cardinality(tags) < {LONGEST_ARRAY}"
        )

    def take_out(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET tags = array_remove(tags, %s)"
            f" WHERE {_some(rng, 2)}",
            [rng.choice((_tag(rng), _tag(rng), None))],
        )

    def replace_in(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET tags = array_replace(tags, %s, %s)"
            f" WHERE {_some(rng, 3)}",
            [_tag(rng), _tag(rng)],
        )

    def cut(self, cursor: Cursor, rng: random.Random) -> None:
        part = rng.choice(("[2:]", "[:2]"))
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET tags = tags{part} WHERE {_some(rng)}"
        )

    def write_array(self, cursor: Cursor, rng: random.Random) -> None:
        name = rng.choice(self.targets).name
        cursor.execute(
            f"UPDATE {name} SET tags = %s::uuid[], updated_at = now() WHERE id = ({_any_id(name)})",
            [_array(rng)],
        )

    def turn_around(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET tags = ARRAY("
            "SELECT e FROM unnest(tags) WITH ORDINALITY AS a (e, n) ORDER BY n DESC)"
            f" WHERE {_some(rng)}"
        )

    def change_nothing(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET tags = tags, creator_id = creator_id"
            f" WHERE {_some(rng)}"
        )

    def change_irrelevant(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET title = 'another',"
            f" is_private = NOT is_private, updated_at = clock_timestamp() WHERE {_some(rng)}"
        )

    def change_creator(self, cursor: Cursor, rng: random.Random) -> None:
        name = rng.choice(self.targets).name
        which = rng.choice((_some(rng), f"i.id = ({_any_id(name)})"))
        cursor.execute(
            f"UPDATE {name} AS i SET creator_id = u.id FROM ({HOLDING}) AS u"
            f" WHERE {which.replace('abs(id)', 'abs(i.id)')}",
            [rng.choice(USERS)],
        )

    def change_id(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(f"UPDATE {rng.choice(self.targets).name} SET id = -id WHERE {_some(rng)}")

    def hand_over(self, cursor: Cursor, rng: random.Random) -> None:
        of, to = rng.sample(list(LEAVES), 2)
        if any(target.name == WHOLE for target in self.targets):
            # Only the table above can hand a row from one leaf to the other.
            which = rng.choice((_some(rng), f"id = ({_any_id(LEAVES[of])})"))
            cursor.execute(
                f"UPDATE {WHOLE} SET source_type = '{to}' WHERE source_type = '{of}' AND {which}"
            )
            return
        cursor.execute(
            f"WITH gone AS (DELETE FROM {LEAVES[of]} WHERE {_some(rng)}"
            " RETURNING id, creator_id, tags)"
            f" INSERT INTO {LEAVES[to]} (id, creator_id, tags) SELECT g.id, u.id, g.tags"
            " FROM gone AS g JOIN gallery.users AS u ON u.id = g.creator_id FOR KEY SHARE OF u"
        )

    def delete_item(self, cursor: Cursor, rng: random.Random) -> None:
        name = rng.choice(self.targets).name
        cursor.execute(f"DELETE FROM {name} WHERE id = ({_any_id(name)})")

    def delete_items(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(f"DELETE FROM {rng.choice(self.targets).name} WHERE {_some(rng)}")

    def delete_user_with_items(self, cursor: Cursor, rng: random.Random) -> None:
        user = rng.choice(USERS)
        _as_no_replica(cursor)
        cursor.execute("SELECT FROM gallery.users WHERE id = %s FOR UPDATE", [user])
        names = [WHOLE] if self._whole(rng) else rng.sample(list(LEAVES.values()), 2)
        for name in names:
            cursor.execute(f"DELETE FROM {name} WHERE creator_id = %s", [user])
        cursor.execute("DELETE FROM gallery.users WHERE id = %s", [user])

    def delete_idle_users(self, cursor: Cursor, rng: random.Random) -> None:
        """Those that have lost their items; their counts may be stored still."""
        _as_no_replica(cursor)
        if rng.random() < 0.5:
            name = rng.choice(self.targets).name
            cursor.execute(f"DELETE FROM {name} WHERE creator_id = %s", [rng.choice(USERS)])
        owned = " AND ".join(
            f"NOT EXISTS (SELECT FROM {name} WHERE creator_id = u.id)" for name in LEAVES.values()
        )
        cursor.execute(f"DELETE FROM gallery.users AS u WHERE {owned}")

    def edit_and_delete_tag(self, cursor: Cursor, rng: random.Random) -> None:
        tag, other = _tag(rng), _tag(rng)
        for target in rng.sample(list(self.targets), 2):
            cursor.execute(
                f"UPDATE {target.name} SET tags = array_append(tags, %s)"
                f" WHERE %s = ANY (tags) AND {_some(rng, 2)} AND cardinality(tags) < %s",
                [other, tag, LONGEST_ARRAY],
            )
        cursor.execute("DELETE FROM gallery.tags WHERE id = %s", [tag])

    def truncate(self, cursor: Cursor, rng: random.Random) -> None:
        """Items, or with CASCADE all that refers to tags or users, derived tables included."""
        tables = (*(target.name for target in self.targets), "gallery.tags CASCADE")
        cursor.execute(f"TRUNCATE {rng.choice((*tables, 'gallery.users CASCADE'))}")

    def _insert(
        self,
        cursor: Cursor,
        rng: random.Random,
        items: Sequence[Item],
        conflict: str,
        into: Target | None = None,
    ) -> None:
        into = into or rng.choice(self.targets)
        cursor.execute(
            f"INSERT INTO {into.name} ({into.columns})"
            f" SELECT id, creator_id, tags{into.value} FROM ({ROWS}) AS s{conflict}",
            _columns(items),
        )

    def _whole(self, rng: random.Random) -> bool:
        return any(t.name == WHOLE for t in self.targets) and rng.random() < 0.5


def insert_users(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "INSERT INTO gallery.users (id, username) SELECT id, id::text FROM unnest(%s::uuid[]) AS id"
        " ON CONFLICT DO NOTHING",
        [rng.sample(USERS, 3)],
    )


def rename_user(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "UPDATE gallery.users SET username = 'another' WHERE id = %s", [rng.choice(USERS)]
    )


def insert_tags(cursor: Cursor, rng: random.Random) -> None:
    """Arrays may name them already."""
    cursor.execute(
        "INSERT INTO gallery.tags (id, name) SELECT id, id::text FROM unnest(%s::uuid[]) AS id"
        " ON CONFLICT DO NOTHING",
        [rng.sample(TAGS, rng.randint(1, 4))],
    )


def rename_tag(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute("UPDATE gallery.tags SET name = reverse(name) WHERE id = %s", [rng.choice(TAGS)])


def change_tag_id(cursor: Cursor, rng: random.Random) -> None:
    """Refused while the junction has links of the tag."""
    cursor.execute(
        "UPDATE gallery.tags SET id = %s WHERE id = %s",
        [rng.choice(TAGS), rng.choice((rng.choice(TAGS), TAGS[-1]))],
    )


def delete_tag(cursor: Cursor, rng: random.Random) -> None:
    """Cascades to the junction."""
    cursor.execute("DELETE FROM gallery.tags WHERE id = %s", [_tag(rng)])


def delete_tags(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute("DELETE FROM gallery.tags WHERE id = ANY (%s::uuid[])", [rng.sample(TAGS, 4)])


def delete_and_insert_tag(cursor: Cursor, rng: random.Random) -> None:
    tag = _tag(rng)
    cursor.execute("DELETE FROM gallery.tags WHERE id = %s", [tag])
    cursor.execute("INSERT INTO gallery.tags VALUES (%s, %s)", [tag, f"again {tag}"])


def _as_no_replica(cursor: Cursor) -> None:
    """Let foreign keys be checked: nobody deletes a user and leaves the items."""
    cursor.execute("SET LOCAL session_replication_role = origin")


def _item(rng: random.Random) -> Item:
    return rng.randrange(1, ITEMS), rng.choice(USERS), _array(rng)


def _items(rng: random.Random) -> list[Item]:
    return [_item(rng) for _ in range(rng.randint(1, 6))]


def _columns(items: Sequence[Item]) -> list[list[object]]:
    return [list(column) for column in zip(*items, strict=True)]


def _array(rng: random.Random) -> str:
    """None to four tags, some of them twice; ids that are no tag; nulls."""
    elements = [_tag(rng) for _ in range(rng.choice((0, 1, 2, 2, 3, 4)))]
    if rng.random() < 0.15:
        elements.append(rng.choice(NEVER_TAGS))
    if rng.random() < 0.15:
        elements.append("NULL")
    return "{" + ",".join(elements) + "}"


def _tag(rng: random.Random) -> str:
    return rng.choice(TAGS if rng.random() < 0.1 else TAGS[:6])


def _some(rng: random.Random, of: int = 7) -> str:
    """A condition that holds for about one row in `of`."""
    return f"mod(abs(id), {of}) = {rng.randrange(of)}"


def _any_id(name: str) -> str:
    return f"SELECT id FROM {name} ORDER BY random() LIMIT 1"
