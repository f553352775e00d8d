"""No secret of the environment is printed, logged or stored, whatever is run and however it fails.

Each variable has a secret with a word of its own, between characters that an address must encode:
the word alone is searched for, so any way of writing it is found, and the finding says which it is.
"""

from __future__ import annotations

import base64
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from tallykeeper.database.connections import dagster_url
from tallykeeper.embedded.postmaster import Server
from tallykeeper.settings import project_root
from tests.acceptance.command import PROGRAM, Command, Result
from tests.servers import in_memory

DATABASE, DAGSTER, ALERTS, MASTODON, SERVE = (
    f"Geheim{of}Xq7" for of in ("Database", "Dagster", "Alerts", "Mastodon", "Serve")
)
WORDS = (DATABASE, DAGSTER, ALERTS, MASTODON, SERVE)
NOWHERE = "127.0.0.1:1"


def password(word: str) -> str:
    """A secret that cannot stand in an address as it is."""
    return f"a@{word}/ %:é"


def require_none(said: str | bytes, where: str) -> None:
    """Fail where a secret is in the text: as it is, encoded, or in base64."""
    content = said if isinstance(said, bytes) else said.encode()
    for word in WORDS:
        written = [word.encode(), word.encode("utf-16-le")]
        # Wherever it begins within three bytes, less the letters that its neighbours share.
        written += [base64.b64encode(b"x" * n + word.encode())[4:-4] for n in range(3)]
        assert not any(each in content for each in written), f"{word} is in {where}"


@pytest.mark.parametrize("word", WORDS)
def test_whatever_way_a_secret_is_written_it_is_found(word: str) -> None:
    secret = password(word)
    address = f"postgresql://ann:{quote(secret, safe='')}@host/app"
    for written in (
        secret.encode(),
        address.encode(),
        f"prefix {address} suffix".encode("utf-16-le"),
        *(base64.b64encode(b"ann:"[:n] + secret.encode()) for n in range(4)),
    ):
        with pytest.raises(AssertionError, match=f"{word} is in a test"):
            require_none(written, "a test")


def require_quiet(result: Result, code: int | None = None) -> None:
    """The command said none of the secrets, and ended as it had to."""
    require_none(result.out, "what it printed")
    require_none(result.err, "its complaint")
    if code is not None:
        assert result.code == code, f"{result.out}\n{result.err}"


