"""What is trending as an asset: no table, but a report on each instance, as of its run.

It stands at the end of the lineage, so the hourly run draws it when the tallies are up to date. The
figures are those that an application gets from `reads.py`.
"""

# No `from __future__ import annotations` here: Dagster judges an op's context by the annotation
# as it stands.

from dataclasses import dataclass
from datetime import datetime

import dagster as dg
from sqlalchemy import Connection, text

from assets.fediverse.dagster.trend_chart import trend_chart_markdown
from assets.fediverse.reads import Trend, trending_hashtags
from assets.fediverse.tables import hashtags, instances, mastodon_posts
from assets.fediverse.tallies import hashtag_hourly_stats, system
from tallykeeper.dagster.assets import key_of
from tallykeeper.dagster.database import Database
from tallykeeper.database.sql import name_of

TRENDING = "trending_hashtags"
MOST_INSTANCES = 20
MOST_TRENDS = 10


@dataclass(frozen=True)
class Trending:
    """What is trending on one instance, by its address."""

    instance: str
    at: datetime
    trends: list[Trend]

    @property
    def title(self) -> str:
        return f"Trending on {self.instance}, {self.at:%Y-%m-%d %H:%M} UTC"

    @property
    def in_words(self) -> str:
        """The hashtags with how many times more they are used than before, in one line."""
        named = (f"#{t.name} ({t.rise:.1f} times)" for t in self.trends)
        return ", ".join(named) or "nothing"


def trending_everywhere(connection: Connection, at: datetime) -> list[Trending]:
    """What is trending on the last instances, each with at most MOST_TRENDS hashtags."""
    found = connection.execute(
        text(
            f"SELECT id, base_url FROM {name_of(instances)}"
            " ORDER BY last_seen_at DESC NULLS LAST, id LIMIT :most"
        ),
        {"most": MOST_INSTANCES},
    ).all()
    return [
        Trending(url, at, trending_hashtags(connection, number, at, limit=MOST_TRENDS))
        for number, url in found
    ]


@dg.asset(
    key=[system.name, TRENDING],
    deps=[
        key_of(hashtag_hourly_stats),
        *(dg.AssetKey([system.name, table.name]) for table in (mastodon_posts, hashtags)),
    ],
    group_name=system.name,
    kinds={"postgres"},
    tags={"tallykeeper/role": "report"},
    description=(
        "What is trending on each instance at the moment of the run: a chart, and the figures, in"
        " the metadata. An application asks `assets.fediverse.reads` for the same at any moment."
    ),
)
def trending(tally_database: Database) -> dg.MaterializeResult[None]:
    """Draw what is trending now."""
    with tally_database.engine().connect() as connection:
        now = connection.execute(text("SELECT now() AT TIME ZONE 'UTC'")).scalar_one()
        everywhere = trending_everywhere(connection, now)
    metadata: dict[str, dg.MetadataValue] = {
        "as_of": dg.MetadataValue.text(f"{now:%Y-%m-%d %H:%M} UTC"),
        "hashtags": dg.MetadataValue.int(sum(len(each.trends) for each in everywhere)),
    }
    for each in everywhere:
        metadata[each.instance] = dg.MetadataValue.text(each.in_words)
        # The words say it where there is nothing to draw.
        if each.trends:
            metadata[f"chart of {each.instance}"] = dg.MetadataValue.md(
                trend_chart_markdown(each.trends, each.title)
            )
    return dg.MaterializeResult(metadata=metadata)
