"""`tally adopt`: bring over what another application has kept until now."""

from __future__ import annotations

import click

from pipelines.command_line.common import FAILED, example, open_database


@click.command(
    epilog=example(
        "tally adopt fediverse --from-schema public --instance https://mastodon.social",
        "tally adopt fediverse --from-schema fediverse_aside",
    )
)
@click.argument("system")
@click.option("--from-schema", "schema", required=True, help="The schema of its tables.")
@click.option(
    "--instance",
    metavar="URL",
    help="The server that they are of, where they do not say it; else the one to bring over.",
)
def adopt(system: str, schema: str, instance: str | None) -> int | None:
    """Bring over posts, accounts, sentiments and raw events of a fediverse application.

    What is brought over is processed, refreshed and compared; the tables in the schema are only
    read. It can be interrupted at any time: run it again, and it goes on. What is known already
    stays as it is. The other systems need no such thing: `tally migrate` adopts their tables where
    they are, also under other names (TALLY_NAMES).
    """
    from assets.fediverse.adoption import adopt as bring
    from assets.fediverse.tallies import system as fediverse
    from assets.progress import progress_bar
    from assets.systems import left_out
    from tallies import refresh, verify

    if system != "fediverse":
        raise click.UsageError(
            f"only fediverse is brought over, not {system!r}; tables of media, gallery and"
            " classroom stay where they are: say how they are named in TALLY_NAMES, and run"
            " `tally migrate`"
        )
    engine = open_database()
    with progress_bar(f"{schema}.mastodon_posts", unit="posts") as progress:
        done = bring(
            engine, schema, instance, progress=lambda seen, total: progress(seen, seen, total)
        )
    for sentence in done.sentences():
        click.echo(sentence)
    wrong = []
    with engine.connect() as connection:
        without = left_out(connection, fediverse)
    kept = [tally for tally in fediverse.tallies if tally not in without]
    for tally in kept:
        refresh(engine, tally)
        if not verify(engine, tally).ok:
            wrong.append(tally.name)
    click.echo(f"refreshed and compared {len(kept) - len(wrong)} tallies: equal")
    if wrong:
        click.echo(f"not equal to their sources: {', '.join(wrong)}; see `tally verify`")
    return FAILED if wrong else None
