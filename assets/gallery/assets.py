"""The gallery in Dagster: its tallies as assets, and a check that tells what the junction lacks.

The junction holds tags that there are, so ids without a tag and nulls in an item's array are left
out of it. That is as it should be, but somebody ought to know.
"""

# No `from __future__ import annotations` here: Dagster judges an op's context by the annotation
# as it stands.

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import dagster as dg
from sqlalchemy import Connection, Engine, text

from assets.gallery.tallies import content_tags, content_tags_left_out, system
from tallykeeper.dagster.assets import SystemAssets, build_assets, key_of
from tallykeeper.dagster.checks import passed_over
from tallykeeper.dagster.database import Database

NOTHING_LEFT_OUT = "nothing_left_out"
MOST_SHOWN = 20


def build(partitions: dg.DailyPartitionsDefinition) -> SystemAssets:
    """The assets and checks of the gallery."""
    return build_assets(
        system,
        partitions,
        extras={content_tags: left_out_metadata},
        checks=[nothing_left_out],
    )


@dataclass(frozen=True)
class LeftOut:
    """What the junction lacks, as of the last commit.

    `items` name what is no tag: `unknown` ids, each counted once, and `nulls`. `sample` are the
    first of them: id, source, the unknown ids, how many nulls.
    """

    items: int
    unknown: int
    nulls: int
    sample: tuple[tuple[int, str, tuple[UUID, ...], int], ...]


def left_out(connection: Connection, most: int = MOST_SHOWN) -> LeftOut:
    """What the junction lacks, with a sample of at most `most` items."""
    live = content_tags_left_out.live_name
    counted = connection.execute(
        text(
            f"SELECT count(*) AS items, coalesce(sum(null_elements), 0) AS nulls,"
            f" (SELECT count(DISTINCT id) FROM {live}, unnest(unknown_tags) AS id) AS unknown"
            f" FROM {live}"
        )
    ).one()
    shown = connection.execute(
        text(
            "SELECT content_id, content_source, unknown_tags, null_elements"
            f" FROM {live} ORDER BY content_source DESC, content_id LIMIT :most"
        ),
        {"most": most},
    )
    return LeftOut(
        items=int(counted.items),
        unknown=int(counted.unknown),
        nulls=int(counted.nulls),
        sample=tuple((r[0], r[1], tuple(r[2]), r[3]) for r in shown),
    )


def left_out_metadata(
    engine: Engine, _: Mapping[str, dg.MetadataValue]
) -> Mapping[str, dg.MetadataValue]:
    """How much the junction lacks, and a sample of it as a table."""
    with engine.connect() as connection:
        return _as_metadata(left_out(connection))


@dg.asset_check(
    asset=key_of(content_tags),
    name=NOTHING_LEFT_OUT,
    description=(
        "Every element of every item's tags is a tag. Unknown ids and nulls are left out of the"
        " junction; an id enters it as soon as there is such a tag."
    ),
)
def nothing_left_out(tally_database: Database) -> dg.AssetCheckResult:
    """Warn where items name what is no tag."""
    engine = tally_database.engine()
    if (nothing := passed_over(engine, system, content_tags)) is not None:
        return nothing
    with engine.connect() as connection:
        found = left_out(connection)
    if not found.items:
        return dg.AssetCheckResult(passed=True, metadata=_as_metadata(found))
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{_counted(found.items, 'item')} with {_counted(found.unknown, 'unknown id')} and"
            f" {_counted(found.nulls, 'null element')} in their tags, which the junction leaves"
            " out. Add the missing tags, or take the ids out of the items."
        ),
        metadata=_as_metadata(found),
    )


def _as_metadata(found: LeftOut) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "left_out_items": dg.MetadataValue.int(found.items),
        "left_out_unknown_ids": dg.MetadataValue.int(found.unknown),
        "left_out_null_elements": dg.MetadataValue.int(found.nulls),
    }
    if found.sample:
        metadata["left_out_sample"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "item": item,
                        "source": source,
                        "unknown ids": ", ".join(map(str, ids)),
                        "null elements": nulls,
                    }
                )
                for item, source, ids, nulls in found.sample
            ],
            dg.TableSchema(
                [
                    dg.TableColumn("item", "int"),
                    dg.TableColumn("source"),
                    dg.TableColumn("unknown ids"),
                    dg.TableColumn("null elements", "int"),
                ]
            ),
        )
    return metadata


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
