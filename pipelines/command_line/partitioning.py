"""The command that partitions a big table of a system's."""

from __future__ import annotations

import click

from pipelines.command_line.common import example, open_database


@click.command(epilog=example("tally partition fediverse", "tally partition fediverse --ahead 12"))
@click.argument("system", type=click.Choice(["fediverse"]))
@click.option(
    "--ahead",
    type=click.IntRange(1, 240),
    default=24,
    show_default=True,
    metavar="MONTHS",
    help="How many months to make in advance.",
)
def partition(system: str, ahead: int) -> None:
    """Partition a system's big table by month.

    fediverse: mastodon_posts, by the month of creation. What is there becomes one partition, and
    each month from the next one on gets its own. An index is built beside writers first; then
    the table is locked while its rows are read once. The tallies over posts are built anew by their
    next refresh. `tally migrate` makes the months to come. Done already, it does nothing.
    """
    from assets.fediverse.post_months import partition_posts
    from assets.fediverse.tallies import system as fediverse

    done = partition_posts(open_database(), fediverse.tallies, ahead)
    for sentence in done or [f"{system}: the posts are partitioned by month already"]:
        click.echo(sentence)