@dataclass(frozen=True)
class Strict:
    """A server that asks everybody but its superuser for a password."""

    server: Server

    def address(self, role: str, word: str) -> str:
        """The role's address, with that word in its password."""
        url = make_url(self.server.url("app")).set(username=role, password=password(word))
        return url.render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def strict() -> Iterator[Strict]:
    folder = Path(tempfile.mkdtemp(prefix="tally-", dir=in_memory()))
    rules = folder / "rules.conf"
    rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    folder.chmod(0o755)
    server = Server(folder / "data", extra={"hba_file": f"'{rules}'"})
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for role, word in (("ann", DATABASE), ("dag", DAGSTER)):
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(role), sql.Literal(password(word))
                )
            )
        connection.execute("CREATE DATABASE app OWNER ann")
    with psycopg.connect(server.url("app"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dagster AUTHORIZATION dag")
    yield Strict(server)
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def command(strict: Strict, tmp_path: Path) -> Command:
    """The command, with every secret that there is in its environment."""
    alert = quote(password(ALERTS), safe="")
    return Command(
        strict.address("ann", DATABASE),
        tmp_path,
        {
            "DAGSTER_PG_URL": dagster_url(strict.address("dag", DAGSTER)),
            "TALLY_ALERT_URLS": f"json://user:{alert}@{NOWHERE}/hook?token={alert}",
            "TALLY_MASTODON_TOKEN": MASTODON,
            "TALLY_SERVE_TOKEN": SERVE,
            "TALLY_SYSTEMS": "media",
            "TALLY_START_DATE": "2026-01-01",
        },
    )


COMMANDS = (
    ("migrate", "--with-sources"),
    ("refresh",),
    ("rebuild", "daily_contributions"),
    ("verify", "--json"),
    ("status",),
    ("status", "--json"),
    ("env",),
    ("--help",),
)


def test_commands_that_succeed_say_none(command: Command) -> None:
    for arguments in COMMANDS:
        require_quiet(command.run(*arguments), 0)


REFUSALS = {
    "refused": lambda a: a.set(host="127.0.0.1", port=1, query={}),
    "no such host": lambda a: a.set(host="no-such-host.invalid", port=1, query={}),
    "wrong password": lambda a: a.set(password=password(DATABASE) + "!"),
    "no such database": lambda a: a.set(database="nowhere"),
    "unknown option": lambda a: a.update_query_dict({"colour": "red"}),
    "another kind": lambda a: a.set(drivername="mysql"),
    "in the query": lambda a: a.set(
        host="127.0.0.1", port=1, query={"password": password(DATABASE), "sslpassword": DATABASE}
    ),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_commands_that_cannot_connect_say_none(command: Command, how: str) -> None:
    address = REFUSALS[how](make_url(command.url))
    command.url = address.render_as_string(hide_password=False)
    for arguments in (("migrate", "--with-sources"), ("refresh",)):
        require_quiet(command.run(*arguments), 1)


def test_an_address_that_cannot_be_read_is_not_repeated(command: Command) -> None:
    for url in (f"postgresql://ann:{DATABASE}@host:door/app", f"ann:{DATABASE}@host/app"):
        command.url = url
        require_quiet(command.run("status"), 1)


def test_a_listener_that_is_refused_says_none(command: Command) -> None:
    require_quiet(command.run("listen", f"http://{NOWHERE}"))


def test_an_alert_that_reaches_nobody_says_none(command: Command) -> None:
    sent = command.python(
        "import logging\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        "from tallykeeper.operations.alert_targets import targets\n"
        "for target in targets():\n"
        "    print(repr(target))\n"
        "    try:\n"
        "        target.send('title', 'body')\n"
        "    except Exception as error:\n"
        "        logging.exception('it failed: %r', error)\n"
    )
    assert "it failed" in sent.err
    require_quiet(sent, 0)


ASKED = """{
  instance { info runLauncher { name } daemonHealth { id } }
  version
  runsOrError { ... on Runs { results {
    runId status runConfigYaml tags { key value } stats { ... on PythonError { message stack } }
    eventConnection(limit: 1000) { events { ... on MessageEvent { message }
      ... on ExecutionStepFailureEvent { error { message stack causes { message stack } } }
      ... on RunFailureEvent { error { message stack } } } }
  } } }
  repositoriesOrError { ... on RepositoryConnection { nodes { name
    allTopLevelResourceDetails { name description configuredValues { key value }
      configFields { name description defaultValueAsJson } } } } }
}"""


def test_a_run_that_cannot_connect_leaves_none_behind(command: Command, strict: Strict) -> None:
    require_quiet(command.run("migrate", "--with-sources"), 0)
    require_quiet(command.run("env"), 0)  # makes Dagster's home
    command.environment["DAGSTER_HOME"] = str(command.folder / "home" / "dagster")
    dagster = PROGRAM.with_name("dagster")
    module = ("-m", "pipelines.definitions", "-d", str(project_root()))
    run = (str(dagster), "job", "execute", *module, "-j", "media_hourly", "--config", "run.yaml")
    (command.folder / "run.yaml").write_text("{}\n")
    partition = ("--tags", '{"dagster/partition": "2026-02-01"}')
    require_quiet(command.program(*run, *partition), 0)
    command.url = (
        make_url(command.url).set(password=password(DATABASE) + "!").render_as_string(False)
    )
    failed = command.program(*run, *partition)
    assert "password authentication failed" in failed.err + failed.out
    require_quiet(failed, 1)
    asked = command.program(str(dagster.with_name("dagster-graphql")), *module, "-t", ASKED)
    assert "password authentication failed" in asked.out, asked
    require_quiet(asked, 0)
    command.environment["DAGSTER_PG_URL"] = (
        make_url(command.environment["DAGSTER_PG_URL"])
        .set(password=password(DAGSTER) + "!")
        .render_as_string(False)
    )
    require_quiet(command.program(*run, *partition), 1)
    require_none_stored(strict.server.url("app"))
    require_none_in(command.folder)


def require_none_stored(url: str) -> None:
    """No row of any table has a secret in it: Dagster's, the engine's, the application's."""
    reasons = 0
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n"
            " ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
            " AND n.nspname IN ('dagster', 'tallykeeper', 'media')"
        ).fetchall()
        assert ("dagster.event_logs",) in tables
        for (table,) in tables:
            for (row,) in connection.execute(f"SELECT t::text FROM {table} AS t"):
                require_none(row, table)
                require_none(_unhexed(row), table)
                reasons += "password authentication failed" in row
    assert reasons, "the failure is not where it was looked for"


def _unhexed(row: str) -> bytes:
    """What stands in the row as hexadecimal bytes, some of them compressed by Dagster."""
    found = b""
    for digits in re.findall(r"\\\\x((?:[0-9a-f]{2})+)", row):
        content = bytes.fromhex(digits)
        with suppress(zlib.error):
            content += zlib.decompress(content)
        found += content
    return found


def require_none_in(folder: Path) -> None:
    """No file below the folder has a secret in it, nor in its name."""
    seen = 0
    for path in folder.rglob("*"):
        require_none(str(path), "the name of a file")
        if path.is_file():
            require_none(path.read_bytes(), str(path))
            seen += 1
    assert seen
