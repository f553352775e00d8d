"""`tally roles` as an administrator uses it: into psql, twice, and then a login for each role."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

from assets.media.tallies import system as media
from tallykeeper.cli.environment import _embedded_programs
from tests.acceptance.command import Command, Result
from tests.role_world import LOGINS, WANTED, World, libpq_url, world_of


@pytest.fixture
def world(engine: Engine) -> Iterator[World]:
    with world_of(engine, [media]) as world:
        yield world


def psql(world: World, script: str) -> subprocess.CompletedProcess[str]:
    """Have psql run the script, reading nobody's settings."""
    return subprocess.run(
        [str(Path(_embedded_programs()) / "psql"), "-X", "-q", libpq_url(world.admin)],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )


def run_as(tally: Command, login: str, *arguments: str) -> Result:
    """The command as that login."""
    before, tally.url = tally.url, make_url(tally.url).set(username=login).render_as_string(False)
    result = tally.run(*arguments)
    tally.url = before
    return result


def test_the_script_goes_into_psql_and_each_login_does_its_work(
    tally: Command, world: World
) -> None:
    names = ("--owner", WANTED.owner, "--refresher", WANTED.refresher, "--reader", WANTED.reader)
    groups = "".join(
        'GRANT "{}" TO {};\n'.format(role.replace('"', '""'), login)
        for login, role in LOGINS.items()
    )
    for more in (groups, ""):
        done = psql(world, tally.ok("roles", *names).out + more)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run_as(tally, "deploy", "migrate").code == 0
    assert run_as(tally, "runs", "refresh").code == 0
    assert run_as(tally, "runs", "verify").code == 0
    assert run_as(tally, "look", "status").code == 0
    for login, command in (("look", "refresh"), ("look", "verify"), ("runs", "migrate")):
        refused = run_as(tally, login, command)
        assert refused.code == 1
        lines = refused.err.splitlines()
        # A refresh goes on with the next tally where one fails, and says so of each.
        assert len(lines) == (len(media.tallies) if command == "refresh" else 1)
        assert all(line.startswith("tally: ") and "may not" in line for line in lines)


def test_a_statement_that_fails_undoes_all_of_it(tally: Command, world: World) -> None:
    script = tally.ok("roles").out
    assert json.loads(tally.ok("roles", "--json").out)["sql"] == script
    broken = psql(world, script.replace("COMMIT;", "SELECT 1 / 0;\nCOMMIT;"))
    assert broken.returncode == 3
    with world.admin.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT to_regrole('tallykeeper_owner'), to_regnamespace('tallykeeper')"
        )
        assert tuple(found.one()) == (None, None)


def test_a_superusers_tables_are_refused_in_one_sentence(tally: Command) -> None:
    tally.ok("migrate", "--with-sources")
    refused = tally.run("roles")
    assert refused.code == 1
    assert refused.out == ""
    assert "belongs to 'postgres', a superuser" in refused.err
